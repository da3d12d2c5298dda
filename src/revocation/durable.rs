//! The store in a file.

use std::{
    error::Error,
    fmt,
    fs::{self, File, OpenOptions},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, mpsc},
    task::{Context, Poll},
    thread::{self, JoinHandle},
};

use redb::{
    Database, Durability, Key, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageError, Table, TableDefinition, WriteTransaction,
};
use tokio::sync::oneshot;

use super::{
    CheckError, Evicted, Revocation, RevocationCheck, RevocationIndex, RevocationStore, StoreError,
    rule_matters, token_matters,
};
use crate::{
    clock::Timestamp,
    passticket::UserId,
    token::{Jwt, Pat, Salt, ServiceId, TokenFingerprint},
};

/// The names are those of the maps that Zowe keeps in its Caching Service.
const TOKENS: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("invalidTokens");
const USERS: TableDefinition<'_, &str, u64> = TableDefinition::new("invalidUsers");
const SERVICES: TableDefinition<'_, &str, u64> = TableDefinition::new("invalidScopes");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

const FORMAT: &str = "format";
const SALT: &str = "salt";
const SEALS: &str = "seals";

/// The format that this version reads and writes.
const FORMAT_VERSION: u32 = 1;

/// Everything is in the index too: the cache of the database serves the writer alone.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// So many revocations share one commit at most, which bounds how long the first of them waits.
const MAX_GROUP: usize = 4096;

/// Revocations in one file, for one process.
///
/// # Guarantees
/// 1. **`Ok` means durable.** A revocation that was answered with `Ok` survives `kill -9` and, as
///    far as the disk keeps what it has acknowledged, a power failure.
/// 2. **`Ok` means visible.** Every check that starts after it sees it.
/// 3. **Nothing un-revokes.** A later rule never lowers a timestamp, in the file as in memory.
/// 4. **A damaged file is an error**, never a store with less in it: opening verifies the checksum
///    of every page, and each group of revocations is committed twice, so that both of the roots
///    that the file keeps have it, whichever of them a damage leaves.
/// 5. **A revocation that was begun is finished**, also if its future is dropped; dropping the
///    store waits for what is under way.
///
/// When a write fails the caller is told, and the revocation holds in this process all the same:
/// in doubt the answer is "revoked". The next write opens the file anew.
///
/// # Cost
/// A check reads memory alone: one SHA-256 of one block, then what [`RevocationIndex`] does; that
/// is a quarter of a microsecond in all, with ten rules as with a million.
/// Writes go through one thread, which lives as long as the store; whatever arrives while it waits
/// for the disk shares its next commit. It is a thread of its own and not one of the runtime's, so
/// that neither a runtime that shuts down nor one that is short of blocking threads can lose or
/// delay a write. A record takes two durable commits; what is recorded at the same time shares them.
/// `benches/revocation.rs` measures both.
///
/// Eviction rewrites the file to make it smaller: about a second for half a million rules.
/// Revocations that arrive meanwhile wait for it, checks do not.
///
/// # What the file holds
/// The tables `invalidTokens`, `invalidUsers`, `invalidScopes` and `meta` of a [redb] database. A
/// token is in it as a SHA-256, salted with random bytes that were made with the file, of its
/// fingerprint: who reads the file can neither use a token nor find out whether one that they know
/// of is in it without hashing it. Users and services are in it by their names. They are no
/// secrets, an administrator can so read what is in force, and a check saves a hash for each.
///
/// [redb]: https://docs.rs/redb
///
/// # Example
/// ```
/// # use tower_passticket::{clock::Timestamp, passticket::UserId, revocation::*};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("revocations.redb");
/// let store = DurableStore::open(&path)?;
/// let user = UserId::new("USER")?;
/// store.record(Revocation::User { user, up_to: Timestamp::from_secs(1_800_000_000) }).await?;
///
/// // One process has the file at a time.
/// assert!(matches!(DurableStore::open(&path), Err(OpenError::InUse { .. })));
/// # Ok(())
/// # }
/// ```
pub struct DurableStore {
    index: Arc<RevocationIndex>,
    salt: Salt,
    name: Arc<str>,
    // `None` only while it is dropped.
    commands: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
}

