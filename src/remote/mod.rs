//! Asking other HTTP services: ZSS, and what stands in for it.
//!
//! Whatever depends on such a service is only as quick and as steady as the service, unless
//! somebody says where it ends. Here that is said once:
//!
//! - [`Client`] gives up after a time, lets only so many calls run at once, and reads only so much
//!   of an answer;
//! - [`SingleFlightCache`] remembers what was answered for a short time, and asks once for all who wait for
//!   the same.
//!
//! Who is asked, and as whom: [`Address`] and [`TokenSource`].
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use hyper_util::client::legacy::connect::HttpConnector;
//! use tower_passticket::{
//!     passticket::UserId,
//!     remote::{Address, Client, Limits, NoToken, UserToken},
//!     saf::EndpointSaf,
//! };
//!
//! // Over TLS: `tls::https_connector`.
//! let client = Client::new(HttpConnector::new(), Limits::default());
//! let tokens = |user: &UserId| UserToken::new(my_token_for(user));
//! let address = Address::parse("http://localhost:8542/saf-auth")?;
//! let saf = EndpointSaf::new(client, address, tokens);
//! # fn my_token_for(_: &UserId) -> String { unimplemented!() }
//! # Ok(())
//! # }
//! ```

mod address;
mod client;
mod lookup_cache;
mod tokens;

pub use address::{Address, AddressError};
pub use client::{Client, Limits, RemoteError, Reply};
pub use lookup_cache::{CachePolicy, SingleFlightCache};
pub use tokens::{NoToken, TokenSource, UserToken};
