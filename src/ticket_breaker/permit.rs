//! A PassTicket that was permitted. The [breaker](super) awaits the answer to its request.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    machine::Outcome,
    path_class::PathClass,
    proofs::Fingerprint,
    shared::{Gate, Settled, Shared},
};
use crate::passticket::{Applid, UserId};

/// The paths of a ticket. The breaker needs them when the answer arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    pub(super) class: PathClass,
    /// The fingerprint of the user and the paths at the time when the ticket was permitted.
    pub(super) proof: Fingerprint,
}

impl Watched {
    pub(crate) const fn class(&self) -> PathClass {
        self.class
    }
}

/// The record of a request with a ticket. The breaker needs it when the answer arrives.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) watched: Watched,
    /// `None` if the paths were proven, so no ticket was reserved.
    pub(super) permit: Option<Arc<Permit>>,
}

impl Sent {
    pub(super) const fn proven(class: PathClass, proof: Fingerprint) -> Self {
        Self { watched: Watched { class, proof }, permit: None }
    }

    pub(super) fn with(permit: Permit, proof: Fingerprint) -> Self {
        Self { watched: Watched { class: permit.class, proof }, permit: Some(Arc::new(permit)) }
    }

    pub(crate) fn set_sent(&self) {
        if let Some(permit) = &self.permit {
            permit.is_sent.store(true, Ordering::Release);
        }
    }

    /// Records that the ticket was sent, and that there will be no answer.
    pub(crate) fn set_unanswered(&self) {
        if let Some(permit) = &self.permit {
            permit.settle(Outcome::Unknown);
        }
    }

    /// Records that the ticket has not left the gateway, because there is no connection to the service.
    pub(crate) fn set_not_sent(&self) {
        if let Some(permit) = &self.permit {
            permit.settle(Outcome::NotSent);
        }
    }
}

/// A reservation of the breaker. If a permit is dropped without a call of [`settle`](Self::settle), the outcome depends
/// on the ticket: `Unknown` if it was sent, otherwise `NotSent`.
pub(super) struct Permit {
    pub(super) shared: Arc<Shared>,
    pub(super) gate: Arc<Gate>,
    pub(super) user: UserId,
    pub(super) applid: Applid,
    pub(super) key: Arc<str>,
    pub(super) class: PathClass,
    pub(super) id: u64,
    pub(super) is_sent: AtomicBool,
    pub(super) is_settled: AtomicBool,
    /// Whether the other nodes know the reservation.
    pub(super) is_shared: AtomicBool,
}

impl Permit {
    pub(super) fn new(
        shared: Arc<Shared>,
        gate: Arc<Gate>,
        user: UserId,
        applid: Applid,
        key: Arc<str>,
        class: PathClass,
        id: u64,
    ) -> Self {
        let [is_sent, is_settled, is_shared] = [(); 3].map(|()| AtomicBool::new(false));
        Self { shared, gate, user, applid, key, class, id, is_sent, is_settled, is_shared }
    }

    /// Reports the answer. Only the first report counts.
    pub(super) fn settle(&self, outcome: Outcome) {
        if self.is_settled.swap(true, Ordering::AcqRel) {
            return;
        }
        let Self { shared, gate, user, applid, key, class, id, .. } = self;
        let settled = Settled { user: *user, applid: *applid, key, class: *class, gate };
        let is_shared = self.is_shared.load(Ordering::Acquire);
        shared.settle(&settled, Some(*id), outcome, false, is_shared);
    }

    /// Ends the reservation as if the ticket was not sent. Call this also if the answer says nothing about the ticket.
    pub(super) fn withdraw(&self) {
        self.settle(Outcome::NotSent);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let is_sent = *self.is_sent.get_mut();
        self.settle(if is_sent { Outcome::Unknown } else { Outcome::NotSent });
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("id", &self.id).finish_non_exhaustive()
    }
}
