//! Functions for the fuzz targets in `fuzz/`. Do not use these functions, because they are not a part of the public
//! API.

#[cfg(feature = "redis")]
pub use crate::cluster::redis::read_answers;
pub use crate::layer::forwarded_chain;
#[cfg(feature = "proxy")]
pub use crate::proxy::{accepts_answer, track_frames};
pub use crate::tls::{proxy_header, serve_io};
