//! Revocations in a file, which is a database of the crate `redb`.

mod verify;

use std::{
    error::Error,
    fmt,
    fs::{self, File, OpenOptions},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use redb::{
    Database, Durability, Key, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, StorageError, Table, TableDefinition, Value, WriteTransaction,
};
use tokio::sync::oneshot;

use super::{
    CheckError, Evicted, IssuedPat, Revocation, RevocationCheck, RevocationIndex,
    RevocationListener, RevocationStore, StoreError, StoreFuture,
    followers::{AppliedRevocation, Followers, RevocationFeed},
    is_rule_needed, is_token_revocation_needed,
    issued::{MAX_PATS, PatCounts, scope_hashes},
    known_networks::{ClientNetwork, Day, HASH, KnownNetworks, NetworkMemory, Networks},
    salt::Salt,
    trusted_time::{TrustedReading, Uptime},
    unwritten::{Reach, Unwritten},
};
use crate::{
    clock::Timestamp,
    health::Health,
    log_limit::log_limited,
    metrics::{Collect, Counter, Description, Exposition},
    passticket::UserId,
    token::{ServiceId, TokenFingerprint, VerifiedToken},
};

// The tables of tokens, users and services have the names of the maps in Zowe's Caching Service.
const TOKENS: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("invalidTokens");
const USERS: TableDefinition<'_, &str, u64> = TableDefinition::new("invalidUsers");
const SERVICES: TableDefinition<'_, &str, u64> = TableDefinition::new("invalidScopes");
/// The PATs (Personal Access Tokens) that the gateway has issued. A key consists of the issue time in the PAT and the
/// salted fingerprint of the PAT. A value consists of the expiry time, the user, and the [hashes](scope_hashes) of the
/// services. Older versions of this program do not know this table, and ignore it.
const ISSUED: TableDefinition<'_, (u64, [u8; 32]), (u64, &str, &[u8])> =
    TableDefinition::new("issuedPats");
/// The networks from which users have logged in, by the hash of the user. Older versions of this program do not know
/// this table, and ignore it.
const NETWORKS: TableDefinition<'_, [u8; HASH], &[u8]> = TableDefinition::new("knownNetworks");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

// The keys of the table `meta`.
const FORMAT: &str = "format";
const SALT: &str = "salt";
/// The trusted time, as of the last write. Files of older versions of this program do not have this entry.
const TRUSTED: &str = "trustedTime";
/// The number of calls of [`commit`]. Each call increments this number in its second transaction.
const SEALS: &str = "seals";

/// The file format that this version reads and writes.
const FORMAT_VERSION: u32 = 1;

/// The size of the database cache. It is small, because only the writer thread uses the database. Checks of tokens read
/// the index in memory.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// If expired revocations are kept for longer than this, the program warns the operator.
const LAG: Duration = Duration::from_secs(24 * 60 * 60);

/// The maximum number of revocations in one commit. It limits how long the first revocation waits for the commit.
const MAX_GROUP: usize = 4096;

/// After a failed write, the writer tests at this interval whether the file can be written again. Without this test,
/// the store would stay down until the next revocation. The next revocation may come only much later.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// If nothing else is written, the writer stores the trusted time at this interval. So the trusted time loses at most
/// this much when the machine is restarted.
const ADVANCE_EVERY: Duration = Duration::from_secs(60 * 60);

const WRITE_ERRORS: Description = Description::counter(
    "passticket_revocation_write_errors_total",
    "Failed attempts to write the revocation file.",
);

/// A [`RevocationStore`] in one file. One process at a time can open the file.
///
/// # Guarantees
/// 1. **`Ok` means durable.** After `record` returned `Ok`, the revocation survives `kill -9`. It survives
///    a power failure if the disk keeps the data that the disk has acknowledged.
/// 2. **`Ok` means visible.** Every check that starts after `record` returned `Ok` sees the revocation.
/// 3. **No revocation is undone.** A rule with an earlier time never replaces a rule with a later time, in
///    the file or in memory.
/// 4. **A damaged file is an error**, never a store with fewer revocations. Opening verifies the checksum of every
///    page. The file has two roots, one for each of its last two commits. Each group of revocations is committed twice,
///    so that both roots contain it. If one root is damaged, the other root still has all revocations.
/// 5. **A write that has started is finished**, even if its future is dropped. Dropping the store waits
///    for pending writes.
///
/// If a write fails, the caller gets the error. The revocation nevertheless applies in this process. The store keeps up
/// to 10,000 such revocations. It tries to write them before the next write, every five seconds, and when it is
/// dropped.
///
/// # Cost
/// A check reads memory only. It hashes one block with SHA-256, and looks the hash up in a [`RevocationIndex`]. With a
/// million rules, a check takes nearly the same time as with ten rules.
///
/// The store has one writer thread. This thread writes a group of revocations with two durable commits. Revocations
/// that arrive while the thread waits for the disk form the next group. The thread does not belong to an async runtime,
/// so a runtime that shuts down or has no free blocking thread cannot lose or delay a write. `benches/revocation.rs`
/// measures checks and writes.
///
/// Eviction removes expired revocations. It does not trust a wall clock that has advanced further than the monotonic
/// clock since the last eviction (docs/decisions.md#d39). With such a clock, it removes fewer revocations.
/// [`trust_clock`](Self::trust_clock) makes the next evictions trust the clock. If an eviction has removed something,
/// it rewrites the file to make the file smaller. This takes about a second for half a million rules. Writes wait until
/// the eviction ends, but checks do not wait.
///
/// # What the file holds
/// The file is a [redb] database with the tables `invalidTokens`, `invalidUsers`, `invalidScopes`, `issuedPats`,
/// `knownNetworks` and `meta`. `issuedPats` has the PATs that were [registered](RevocationStore::register). In place of
/// a token, the file holds a SHA-256 hash of a salt and of the fingerprint of the token. The salt is random, and the
/// file contains it. A token cannot be computed from its hash. A reader who has a token can find it in the file by
/// computing its hash. Users and services are stored by name. The names are not secret, and they let an administrator
/// read which rules exist. `knownNetworks` lists the networks from which each user has logged in ([`KnownNetworks`]),
/// as salted hashes.
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
/// let store = DurableStore::create(&path)?;
/// let user = UserId::new("USER")?;
/// store.record(Revocation::User { user, up_to: Timestamp::from_secs(1_800_000_000) }).await?;
///
/// // The file is locked while a store has it open.
/// assert!(matches!(DurableStore::open(&path), Err(OpenError::InUse { .. })));
/// # Ok(())
/// # }
/// ```
pub struct DurableStore {
    index: Arc<RevocationIndex>,
    followers: Followers,
    networks: Arc<NetworkMemory>,
    salt: Salt,
    name: Arc<str>,
    faults: Arc<Faults>,
    /// `None` only while the store is being dropped.
    commands: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
}

impl DurableStore {
    /// Creates a new file and opens it. The file has mode 0600, so that only its owner can read and write it. A new
    /// file has no revocations, so use this function only for a new gateway.
    ///
    /// # Errors
    /// [`OpenError::Exists`] if there is already a file at `path`. See also [`open`](Self::open).
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        create(&path)?;
        Self::open(path)
    }

    /// Opens and loads the file at `path`.
    ///
    /// If there is no file, this is an error. The file may be on a volume that is not mounted, and an empty store would
    /// make all revoked tokens valid again. [`create`](Self::create) makes a new file.
    ///
    /// This call blocks until the file is verified and read, which takes about a second for a million
    /// rules. Call it when the program starts, so that an error can stop the program.
    ///
    /// # Errors
    /// [`OpenError`] contains the file, and says what to do. An existing file is never replaced.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::open_with_uptime(path.into(), Uptime::now)
    }

    /// Does the same as [`open`](Self::open), but takes the uptime from another source. This is for tests.
    pub(super) fn open_with_uptime(
        path: PathBuf,
        uptime: impl Fn() -> Uptime + Send + 'static,
    ) -> Result<Self, OpenError> {
        check_exists(&path)?;
        let (database, salt, id, index, counts, networks) = catch_panic(&path, || {
            let io_error = |source| OpenError::Io { file: path.clone(), source };
            let id = FileId::of(&path).map_err(io_error)?;
            let (database, salt) = open(&path)?;
            // If the id is the same before and after opening, the database is the file with this id.
            if FileId::of(&path).map_err(io_error)? != id {
                return Err(io_error(io::Error::other(
                    "the file was replaced while it was opened",
                )));
            }
            let (index, counts, networks) = load_all(&path, &database)?;
            Ok((database, salt, id, Arc::new(index), counts, networks))
        })?;

        let networks = Arc::new(NetworkMemory::new(salt.hasher(), networks));
        let name: Arc<str> = path.display().to_string().into();
        let (commands, received) = mpsc::channel();
        let faults = Arc::<Faults>::default();
        let followers = Followers::default();
        let writer = Writer {
            name: name.clone(),
            faults: faults.clone(),
            salt: salt.clone(),
            id,
            database: Some(database),
            index: index.clone(),
            followers: followers.clone(),
            networks: networks.clone(),
            counts,
            unwritten: Unwritten::default(),
            is_failing: false,
            is_suspended: false,
            advanced: uptime(),
            uptime: Box::new(uptime),
            path,
        };
        let writer = thread::Builder::new()
            .name("revocations".to_owned())
            .spawn(move || writer.run(&received))
            .map_err(|source| OpenError::Io { file: name.as_ref().into(), source })?;
        let (commands, writer) = (Some(commands), Some(writer));
        Ok(Self { index, followers, networks, salt, name, faults, commands, writer })
    }

    /// Returns whether the store works: the writer thread runs, the last write succeeded, and no revocation was lost.
    ///
    /// Checks work even if the store is down, and they see all revocations of this process. But the calls for new
    /// revocations return errors, and some revocations may be lost at a restart. After a failed write, the store tries
    /// every five seconds to write the revocations that are not in the file. If there are more such revocations than
    /// the store can keep, some are lost, and the store stays down until the program is restarted.
    pub fn health(&self) -> Health {
        if self.has_ended() {
            let remedy = "restart the program and report what its log says";
            return Health::down(format!(
                "the thread that writes {} has ended; {remedy}",
                self.name
            ));
        }
        match &*self.faults.last() {
            None => Health::Up,
            Some(reason) => Health::down(reason.clone()),
        }
    }

    /// Sets the trusted time to `now`, the time of the wall clock. The store accepts any `now`, even if it is ahead of
    /// the time that the store can confirm, or far behind that time. Call this only if an administrator has confirmed
    /// that the clock is right, for example after the machine was off for a long time.
    ///
    /// # Errors
    /// The errors of a write.
    pub fn trust_clock(&self, now: Timestamp) -> StoreFuture<()> {
        self.send(|reply| Command::TrustClock(now, reply))
    }

    /// Closes the file, so that another process can open it. All earlier writes are finished first. From now on, writes
    /// and evictions return [`StoreError::HandedOver`]. Checks continue with the revocations that this process knows.
    ///
    /// # Errors
    /// The error of the last write, if revocations are not in the file. The store then continues.
    pub fn suspend(&self) -> StoreFuture<()> {
        self.send(Command::Suspend)
    }

    /// Opens the file again after [`suspend`](Self::suspend). The store also applies the revocations that another
    /// process has written in the meantime.
    ///
    /// # Errors
    /// [`StoreError::Write`] if the file cannot be opened, for example because the other process still has it open.
    /// The store stays suspended.
    pub fn resume(&self) -> StoreFuture<()> {
        self.send(Command::Resume)
    }

    /// Returns the revocations that this store applies from now on, for a process that has
    /// [suspended](Self::suspend) its store.
    pub fn follow(&self) -> RevocationFeed {
        self.followers.add()
    }

    /// Applies a revocation of the process that has the file now. So checks of responses that are not finished see it.
    pub fn apply_followed(&self, AppliedRevocation(revocation): &AppliedRevocation) {
        self.index.apply(revocation);
        self.followers.tell(revocation);
    }

    /// Returns whether the writer thread has ended. Only a defect of the program can cause this. After the end of the
    /// thread, the store writes nothing. The program should exit, so that it is started again.
    pub fn has_ended(&self) -> bool {
        self.writer.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Returns all entries as text, so that tests can compare them.
    #[cfg(test)]
    pub(super) fn entries(&self) -> std::collections::BTreeSet<String> {
        self.index.entries()
    }

    fn send<T: Send + 'static>(&self, command: impl FnOnce(Reply<T>) -> Command) -> StoreFuture<T> {
        let (reply, answer) = oneshot::channel();
        if let Some(commands) = &self.commands {
            // If the writer thread has ended, the command and its reply channel are dropped. The future then returns an
            // error.
            let _ = commands.send(command(reply));
        }
        let store = self.name.clone();
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(StoreError::Ended { store })) })
    }
}

