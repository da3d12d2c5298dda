//! A model of the protocol by which nodes share revocations (docs/decisions.md#d32), and a checker that explores all
//! states of the model.
//!
//! The model shares no code with the program. For a small number of nodes, revocations and faults, the checker shows
//! two facts. With all rules of the model, no node accepts a revoked token after the revocation has succeeded. If any
//! one of these rules is switched off, the checker finds a sequence of steps after which a node accepts such a token.

pub mod checker;
pub mod model;
