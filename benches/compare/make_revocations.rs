//! Writes a store with many revocations. None of them matches a token of the comparison.
//!
//! ```text
//! make_revocations FILE COUNT
//! ```
//!
//! Without arguments the program does nothing, so that `cargo test --benches` can run it.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../revocations/mod.rs"]
mod revocations;

use revocations::revocation;
use tokio::runtime::Runtime;
use tower_passticket::revocation::{DurableStore, RevocationStore};

/// Number of revocations that are written concurrently.
const BATCH: usize = 100_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, count] = &args[..] else { return };
    let Ok(count) = count.parse::<usize>() else { return };
    let store = DurableStore::create(file).unwrap();
    let runtime = Runtime::new().unwrap();
    for first in (0..count).step_by(BATCH) {
        let last = count.min(first + BATCH);
        let writes: Vec<_> = (first..last).map(|i| store.record(revocation(i))).collect();
        runtime.block_on(async {
            for write in writes {
                write.await.unwrap();
            }
        });
    }
}
