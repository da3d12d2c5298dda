//! Runs the target that the environment variable `FUZZ_TARGET` names. `fuzz/run` builds and starts this program.

#![no_main]

use std::{env, process, sync::LazyLock};

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = env::var("FUZZ_TARGET").unwrap_or_default();
    fuzz_targets::target(&name).unwrap_or_else(|| {
        eprintln!("FUZZ_TARGET={name:?}: no such target; fuzz/run --list prints all targets");
        process::exit(2);
    })
});

fuzz_target!(|data: &[u8]| TARGET(data));
