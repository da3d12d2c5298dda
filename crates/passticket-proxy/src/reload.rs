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

/// How soon a change is seen; it counts at the look after that.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Gives `saf` what `file` says, whenever it says something else. A file that is wrong or gone
/// changes nothing: who may do what stays as it was, and the log says what is wrong.
pub(crate) async fn permissions(file: PathBuf, saf: FileSaf) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut watch = Watch::default();
    loop {
        looks.tick().await;
        let path = file.clone();
        // A file system may hang.
        let look = task::spawn_blocking(move || {
            let seen = watch.look(&path);
            (watch, seen)
        });
        let seen = match look.await {
            Ok((after, seen)) => {
                watch = after;
                seen
            }
            Err(error) => {
                tracing::error!(%error, "permissions stay as they were");
                // What it knew is lost with it: the next look is a first one.
                watch = Watch::default();
                continue;
            }
        };
        match seen {
            Seen::Nothing => {}
            Seen::Permissions { profiles, is_change } => {
                if is_change {
                    let (file, profiles) = (file.display(), profiles.len());
                    tracing::info!(%file, profiles, "permissions read again");
                }
                saf.replace(profiles);
            }
            Seen::Problems(problems) => {
                for problem in problems.iter() {
                    tracing::error!(%problem, "permissions stay as they were");
                }
            }
        }
    }
}

/// What is known of a file.
#[derive(Default)]
struct Watch {
    /// What it was at the first look: what the configuration was read from, or so it seems.
    first: Option<Option<Version>>,
    /// What it was at the last look.
    last: Option<Option<Version>>,
    /// What has been read, with success.
    read: Option<Version>,
    /// What has been complained of, so that it is not again at every look.
    told: Option<(Option<Version>, Problems)>,
}

/// What is new about it.
#[derive(Debug)]
enum Seen {
    Nothing,
    Permissions {
        profiles: Vec<Profile>,
        /// Not so when the configuration has had them already.
        is_change: bool,
    },
    Problems(Problems),
}

impl Watch {
    /// Reads the file unless this version of it has been read. Whoever writes it in place can be
    /// half through, and what is there by then may be good YAML: so it is read when it was the same
    /// at the look before, and counts if it is the same after that.
    fn look(&mut self, path: &Path) -> Seen {
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
                (self.read, self.told) = (now, None);
                Seen::Permissions { profiles, is_change }
            }
            Err(problems) => {
                let telling = Some((now, problems.clone()));
                if self.told == telling {
                    return Seen::Nothing;
                }
                self.told = telling;
                Seen::Problems(problems)
            }
        }
    }
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    len: u64,
    /// Seconds and nanoseconds: of the content, and of anything about it. The second one nobody can
    /// set back.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    /// `None` if it is gone.
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
    /// Cut at a line boundary.
    const HALF: &str = "safAccess:\n  ZOWE:\n    A:\n      READ: [USER]\n";

    fn said(seen: &Seen) -> String {
        match seen {
            Seen::Nothing => "nothing".to_owned(),
            Seen::Permissions { profiles, is_change: true } => format!("{} new", profiles.len()),
            Seen::Permissions { profiles, is_change: false } => format!("{} known", profiles.len()),
            Seen::Problems(problems) => format!("{} problems", problems.iter().len()),
        }
    }

    /// A file, and what `look` says of it.
    struct Watched {
        path: PathBuf,
        watch: Watch,
        _directory: tempfile::TempDir,
    }

    impl Watched {
        /// After the looks that read it for the first time.
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("saf.yml");
            let mut watched = Self { path, watch: Watch::default(), _directory: directory };
            watched.rename(GOOD);
            assert_eq!(watched.looks(3), ["nothing", "2 known", "nothing"]);
            watched
        }

        /// Another file in its place: another inode, whatever the clock of the file system does.
        fn rename(&self, text: &str) {
            let new = self.path.with_extension("new");
            fs::write(&new, text).unwrap();
            fs::set_permissions(&new, Permissions::from_mode(0o644)).unwrap();
            // The old one lives until then, so its inode is not used again.
            let old = File::open(&self.path);
            fs::rename(&new, &self.path).unwrap();
            drop(old);
        }

        fn mode(&self, mode: u32) {
            fs::set_permissions(&self.path, Permissions::from_mode(mode)).unwrap();
        }

        fn look(&mut self) -> String {
            said(&self.watch.look(&self.path))
        }

        fn looks(&mut self, count: usize) -> Vec<String> {
            (0..count).map(|_| self.look()).collect()
        }
    }

    #[test]
    fn a_change_counts_when_two_looks_agree() {
        let mut watched = Watched::new();
        watched.rename(HALF);
        assert_eq!(watched.look(), "nothing");
        // It was half-written.
        watched.rename(GOOD);
        assert_eq!(watched.looks(3), ["nothing", "2 new", "nothing"]);
        watched.rename("safAccess: [");
        assert_eq!(watched.looks(4), ["nothing", "1 problems", "nothing", "nothing"]);
        fs::remove_file(&watched.path).unwrap();
        assert_eq!(watched.looks(3), ["nothing", "1 problems", "nothing"]);
        watched.rename(HALF);
        assert_eq!(watched.looks(3), ["nothing", "1 new", "nothing"]);
    }

    #[test]
    fn what_changes_before_the_first_reading_is_a_change() {
        let mut watched = Watched::new();
        watched.watch = Watch::default();
        assert_eq!(watched.look(), "nothing");
        watched.rename(HALF);
        assert_eq!(watched.looks(2), ["nothing", "1 new"]);
    }

    /// Nothing about the file need show that it can be read now.
    #[test]
    fn what_could_not_be_read_is_tried_at_every_look() {
        let mut watched = Watched::new();
        watched.rename(HALF);
        // Not to be read, and not for want of a right that root would have.
        watched.mode(0o646);
        assert_eq!(watched.looks(3), ["nothing", "1 problems", "nothing"]);
        watched.mode(0o644);
        // As if it had been so at the look before.
        watched.watch.last = Some(Version::of(&watched.path));
        watched.watch.told.as_mut().unwrap().0 = Version::of(&watched.path);
        assert_eq!(watched.looks(2), ["1 new", "nothing"]);
    }

    #[test]
    fn a_file_that_looks_older_is_another_one() {
        let mut watched = Watched::new();
        let before = Version::of(&watched.path).unwrap();
        let modified = fs::metadata(&watched.path).unwrap().modified().unwrap();
        // The same length and time of change.
        watched.rename(&GOOD.replace("USER", "ROOT"));
        let file = File::options().write(true).open(&watched.path).unwrap();
        file.set_modified(modified).unwrap();
        let after = Version::of(&watched.path).unwrap();
        assert_eq!((before.len, before.modified), (after.len, after.modified));
        assert_ne!(before, after);
        assert_eq!(watched.looks(2), ["nothing", "2 new"]);
        // The same inode, too. The clock of the file system may take some time for a tick.
        let deadline = Instant::now() + Duration::from_secs(10);
        while Version::of(&watched.path) == Some(after) {
            assert!(Instant::now() < deadline, "nothing tells that it was touched");
            file.set_modified(modified).unwrap();
        }
        assert_eq!(watched.looks(2), ["nothing", "2 new"]);
    }
}
