//! Zowe's Caching Service as a second store of revocations. API ML (Zowe's API Mediation Layer) keeps its revocations
//! there. In the *index mode*, the gateway reads all revocations regularly. In the *query mode*, it asks the service
//! about each PAT (Personal Access Token).

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use quick_cache::{Weighter, sync::Cache};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use uuid::Uuid;

use super::{
    client::{AllLists, Call, ServiceClient},
    error::CachingServiceError,
    index::{PolledIndex, as_check},
    pat_hashes::PatHashes,
    salt::Salt,
    settings::{CachingServiceFound, CachingServiceLayout, CachingServiceSettings, ReadMode},
    write::{Subject, Waiting},
};
use crate::{
    clock::{Clock, SystemClock},
    health::Health,
    log_limit::log_limited,
    metrics::{Collect, Counter, Description, Exposition},
    remote::{Address, CachePolicy, Client, ClientLimits, Connect, RemoteError, SingleFlightCache},
    revocation::{CheckError, RevocationListener, RevokedBy, StoreError, StoreFuture},
    token::{Pat, TokenFingerprint},
};

/// The time between two reads of the salt. API ML uses the same interval.
const SALT_EVERY: Duration = Duration::from_secs(5 * 60);

/// After a failure, the gateway waits for this time. Then it again prepares the service, reads the salt or repeats
/// writes.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// In the query mode, the gateway sends a query without keys at this interval. So it knows the health of the service
/// even if no client uses a PAT.
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// How long the error of a failed query about a PAT is cached. An error is never cached for longer than an answer.
const ERROR_MEMORY: Duration = Duration::from_secs(1);

/// The maximum number of PATs whose answers are kept in the query mode.
const MAX_ANSWERS: NonZeroUsize = NonZeroUsize::new(10_000).expect("should not be zero");

/// The maximum number of hashes that are kept. A hash has 64 bytes.
const MAX_HASHES: usize = 50_000;

/// The maximum number of salts that checks use. More salts would slow down all checks.
const MAX_SALTS: usize = 4;

/// The values of [`Problems::salt`].
const GONE: &str = "is gone";
const CHANGED: &str = "has changed";

/// If an answer is larger than this, the log recommends the query mode.
const LARGE_ANSWER: usize = 1024 * 1024;

/// The time limit of the first attempt to write a revocation. This attempt includes all entries of the revocation and
/// all tries. A later attempt as a whole has no time limit, but each of its calls has one.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// The minimum time limit of one call that writes. A busy service first waits four seconds for its lock, and then
/// answers a write.
const MIN_WRITE_DEADLINE: Duration = Duration::from_secs(6);

const NAME: &str = "the Caching Service of API ML";

const POLLS: Description = Description::counter(
    "passticket_zowe_revocation_reads_total",
    "Reads of revocations from Zowe's Caching Service, including calls that only test it.",
);
const FAILED: Description = Description::counter(
    "passticket_zowe_revocation_read_errors_total",
    "Failed reads of revocations from Zowe's Caching Service, including failed calls that only test it.",
);
const WRITE_ERRORS: Description = Description::counter(
    "passticket_zowe_revocation_write_errors_total",
    "Revocations that Zowe's Caching Service did not confirm when they were made.",
);
const WAITING: Description = Description::gauge(
    "passticket_zowe_revocation_waiting_writes",
    "Revocations that Zowe's Caching Service has not confirmed.",
);
const SALTS: Description = Description::gauge(
    "passticket_zowe_revocation_salts",
    "Salts of Zowe's Caching Service since the start. More than 1 is an incident.",
);
const ENTRIES: Description = Description::gauge(
    "passticket_zowe_revocation_entries",
    "Revocations in the last answer of Zowe's Caching Service, in the index mode.",
);
const BYTES: Description = Description::gauge(
    "passticket_zowe_revocation_answer_bytes",
    "Size of the last answer of Zowe's Caching Service, in the index mode.",
);