impl Drop for DurableStore {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(writer) = self.writer.take() {
            // An error means that the writer thread has panicked. The waiting futures have already returned errors.
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for DurableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableStore").field("file", &self.name).finish_non_exhaustive()
    }
}

impl Collect for DurableStore {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.value(&WRITE_ERRORS, self.faults.count.get());
    }
}

impl RevocationCheck for DurableStore {
    fn try_check_now(&self, token: &VerifiedToken) -> Option<Result<(), CheckError>> {
        Some(self.index.check_as(self.salt.apply(token.fingerprint()), token))
    }

    fn on_revocation(&self, listener: RevocationListener) {
        self.index.on_revocation(listener);
    }
}

impl RevocationStore for DurableStore {
    fn record(&self, mut revocation: Revocation) -> StoreFuture<()> {
        if let Revocation::Token { token, .. } = &mut revocation {
            *token = self.salt.apply(*token);
        }
        self.send(|reply| Command::Write(Write::Revocation(revocation), reply))
    }

    fn register(&self, mut pat: IssuedPat) -> StoreFuture<()> {
        pat.token = self.salt.apply(pat.token);
        self.send(|reply| Command::Write(Write::Issued(pat), reply))
    }

    fn record_rule_of_now(&self, mut rule: Revocation) -> StoreFuture<()> {
        if let Revocation::Token { token, .. } = &mut rule {
            *token = self.salt.apply(*token);
        }
        self.send(|reply| Command::Write(Write::RuleOfNow(rule), reply))
    }

