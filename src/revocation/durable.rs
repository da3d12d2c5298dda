//! Revocations in a file, which is a database of the crate `redb`.

mod access_tokens;
#[cfg(feature = "redis")]
mod apply;
mod file;
mod load;
#[cfg(test)]
mod power_loss;
mod registry;
#[cfg(feature = "redis")]
mod shared;
#[cfg(feature = "redis")]
mod sharing;
mod tables;
#[cfg(test)]
mod tests;
mod verify;
mod writer;

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

pub use self::file::OpenError;
use self::{
    file::{FileId, catch_panic, check_exists, create, open},
    load::{Loaded, load_all},
    writer::{Command, Faults, Reply, Write, WriteStats, Writer},
};
use super::{
    CheckError, Evicted, IssuedPat, Revocation, RevocationCheck, RevocationIndex,
    RevocationListener, RevocationStore, StoreError, StoreFuture,
    followers::{Applied, AppliedRevocation, Followers, RevocationFeed},
    known_networks::{ClientNetwork, Day, KnownNetworks, NetworkMemory},
    salts::Salts,
    trusted_time::Uptime,
    unwritten::Unwritten,
};
use crate::{
    clock::Timestamp,
    health::Health,
    metrics::{Collect, Description, Exposition, LabelName},
    passticket::UserId,
    token::{ServiceId, TokenFingerprint, VerifiedToken},
};

const WRITE_ERRORS: Description = Description::counter(
    "passticket_revocation_write_errors_total",
    "Failed attempts to write the revocation file.",
);

const ENTRIES: Description = Description::gauge(
    "passticket_revocation_entries",
    "Revocations in memory: revoked tokens, rules for users and rules for services.",
);
const KIND: LabelName = LabelName::new("kind");
const BYTES: Description = Description::gauge(
    "passticket_revocation_file_bytes",
    "Size of the revocation file after the last write.",
);
const COMMITS: Description = Description::histogram(
    "passticket_revocation_commit_seconds",
    "Time to write a group of revocations to the revocation file.",
);

