//! A model of the protocol by which nodes share revocations (docs/decisions.md#d32), and a checker that explores all
//! states of the model.
//!
//! The model has no code in common with the program. It shows that the rules of the protocol are enough, and that each of
//! them is needed: without one of the rules, the checker finds a sequence of steps after which a node accepts a revoked
//! token.

pub mod checker;
pub mod model;
