//! Tower layers.

#[cfg(feature = "api")]
pub mod api;
pub mod clock;
#[cfg(feature = "config")]
pub mod config;
pub mod connection;
pub mod identity;
pub mod layer;
pub mod message;
pub mod passticket;
#[cfg(feature = "proxy")]
pub mod proxy;
pub mod revocation;
#[cfg(feature = "tls")]
pub mod tls;
pub mod token;