impl DurableStore {
    /// Opens the file at `path`, for its owner alone (mode 0600) if it is made now, and loads it.
    ///
    /// It blocks until all is verified and read, which takes about a second for a million rules.
    /// Call it at the start of the program, where an error can still stop it.
    ///
    /// # Errors
    /// [`OpenError`] names the file and what to do. A file that is there is never replaced.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => create(&path)?,
            Err(source) => return Err(OpenError::Io { file: path, source }),
        }
        let (database, salt, index) = guarded(&path, || {
            let (database, salt) = open(&path)?;
            let index = load(&database).map_err(|e| failed(&path, e))?;
            Ok((database, salt, Arc::new(index)))
        })?;

        let name: Arc<str> = path.display().to_string().into();
        let (commands, received) = mpsc::channel();
        let writer = Writer {
            name: name.clone(),
            salt: salt.clone(),
            database: Some(database),
            index: index.clone(),
            path,
        };
        let writer = thread::Builder::new()
            .name("revocations".to_owned())
            .spawn(move || writer.run(&received))
            .map_err(|source| OpenError::Io { file: name.as_ref().into(), source })?;
        Ok(Self { index, salt, name, commands: Some(commands), writer: Some(writer) })
    }

    /// Everything that is in it, for comparing.
    #[cfg(test)]
    pub(super) fn entries(&self) -> std::collections::BTreeSet<String> {
        self.index.entries()
    }

    fn send<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        if let Some(commands) = &self.commands {
            // A writer that is gone drops the reply, and the answer says so.
            let _ = commands.send(command(reply));
        }
        Answer { answer, store: self.name.clone() }
    }
}

impl Drop for DurableStore {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(writer) = self.writer.take() {
            // If it panicked the panic has been reported, and who waited has been told.
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for DurableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableStore").field("file", &self.name).finish_non_exhaustive()
    }
}

impl RevocationCheck for DurableStore {
    fn check(&self, pat: &Pat) -> Result<(), CheckError> {
        self.index.check_as(pat.fingerprint_under(&self.salt), pat)
    }

    fn check_login_token(&self, token: &Jwt) -> Result<(), CheckError> {
        self.index.check_login_token_as(token.fingerprint_under(&self.salt))
    }
}

impl RevocationStore for DurableStore {
    type Recording = Answer<()>;
    type Evicting = Answer<Evicted>;

    fn record(&self, mut revocation: Revocation) -> Self::Recording {
        if let Revocation::Token { token, .. } = &mut revocation {
            *token = self.salt.apply(*token);
        }
        self.send(|reply| Command::Record(revocation, reply))
    }

    fn evict(&self, now: Timestamp) -> Self::Evicting {
        self.send(|reply| Command::Evict(now, reply))
    }
}

/// The answer of a [`DurableStore`] that is to come.
#[derive(Debug)]
#[must_use = "whether it was done is known only from the answer"]
pub struct Answer<T> {
    answer: oneshot::Receiver<Result<T, StoreError>>,
    store: Arc<str>,
}

