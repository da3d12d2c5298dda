//! The commands other than `serve`: `check`, `esm`, `health`, `init`, `passwd` and `ticket`.

pub(crate) mod check;
pub(crate) mod esm;
pub(crate) mod health;
pub(crate) mod init;
mod live;
mod live_cluster;
pub(crate) mod passwd;
pub(crate) mod ticket;
pub(crate) mod ticket_get;
