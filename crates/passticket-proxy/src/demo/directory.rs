//! The directory of the demo. The demo overwrites only files that it has made itself.
//!
//! A list in the directory contains the SHA-256 hash of each file that the demo wrote. The list has the format of
//! `sha256sum`. The demo writes a file only if the file is missing, or if its hash is in the list. The demo adds the
//! hash to the list before it writes the file. So if the demo is killed between these two steps, it still recognizes
//! its own files at the next start.

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

const LIST: &str = "demo-files.sha256";

#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    /// Mode 600: only the owner can read the file.
    Owner,
    /// Mode 644: other users can also read the file, if they can access the directory.
    Public,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    #[error("--data-dir: {} is a file; give a directory", .0.display())]
    NotADirectory(PathBuf),
    #[error(
        "{} was not made by the demo, so the demo does not overwrite it; move the file away, or give \
         another directory with --data-dir",
        .0.display()
    )]
    NotMadeByDemo(PathBuf),
    #[error(
        "{} was changed since the demo made it, and the demo does not overwrite it; to run with \
         this change, use serve --config; to run the demo, delete the file, or give another \
         directory with --data-dir",
        .0.display()
    )]
    Changed(PathBuf),
    #[error("{} is damaged; delete the directory, or give another one with --data-dir", .0.display())]
    Damaged(PathBuf),
    #[error("cannot read or write {}: {source}", path.display())]
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
            | DemoError::NotMadeByDemo(_)
            | DemoError::Changed(_)
            | DemoError::Damaged(_) => Self::usage(error),
            DemoError::Io { .. } | DemoError::Content { .. } => Self::runtime(error),
        }
    }
}

pub(super) struct DemoDirectory {
    path: PathBuf,
    /// For each file that the demo made: the hash of the newest content, and the hash of the content before it, if
    /// there was one.
    hashes: BTreeMap<String, BTreeSet<String>>,
}

impl DemoDirectory {
    /// Makes the directory and its subdirectories, if they are missing, and reads the list.
    pub(super) fn open(path: &Path, subdirectories: &[&str]) -> Result<Self, DemoError> {
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_dir()) {
            return Err(DemoError::NotADirectory(path.to_owned()));
        }
        let subdirectories = subdirectories.iter().map(|name| path.join(name));
        for directory in [path.to_owned()].into_iter().chain(subdirectories) {
            if fs::metadata(&directory).is_ok_and(|metadata| !metadata.is_dir()) {
                return Err(DemoError::NotMadeByDemo(directory));
            }
            let created = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
            created.map_err(DemoError::io(&directory))?;
        }
        let path = path.canonicalize().map_err(DemoError::io(path))?;
        let hashes = read_list(&path.join(LIST))?;
        Ok(Self { path, hashes })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Returns whether all of these files exist.
    ///
    /// # Errors
    /// [`DemoError::NotMadeByDemo`] if one of the files exists, but the demo did not make it.
    pub(super) fn has_all(&self, names: &[String]) -> Result<bool, DemoError> {
        let mut all = true;
        for name in names {
            all &= self.has(name)?;
        }
        Ok(all)
    }

    /// Makes a file if it is missing. Does not change an existing file, so that the user can edit it.
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

