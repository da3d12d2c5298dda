//! A model of the protocol by which nodes share revocations (docs/decisions.md#d32), and a checker that explores all
//! states of the model.
//!
//! The model shares no code with the program. It shows two facts. With all rules of the protocol, no node accepts a
//! revoked token after the revocation has succeeded. Without any one of the rules, the checker finds a sequence of
//! steps after which a node accepts such a token.

pub mod checker;
pub mod model;
