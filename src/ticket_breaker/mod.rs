//! Stops PassTickets before a z/OS user is revoked ([D42](crate::decisions#d42)).
//!
//! If RACF, a security product of z/OS, refuses a PassTicket, it counts a wrong password. Many sites revoke a user
//! after the third wrong password in a row. So a wrong key or a wrong clock of the gateway would revoke every active
//! user. A [`TicketBreaker`] watches the answers of services, and stops the making of PassTickets (*tickets*) in time.
//! An APPLID is the name of a z/OS application. The breaker follows these rules:
//!
//! 1. Before a service has accepted a ticket of a user for a class of paths (see below), the gateway normally sends the
//!    user's tickets for these paths one at a time. The next ticket waits for the answer to the previous ticket,
//!    normally for at most ten seconds. So normally, only one wrong ticket of a user is sent, even if the user has many
//!    requests at the same time.
//! 2. One refused ticket stops the tickets of this user for this APPLID. (With another [`TicketLimits`], two refused
//!    tickets do.) Classes of paths that a success has proven are not stopped (see below). After the first refusal, one
//!    ticket is tried after a pause. After the second refusal, no ticket is tried. Then the stop ends when an
//!    administrator resumes the tickets, when the key is changed, or when tickets on proven paths show that the key is
//!    right.
//! 3. If three different users are refused and no ticket is accepted in between, the tickets of all users with this key
//!    are stopped. If three users are refused on one class of paths and no ticket for this class is accepted in
//!    between, the tickets for this class are stopped. After a pause, one ticket is tried.
//! 4. The *window* of a key is the difference of clocks up to which z/OS accepts a ticket. If the clock of a service
//!    differs from the clock of the gateway by at least half of the window, the tickets of the key are stopped. The
//!    stop ends when the clocks differ by less than half of the window. Meanwhile, one ticket in a minute is tried.
//!
//! # What a success proves
//! The breaker cannot know whether a service has checked a ticket. So each success proves one class of paths only. Two
//! paths of one route have the same class if their first segments after the prefix of the route begin with the same
//! eight bytes. `OPTIONS` requests have separate classes. If a path needs no ticket, a success on this path proves
//! nothing about other paths.
//!
//! A success proves a class of paths for one user and for up to ten minutes. The tickets of this user for these paths
//! are then made without a further decision. This costs about 270 instructions for each request.

mod advice;
mod answer;
mod breaker;
mod counts;
mod file;
mod guarded;
mod machine;
mod path_class;
mod pause;
mod permit;
mod proofs;
mod record;
mod report;
mod route_tickets;
mod saved;
mod shared;
mod shared_refusals;
mod skew;
#[cfg(test)]
mod tests;

pub use answer::RefusedStatuses;
pub use breaker::TicketBreaker;
pub use guarded::GuardedGenerator;
pub(crate) use path_class::PathClass;
pub(crate) use permit::{Sent, Watched};
pub use report::{StoppedApplid, StoppedReport, StoppedUser};
#[cfg(feature = "remote")]
pub(crate) use route_tickets::OwnTickets;
pub(crate) use route_tickets::{RouteTickets, Tried};
pub use saved::RestoreError;
pub use shared::TicketLimits;
pub use shared_refusals::{
    Reserved, SharedOutcome, SharedRefusal, SharedRefusals, SharedRefusalsError,
    SharedRefusalsFuture, SharedTicket,
};
pub use skew::{SkewVerdict, clock_difference, clock_verdict, parse_date};
