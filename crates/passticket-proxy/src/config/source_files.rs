//! Records the files that a configuration was read from. The program watches them, and reads the configuration again
//! when one of them changes (docs/decisions.md#d30).

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs::{self, Metadata},
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// The files and directories that a configuration was read from, including those that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFiles(BTreeMap<PathBuf, SourceFile>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SourceFile {
    /// `None` if there was no file at the path.
    version: Option<FileVersion>,
    content: Option<ContentHash>,
}

/// A hash of the content of a file. The key of the hash is random and exists only in this process. So a person who sees
/// the hash of a secret file cannot use it to check guesses of the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ContentHash(u64);

impl ContentHash {
    fn of(content: &[u8]) -> Self {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(KEY.hash_one(content))
    }
}

/// The version of a file: attributes that change when the file changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVersion {
    device: u64,
    inode: u64,
    len: u64,
    /// The time of the last change of the content (mtime). The two numbers are seconds and nanoseconds.
    modified: (i64, i64),
    /// The time of the last change of the content or the attributes (ctime). Programs cannot set this time.
    changed: (i64, i64),
}

impl FileVersion {
    /// Returns the version of the file at `path`, or `None` if there is no file. A symbolic link has the version of its
    /// target.
    pub fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for FileVersion {
    #[cfg(unix)]
    fn from(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;

        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    #[cfg(not(unix))]
    fn from(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().and_then(|time| {
            let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
            Some((i64::try_from(since.as_secs()).ok()?, i64::from(since.subsec_nanos())))
        });
        let modified = modified.unwrap_or_default();
        Self { device: 0, inode: 0, len: metadata.len(), modified, changed: modified }
    }
}

impl SourceFiles {
    /// Returns the paths, sorted, and the version of each file when it was read. The version is `None` if there was no
    /// file at the path.
    pub fn versions(&self) -> impl Iterator<Item = (&Path, Option<FileVersion>)> {
        self.0.iter().map(|(path, file)| (path.as_path(), file.version))
    }

    /// Returns whether each file still has the version that it had when it was read.
    pub fn are_current(&self) -> bool {
        self.0.iter().all(|(path, file)| FileVersion::of(path) == file.version)
    }

    /// Returns the files whose content differs from `before`, and the files that only one of the two lists has.
    pub fn changed_since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a Path> {
        let content = |files: &Self, path: &PathBuf| files.0.get(path).map(|file| file.content);
        let removed = before.0.keys().filter(|path| !self.0.contains_key(*path));
        let changed =
            self.0.keys().filter(move |path| content(self, path) != content(before, path));
        changed.chain(removed).map(PathBuf::as_path)
    }
}

thread_local! {
    // The function that opens a file also records it here. If its many callers had to record the files, a caller could
    // forget one.
    static RECORDED: RefCell<Option<SourceFiles>> = const { RefCell::new(None) };
}

/// Calls `read`. Also returns the files that `read` has read, or could not read, in this thread.
pub(super) fn record_while<T>(read: impl FnOnce() -> T) -> (T, SourceFiles) {
    RECORDED.set(Some(SourceFiles::default()));
    let result = read();
    (result, RECORDED.take().unwrap_or_default())
}

pub(super) fn record_file(path: &Path, opened: &Metadata, content: &[u8]) {
    let (version, content) = (Some(opened.into()), Some(ContentHash::of(content)));
    record(path, SourceFile { version, content });
}

/// Records a file that could not be read, or must not be read.
pub(super) fn record_unread(path: &Path) {
    record(path, SourceFile { version: FileVersion::of(path), content: None });
}

/// Records a directory whose list of files was read.
pub(super) fn record_directory(path: &Path, files: &[PathBuf]) {
    let names: Vec<_> = files
        .iter()
        .filter_map(|file| file.file_name())
        .map(|name| name.as_encoded_bytes())
        .collect();
    // No name of a file contains a slash.
    let content = Some(ContentHash::of(&names.join(&b'/')));
    record(path, SourceFile { version: FileVersion::of(path), content });
}

fn record(path: &Path, file: SourceFile) {
    RECORDED.with_borrow_mut(|recorded| {
        if let Some(SourceFiles(files)) = recorded {
            files.insert(path.to_owned(), file);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(now: &SourceFiles, before: &SourceFiles) -> Vec<String> {
        let changed = now.changed_since(before);
        changed.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn changes_are_found_by_content() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let read = |names: &[&str]| {
            let record = || {
                for name in names {
                    match fs::read(at(name)) {
                        Ok(content) => {
                            record_file(&at(name), &fs::metadata(at(name)).unwrap(), &content);
                        }
                        Err(_) => record_unread(&at(name)),
                    }
                }
            };
            record_while(record).1
        };
        fs::write(at("a"), "1").unwrap();
        fs::write(at("b"), "1").unwrap();
        let before = read(&["a", "b", "missing"]);
        assert!(before.are_current());
        // A new file with the same content has a new version, but counts as unchanged.
        fs::write(at("new"), "1").unwrap();
        fs::rename(at("new"), at("a")).unwrap();
        assert!(!before.are_current());
        assert_eq!(changed(&read(&["a", "b", "missing"]), &before), [""; 0]);
        fs::write(at("a"), "2").unwrap();
        fs::write(at("missing"), "").unwrap();
        assert_eq!(changed(&read(&["a", "missing"]), &before), ["a", "missing", "b"]);
    }

    #[test]
    fn files_are_recorded_only_while_a_configuration_is_read() {
        record_unread(Path::new("before"));
        let ((), files) = record_while(|| record_unread(Path::new("a")));
        record_unread(Path::new("after"));
        assert_eq!(files.versions().collect::<Vec<_>>(), [(Path::new("a"), None)]);
    }
}
