//! Reads a revocation file without opening it for writing.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use redb::{Database, StorageBackend, backends::InMemoryBackend};

use super::{
    DurableStore, FileAccess,
    file::{FileId, OpenError, builder, catch_panic, check_exists, open_error, read_meta},
    load::{Loaded, load_all},
};
use crate::revocation::trusted_time::Uptime;

/// The maximum number of copies that [`DurableStore::snapshot`] makes of a file that another process writes.
const COPIES: u32 = 20;

/// The time between two copies. A commit of the other process normally takes less time.
const BETWEEN_COPIES: Duration = Duration::from_millis(25);

impl DurableStore {
    /// Returns a store with the revocations that the file at `path` has now. The store checks tokens, but never writes
    /// the file: each write returns [`StoreError::HandedOver`](crate::revocation::StoreError::HandedOver). The store
    /// does not lock the file, so another process may have the file open. The store does not see revocations that the
    /// other process writes after this call.
    ///
    /// This function reads the file into memory, and blocks until the copy is verified. If the other process writes the
    /// file in the meantime, the copy may be damaged. The function then copies the file again. It makes at most 20
    /// copies.
    ///
    /// # Errors
    /// The errors of [`open`](Self::open), except [`OpenError::InUse`].
    pub fn snapshot(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        check_exists(&path)?;
        let id =
            FileId::of(&path).map_err(|source| OpenError::Io { file: path.clone(), source })?;
        let mut copies = 1;
        let loaded = loop {
            match catch_panic(&path, || load_copy(&path)) {
                Ok(loaded) => break loaded,
                Err(OpenError::Damaged { .. }) if copies < COPIES => {
                    copies += 1;
                    thread::sleep(BETWEEN_COPIES);
                }
                Err(error) => return Err(error),
            }
        };
        Self::start(path, FileAccess { id, database: None }, loaded, Uptime::now)
    }

    /// Verifies the file at `path`, and does not change it. `Ok` means that a store can load the file.
    ///
    /// The file is locked only for a moment, to find out whether a store has it open. This function reads the file into
    /// memory, and blocks until the copy is verified.
    ///
    /// # Errors
    /// [`OpenError::InUse`] if a store has the file open. That store has already verified the file. The other errors
    /// are those of [`open`](Self::open).
    pub fn verify(path: impl Into<PathBuf>) -> Result<(), OpenError> {
        let path = path.into();
        check_exists(&path)?;
        catch_panic(&path, || {
            check_unused(&path)?;
            let verified = load_copy(&path).map(drop);
            // A store that was opened in the meantime may have changed the file while it was copied.
            if verified.is_err() {
                check_unused(&path)?;
            }
            verified
        })
    }
}

/// Checks that no store has the file open.
///
/// # Errors
/// [`OpenError::InUse`] if a store has the file open.
fn check_unused(path: &Path) -> Result<(), OpenError> {
    let Err(error) = Database::builder().open_read_only(path) else { return Ok(()) };
    match open_error(path, error.into()) {
        used @ OpenError::InUse { .. } => Err(used),
        // The verification of the copy reports all other problems. A file that was not closed is no problem: a store
        // repairs such a file when it opens the file.
        _ => Ok(()),
    }
}

fn load_copy(path: &Path) -> Result<Loaded, OpenError> {
    let io_error = |source| OpenError::Io { file: path.to_owned(), source };
    let content = fs::read(path).map_err(io_error)?;
    if content.is_empty() {
        // redb would make a new database in an empty file.
        return Err(open_error(path, io::Error::from(io::ErrorKind::UnexpectedEof).into()));
    }
    let backend = InMemoryBackend::new();
    let length = u64::try_from(content.len()).expect("the length of a file is a u64");
    backend.set_len(length).and_then(|()| backend.write(0, &content)).map_err(io_error)?;
    drop(content);
    let database =
        builder().create_with_backend(backend).map_err(|e| open_error(path, e.into()))?;
    let salt = read_meta(path, &database)?;
    load_all(path, &database, salt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        passticket::UserId,
        revocation::{Revocation, RevocationStore, StoreError},
    };

    #[tokio::test]
    async fn a_snapshot_has_the_revocations_of_an_open_store_and_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations.redb");
        assert!(matches!(DurableStore::snapshot(&path), Err(OpenError::Missing { .. })));
        let store = DurableStore::create(&path).unwrap();
        let user = UserId::new("USER").unwrap();
        let up_to = Timestamp::from_secs(1_800_000_000);
        store.record(Revocation::User { user, up_to }).await.unwrap();
        let before = fs::read(&path).unwrap();

        let snapshot = DurableStore::snapshot(&path).unwrap();
        assert_eq!(snapshot.rule_of_user(&user), Some(up_to));
        let written = snapshot.record(Revocation::User { user, up_to }).await;
        assert!(matches!(written, Err(StoreError::HandedOver { .. })), "{written:?}");
        drop(snapshot);
        assert!(fs::read(&path).unwrap() == before);
        store.record(Revocation::User { user, up_to }).await.unwrap();
        assert!(matches!(DurableStore::open(&path), Err(OpenError::InUse { .. })));
    }

    #[tokio::test]
    async fn verify_finds_damage_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations.redb");
        assert!(matches!(DurableStore::verify(&path), Err(OpenError::Missing { .. })));
        assert!(!path.exists());

        let store = DurableStore::create(&path).unwrap();
        let user = UserId::new("USER").unwrap();
        for second in 0..3 {
            assert!(matches!(DurableStore::verify(&path), Err(OpenError::InUse { .. })));
            let up_to = Timestamp::from_secs(1_800_000_000 + second);
            store.record(Revocation::User { user, up_to }).await.unwrap();
        }
        // A copy of the file of an open store is like the file of a killed process.
        let killed = directory.path().join("killed.redb");
        fs::copy(&path, &killed).unwrap();
        drop(store);

        for path in [&path, &killed] {
            let before = fs::read(path).unwrap();
            DurableStore::verify(path).unwrap();
            assert!(fs::read(path).unwrap() == before);
        }
        DurableStore::open(&path).unwrap();
        let good = fs::read(&path).unwrap();
        for content in [&b""[..], b"no database", &good[..good.len() / 2]] {
            fs::write(&path, content).unwrap();
            let verified = DurableStore::verify(&path);
            assert!(matches!(verified, Err(OpenError::Damaged { .. })), "{verified:?}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }
}
