//! Cache of verified tokens: an RSA signature check costs more than the rest of a request.
//!
//! - It holds verified tokens only. A flood of bad tokens does not fill it, and costs no more than
//!   the signature checks.
//! - The key is a 128-bit hash of the token under a random key. The cache does not hold the text of a
//!   token. Without the random key, an attacker cannot search for a second text with the same hash.
//! - Each look-up compares the expiry with the clock, so an entry is valid no longer than its token.
//!   The cache does not hold revocations: the caller checks them on each request.
//! - Its size is bounded, and a PAT with many scopes counts as several tokens. A token that is used
//!   more than once stays when a flood of distinct good tokens arrives.
//! - A new token that arrives on many connections is verified once. The other threads block until
//!   that check ends, which is shorter than a check of their own. If it fails, they verify the token
//!   themselves, concurrently, so a bad token on many connections delays no thread further.

use std::{
    fmt,
    hash::{BuildHasherDefault, Hash, Hasher},
    num::NonZeroUsize,
    time::Duration,
};

use quick_cache::{
    OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle, GuardResult},
};
use siphasher::sip128::{Hash128, SipHasher13};
use uuid::Uuid;

use super::{TokenError, VerifiedToken};
use crate::clock::Timestamp;

/// Weight per shard. If there are several shards, each has at least half of this: room for the
/// longest possible PAT with the shortest possible scopes.
const SHARD: usize = 2_048;

pub(super) struct TokenCache {
    tokens: Cache<TokenHash, VerifiedToken, Size, BuildHasherDefault<AlreadyHashed>>,
    keyed: SipHasher13,
}

/// The hash of a token under the random key.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TokenHash(Hash128);

impl Hash for TokenHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.h1);
    }
}

/// Takes half of the 128-bit hash as the hash of the map.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a TokenHash is written as one number");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl TokenCache {
    pub(super) fn new(capacity: NonZeroUsize) -> Self {
        // 122 of the bits are random, from the operating system.
        let key = Uuid::new_v4().into_bytes();
        let options = OptionsBuilder::new()
            .estimated_items_capacity(capacity.get())
            .weight_capacity(capacity.get() as u64)
            // A token that is heavier than a shard is not cached.
            .shards(capacity.get() / SHARD)
            .build()
            .expect("capacities are all that has to be given");
        let tokens = Cache::with_options(
            options,
            Size,
            BuildHasherDefault::default(),
            DefaultLifecycle::default(),
        );
        Self { tokens, keyed: SipHasher13::new_with_key(&key) }
    }

    /// The cached token, or the answer of `verify`.
    ///
    /// # Errors
    /// Those of `verify`; [`TokenError::Expired`] if the cached token has expired since.
    pub(super) fn get_or_verify(
        &self,
        token: &[u8],
        now: Timestamp,
        verify: impl FnOnce() -> Result<VerifiedToken, TokenError>,
    ) -> Result<VerifiedToken, TokenError> {
        let hash = TokenHash(self.keyed.hash(token));
        let verified = self.get_or_insert(&hash, verify)?;
        let expires_at = verified.expires_at();
        if expires_at <= now {
            self.tokens.remove(&hash);
            return Err(TokenError::Expired { secs_ago: now.as_secs() - expires_at.as_secs() });
        }
        Ok(verified)
    }

    fn get_or_insert<E>(
        &self,
        hash: &TokenHash,
        verify: impl FnOnce() -> Result<VerifiedToken, E>,
    ) -> Result<VerifiedToken, E> {
        let first = match self.tokens.get_value_or_guard(hash, Some(Duration::ZERO)) {
            GuardResult::Value(verified) => return Ok(verified),
            GuardResult::Guard(guard) => Some(guard),
            GuardResult::Timeout => match self.tokens.get_value_or_guard(hash, None) {
                GuardResult::Value(verified) => return Ok(verified),
                // The check that this thread waited for has failed. Taking the guard would make all
                // other waiting threads wait again, for one check after the other.
                GuardResult::Guard(_) | GuardResult::Timeout => None,
            },
        };
        let verified = verify()?;
        match first {
            // An error means that the entry was removed in the meantime.
            Some(guard) => drop(guard.insert(verified.clone())),
            None => self.tokens.insert(*hash, verified.clone()),
        }
        Ok(verified)
    }
}

/// The weight of a token: 1 for the usual one and for each four scopes, which is less than 400
/// bytes.
#[derive(Clone)]
struct Size;

impl Weighter<TokenHash, VerifiedToken> for Size {
    fn weight(&self, _: &TokenHash, token: &VerifiedToken) -> u64 {
        match token {
            VerifiedToken::Jwt(_) | VerifiedToken::External(_) => 1,
            VerifiedToken::Pat(pat) => 1 + pat.scopes().iter().len() as u64 / 4,
        }
    }
}

