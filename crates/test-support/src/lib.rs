//! What the tests of all crates share. It never depends on `tower-passticket`: unit tests of that
//! crate would then see two copies of each type.