/// Zowe's Caching Service: the service in which API ML keeps its revocations of PATs (Personal Access Tokens)
/// (docs/reference/zowe-site.md#caching-store-modes, docs/decisions.md#d33).
///
/// Until [`prepare`](Self::prepare) has succeeded, each check of a PAT returns [`CheckError::Unavailable`].
/// [`run`](Self::run) repeats `prepare` until it succeeds. `run` must run as long as the service is used. Clones are
/// handles to the same service.
#[derive(Clone)]
pub struct CachingService(Arc<Shared>);

pub(super) struct Calls {
    pub(super) reads: Arc<dyn Call>,
    pub(super) writes: Arc<dyn Call>,
}

struct Shared {
    settings: CachingServiceSettings,
    reads: ServiceClient,
    writes: ServiceClient,
    clock: Arc<dyn Clock>,
    site: ArcSwapOption<Site>,
    index: PolledIndex,
    answers: SingleFlightCache<TokenFingerprint, RevokedBy, CheckError>,
    waiting: Mutex<Waiting>,
    problems: Mutex<Problems>,
    listeners: Mutex<Vec<RevocationListener>>,
    reads_made: Counter,
    reads_failed: Counter,
    writes_failed: Counter,
    salts_seen: AtomicU64,
}

struct Site {
    /// The first salt since the start, and the newest other salts, in the order in which the gateway saw them.
    salts: Vec<Salt>,
    has_query: bool,
    /// The hashes of the PATs that were checked last.
    hashes: Cache<TokenFingerprint, Arc<PatHashes>, HashCount>,
}

#[derive(Clone)]
struct HashCount;

impl Weighter<TokenFingerprint, Arc<PatHashes>> for HashCount {
    fn weight(&self, _: &TokenFingerprint, hashes: &Arc<PatHashes>) -> u64 {
        hashes.len().max(1) as u64
    }
}

#[derive(Default)]
struct Problems {
    /// The error of the last read of revocations, or of the last test of the service, if it failed.
    read: Option<CachingServiceError>,
    /// The error of the last failed write. The error is removed when no write waits.
    write: Option<CachingServiceError>,
    /// The last problem with the salt since the start: the salt changed, or was missing.
    salt: Option<&'static str>,
    /// Whether the lists have become empty while the service did not have the salt that it had when the gateway
    /// started. If so, the gateway ignores answers until the service has this salt again.
    lists_are_lost: bool,
    is_large: bool,
}

impl Site {
    fn new(salts: Vec<Salt>, has_query: bool) -> Self {
        let hashes = Cache::with_weighter(MAX_HASHES / 5, MAX_HASHES as u64, HashCount);
        Self { salts, has_query, hashes }
    }

    fn hashes_of(&self, pat: &Pat) -> Option<Arc<PatHashes>> {
        let fingerprint = pat.fingerprint();
        if let Some(hashes) = self.hashes.get(&fingerprint) {
            return Some(hashes);
        }
        let hashes = Arc::new(PatHashes::of(pat, &self.salts)?);
        self.hashes.insert(fingerprint, hashes.clone());
        Some(hashes)
    }
}

impl CachingService {
    /// Uses the Caching Service behind API ML's gateway at `address`, such as `https://zowe.example:7554`.
    ///
    /// `connector` must present a certificate with the subject of API ML's own certificate, and must verify the server.
    /// `limits` applies to all calls, but a call that writes has at least six seconds. In the index mode,
    /// [`max_body`](ClientLimits::max_body) limits the size of the answer with all revocations.
    pub fn new<C: Connect>(
        connector: C,
        limits: ClientLimits,
        address: Address,
        settings: CachingServiceSettings,
    ) -> Self {
        let writes = limits.with_deadline(limits.deadline().max(MIN_WRITE_DEADLINE));
        let reads: Client<C> = Client::new(connector.clone(), limits);
        // Writes may take a long time, and must not delay checks. So writes have their own client.
        let writes: Client<C> = Client::new(connector, writes);
        let calls = Calls { reads: Arc::new(reads), writes: Arc::new(writes) };
        Self::with_calls(calls, limits.deadline(), address, settings)
    }

