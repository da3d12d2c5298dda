//! TLS on both sides: the listener that clients connect to, and the connections to the services.
//!
//! - [`Server`] accepts connections, with [`ServerTls`] or without: HTTP/1.1 and HTTP/2, a
//!   handshake timeout, a graceful end. The client certificate, if there is one and it verifies,
//!   becomes the [`PeerCertificate`](crate::identity::PeerCertificate) of each request.
//! - [`https_connector`] connects to services as strictly as [`Verification`] says.
//!
//! The process remembers, on both sides, up to 10,000 signatures of authorities that were valid, in about a
//! mebibyte: who comes back with the same certificate is verified with one signature less.
//!
//! The crypto is aws-lc-rs, passed in and not taken from the process; types of rustls stay inside.

mod connector;
mod lingering_close;
mod material;
mod server;
mod signature_cache;

pub use connector::{Verification, https_connector};
pub use material::{ServerTls, TlsError};
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use server::serve_io;
pub use server::{Drained, Server};
