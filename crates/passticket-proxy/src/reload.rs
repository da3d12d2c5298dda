//! Reloads the permissions file (`components.passticket-proxy.saf`) when it changes, and on SIGHUP.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use passticket_proxy::config::{Problems, read_permissions};
use tokio::{sync::Notify, task};
use tower_passticket::saf::{FileSaf, Profile};

/// Interval between two polls. After a change of the file, the first poll notices the change, and the second poll reads
/// the file.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// Replaces the permissions in `saf` whenever `file` changes. If `reload` is notified, the file is read immediately. If
/// the file has a problem or is missing, `saf` keeps its permissions, and the problem is logged. This function runs
/// until its task is aborted.
pub(crate) async fn permissions(file: PathBuf, saf: FileSaf, reload: Arc<Notify>) {
    let mut polls = tokio::time::interval(POLL_EVERY);
    let mut watch = Watch::default();
    loop {
        let is_requested = tokio::select! {
            _ = polls.tick() => false,
            () = reload.notified() => true,
        };
        let path = file.clone();
        // The poll runs on a thread for blocking work, because the file system may be slow, for example a network file
        // system.
        let poll = task::spawn_blocking(move || {
            let outcome = match is_requested {
                true => watch.poll_now(&path),
                false => watch.poll(&path),
            };
            (watch, outcome)
        });
        let outcome = match poll.await {
            Ok((updated, outcome)) => {
                watch = updated;
                outcome
            }
            Err(error) => {
                tracing::error!(%error, "permissions not reloaded");
                // The failed task owned the state of the watch, so a new watch begins.
                watch = Watch::default();
                continue;
            }
        };
        match outcome {
            Outcome::Nothing => {
                if is_requested {
                    let file = file.display();
                    tracing::info!(%file, "permissions not reloaded: the file has not changed");
                }
            }
            Outcome::Permissions { profiles, is_change } => {
                if is_change || is_requested {
                    let (file, profiles) = (file.display(), profiles.len());
                    tracing::info!(%file, profiles, "permissions reloaded");
                }
                saf.replace(profiles);
            }
            Outcome::Problems(problems) => {
                for problem in problems.iter() {
                    tracing::error!(%problem, "permissions not reloaded");
                }
            }
        }
    }
}

/// The results of the polls of a file.
///
/// In `first` and `last`, the outer option is `None` before the first poll. The inner option is `None` if
/// there was no file.
#[derive(Default)]
struct Watch {
    /// The version at the first poll. The configuration was most likely loaded from this version.
    first: Option<Option<Version>>,
    /// The version at the last poll.
    last: Option<Option<Version>>,
    /// The last version that was read without a problem.
    read: Option<Version>,
    /// The last reported problems, and the version of the file that had them. As long as the problems and the version
    /// stay the same, the next polls do not report the problems again.
    reported: Option<(Option<Version>, Problems)>,
}

/// The result of a poll.
#[derive(Debug)]
enum Outcome {
    Nothing,
    Permissions {
        profiles: Vec<Profile>,
        /// `false` if this is the first read, and the file did not change since the first poll. In this case, the
        /// configuration already has these permissions.
        is_change: bool,
    },
    Problems(Problems),
}

impl Watch {
    /// Reads the file now, unless this version was already read without a problem. This method is for a request of the
    /// operator. The operator has finished the file, so this method does not wait for a second poll. It reports a
    /// problem even if it has already reported it.
    fn poll_now(&mut self, path: &Path) -> Outcome {
        self.last = Some(Version::of(path));
        self.reported = None;
        self.poll(path)
    }

    /// Reads the file, unless this version was already read without a problem.
    ///
    /// Another program may be writing the file, and the first half of a file may be valid YAML. So
    /// this method reads the file only if the file did not change since the last poll. If the file
    /// changes during the read, the result is dropped.
    fn poll(&mut self, path: &Path) -> Outcome {
        let now = Version::of(path);
        let last = self.last.replace(now);
        self.first.get_or_insert(now);
        if last != Some(now) || (now.is_some() && now == self.read) {
            return Outcome::Nothing;
        }
        let read = read_permissions(path);
        let after = Version::of(path);
        if after != now {
            self.last = Some(after);
            return Outcome::Nothing;
        }
        match read {
            Ok(profiles) => {
                let is_change = self.read.is_some() || self.first != Some(now);
                (self.read, self.reported) = (now, None);
                Outcome::Permissions { profiles, is_change }
            }
            Err(problems) => {
                let report = Some((now, problems.clone()));
                if self.reported == report {
                    return Outcome::Nothing;
                }
                self.reported = report;
                Outcome::Problems(problems)
            }
        }
    }
}

/// The version of a file: attributes that change when the file changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    len: u64,
    /// The time of the last change of the content (mtime). The two numbers are seconds and nanoseconds.
    modified: (i64, i64),
    /// The time of the last change of the content or the attributes (ctime). Programs cannot set this time.
    changed: (i64, i64),
}