/// A [`RevocationStore`] in one file. One process at a time can open the file.
///
/// # Guarantees
/// 1. **`Ok` means durable.** After `record` returned `Ok`, the revocation survives `kill -9`. The revocation survives
///    a power failure if the disk keeps the data that the disk has acknowledged.
/// 2. **`Ok` means visible.** Every check that starts after `record` returned `Ok` sees the revocation.
/// 3. **No revocation is undone.** A rule with an earlier time never replaces a rule with a later time, in
///    the file or in memory.
/// 4. **A damaged file is an error.** It is never opened as a store with fewer revocations. Opening verifies the
///    checksum of every page. The file has two roots, one for each of its last two commits. Each write is committed
///    twice, so that both roots contain the revocations of the write. If one root is damaged, the other root still has
///    all revocations.
/// 5. **A write that has started is finished**, even if its future is dropped. Dropping the store waits
///    for pending writes.
///
/// If the file cannot be written, the caller gets an error. The revocation nevertheless applies in this process. The
/// store keeps up to 10,000 such revocations. It tries to write them before the next write, every five seconds, and
/// when the store is dropped.
///
/// # Cost
/// A check reads memory only. It hashes the fingerprint of the token with SHA-256, and looks the hash up in a
/// [`RevocationIndex`]. If other nodes have other salts, the check does this once for each salt. A check takes nearly
/// the same time with a million rules as with ten.
///
/// The store has one writer thread. This thread writes a group of revocations with two durable commits. Revocations
/// that arrive while the thread waits for the disk form the next group. The thread does not belong to an async runtime.
/// So a write is not lost if a runtime shuts down, and not delayed if a runtime has no free blocking thread.
/// `benches/revocation.rs` measures checks and writes.
///
/// Eviction removes expired revocations. It compares how far the wall clock and the monotonic clock have advanced since
/// the last eviction. If the wall clock has advanced over a minute more than the monotonic clock, the eviction does not
/// trust the wall clock. In this case, the eviction removes fewer revocations (docs/decisions.md#d39).
/// [`trust_clock`](Self::trust_clock) makes the next evictions trust the clock. An eviction that has removed
/// revocations or PATs also rewrites the file, so that the file becomes smaller. The rewrite takes about a second for
/// half a million rules. Writes wait until the eviction ends. Checks do not wait for the file.
///
/// # What the file holds
/// The file is a [redb] database with these tables:
///
/// | table | content |
/// |---|---|
/// | `invalidTokens`, `invalidUsers`, `invalidScopes` | revoked tokens, rules for users, rules for services |
/// | `issuedPats` | the PATs (Personal Access Tokens) that were [registered](RevocationStore::register) |
/// | `accessTokens` | the [registry](crate::revocation::AccessTokenStore) of PATs, with names and last uses |
/// | `accessTokenGraces` | the rotated PATs whose grace period has not ended |
/// | `knownNetworks` | the networks from which each user has logged in ([`KnownNetworks`]) |
/// | `foreignSalts` | the salts of other nodes, if they differ from the salt of this file |
/// | `meta` | the format, the salt and the trusted time |
///
/// In place of a token, the file holds a SHA-256 hash of a salt and of the fingerprint of the token. The salt is
/// random, and the file contains it. A token cannot be computed from its hash. A reader who has a token can compute its
/// hash, and look the hash up in the file. In the table `knownNetworks`, users and networks are salted hashes, too. The
/// rules contain the names of users and services, so that an administrator can read which rules exist. The tables
/// `issuedPats` and `accessTokens` contain user ids. `accessTokens` also contains the names of tokens, their services,
/// and the addresses of clients. If nodes share revocations, the file also has the revocations of other nodes.
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
    salts: Arc<Salts>,
    /// The nodes share revocations in a log. This field is the position up to which this node has applied the log. The
    /// file may have an older position.
    followed: Arc<Mutex<Option<Vec<u8>>>>,
    name: Arc<str>,
    faults: Arc<Faults>,
    stats: Arc<WriteStats>,
    /// `None` only while the store is being dropped.
    commands: Option<mpsc::Sender<Command>>,
    writer: Option<JoinHandle<()>>,
}

/// The file of a store. Without a database, the store starts suspended: each write returns an error.
struct FileAccess {
    id: FileId,
    database: Option<redb::Database>,
}

