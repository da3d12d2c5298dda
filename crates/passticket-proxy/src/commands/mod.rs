//! The commands that end by themselves: `check`, `ticket`, `esm`.

pub(crate) mod check;
pub(crate) mod esm;
pub(crate) mod ticket;
