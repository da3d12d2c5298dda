//! Makes a file of revocations with many rules in it, none of which hits anybody.
//!
//! ```text
//! rules FILE COUNT
//! ```
//!
//! Without the two it ends at once, as when `cargo test --benches` runs it.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../revocations/mod.rs"]
mod revocations;

use revocations::revocation;
use tokio::runtime::Runtime;
use tower_passticket::revocation::{DurableStore, RevocationStore};

/// So many wait for the disk together.
const AT_ONCE: usize = 100_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, count] = &args[..] else { return };
    let Ok(count) = count.parse::<usize>() else { return };
    let store = DurableStore::open(file).unwrap();
    let runtime = Runtime::new().unwrap();
    for first in (0..count).step_by(AT_ONCE) {
        let last = count.min(first + AT_ONCE);
        let answers: Vec<_> = (first..last).map(|i| store.record(revocation(i))).collect();
        runtime.block_on(async {
            for answer in answers {
                answer.await.unwrap();
            }
        });
    }
}
