//! HTTP clients for other services, such as ZSS.
//!
//! A slow or failing service must not stall the gateway. These types bound the damage:
//!
//! - [`Client`] has a deadline, a concurrency limit and a limit for the size of a response;
//! - [`SingleFlightCache`] caches results for a short time, and makes one call for all callers that wait
//!   for the same key.
//!
//! [`Address`] is the URL of a service, and a [`TokenSource`] provides the token that a user is known by
//! there.
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
//! // Over TLS: `tls::Connector`.
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
