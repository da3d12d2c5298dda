//! Watches the files of the configuration, and decides when they are read again.

use std::{collections::BTreeMap, path::PathBuf};

use passticket_proxy::config::{FileVersion, SourceFiles};

/// The versions of files. `None` means that there is no file.
type Versions = BTreeMap<PathBuf, Option<FileVersion>>;

/// The files, and the results of the last polls.
pub(crate) struct Watch {
    /// The versions at the last poll. Its keys are the files to watch.
    last: Versions,
    /// The versions that were read without a problem.
    read: Versions,
    /// The last reported problems, and the versions of the files that had them. While the problems and the versions
    /// stay the same, [`poll`](Self::poll) does not report the problems again.
    reported: Option<(Versions, Vec<String>)>,
}

/// The result of a poll.
#[derive(Debug)]
pub(crate) enum Polled<T> {
    /// The files were already read without a problem, or their problems were already reported.
    Nothing,
    /// A file may still be changing. Poll again.
    Changing,
    Read(T, SourceFiles),
    Problems(Vec<String>),
}

impl Watch {
    /// Watches the files of a configuration that was read without a problem.
    pub(crate) fn new(read: &SourceFiles) -> Self {
        let read: Versions =
            read.versions().map(|(path, version)| (path.to_owned(), version)).collect();
        Self { last: read.clone(), read, reported: None }
    }

    /// Reads the files now, unless their current versions were already read without a problem. Call this function if
    /// the operator requests a reload. With the request, the operator says that the files are complete, so this
    /// function does not wait for a second poll. It also reports a problem that an earlier poll has reported.
    pub(crate) fn poll_now<T>(
        &mut self,
        read: impl FnOnce() -> (Result<T, Vec<String>>, SourceFiles),
    ) -> Polled<T> {
        self.last = self.now();
        self.reported = None;
        self.poll(read)
    }

    /// Reads the files, unless their current versions were already read without a problem.
    ///
    /// Another program may be writing a file, and the first half of a file may be valid YAML. Another program may also
    /// replace several files, such as a certificate and its key. So this function reads the files only if none of them
    /// has changed since the last poll. If a file changes during the read, the result is dropped.
    pub(crate) fn poll<T>(
        &mut self,
        read: impl FnOnce() -> (Result<T, Vec<String>>, SourceFiles),
    ) -> Polled<T> {
        let now = self.now();
        let is_stable = now == self.last;
        self.last = now;
        if !is_stable {
            return Polled::Changing;
        }
        if self.last == self.read {
            return Polled::Nothing;
        }
        let (result, files) = read();
        if !files.are_current() || self.now() != self.last {
            self.last = self.now();
            return Polled::Changing;
        }
        match result {
            Ok(result) => {
                *self = Self::new(&files);
                Polled::Read(result, files)
            }
            Err(problems) => {
                // Files that this read has found are watched, too, although it had problems.
                self.last
                    .extend(files.versions().map(|(path, version)| (path.to_owned(), version)));
                let report = Some((self.last.clone(), problems.clone()));
                if self.reported == report {
                    return Polled::Nothing;
                }
                self.reported = report;
                Polled::Problems(problems)
            }
        }
    }

