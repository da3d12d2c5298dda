//! This package has only a benchmark: `benches/instructions.rs`.