    pub(super) fn with_calls(
        calls: Calls,
        deadline: Duration,
        address: Address,
        settings: CachingServiceSettings,
    ) -> Self {
        let (memory, every) = match settings.mode() {
            ReadMode::Index { every } => (Duration::ZERO, every),
            ReadMode::Query { memory } => (memory, Duration::ZERO),
        };
        let policy = CachePolicy::default()
            .with_entries(MAX_ANSWERS)
            .with_found(memory)
            .with_not_found(memory)
            .with_error(memory.min(ERROR_MEMORY));
        Self(Arc::new(Shared {
            settings,
            reads: ServiceClient::new(calls.reads, address.clone()),
            writes: ServiceClient::new(calls.writes, address),
            clock: Arc::new(SystemClock),
            site: ArcSwapOption::empty(),
            index: PolledIndex::new(every + deadline),
            answers: SingleFlightCache::new(policy),
            waiting: Mutex::default(),
            problems: Mutex::default(),
            listeners: Mutex::default(),
            reads_made: Counter::new(),
            reads_failed: Counter::new(),
            writes_failed: Counter::new(),
            salts_seen: AtomicU64::new(0),
        }))
    }

    /// Finds out whether the service can be used, and which partition, salt and layout it has. In the index mode, also
    /// reads all revocations. If the settings allow it, creates a missing salt.
    ///
    /// # Errors
    /// [`CachingServiceError`]. If it [needs an operator](CachingServiceError::needs_operator), the program should not
    /// start.
    pub async fn prepare(&self) -> Result<CachingServiceFound, CachingServiceError> {
        let shared = &*self.0;
        let found = shared.prepare().await;
        shared.note_read(found.as_ref().err());
        found
    }

    /// Reads revocations regularly in the index mode, watches the salt, and repeats writes that were not confirmed.
    /// This function does not return.
    pub async fn run(self) {
        let shared = &*self.0;
        while shared.site.load().is_none() {
            match self.prepare().await {
                Ok(found) => tracing::info!(%found, "the Caching Service of API ML is used"),
                Err(error) => {
                    log_limited!(error, "caching service", { %error }, "the Caching Service cannot be used; Personal Access Tokens are refused");
                    sleep(AGAIN_AFTER).await;
                }
            }
        }
        tokio::join!(shared.read_regularly(), shared.watch_salt(), shared.repeat_writes());
    }

    /// Returns whether the service works. If not, the text says what to do.
    pub fn health(&self) -> Health {
        self.0.health()
    }

    pub(super) fn try_check_now(&self, pat: &Pat) -> Option<Result<(), CheckError>> {
        match self.0.settings.mode() {
            ReadMode::Index { .. } => Some(self.0.check_index(pat)),
            ReadMode::Query { .. } => {
                let answer = self.0.answers.cached(&pat.fingerprint())?;
                Some(answer.and_then(as_check))
            }
        }
    }

    /// Checks a PAT. In the query mode, uses the cached answer, waits for a call that already asks about this PAT, or
    /// asks the service.
    pub(super) async fn check(self, pat: Pat) -> Result<(), CheckError> {
        let shared = &*self.0;
        match shared.settings.mode() {
            ReadMode::Index { .. } => shared.check_index(&pat),
            ReadMode::Query { .. } => {
                let answer = shared.answers.get(&pat.fingerprint(), shared.ask(&pat)).await;
                answer.and_then(as_check)
            }
        }
    }

    pub(super) fn on_revocation(&self, listener: RevocationListener) {
        lock(&self.0.listeners).push(listener);
    }

    pub(super) fn writes(&self) -> bool {
        self.0.settings.writes()
    }

    /// Writes a revocation. If the service does not confirm the revocation, the gateway writes it again later.
    pub(super) fn write(&self, subject: Subject) -> StoreFuture<()> {
        let shared = self.0.clone();
        Box::pin(async move {
            let written = shared.write_or_keep(subject).await;
            written.map_err(|error| StoreError::Unconfirmed {
                store: NAME.into(),
                source: Arc::new(error),
            })
        })
    }
}

