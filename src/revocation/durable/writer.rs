//! The thread that writes the file.

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    time::{Duration, Instant},
};

use redb::{Database, ReadableTable, ReadableTableMetadata};
use tokio::sync::oneshot;

use super::{
    access_tokens::{self, ChangedEntries, is_idle},
    file::{FileId, open},
    load::{count_pats, load_followed, load_into, load_salts},
    tables::{
        ACCESS_TOKENS, ISSUED, META, NETWORKS, SERVICES, TOKENS, TRUSTED, Tables, UNUSED_SALT,
        USERS, advance_trusted_time, commit, read_trusted_time, retain,
    },
};
#[cfg(feature = "redis")]
use super::{
    shared::{SharedRecords, Unordered},
    tables::FOLLOWED,
};
#[cfg(feature = "redis")]
use crate::revocation::Record;
use crate::{
    clock::Timestamp,
    log_limit::log_limited,
    metrics::{Counter, Histogram},
    passticket::UserId,
    revocation::{
        AccessToken, AccessTokenChange, AccessTokenKey, AccessTokenOutcome, AccessTokenPage,
        AccessTokenQuery, Evicted, IssuedPat, Revocation, RevocationIndex, StoreError,
        access_tokens::{Entry, apply},
        followers::Followers,
        is_rule_needed, is_token_revocation_needed,
        issued::{MAX_PATS, PatCounts},
        known_networks::{Day, HASH, NetworkMemory},
        salt::Salt,
        salts::Salts,
        trusted_time::{TrustedReading, Uptime},
        unwritten::{Reach, Unwritten},
    },
};

/// An eviction warns the operator if the trusted time is behind the wall clock by more than this. Such an eviction
/// keeps some expired revocations, because it does not trust the wall clock.
pub(super) const LAG: Duration = Duration::from_secs(24 * 60 * 60);

/// The maximum number of writes in one commit. The number limits how long the first write of a group waits for the
/// commit.
pub(super) const MAX_GROUP: usize = 4096;

/// A group with this number of records gets no further writes, and is committed. The number is large, because records
/// of other nodes arrive in batches, and a node starts faster if it makes few commits.
const MAX_GROUP_RECORDS: usize = 200_000;

/// The writer calls [`Writer::probe`] at this interval, even while commands arrive. After a failed write, the probe
/// tests whether the file can be written again. Without this test, the store would stay down until the next write,
/// which may come much later.
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(5);

/// If nothing else is written, [`Writer::probe`] stores the trusted time at this interval. Example: the machine was off
/// for one day. After the restart, the trusted time is normally between 24 and 25 hours behind the real time.
pub(super) const ADVANCE_EVERY: Duration = Duration::from_secs(60 * 60);

pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Command {
    Write(Write, Reply<Written>),
    /// Returns records for other nodes. The `Record` is the last one that the caller has. The reply contains only
    /// records after this record. The `usize` is the maximum number of records in the reply.
    #[cfg(feature = "redis")]
    Export(Option<Record>, usize, Reply<Vec<Record>>),
    FindAccessToken(AccessTokenKey, Timestamp, Reply<Option<AccessToken>>),
    ListAccessTokens(AccessTokenQuery, Timestamp, Reply<AccessTokenPage>),
    Evict(Timestamp, Reply<Evicted>),
    TrustClock(Timestamp, Reply<()>),
    Suspend(Reply<()>),
    Resume(Reply<()>),
}

#[cfg_attr(
    not(feature = "redis"),
    expect(dead_code, reason = "only the nodes of a cluster need it")
)]
pub(super) struct Written {
    /// The write. Its fingerprints are salted, except those of a change of the registry.
    pub(super) write: Write,
    /// Revocations of single PATs that were caused by a rule with the current time, or by a change of the registry of
    /// issued PATs.
    pub(super) missed: Vec<Revocation>,
    pub(super) outcome: Option<AccessTokenOutcome>,
    pub(super) changed: Vec<Entry>,
    pub(super) registered: Vec<IssuedPat>,
    /// Entries of the registry that are newer than the records of this write. Other nodes do not have them yet.
    #[cfg(feature = "redis")]
    pub(super) newer: Vec<Record>,
}

impl Written {
    /// Returns the result of a write that has changed nothing else.
    pub(super) fn of(write: Write) -> Self {
        Self {
            write,
            missed: Vec::new(),
            outcome: None,
            changed: Vec::new(),
            registered: Vec::new(),
            #[cfg(feature = "redis")]
            newer: Vec::new(),
        }
    }
}