impl<T> Future for Answer<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { answer, store } = &mut *self;
        let ended = |_| Err(StoreError::Ended { store: store.clone() });
        Pin::new(answer).poll(cx).map(|answer| answer.unwrap_or_else(ended))
    }
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be made or read.
    #[error("{}: {source}; see that the directory exists and that this user may write to it", file.display())]
    Io {
        /// Which file.
        file: PathBuf,
        /// What is in the way.
        source: io::Error,
    },
    /// Another process, or another store of this one, has it.
    #[error("{} is in use; one process can have it at a time: stop the other one, or name another file", file.display())]
    InUse {
        /// Which file.
        file: PathBuf,
    },
    /// It is damaged, or no database at all.
    #[error(
        "{} is damaged or no file of revocations: {source}; put back a copy. To go on without \
         what it says, which makes revoked tokens good again, move it away",
        file.display()
    )]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It is a database of something else.
    #[error("{} is a database, but not one of revocations; name another file", file.display())]
    Foreign {
        /// Which file.
        file: PathBuf,
    },
    /// A newer version of this program wrote it.
    #[error(
        "{} has format {found}, this program reads {FORMAT_VERSION}; start the version that wrote it, or a newer one",
        file.display()
    )]
    Newer {
        /// Which file.
        file: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// Makes the file under another name and gives it its own when it is whole: a crash in between
/// leaves no file that a later start would have to take for damaged.
fn create(path: &Path) -> Result<(), OpenError> {
    let io_error = |source| OpenError::Io { file: path.to_owned(), source };
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", uuid::Uuid::new_v4()));
    let draft = PathBuf::from(draft);

    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&draft).map_err(io_error)?;

    let made = initialize(&draft).map_err(|e| failed(path, e)).and_then(|()| {
        // Unlike renaming, linking replaces nothing: of two processes that start at once, one
        // makes the file and the other finds it.
        match fs::hard_link(&draft, path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(io_error(e)),
            _ => sync_directory(path).map_err(io_error),
        }
    });
    let removed = fs::remove_file(&draft).map_err(io_error);
    made.and(removed)
}

fn initialize(path: &Path) -> Result<(), redb::Error> {
    let mut salt = [0; Salt::LEN];
    getrandom::fill(&mut salt).map_err(|e| io::Error::other(e.to_string()))?;
    let database = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
    commit(&database, |txn| {
        let mut meta = txn.open_table(META)?;
        meta.insert(FORMAT, FORMAT_VERSION.to_be_bytes().as_slice())?;
        meta.insert(SALT, salt.as_slice())?;
        txn.open_table(TOKENS)?;
        txn.open_table(USERS)?;
        txn.open_table(SERVICES)?;
        Ok(())
    })?;
    Ok(database.close()?)
}

/// A new name in a directory is durable when the directory is.
fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// Opens a database that is there and verifies every checksum in it.
fn open(path: &Path) -> Result<(Database, Salt), OpenError> {
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .open(path)
        .map_err(|e| failed(path, e.into()))?;
    let salt = read_meta(path, &database)?;
    Ok((database, salt))
}

fn read_meta(path: &Path, database: &Database) -> Result<Salt, OpenError> {
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
        Err(e) => return Err(failed(path, e)),
    };
    let get = |key| meta.get(key).map_err(|e| failed(path, e.into()));
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

fn load(database: &Database) -> Result<RevocationIndex, redb::Error> {
    let unreadable = |what: &dyn fmt::Display| redb::Error::Corrupted(what.to_string());
    let txn = database.begin_read()?;
    let tokens = txn.open_table(TOKENS)?;
    let users = txn.open_table(USERS)?;
    let services = txn.open_table(SERVICES)?;
    let count = |len| usize::try_from(len).unwrap_or_default();
    let index = RevocationIndex::with_capacity(
        count(tokens.len()?),
        count(users.len()?),
        count(services.len()?),
    );
    for entry in tokens.iter()? {
        let (token, expires_at) = entry?;
        let token = TokenFingerprint::from_bytes(token.value());
        let expires_at = Timestamp::from_millis(expires_at.value());
        index.apply(&Revocation::Token { token, expires_at });
    }
    for entry in users.iter()? {
        let (user, up_to) = entry?;
        let user = UserId::new(user.value()).map_err(|e| unreadable(&e))?;
        index.apply(&Revocation::User { user, up_to: Timestamp::from_millis(up_to.value()) });
    }
    for entry in services.iter()? {
        let (service, up_to) = entry?;
        let service = ServiceId::new(service.value()).map_err(|e| unreadable(&e))?;
        index.apply(&Revocation::Service { service, up_to: Timestamp::from_millis(up_to.value()) });
    }
    Ok(index)
}

