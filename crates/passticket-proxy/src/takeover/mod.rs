//! `serve --takeover`: a new process continues the work of a running process without a gap (docs/decisions.md#d31).
//!
//! The old process listens on a Unix socket. The two processes exchange these messages:
//!
//! | step | sender | message |
//! |---|---|---|
//! | 1 | new | `Hello`. The new process has loaded its configuration, and built all parts that do not need the store (the revocation file) |
//! | 2 | old | `Listeners`, and then the listening sockets (`SCM_RIGHTS`) |
//! | 3 | new | `Prepared`. The old process now holds new requests, and closes the store |
//! | 4 | old | `State`: the used time slots, the failed logins, the users and keys for which no PassTickets are made, the registry of services, and the lease of the node |
//! | 5 | new | `Opened`. The new process has opened the store and the audit files |
//! | 6 | old | `Go`. From now on, the new process may serve |
//! | 7 | new | `Serving`. The worker threads accept connections |
//!
//! Each step has a deadline. If the new process fails, hangs or is killed before `Go`, the old process opens the store
//! again and answers the requests that it has held. The lock of the store file guarantees that only one process writes
//! it.
//!
//! After `Go`, the new process may already serve, even if `Serving` is late or the connection has ended. In these cases,
//! the old process kills the new process if it can. Then it waits until it can open the store file. It can open the file
//! only with the lock, so the new process has then ended, and the old process answers requests again. If `Serving`
//! arrives during this wait, because the new process could not be killed, the takeover has succeeded.
//!
//! After `Serving`, the old process answers only the requests that it has already begun. It closes its connections as
//! at a shutdown. A client may have sent a request before it learns that its connection is being closed. The old
//! process relays such a request to the new process, over the same Unix socket. So at any time, one process alone
//! decides about the tokens, tickets and logins of new requests.

mod frames;
mod gate;
mod hand_over;
mod new;
mod old;
mod relay;
mod relayed;
mod socket;
mod state;
mod tickets;

pub(crate) use hand_over::HandOver;
pub(crate) use new::{Predecessor, TakenOver};
pub(crate) use old::{Offer, Running};
pub(crate) use relay::Listener;
pub(crate) use relayed::{RelayedService, RelayedServices};
