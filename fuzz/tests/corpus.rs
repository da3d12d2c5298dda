//! Runs every target with its committed corpus and with mutations of the corpus. The mutations are the same on every
//! machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use fuzz_targets::TARGETS;

/// Number of mutations for each target. All targets together take 10 to 20 seconds without optimization.
const MUTATIONS: usize = 150;

/// The number of panics so far. It includes panics in tasks, which `catch_unwind` does not catch.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let Ok(entries) = fs::read_dir(&directory) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// A random number generator (xorshift64) that gives the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number less than `end`, which must not be 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    /// Returns a random part of `bytes` with at most 32 bytes.
    fn piece<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let start = self.below(bytes.len() + 1);
        let length = self.below((bytes.len() - start).min(32) + 1);
        &bytes[start..start + length]
    }
}

/// Byte strings that have a meaning for some of the parsers.
const WORDS: [&[u8]; 24] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\xff",
    b"\xc3\xa4",
    b"\xe2\x80\xa8",
    b" ",
    b"\t",
    b"\"",
    b"%2e",
    b"%2f",
    b"../",
    b"//",
    b"\\",
    b";",
    b",",
    b":",
    b"=",
    b"null",
    b"-1",
    b"18446744073709551616",
    b"{JWT}",
    b"[[[[[[[[",
];

/// Returns `seed` after one to four random changes.
fn mutated(seed: &[u8], corpus: &[(PathBuf, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            2 => {
                let end = at + random.below((bytes.len() - at).min(16) + 1);
                bytes.drain(at..end);
            }
            3 => {
                let piece = random.piece(&bytes).to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let other = &corpus[random.below(corpus.len())].1;
                bytes.splice(at..at, random.piece(other).iter().copied());
            }
            _ => {
                let word = WORDS[random.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }
    bytes.truncate(8192);
    bytes
}

/// Returns whether the target panics with this input. A panic in a task also counts.
fn fails(target: fn(&[u8]), input: &[u8]) -> bool {
    let before = PANICS.load(Ordering::SeqCst);
    let _ = panic::catch_unwind(AssertUnwindSafe(|| target(input)));
    PANICS.load(Ordering::SeqCst) > before
}

#[test]
fn targets_do_not_panic_with_corpus_and_mutations() {
    let default_hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        default_hook(info);
    }));
    let mut failures = Vec::new();
    for (name, target) in TARGETS {
        let seeds = corpus(name);
        if seeds.is_empty() {
            failures.push(format!("{name}: fuzz/corpus/{name} has no files"));
            continue;
        }
        for (path, seed) in &seeds {
            if fails(*target, seed) {
                failures.push(format!("{name}: {}", path.display()));
            }
        }
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for i in 0..MUTATIONS {
            let (path, seed) = &seeds[i % seeds.len()];
            let input = mutated(seed, &seeds, &mut random);
            if fails(*target, &input) {
                let input = input.escape_ascii();
                failures.push(format!("{name}: mutation {i} of {}: b\"{input}\"", path.display()));
            }
        }
    }
    drop(panic::take_hook());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_corpus_directory_has_a_target() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(fuzz_targets::target(&name).is_some(), "no target {name}");
    }
}