#[cfg(test)]
impl TokenCache {
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").field("tokens", &self.tokens.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Barrier,
            atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        },
        thread,
        time::Instant,
    };

    use super::*;
    use crate::{
        passticket::UserId,
        token::{
            Scopes, TokenFingerprint,
            verified::{Pat, PatClaims},
        },
    };

    const NOW: u64 = 1_800_000_000;

    fn pat(scopes: &[impl AsRef<str>]) -> VerifiedToken {
        VerifiedToken::Pat(Pat::new(PatClaims {
            user: UserId::new("USER").unwrap(),
            scopes: Scopes::parse(scopes).unwrap(),
            issued_at: Timestamp::from_secs(NOW - 5),
            expires_at: Timestamp::from_secs(NOW + 5),
            fingerprint: TokenFingerprint::of("token"),
        }))
    }

    /// A cache that counts the signature checks.
    struct Watched {
        cache: TokenCache,
        verified: VerifiedToken,
        checks: AtomicUsize,
    }

    impl Watched {
        fn new(capacity: usize) -> Self {
            Self::of(capacity, pat(&["a"]))
        }

        fn of(capacity: usize, verified: VerifiedToken) -> Self {
            let cache = TokenCache::new(NonZeroUsize::new(capacity).unwrap());
            Self { cache, verified, checks: AtomicUsize::new(0) }
        }

        /// Whether the token was cached. If not, it verifies now.
        fn knows(&self, token: &str) -> bool {
            let before = self.checks.load(SeqCst);
            let verify = || {
                self.checks.fetch_add(1, SeqCst);
                Ok(self.verified.clone())
            };
            self.cache.get_or_verify(token.as_bytes(), Timestamp::from_secs(NOW), verify).unwrap();
            self.checks.load(SeqCst) == before
        }

        /// Asks for a token that does not verify.
        fn refuses(&self, token: &str) {
            let verify = || {
                self.checks.fetch_add(1, SeqCst);
                Err(TokenError::Signature)
            };
            let got = self.cache.get_or_verify(token.as_bytes(), Timestamp::from_secs(NOW), verify);
            assert_eq!(got.unwrap_err(), TokenError::Signature);
        }
    }

    #[test]
    fn a_flood_evicts_no_token_that_is_in_use() {
        for capacity in [50, 1_000] {
            let watched = Watched::new(capacity);
            watched.knows("used");
            watched.knows("used");
            let mut evicted = 0;
            for i in 0..10 * capacity {
                assert!(!watched.knows(&format!("flood {i}")));
                if i % 10 == 0 && !watched.knows("used") {
                    evicted += 1;
                }
            }
            assert!(watched.cache.len() <= capacity, "{}", watched.cache.len());
            assert_eq!(evicted, 0);
        }
    }

    #[test]
    fn a_token_with_many_scopes_counts_as_several() {
        let scopes: Vec<_> = (0..400).map(|i| format!("service-{i}")).collect();
        let watched = Watched::of(1_010, pat(&scopes));
        for i in 0..100 {
            watched.knows(&format!("flood {i}"));
        }
        assert!((1..=10).contains(&watched.cache.len()), "{}", watched.cache.len());
    }

    #[test]
    fn bad_tokens_are_never_cached() {
        let watched = Watched::new(50);
        let good: Vec<_> = (0..20).map(|i| format!("good {i}")).collect();
        good.iter().for_each(|token| assert!(!watched.knows(token)));
        let (held, before) = (watched.cache.len(), watched.checks.load(SeqCst));
        for i in 0..5_000 {
            watched.refuses(&format!("bad {i}"));
            watched.refuses("bad");
        }
        assert_eq!(watched.checks.load(SeqCst), before + 10_000);
        assert_eq!(watched.cache.len(), held);
        good.iter().for_each(|token| assert!(watched.knows(token), "{token}"));
    }

    const THREADS: usize = 8;

    #[test]
    fn a_new_token_on_many_threads_is_verified_once() {
        let watched = Watched::new(50);
        for round in 0..50 {
            let (token, start) = (format!("new {round}"), Barrier::new(THREADS));
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        start.wait();
                        watched.knows(&token)
                    });
                }
            });
            assert_eq!(watched.checks.load(SeqCst), round + 1);
        }
    }

    #[test]
    fn threads_that_waited_for_a_bad_token_verify_it_concurrently() {
        let watched = Watched::new(50);
        let (begun, asking) = <(AtomicBool, AtomicUsize)>::default();
        let (checking, together) = <(AtomicUsize, AtomicBool)>::default();
        let until = |done: &dyn Fn() -> bool| {
            let start = Instant::now();
            while !done() && start.elapsed() < Duration::from_secs(2) {
                thread::yield_now();
            }
        };
        let verify = || {
            if begun.swap(true, SeqCst) {
                checking.fetch_add(1, SeqCst);
                let meet = || together.load(SeqCst) || checking.load(SeqCst) > 1;
                until(&meet);
                together.fetch_or(meet(), SeqCst);
                checking.fetch_sub(1, SeqCst);
            } else {
                until(&|| asking.load(SeqCst) == THREADS);
                // Give the others time to get from asking to waiting.
                (0..1_000).for_each(|_| thread::yield_now());
            }
            Err(TokenError::Signature)
        };
        let ask = || {
            asking.fetch_add(1, SeqCst);
            let now = Timestamp::from_secs(NOW);
            watched.cache.get_or_verify(b"bad", now, verify).unwrap_err();
        };
        thread::scope(|scope| {
            scope.spawn(ask);
            until(&|| begun.load(SeqCst));
            (1..THREADS).for_each(|_| drop(scope.spawn(ask)));
        });
        assert!(together.into_inner());
        assert_eq!(watched.cache.len(), 0);
    }
}