fn failed(path: &Path, error: redb::Error) -> OpenError {
    let file = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            OpenError::InUse { file }
        }
        // How redb says that it is no database: by kind, as of bytes that it cannot read.
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

/// redb promises errors, not panics, for damaged files. Should it break that, it is damage too.
fn guarded<T>(path: &Path, open: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| {
        let source = "it cannot be read".into();
        Err(OpenError::Damaged { file: path.to_owned(), source })
    })
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

enum Command {
    Record(Revocation, Reply<()>),
    Evict(Timestamp, Reply<Evicted>),
}

/// The one thread that writes. File and index change here, in this order, and nowhere else.
struct Writer {
    path: PathBuf,
    name: Arc<str>,
    salt: Salt,
    // `None` after an error: the database takes no writes then until it is opened anew.
    database: Option<Database>,
    index: Arc<RevocationIndex>,
}

impl Writer {
    fn run(mut self, commands: &mpsc::Receiver<Command>) {
        let mut group = Vec::new();
        while let Ok(first) = commands.recv() {
            let mut next = Some(first);
            while let Some(command) = next {
                match command {
                    Command::Record(revocation, reply) => group.push((revocation, reply)),
                    Command::Evict(now, reply) => {
                        self.record(&mut group);
                        // Who no longer waits needs no answer, here and below.
                        let _ = reply.send(self.evict(now));
                    }
                }
                next = if group.len() < MAX_GROUP { commands.try_recv().ok() } else { None };
            }
            self.record(&mut group);
        }
    }

    fn record(&mut self, group: &mut Vec<(Revocation, Reply<()>)>) {
        if group.is_empty() {
            return;
        }
        let written = self.with_database(|database| {
            commit(database, |txn| {
                let mut tokens = txn.open_table(TOKENS)?;
                let mut users = txn.open_table(USERS)?;
                let mut services = txn.open_table(SERVICES)?;
                for (revocation, _) in &*group {
                    match revocation {
                        Revocation::Token { token, expires_at } => {
                            raise(&mut tokens, *token.as_bytes(), *expires_at)?;
                        }
                        Revocation::User { user, up_to } => {
                            raise(&mut users, user.as_str(), *up_to)?;
                        }
                        Revocation::Service { service, up_to } => {
                            raise(&mut services, service.as_str(), *up_to)?;
                        }
                    }
                }
                Ok(())
            })
        });
        for (revocation, reply) in group.drain(..) {
            // Also if it failed: in doubt it is revoked.
            self.index.apply(&revocation);
            let _ = reply.send(written.clone());
        }
    }

    fn evict(&mut self, now: Timestamp) -> Result<Evicted, StoreError> {
        let evicted = self.with_database(|database| {
            let mut evicted = Evicted::default();
            commit(database, |txn| {
                let token = |at| token_matters(at, now);
                let rule = |at| rule_matters(at, now);
                evicted.tokens = retain(&mut txn.open_table(TOKENS)?, token)?;
                evicted.users = retain(&mut txn.open_table(USERS)?, rule)?;
                evicted.services = retain(&mut txn.open_table(SERVICES)?, rule)?;
                Ok(())
            })?;
            if evicted != Evicted::default() {
                database.compact()?;
            }
            Ok(evicted)
        })?;
        self.index.drop_stale(now);
        Ok(evicted)
    }

