//! The keys of an issuer, which are fixed or fetched from the issuer.
//!
//! Rules for fetched keys. A *set* is the list of keys that one fetch returns:
//!
//! - A set that is older than [`KeyRefresh::every`] is fetched again. [`IssuerKeys::keep_fresh`] does this in the
//!   background. Without `keep_fresh`, the next token starts the fetch. This token waits for the result, unless it is
//!   cached. During the fetch, other tokens use the old set.
//! - If the key of a token is not in the set, the issuer may have a new key. Tokens with unknown keys cause at most one
//!   fetch every 30 s.
//! - One fetch runs at a time. All requests that need its result wait for it. The fetch runs in its own task, so a
//!   client that disconnects does not cancel it.
//! - If a fetch fails, the last good set is used until it is older than [`KeyRefresh::max_age`]. If there is no set, a
//!   new fetch can start 5 s after the start of the last fetch.
//! - A fetched list without a usable key means that the issuer has withdrawn all of its keys. So the earlier set is
//!   discarded.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Request, header::ACCEPT};
use http_body_util::Full;
use tokio::{
    runtime::Handle,
    sync::OwnedMutexGuard,
    time::{sleep, timeout},
};

use super::{
    VerifyingKey,
    cache::{Generation, WeakGeneration},
    key_set::{KeySet, KeySetError},
};
use crate::{
    clock::{Clock, SystemClock},
    log_limit::log_limited,
    remote::{Address, Client, Connect, RemoteError},
};

/// The shortest time between the starts of two fetches while there is a set.
const PAUSE: Duration = Duration::from_secs(30);

/// The shortest time between the starts of two fetches while there is no set.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// A fetch is cancelled after this time.
const LONGEST_FETCH: Duration = Duration::from_secs(30);

/// The future that [`JwkSetSource::fetch`] returns.
pub type FetchFuture = Pin<Box<dyn Future<Output = Result<Bytes, RemoteError>> + Send>>;

/// Fetches the JWK set (RFC 7517 §5) of an issuer.
///
/// [`JwksUrl`] fetches the set from a URL. Functions also implement this trait:
///
/// ```
/// use bytes::Bytes;
/// use tower_passticket::token::{FetchFuture, IssuerKeys};
///
/// /// Reads the keys from a file that another program keeps up to date.
/// fn from_file() -> FetchFuture {
///     Box::pin(async {
///         let read = tokio::task::spawn_blocking(|| std::fs::read("jwks.json"));
///         let unavailable = |error: String| {
///             tower_passticket::remote::RemoteError::Unavailable(error)
///         };
///         let read = read.await.map_err(|error| unavailable(error.to_string()))?;
///         read.map(Bytes::from).map_err(|error| unavailable(error.to_string()))
///     })
/// }
///
/// let keys = IssuerKeys::fetched("https://idp.example.com", from_file);
/// ```
pub trait JwkSetSource: Send + Sync + 'static {
    /// Fetches the document. The future should limit its time and the size of the document. The fetch is cancelled
    /// after 30 s, and a document of more than 64 KiB is an error.
    fn fetch(&self) -> FetchFuture;
}

impl<F: Fn() -> FetchFuture + Send + Sync + 'static> JwkSetSource for F {
    fn fetch(&self) -> FetchFuture {
        self()
    }
}

/// Fetches a JWK set with `GET`, over HTTPS or from a host on the loopback interface. Redirects are not followed. The
/// client limits the time and the size of the response.
#[derive(Debug)]
pub struct JwksUrl<C> {
    client: Client<C>,
    address: Address,
}

impl<C: Connect> JwksUrl<C> {
    /// Creates a source that fetches from `address` with `client`.
    ///
    /// `client` must verify the certificate and the host name of the server. Otherwise, another server could answer
    /// with its own keys, and sign tokens for any user.
    ///
    /// # Errors
    /// [`UnprotectedUrl`] if the URL begins with `http://` and its host is not on the loopback interface.
    pub fn new(client: Client<C>, address: Address) -> Result<Self, UnprotectedUrl> {
        if !address.is_protected() {
            return Err(UnprotectedUrl(address));
        }
        Ok(Self { client, address })
    }
}

impl<C: Connect> JwkSetSource for JwksUrl<C> {
    fn fetch(&self) -> FetchFuture {
        let (client, uri) = (self.client.clone(), self.address.uri());
        Box::pin(async move {
            let request = Request::get(uri).header(ACCEPT, "application/json");
            let request = request.body(Full::default()).map_err(|error| {
                // `Address` has already checked the URI, so this should not happen.
                RemoteError::Unavailable(error.to_string())
            })?;
            Ok(client.call(request).await?.successful()?.into_body())
        })
    }
}

