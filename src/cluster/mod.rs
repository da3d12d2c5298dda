//! Several nodes that share revocations.

pub mod coordinator;
mod durable_memory;
#[expect(dead_code, reason = "the node that uses it is not written yet")]
mod memory;