impl Shared {
    async fn prepare(&self) -> Result<CachingServiceFound, CachingServiceError> {
        let asked = Instant::now();
        let mut salt = self.reads.salt().await?;
        if salt.is_none() && !self.settings.creates_salt() {
            return Err(CachingServiceError::NoSalt);
        }
        let has_query = self.reads.has_query().await?;
        if matches!(self.settings.mode(), ReadMode::Query { .. }) && !has_query {
            return Err(CachingServiceError::NoQuery);
        }
        let all = match self.settings.mode() {
            ReadMode::Index { .. } => Some(self.reads.all().await?),
            ReadMode::Query { .. } => None,
        };
        let is_new_salt = salt.is_none();
        if is_new_salt {
            self.reads.create_salt(&new_salt(has_query)).await?;
            salt = self.reads.salt().await?;
        }
        let (salt, partition) = salt.ok_or(CachingServiceError::BadSalt)?;
        let spelling = salt.spelling();
        if let Some(all) = all {
            self.index.replace(all, asked);
        }
        self.salts_seen.store(1, Ordering::Relaxed);
        self.site.store(Some(Arc::new(Site::new(vec![salt], has_query))));
        let layout = match has_query {
            true => CachingServiceLayout::OneEntryPerRevocation,
            false => CachingServiceLayout::OneMapPerList,
        };
        Ok(CachingServiceFound { partition, spelling, is_new_salt, layout })
    }

    fn check_index(&self, pat: &Pat) -> Result<(), CheckError> {
        let site = self.site.load();
        let hashes = site.as_ref().and_then(|site| site.hashes_of(pat));
        let hashes = hashes.ok_or(CheckError::Unavailable)?;
        self.index.check(&hashes, pat.issued_at())
    }

    async fn ask(&self, pat: &Pat) -> Result<Option<RevokedBy>, CheckError> {
        let site = self.site.load_full().ok_or(CheckError::Unavailable)?;
        let hashes = site.hashes_of(pat).ok_or(CheckError::Unavailable)?;
        let keys: Vec<_> = hashes.iter().collect();
        let lists = self.reads.query(&keys).await;
        self.note_read(lists.as_ref().err());
        let lists = lists.map_err(|error| {
            log_limited!(warn, "caching service query", { %error }, "the Caching Service could not be asked about a Personal Access Token, which is refused");
            CheckError::Unavailable
        })?;
        Ok(lists.decide(&hashes, pat.issued_at()))
    }

    /// Reads all revocations in the index mode. In the query mode, finds out whether the service still answers.
    async fn read_regularly(&self) {
        loop {
            let asked = Instant::now();
            match self.settings.mode() {
                ReadMode::Index { every } => {
                    self.poll(asked).await;
                    sleep_until(asked + every).await;
                }
                ReadMode::Query { .. } => {
                    sleep(PROBE_EVERY).await;
                    let answered = self.reads.has_query().await;
                    let answered = answered.and_then(|has_query| match has_query {
                        true => Ok(()),
                        false => Err(CachingServiceError::NoQuery),
                    });
                    self.note_read(answered.as_ref().err());
                }
            }
        }
    }

    async fn poll(&self, asked: Instant) {
        let all = match self.reads.all().await {
            Ok(all) => self.confirm(all).await,
            Err(error) => Err(error),
        };
        self.note_read(all.as_ref().err());
        match all {
            Ok(all) => {
                self.advise(all.bytes);
                if self.index.replace(all, asked) {
                    lock(&self.listeners).iter().for_each(|listener| listener());
                }
            }
            Err(error) => {
                log_limited!(warn, "caching service poll", { %error, age = ?self.index.age() }, "the revocations of API ML could not be read; if this lasts, Personal Access Tokens are refused");
            }
        }
    }