impl DurableStore {
    /// Creates a new file and opens it. On Unix, the file has mode 0600, so that only its owner can read and write it.
    /// A new file has no revocations, so use this function only for a new gateway.
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
    /// [`OpenError`] names the file, and says what the operator must do. An existing file is never replaced.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        Self::open_with_uptime(path.into(), Uptime::now)
    }

    /// As [`open`](Self::open), but tests can set the uptime.
    pub(super) fn open_with_uptime(
        path: PathBuf,
        uptime: impl Fn() -> Uptime + Send + 'static,
    ) -> Result<Self, OpenError> {
        check_exists(&path)?;
        let (database, id, loaded) = catch_panic(&path, || {
            let io_error = |source| OpenError::Io { file: path.clone(), source };
            let id = FileId::of(&path).map_err(io_error)?;
            let (database, salt) = open(&path)?;
            // The id is read before and after the file is opened. If both ids are the same, the database is in the file
            // with this id.
            if FileId::of(&path).map_err(io_error)? != id {
                return Err(io_error(io::Error::other(
                    "the file was replaced while it was opened",
                )));
            }
            let loaded = load_all(&path, &database, salt)?;
            Ok((database, id, loaded))
        })?;

        Self::start(path, FileAccess { id, database: Some(database) }, loaded, uptime)
    }

    fn start(
        path: PathBuf,
        FileAccess { id, database }: FileAccess,
        loaded: Loaded,
        uptime: impl Fn() -> Uptime + Send + 'static,
    ) -> Result<Self, OpenError> {
        let Loaded { index, counts, networks, salts, followed } = loaded;
        let (index, followed) = (Arc::new(index), Arc::new(Mutex::new(followed)));
        let networks = Arc::new(NetworkMemory::new(salts.own().hasher(), networks));
        let salts = Arc::new(salts);
        let name: Arc<str> = path.display().to_string().into();
        let (commands, received) = mpsc::channel();
        let faults = Arc::<Faults>::default();
        let stats = Arc::new(WriteStats::new(&path));
        let followers = Followers::default();
        let writer = Writer {
            name: name.clone(),
            faults: faults.clone(),
            stats: stats.clone(),
            salts: salts.clone(),
            followed: followed.clone(),
            id,
            is_suspended: database.is_none(),
            database,
            index: index.clone(),
            followers: followers.clone(),
            networks: networks.clone(),
            counts,
            unwritten: Unwritten::default(),
            is_failing: false,
            #[cfg(feature = "redis")]
            has_committed: false,
            #[cfg(feature = "redis")]
            followed_is_newer: false,
            advanced: uptime(),
            probed: Instant::now(),
            uptime: Box::new(uptime),
            path,
        };
        let writer = thread::Builder::new()
            .name("revocations".to_owned())
            .spawn(move || writer.run(&received))
            .map_err(|source| OpenError::Io { file: name.as_ref().into(), source })?;
        let (commands, writer) = (Some(commands), Some(writer));
        Ok(Self {
            index,
            followers,
            networks,
            salts,
            followed,
            name,
            faults,
            stats,
            commands,
            writer,
        })
    }

    /// Returns whether the store works: the writer thread runs, the last write succeeded, and no revocation was lost.
    ///
    /// Checks work even if the store is down, and they see all revocations of this process. But calls that record
    /// revocations return errors, and some revocations may be lost at a restart. After a failed write, the store tries
    /// every five seconds to write the revocations that are not in the file. If there are more such revocations than
    /// the store can keep, some never reach the file. The store then stays down until the program is restarted.
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

    /// Makes the next evictions trust the wall clock, which shows `now`. The store accepts any `now`. Call this only if
    /// an administrator has confirmed that the clock is right, for example after the machine was off for a long time.
    ///
    /// # Errors
    /// The errors of a write.
    pub fn trust_clock(&self, now: Timestamp) -> StoreFuture<()> {
        self.send(|reply| Command::TrustClock(now, reply))
    }

    /// Closes the file, so that another process can open it. All earlier writes are finished first. From now on, calls
    /// that need the file return [`StoreError::HandedOver`]. Checks continue with the revocations that this process
    /// knows.
    ///
    /// # Errors
    /// The errors of a write, if the file cannot be written. The store is then not suspended.
    pub fn suspend(&self) -> StoreFuture<()> {
        self.send(Command::Suspend)
    }

    /// Opens the file again after [`suspend`](Self::suspend). The store also applies the revocations that another
    /// process has written in the meantime.
    ///
    /// # Errors
    /// [`StoreError::Write`] if the file cannot be opened, for example because the other process still has it open.
    /// [`StoreError::Replaced`] if the file was removed or replaced. After an error, the store stays suspended.
    pub fn resume(&self) -> StoreFuture<()> {
        self.send(Command::Resume)
    }

    /// Returns a feed of the revocations that this store applies from now on. The feed is for another process that has
    /// [suspended](Self::suspend) its store.
    pub fn follow(&self) -> RevocationFeed {
        self.followers.add(&self.salts)
    }

    /// Applies a revocation or a salt that comes from the process that has the file now. This process then checks its
    /// unfinished responses, such as WebSockets, against the revocation.
    pub fn apply_followed(&self, AppliedRevocation(applied): &AppliedRevocation) {
        match applied {
            Applied::Revocation(revocation) => {
                self.index.apply(revocation);
                self.followers.tell(revocation);
            }
            Applied::Salt(salt) => {
                if self.salts.add(*salt).is_err() {
                    tracing::error!(file = %self.name, "the new process uses too many salts; this process does not see all revocations of tokens");
                }
            }
        }
    }

    /// Returns the time of the rule for the tokens of `user`, if there is one. The rule revokes the Personal Access
    /// Tokens that were issued at this time or before.
    pub fn rule_of_user(&self, user: &UserId) -> Option<Timestamp> {
        self.index.rule_of_user(user)
    }

    /// Returns the time of the rule for the tokens of `service`, if there is one.
    pub fn rule_of_service(&self, service: &ServiceId) -> Option<Timestamp> {
        self.index.rule_of_service(service)
    }

    /// Returns `true` for a store without revocations that has never stored a PAT or a known network, and has never
    /// followed other nodes.
    pub fn is_empty(&self) -> bool {
        let has_followed =
            || self.followed.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.index.is_empty() && !self.salts.is_own_used() && !has_followed()
    }

    /// Returns whether the writer thread has ended. Only a defect of the program can cause this. After the end of the
    /// thread, the store writes nothing. The program should exit, so that it is started again.
    pub fn has_ended(&self) -> bool {
        self.writer.as_ref().is_none_or(JoinHandle::is_finished)
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> std::collections::BTreeSet<String> {
        self.index.entries()
    }

    fn write(&self, write: Write) -> StoreFuture<()> {
        let written = self.send(|reply| Command::Write(write, reply));
        Box::pin(async move { written.await.map(drop) })
    }

    #[cold]
    fn check_foreign(&self, fingerprint: TokenFingerprint) -> Result<(), CheckError> {
        let mut salts = self.salts.foreign();
        salts.try_for_each(|salt| self.index.check_fingerprint(salt.apply(fingerprint)))
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
        let [tokens, users, services] = self.index.sizes().map(|size| size as u64);
        let entries = [("token", tokens), ("user-rule", users), ("service-rule", services)];
        exposition.series(&ENTRIES, entries.map(|(kind, size)| ([(KIND, kind)], size)));
        exposition.value(&BYTES, self.stats.bytes());
        exposition.histogram(&COMMITS, &self.stats.commits);
    }
}

