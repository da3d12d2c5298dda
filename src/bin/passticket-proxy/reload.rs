//! Reads the file of permissions again when it changes.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::task;
use tower_passticket::{config::read_permissions, saf::FileSaf};

/// How soon a change counts.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Gives `saf` what `file` says, whenever it says something else. A file that is wrong or gone
/// changes nothing: who may do what stays as it was, and the log says what is wrong.
pub(crate) async fn permissions(file: PathBuf, saf: FileSaf) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let (mut seen, mut first) = (None, true);
    loop {
        looks.tick().await;
        let (path, before) = (file.clone(), seen);
        // A file system may hang.
        let read = task::spawn_blocking(move || {
            let now = Version::of(&path);
            // The first time, too: it may have changed since the configuration was read.
            (now != before).then(|| (now, read_permissions(&path)))
        });
        let Ok(Some((version, read))) = read.await else { continue };
        seen = version;
        match read {
            Ok(profiles) => {
                if !first {
                    let (file, profiles) = (file.display(), profiles.len());
                    tracing::info!(%file, profiles, "permissions read again");
                }
                saf.replace(profiles);
            }
            Err(problems) => {
                for problem in problems.iter() {
                    tracing::error!(%problem, "permissions stay as they were");
                }
            }
        }
        first = false;
    }
}

/// What changes when a file does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    len: u64,
    modified: Option<SystemTime>,
}

impl Version {
    /// `None` if it is gone.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            inode: metadata.ino(),
            len: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }
}