/// The URL of a JWK set begins with `http://`, and its host is not on the loopback interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not protected by TLS, so a stranger could replace the keys; write an https:// URL")]
pub struct UnprotectedUrl(Address);

/// How often keys are fetched, and how long they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyRefresh {
    /// The set is fetched again after this time. A shorter time than 30 s counts as 30 s.
    pub every: Duration,
    /// A set is discarded after this time, even if no newer set could be fetched. Without this limit, an attacker who
    /// blocks all fetches could use a key that the issuer has withdrawn. The minimum is [`every`](Self::every) plus
    /// 30 s: a shorter time counts as this minimum.
    pub max_age: Duration,
}

impl Default for KeyRefresh {
    /// The keys are fetched every 10 minutes. A set is used for at most 24 hours.
    fn default() -> Self {
        Self { every: Duration::from_secs(600), max_age: Duration::from_secs(24 * 3600) }
    }
}

/// The keys of one issuer. Clones share the keys.
#[derive(Clone)]
pub struct IssuerKeys(Arc<Keys>);

struct Keys {
    set: ArcSwapOption<Current>,
    /// `None` if the keys are fixed.
    remote: Option<Remote>,
    clock: Arc<dyn Clock>,
    /// The caches with tokens that these keys have verified.
    caches: Mutex<Vec<WeakGeneration>>,
}

struct Current {
    set: KeySet,
    /// The monotonic time at which the fetch of this set began.
    fetched: Duration,
}

struct Remote {
    /// The name of the issuer in the log.
    issuer: Box<str>,
    source: Box<dyn JwkSetSource>,
    refresh: KeyRefresh,
    /// Locked while a fetch runs.
    running: Arc<tokio::sync::Mutex<()>>,
    /// The number of finished fetches.
    finished: AtomicU64,
    /// The monotonic time at which the last fetch began, in milliseconds, plus 1. The value is 0 if no fetch has begun.
    began: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// There is no set, or the set is too old.
    FreshSet,
    /// The key of the token is not in the set.
    UnknownKey,
}

impl IssuerKeys {
    /// Uses one RSA key, which verifies RS256 signatures. The `kid` of a token does not matter.
    pub fn fixed(key: &VerifyingKey) -> Self {
        Self::with_set(Some(KeySet::of(key)), None)
    }

    /// Uses the keys of this JWK set (RFC 7517 §5), which never changes. Keys that cannot verify signatures are
    /// skipped.
    ///
    /// # Errors
    /// [`KeySetError`] if the document is not a JWK set, has too many keys, or has no usable key.
    pub fn from_jwk_set(json: &[u8]) -> Result<Self, KeySetError> {
        Ok(Self::with_set(Some(KeySet::parse(json)?), None))
    }

    /// Fetches the keys of `issuer` from `source` when the first token arrives, and later as [`KeyRefresh`] describes.
    /// `issuer` is the name in the log. With fetched keys, the verification of a token needs a Tokio runtime with
    /// timers.
    pub fn fetched(issuer: &str, source: impl JwkSetSource) -> Self {
        Self::with_set(
            None,
            Some(Remote {
                issuer: issuer.into(),
                source: Box::new(source),
                refresh: KeyRefresh::default(),
                running: Arc::default(),
                finished: AtomicU64::new(0),
                began: AtomicU64::new(0),
            }),
        )
    }

    fn with_set(set: Option<KeySet>, remote: Option<Remote>) -> Self {
        let current = set.map(|set| Arc::new(Current { set, fetched: Duration::ZERO }));
        Self(Arc::new(Keys {
            set: ArcSwapOption::from(current),
            remote,
            clock: Arc::new(SystemClock),
            caches: Mutex::default(),
        }))
    }

    /// Sets when the keys are fetched again. Call this function before you clone the value. On a value with clones, and
    /// for fixed keys, it has no effect.
    #[must_use]
    pub fn with_refresh(mut self, refresh: KeyRefresh) -> Self {
        if let Some(keys) = Arc::get_mut(&mut self.0)
            && let Some(remote) = &mut keys.remote
        {
            let every = refresh.every.max(PAUSE);
            let max_age = refresh.max_age.max(every.saturating_add(LONGEST_FETCH));
            remote.refresh = KeyRefresh { every, max_age };
        }
        self
    }

