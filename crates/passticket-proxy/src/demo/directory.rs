//! The directory of the demo. The demo overwrites only the files that it made.
//!
//! A list in the directory has the SHA-256 of each file that the demo wrote, in the format of
//! `sha256sum`. The demo writes a file if there is none, or if its content is what the demo wrote.
//! An entry is listed before its file is written, so that a demo that is killed in between finds
//! its own files.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
};

use sha2::{Digest, Sha256};

use crate::exit::Exit;

/// The file with the list.
const LIST: &str = "demo-files.sha256";

/// The access to a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    /// Only its owner can read it.
    Owner,
    /// Every user of the system can read it.
    Public,
}

/// Why the demo cannot make its files.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    #[error("--data-dir: {} is a file; give a directory", .0.display())]
    NotADirectory(PathBuf),
    #[error(
        "{} was not made by the demo, which does not overwrite it; move the file away, or give \
         another directory with --data-dir",
        .0.display()
    )]
    Foreign(PathBuf),
    #[error(
        "{} was changed since the demo made it, and the demo does not overwrite it; to run with \
         this change, use serve --config; to run the demo, delete the file, or give another \
         directory with --data-dir",
        .0.display()
    )]
    Changed(PathBuf),
    #[error("{} is damaged; delete the directory, or give another one with --data-dir", .0.display())]
    Damaged(PathBuf),
    #[error("cannot use {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot make {name}: {source}")]
    Content { name: String, source: Box<dyn Error> },
}

impl DemoError {
    fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<'_> {
        |source| Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn content<E: Into<Box<dyn Error>>>(name: &str) -> impl Fn(E) -> Self + use<'_, E> {
        |source| Self::Content { name: name.to_owned(), source: source.into() }
    }
}

impl From<DemoError> for Exit {
    fn from(error: DemoError) -> Self {
        match error {
            DemoError::NotADirectory(_)
            | DemoError::Foreign(_)
            | DemoError::Changed(_)
            | DemoError::Damaged(_) => Self::usage(error),
            DemoError::Io { .. } | DemoError::Content { .. } => Self::runtime(error),
        }
    }
}

/// A directory whose files the demo writes.
pub(super) struct DemoDirectory {
    path: PathBuf,
    /// The hashes of each file that the demo wrote: of what it wrote, and of what it is writing.
    made: BTreeMap<String, BTreeSet<String>>,
}

impl DemoDirectory {
    /// Makes the directory and its `parts`, if they are missing, and reads its list.
    pub(super) fn open(path: &Path, parts: &[&str]) -> Result<Self, DemoError> {
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_dir()) {
            return Err(DemoError::NotADirectory(path.to_owned()));
        }
        for directory in
            [path.to_owned()].into_iter().chain(parts.iter().map(|part| path.join(part)))
        {
            if fs::metadata(&directory).is_ok_and(|metadata| !metadata.is_dir()) {
                return Err(DemoError::Foreign(directory));
            }
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
            made.map_err(DemoError::io(&directory))?;
        }
        let path = path.canonicalize().map_err(DemoError::io(path))?;
        let made = read_list(&path.join(LIST))?;
        Ok(Self { path, made })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether all of these files exist. One that the demo did not make is an error.
    pub(super) fn has_all(&self, names: &[String]) -> Result<bool, DemoError> {
        let mut all = true;
        for name in names {
            all &= self.has(name)?;
        }
        Ok(all)
    }

    /// Makes a file that is missing. Its content may change afterwards.
    pub(super) fn make_once(
        &mut self,
        name: &str,
        content: impl FnOnce() -> Result<String, Box<dyn Error>>,
    ) -> Result<(), DemoError> {
        if self.has(name)? {
            return Ok(());
        }
        let content = content().map_err(DemoError::content(name))?;
        self.write(name, Access::Owner, &content)
    }

    /// Writes a file, in place of the one that the demo made before. The file is never there in
    /// part, and never with another access.
    pub(super) fn write(
        &mut self,
        name: &str,
        access: Access,
        content: &str,
    ) -> Result<(), DemoError> {
        let path = self.path(name);
        let mut hashes = BTreeSet::from([hash(content.as_bytes())]);
        if self.has(name)? {
            let present = hash(&fs::read(&path).map_err(DemoError::io(&path))?);
            if !self.made.get(name).is_some_and(|made| made.contains(&present)) {
                return Err(DemoError::Changed(path));
            }
            hashes.insert(present);
        }
        if self.made.get(name) != Some(&hashes) {
            self.made.insert(name.to_owned(), hashes);
            self.replace(&self.path(LIST), Access::Owner, &self.list())?;
        }
        self.replace(&path, access, content)
    }

