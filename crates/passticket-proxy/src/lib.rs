//! What the program `passticket-proxy` is made of and others may read: its configuration, and the
//! commands for the security products of z/OS.
//!
//! The interface of the program is its command line and its configuration file. This library exists
//! for tests and fuzz targets; its Rust API follows the program, not semantic versioning.

pub mod config;
pub mod esm;
