//! HTTP clients for other services, such as ZSS (Zowe System Services, a server on z/OS).
//!
//! Two types limit the effect of a slow or failing service on the gateway:
//!
//! - [`Client`] has a deadline, a concurrency limit and a limit for the size of a response.
//! - [`SingleFlightCache`] caches results for a short time. Callers that look the same key up at the same
//!   time share one call.
//!
//! [`Address`] is the URL of a service. A [`TokenSource`] provides the token that identifies a user to the service.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use hyper_util::client::legacy::connect::HttpConnector;
//! use tower_passticket::{
//!     passticket::UserId,
//!     remote::{Address, Client, ClientLimits, UserToken},
//!     saf::EndpointSaf,
//! };
//!
//! // For TLS, use `tls::Connector` instead of `HttpConnector`.
//! let client = Client::new(HttpConnector::new(), ClientLimits::default());
//! let tokens = |user: &UserId| UserToken::new(my_token_for(user));
//! let address: Address = "http://localhost:8542/saf-auth".parse()?;
//! let saf = EndpointSaf::new(client, address, tokens);
//! # fn my_token_for(_: &UserId) -> String { unimplemented!() }
//! # Ok(())
//! # }
//! ```

mod address;
mod cache_policy;
mod client;
mod connect;
mod limits;
mod lookup_cache;
mod tokens;

pub use address::{Address, AddressError};
pub use cache_policy::CachePolicy;
pub use client::{Client, RemoteError, Reply};
pub use connect::Connect;
pub use limits::ClientLimits;
pub use lookup_cache::SingleFlightCache;
pub use tokens::{NoToken, TokenSource, UserToken};
