//! Tests that use the public API of `tower-passticket` from another crate, as an embedder does. Each file
//! in `tests/` is one task of an embedder.
