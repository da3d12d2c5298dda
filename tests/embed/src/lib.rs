//! Tests in a separate crate, which uses only the public API of `tower-passticket`. Each file in `tests/`
//! shows one task of an application that embeds the library.