#[derive(Default)]
struct Done {
    missed: Vec<Revocation>,
    outcome: Option<AccessTokenOutcome>,
    changed: Vec<Entry>,
    registered: Vec<IssuedPat>,
}

/// One write. The writer salts the fingerprints of revocations and PATs.
pub(super) enum Write {
    Revocation(Revocation),
    /// A rule with the current time. It also revokes the registered PATs whose issue time is later than the time of the
    /// rule.
    RuleOfNow(Revocation),
    Issued(IssuedPat),
    /// A change of the registry of issued PATs. Its fingerprints are not salted.
    AccessTokens(AccessTokenChange, Timestamp),
    Networks([u8; HASH], Vec<u8>),
    /// Records of other nodes. Their fingerprints are salted.
    #[cfg(feature = "redis")]
    Shared(SharedRecords),
}

impl Write {
    fn salt(&mut self, salts: &Salts) {
        let token = match self {
            Self::Revocation(Revocation::Token { token, .. })
            | Self::RuleOfNow(Revocation::Token { token, .. })
            | Self::Issued(IssuedPat { token, .. }) => token,
            // The hashes of networks were made with the own salt. The fingerprints of a change are salted while the
            // change is written.
            Self::Networks(..) | Self::AccessTokens(..) => return salts.use_own(),
            _ => return,
        };
        salts.use_own();
        *token = salts.own().apply(*token);
    }

    fn is_repeated_by_caller(&self) -> bool {
        match self {
            #[cfg(feature = "redis")]
            Self::Shared(_) => true,
            _ => false,
        }
    }

    /// Returns the user whose number of registered PATs this write raises.
    fn registers_for(&self) -> Option<UserId> {
        match self {
            Self::Issued(pat)
            | Self::AccessTokens(
                AccessTokenChange::Issue { pat, .. } | AccessTokenChange::Rotate { new: pat, .. },
                _,
            ) => Some(pat.user),
            _ => None,
        }
    }

    /// Returns whether the revocations of this change apply even if the change could not be written. Returns false for
    /// a rotation: if it could not be written, its user does not get the new token, and must be able to use the old
    /// token.
    fn revokes_without_file(&self) -> bool {
        !matches!(self, Self::AccessTokens(AccessTokenChange::Rotate { .. }, _))
    }

    fn records(&self) -> usize {
        match self {
            #[cfg(feature = "redis")]
            Self::Shared(shared) => shared.records.len(),
            _ => 1,
        }
    }
}

#[derive(Debug)]
pub(super) enum WriteProblem {
    /// The path no longer names the file that the store opened at its start.
    Replaced,
    Failed(Box<dyn Error + Send + Sync>),
}