    fn evict(&self, now: Timestamp) -> StoreFuture<Evicted> {
        self.send(|reply| Command::Evict(now, reply))
    }
}

/// The networks are written in the background. If the file cannot be written, new networks are lost at a restart.
impl KnownNetworks for DurableStore {
    fn is_known(
        &self,
        user: &UserId,
        network: ClientNetwork,
        now: Timestamp,
        max_age: Duration,
    ) -> bool {
        self.networks.is_known(user, network, now, max_age)
    }

    fn remember(&self, user: &UserId, network: ClientNetwork, now: Timestamp) {
        let keys = self.networks.keys(user, network);
        // The lock is held until the command is sent. If it were released earlier, two logins of a user could send
        // their commands in the wrong order, and the older list would be written last. The channel is unbounded, so
        // sending does not block.
        let mut networks = self.networks.lock();
        if networks.remember(keys, Day::of(now)) {
            let bytes = networks.to_bytes(keys.user);
            // Nothing waits for the result, so the future is dropped. If the write fails, the writer logs the error.
            drop(self.send(|reply| Command::Write(Write::Networks(keys.user, bytes), reply)));
        }
        drop(networks);
    }
}

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
    #[error("{} is in use; one process can open it at a time: stop the other process, or name another file", file.display())]
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
         revocations, which makes revoked tokens valid again, move the file away",
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
fn create(path: &Path) -> Result<(), OpenError> {
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
        txn.open_table(ISSUED)?;
        txn.open_table(NETWORKS)?;
        Ok(())
    })?;
    Ok(database.close()?)
}

/// Makes the directory entry of a new file durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// Returns the options for an existing database. redb verifies every checksum when it opens the database.
fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// Opens an existing database and verifies every checksum.
fn open(path: &Path) -> Result<(Database, Salt), OpenError> {
    let database = builder().open(path).map_err(|e| open_error(path, e.into()))?;
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

fn load(database: &Database) -> Result<RevocationIndex, redb::Error> {
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
    load_into(&index, database)?;
    Ok(index)
}

/// Applies the revocations of the file.
fn load_into(index: &RevocationIndex, database: &Database) -> Result<(), redb::Error> {
    let unreadable = |what: &dyn fmt::Display| redb::Error::Corrupted(what.to_string());
    let txn = database.begin_read()?;
    for entry in txn.open_table(TOKENS)?.iter()? {
        let (token, expires_at) = entry?;
        let token = TokenFingerprint::from_bytes(token.value());
        let expires_at = Timestamp::from_millis(expires_at.value());
        index.apply(&Revocation::Token { token, expires_at });
    }
    for entry in txn.open_table(USERS)?.iter()? {
        let (user, up_to) = entry?;
        let user = UserId::new(user.value()).map_err(|e| unreadable(&e))?;
        index.apply(&Revocation::User { user, up_to: Timestamp::from_millis(up_to.value()) });
    }
    for entry in txn.open_table(SERVICES)?.iter()? {
        let (service, up_to) = entry?;
        let service = ServiceId::new(service.value()).map_err(|e| unreadable(&e))?;
        index.apply(&Revocation::Service { service, up_to: Timestamp::from_millis(up_to.value()) });
    }
    Ok(())
}

/// Opens a table. Returns `None` if the file does not have the table, because an older version of this program made the
/// file.
fn open_if_present<K: Key + 'static, V: Value + 'static>(
    txn: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<Option<ReadOnlyTable<K, V>>, redb::Error> {
    match txn.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Loads all that a store keeps in memory.
fn load_all(
    path: &Path,
    database: &Database,
) -> Result<(RevocationIndex, PatCounts, Networks), OpenError> {
    let error = |error| open_error(path, error);
    let (index, counts) = (load(database).map_err(error)?, count_pats(database).map_err(error)?);
    Ok((index, counts, load_networks(database).map_err(error)?))
}

/// Checks that the file exists.
fn check_exists(path: &Path) -> Result<(), OpenError> {
    match path.try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => Err(OpenError::Missing { file: path.to_owned() }),
        Err(source) => Err(OpenError::Io { file: path.to_owned(), source }),
    }
}

/// Counts the registered PATs.
fn count_pats(database: &Database) -> Result<PatCounts, redb::Error> {
    let mut counts = PatCounts::default();
    let txn = database.begin_read()?;
    let Some(issued) = open_if_present(&txn, ISSUED)? else { return Ok(counts) };
    for entry in issued.iter()? {
        let (_, value) = entry?;
        let user = UserId::new(value.value().1);
        counts.count(user.map_err(|e| redb::Error::Corrupted(e.to_string()))?);
    }
    Ok(counts)
}

/// Reads the networks of all users.
fn load_networks(database: &Database) -> Result<Networks, redb::Error> {
    let mut networks = Networks::default();
    let txn = database.begin_read()?;
    let Some(table) = open_if_present(&txn, NETWORKS)? else { return Ok(networks) };
    for entry in table.iter()? {
        let (user, bytes) = entry?;
        networks.add(user.value(), bytes.value());
    }
    Ok(networks)
}

fn open_error(path: &Path, error: redb::Error) -> OpenError {
    let file = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            OpenError::InUse { file }
        }
        // redb reports `InvalidData` or `UnexpectedEof` if the file is not a database.
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
fn catch_panic<T>(
    path: &Path,
    open: impl FnOnce() -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| {
        let source = "the database library panicked while it read the file".into();
        Err(OpenError::Damaged { file: path.to_owned(), source })
    })
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

enum Command {
    Write(Write, Reply<()>),
    Evict(Timestamp, Reply<Evicted>),
    TrustClock(Timestamp, Reply<()>),
    Suspend(Reply<()>),
    Resume(Reply<()>),
}

/// One write. The fingerprints in it are salted.
enum Write {
    Revocation(Revocation),
    /// A rule with the current time. It also revokes the registered PATs whose issue time is later than the
    /// rule.
    RuleOfNow(Revocation),
    Issued(IssuedPat),
    /// The networks of the user with this hash.
    Networks([u8; HASH], Vec<u8>),
}

/// Identifies a file independently of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
}

impl FileId {
    #[cfg(unix)]
    fn of(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;

        let metadata = fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }

    /// On systems other than Unix, this function only finds out whether the file exists.
    #[cfg(not(unix))]
    fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|_| Self {})
    }
}

