//! Functions for the fuzz targets in `fuzz/`. Do not use them: they are not part of the public API.

pub use crate::tls::{proxy_header, serve_io};
