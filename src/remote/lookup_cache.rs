//! Remembers answers for a while, and asks once for all who wait for the same.
//!
//! - What is remembered is old at a look-up when its time is over, or when the clock stands before
//!   the moment of the answer.
//! - While somebody asks, others who want the same wait for that answer, an error too. When whoever
//!   asks gives up, the next one of them asks.
//! - It is bounded. What is used more than once stays when a flood of keys comes by.

use std::{
    fmt,
    hash::Hash,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::sync::{Cache, EntryAction, EntryResult};

use crate::clock::{Clock, SystemClock, Timestamp};

/// How much is remembered, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePolicy {
    /// How many answers.
    pub entries: NonZeroUsize,
    /// How long it is remembered that there is something: a user, a permission.
    pub found: Duration,
    /// How long it is remembered that there is nothing.
    pub not_found: Duration,
    /// How long an error is: keep it short. While it is remembered a service that is back is not
    /// asked, but one that is gone does not keep everybody waiting in turn either.
    pub error: Duration,
}

impl Default for CachePolicy {
    /// 1,000 answers; 60 s, 10 s for nothing, 1 s for errors.
    fn default() -> Self {
        Self {
            entries: NonZeroUsize::new(1000).unwrap_or(NonZeroUsize::MIN),
            found: Duration::from_secs(60),
            not_found: Duration::from_secs(10),
            error: Duration::from_secs(1),
        }
    }
}

/// SingleFlightCache by question: a `V`, or that there is none, or an `E` that says why nobody knows.
pub struct SingleFlightCache<K, V, E> {
    known: Cache<K, Known<V, E>>,
    memory: CachePolicy,
    clock: Arc<dyn Clock>,
    /// How many answers there have been: tells what was answered after somebody began to wait.
    answered: AtomicU64,
}

#[derive(Clone)]
struct Known<V, E> {
    answer: Result<Option<V>, E>,
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
    /// Remembers nothing yet.
    pub fn new(memory: CachePolicy) -> Self {
        Self {
            known: Cache::new(memory.entries.get()),
            memory,
            clock: Arc::new(SystemClock),
            answered: AtomicU64::new(0),
        }
    }

    /// Takes the time from `clock`.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// The answer that is remembered for `key`, or the one that somebody is waiting for already, or
    /// else that of `ask`, which is not polled otherwise.
    ///
    /// # Errors
    /// That of whoever has asked.
    pub async fn get(
        &self,
        key: &K,
        ask: impl Future<Output = Result<Option<V>, E>>,
    ) -> Result<Option<V>, E> {
        let before = self.answered.load(Ordering::Acquire);
        let now = self.clock.now();
        let fresh = |known: &Known<V, E>, now| known.from <= now && now < known.until;
        if let Some(known) = self.known.get(key).filter(|known| fresh(known, now)) {
            return known.answer;
        }
        let entry = self.known.entry_async(key, |_, known| {
            if known.number > before || fresh(known, self.clock.now()) {
                EntryAction::Retain(known.answer.clone())
            } else {
                EntryAction::ReplaceWithGuard
            }
        });
        let place = match entry.await {
            EntryResult::Retained(answer) => return answer,
            EntryResult::Vacant(place) | EntryResult::Replaced(place, _) => place,
            // Neither is asked for.
            EntryResult::Removed(..) | EntryResult::Timeout => return ask.await,
        };
        let answer = ask.await;
        let (from, memory) = (self.clock.now(), self.memory);
        let until = from.plus(match answer {
            Ok(Some(_)) => memory.found,
            Ok(None) => memory.not_found,
            Err(_) => memory.error,
        });
        let number = self.answered.fetch_add(1, Ordering::AcqRel) + 1;
        // Whoever has thrown it out in the meantime does not want it.
        let _ = place.insert(Known { answer: answer.clone(), number, from, until });
        answer
    }
}

