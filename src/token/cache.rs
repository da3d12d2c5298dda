//! A cache of verified tokens. Without the cache, the check of the RSA signature would be more work than all the rest
//! of a request.
//!
//! - The cache holds only verified tokens, so a client that sends many bad tokens cannot fill it.
//! - The cache finds an entry by a 128-bit hash of the token, and holds the text of a PAT only on
//!   request ([`Rs256Verifier::with_pat_texts`](super::Rs256Verifier::with_pat_texts)). The hash depends
//!   on a random key, so an attacker cannot search for another text with the same hash.
//! - Each look-up compares the expiry time of the token with the clock, so an expired token is rejected. The cache does
//!   not hold revocations, because the caller checks them for each request.
//! - The size of the cache is bounded. A PAT (Personal Access Token) with many scopes counts as several tokens. Many
//!   tokens that are used only once do not evict a token that is used repeatedly.
//! - If a new token arrives on many connections at the same time, one thread verifies it. The other threads wait for
//!   the result, because waiting takes less time than another verification. If the token is bad, all waiting threads
//!   then verify it themselves, at the same time. So a bad token delays each of them by at most one verification.

#[cfg(feature = "remote")]
use std::sync::Weak;
use std::{
    fmt,
    hash::{BuildHasherDefault, Hash, Hasher},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quick_cache::{
    OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle, GuardResult},
};
use siphasher::sip128::{Hash128, SipHasher13};
use uuid::Uuid;

use super::{Scope, ScopeAccess, TokenError, VerifiedToken};
use crate::clock::Timestamp;

/// The cache consists of shards, each with its own lock. The number of shards is the capacity of the cache divided by
/// this weight, rounded up to a power of two.
///
/// Rounding up makes the number of shards less than twice as large. So if there are several shards, each can hold at
/// least half of this weight. This is enough for the heaviest possible PAT, which has the maximum length and the
/// shortest possible scopes. If there is only one shard, it has the whole capacity.
const WEIGHT_PER_SHARD: usize = 2_048;

pub(super) struct TokenCache {
    tokens: Cache<TokenHash, VerifiedToken, TokenWeight, BuildHasherDefault<AlreadyHashed>>,
    hasher: SipHasher13,
    generation: Generation,
}

/// The generation of a cache. When it advances, look-ups do not find the older tokens any more. The cache evicts them
/// later.
///
/// A look-up reads the generation before it verifies a token. If a key is withdrawn during the verification, the
/// generation advances. So later look-ups do not find a token that was verified with the withdrawn key.
#[derive(Clone, Debug, Default)]
pub(super) struct Generation(Arc<AtomicU64>);

#[cfg(feature = "remote")]
#[derive(Debug)]
pub(super) struct WeakGeneration(Weak<AtomicU64>);

#[cfg(feature = "remote")]
impl WeakGeneration {
    pub(super) fn upgrade(&self) -> Option<Generation> {
        self.0.upgrade().map(Generation)
    }
}

impl Generation {
    #[cfg(feature = "remote")]
    pub(super) fn advance(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    #[cfg(feature = "remote")]
    pub(super) fn downgrade(&self) -> WeakGeneration {
        WeakGeneration(Arc::downgrade(&self.0))
    }

    /// Mixes the generation into a hash, so that the same token has another hash in each generation.
    fn mix(&self, mut hash: Hash128) -> TokenHash {
        // The factor is odd, so each generation has a different product.
        hash.h1 ^= self.0.load(Ordering::Acquire).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        TokenHash(hash)
    }
}

/// The hash of a token, made with the random key of the cache.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TokenHash(Hash128);

impl Hash for TokenHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.h1);
    }
}

