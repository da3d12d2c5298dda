//! Tests that use the public API of `tower-passticket` from another crate, as an application that embeds the
//! library does. Each file in `tests/` shows one task of such an application.
