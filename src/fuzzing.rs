//! What `fuzz/` needs and no embedder should use. Nothing here is part of the public API.

pub use crate::tls::serve_io;