/// A hasher for the map. It returns half of the 128-bit hash.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a TokenHash writes one u64");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl TokenCache {
    pub(super) fn new(capacity: NonZeroUsize) -> Self {
        // A version 4 UUID has 122 random bits, which come from the operating system.
        let key = Uuid::new_v4().into_bytes();
        let options = OptionsBuilder::new()
            .estimated_items_capacity(capacity.get())
            .weight_capacity(capacity.get() as u64)
            // A shard does not cache a token that weighs more than 97 % of the capacity of the shard (the default of
            // `hot_allocation`).
            .shards(capacity.get() / WEIGHT_PER_SHARD)
            .build()
            .expect("both required options are set");
        let tokens = Cache::with_options(
            options,
            TokenWeight,
            BuildHasherDefault::default(),
            DefaultLifecycle::default(),
        );
        Self { tokens, hasher: SipHasher13::new_with_key(&key), generation: Generation::default() }
    }

    #[cfg(feature = "remote")]
    pub(super) fn generation(&self) -> Generation {
        self.generation.clone()
    }

    pub(super) fn empty_like(&self) -> Self {
        let capacity = usize::try_from(self.tokens.capacity()).unwrap_or(usize::MAX);
        Self::new(NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN))
    }

    /// Returns the cached token. If the token is not cached, calls `verify`, and caches an `Ok` of `verify`.
    ///
    /// # Errors
    /// The error of `verify`, or [`TokenError::Expired`] if the token has expired.
    pub(super) fn get_or_verify<E: From<TokenError>>(
        &self,
        token: &[u8],
        now: Timestamp,
        verify: impl FnOnce() -> Result<VerifiedToken, E>,
    ) -> Result<VerifiedToken, E> {
        let hash = self.generation.mix(self.hasher.hash(token));
        let verified = self.get_or_insert(&hash, verify)?;
        let expires_at = verified.expires_at();
        if expires_at <= now {
            self.tokens.remove(&hash);
            let secs_ago = now.as_secs() - expires_at.as_secs();
            return Err(TokenError::Expired { secs_ago }.into());
        }
        Ok(verified)
    }

    fn get_or_insert<E>(
        &self,
        hash: &TokenHash,
        verify: impl FnOnce() -> Result<VerifiedToken, E>,
    ) -> Result<VerifiedToken, E> {
        let guard = match self.tokens.get_value_or_guard(hash, Some(Duration::ZERO)) {
            GuardResult::Value(verified) => return Ok(verified),
            GuardResult::Guard(guard) => Some(guard),
            GuardResult::Timeout => match self.tokens.get_value_or_guard(hash, None) {
                GuardResult::Value(verified) => return Ok(verified),
                // The check of the other thread has failed. The guard is dropped here, so that all waiting threads
                // check the token at the same time. If this thread kept the guard, they would check the token one after
                // the other.
                GuardResult::Guard(_) | GuardResult::Timeout => None,
            },
        };
        let verified = verify()?;
        match guard {
            // An error means that the reserved entry was removed or replaced. The token is then not cached.
            Some(guard) => drop(guard.insert(verified.clone())),
            None => self.tokens.insert(*hash, verified.clone()),
        }
        Ok(verified)
    }
}

/// Computes the weight of a token. Each token has at least the weight 1, which stands for less than 400 bytes of
/// memory. A PAT weighs 1 more for every four scopes, and 1 more for every 400 bytes of the paths in its scopes. If the
/// text of the PAT is kept, its bytes are added to the bytes of the paths. A token of another issuer weighs 1 more for
/// every 400 bytes of its kept claims.
#[derive(Clone)]
struct TokenWeight;

impl Weighter<TokenHash, VerifiedToken> for TokenWeight {
    fn weight(&self, _: &TokenHash, token: &VerifiedToken) -> u64 {
        match token {
            VerifiedToken::Jwt(_) => 1,
            VerifiedToken::External(token) => 1 + token.size_of_claims() as u64 / 400,
            VerifiedToken::Pat(pat) => {
                let text = pat.expose().map_or(0, str::len);
                let path = |scope: &Scope| match scope.access() {
                    ScopeAccess::Path(path) => path.as_str().len(),
                    _ => 0,
                };
                let paths: usize = pat.scopes().iter().map(path).sum();
                1 + pat.scopes().iter().len() as u64 / 4 + (paths + text) as u64 / 400
            }
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
            Barrier, OnceLock,
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
            verified::{Pat, PatClaims, TokenOrigin},
        },
    };

    const NOW: u64 = 1_800_000_000;

    fn pat(scopes: &[impl AsRef<str>]) -> VerifiedToken {
        VerifiedToken::Pat(Pat::new(PatClaims {
            user: UserId::new("USER").unwrap(),
            scopes: Scopes::parse(scopes).unwrap(),
            issued_at: Timestamp::from_secs(NOW - 5),
            expires_at: Timestamp::from_secs(NOW + 5),
            origin: TokenOrigin::Gateway,
            fingerprint: TokenFingerprint::of("token"),
            text: None,
            expiry_header: OnceLock::new(),
        }))
    }

    struct CountingCache {
        cache: TokenCache,
        verified: VerifiedToken,
        checks: AtomicUsize,
    }

    impl CountingCache {
        fn new(capacity: usize) -> Self {
            Self::with_token(capacity, pat(&["a"]))
        }

        fn with_token(capacity: usize, verified: VerifiedToken) -> Self {
            let cache = TokenCache::new(NonZeroUsize::new(capacity).unwrap());
            Self { cache, verified, checks: AtomicUsize::new(0) }
        }

