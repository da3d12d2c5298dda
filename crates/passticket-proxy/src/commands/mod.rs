//! The commands other than `serve` and `explain`: `check`, `config`, `esm`, `health`, `init`, `passwd`, `pkcs11` and
//! `ticket`.

pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod esm;
pub(crate) mod health;
pub(crate) mod init;
mod live;
mod live_cluster;
mod live_zaas;
pub(crate) mod passwd;
#[cfg(feature = "pkcs11")]
pub(crate) mod pkcs11;
pub(crate) mod ticket;
pub(crate) mod ticket_get;
