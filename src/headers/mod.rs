//! General functions for HTTP headers. They do not know which headers have a meaning for the gateway.

mod basic;
#[cfg(any(feature = "proxy", feature = "tls"))]
pub(crate) mod content_type;
pub(crate) mod cookie;
#[cfg(any(feature = "api", feature = "proxy"))]
mod head;
mod hop_by_hop;
mod list;
mod spelling;
mod sweep;

pub(crate) use basic::{BasicCredentials, split_scheme};
#[cfg(any(feature = "api", feature = "proxy"))]
pub(crate) use head::without_body;
pub use hop_by_hop::strip_hop_by_hop;
pub(crate) use hop_by_hop::{HopByHop, strip_request_hop_by_hop};
pub(crate) use list::all_list_items;
pub(crate) use spelling::same_for_cgi;
pub(crate) use sweep::sweep;