        /// Looks up a valid token. Returns whether it was already in the cache.
        fn look_up(&self, token: &str) -> bool {
            let before = self.checks.load(SeqCst);
            let verify = || {
                self.checks.fetch_add(1, SeqCst);
                Ok::<_, TokenError>(self.verified.clone())
            };
            self.cache.get_or_verify(token.as_bytes(), Timestamp::from_secs(NOW), verify).unwrap();
            self.checks.load(SeqCst) == before
        }

        fn look_up_bad(&self, token: &str) {
            let verify = || {
                self.checks.fetch_add(1, SeqCst);
                Err(TokenError::Signature)
            };
            let got = self.cache.get_or_verify(token.as_bytes(), Timestamp::from_secs(NOW), verify);
            assert_eq!(got.unwrap_err(), TokenError::Signature);
        }
    }

    #[test]
    fn tokens_that_are_used_once_do_not_evict_a_token_in_use() {
        for capacity in [50, 1_000] {
            let counting = CountingCache::new(capacity);
            counting.look_up("used");
            counting.look_up("used");
            let mut evicted = 0;
            for i in 0..10 * capacity {
                assert!(!counting.look_up(&format!("once {i}")));
                if i % 10 == 0 && !counting.look_up("used") {
                    evicted += 1;
                }
            }
            assert!(counting.cache.len() <= capacity, "{}", counting.cache.len());
            assert_eq!(evicted, 0);
        }
    }

    #[test]
    fn a_pat_with_many_scopes_counts_as_several_tokens() {
        let scopes: Vec<_> = (0..400).map(|i| format!("service-{i}")).collect();
        // A PAT with 400 scopes has the weight 101, so the cache has room for at most ten such PATs.
        let counting = CountingCache::with_token(1_010, pat(&scopes));
        for i in 0..100 {
            counting.look_up(&format!("once {i}"));
        }
        assert!((1..=10).contains(&counting.cache.len()), "{}", counting.cache.len());
    }

    #[test]
    fn bad_tokens_are_never_cached() {
        let counting = CountingCache::new(50);
        let good: Vec<_> = (0..20).map(|i| format!("good {i}")).collect();
        good.iter().for_each(|token| assert!(!counting.look_up(token)));
        let (len, checks) = (counting.cache.len(), counting.checks.load(SeqCst));
        for i in 0..5_000 {
            counting.look_up_bad(&format!("bad {i}"));
            counting.look_up_bad("bad");
        }
        assert_eq!(counting.checks.load(SeqCst), checks + 10_000);
        assert_eq!(counting.cache.len(), len);
        good.iter().for_each(|token| assert!(counting.look_up(token), "{token}"));
    }

    const THREADS: usize = 8;

    #[test]
    fn a_new_token_in_many_threads_is_verified_once() {
        let counting = CountingCache::new(50);
        for round in 0..50 {
            let (token, start) = (format!("new {round}"), Barrier::new(THREADS));
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        start.wait();
                        counting.look_up(&token)
                    });
                }
            });
            assert_eq!(counting.checks.load(SeqCst), round + 1);
        }
    }

    #[test]
    fn threads_that_waited_for_a_bad_token_verify_it_concurrently() {
        let counting = CountingCache::new(50);
        let (first_began, callers) = <(AtomicBool, AtomicUsize)>::default();
        let (checking, overlapped) = <(AtomicUsize, AtomicBool)>::default();
        let wait_until = |done: &dyn Fn() -> bool| {
            let start = Instant::now();
            while !done() && start.elapsed() < Duration::from_secs(2) {
                thread::yield_now();
            }
        };
        // The first check fails after all threads have called the cache. After that, the threads that have waited must
        // check at the same time: at least two checks must overlap. These checks fail, too.
        let verify = || {
            if first_began.swap(true, SeqCst) {
                checking.fetch_add(1, SeqCst);
                let overlap = || overlapped.load(SeqCst) || checking.load(SeqCst) > 1;
                wait_until(&overlap);
                overlapped.fetch_or(overlap(), SeqCst);
                checking.fetch_sub(1, SeqCst);
            } else {
                wait_until(&|| callers.load(SeqCst) == THREADS);
                // This gives the other threads the time to begin to wait for this check.
                (0..1_000).for_each(|_| thread::yield_now());
            }
            Err(TokenError::Signature)
        };
        let look_up = || {
            callers.fetch_add(1, SeqCst);
            let now = Timestamp::from_secs(NOW);
            counting.cache.get_or_verify(b"bad", now, verify).unwrap_err();
        };
        thread::scope(|scope| {
            scope.spawn(look_up);
            wait_until(&|| first_began.load(SeqCst));
            (1..THREADS).for_each(|_| drop(scope.spawn(look_up)));
        });
        assert!(overlapped.into_inner());
        assert_eq!(counting.cache.len(), 0);
    }
}
