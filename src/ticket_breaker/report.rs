//! The report about stopped PassTickets, for the health endpoint.

use crate::{
    clock::Timestamp,
    passticket::{Applid, UserId},
};

/// The stopped users and keys. [`TicketBreaker::report`](super::TicketBreaker::report) returns this report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoppedReport {
    /// The users whose tickets are stopped, sorted by APPLID.
    pub users: Vec<StoppedUser>,
    /// The keys with a stop or with a warning about the clock.
    pub applids: Vec<StoppedApplid>,
}

impl StoppedReport {
    /// Returns whether the tickets of a key are stopped for all users: on all paths, on some paths, or because of the
    /// clock.
    pub fn has_stopped_applid(&self) -> bool {
        self.applids.iter().any(StoppedApplid::is_stopped)
    }

    /// Says what an operator should check.
    pub const fn check(&self) -> &'static str {
        super::advice::CHECK
    }
}

/// A user whose tickets for an APPLID are stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoppedUser {
    /// The user.
    pub user: UserId,
    /// The APPLID.
    pub applid: Applid,
    /// How many tickets were refused.
    pub refused: u8,
    /// The time at which one ticket is tried. `None` if no ticket is tried until an administrator resumes the tickets,
    /// or the key changes.
    pub next: Option<Timestamp>,
}

/// A key whose tickets are stopped, or a key with a warning: the clock of a service differs too much from the clock of
/// the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoppedApplid {
    /// The name of the key profile, such as `IZUDFLT` or `IZUDFLT.PAYROLL`.
    pub key: String,
    /// The APPLID.
    pub applid: Applid,
    /// Whether the tickets of all users are stopped on all paths, for another reason than the clock.
    pub is_stopped: bool,
    /// The number of classes of paths on which the tickets of all users are stopped.
    pub stopped_paths: usize,
    /// Whether the clock stops the tickets of all users.
    pub is_stopped_by_clock: bool,
    /// The clock of the service minus the clock of the gateway in seconds. `None` if there is no warning about the
    /// clock.
    pub clock_difference: Option<i64>,
    /// The time at which one ticket is tried. If there are several stops, this is the latest of their times. `None` if
    /// there is only a warning about the clock.
    pub next: Option<Timestamp>,
}

impl StoppedApplid {
    /// Returns whether tickets are stopped. Returns `false` if there is only a warning about the clock.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped || self.is_stopped_by_clock || self.stopped_paths > 0
    }
}
