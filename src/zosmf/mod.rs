//! Logins at z/OSMF, IBM's management server on z/OS.
//!
//! [`Zosmf`] calls the login service of z/OSMF (`docs/reference/zowe-site.md#zosmf`). A login creates a
//! [`ZosmfSession`], which has a JWT, an LTPA token (an opaque token of IBM servers), or both. [`ZosmfSessions`] keeps
//! the sessions of users, so that a [`Scheme`](crate::layer::Scheme) can send their tokens to z/OSMF.
#![cfg_attr(
    feature = "api",
    doc = "[`ZosmfLogin`](crate::api::ZosmfLogin) is the login provider of the auth endpoints."
)]

mod client;
mod session;
mod sessions;

pub use client::{Zosmf, ZosmfError};
pub use session::ZosmfSession;
pub use sessions::ZosmfSessions;