impl RevocationCheck for DurableStore {
    fn try_check_now(&self, token: &VerifiedToken) -> Option<Result<(), CheckError>> {
        let fingerprint = token.fingerprint();
        let checked = self.index.check_as(self.salts.own().apply(fingerprint), token);
        if self.salts.has_foreign() {
            return Some(checked.and_then(|()| self.check_foreign(fingerprint)));
        }
        Some(checked)
    }

    fn on_revocation(&self, listener: RevocationListener) {
        self.index.on_revocation(listener);
    }
}

impl RevocationStore for DurableStore {
    fn record(&self, revocation: Revocation) -> StoreFuture<()> {
        self.write(Write::Revocation(revocation))
    }

    fn register(&self, pat: IssuedPat) -> StoreFuture<()> {
        self.write(Write::Issued(pat))
    }

    fn record_rule_of_now(&self, rule: Revocation) -> StoreFuture<()> {
        self.write(Write::RuleOfNow(rule))
    }

    fn evict(&self, now: Timestamp) -> StoreFuture<Evicted> {
        self.send(|reply| Command::Evict(now, reply))
    }
}

/// The networks are written in the background. If the file cannot be written, new networks may be lost at a restart.
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
        // The lock is held until the command is sent. Without the lock, two concurrent logins of a user could send
        // their commands in the wrong order, and the older list would be written last. The channel is unbounded, so
        // sending does not block.
        let mut networks = self.networks.lock();
        if networks.remember(keys, Day::of(now)) {
            let bytes = networks.to_bytes(keys.user);
            // Nothing waits for the result, so the future is dropped. If the file cannot be written, the writer logs
            // the error.
            drop(self.write(Write::Networks(keys.user, bytes)));
        }
        drop(networks);
    }
}
