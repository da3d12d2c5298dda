//! Tests of the breaker. The tables of decisions are in `decisions`.

mod answers;
mod decisions;
