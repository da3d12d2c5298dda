//! Headers as bytes on a wire: cookies, hop-by-hop headers, removal in one pass. Nothing here knows
//! what a header means to this gateway.

pub(crate) mod cookie;
mod hop_by_hop;
mod sweep;

pub(crate) use hop_by_hop::HopByHop;
pub use hop_by_hop::strip_hop_by_hop;
pub(crate) use sweep::sweep;