impl Version {
    /// Returns the version of the file at `path`, or `None` if there is no file.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{File, Permissions},
        os::unix::fs::PermissionsExt,
        time::Instant,
    };

    use super::*;

    const GOOD: &str = "safAccess:\n  ZOWE:\n    A:\n      READ: [USER]\n    B:\n";
    /// The first half of [`GOOD`].
    const HALF: &str = "safAccess:\n  ZOWE:\n    A:\n      READ: [USER]\n";

    /// Returns a short text for the outcome. `2 new` means that two profiles were read and that this is a change.
    fn describe(outcome: &Outcome) -> String {
        match outcome {
            Outcome::Nothing => "nothing".to_owned(),
            Outcome::Permissions { profiles, is_change: true } => format!("{} new", profiles.len()),
            Outcome::Permissions { profiles, is_change: false } => {
                format!("{} known", profiles.len())
            }
            Outcome::Problems(problems) => format!("{} problems", problems.iter().len()),
        }
    }

    /// A permissions file in a temporary directory, and its watch.
    struct Watched {
        path: PathBuf,
        watch: Watch,
        _directory: tempfile::TempDir,
    }

    impl Watched {
        /// Writes [`GOOD`], and polls until the watch has read it.
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("saf.yml");
            let mut watched = Self { path, watch: Watch::default(), _directory: directory };
            watched.replace_file(GOOD);
            assert_eq!(watched.polls(3), ["nothing", "2 known", "nothing"]);
            watched
        }

        /// Replaces the file by a new file with another inode. So the version changes even if the clock
        /// of the file system is too coarse to give the new file other time stamps.
        fn replace_file(&self, text: &str) {
            let new = self.path.with_extension("new");
            fs::write(&new, text).unwrap();
            fs::set_permissions(&new, Permissions::from_mode(0o644)).unwrap();
            fs::rename(&new, &self.path).unwrap();
        }

        fn set_mode(&self, mode: u32) {
            fs::set_permissions(&self.path, Permissions::from_mode(mode)).unwrap();
        }

        fn poll(&mut self) -> String {
            describe(&self.watch.poll(&self.path))
        }

        fn polls(&mut self, count: usize) -> Vec<String> {
            (0..count).map(|_| self.poll()).collect()
        }
    }

    #[test]
    fn a_change_takes_effect_when_two_polls_agree() {
        let mut watched = Watched::new();
        watched.replace_file(HALF);
        assert_eq!(watched.poll(), "nothing");
        // At the last poll, only the first half of the file was written. Now the file is complete.
        watched.replace_file(GOOD);
        assert_eq!(watched.polls(3), ["nothing", "2 new", "nothing"]);
        watched.replace_file("safAccess: [");
        assert_eq!(watched.polls(4), ["nothing", "1 problems", "nothing", "nothing"]);
        fs::remove_file(&watched.path).unwrap();
        assert_eq!(watched.polls(3), ["nothing", "1 problems", "nothing"]);
        watched.replace_file(HALF);
        assert_eq!(watched.polls(3), ["nothing", "1 new", "nothing"]);
    }

    #[test]
    fn a_requested_change_takes_effect_immediately() {
        let mut watched = Watched::new();
        let poll_now = |watched: &mut Watched| describe(&watched.watch.poll_now(&watched.path));
        assert_eq!(poll_now(&mut watched), "nothing");
        watched.replace_file(HALF);
        assert_eq!(poll_now(&mut watched), "1 new");
        assert_eq!(watched.polls(2), ["nothing", "nothing"]);
        watched.replace_file("safAccess: [");
        assert_eq!(poll_now(&mut watched), "1 problems");
        assert_eq!(watched.polls(2), ["nothing", "nothing"]);
        assert_eq!(poll_now(&mut watched), "1 problems");
    }

    #[test]
    fn a_change_between_the_first_poll_and_the_first_read_is_reported() {
        let mut watched = Watched::new();
        watched.watch = Watch::default();
        assert_eq!(watched.poll(), "nothing");
        watched.replace_file(HALF);
        assert_eq!(watched.polls(2), ["nothing", "1 new"]);
    }

    /// A file can become readable without a change of its [`Version`].
    #[test]
    fn a_file_with_a_problem_is_read_again_at_each_poll() {
        let mut watched = Watched::new();
        watched.replace_file(HALF);
        // The gateway refuses a file that other users may write to, even if the test runs as root.
        watched.set_mode(0o646);
        assert_eq!(watched.polls(3), ["nothing", "1 problems", "nothing"]);
        watched.set_mode(0o644);
        // Pretend that the file already had this mode at the last poll.
        watched.watch.last = Some(Version::of(&watched.path));
        watched.watch.reported.as_mut().unwrap().0 = Version::of(&watched.path);
        assert_eq!(watched.polls(2), ["1 new", "nothing"]);
    }

    #[test]
    fn a_change_is_noticed_without_a_new_modification_time() {
        let mut watched = Watched::new();
        let before = Version::of(&watched.path).unwrap();
        let modified = fs::metadata(&watched.path).unwrap().modified().unwrap();
        // Replace the file by a new file with the same length and modification time.
        watched.replace_file(&GOOD.replace("USER", "ROOT"));
        let file = File::options().write(true).open(&watched.path).unwrap();
        file.set_modified(modified).unwrap();
        let after = Version::of(&watched.path).unwrap();
        assert_eq!((before.len, before.modified), (after.len, after.modified));
        assert_ne!(before, after);
        assert_eq!(watched.polls(2), ["nothing", "2 new"]);
        // Change the same file again so that only its change time (ctime) differs. The loop repeats
        // the change until the clock of the file system has advanced.
        let deadline = Instant::now() + Duration::from_secs(10);
        while Version::of(&watched.path) == Some(after) {
            assert!(Instant::now() < deadline, "the change time does not change");
            file.set_modified(modified).unwrap();
        }
        assert_eq!(watched.polls(2), ["nothing", "2 new"]);
    }
}