impl From<redb::Error> for WriteProblem {
    fn from(error: redb::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// The size of the file and the times of writes. The store and its writer thread share this value.
pub(super) struct WriteStats {
    bytes: AtomicU64,
    pub(super) commits: Histogram,
}

impl WriteStats {
    pub(super) fn new(path: &Path) -> Self {
        const fn millis(millis: u64) -> Duration {
            Duration::from_millis(millis)
        }
        const LIMITS: &[Duration] = &[
            millis(1),
            millis(5),
            millis(10),
            millis(25),
            millis(50),
            millis(100),
            millis(250),
            millis(500),
            millis(1000),
            millis(2500),
            millis(10_000),
        ];
        let stats = Self { bytes: AtomicU64::new(0), commits: Histogram::new(LIMITS) };
        stats.measure(path);
        stats
    }

    /// Reads the size of the file. After the start, only the writer thread does so, because the call can block.
    fn measure(&self, path: &Path) {
        if let Ok(file) = fs::metadata(path) {
            self.bytes.store(file.len(), Relaxed);
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }
}

/// The errors of writes. The store and its writer thread share this value.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) count: Counter,
    /// Why the store is down: the last use of the file failed, or revocations were lost. `None` if the store is not
    /// down.
    pub(super) last: Mutex<Option<String>>,
}

impl Faults {
    pub(super) fn last(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of the writer thread. Only this thread changes the file. It first tries to change the file, and then
/// changes the index.
pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) name: Arc<str>,
    pub(super) salts: Arc<Salts>,
    pub(super) followed: Arc<Mutex<Option<Vec<u8>>>>,
    /// The file that the store opened at its start. The index contains the revocations of this file.
    pub(super) id: FileId,
    pub(super) faults: Arc<Faults>,
    pub(super) stats: Arc<WriteStats>,
    /// `None` while the store is suspended, and after an error. After an error, redb accepts no writes until the
    /// database is reopened.
    pub(super) database: Option<Database>,
    pub(super) index: Arc<RevocationIndex>,
    pub(super) followers: Followers,
    pub(super) networks: Arc<NetworkMemory>,
    /// How many PATs of each user are in the table [`ISSUED`].
    pub(super) counts: PatCounts,
    /// Revocations that apply, but could not be written. The next write begins with these revocations.
    pub(super) unwritten: Unwritten,
    pub(super) is_failing: bool,
    /// Whether this process has committed to the file. Before the first commit, the newest records may be under only
    /// one of the two roots of the file. Such records are not durable (see [`commit`]).
    #[cfg(feature = "redis")]
    pub(super) has_committed: bool,
    /// Whether `followed` is newer than the value in the file. The next commit stores it.
    #[cfg(feature = "redis")]
    pub(super) followed_is_newer: bool,
    /// Whether the store is suspended, so that another process can write the file.
    pub(super) is_suspended: bool,
    pub(super) uptime: Box<dyn Fn() -> Uptime + Send>,
    /// The uptime at which the trusted time was last stored. At first, this is the uptime at which the file was opened.
    pub(super) advanced: Uptime,
    pub(super) probed: Instant,
}

impl Writer {
    pub(super) fn run(mut self, commands: &mpsc::Receiver<Command>) {
        let mut group = Vec::new();
        while let Some(first) = self.wait_for(commands) {
            let mut next = Some(first);
            let mut records = 0;
            while let Some(command) = next {
                match command {
                    Command::Write(write, reply) => {
                        records += write.records();
                        group.push((write, reply));
                    }
                    #[cfg(feature = "redis")]
                    Command::Export(after, limit, reply) => {
                        self.record(&mut group);
                        let _ = reply.send(self.export(after.as_ref(), limit));
                    }
                    Command::FindAccessToken(key, now, reply) => {
                        self.record(&mut group);
                        let _ = reply.send(self.find_access_token(&key, now));
                    }
                    // The caller no longer waits for the list.
                    Command::ListAccessTokens(_, _, reply) if reply.is_closed() => {}
                    Command::ListAccessTokens(query, now, reply) => {
                        self.record(&mut group);
                        let _ = reply.send(self.list_access_tokens(&query, now));
                    }
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
                let has_room = group.len() < MAX_GROUP && records < MAX_GROUP_RECORDS;
                next = if has_room { commands.try_recv().ok() } else { None };
            }
            self.record(&mut group);
        }
        if !self.unwritten.is_empty() && !self.is_suspended {
            // `with_database` tries once more to write the unwritten revocations. If this fails, it logs the error.
            let _ = self.with_database(|_| Ok(()));
        }
    }

    /// Waits for the next command. Returns `None` if the store is being dropped. Calls [`probe`](Self::probe) every
    /// [`PROBE_EVERY`], even if commands arrive all the time.
    pub(super) fn wait_for(&mut self, commands: &mpsc::Receiver<Command>) -> Option<Command> {
        loop {
            let wait = PROBE_EVERY.saturating_sub(self.probed.elapsed());
            if wait.is_zero() {
                self.probe();
                self.probed = Instant::now();
                continue;
            }
            match commands.recv_timeout(wait) {
                Ok(command) => return Some(command),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Finds out whether the file was removed or replaced, and stores the trusted time if this is due. After a failed
    /// write, tests whether the file can be written again.
    pub(super) fn probe(&mut self) {
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

    fn resume(&mut self) -> Result<(), StoreError> {
        if !self.is_suspended {
            return Ok(());
        }
        let (index, mut counts) = (self.index.clone(), PatCounts::default());
        self.is_suspended = false;
        let (salts, mut followed) = (self.salts.clone(), None);
        let resumed = self.with_database(|database| {
            load_salts(&salts, database)?;
            load_into(&index, database)?;
            counts = count_pats(database)?;
            followed = load_followed(database)?;
            Ok(())
        });
        match resumed {
            Ok(()) => {
                self.counts = counts;
                #[cfg(feature = "redis")]
                {
                    (self.has_committed, self.followed_is_newer) = (false, false);
                }
                *self.followed.lock().unwrap_or_else(PoisonError::into_inner) = followed;
            }
            Err(_) => (self.is_suspended, self.database) = (true, None),
        }
        resumed
    }

    fn must_advance(&self) -> bool {
        let now = (self.uptime)();
        now.since_boot.saturating_sub(self.advanced.since_boot) >= ADVANCE_EVERY
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        let uptime = (self.uptime)();
        self.with_database(|database| {
            commit(database, |txn| advance_trusted_time(txn, uptime.clone()))
        })?;
        self.advanced = uptime;
        Ok(())
    }

    /// Writes a group of [`Write`]s. If a user already has the maximum number of PATs, further PATs are refused and not
    /// written.
    pub(super) fn record(&mut self, group: &mut Vec<(Write, Reply<Written>)>) {
        self.refuse(group);
        if group.is_empty() {
            return;
        }
        #[cfg(feature = "redis")]
        if self.answer_known(group) {
            return;
        }
        if self.answer_idle(group) {
            return;
        }
        group.iter_mut().for_each(|(write, _)| write.salt(&self.salts));
        #[cfg(feature = "redis")]
        let adopted = self.take_salts(group);
        let mut done: Vec<Done> = Vec::new();
        #[cfg(feature = "redis")]
        let mut newer = Vec::new();
        let salts = self.salts.clone();
        // The users of registered PATs of other nodes.
        #[cfg(feature = "redis")]
        let mut registered = Vec::new();
        #[cfg(feature = "redis")]
        let own = adopted.unwrap_or(*self.salts.own().bytes());
        let is_own_used = self.salts.is_own_used();
        #[cfg(feature = "redis")]
        let followed = self.newer_followed();
        let uptime = (self.uptime)();
        let began = Instant::now();
        let written = self.with_database(|database| {
            commit(database, |txn| {
                advance_trusted_time(txn, uptime.clone())?;
                #[cfg(feature = "redis")]
                if let Some(followed) = &followed {
                    txn.open_table(META)?.insert(FOLLOWED, followed.as_slice())?;
                }
                if is_own_used {
                    txn.open_table(META)?.remove(UNUSED_SALT)?;
                }
                let mut tables = Tables::open(txn)?;
                #[cfg(feature = "redis")]
                let mut unordered = Unordered::default();
                for (write, _) in &*group {
                    let mut now_done = Done::default();
                    match write {
                        Write::Revocation(revocation) => {
                            tables.insert(revocation)?;
                        }
                        Write::RuleOfNow(rule) => {
                            #[cfg(feature = "redis")]
                            unordered.store(&mut tables, &mut registered, &mut newer)?;
                            tables.insert(rule)?;
                            now_done.missed = tables.missed_by(rule)?;
                            for revocation in &now_done.missed {
                                tables.insert(revocation)?;
                            }
                        }
                        Write::Issued(pat) => tables.register(pat)?,
                        Write::AccessTokens(change, now) => {
                            // The change must see the revocations of other nodes.
                            #[cfg(feature = "redis")]
                            unordered.store(&mut tables, &mut registered, &mut newer)?;
                            let mut entries = ChangedEntries::new(&mut tables, &salts);
                            let now = match change {
                                AccessTokenChange::RevokeIdle(_) => {
                                    read_trusted_time(txn, *now, uptime.clone())?.min(*now)
                                }
                                _ => *now,
                            };
                            now_done.outcome = Some(apply(change, now, &mut entries)?);
                            let ChangedEntries { revoked, changed, registered, .. } = entries;
                            now_done.missed = revoked;
                            (now_done.changed, now_done.registered) = (changed, registered);
                        }
                        Write::Networks(user, networks) => {
                            tables.networks.insert(user, networks.as_slice())?;
                        }
                        #[cfg(feature = "redis")]
                        Write::Shared(shared) => {
                            shared.store_meta(txn, &own, adopted.is_some())?;
                            for record in &shared.records {
                                unordered.add(record);
                                let Record::RuleOfNow(rule) = record else { continue };
                                // The rule revokes only PATs that are before it in the log, so these PATs are stored
                                // first.
                                unordered.store(&mut tables, &mut registered, &mut newer)?;
                                for revocation in tables.missed_by(rule)? {
                                    tables.insert(&revocation)?;
                                    now_done.missed.push(revocation);
                                }
                            }
                        }
                    }
                    done.push(now_done);
                }
                #[cfg(feature = "redis")]
                unordered.store(&mut tables, &mut registered, &mut newer)?;
                Ok(())
            })
        });
        let has_failed = written.is_err();
        if !has_failed {
            self.stats.commits.observe(began.elapsed());
            self.advanced = uptime;
            #[cfg(feature = "redis")]
            {
                (self.has_committed, self.followed_is_newer) = (true, false);
            }
        }
        #[cfg(feature = "redis")]
        self.finish_shared(group, adopted, &registered, has_failed);
        // A failed transaction may have ended before the last write, so `done` may be shorter than `group`.
        done.resize_with(group.len(), Done::default);
        let unwritten = |reach| has_failed.then_some(reach);
        for ((write, reply), done) in group.drain(..).zip(done) {
            let Done { missed, outcome, changed, registered } = done;
            let is_repeated = write.is_repeated_by_caller();
            if !has_failed || write.revokes_without_file() {
                for revocation in &missed {
                    self.apply(revocation, unwritten(Reach::ByTime).filter(|_| !is_repeated));
                }
            }
            let is_registered = !has_failed
                && outcome.as_ref().is_none_or(|it| matches!(it, AccessTokenOutcome::Token(_)));
            if let Some(user) = write.registers_for().filter(|_| !is_registered) {
                self.counts.release(user);
            }
            match &write {
                Write::Revocation(revocation) => self.apply(revocation, unwritten(Reach::ByTime)),
                Write::RuleOfNow(rule) => self.apply(rule, unwritten(Reach::OfNow)),
                Write::Issued(_) | Write::AccessTokens(..) | Write::Networks(..) => {}
                #[cfg(feature = "redis")]
                Write::Shared(_) => {}
            }
            // The first write of shared records gets all newer entries, and its caller publishes these entries.
            #[cfg(feature = "redis")]
            let newer = match &write {
                Write::Shared(_) => std::mem::take(&mut newer),
                _ => Vec::new(),
            };
            let _ = reply.send(written.clone().map(|()| Written {
                write,
                missed,
                outcome,
                changed,
                registered,
                #[cfg(feature = "redis")]
                newer,
            }));
        }
    }

    /// If the group contains only `EndGraces` and `Misuse`, and none of them would change anything, answers them
    /// without a commit, and returns true. The program sends an `EndGraces` every second, which usually changes
    /// nothing.
    fn answer_idle(&mut self, group: &mut Vec<(Write, Reply<Written>)>) -> bool {
        let is_regular = |write: &Write| {
            use AccessTokenChange::{EndGraces, Misuse};
            matches!(write, Write::AccessTokens(EndGraces | Misuse { .. }, _))
        };
        if !group.iter().all(|(write, _)| is_regular(write)) {
            return false;
        }
        let (salts, index) = (self.salts.clone(), self.index.clone());
        let are_idle = self.with_database(|database| {
            for (write, _) in &*group {
                let Write::AccessTokens(change, now) = write else { return Ok(false) };
                if !is_idle(database, &salts, &index, change, *now)? {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        if !matches!(are_idle, Ok(true)) {
            return false;
        }
        for (write, reply) in group.drain(..) {
            let outcome = Some(AccessTokenOutcome::Revoked(0));
            let _ = reply.send(Ok(Written { outcome, ..Written::of(write) }));
        }
        true
    }

    /// If the store is suspended, refuses all writes. If the store is not suspended, refuses the new PATs of users who
    /// already have the maximum number of PATs.
    fn refuse(&mut self, group: &mut Vec<(Write, Reply<Written>)>) {
        if self.is_suspended {
            // If the client repeats the request, the other process answers it.
            for (_, reply) in group.drain(..) {
                let _ = reply.send(Err(StoreError::HandedOver { store: self.name.clone() }));
            }
        }
        let refused = group.extract_if(.., |(write, _)| {
            write.registers_for().is_some_and(|user| self.counts.reserve(user).is_err())
        });
        for (write, reply) in refused {
            if let Some(user) = write.registers_for() {
                let _ = reply.send(Err(StoreError::TooManyPats { user, limit: MAX_PATS }));
            }
        }
    }

    /// Applies a revocation to the index. If the revocation could not be written, `unwritten` contains its [`Reach`],
    /// and the next write begins with this revocation.
    fn apply(&mut self, revocation: &Revocation, unwritten: Option<Reach>) {
        self.index.apply(revocation);
        self.followers.tell(revocation);
        if let Some(reach) = unwritten {
            self.unwritten.keep(revocation.clone(), reach);
        }
    }

    /// Removes the revocations, PATs and networks that are not needed at the earlier of two times: the trusted time and
    /// `wall`.
    pub(super) fn evict(&mut self, wall: Timestamp) -> Result<Evicted, StoreError> {
        let uptime = (self.uptime)();
        let mut counts = PatCounts::default();
        let (networks, salts) = (self.networks.clone(), self.salts.clone());
        let (evicted, stored) = self.with_database(|database| {
            let (mut evicted, mut stored) = (Evicted::default(), wall);
            let mut evicted_pats = 0;
            commit(database, |txn| {
                stored = read_trusted_time(txn, wall, uptime)?;
                let trusted = stored.min(wall);
                let keep_token = |expires_at| is_token_revocation_needed(expires_at, trusted);
                let keep_rule = |up_to| is_rule_needed(up_to, trusted);
                let mut tokens = txn.open_table(TOKENS)?;
                evicted.tokens = retain(&mut tokens, keep_token)?;
                evicted.users = retain(&mut txn.open_table(USERS)?, keep_rule)?;
                evicted.services = retain(&mut txn.open_table(SERVICES)?, keep_rule)?;
                let mut issued = txn.open_table(ISSUED)?;
                let before = issued.len()?;
                issued.retain(|(_, token), (expires_at, user, _)| {
                    // A rule need not find a PAT that is already revoked, so such a PAT is removed and does not count.
                    // If such a PAT counted, a client that rotates its PAT often would soon reach the maximum number of
                    // registered PATs of its user.
                    let is_revoked = matches!(tokens.get(token), Ok(Some(_)));
                    let keep = keep_token(Timestamp::from_millis(expires_at)) && !is_revoked;
                    if let (true, Ok(user)) = (keep, UserId::new(user)) {
                        counts.count(user);
                    }
                    keep
                })?;
                evicted_pats = before - issued.len()?;
                evicted_pats += access_tokens::evict(&mut txn.open_table(ACCESS_TOKENS)?, trusted)?;
                drop((tokens, issued));
                let mut tables = Tables::open(txn)?;
                evicted_pats += access_tokens::limit(&mut tables, &salts, trusted)?;
                drop(tables);
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

    pub(super) fn trust_clock(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let reading = TrustedReading { time: now, uptime: (self.uptime)() };
        self.with_database(|database| {
            commit(database, |txn| {
                txn.open_table(META)?.insert(TRUSTED, reading.to_bytes().as_slice())?;
                Ok(())
            })
        })
    }

    /// Opens the database if it is closed. Then writes the revocations that could not be written before, and calls
    /// `write`. After an error of the database, closes the database.
    ///
    /// If the file was removed or replaced, this is an error, because the next start would not find the written data.
    /// The file is checked before and after the write. The second check finds a file that was replaced during the
    /// write.
    pub(super) fn with_database<T>(
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
                self.stats.measure(&self.path);
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

    /// Counts and logs a problem, and keeps it for [`DurableStore::health`](super::DurableStore::health).
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
        #[cfg(feature = "redis")]
        {
            self.has_committed = false;
        }
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
        // The hashes in the index were made with the salt of the file that the store opened at its start. So the file
        // must have the same salt now. There is one exception: if there are no such hashes, the file may have adopted
        // the salt of another node.
        let is_expected = |bytes: &[u8; Salt::LEN]| {
            let is_adopted = !self.salts.is_own_used() && self.salts.is_foreign(bytes);
            bytes == self.salts.own().bytes() || (is_adopted && self.adopt(bytes))
        };
        if !is_expected(salt.bytes()) {
            return Err(WriteProblem::Replaced);
        }
        Ok(database)
    }

    /// Replaces the own salt in memory. Returns whether it could be replaced.
    pub(super) fn adopt(&self, salt: &[u8; Salt::LEN]) -> bool {
        let is_adopted = self.salts.adopt(*salt);
        if is_adopted {
            self.networks.adopt(self.salts.own().hasher());
        }
        is_adopted
    }
}

/// Writes the revocations that could not be written before. Some of these revocations may be rules with the current
/// time. Such a rule misses registered PATs with a later issue time. So this function also writes revocations of these
/// PATs, and returns them.
pub(super) fn write_all(
    database: &Database,
    unwritten: &Unwritten,
) -> Result<Vec<Revocation>, redb::Error> {
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
        missed.iter().try_for_each(|revocation| tables.insert(revocation).map(drop))
    })?;
    Ok(missed)
}
