//! Creates and opens the revocation file.

use std::{
    error::Error,
    fs::{self, File, OpenOptions},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use redb::{Database, ReadableDatabase};

use super::tables::{
    ACCESS_TOKENS, FORMAT, GRACES, ISSUED, META, NETWORKS, SALT, SERVICES, TOKENS, UNUSED_SALT,
    USERS, commit,
};
use crate::revocation::salt::Salt;

pub(super) const FORMAT_VERSION: u32 = 1;

/// The size of the database cache. The cache is small, because only opening the file and the writer thread use the
/// database. Checks of tokens read the index in memory.
pub(super) const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be created or read.
    #[error("{}: {source}; check that the directory exists and that this user may write to it", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process, or another store in this process, has the file open.
    #[error(
        "{} is in use, and only one store can have it open; stop the other process, close the other store, or name \
         another file",
        file.display()
    )]
    InUse {
        /// The file.
        file: PathBuf,
    },
    /// There is no file.
    #[error(
        "{} is missing; mount its volume, or restore a backup. To start without revocations, which makes \
         revoked tokens valid again, create a new file (passticket-proxy serve --new-store)",
        file.display()
    )]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// A new file should be created, but there is already a file.
    #[error("{} exists; start without the option that creates a new file (--new-store)", file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
    /// The file is damaged, or it is not a database.
    #[error(
        "{} is damaged or not a revocation file: {source}; restore a backup. To start without its \
         revocations, which makes revoked tokens valid again, move the file away, and create a new one \
         (passticket-proxy serve --new-store)",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The problem.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The file is a database, but not a revocation store.
    #[error("{} is a database, but not a revocation store; name another file", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// A newer version of this program wrote the file.
    #[error(
        "{} has format {found}, but this program reads only {FORMAT_VERSION}; start the version that wrote the file, or a newer one",
        file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// The format of the file.
        found: u32,
    },
}

/// Creates the file under a temporary name, and links it to `path` when it is complete. So a crash cannot leave an
/// incomplete file at `path`.
pub(super) fn create(path: &Path) -> Result<(), OpenError> {
    let io_error = |source| OpenError::Io { file: path.to_owned(), source };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", uuid::Uuid::new_v4()));
    let temporary = PathBuf::from(temporary);

    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&temporary).map_err(io_error)?;

    let created = initialize(&temporary).map_err(|e| open_error(path, e)).and_then(|()| {
        // Unlike a rename, a link never replaces an existing file. If two processes start at the same
        // time, one of them creates the file, and the link of the other process fails.
        match fs::hard_link(&temporary, path) {
            Ok(()) => sync_directory(path).map_err(io_error),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Err(OpenError::Exists { file: path.to_owned() })
            }
            Err(e) => Err(io_error(e)),
        }
    });
    let removed = fs::remove_file(&temporary).map_err(io_error);
    created.and(removed)
}

pub(super) fn initialize(path: &Path) -> Result<(), redb::Error> {
    let mut salt = [0; Salt::LEN];
    getrandom::fill(&mut salt).map_err(|e| io::Error::other(e.to_string()))?;
    let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
    commit(&database, |txn| {
        let mut meta = txn.open_table(META)?;
        meta.insert(FORMAT, FORMAT_VERSION.to_be_bytes().as_slice())?;
        meta.insert(SALT, salt.as_slice())?;
        meta.insert(UNUSED_SALT, [1].as_slice())?;
        txn.open_table(TOKENS)?;
        txn.open_table(USERS)?;
        txn.open_table(SERVICES)?;
        txn.open_table(ISSUED)?;
        txn.open_table(NETWORKS)?;
        txn.open_table(ACCESS_TOKENS)?;
        txn.open_table(GRACES)?;
        Ok(())
    })?;
    Ok(database.close()?)
}

/// On Unix, makes the directory entry of a new file durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// Returns the options for an existing database. redb verifies every checksum when it opens the database.
pub(super) fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

pub(super) fn open(path: &Path) -> Result<(Database, Salt), OpenError> {
    let database = builder().open(path).map_err(|e| open_error(path, e.into()))?;
    let salt = read_meta(path, &database)?;
    Ok((database, salt))
}

pub(super) fn read_meta(path: &Path, database: &Database) -> Result<Salt, OpenError> {
    let damaged = |what: &str| OpenError::Damaged { file: path.to_owned(), source: what.into() };
    let meta = match database
        .begin_read()
        .map_err(redb::Error::from)
        .and_then(|txn| txn.open_table(META).map_err(redb::Error::from))
    {
        Ok(meta) => meta,
        Err(redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. }) => {
            return Err(OpenError::Foreign { file: path.to_owned() });
        }
        Err(e) => return Err(open_error(path, e)),
    };
    let get = |key| meta.get(key).map_err(|e| open_error(path, e.into()));
    let format = get(FORMAT)?.and_then(|value| value.value().try_into().ok());
    match format.map(u32::from_be_bytes) {
        Some(FORMAT_VERSION) => {}
        Some(found) if found > FORMAT_VERSION => {
            return Err(OpenError::Newer { file: path.to_owned(), found });
        }
        _ => return Err(OpenError::Foreign { file: path.to_owned() }),
    }
    let salt = get(SALT)?.and_then(|value| value.value().try_into().ok());
    salt.map(Salt::new).ok_or_else(|| damaged("it has no salt"))
}

pub(super) fn check_exists(path: &Path) -> Result<(), OpenError> {
    match path.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(OpenError::Missing { file: path.to_owned() }),
        Err(source) => Err(OpenError::Io { file: path.to_owned(), source }),
    }
}

pub(super) fn open_error(path: &Path, error: redb::Error) -> OpenError {
    let file = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            OpenError::InUse { file }
        }
        // redb reports `InvalidData` or `UnexpectedEof` if the file is not a database. The last arm handles these two.
        redb::Error::Io(source)
            if !matches!(
                source.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            OpenError::Io { file, source }
        }
        error => OpenError::Damaged { file, source: error.into() },
    }
}

/// Converts a panic to an error. redb promises to return an error for a damaged file, and not to panic. If redb
/// nevertheless panics, the file is reported as damaged.
pub(super) fn catch_panic<T>(
    path: &Path,
    open: impl FnOnce() -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| {
        let source = "the database library panicked while it read the file".into();
        Err(OpenError::Damaged { file: path.to_owned(), source })
    })
}

/// Identifies a file independently of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
}

impl FileId {
    #[cfg(unix)]
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;

        let metadata = fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }

    /// On systems other than Unix, this function only finds out whether the file exists.
    #[cfg(not(unix))]
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|_| Self {})
    }
}
