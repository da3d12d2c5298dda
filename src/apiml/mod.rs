//! Clients of a running API ML (Zowe's API Mediation Layer).
//!
//! [`Apiml`] fetches the public keys of API ML, asks whether a token is still valid, and logs a user out. The module
//! [`token`](crate::token) verifies tokens of API ML with these keys.
//!
//! [`ApimlTickets`] requests PassTickets (one-time passwords of z/OS) from API ML. The PassTicket keys then stay in the
//! security product of z/OS.

mod auth;
mod tickets;

pub use auth::Apiml;
pub use tickets::ApimlTickets;