/// Why the writer thread did not write.
#[derive(Debug)]
enum WriteProblem {
    /// The path no longer names the file that the store opened at its start.
    Replaced,
    Failed(Box<dyn Error + Send + Sync>),
}

impl From<redb::Error> for WriteProblem {
    fn from(error: redb::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// The errors of writes. The store and its writer thread share this value.
#[derive(Default)]
struct Faults {
    count: Counter,
    /// The error of the last write. `None` if the last write succeeded.
    last: Mutex<Option<String>>,
}

impl Faults {
    fn last(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of the writer thread. Only this thread changes the file and the index. It changes the file before the
/// index.
struct Writer {
    path: PathBuf,
    name: Arc<str>,
    salt: Salt,
    /// The file that the store opened at its start. The index contains the revocations of this file.
    id: FileId,
    faults: Arc<Faults>,
    /// `None` after an error, because redb then accepts no writes until the database is reopened.
    database: Option<Database>,
    index: Arc<RevocationIndex>,
    followers: Followers,
    networks: Arc<NetworkMemory>,
    /// How many PATs of each user are in the table [`ISSUED`].
    counts: PatCounts,
    /// Revocations that apply, but could not be written. The next write begins with these revocations.
    unwritten: Unwritten,
    /// Whether the last write failed.
    is_failing: bool,
    /// Whether another process writes the file.
    is_suspended: bool,
    uptime: Box<dyn Fn() -> Uptime + Send>,
    /// The uptime at which the trusted time was last stored. At first, this is the uptime at which the file was opened.
    advanced: Uptime,
}

impl Writer {
    fn run(mut self, commands: &mpsc::Receiver<Command>) {
        let mut group = Vec::new();
        while let Some(first) = self.wait_for(commands) {
            let mut next = Some(first);
            while let Some(command) = next {
                match command {
                    Command::Write(write, reply) => group.push((write, reply)),
                    Command::Evict(now, reply) => {
                        self.record(&mut group);
                        // Sending fails only if the caller has dropped the future, so the result is ignored.
                        let _ = reply.send(self.evict(now));
                    }
                    Command::TrustClock(now, reply) => {
                        let _ = reply.send(self.trust_clock(now));
                    }
                    Command::Suspend(reply) => {
                        self.record(&mut group);
                        let _ = reply.send(self.suspend());
                    }
                    Command::Resume(reply) => {
                        self.record(&mut group);
                        let _ = reply.send(self.resume());
                    }
                }
                next = if group.len() < MAX_GROUP { commands.try_recv().ok() } else { None };
            }
            self.record(&mut group);
        }
        if !self.unwritten.is_empty() && !self.is_suspended {
            // This tries once more to write the unwritten revocations. An error is logged.
            let _ = self.with_database(|_| Ok(()));
        }
    }

    /// Waits for the next command. Returns `None` if the store is being dropped. Calls [`probe`](Self::probe)
    /// regularly while it waits.
    fn wait_for(&mut self, commands: &mpsc::Receiver<Command>) -> Option<Command> {
        loop {
            match commands.recv_timeout(PROBE_EVERY) {
                Ok(command) => return Some(command),
                Err(mpsc::RecvTimeoutError::Timeout) => self.probe(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Finds out whether the file was removed or replaced. After a failed write, tests whether the file can be
    /// written again.
    fn probe(&mut self) {
        if self.is_suspended {
            return;
        }
        if self.is_failing {
            let unwritten = self.unwritten.len();
            if self.with_database(|database| commit(database, |_| Ok(()))).is_ok() {
                tracing::info!(file = %self.name, unwritten, "the revocation file can be written again; it contains the revocations that could not be written before");
            }
        } else if let Err(problem) = self.check_id() {
            self.fail(problem);
        } else if self.must_advance() {
            // `advance` logs an error and keeps it for [`DurableStore::health`].
            let _ = self.advance();
        }
    }

    /// Writes the revocations that could not be written before, and closes the file.
    fn suspend(&mut self) -> Result<(), StoreError> {
        if self.is_suspended {
            return Ok(());
        }
        self.with_database(|_| Ok(()))?;
        self.database = None;
        self.is_suspended = true;
        Ok(())
    }

    /// Opens the file, and applies its revocations.
    fn resume(&mut self) -> Result<(), StoreError> {
        if !self.is_suspended {
            return Ok(());
        }
        let (index, mut counts) = (self.index.clone(), PatCounts::default());
        self.is_suspended = false;
        let resumed = self.with_database(|database| {
            load_into(&index, database)?;
            counts = count_pats(database)?;
            Ok(())
        });
        match resumed {
            Ok(()) => self.counts = counts,
            Err(_) => (self.is_suspended, self.database) = (true, None),
        }
        resumed
    }

    fn must_advance(&self) -> bool {
        let now = (self.uptime)();
        now.since_boot.saturating_sub(self.advanced.since_boot) >= ADVANCE_EVERY
    }

    /// Stores the trusted time.
    fn advance(&mut self) -> Result<(), StoreError> {
        let uptime = (self.uptime)();
        self.with_database(|database| {
            commit(database, |txn| advance_trusted_time(txn, uptime.clone()))
        })?;
        self.advanced = uptime;
        Ok(())
    }

    /// Writes a group of revocations and PATs. If a user already has the maximum number of PATs, further PATs are
    /// refused and not written.
    fn record(&mut self, group: &mut Vec<(Write, Reply<()>)>) {
        let refused = group.extract_if(.., |(write, _)| match write {
            Write::Issued(pat) => self.counts.reserve(pat.user).is_err(),
            Write::Revocation(_) | Write::RuleOfNow(_) | Write::Networks(..) => false,
        });
        for (write, reply) in refused {
            if let Write::Issued(pat) = write {
                let _ =
                    reply.send(Err(StoreError::TooManyPats { user: pat.user, limit: MAX_PATS }));
            }
        }
        if self.is_suspended {
            // The caller repeats the request, and the other process answers it.
            for (_, reply) in group.drain(..) {
                let _ = reply.send(Err(StoreError::HandedOver { store: self.name.clone() }));
            }
        }
        if group.is_empty() {
            return;
        }
        // Revocations of single PATs. The rules of the group should revoke these PATs, but miss them, because the PATs
        // have a later issue time than the rules.
        let mut missed = Vec::new();
        let uptime = (self.uptime)();
        let written = self.with_database(|database| {
            commit(database, |txn| {
                advance_trusted_time(txn, uptime.clone())?;
                let mut tables = Tables::open(txn)?;
                for (write, _) in &*group {
                    match write {
                        Write::Revocation(revocation) => tables.insert(revocation)?,
                        Write::RuleOfNow(rule) => {
                            tables.insert(rule)?;
                            for revocation in tables.missed_by(rule)? {
                                tables.insert(&revocation)?;
                                missed.push(revocation);
                            }
                        }
                        Write::Issued(pat) => tables.register(pat)?,
                        Write::Networks(user, networks) => {
                            tables.networks.insert(user, networks.as_slice())?;
                        }
                    }
                }
                Ok(())
            })
        });
        if written.is_ok() {
            self.advanced = uptime;
        }
        let has_failed = written.is_err();
        let unwritten = |reach| has_failed.then_some(reach);
        for revocation in missed {
            self.apply(revocation, unwritten(Reach::ByTime));
        }
        for (write, reply) in group.drain(..) {
            match write {
                Write::Revocation(revocation) => self.apply(revocation, unwritten(Reach::ByTime)),
                Write::RuleOfNow(rule) => self.apply(rule, unwritten(Reach::OfNow)),
                Write::Issued(pat) if has_failed => self.counts.release(pat.user),
                Write::Issued(_) | Write::Networks(..) => {}
            }
            // Sending fails only if the caller has dropped the future, so the result is ignored.
            let _ = reply.send(written.clone());
        }
    }

    /// Applies a revocation to the index. If the revocation could not be written, `unwritten` contains its [`Reach`],
    /// and the next write begins with this revocation.
    fn apply(&mut self, revocation: Revocation, unwritten: Option<Reach>) {
        self.index.apply(&revocation);
        self.followers.tell(&revocation);
        if let Some(reach) = unwritten {
            self.unwritten.keep(revocation, reach);
        }
    }

    /// Removes the revocations that have no effect at the earlier of two times: the trusted time and `wall`.
    fn evict(&mut self, wall: Timestamp) -> Result<Evicted, StoreError> {
        let uptime = (self.uptime)();
        let mut counts = PatCounts::default();
        let networks = self.networks.clone();
        let (evicted, stored) = self.with_database(|database| {
            let (mut evicted, mut stored) = (Evicted::default(), wall);
            let mut evicted_pats = 0;
            commit(database, |txn| {
                stored = read_trusted_time(txn, wall, uptime)?;
                let trusted = stored.min(wall);
                let keep_token = |expires_at| is_token_revocation_needed(expires_at, trusted);
                let keep_rule = |up_to| is_rule_needed(up_to, trusted);
                evicted.tokens = retain(&mut txn.open_table(TOKENS)?, keep_token)?;
                evicted.users = retain(&mut txn.open_table(USERS)?, keep_rule)?;
                evicted.services = retain(&mut txn.open_table(SERVICES)?, keep_rule)?;
                let mut issued = txn.open_table(ISSUED)?;
                let before = issued.len()?;
                issued.retain(|_, (expires_at, user, _)| {
                    let keep = keep_token(Timestamp::from_millis(expires_at));
                    if let (true, Ok(user)) = (keep, UserId::new(user)) {
                        counts.count(user);
                    }
                    keep
                })?;
                evicted_pats = before - issued.len()?;
                // The lock is released after each call, so that logins do not wait until the whole table is read.
                networks.lock().forget_old(Day::of(trusted));
                txn.open_table(NETWORKS)?.retain(|user, _| networks.lock().has(user))?;
                Ok(())
            })?;
            if evicted != Evicted::default() || evicted_pats > 0 {
                database.compact()?;
            }
            Ok((evicted, stored))
        })?;
        self.counts = counts;
        let trusted = stored.min(wall);
        self.index.drop_stale(trusted);
        if wall < stored {
            let behind_secs = stored.as_secs() - wall.as_secs();
            tracing::warn!(file = %self.name, behind_secs, "the clock is far behind the time of the last eviction, so the store does not trust it; set the clock. If the clock is right, start the program once with --trust-clock");
        }
        if trusted.plus(LAG) < wall {
            let ahead_secs = wall.as_secs() - trusted.as_secs();
            tracing::warn!(file = %self.name, ahead_secs, "the clock has advanced by more than the time that has passed since the last eviction, so expired revocations are kept longer; if the clock is right, start the program once with --trust-clock");
        }
        Ok(evicted)
    }

    fn trust_clock(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let reading = TrustedReading { time: now, uptime: (self.uptime)() };
        self.with_database(|database| {
            commit(database, |txn| {
                txn.open_table(META)?.insert(TRUSTED, reading.to_bytes().as_slice())?;
                Ok(())
            })
        })
    }

    /// Opens the database if it is closed. Then writes the revocations that could not be written before, and calls
    /// `write`. After an error, closes the database.
    ///
    /// If the file was removed or replaced, this is an error, because the next start would not find the written data.
    /// The file is checked before and after the write. The second check finds a file that was replaced during the
    /// write.
    fn with_database<T>(
        &mut self,
        write: impl FnOnce(&mut Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        if self.is_suspended {
            return Err(StoreError::HandedOver { store: self.name.clone() });
        }
        let written = self.check_id().and_then(|()| self.reopened()).and_then(|mut database| {
            let missed = write_all(&database, &self.unwritten)?;
            let written = write(&mut database)?;
            self.database = Some(database);
            self.check_id()?;
            Ok((written, missed))
        });
        match written {
            Ok((written, missed)) => {
                for revocation in &missed {
                    self.index.apply(revocation);
                    self.followers.tell(revocation);
                }
                self.unwritten.clear();
                self.is_failing = false;
                *self.faults.last() = self.lost();
                Ok(written)
            }
            Err(problem) => Err(self.fail(problem)),
        }
    }

    /// Returns the reason why the store is down although the file can be written, or `None` if no revocations were
    /// lost.
    fn lost(&self) -> Option<String> {
        let lost = self.unwritten.lost();
        (lost > 0).then(|| {
            format!(
                "{lost} revocations are only in memory, because {} could not be written for a long time; \
                 repeat these revocations, then restart the program",
                self.name
            )
        })
    }

    /// Counts and logs a problem, and keeps it for [`DurableStore::health`].
    fn fail(&mut self, problem: WriteProblem) -> StoreError {
        let store = self.name.clone();
        let (error, reason) = match problem {
            WriteProblem::Replaced => {
                log_limited!(error, "revocation file replaced", { file = %store }, "the revocation file was removed or replaced; new revocations do not survive a restart");
                let error = StoreError::Replaced { store };
                let reason = error.to_string();
                (error, reason)
            }
            WriteProblem::Failed(source) => {
                log_limited!(error, "revocation file not written", { file = %store, error = %source }, "the revocation file could not be written; new revocations may not survive a restart");
                let reason = format!(
                    "{store} could not be written: {source}; check free space and permissions"
                );
                (StoreError::Write { store, source: source.into() }, reason)
            }
        };
        self.faults.count.increment();
        self.is_failing = true;
        *self.faults.last() = Some(reason);
        error
    }

    fn check_id(&self) -> Result<(), WriteProblem> {
        match FileId::of(&self.path) {
            Ok(id) if id == self.id => Ok(()),
            Ok(_) => Err(WriteProblem::Replaced),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(WriteProblem::Replaced),
            Err(error) => Err(WriteProblem::Failed(error.into())),
        }
    }

    fn reopened(&mut self) -> Result<Database, WriteProblem> {
        if let Some(database) = self.database.take() {
            return Ok(database);
        }
        let (database, salt) = open(&self.path).map_err(|e| WriteProblem::Failed(e.into()))?;
        // The hashes in the index were made with the salt of the file that the store opened at its start.
        if salt.bytes() != self.salt.bytes() {
            return Err(WriteProblem::Replaced);
        }
        Ok(database)
    }
}

/// Advances the trusted time in the file, and returns the new trusted time. If the file has no trusted time, the wall
/// clock is trusted. If the wall clock is far behind, the result may be ahead of the wall clock.
fn read_trusted_time(
    txn: &WriteTransaction,
    wall: Timestamp,
    uptime: Uptime,
) -> Result<Timestamp, redb::Error> {
    let mut meta = txn.open_table(META)?;
    let reading = match last_reading(&meta)? {
        None => TrustedReading { time: wall, uptime },
        Some(last) => last.advance(wall, uptime),
    };
    meta.insert(TRUSTED, reading.to_bytes().as_slice())?;
    Ok(reading.time)
}

/// Advances the trusted time in the file by the monotonic time that has passed. If the file has no trusted time, does
/// nothing, because the first eviction sets the trusted time.
fn advance_trusted_time(txn: &WriteTransaction, uptime: Uptime) -> Result<(), redb::Error> {
    let mut meta = txn.open_table(META)?;
    if let Some(last) = last_reading(&meta)? {
        let reading = last.advance_without_clock(uptime);
        meta.insert(TRUSTED, reading.to_bytes().as_slice())?;
    }
    Ok(())
}

fn last_reading(
    meta: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<Option<TrustedReading>, redb::Error> {
    let Some(bytes) = meta.get(TRUSTED)? else { return Ok(None) };
    let reading = TrustedReading::from_bytes(bytes.value());
    let malformed = || redb::Error::Corrupted("the trusted time is malformed".to_owned());
    reading.map(Some).ok_or_else(malformed)
}

/// The tables of one write transaction.
struct Tables<'txn> {
    tokens: Table<'txn, [u8; 32], u64>,
    users: Table<'txn, &'static str, u64>,
    services: Table<'txn, &'static str, u64>,
    issued: Table<'txn, (u64, [u8; 32]), (u64, &'static str, &'static [u8])>,
    networks: Table<'txn, [u8; HASH], &'static [u8]>,
}

impl<'txn> Tables<'txn> {
    /// Opens the tables. Creates a table that the file does not have.
    fn open(txn: &'txn WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            tokens: txn.open_table(TOKENS)?,
            users: txn.open_table(USERS)?,
            services: txn.open_table(SERVICES)?,
            issued: txn.open_table(ISSUED)?,
            networks: txn.open_table(NETWORKS)?,
        })
    }

    fn insert(&mut self, revocation: &Revocation) -> Result<(), redb::Error> {
        match revocation {
            Revocation::Token { token, expires_at } => {
                raise(&mut self.tokens, *token.as_bytes(), *expires_at)?;
            }
            Revocation::User { user, up_to } => raise(&mut self.users, user.as_str(), *up_to)?,
            Revocation::Service { service, up_to } => {
                raise(&mut self.services, service.as_str(), *up_to)?;
            }
        }
        Ok(())
    }

    fn register(&mut self, pat: &IssuedPat) -> Result<(), redb::Error> {
        let scopes = scope_hashes::of(&pat.scopes);
        let key = (pat.issued_at.as_millis(), *pat.token.as_bytes());
        let value = (pat.expires_at.as_millis(), pat.user.as_str(), &*scopes);
        self.issued.insert(key, value)?;
        Ok(())
    }

    /// Returns revocations of the registered PATs that belong to the user or service of `rule`, but have a later issue
    /// time than the rule. The table is sorted by issue time. If the clock was never ahead, there is no such PAT, and
    /// no entry is read.
    fn missed_by(&self, rule: &Revocation) -> Result<Vec<Revocation>, redb::Error> {
        let (Revocation::User { up_to, .. } | Revocation::Service { up_to, .. }) = rule else {
            return Ok(Vec::new());
        };
        let mut missed = Vec::new();
        let Some(after) = up_to.as_millis().checked_add(1) else { return Ok(missed) };
        for entry in self.issued.range((after, [0; 32])..)? {
            let (key, value) = entry?;
            let ((_, token), (expires_at, user, scopes)) = (key.value(), value.value());
            let is_missed = match rule {
                Revocation::Token { .. } => false,
                Revocation::User { user: of_rule, .. } => of_rule.as_str() == user,
                Revocation::Service { service, .. } => scope_hashes::contain(scopes, service),
            };
            if is_missed {
                let token = TokenFingerprint::from_bytes(token);
                let expires_at = Timestamp::from_millis(expires_at);
                missed.push(Revocation::Token { token, expires_at });
            }
        }
        Ok(missed)
    }
}

/// Writes the revocations that could not be written before. Some of these revocations may be rules with the current
/// time. Such a rule misses registered PATs with a later issue time. So this function also writes revocations of these
/// PATs, and returns them.
fn write_all(database: &Database, unwritten: &Unwritten) -> Result<Vec<Revocation>, redb::Error> {
    let mut missed = Vec::new();
    if unwritten.is_empty() {
        return Ok(missed);
    }
    commit(database, |txn| {
        let mut tables = Tables::open(txn)?;
        for (revocation, reach) in unwritten.iter() {
            tables.insert(&revocation)?;
            if reach == Reach::OfNow {
                missed.extend(tables.missed_by(&revocation)?);
            }
        }
        missed.iter().try_for_each(|revocation| tables.insert(revocation))
    })?;
    Ok(missed)
}

/// Calls `write` in a transaction and commits this transaction durably. Then commits a second transaction
/// durably.
///
/// The file holds the roots of its last two commits. One byte, which has no checksum, selects the root
/// that is used. If this byte or the newer root is damaged, redb uses the older root and reports no
/// error. A revocation must therefore be under both roots before the caller gets `Ok`.
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
        // The second transaction must write something, so it increments this counter.
        let mut meta = txn.open_table(META)?;
        let seals = meta.get(SEALS)?.and_then(|value| value.value().try_into().ok());
        let seals = seals.map_or(0, u64::from_be_bytes).wrapping_add(1);
        meta.insert(SEALS, seals.to_be_bytes().as_slice())?;
    }
    Ok(txn.commit()?)
}

/// Sets the time of `key` to `to`, unless `key` has a later time.
fn raise<'k, K: Key + 'static>(
    table: &mut Table<'_, K, u64>,
    key: impl std::borrow::Borrow<K::SelfType<'k>>,
    to: Timestamp,
) -> Result<(), StorageError> {
    let present = table.get(key.borrow())?.map(|millis| millis.value());
    if present.is_none_or(|millis| millis < to.as_millis()) {
        table.insert(key.borrow(), to.as_millis())?;
    }
    Ok(())
}

/// Removes the entries that are no longer needed, and returns their number.
fn retain<K: Key + 'static>(
    table: &mut Table<'_, K, u64>,
    is_needed: impl Fn(Timestamp) -> bool,
) -> Result<usize, StorageError> {
    let before = table.len()?;
    table.retain(|_, millis| is_needed(Timestamp::from_millis(millis)))?;
    Ok(usize::try_from(before - table.len()?).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod power_loss;

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Revocation {
        Revocation::User { user: UserId::new(name).unwrap(), up_to: Timestamp::from_secs(1) }
    }

    /// A new file, and a writer whose database is closed, as after an error.
    pub(super) struct Fixture {
        pub(super) directory: tempfile::TempDir,
        pub(super) path: PathBuf,
        pub(super) writer: Writer,
    }

    impl Fixture {
        pub(super) fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("revocations.redb");
            drop(DurableStore::create(&path).unwrap());
            let (_, salt) = open(&path).unwrap();
            let writer = Writer {
                name: path.display().to_string().into(),
                id: FileId::of(&path).unwrap(),
                salt,
                faults: Arc::default(),
                database: None,
                index: Arc::default(),
                followers: Followers::default(),
                networks: Arc::default(),
                counts: PatCounts::default(),
                unwritten: Unwritten::default(),
                is_failing: false,
                is_suspended: false,
                uptime: Box::new(Uptime::now),
                advanced: Uptime::now(),
                path: path.clone(),
            };
            Self { directory, path, writer }
        }

        /// Opens the file, as another process could do. The writer cannot open the file until the returned database is
        /// dropped.
        fn block(&self) -> Database {
            open(&self.path).unwrap().0
        }
    }

    #[test]
    fn after_a_failed_write_the_revocation_applies_and_the_next_write_works() {
        let fixture = Fixture::new();
        let database = fixture.block();
        let Fixture { directory: _directory, path, mut writer } = fixture;
        let faults = writer.faults.clone();
        let mut record = |name| {
            let (reply, mut answer) = oneshot::channel();
            writer.record(&mut vec![(Write::Revocation(user(name)), reply)]);
            (answer.try_recv().unwrap(), writer.index.entries().len())
        };

        let (failed, entries) = record("ONE");
        let text = failed.unwrap_err().to_string();
        assert!(text.contains("revocations.redb could not be written"), "{text}");
        assert_eq!(entries, 1);
        assert_eq!((faults.count.get(), faults.last().is_some()), (1, true));

        drop(database);
        let (written, entries) = record("TWO");
        written.unwrap();
        assert_eq!(entries, 2);
        assert_eq!((faults.count.get(), faults.last().clone()), (1, None));

        // The file also contains the revocation whose write returned an error.
        drop(writer);
        assert_eq!(DurableStore::open(&path).unwrap().entries().len(), 2);
    }

    #[test]
    fn a_store_without_its_writer_thread_has_ended_and_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = DurableStore::create(directory.path().join("revocations.redb")).unwrap();
        assert!(!store.has_ended());
        // The writer thread ends when nothing can send commands to it.
        store.commands = None;
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while !store.has_ended() {
            assert!(std::time::Instant::now() < deadline);
            thread::yield_now();
        }
        let error = tokio_test::block_on(store.record(user("ONE"))).unwrap_err();
        assert!(matches!(error, StoreError::Ended { .. }), "{error}");
    }

    #[test]
    fn a_probe_notices_a_removed_file_and_a_file_that_can_be_written_again() {
        let fixture = Fixture::new();
        let database = fixture.block();
        let Fixture { directory, path, mut writer } = fixture;
        let faults = writer.faults.clone();
        writer.probe();
        assert_eq!(faults.last().clone(), None);

        let away = directory.path().join("away");
        fs::rename(&path, &away).unwrap();
        writer.probe();
        let reason = faults.last().clone().unwrap();
        assert!(reason.contains("was removed or replaced"), "{reason}");
        fs::rename(&away, &path).unwrap();
        // `database` still has the file open, as another process could have.
        writer.probe();
        let reason = faults.last().clone().unwrap();
        assert!(reason.contains("could not be written"), "{reason}");
        drop(database);
        writer.probe();
        assert!(faults.last().is_none() && writer.database.is_some());
    }

    #[test]
    fn a_suspended_store_lets_another_process_write_and_follows_it_when_it_resumes() {
        let Fixture { directory: _directory, path, .. } = Fixture::new();
        let store = DurableStore::open(&path).unwrap();
        tokio_test::block_on(store.record(user("ONE"))).unwrap();
        tokio_test::block_on(store.suspend()).unwrap();
        let other = DurableStore::open(&path).unwrap();
        assert_eq!(other.entries(), store.entries());
        let mut feed = other.follow();
        let refused = tokio_test::block_on(store.record(user("TWO")));
        assert!(matches!(refused, Err(StoreError::HandedOver { .. })));
        assert!(store.health().is_up());
        tokio_test::block_on(other.record(user("THREE"))).unwrap();
        let next = tokio_test::block_on(std::future::poll_fn(|cx| feed.poll_next(cx))).unwrap();
        store.apply_followed(&next);
        assert_eq!(store.entries(), other.entries());
        // The other process still has the file open.
        assert!(tokio_test::block_on(store.resume()).is_err());
        drop(other);
        tokio_test::block_on(store.resume()).unwrap();
        assert_eq!(store.entries().len(), 2);
        tokio_test::block_on(store.record(user("TWO"))).unwrap();
        drop(store);
        assert_eq!(DurableStore::open(&path).unwrap().entries().len(), 3);
    }

    #[test]
    fn a_probe_writes_revocations_that_could_not_be_written_before() {
        let fixture = Fixture::new();
        let store = DurableStore::open(&fixture.path).unwrap();
        let pat = IssuedPat {
            token: TokenFingerprint::from_bytes([7; 32]),
            user: UserId::new("ONE").unwrap(),
            scopes: crate::token::Scopes::parse(["a"]).unwrap(),
            issued_at: Timestamp::from_secs(5),
            expires_at: Timestamp::from_secs(9),
        };
        tokio_test::block_on(store.register(pat)).unwrap();
        drop(store);
        let database = fixture.block();
        let Fixture { directory: _directory, path, mut writer } = fixture;
        let faults = writer.faults.clone();
        for write in [Write::RuleOfNow(user("ONE")), Write::Revocation(user("TWO"))] {
            let (reply, mut answer) = oneshot::channel();
            writer.record(&mut vec![(write, reply)]);
            assert!(answer.try_recv().unwrap().is_err());
        }
        drop(database);
        writer.probe();
        assert_eq!(faults.last().clone(), None);
        // The rule with the current time (see `record_rule_of_now`) also revoked the registered PAT.
        assert_eq!(writer.index.entries().len(), 3);
        drop(writer);
        assert_eq!(DurableStore::open(&path).unwrap().entries().len(), 3);
    }

    #[test]
    fn the_store_stays_down_if_revocations_are_lost() {
        let fixture = Fixture::new();
        let database = fixture.block();
        let Fixture { directory: _directory, path, mut writer } = fixture;
        let faults = writer.faults.clone();
        let token = |i: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&i.to_le_bytes());
            let token = TokenFingerprint::from_bytes(bytes);
            Revocation::Token { token, expires_at: Timestamp::from_secs(1) }
        };
        // The first ten revocations occur twice. The writer keeps each of them only once.
        let tokens = (0..10).chain(0..10_003).map(token);
        let mut group = tokens.map(|r| (Write::Revocation(r), oneshot::channel().0)).collect();
        writer.record(&mut group);
        drop(database);
        for _ in 0..2 {
            writer.probe();
            let reason = faults.last().clone().unwrap();
            assert!(reason.starts_with("3 revocations are only in memory"), "{reason}");
        }
        drop(writer);
        assert_eq!(DurableStore::open(&path).unwrap().entries().len(), 10_000);
    }

    /// Returns the trusted time in the file.
    fn trusted(writer: &Writer) -> TrustedReading {
        let txn = writer.database.as_ref().unwrap().begin_read().unwrap();
        last_reading(&txn.open_table(META).unwrap()).unwrap().unwrap()
    }

    #[test]
    fn the_trusted_time_is_stored_with_each_write_and_hourly() {
        let Fixture { directory: _directory, mut writer, .. } = Fixture::new();
        let secs = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let (read, set) = (secs.clone(), |to| secs.store(to, std::sync::atomic::Ordering::SeqCst));
        writer.uptime = Box::new(move || Uptime {
            boot: "boot".to_owned(),
            since_boot: Duration::from_secs(read.load(std::sync::atomic::Ordering::SeqCst)),
        });
        let record = |writer: &mut Writer| {
            let (reply, _answer) = oneshot::channel();
            writer.record(&mut vec![(Write::Revocation(user("ONE")), reply)]);
        };
        // The file contains a trusted time only after the first eviction.
        record(&mut writer);
        writer.evict(Timestamp::from_secs(1_000_000)).unwrap();
        set(10);
        record(&mut writer);
        assert_eq!(trusted(&writer).time, Timestamp::from_secs(1_000_010));
        for (now, want) in [(3609, 10), (3610, 3610), (3700, 3610), (7300, 7300)] {
            set(now);
            writer.probe();
            assert_eq!(trusted(&writer).time, Timestamp::from_secs(1_000_000 + want), "{now}");
        }
    }

    #[test]
    fn the_writer_does_not_write_to_a_file_that_was_replaced() {
        let Fixture { directory: _directory, mut writer, .. } = Fixture::new();
        writer.salt = Salt::new([0; Salt::LEN]);
        let error = writer.evict(Timestamp::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("was removed or replaced"), "{error}");
    }
}
