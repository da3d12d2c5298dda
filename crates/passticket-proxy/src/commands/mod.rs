//! The commands other than `serve`: `check`, `esm`, `health`, `passwd` and `ticket`.

pub(crate) mod check;
pub(crate) mod esm;
pub(crate) mod health;
mod live;
pub(crate) mod passwd;
pub(crate) mod ticket;
