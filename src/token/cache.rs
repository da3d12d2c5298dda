//! Remembers tokens that have verified: checking an RSA signature costs more than all the rest of a
//! request.
//!
//! - Only what is good is remembered. A flood of bad tokens neither fills the cache nor costs more
//!   than their signature checks.
//! - A token is looked up by a hash of 128 bits under a random key; its text is not kept. Without
//!   the key nobody can look for a second text with the same hash.
//! - Times are compared with the clock at every look-up, so an entry is never good for longer than
//!   its token. Revocation is not remembered at all: it is checked each time, elsewhere.
//! - It is bounded, by what it holds: a PAT with many scopes counts as several tokens. What is used
//!   more than once stays when a flood of distinct good tokens comes by.
//! - A new token on many connections at once is verified once. The others block their thread for
//!   the rest of that check, which is less than a check of their own. If it fails they check for
//!   themselves, at the same time: one bad token on many connections stalls nobody for longer.

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

use super::rs256::{TokenError, VerifiedToken};
use crate::clock::Timestamp;

/// A shard is no smaller than half of it, if there is more than one: room for a PAT as long as any
/// may be, with the shortest scopes that there are.
const SHARD: usize = 2_048;

pub(super) struct TokenCache {
    tokens: Cache<TokenHash, VerifiedToken, Size, BuildHasherDefault<HashedBefore>>,
    keyed: SipHasher13,
}

/// Stands for the text of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TokenHash(Hash128);

impl Hash for TokenHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.h1);
    }
}

/// Half of a keyed hash of 128 bits is a hash.
#[derive(Default)]
struct HashedBefore(u64);

impl Hasher for HashedBefore {
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
            // What is heavier than a shard is not remembered at all.
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

    /// The token as it was verified before, or as `verify` does now.
    ///
    /// # Errors
    /// Those of `verify`; [`TokenError::Expired`] when it has expired since.
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
                // The check that was waited for has failed. To go first now would let all others
                // that have waited wait on, one check after the other.
                GuardResult::Guard(_) | GuardResult::Timeout => None,
            },
        };
        let verified = verify()?;
        match first {
            // An error says that it has been removed meanwhile.
            Some(guard) => drop(guard.insert(verified.clone())),
            None => self.tokens.insert(*hash, verified.clone()),
        }
        Ok(verified)
    }
}

/// As how many tokens one counts: the usual one, or four scopes, is less than 400 bytes.
#[derive(Clone)]
struct Size;

impl Weighter<TokenHash, VerifiedToken> for Size {
    fn weight(&self, _: &TokenHash, token: &VerifiedToken) -> u64 {
        match token {
            VerifiedToken::Jwt(_) => 1,
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
