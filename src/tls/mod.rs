//! TLS on both sides: the listener that clients connect to, and the connections to the services.
//!
//! - [`Server`] accepts connections, with [`ServerTls`] or without: HTTP/1.1 and HTTP/2, a
//!   handshake timeout, a graceful shutdown. The client certificate, if there is one and it verifies,
//!   becomes the [`PeerCertificate`](crate::identity::PeerCertificate) of each request.
//! - [`Connector`] connects to services as strictly as [`Verification`] says.
//!
//! The crypto provider is aws-lc-rs. It is passed to rustls explicitly; the default of the process is neither
//! read nor set. A configuration of your own ([`ServerTls::from_config`], [`Connector::from_config`])
//! brings its own provider; make it with [`tower_passticket::rustls`](crate::rustls), so that the versions match.
//!
//! # Signature cache
//! With [`ServerTlsBuilder::with_signature_cache`] and [`ConnectorBuilder::with_signature_cache`] the
//! process caches up to 10,000 valid signatures of certificates, in about 1 MiB. A peer that reconnects
//! with the same certificate is then verified with one signature less; a mutual handshake takes 0.86
//! of the time (`benches/choices.md`). Expiry, key usage, trust and the proof of the private key are
//! checked in each full handshake. It is off by default because it is observable: an attacker who has a copy
//! of a client's certificate can measure whether that client has connected before.

mod connector;
mod error;
mod lingering_close;
mod pem;
mod server;
mod server_tls;
mod signature_cache;

pub use connector::{
    ConnectError, Connector, ConnectorBuilder, ConnectorFuture, ConnectorStream, Verification,
};
pub use error::TlsError;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use server::serve_io;
pub use server::{Drained, Server};
pub use server_tls::{ServerTls, ServerTlsBuilder};
