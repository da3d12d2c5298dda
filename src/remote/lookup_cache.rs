//! A cache for the results of look-ups in another service. At most one look-up per key runs at a time.
//!
//! - An entry expires when its time is over. It also expires if the clock is set back to a time before the entry was
//!   made.
//! - While one caller looks a key up, other callers with the same key wait. They get the result of this look-up, even
//!   if it is an error. If the future of the first caller is dropped, one of the waiting callers does the look-up.
//! - The number of entries is bounded. The eviction algorithm resembles S3-FIFO: even a large number of new keys evicts
//!   only few of the entries that were used more than once.

use std::{
    fmt,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use quick_cache::sync::{Cache, EntryAction, EntryResult};

use super::cache_policy::CachePolicy;
use crate::clock::{Clock, SystemClock, Timestamp};

/// Caches the results of look-ups with a key `K`. A look-up finds a value `V`, finds no value, or fails with an
/// error `E`.
///
/// ```
/// use tower_passticket::remote::{CachePolicy, SingleFlightCache};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let cache = SingleFlightCache::<String, u32, String>::new(CachePolicy::default());
/// let found = cache.get(&"key".to_owned(), async { Ok(Some(7)) }).await;
/// assert_eq!(found, Ok(Some(7)));
/// let cached = cache.get(&"key".to_owned(), async { unreachable!() }).await;
/// assert_eq!(cached, Ok(Some(7)));
/// # }
/// ```
pub struct SingleFlightCache<K, V, E> {
    entries: Cache<K, Entry<V, E>>,
    policy: CachePolicy,
    clock: Arc<dyn Clock>,
    /// The number of finished look-ups. A caller reads this number before it waits. If it then gets an entry with a
    /// larger [`Entry::number`], the look-up of this entry finished while the caller waited. The caller uses this
    /// result even if it has already expired.
    finished: AtomicU64,
}

#[derive(Clone)]
struct Entry<V, E> {
    result: Result<Option<V>, E>,
    /// The value of [`SingleFlightCache::finished`] after this look-up.
    number: u64,
    from: Timestamp,
    until: Timestamp,
}

impl<K, V, E> SingleFlightCache<K, V, E>
where
    K: Clone + Eq + Hash,
    V: Clone,
    E: Clone,
{
    /// Creates an empty cache.
    pub fn new(policy: CachePolicy) -> Self {
        Self {
            entries: Cache::new(policy.entries().get()),
            policy,
            clock: Arc::new(SystemClock),
            finished: AtomicU64::new(0),
        }
    }

    /// Sets the clock that decides when an entry expires. By default, this is the system clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Returns the cached result for `key`, or `None` if there is none or if it has expired. Never waits.
    pub fn cached(&self, key: &K) -> Option<Result<Option<V>, E>> {
        let entry = self.entries.get(key)?;
        entry.is_fresh(self.clock.now()).then_some(entry.result)
    }

    /// Returns the cached result for `key`, if there is one. If another caller is looking `key` up, waits for the
    /// result of that look-up, and returns it. If there is no cached result and no such look-up, runs `look_up`, and
    /// returns its result.
    ///
    /// # Errors
    /// The error of the look-up. It may be a cached error, or the error of another caller's look-up.
    pub async fn get(
        &self,
        key: &K,
        look_up: impl Future<Output = Result<Option<V>, E>>,
    ) -> Result<Option<V>, E> {
        let look_up = async { look_up.await.map(|found| found.map(|value| (value, None))) };
        self.get_or_look_up(key, look_up, |_| true, |_, _| {}).await
    }

    /// Does the same as [`get`](Self::get), but `look_up` returns each found value with the time until which the value
    /// is cached. The policy determines how long other results are cached.
    ///
    /// # Errors
    /// The errors of [`get`](Self::get).
    pub async fn get_until(
        &self,
        key: &K,
        look_up: impl Future<Output = Result<Option<(V, Timestamp)>, E>>,
    ) -> Result<Option<V>, E> {
        self.get_and_release(key, look_up, |_| true, |_, _| {}).await
    }

    /// Does the same as [`get_until`](Self::get_until), for values that must be released. Calls `release` with each
    /// value that this call evicts to make room. If the key is [removed](Self::remove) during its look-up, the found
    /// value is not cached, and is also released. A value that has expired is replaced without a release. Evicted
    /// values are released only if `K`, `V` or `E` has a destructor ([`needs_drop`](std::mem::needs_drop)). An error is
    /// cached only if `is_cached` returns `true` for it. Callers that wait for the look-up get the error in any case.
    pub(crate) async fn get_and_release(
        &self,
        key: &K,
        look_up: impl Future<Output = Result<Option<(V, Timestamp)>, E>>,
        is_cached: impl Fn(&E) -> bool,
        release: impl Fn(K, V),
    ) -> Result<Option<V>, E> {
        let look_up =
            async { look_up.await.map(|found| found.map(|(value, until)| (value, Some(until)))) };
        self.get_or_look_up(key, look_up, is_cached, release).await
    }

    /// Removes the result for `key`, and returns its value. If a look-up of `key` is running, the result of this
    /// look-up is not cached.
    pub fn remove(&self, key: &K) -> Option<V> {
        let (_, entry) = self.entries.remove(key)?;
        entry.result.ok().flatten()
    }

    /// Does the same as [`get`](Self::get), but `look_up` can return a value with the time until which the value is
    /// cached. Without this time, the policy determines how long the value is cached.
    async fn get_or_look_up(
        &self,
        key: &K,
        look_up: impl Future<Output = Result<Option<(V, Option<Timestamp>)>, E>>,
        is_cached: impl Fn(&E) -> bool,
        release: impl Fn(K, V),
    ) -> Result<Option<V>, E> {
        let before = self.finished.load(Ordering::Acquire);
        if let Some(result) = self.cached(key) {
            return result;
        }
        let entry = self.entries.entry_async(key, |_, entry| {
            if entry.number > before || entry.is_fresh(self.clock.now()) {
                EntryAction::Retain(entry.result.clone())
            } else {
                EntryAction::ReplaceWithGuard
            }
        });
        let place = match entry.await {
            EntryResult::Retained(result) => return result,
            EntryResult::Vacant(place) | EntryResult::Replaced(place, _) => place,
            // This does not occur, because the closure never asks for a removal, and there is no timeout.
            EntryResult::Removed(..) | EntryResult::Timeout => {
                return look_up.await.map(|found| found.map(|(value, _)| value));
            }
        };
        let result = look_up.await;
        let (from, policy) = (self.clock.now(), self.policy);
        let (result, until) = match result {
            Ok(Some((value, until))) => {
                (Ok(Some(value)), until.unwrap_or_else(|| from.plus(policy.found())))
            }
            Ok(None) => (Ok(None), from.plus(policy.not_found())),
            Err(error) if is_cached(&error) => (Err(error), from.plus(policy.error())),
            Err(error) => (Err(error), from),
        };
        let number = self.finished.fetch_add(1, Ordering::AcqRel) + 1;
        let entry = Entry { result: result.clone(), number, from, until };
        let mut evicted = <[Option<(K, Entry<V, E>)>; 2]>::default();
        // The insertion fails if the key was removed in the meantime. The result is then not cached.
        let refused = place.insert_with_lifecycle(entry, &mut evicted).err();
        let gone = refused.map(|entry| (key.clone(), entry)).into_iter();
        for (key, entry) in gone.chain(evicted.into_iter().flatten()) {
            if let Ok(Some(value)) = entry.result {
                release(key, value);
            }
        }
        result
    }
}

impl<V, E> Entry<V, E> {
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

impl<K, V, E> fmt::Debug for SingleFlightCache<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlightCache").field("policy", &self.policy).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        num::NonZeroUsize,
        sync::atomic::AtomicUsize,
        time::Duration,
    };

    use tokio::{
        sync::Semaphore,
        task::{JoinSet, yield_now},
        time::timeout,
    };

    use super::*;
    use crate::clock::ManualClock;

    type Numbers = SingleFlightCache<u32, u32, &'static str>;

    fn cache(policy: CachePolicy) -> (Arc<Numbers>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1000)));
        (Arc::new(SingleFlightCache::new(policy).with_clock(clock.clone())), clock)
    }

    async fn get(
        cache: &Numbers,
        key: u32,
        answer: Result<Option<u32>, &'static str>,
    ) -> Result<Option<u32>, &'static str> {
        cache.get(&key, ready(answer)).await
    }

    #[tokio::test]
    async fn each_kind_of_result_has_its_own_lifetime() {
        let policy = CachePolicy::default();
        for (answer, secs) in [(Ok(Some(1)), 60), (Ok(None), 10), (Err("down"), 1)] {
            let (cache, clock) = cache(policy);
            assert_eq!(get(&cache, 1, answer).await, answer);
            assert_eq!(get(&cache, 2, Ok(Some(7))).await, Ok(Some(7)), "another key");
            assert_eq!((cache.cached(&1), cache.cached(&3)), (Some(answer), None));
            clock.advance(Duration::from_millis(secs * 1000 - 1));
            assert_eq!(cache.cached(&1), Some(answer));
            assert_eq!(get(&cache, 1, Ok(Some(2))).await, answer);
            clock.advance(Duration::from_millis(1));
            assert_eq!(cache.cached(&1), None);
            assert_eq!(get(&cache, 1, Ok(Some(2))).await, Ok(Some(2)));
            assert_eq!(get(&cache, 1, Ok(Some(3))).await, Ok(Some(2)));
        }
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_expires_entries() {
        let (cache, clock) = cache(CachePolicy::default());
        assert_eq!(get(&cache, 1, Ok(Some(1))).await, Ok(Some(1)));
        clock.set(Timestamp::from_secs(999));
        assert_eq!(get(&cache, 1, Ok(None)).await, Ok(None));
    }

    /// Lets 50 callers look up the same key at the same time. The look-up must run only once.
    async fn check_concurrent_callers(
        policy: CachePolicy,
        answer: Result<Option<u32>, &'static str>,
    ) {
        let (cache, _) = cache(policy);
        let (calls, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let mut callers = JoinSet::new();
        for _ in 0..50 {
            let (cache, calls, go) = (cache.clone(), calls.clone(), go.clone());
            callers.spawn(async move {
                let look_up = async {
                    calls.fetch_add(1, Ordering::SeqCst);
                    go.acquire().await.unwrap().forget();
                    answer
                };
                cache.get(&1, look_up).await
            });
        }
        for _ in 0..100 {
            yield_now().await;
        }
        go.add_permits(50);
        let mut answered = 0;
        while let Some(got) = callers.join_next().await {
            assert_eq!(got.unwrap(), answer);
            answered += 1;
        }
        assert_eq!((answered, calls.load(Ordering::SeqCst)), (50, 1));
    }

    #[tokio::test]
    async fn callers_of_one_key_wait_for_one_look_up() {
        let zero = Duration::ZERO;
        let no_caching =
            CachePolicy::default().with_found(zero).with_not_found(zero).with_error(zero);
        for policy in [CachePolicy::default(), no_caching] {
            for answer in [Ok(Some(1)), Ok(None), Err("down")] {
                check_concurrent_callers(policy, answer).await;
            }
        }
    }

    #[tokio::test]
    async fn a_result_that_is_not_cached_is_looked_up_again() {
        let (cache, _) = cache(CachePolicy::default().with_error(Duration::ZERO));
        assert_eq!(get(&cache, 1, Err("down")).await, Err("down"));
        assert_eq!(get(&cache, 1, Ok(Some(1))).await, Ok(Some(1)));
    }

    #[tokio::test]
    async fn a_look_up_can_decide_until_when_its_value_is_cached() {
        let (cache, clock) = cache(CachePolicy::default());
        let until = Timestamp::from_secs(1300);
        assert_eq!(cache.get_until(&1, ready(Ok(Some((7, until))))).await, Ok(Some(7)));
        clock.set(Timestamp::from_secs(1299));
        assert_eq!(cache.cached(&1), Some(Ok(Some(7))));
        clock.set(until);
        assert_eq!(cache.cached(&1), None);
        assert_eq!(cache.get_until(&1, ready(Err("down"))).await, Err("down"));
        assert_eq!(cache.cached(&1), Some(Err("down")));
    }

    #[tokio::test]
    async fn a_removed_value_is_gone_even_if_its_look_up_was_running() {
        let (cache, _) = cache(CachePolicy::default());
        assert_eq!(get(&cache, 1, Ok(Some(1))).await, Ok(Some(1)));
        assert_eq!((cache.remove(&1), cache.remove(&1), cache.cached(&1)), (Some(1), None, None));
        let go = Arc::new(Semaphore::new(0));
        let running = tokio::spawn({
            let (cache, go) = (cache.clone(), go.clone());
            async move {
                let look_up = async {
                    go.acquire().await.unwrap().forget();
                    Ok(Some(2))
                };
                cache.get(&1, look_up).await
            }
        });
        yield_now().await;
        assert_eq!(cache.remove(&1), None);
        go.add_permits(1);
        assert_eq!(running.await.unwrap(), Ok(Some(2)));
        assert_eq!(cache.cached(&1), None);
    }

    #[tokio::test]
    async fn each_value_that_is_not_cached_is_released() {
        let entries = NonZeroUsize::new(100).unwrap();
        let policy = CachePolicy::default().with_entries(entries);
        let cache = SingleFlightCache::<u32, Arc<u32>, &'static str>::new(policy);
        let until = cache.clock.now().plus(Duration::from_secs(3600));
        let released = std::sync::Mutex::new(Vec::new());
        let release = |key, value| released.lock().unwrap().push((key, value));
        for key in 0..1000 {
            let found = ready(Ok(Some((Arc::new(key + 7), until))));
            let got = cache.get_and_release(&key, found, |_| true, release).await;
            assert_eq!(got, Ok(Some(Arc::new(key + 7))));
        }
        let released_now = released.lock().unwrap().clone();
        assert_eq!(released_now.len() + cache.entries.len(), 1000);
        assert!(released_now.iter().all(|(key, value)| key + 7 == **value), "{released_now:?}");
        for (key, _) in released_now {
            assert_eq!(cache.cached(&key), None);
        }
        released.lock().unwrap().clear();
        let look_up = async {
            assert_eq!(cache.remove(&5000), None);
            Ok(Some((Arc::new(1), until)))
        };
        let got = cache.get_and_release(&5000, look_up, |_| true, release).await;
        assert_eq!((got, cache.cached(&5000)), (Ok(Some(Arc::new(1))), None));
        assert!(released.lock().unwrap().contains(&(5000, Arc::new(1))));
    }

    #[tokio::test]
    async fn an_error_that_is_not_cached_is_the_result_of_one_look_up_only() {
        let (cache, _) = cache(CachePolicy::default());
        let look_up = async |answer| {
            let is_cached = |error: &&str| *error == "down";
            cache.get_and_release(&1, ready(answer), is_cached, |_, _| {}).await
        };
        for error in ["once", "down"] {
            assert_eq!(look_up(Err(error)).await, Err(error));
        }
        assert_eq!(look_up(Err("later")).await, Err("down"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_look_up_is_taken_over_by_the_next_caller() {
        let (cache, _) = cache(CachePolicy::default());
        let first = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get(&1, pending()).await }
        });
        yield_now().await;
        let mut callers = JoinSet::new();
        for _ in 0..10 {
            let cache = cache.clone();
            callers.spawn(async move { get(&cache, 1, Ok(Some(2))).await });
        }
        yield_now().await;
        assert!(callers.try_join_next().is_none(), "a caller did not wait for the first look-up");
        first.abort();
        let all = timeout(Duration::from_secs(1), callers.join_all()).await;
        assert_eq!(all.expect("a caller still waits"), [Ok(Some(2)); 10]);
    }

    #[tokio::test]
    async fn the_number_of_entries_is_bounded() {
        let entries = NonZeroUsize::new(100).unwrap();
        let (cache, _) = cache(CachePolicy::default().with_entries(entries));
        for key in 0..10_000 {
            let answer = if key % 2 == 0 { Ok(Some(key)) } else { Err("down") };
            assert_eq!(get(&cache, key, answer).await, answer);
        }
        assert!(cache.entries.len() <= 100, "{}", cache.entries.len());
        assert!(!cache.entries.is_empty());
        let before = cache.entries.len();
        for key in 1_000_000..1_001_000 {
            let dropped = cache.get(&key, pending());
            assert!(tokio_test::task::spawn(dropped).poll().is_pending());
        }
        assert_eq!(cache.entries.len(), before);
    }
}
