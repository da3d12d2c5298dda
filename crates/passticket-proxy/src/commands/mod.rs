//! The commands that end by themselves: `check`, `esm`, `passwd`, `ticket`.

pub(crate) mod check;
pub(crate) mod esm;
pub(crate) mod passwd;
pub(crate) mod ticket;