    /// Uses the monotonic time of `clock` instead of the system's. Call this function before you clone the value. On a
    /// value with clones, it has no effect.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        if let Some(keys) = Arc::get_mut(&mut self.0) {
            keys.clock = clock;
        }
        self
    }

    /// Fetches the keys immediately, and then again as [`KeyRefresh`] describes. So a token normally waits only if its
    /// key is not in the set, or if there is no set. While there is no set, this function tries again after 5 s, and
    /// then at growing intervals. The intervals grow because some issuers never have keys, such as a z/OSMF (IBM's
    /// management server on z/OS) that issues no JWTs. With fixed keys, this function fetches nothing. The future never
    /// completes, so run it in a task. The task needs a Tokio runtime with timers.
    pub async fn keep_fresh(self) {
        let Some(remote) = &self.0.remote else { return std::future::pending().await };
        let mut after_failure = FIRST_PAUSE;
        loop {
            self.refresh(Need::FreshSet).await;
            let pause = match self.0.set.load().as_deref() {
                Some(current) => {
                    let age = self.0.clock.monotonic().saturating_sub(current.fetched);
                    after_failure = FIRST_PAUSE;
                    remote.refresh.every.saturating_sub(age).max(PAUSE)
                }
                None => {
                    let pause = after_failure;
                    after_failure = after_failure.saturating_mul(2).min(remote.refresh.every);
                    pause
                }
            };
            sleep(pause).await;
        }
    }

    pub(super) fn with_current<T>(&self, f: impl FnOnce(&KeySet) -> T) -> Option<T> {
        self.0.set.load().as_deref().map(|current| f(&current.set))
    }

    pub(super) fn has_keys(&self) -> bool {
        self.0.set.load().is_some()
    }

    /// Returns whether a token with this need must wait for [`refresh`](Self::refresh).
    pub(super) fn should_refresh(&self, need: Need) -> bool {
        let Some(remote) = &self.0.remote else { return false };
        self.forget_old_set(remote);
        // While a fetch runs, a token whose key is in the old set does not wait for the new set. Otherwise, a slow
        // issuer would delay all of its tokens. If the new set lacks the key, cached tokens of the key become invalid.
        let needs_result = need == Need::UnknownKey || self.0.set.load().is_none();
        self.may_fetch(remote, need) || needs_result && remote.is_running()
    }

    /// Returns whether `need` is a reason for a fetch. [`Need::FreshSet`] is no reason while the set is younger than
    /// [`KeyRefresh::every`].
    fn is_wanted(&self, remote: &Remote, need: Need) -> bool {
        match (self.0.set.load().as_deref(), need) {
            (None, _) | (_, Need::UnknownKey) => true,
            (Some(current), Need::FreshSet) => {
                let age = self.0.clock.monotonic().saturating_sub(current.fetched);
                age >= remote.refresh.every
            }
        }
    }

    fn may_fetch(&self, remote: &Remote, need: Need) -> bool {
        let pause = if self.0.set.load().is_some() { PAUSE } else { FIRST_PAUSE };
        let has_paused = match remote.began.load(Ordering::Acquire) {
            0 => true,
            began => {
                let began = Duration::from_millis(began - 1);
                self.0.clock.monotonic().saturating_sub(began) >= pause
            }
        };
        has_paused && self.is_wanted(remote, need)
    }

    /// Waits for a running fetch. If no fetch runs, and [`may_fetch`](Self::may_fetch) allows one, starts a fetch and
    /// waits for it.
    pub(super) async fn refresh(&self, need: Need) {
        let Some(remote) = &self.0.remote else { return };
        let before = remote.finished.load(Ordering::Acquire);
        let running = match remote.running.clone().try_lock_owned() {
            Ok(running) => running,
            Err(_) => remote.running.clone().lock_owned().await,
        };
        if remote.finished.load(Ordering::Acquire) == before {
            self.start_fetch(running, need).await;
        }
    }

    /// Starts a fetch if there is no set, or if the set is older than [`KeyRefresh::every`]. Does not wait for the
    /// fetch. Does nothing without a Tokio runtime, while a fetch runs, or if the start of the last fetch was too
    /// recent. The verifier calls this function even if all tokens are cached.
    pub(super) fn refresh_in_background(&self) {
        if let Some(remote) = &self.0.remote
            && Handle::try_current().is_ok()
            && self.should_refresh(Need::FreshSet)
            && let Ok(running) = remote.running.clone().try_lock_owned()
        {
            drop(self.start_fetch(running, Need::FreshSet));
        }
    }

    /// Fetches the keys in a task if [`may_fetch`](Self::may_fetch) allows it. The caller has locked
    /// [`Remote::running`], so there is at most one such task.
    fn start_fetch(
        &self,
        running: OwnedMutexGuard<()>,
        need: Need,
    ) -> impl Future<Output = ()> + use<> {
        let task = self.0.remote.as_ref().filter(|remote| self.may_fetch(remote, need)).map(|_| {
            let keys = self.clone();
            tokio::spawn(async move {
                let _running = running;
                if let Some(remote) = &keys.0.remote {
                    keys.fetch(remote).await;
                }
            })
        });
        async move {
            if let Some(task) = task {
                // If the source has panicked, the last good set stays.
                let _ = task.await;
            }
        }
    }

    async fn fetch(&self, remote: &Remote) {
        let began = self.0.clock.monotonic();
        let millis = u64::try_from(began.as_millis()).unwrap_or(u64::MAX - 1);
        remote.began.store(millis + 1, Ordering::Release);
        let fetched = timeout(LONGEST_FETCH, remote.source.fetch()).await;
        let fetched = fetched.unwrap_or_else(|_| {
            Err(RemoteError::Unavailable(format!("no response within {LONGEST_FETCH:?}")))
        });
        match fetched.map(|json| KeySet::parse(&json)) {
            Ok(Ok(set)) => self.replace(remote, Current { set, fetched: began }),
            // If there was a set, the issuer has withdrawn all of its keys.
            Ok(Err(error @ KeySetError::NoUsableKey { .. })) => {
                let (issuer, withdrawn) = (&remote.issuer, self.0.set.swap(None).is_some());
                self.invalidate_caches();
                log_limited!(
                    warn, ("keys of an issuer", issuer), { %issuer, %error, withdrawn },
                    "an issuer lists no usable key; its tokens are refused"
                );
            }
            Ok(Err(error)) => self.keep_set(remote, &error),
            Err(error) => self.keep_set(remote, &error),
        }
        remote.finished.fetch_add(1, Ordering::AcqRel);
    }

    /// Logs that a fetch failed, and keeps the set unless it is too old.
    fn keep_set(&self, remote: &Remote, error: &dyn fmt::Display) {
        self.forget_old_set(remote);
        let (issuer, has_keys) = (&remote.issuer, self.0.set.load().is_some());
        log_limited!(
            warn, ("keys of an issuer", issuer), { %issuer, %error, has_keys },
            "the keys of an issuer could not be fetched; earlier keys, if there are any, stay in use until they are too old"
        );
    }

    /// Discards the set if it is older than [`KeyRefresh::max_age`].
    fn forget_old_set(&self, remote: &Remote) {
        let current = self.0.set.load();
        let Some(old) = current.as_ref() else { return };
        if self.0.clock.monotonic().saturating_sub(old.fetched) < remote.refresh.max_age {
            return;
        }
        let previous = self.0.set.compare_and_swap(&*current, None);
        if previous.as_ref().is_some_and(|previous| Arc::ptr_eq(previous, old)) {
            self.invalidate_caches();
            let issuer = &remote.issuer;
            tracing::error!(
                %issuer,
                "the keys of an issuer are too old and could not be fetched again; its tokens are refused"
            );
        }
    }

    /// Invalidates all tokens in the registered caches, including tokens of other issuers. Call this after the set has
    /// lost a key.
    fn invalidate_caches(&self) {
        let caches = self.0.caches.lock().unwrap_or_else(PoisonError::into_inner);
        caches.iter().filter_map(WeakGeneration::upgrade).for_each(|cache| cache.advance());
    }

    fn replace(&self, remote: &Remote, new: Current) {
        let (issuer, keys) = (&remote.issuer, new.set.len());
        let new = Arc::new(new);
        let old = self.0.set.swap(Some(new.clone()));
        match old {
            None => tracing::info!(%issuer, keys, "fetched the keys of an issuer"),
            // A token that a withdrawn key has verified must not stay in a cache.
            Some(old) if old.set.loses_keys_to(&new.set) => {
                tracing::info!(%issuer, keys, "the issuer has withdrawn a key, or an algorithm of a key");
                self.invalidate_caches();
            }
            Some(_) => {}
        }
    }

    /// Registers a cache. When the issuer withdraws a key, or the set becomes too old, all tokens in this cache become
    /// invalid.
    pub(super) fn invalidate(&self, cache: &Generation) {
        let mut caches = self.0.caches.lock().unwrap_or_else(PoisonError::into_inner);
        // A program that replaces its verifiers creates many caches for the same keys. So caches that no longer exist
        // are removed from the list.
        caches.retain(|cache| cache.upgrade().is_some());
        caches.push(cache.downgrade());
    }
}

impl Remote {
    fn is_running(&self) -> bool {
        self.running.try_lock().is_err()
    }
}

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerKeys")
            .field("keys", &self.with_current(KeySet::len))
            .field("fetched", &self.0.remote.is_some())
            .finish_non_exhaustive()
    }
}
