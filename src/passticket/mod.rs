//! PassTickets.

mod ident;

pub use ident::{Applid, NameError, NameRule, UserId};
