//! Functions for the fuzz targets in `fuzz/`. They are not part of the public API: do not use them.

pub use crate::tls::serve_io;
