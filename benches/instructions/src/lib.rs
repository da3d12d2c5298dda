//! This package has only benchmarks: `benches/instructions.rs` and `benches/growth.rs`.