    fn has(&self, name: &str) -> Result<bool, DemoError> {
        let path = self.path(name);
        match fs::symlink_metadata(&path) {
            Ok(_) if self.made.contains_key(name) => Ok(true),
            Ok(_) => Err(DemoError::Foreign(path)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(DemoError::io(&path)(error)),
        }
    }

    fn list(&self) -> String {
        let lines = |(name, hashes): (&String, &BTreeSet<String>)| {
            hashes.iter().map(|hash| format!("{hash}  {name}\n")).collect::<String>()
        };
        self.made.iter().map(lines).collect()
    }

    fn replace(&self, path: &Path, access: Access, content: &str) -> Result<(), DemoError> {
        let new = self.path(&format!(".demo-new-{}", process::id()));
        let mode = match access {
            Access::Owner => 0o600,
            Access::Public => 0o644,
        };
        let written = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()
        };
        written().map_err(DemoError::io(&new))?;
        fs::rename(&new, path).map_err(DemoError::io(path))
    }
}

fn hash(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_list(path: &Path) -> Result<BTreeMap<String, BTreeSet<String>>, DemoError> {
    let mut made: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(made),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err(DemoError::Damaged(path.to_owned()));
        }
        Err(error) => return Err(DemoError::io(path)(error)),
    };
    for line in text.lines() {
        let (hash, name) =
            line.split_once("  ").ok_or_else(|| DemoError::Damaged(path.to_owned()))?;
        made.entry(name.to_owned()).or_default().insert(hash.to_owned());
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn open(directory: &TempDir) -> DemoDirectory {
        DemoDirectory::open(directory.path(), &["part"]).unwrap()
    }

    #[test]
    fn only_files_of_the_demo_are_overwritten() {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        let read = |name: &str| fs::read_to_string(path(name)).unwrap();
        let mut demo = open(&directory);
        demo.write("part/a", Access::Public, "one").unwrap();
        demo.make_once("b", || Ok("once".to_owned())).unwrap();
        demo.write("part/a", Access::Public, "two").unwrap();
        assert_eq!((read("part/a").as_str(), read("b").as_str()), ("two", "once"));

        // The next start knows them.
        let mut demo = open(&directory);
        demo.write("part/a", Access::Public, "three").unwrap();
        fs::write(path("b"), "mine").unwrap();
        demo.make_once("b", || panic!("it is there")).unwrap();
        assert_eq!(read("b"), "mine");

        fs::write(path("part/a"), "mine").unwrap();
        let error = demo.write("part/a", Access::Public, "four").unwrap_err();
        assert!(matches!(error, DemoError::Changed(_)), "{error}");
        fs::write(path("c"), "mine").unwrap();
        for error in [
            demo.write("c", Access::Public, "four").unwrap_err(),
            demo.make_once("c", || Ok("four".to_owned())).unwrap_err(),
            demo.has_all(&["c".to_owned()]).unwrap_err(),
        ] {
            assert!(matches!(error, DemoError::Foreign(_)), "{error}");
        }
        assert_eq!((read("part/a").as_str(), read("c").as_str()), ("mine", "mine"));
    }

    #[test]
    fn a_demo_that_was_killed_before_it_wrote_a_listed_file_can_go_on() {
        let directory = TempDir::new().unwrap();
        let mut demo = open(&directory);
        demo.write("a", Access::Public, "one").unwrap();
        let listed_only = |content: &str| {
            let line = format!("{}  a\n", hash(content.as_bytes()));
            let list = directory.path().join(LIST);
            fs::write(&list, fs::read_to_string(&list).unwrap() + &line).unwrap();
        };
        listed_only("two");
        open(&directory).write("a", Access::Public, "three").unwrap();
        listed_only("four");
        fs::write(directory.path().join("a"), "four").unwrap();
        open(&directory).write("a", Access::Public, "five").unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("a")).unwrap(), "five");
    }

    #[test]
    fn a_damaged_list_is_an_error() {
        let directory = TempDir::new().unwrap();
        for content in [&b"nonsense"[..], b"\xff"] {
            fs::write(directory.path().join(LIST), content).unwrap();
            let error = DemoDirectory::open(directory.path(), &[]).err().unwrap();
            assert!(matches!(error, DemoError::Damaged(_)), "{error}");
        }
    }
}
