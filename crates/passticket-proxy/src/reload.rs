//! Reads the file of permissions again when it changes.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use passticket_proxy::config::{Problems, read_permissions};
use tokio::task;
use tower_passticket::saf::{FileSaf, Profile};

/// The interval of polling. A change takes effect at the second poll after it.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// Gives `saf` the permissions of `file` whenever the file changes. If the file has a problem or is
/// missing, the permissions stay as they are, and the log has the problem.
pub(crate) async fn permissions(file: PathBuf, saf: FileSaf) {
    let mut polls = tokio::time::interval(POLL_EVERY);
    let mut watch = Watch::default();
    loop {
        polls.tick().await;
        let path = file.clone();
        // A file system can hang.
        let poll = task::spawn_blocking(move || {
            let seen = watch.poll(&path);
            (watch, seen)
        });
        let seen = match poll.await {
            Ok((after, seen)) => {
                watch = after;
                seen
            }
            Err(error) => {
                tracing::error!(%error, "permissions not reloaded");
                // The state of the watch is lost.
                watch = Watch::default();
                continue;
            }
        };
        match seen {
            Seen::Nothing => {}
            Seen::Permissions { profiles, is_change } => {
                if is_change {
                    let (file, profiles) = (file.display(), profiles.len());
                    tracing::info!(%file, profiles, "permissions reloaded");
                }
                saf.replace(profiles);
            }
            Seen::Problems(problems) => {
                for problem in problems.iter() {
                    tracing::error!(%problem, "permissions not reloaded");
                }
            }
        }
    }
}

/// The state of watching a file.
#[derive(Default)]
struct Watch {
    /// The version at the first poll: most likely the one that the configuration was read from.
    first: Option<Option<Version>>,
    /// The version at the last poll.
    last: Option<Option<Version>>,
    /// The last version that was read without a problem.
    read: Option<Version>,
    /// The last problems, which are not reported again at each poll.
    reported: Option<(Option<Version>, Problems)>,
}

/// The result of a poll.
#[derive(Debug)]
enum Seen {
    Nothing,
    Permissions {
        profiles: Vec<Profile>,
        /// False if the configuration already has them.
        is_change: bool,
    },
    Problems(Problems),
}

impl Watch {
    /// Reads the file unless this version was read before. A program that writes the file in place
    /// may be half done, and the first half may be valid YAML. So the file is read only if it did not
    /// change since the last poll, and the result is dropped if it changed meanwhile.
    fn poll(&mut self, path: &Path) -> Seen {
        let now = Version::of(path);
        let before = self.last.replace(now);
        self.first.get_or_insert(now);
        if before != Some(now) || (now.is_some() && now == self.read) {
            return Seen::Nothing;
        }
        let read = read_permissions(path);
        let after = Version::of(path);
        if after != now {
            self.last = Some(after);
            return Seen::Nothing;
        }
        match read {
            Ok(profiles) => {
                let is_change = self.read.is_some() || self.first != Some(now);
                (self.read, self.reported) = (now, None);
                Seen::Permissions { profiles, is_change }
            }
            Err(problems) => {
                let report = Some((now, problems.clone()));
                if self.reported == report {
                    return Seen::Nothing;
                }
                self.reported = report;
                Seen::Problems(problems)
            }
        }
    }
}

/// Attributes that change when a file changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    len: u64,
    /// The time of the last change of the content, in seconds and nanoseconds.
    modified: (i64, i64),
    /// The time of the last change of content or attributes. No program can set it back.
    changed: (i64, i64),
}

impl Version {
    /// `None` if there is no file.
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
    /// Its first half.
    const HALF: &str = "safAccess:\n  ZOWE:\n    A:\n      READ: [USER]\n";

