//! Several nodes that share revocations.

pub mod coordinator;
#[expect(dead_code, reason = "the node that uses it is not written yet")]
mod memory;
#[expect(dead_code, reason = "the scripts that use it are not written yet")]
pub mod redis;
