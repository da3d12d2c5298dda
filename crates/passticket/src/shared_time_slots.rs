//! The trait for stores, such as Redis, in which several processes reserve time slots for PassTickets (one-time
//! passwords of z/OS).

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use super::{Applid, UserId, time_slots::NoTimeSlot};
use crate::clock::Timestamp;

/// The future of [`SharedTimeSlots::reserve`]. It borrows nothing.
pub type SlotFuture = Pin<Box<dyn Future<Output = Result<SharedSlot, SharedSlotError>> + Send>>;

/// Reserves [time slots](NoTimeSlot) in a store that several processes share, so that no two of these processes make
/// the same PassTicket. See [`LocalGenerator::with_shared_time_slots`](super::LocalGenerator::with_shared_time_slots).
///
/// ```
/// use std::sync::Mutex;
/// use passticket::{
///     NoTimeSlot, SharedSlot, SharedSlotError, SharedTimeSlots, SlotFuture, SlotRequest,
///     clock::{Clock, SystemClock, Timestamp},
/// };
///
/// /// Gives each second once: to the user who asks first.
/// #[derive(Debug)]
/// struct OneForAll(Mutex<u64>);
///
/// impl SharedTimeSlots for OneForAll {
///     fn reserve(&self, request: SlotRequest) -> SlotFuture {
///         let place_time = SystemClock.now();
///         let mut last = self.0.lock().unwrap();
///         let next = (*last + 1).max(request.not_before.as_secs());
///         let reserved = if next <= place_time.as_secs() {
///             *last = next;
///             Ok(SharedSlot { slot: Timestamp::from_secs(next), place_time })
///         } else {
///             Err(SharedSlotError::unreachable("all seconds are taken"))
///         };
///         Box::pin(std::future::ready(reserved))
///     }
/// }
/// ```
pub trait SharedTimeSlots: fmt::Debug + Send + Sync + 'static {
    /// Reserves the earliest free slot of the user and APPLID. The slot must not be before [`SlotRequest::not_before`].
    /// It must not be after the current time of the store, and not more than [`SlotRequest::spare`] before this time.
    ///
    /// The future must have a time limit of its own, because the caller sets none.
    fn reserve(&self, request: SlotRequest) -> SlotFuture;
}

impl<S: SharedTimeSlots + ?Sized> SharedTimeSlots for Arc<S> {
    fn reserve(&self, request: SlotRequest) -> SlotFuture {
        (**self).reserve(request)
    }
}

/// A request for a time slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotRequest {
    /// The user of the ticket.
    pub user: UserId,
    /// The application of the ticket.
    pub applid: Applid,
    /// The maximum age of the slot at the time of the reservation.
    pub spare: Duration,
    /// The first slot that can be reserved.
    pub not_before: Timestamp,
}

impl SlotRequest {
    /// Creates a request.
    pub const fn new(user: UserId, applid: Applid, spare: Duration, not_before: Timestamp) -> Self {
        Self { user, applid, spare, not_before }
    }
}

/// A reserved time slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedSlot {
    /// The slot, in whole seconds.
    pub slot: Timestamp,
    /// The time of the store when it reserved the slot. If the clock of this process differs too much from this time,
    /// the generator makes no ticket for the slot.
    pub place_time: Timestamp,
}

/// The reason why the store has reserved no slot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SharedSlotError {
    /// There is no slot for this ticket.
    #[error(transparent)]
    NoTimeSlot(#[from] NoTimeSlot),
    /// The store cannot be reached, or refuses to write.
    #[error("time slots cannot be reserved: {0}")]
    Unreachable(Arc<str>),
}

impl SharedSlotError {
    /// Creates the error of a store that cannot be reached. `reason` must contain no secret.
    pub fn unreachable(reason: impl Into<Arc<str>>) -> Self {
        Self::Unreachable(reason.into())
    }
}
