//! The tests of this crate use only the public API of `tower-passticket`. Each file in `tests/main` shows one task of
//! an application that embeds the library.
