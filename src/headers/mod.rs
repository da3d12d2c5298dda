//! General functions for HTTP headers: cookies, hop-by-hop headers, the spellings of a name, and the removal of
//! several headers in one pass. This module does not know which headers are special for the gateway.

pub(crate) mod cookie;
mod hop_by_hop;
mod spelling;
mod sweep;

pub(crate) use hop_by_hop::HopByHop;
pub use hop_by_hop::strip_hop_by_hop;
pub(crate) use spelling::same_for_cgi;
pub(crate) use sweep::sweep;
