//! The trait for refused tickets that several nodes count together.

use std::{fmt, pin::Pin, sync::Arc};

use crate::{
    clock::Timestamp,
    passticket::{Applid, UserId},
};

/// A ticket for one user and APPLID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedTicket {
    /// The user.
    pub user: UserId,
    /// The APPLID.
    pub applid: Applid,
    /// The number of the class of paths that the ticket is for. All nodes use the same number for the same class.
    pub paths: u64,
}

impl SharedTicket {
    /// Creates a ticket.
    pub const fn new(user: UserId, applid: Applid, paths: u64) -> Self {
        Self { user, applid, paths }
    }
}

/// The refusals of the tickets of one user for one APPLID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedRefusal {
    /// The last refused ticket.
    pub ticket: SharedTicket,
    /// How many tickets were refused since the last success.
    pub refused: u8,
    /// The time of the last refusal.
    pub last: Timestamp,
}

impl SharedRefusal {
    /// Creates the value.
    pub const fn new(ticket: SharedTicket, refused: u8, last: Timestamp) -> Self {
        Self { ticket, refused, last }
    }
}

/// The result of [`SharedRefusals::reserve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The ticket may be sent.
    Yes,
    /// Another node waits for the answer to a ticket of this user, or the nodes wait for answers to tickets of too many
    /// users.
    Busy,
    /// The store has another number of refusals than `known`.
    Differs(SharedRefusal),
}

/// The end of the reservation of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedOutcome {
    /// The service accepted the ticket. Its user has no refusals for this APPLID any more.
    Accepted,
    /// The service refused the ticket.
    Refused,
    /// The ticket was not sent, or its answer does not show whether the service accepts the ticket.
    Withdrawn,
}

/// The store that counts the refusals cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused tickets cannot be counted together with the other nodes: {0}")]
pub struct SharedRefusalsError(pub Arc<str>);

/// A future of [`SharedRefusals`].
pub type SharedRefusalsFuture<T> =
    Pin<Box<dyn Future<Output = Result<T, SharedRefusalsError>> + Send>>;

/// Counts the refused tickets of several nodes in a store that they share, such as Redis.
///
/// Without this store, `n` nodes could send `n` wrong tickets of the same user. If the store cannot be reached, each
/// node counts on its own.
pub trait SharedRefusals: fmt::Debug + Send + Sync + 'static {
    /// Reserves a ticket before it is sent. `known` is the number of refusals that the caller knows. If `max_users` is
    /// given, the answer is [`Reserved::Busy`] while tickets of this number of other users for this APPLID have no
    /// answer yet.
    fn reserve(
        &self,
        ticket: SharedTicket,
        known: u8,
        max_users: Option<u8>,
    ) -> SharedRefusalsFuture<Reserved>;

    /// Records the answer to a ticket. After an error, the other nodes may not know the answer.
    fn settle(&self, ticket: SharedTicket, outcome: SharedOutcome) -> SharedRefusalsFuture<()>;

    /// Returns all refusals.
    fn list(&self) -> SharedRefusalsFuture<Vec<SharedRefusal>>;

    /// Forgets the refusals of tickets for `applid` and `user`. `None` stands for all APPLIDs, or for all users. Does
    /// not wait.
    fn resume(&self, applid: Option<Applid>, user: Option<UserId>);
}