    /// Reads the salt if the lists have become empty, or were lost before. A service that has lost its data has no
    /// salt, or a new one. In that case, the gateway ignores the answers of the service, and soon refuses PATs. The
    /// gateway uses answers again when the service has the salt of the start, or after a restart of the gateway.
    async fn confirm(&self, all: AllLists) -> Result<AllLists, CachingServiceError> {
        let is_emptied = all.lists.is_empty() && self.index.size().0 > 0;
        if !is_emptied && !lock(&self.problems).lists_are_lost {
            return Ok(all);
        }
        let found = match self.reads.salt().await {
            Ok(found) => found.map(|(salt, _)| salt),
            Err(CachingServiceError::BadSalt) => None,
            // The service may only be busy. The next poll reads the salt again.
            Err(error) => return Err(error),
        };
        let first = self.site.load_full().and_then(|site| site.salts.first().cloned());
        let is_first =
            found.as_ref().zip(first.as_ref()).is_some_and(|(one, two)| one.is_same(two));
        self.compare_salt(found);
        lock(&self.problems).lists_are_lost = !is_first;
        is_first.then_some(all).ok_or(CachingServiceError::ListsLost)
    }

    /// Recommends the query mode once if the answer is large.
    fn advise(&self, bytes: usize) {
        let mut problems = lock(&self.problems);
        if bytes > LARGE_ANSWER && !problems.is_large {
            problems.is_large = true;
            tracing::warn!(
                bytes,
                "the list of all revocations of API ML is large, and is read every few seconds; set \
                 zowe.revocations.mode: query, if API ML is 3.6 or later"
            );
        }
    }

    /// Reads the salt regularly. A changed salt is an incident: API ML knows only the new salt, so it no longer finds
    /// the earlier revocations. The gateway keeps earlier salts, so it still finds them until it is restarted.
    async fn watch_salt(&self) {
        let mut next = SALT_EVERY;
        loop {
            sleep(next).await;
            next = SALT_EVERY;
            match self.reads.salt().await {
                Ok(found) => self.compare_salt(found.map(|(salt, _)| salt)),
                Err(error) => {
                    log_limited!(warn, "caching service salt", { %error }, "the salt of API ML could not be read");
                    next = AGAIN_AFTER;
                }
            }
        }
    }

    fn compare_salt(&self, found: Option<Salt>) {
        let Some(site) = self.site.load_full() else { return };
        let problem = match found {
            // Polls may find the same problem again every few seconds.
            None if lock(&self.problems).salt == Some(GONE) => return,
            None => GONE,
            Some(salt) => {
                if site.salts.iter().any(|known| known.is_same(&salt)) {
                    // If `Problems::salt` is set, it stays set until the next start, even if the salt is now the first
                    // salt again. The reason: API ML may have lost revocations in the meantime.
                    return;
                }
                let mut salts = site.salts.clone();
                // Checks use the first salt and the newest salts.
                if salts.len() == MAX_SALTS {
                    salts.remove(1);
                }
                salts.push(salt);
                self.salts_seen.fetch_add(1, Ordering::Relaxed);
                self.site.store(Some(Arc::new(Site::new(salts, site.has_query))));
                CHANGED
            }
        };
        tracing::error!(
            problem,
            "the salt of API ML's revocations is not the same as at the start; API ML has lost the revocations that \
             were made before, and the gateway applies them until it is restarted"
        );
        lock(&self.problems).salt = Some(problem);
    }

    async fn write_or_keep(&self, subject: Subject) -> Result<(), CachingServiceError> {
        let written = timeout(WRITE_TIMEOUT, self.write_all(&subject)).await;
        let result = written.unwrap_or_else(|_| {
            let text = format!("not confirmed within {WRITE_TIMEOUT:?}");
            Err(RemoteError::Unavailable(text).into())
        });
        if let Err(error) = &result {
            self.writes_failed.increment();
            log_limited!(error, "caching service write", { %error }, "API ML may still accept a revoked Personal Access Token; the write is repeated");
            lock(&self.waiting).keep(subject);
            lock(&self.problems).write = Some(error.clone());
        }
        result
    }

    async fn write_all(&self, subject: &Subject) -> Result<(), CachingServiceError> {
        let site = self.site.load_full().ok_or(CachingServiceError::NotPrepared)?;
        for write in subject.writes(&site.salts)? {
            write.confirm(&self.writes, site.has_query, self.clock.now()).await?;
        }
        Ok(())
    }

