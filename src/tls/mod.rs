//! TLS on both sides: the listener that clients connect to, and the connections to the services.
//!
//! - [`Server`] accepts connections, with TLS ([`ServerTls`]) or without. It serves HTTP/1.1 and HTTP/2, and
//!   has a handshake timeout and a graceful shutdown. If the client presents a valid certificate, each request
//!   gets this certificate as the extension [`PeerCertificate`](crate::identity::PeerCertificate).
//! - [`Connector`] connects to services. [`Verification`] sets how strictly their certificates are verified.
//!
//! The crypto provider is aws-lc-rs. It is passed to rustls explicitly. The default provider of the process is
//! neither read nor set. If you pass a configuration of your own ([`ServerTls::from_config`],
//! [`Connector::from_config`]), it contains the provider that you chose. Make such a configuration with
//! [`tower_passticket::rustls`](crate::rustls), so that the versions of rustls match.
//!
//! # Signature cache
//! [`ServerTlsBuilder::with_signature_cache`] and [`ConnectorBuilder::with_signature_cache`] turn on a cache that all
//! servers and connectors of the process share. It holds up to 10,000 valid signatures of certificates, in about 1 MiB.
//! When a peer connects again with the same certificate, the signature of this certificate is not verified again. This
//! saves 14 % of the time of a handshake with a client certificate (`benches/choices.md`). Each full handshake still
//! checks expiry, key usage, trust, and the proof that the peer holds the private key.
//!
//! The cache is off by default, because an attacker can measure its effect. With a copy of a client's certificate, the
//! attacker can find out whether that client has connected before.

mod accepted_connection;
mod address_requests;
mod answering;
mod client_certificates;
mod client_connection;
mod client_io;
mod client_limits;
mod client_source;
mod close_reason;
mod connection_counts;
mod connection_watch;
mod connector;
mod counted_response;
mod delivered_body;
mod error;
mod half_close;
mod header_budget;
mod http_version;
mod inbound_proxies;
mod lent_stream;
mod lingering_close;
mod open_certificates;
mod pem;
mod plain_http;
mod policy;
mod proxy_protocol;
mod refusal;
mod request_framing;
mod response_state;
mod secp521r1;
mod server;
mod server_settings;
mod server_tls;
mod signature_cache;
mod streams;
mod tcp;
mod unless_ending;
mod watched_connection;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use accepted_connection::serve_io;
pub use client_certificates::ClientCertificates;
pub use client_limits::ClientLimits;
pub use connection_counts::ConnectionCounts;
pub use connector::{
    ConnectError, Connector, ConnectorBuilder, ConnectorFuture, ConnectorStream, Verification,
};
pub use error::TlsError;
pub use policy::TlsPolicy;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use proxy_protocol::proxy_header;
pub use secp521r1::SECP521R1;
pub use server::{Drained, Server};
pub use server_settings::{ServerSettings, SettingsHandle};
pub use server_tls::{ServerTls, ServerTlsBuilder};