impl<K, V, E> fmt::Debug for SingleFlightCache<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlightCache").field("memory", &self.memory).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::atomic::AtomicUsize,
    };

    use tokio::{
        sync::Semaphore,
        task::{JoinSet, yield_now},
        time::timeout,
    };

    use super::*;
    use crate::clock::ManualClock;

    type Numbers = SingleFlightCache<u32, u32, &'static str>;

    fn answers(memory: CachePolicy) -> (Arc<Numbers>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1000)));
        (Arc::new(SingleFlightCache::new(memory).with_clock(clock.clone())), clock)
    }

    async fn ask(
        answers: &Numbers,
        key: u32,
        answer: Result<Option<u32>, &'static str>,
    ) -> Result<Option<u32>, &'static str> {
        answers.get(&key, ready(answer)).await
    }

    #[tokio::test]
    async fn each_kind_of_answer_has_its_time() {
        let memory = CachePolicy::default();
        for (answer, secs) in [(Ok(Some(1)), 60), (Ok(None), 10), (Err("down"), 1)] {
            let (answers, clock) = answers(memory);
            assert_eq!(ask(&answers, 1, answer).await, answer);
            assert_eq!(ask(&answers, 2, Ok(Some(7))).await, Ok(Some(7)), "another key");
            clock.advance(Duration::from_millis(secs * 1000 - 1));
            assert_eq!(ask(&answers, 1, Ok(Some(2))).await, answer);
            clock.advance(Duration::from_millis(1));
            assert_eq!(ask(&answers, 1, Ok(Some(2))).await, Ok(Some(2)));
            assert_eq!(ask(&answers, 1, Ok(Some(3))).await, Ok(Some(2)));
        }
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_makes_answers_old() {
        let (answers, clock) = answers(CachePolicy::default());
        assert_eq!(ask(&answers, 1, Ok(Some(1))).await, Ok(Some(1)));
        clock.set(Timestamp::from_secs(999));
        assert_eq!(ask(&answers, 1, Ok(None)).await, Ok(None));
    }

    /// Many who ask the same at once, and one call.
    async fn at_once(memory: CachePolicy, answer: Result<Option<u32>, &'static str>) {
        let (answers, _) = answers(memory);
        let (calls, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let mut callers = JoinSet::new();
        for _ in 0..50 {
            let (answers, calls, go) = (answers.clone(), calls.clone(), go.clone());
            callers.spawn(async move {
                let asked = answers.get(&1, async {
                    calls.fetch_add(1, Ordering::SeqCst);
                    go.acquire().await.unwrap().forget();
                    answer
                });
                asked.await
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
    async fn who_wants_the_same_waits_for_one_call() {
        let forgets = CachePolicy {
            found: Duration::ZERO,
            not_found: Duration::ZERO,
            error: Duration::ZERO,
            ..CachePolicy::default()
        };
        for memory in [CachePolicy::default(), forgets] {
            for answer in [Ok(Some(1)), Ok(None), Err("down")] {
                at_once(memory, answer).await;
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_remembered_is_asked_again() {
        let (answers, _) = answers(CachePolicy { error: Duration::ZERO, ..CachePolicy::default() });
        assert_eq!(ask(&answers, 1, Err("down")).await, Err("down"));
        assert_eq!(ask(&answers, 1, Ok(Some(1))).await, Ok(Some(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_leaves_the_others_an_answer() {
        let (answers, _) = answers(CachePolicy::default());
        let leader = tokio::spawn({
            let answers = answers.clone();
            async move { answers.get(&1, pending()).await }
        });
        yield_now().await;
        let mut callers = JoinSet::new();
        for _ in 0..10 {
            let answers = answers.clone();
            callers.spawn(async move { ask(&answers, 1, Ok(Some(2))).await });
        }
        yield_now().await;
        assert!(callers.try_join_next().is_none(), "they wait");
        leader.abort();
        let all = timeout(Duration::from_secs(1), callers.join_all()).await;
        assert_eq!(all.expect("nobody waits for ever"), [Ok(Some(2)); 10]);
    }

    #[tokio::test]
    async fn keys_do_not_make_it_grow() {
        let entries = NonZeroUsize::new(100).unwrap();
        let (answers, _) = answers(CachePolicy { entries, ..CachePolicy::default() });
        for key in 0..10_000 {
            let answer = if key % 2 == 0 { Ok(Some(key)) } else { Err("down") };
            assert_eq!(ask(&answers, key, answer).await, answer);
        }
        assert!(answers.known.len() <= 100, "{}", answers.known.len());
        assert!(!answers.known.is_empty());
        // Nothing of those who gave up is left either.
        let before = answers.known.len();
        for key in 1_000_000..1_001_000 {
            let call = answers.get(&key, pending());
            assert!(tokio_test::task::spawn(call).poll().is_pending());
        }
        assert_eq!(answers.known.len(), before);
    }
}