    fn with_database<T>(
        &mut self,
        write: impl FnOnce(&mut Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let written = self.reopened().and_then(|mut database| {
            let written = write(&mut database)?;
            self.database = Some(database);
            Ok(written)
        });
        written.map_err(|source| {
            tracing::error!(file = %self.name, error = %source, "revocations were not written");
            StoreError::Write { store: self.name.clone(), source: source.into() }
        })
    }

    fn reopened(&mut self) -> Result<Database, Box<dyn Error + Send + Sync>> {
        if let Some(database) = self.database.take() {
            return Ok(database);
        }
        let (database, salt) = open(&self.path)?;
        // Under another salt no token in the index would be found in the file.
        if salt.bytes() != self.salt.bytes() {
            return Err("the file was replaced while the program ran; restart it".into());
        }
        Ok(database)
    }
}

/// Commits `write`, durably, twice.
///
/// The file keeps the roots of its last two commits, and which one counts is said by a single byte
/// without a checksum. A damage there, or to the newest root, makes redb take the older one and
/// say nothing. So what is acknowledged has to be under both.
fn commit(
    database: &Database,
    write: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    write(&txn)?;
    txn.commit()?;

    let mut txn = database.begin_write()?;
    txn.set_durability(Durability::Immediate)?;
    {
        // Something has to change, lest there be nothing to commit.
        let mut meta = txn.open_table(META)?;
        let seals = meta.get(SEALS)?.and_then(|value| value.value().try_into().ok());
        let seals = seals.map_or(0, u64::from_be_bytes).wrapping_add(1);
        meta.insert(SEALS, seals.to_be_bytes().as_slice())?;
    }
    Ok(txn.commit()?)
}

fn raise<'k, K: Key + 'static>(
    table: &mut Table<'_, K, u64>,
    key: impl std::borrow::Borrow<K::SelfType<'k>>,
    to: Timestamp,
) -> Result<(), StorageError> {
    let at = table.get(key.borrow())?.map(|at| at.value());
    if at.is_none_or(|at| at < to.as_millis()) {
        table.insert(key.borrow(), to.as_millis())?;
    }
    Ok(())
}

fn retain<K: Key + 'static>(
    table: &mut Table<'_, K, u64>,
    matters: impl Fn(Timestamp) -> bool,
) -> Result<usize, StorageError> {
    let before = table.len()?;
    table.retain(|_, at| matters(Timestamp::from_millis(at)))?;
    Ok(usize::try_from(before - table.len()?).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Revocation {
        Revocation::User { user: UserId::new(name).unwrap(), up_to: Timestamp::from_secs(1) }
    }

    #[test]
    fn a_failed_write_is_said_holds_and_does_not_stop_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations.redb");
        drop(DurableStore::open(&path).unwrap());
        let (database, salt) = open(&path).unwrap();
        let mut writer = Writer {
            name: path.display().to_string().into(),
            path: path.clone(),
            salt,
            // After an error, and somebody else has the file.
            database: None,
            index: Arc::default(),
        };
        let mut record = |name| {
            let (reply, mut answer) = oneshot::channel();
            writer.record(&mut vec![(user(name), reply)]);
            (answer.try_recv().unwrap(), writer.index.entries().len())
        };

        let (failed, entries) = record("ONE");
        let text = failed.unwrap_err().to_string();
        assert!(text.contains("revocations.redb could not be written"), "{text}");
        assert_eq!(entries, 1);

        drop(database);
        let (written, entries) = record("TWO");
        written.unwrap();
        assert_eq!(entries, 2);

        // In the file is what was answered with `Ok`.
        drop(writer);
        assert_eq!(DurableStore::open(&path).unwrap().entries().len(), 1);
    }

    #[test]
    fn a_file_that_was_replaced_is_not_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations.redb");
        drop(DurableStore::open(&path).unwrap());
        let mut writer = Writer {
            name: path.display().to_string().into(),
            path,
            salt: Salt::new([0; Salt::LEN]),
            database: None,
            index: Arc::default(),
        };
        let error = writer.evict(Timestamp::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("was replaced"), "{error}");
    }
}
