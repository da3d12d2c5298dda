//! Every target over its committed corpus, and over mutations of it that are the same on every machine.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use fuzz_targets::TARGETS;

/// Mutations of each target. All targets together take 10 to 20 seconds without optimization.
const MUTATIONS: usize = 150;

/// Panics so far, also those in tasks, which end nothing but their task.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let Ok(entries) = fs::read_dir(&directory) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// The generator of George Marsaglia (xorshift64): the same numbers everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    fn piece<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let start = self.below(bytes.len() + 1);
        let length = self.below((bytes.len() - start).min(32) + 1);
        &bytes[start..start + length]
    }
}

/// Bytes that mean something to one parser or another.
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

fn mutated(seed: &[u8], all: &[(PathBuf, Vec<u8>)], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        match numbers.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(numbers.below(256)).unwrap(),
            2 => {
                let end = at + numbers.below((bytes.len() - at).min(16) + 1);
                bytes.drain(at..end);
            }
            3 => {
                let piece = numbers.piece(&bytes).to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let other = &all[numbers.below(all.len())].1;
                bytes.splice(at..at, numbers.piece(other).iter().copied());
            }
            _ => {
                let word = WORDS[numbers.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }
    bytes.truncate(8192);
    bytes
}

/// Whether the target panics at an input, be it in a task.
fn fails(target: fn(&[u8]), input: &[u8]) -> bool {
    let before = PANICS.load(Ordering::SeqCst);
    let _ = panic::catch_unwind(AssertUnwindSafe(|| target(input)));
    PANICS.load(Ordering::SeqCst) > before
}

#[test]
fn every_target_holds_for_its_corpus_and_for_mutations_of_it() {
    let show = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        show(info);
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
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for i in 0..MUTATIONS {
            let (path, seed) = &seeds[i % seeds.len()];
            let input = mutated(seed, &seeds, &mut numbers);
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
fn every_corpus_has_a_target() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(fuzz_targets::target(&name).is_some(), "{name}");
    }
}
