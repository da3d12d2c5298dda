//! Makes PassTickets in a process that may hand over its time slots.
//!
//! A PassTicket is a short-lived password of z/OS.

use std::time::Duration;

use tower_passticket::passticket::{
    Applid, GenerateError, GenerateFuture, LocalGenerator, NoTimeSlot, PassTicket,
    PassTicketGenerator, Replay, UserId,
};

use super::gate::{Answerer, Gate};

/// Makes PassTickets with the keys of this process. After a takeover, the new process makes the PassTickets for
/// applications with replay protection, because only one process may use the time slots.
#[derive(Clone, Debug)]
pub(crate) struct OwnTickets {
    local: LocalGenerator,
    gate: Gate,
}

impl OwnTickets {
    pub(super) fn new(local: LocalGenerator, gate: Gate) -> Self {
        Self { local, gate }
    }
}

impl PassTicketGenerator for OwnTickets {
    fn generate(&self, user: &UserId, applid: &Applid) -> GenerateFuture {
        let (Self { local, gate }, user, applid) = (self.clone(), *user, *applid);
        Box::pin(async move {
            match local.generate(&user, &applid).await {
                Err(error) if is_handed_over(&error) => match gate.answerer().await {
                    Answerer::ThisProcess => local.generate(&user, &applid).await,
                    Answerer::Successor(relay) => relay.ticket(user, applid).await,
                    Answerer::NoProcess => Err(error),
                },
                generated => generated,
            }
        })
    }

    fn try_generate_now(
        &self,
        user: &UserId,
        applid: &Applid,
    ) -> Option<Result<PassTicket, GenerateError>> {
        match self.local.try_generate_now(user, applid) {
            Some(Err(error)) if is_handed_over(&error) => None,
            generated => generated,
        }
    }

    fn precheck(&self, user: &UserId, applid: &Applid) -> Result<(), GenerateError> {
        self.local.precheck(user, applid)
    }

    fn replay(&self, applid: &Applid) -> Replay {
        self.local.replay(applid)
    }

    fn lifetime(&self, user: &UserId, applid: &Applid) -> Option<Duration> {
        self.local.lifetime(user, applid)
    }

    fn forget(&self, user: &UserId, applid: &Applid) {
        self.local.forget(user, applid);
    }
}

fn is_handed_over(error: &GenerateError) -> bool {
    matches!(error.no_time_slot(), Some(NoTimeSlot::HandedOver))
}