    fn describe(seen: &Seen) -> String {
        match seen {
            Seen::Nothing => "nothing".to_owned(),
            Seen::Permissions { profiles, is_change: true } => format!("{} new", profiles.len()),
            Seen::Permissions { profiles, is_change: false } => format!("{} known", profiles.len()),
            Seen::Problems(problems) => format!("{} problems", problems.iter().len()),
        }
    }

    /// A file that is watched.
    struct Watched {
        path: PathBuf,
        watch: Watch,
        _directory: tempfile::TempDir,
    }

    impl Watched {
        /// After the polls that read it for the first time.
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("saf.yml");
            let mut watched = Self { path, watch: Watch::default(), _directory: directory };
            watched.rename(GOOD);
            assert_eq!(watched.polls(3), ["nothing", "2 known", "nothing"]);
            watched
        }

        /// Puts another file in its place, with another inode. The clock of the file system may be
        /// too coarse to show a change.
        fn rename(&self, text: &str) {
            let new = self.path.with_extension("new");
            fs::write(&new, text).unwrap();
            fs::set_permissions(&new, Permissions::from_mode(0o644)).unwrap();
            // The old file stays open until then, so that its inode is not reused.
            let old = File::open(&self.path);
            fs::rename(&new, &self.path).unwrap();
            drop(old);
        }

        fn mode(&self, mode: u32) {
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
        watched.rename(HALF);
        assert_eq!(watched.poll(), "nothing");
        // It was half-written.
        watched.rename(GOOD);
        assert_eq!(watched.polls(3), ["nothing", "2 new", "nothing"]);
        watched.rename("safAccess: [");
        assert_eq!(watched.polls(4), ["nothing", "1 problems", "nothing", "nothing"]);
        fs::remove_file(&watched.path).unwrap();
        assert_eq!(watched.polls(3), ["nothing", "1 problems", "nothing"]);
        watched.rename(HALF);
        assert_eq!(watched.polls(3), ["nothing", "1 new", "nothing"]);
    }

    #[test]
    fn a_change_before_the_first_read_is_a_change() {
        let mut watched = Watched::new();
        watched.watch = Watch::default();
        assert_eq!(watched.poll(), "nothing");
        watched.rename(HALF);
        assert_eq!(watched.polls(2), ["nothing", "1 new"]);
    }

    /// A file that becomes readable may show no other change.
    #[test]
    fn a_file_that_could_not_be_read_is_read_again_at_each_poll() {
        let mut watched = Watched::new();
        watched.rename(HALF);
        // Refused because of its mode, for root as well.
        watched.mode(0o646);
        assert_eq!(watched.polls(3), ["nothing", "1 problems", "nothing"]);
        watched.mode(0o644);
        // As if the mode had been this one at the last poll.
        watched.watch.last = Some(Version::of(&watched.path));
        watched.watch.reported.as_mut().unwrap().0 = Version::of(&watched.path);
        assert_eq!(watched.polls(2), ["1 new", "nothing"]);
    }

    #[test]
    fn a_file_with_an_old_time_is_a_change() {
        let mut watched = Watched::new();
        let before = Version::of(&watched.path).unwrap();
        let modified = fs::metadata(&watched.path).unwrap().modified().unwrap();
        // With the same length and modification time.
        watched.rename(&GOOD.replace("USER", "ROOT"));
        let file = File::options().write(true).open(&watched.path).unwrap();
        file.set_modified(modified).unwrap();
        let after = Version::of(&watched.path).unwrap();
        assert_eq!((before.len, before.modified), (after.len, after.modified));
        assert_ne!(before, after);
        assert_eq!(watched.polls(2), ["nothing", "2 new"]);
        // With the same inode, too. The clock of the file system may be coarse.
        let deadline = Instant::now() + Duration::from_secs(10);
        while Version::of(&watched.path) == Some(after) {
            assert!(Instant::now() < deadline, "the change time does not change");
            file.set_modified(modified).unwrap();
        }
        assert_eq!(watched.polls(2), ["nothing", "2 new"]);
    }
}
