//! Functions for the fuzz targets in `fuzz/`. Do not use these functions, because they are not a part of the public
//! API.

pub use crate::layer::forwarded_chain;
#[cfg(feature = "proxy")]
pub use crate::proxy::websocket::{frames::FrameTracker, handshake::Offer};
pub use crate::tls::{proxy_header, serve_io};
