//! Parts of the program `passticket-proxy`: the reader of its configuration, and the generator of
//! commands for the z/OS security products (RACF, ACF2 and Top Secret).
//!
//! Operators use the program through its command line and its configuration file. This library
//! exists for tests and fuzz targets. Its Rust API changes with the program and does not follow
//! semantic versioning.

pub mod config;
pub mod esm;
pub mod explained;
pub mod instant;