    /// Writes a file. An existing file is overwritten only if the demo made it and the user has not edited it. In all
    /// other cases, an existing file is an error. Other processes never see an incomplete file, or a file with the
    /// wrong access mode.
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
            if !self.hashes.get(name).is_some_and(|known| known.contains(&present)) {
                return Err(DemoError::Changed(path));
            }
            hashes.insert(present);
        }
        if self.hashes.get(name) != Some(&hashes) {
            self.hashes.insert(name.to_owned(), hashes);
            self.replace(&self.path(LIST), Access::Owner, &self.list())?;
        }
        self.replace(&path, access, content)
    }

    /// Returns whether this file exists. It is an error if the file exists but the demo did not make it.
    fn has(&self, name: &str) -> Result<bool, DemoError> {
        let path = self.path(name);
        match fs::symlink_metadata(&path) {
            Ok(_) if self.hashes.contains_key(name) => Ok(true),
            Ok(_) => Err(DemoError::NotMadeByDemo(path)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(DemoError::io(&path)(error)),
        }
    }

    fn list(&self) -> String {
        let lines = |(name, hashes): (&String, &BTreeSet<String>)| {
            hashes.iter().map(|hash| format!("{hash}  {name}\n")).collect::<String>()
        };
        self.hashes.iter().map(lines).collect()
    }

    /// Writes a new file, and renames it to `path`.
    fn replace(&self, path: &Path, access: Access, content: &str) -> Result<(), DemoError> {
        let new = self.path(&format!(".demo-new-{}", process::id()));
        let mode = match access {
            Access::Owner => 0o600,
            Access::Public => 0o644,
        };
        let written = || {
            // A demo that was killed may have left a file with this name. The name contains the process id, but in a
            // container each demo may have the same process id.
            match fs::remove_file(&new) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
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
    let mut hashes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(hashes),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err(DemoError::Damaged(path.to_owned()));
        }
        Err(error) => return Err(DemoError::io(path)(error)),
    };
    for line in text.lines() {
        let (hash, name) =
            line.split_once("  ").ok_or_else(|| DemoError::Damaged(path.to_owned()))?;
        hashes.entry(name.to_owned()).or_default().insert(hash.to_owned());
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn open(directory: &TempDir) -> DemoDirectory {
        DemoDirectory::open(directory.path(), &["subdirectory"]).unwrap()
    }

    #[test]
    fn only_files_of_the_demo_are_overwritten() {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        let read = |name: &str| fs::read_to_string(path(name)).unwrap();
        let mut demo = open(&directory);
        demo.write("subdirectory/a", Access::Public, "one").unwrap();
        demo.make_once("b", || Ok("once".to_owned())).unwrap();
        demo.write("subdirectory/a", Access::Public, "two").unwrap();
        assert_eq!((read("subdirectory/a").as_str(), read("b").as_str()), ("two", "once"));

        // At the next start, the demo recognizes the files that it made.
        let mut demo = open(&directory);
        demo.write("subdirectory/a", Access::Public, "three").unwrap();
        fs::write(path("b"), "mine").unwrap();
        demo.make_once("b", || panic!("the demo must not make a file that exists")).unwrap();
        assert_eq!(read("b"), "mine");

        fs::write(path("subdirectory/a"), "mine").unwrap();
        let error = demo.write("subdirectory/a", Access::Public, "four").unwrap_err();
        assert!(matches!(error, DemoError::Changed(_)), "{error}");
        fs::write(path("c"), "mine").unwrap();
        for error in [
            demo.write("c", Access::Public, "four").unwrap_err(),
            demo.make_once("c", || Ok("four".to_owned())).unwrap_err(),
            demo.has_all(&["c".to_owned()]).unwrap_err(),
        ] {
            assert!(matches!(error, DemoError::NotMadeByDemo(_)), "{error}");
        }
        assert_eq!((read("subdirectory/a").as_str(), read("c").as_str()), ("mine", "mine"));
    }

    #[test]
    fn the_demo_can_write_a_file_again_after_it_was_killed_during_a_write() {
        let directory = TempDir::new().unwrap();
        let mut demo = open(&directory);
        demo.write("a", Access::Public, "one").unwrap();
        // Adds the hash of `content` to the list, but does not write the file. A killed demo may leave this
        // state.
        let list_only = |content: &str| {
            let line = format!("{}  a\n", hash(content.as_bytes()));
            let list = directory.path().join(LIST);
            fs::write(&list, fs::read_to_string(&list).unwrap() + &line).unwrap();
        };
        list_only("two");
        open(&directory).write("a", Access::Public, "three").unwrap();
        list_only("four");
        fs::write(directory.path().join("a"), "four").unwrap();
        open(&directory).write("a", Access::Public, "five").unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("a")).unwrap(), "five");
    }

    #[test]
    fn a_temporary_file_that_a_killed_demo_left_is_replaced() {
        let directory = TempDir::new().unwrap();
        let left = directory.path().join(format!(".demo-new-{}", process::id()));
        fs::write(&left, "half").unwrap();
        open(&directory).write("a", Access::Public, "whole").unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("a")).unwrap(), "whole");
        assert!(!left.exists());
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