    fn now(&self) -> Versions {
        self.last.keys().map(|path| (path.clone(), FileVersion::of(path))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
        path::{Path, PathBuf},
        time::{Duration, Instant},
    };

    use passticket_proxy::config::Config;

    use super::*;

    const GOOD: &str = "safAccess:\n  ZOWE:\n    A:\n      READ: [USER]\n    B:\n";
    /// The first half of [`GOOD`].
    const HALF: &str = "safAccess:\n  ZOWE:\n    A:\n      READ: [USER]\n";

    /// Reads a configuration that has only permissions, and returns the problems of the permissions. Problems about
    /// other settings, which this configuration lacks, are left out.
    fn read(zowe_yaml: &Path) -> (Result<(), Vec<String>>, SourceFiles) {
        let (loaded, files) = Config::load_with_sources(zowe_yaml, &|_| None);
        let problems: Vec<_> = match loaded {
            Ok(_) => Vec::new(),
            Err(problems) => {
                problems.iter().map(ToString::to_string).filter(|it| it.contains("saf")).collect()
            }
        };
        (if problems.is_empty() { Ok(()) } else { Err(problems) }, files)
    }

    /// A permissions file in a temporary directory, and the watch of its configuration.
    struct Watched {
        path: PathBuf,
        zowe_yaml: PathBuf,
        watch: Watch,
        files: SourceFiles,
        _directory: tempfile::TempDir,
    }

    impl Watched {
        /// Writes [`GOOD`], and reads it.
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("saf.yml");
            let zowe_yaml = directory.path().join("zowe.yaml");
            fs::write(&zowe_yaml, "components:\n  passticket-proxy:\n    saf: saf.yml\n").unwrap();
            replace_file(&path, GOOD);
            let (result, files) = read(&zowe_yaml);
            result.unwrap();
            let watch = Watch::new(&files);
            let mut watched = Self { path, zowe_yaml, watch, files, _directory: directory };
            assert_eq!(watched.polls(3), ["nothing", "nothing", "nothing"]);
            watched
        }

        fn replace_file(&self, text: &str) {
            replace_file(&self.path, text);
        }

        fn set_mode(&self, mode: u32) {
            fs::set_permissions(&self.path, Permissions::from_mode(mode)).unwrap();
        }

        /// Returns a short text for the result. `1 new` means that the content of one file is new.
        fn describe(&mut self, polled: Polled<()>) -> String {
            match polled {
                Polled::Nothing => "nothing".to_owned(),
                Polled::Changing => "changing".to_owned(),
                Polled::Read((), files) => {
                    let text = format!("{} new", files.changed_since(&self.files).count());
                    self.files = files;
                    text
                }
                Polled::Problems(problems) => format!("{} problems", problems.len()),
            }
        }

        fn poll(&mut self) -> String {
            let zowe_yaml = self.zowe_yaml.clone();
            let polled = self.watch.poll(|| read(&zowe_yaml));
            self.describe(polled)
        }

        fn poll_now(&mut self) -> String {
            let zowe_yaml = self.zowe_yaml.clone();
            let polled = self.watch.poll_now(|| read(&zowe_yaml));
            self.describe(polled)
        }

        fn polls(&mut self, count: usize) -> Vec<String> {
            (0..count).map(|_| self.poll()).collect()
        }
    }

