//! The commands other than `serve`: `check`, `esm`, `passwd` and `ticket`.

pub(crate) mod check;
pub(crate) mod esm;
pub(crate) mod passwd;
pub(crate) mod ticket;