    async fn repeat_writes(&self) {
        loop {
            sleep(AGAIN_AFTER).await;
            while let Some(subject) = self.first_waiting() {
                if let Err(error) = self.write_all(&subject).await {
                    lock(&self.waiting).rotate();
                    lock(&self.problems).write = Some(error);
                    break;
                }
                let left = {
                    let mut waiting = lock(&self.waiting);
                    waiting.remove(&subject);
                    waiting.len()
                };
                if left == 0 {
                    lock(&self.problems).write = None;
                    tracing::info!("no revocation waits for API ML any more");
                }
            }
        }
    }

    fn first_waiting(&self) -> Option<Subject> {
        lock(&self.waiting).first()
    }

    fn note_read(&self, error: Option<&CachingServiceError>) {
        self.reads_made.increment();
        if error.is_some() {
            self.reads_failed.increment();
        }
        lock(&self.problems).read = error.cloned();
    }

    fn health(&self) -> Health {
        let (waiting, lost) = {
            let waiting = lock(&self.waiting);
            (waiting.len(), waiting.lost)
        };
        let problems = lock(&self.problems);
        let is_usable = match self.settings.mode() {
            ReadMode::Index { .. } => self.index.is_usable(),
            ReadMode::Query { .. } => problems.read.is_none(),
        };
        if self.site.load().is_none() || !is_usable {
            let cause = problems.read.as_ref().map(ToString::to_string);
            let cause = cause
                .unwrap_or_else(|| "the gateway has not asked the Caching Service yet".to_owned());
            return Health::down(format!("Personal Access Tokens are refused: {cause}"));
        }
        if let Some(salt) = problems.salt {
            return Health::down(format!(
                "the salt of API ML's revocations {salt}: API ML has lost its earlier revocations; revoke these tokens \
                 again at API ML, then restart the gateway"
            ));
        }
        if waiting > 0 {
            let cause = problems.write.as_ref().map(ToString::to_string).unwrap_or_default();
            return Health::down(format!("{waiting} revocations wait for API ML: {cause}"));
        }
        if lost > 0 {
            return Health::down(format!(
                "{lost} revocations were not written to API ML, because too many waited; revoke these tokens again, then \
                 restart the gateway"
            ));
        }
        match self.index.size() {
            (_, 0, _) => Health::Up,
            (_, unreadable, _) => Health::down(format!(
                "{unreadable} rules of API ML have a time that is not a number, so they revoke all tokens of their users \
                 or services; remove these rules from the Caching Service"
            )),
        }
    }
}

/// Makes a salt that API ML and the gateway read in the same way. Releases before 3.6 may hash the text itself, without
/// decoding Base64. So these releases get a text that is not Base64.
fn new_salt(has_query: bool) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use sha2::{Digest, Sha256};

    // A version 4 UUID has 122 random bits, which come from the operating system.
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    match has_query {
        false => format!("{first}"),
        true => {
            let bytes = Sha256::new_with_prefix(first.as_bytes()).chain_update(second.as_bytes());
            BASE64_STANDARD.encode(&bytes.finalize()[..16])
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Collect for CachingService {
    fn collect(&self, exposition: &mut Exposition) {
        let shared = &*self.0;
        exposition.value(&POLLS, shared.reads_made.get());
        exposition.value(&FAILED, shared.reads_failed.get());
        exposition.value(&WRITE_ERRORS, shared.writes_failed.get());
        let count = |count: usize| i128::try_from(count).unwrap_or(i128::MAX);
        exposition.value(&WAITING, count(lock(&shared.waiting).len()));
        exposition.value(&SALTS, shared.salts_seen.load(Ordering::Relaxed));
        if let ReadMode::Index { .. } = shared.settings.mode() {
            let (entries, _, bytes) = shared.index.size();
            exposition.value(&ENTRIES, count(entries));
            exposition.value(&BYTES, count(bytes));
        }
    }
}

impl fmt::Debug for CachingService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachingService").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}