    /// Replaces the file by a new file with another inode. So the version changes even if the clock of the file system
    /// is too coarse to give the new file other time stamps.
    fn replace_file(path: &Path, text: &str) {
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(0o644)).unwrap();
        fs::rename(&new, path).unwrap();
    }

    #[test]
    fn a_changed_file_is_read_after_it_stays_the_same_for_two_polls() {
        let mut watched = Watched::new();
        watched.replace_file(HALF);
        assert_eq!(watched.poll(), "changing");
        watched.replace_file(GOOD);
        // The file has its first content again.
        assert_eq!(watched.polls(3), ["changing", "0 new", "nothing"]);
        watched.replace_file(HALF);
        assert_eq!(watched.polls(3), ["changing", "1 new", "nothing"]);
    }

    #[test]
    fn problems_are_reported_once() {
        let mut watched = Watched::new();
        watched.replace_file("safAccess: [");
        assert_eq!(watched.polls(4), ["changing", "1 problems", "nothing", "nothing"]);
        watched.replace_file("safAccess: []");
        assert_eq!(watched.polls(3), ["changing", "1 problems", "nothing"]);
        fs::remove_file(&watched.path).unwrap();
        assert_eq!(watched.polls(3), ["changing", "1 problems", "nothing"]);
        watched.replace_file(HALF);
        assert_eq!(watched.polls(3), ["changing", "1 new", "nothing"]);
    }

    #[test]
    fn a_request_reads_a_change_immediately_and_reports_a_problem_again() {
        let mut watched = Watched::new();
        assert_eq!(watched.poll_now(), "nothing");
        watched.replace_file(HALF);
        assert_eq!(watched.poll_now(), "1 new");
        assert_eq!(watched.polls(2), ["nothing", "nothing"]);
        watched.replace_file("safAccess: [");
        assert_eq!(watched.poll_now(), "1 problems");
        assert_eq!(watched.polls(2), ["nothing", "nothing"]);
        assert_eq!(watched.poll_now(), "1 problems");
    }

    #[test]
    fn a_change_between_the_first_read_and_the_first_poll_is_reported() {
        let mut watched = Watched::new();
        watched.watch = Watch::new(&watched.files);
        watched.replace_file(HALF);
        assert_eq!(watched.polls(2), ["changing", "1 new"]);
    }

    /// Each poll reads the file again, because a file can become readable without a change of its version.
    #[test]
    fn a_file_with_a_problem_is_read_again_at_each_poll() {
        let mut watched = Watched::new();
        watched.replace_file(HALF);
        // The gateway refuses a file that other users may write to, even if the test runs as root.
        watched.set_mode(0o646);
        assert_eq!(watched.polls(3), ["changing", "1 problems", "nothing"]);
        watched.set_mode(0o644);
        // Pretend that the file already had this mode at the last poll.
        watched.watch.last = watched.watch.now();
        assert_eq!(watched.polls(2), ["1 new", "nothing"]);
    }

    #[test]
    fn a_change_is_noticed_without_a_new_modification_time() {
        let mut watched = Watched::new();
        let before = FileVersion::of(&watched.path).unwrap();
        let modified = fs::metadata(&watched.path).unwrap().modified().unwrap();
        // Replace the file by a new file with the same length and modification time.
        watched.replace_file(&GOOD.replace("USER", "ROOT"));
        let file = File::options().write(true).open(&watched.path).unwrap();
        file.set_modified(modified).unwrap();
        let after = FileVersion::of(&watched.path).unwrap();
        assert_ne!(before, after);
        assert_eq!(watched.polls(2), ["changing", "1 new"]);
        // Change the same file again so that only its change time (ctime) differs. The loop repeats
        // the change until the clock of the file system has advanced.
        let deadline = Instant::now() + Duration::from_secs(10);
        while FileVersion::of(&watched.path) == Some(after) {
            assert!(Instant::now() < deadline, "the change time does not change");
            file.set_modified(modified).unwrap();
        }
        assert_eq!(watched.polls(2), ["changing", "0 new"]);
    }

    /// Kubernetes mounts the files of a volume as links: `saf.yml` to `..data/saf.yml`, and `..data` to a directory. To
    /// update the files, Kubernetes replaces only the link `..data`.
    #[test]
    fn a_replaced_link_to_the_directory_is_a_change_of_all_files() {
        let mut watched = Watched::new();
        let directory = watched._directory.path().to_owned();
        let version = |name: &str, text: &str| {
            fs::create_dir(directory.join(name)).unwrap();
            for file in ["saf.yml", "zowe.yaml"] {
                fs::copy(directory.join(file), directory.join(name).join(file)).unwrap();
            }
            replace_file(&directory.join(name).join("saf.yml"), text);
            symlink(name, directory.join("..new")).unwrap();
            fs::rename(directory.join("..new"), directory.join("..data")).unwrap();
        };
        version("..2026_1", GOOD);
        for file in ["saf.yml", "zowe.yaml"] {
            fs::remove_file(directory.join(file)).unwrap();
            symlink(Path::new("..data").join(file), directory.join(file)).unwrap();
        }
        assert_eq!(watched.polls(3), ["changing", "0 new", "nothing"]);
        version("..2026_2", HALF);
        fs::remove_dir_all(directory.join("..2026_1")).unwrap();
        assert_eq!(watched.polls(3), ["changing", "1 new", "nothing"]);
    }
}
