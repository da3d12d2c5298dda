//! Parts of the program `passticket-proxy`: its configuration, and the commands for the security
//! products of z/OS.
//!
//! Operators use the program through its command line and its configuration file. This library
//! exists for tests and fuzz targets. Its Rust API changes with the program and does not follow
//! semantic versioning.

pub mod config;
pub mod esm;
