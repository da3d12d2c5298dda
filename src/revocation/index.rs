//! Revocations in memory.

use std::{
    future::ready,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use dashmap::{DashMap, Entry};

use super::{
    CheckError, Evicted, Revocation, RevocationCheck, RevocationStore, RevokedBy, StoreFuture,
    filter::Filter, rule_matters, token_matters,
};
use crate::{
    clock::Timestamp,
    passticket::UserId,
    token::{Pat, ServiceId, TokenFingerprint, VerifiedToken},
};

/// Many, because growth and eviction block the checks in one shard. With a million rules a shard has
/// 4,000 of them.
const SHARDS: usize = 256;

/// The revocations in memory. A check costs the same with ten rules and with a million: one look at a
/// filter for the token, one for its user and one for each of its scopes.
///
/// As a [`RevocationStore`] it survives nothing. It is for tests, and for embedders who keep revocations
/// elsewhere and [`apply`](Self::apply) them here.
///
/// Users and services are hashed under a random key, so that an attacker who can choose their names
/// cannot make them collide. The fingerprint of a token is a hash of signed text and needs no key.
///
/// # Memory
/// Measured with a million of each: 82 bytes for a revoked token, 30 for a rule for a user, 72 for a
/// rule for a service whose id has 14 characters. An empty index takes half a megabyte at most. While a
/// shard of a map grows, it briefly takes twice its size.
#[derive(Debug)]
pub struct RevocationIndex {
    tokens: DashMap<TokenFingerprint, Timestamp>,
    users: DashMap<UserId, Timestamp>,
    services: DashMap<ServiceId, Timestamp>,
    /// Has every key of the three maps, and keys that were evicted since the filter was made.
    filter: ArcSwap<Filter>,
    names: RandomState,
    /// The number of keys in the filter. Every change of the maps holds the lock, so that a new filter
    /// has all keys.
    keys: Mutex<usize>,
}

impl Default for RevocationIndex {
    fn default() -> Self {
        Self::with_capacity(0, 0, 0)
    }
}

impl RevocationIndex {
    /// An empty index with room for so many revocations of each kind.
    pub(super) fn with_capacity(tokens: usize, users: usize, services: usize) -> Self {
        Self {
            tokens: DashMap::with_capacity_and_shard_amount(tokens, SHARDS),
            users: DashMap::with_capacity_and_shard_amount(users, SHARDS),
            services: DashMap::with_capacity_and_shard_amount(services, SHARDS),
            filter: ArcSwap::from_pointee(Filter::for_keys(tokens + users + services)),
            names: RandomState::new(),
            keys: Mutex::new(0),
        }
    }

    /// Adds one revocation. Every check that starts after this returns sees it.
    ///
    /// A rule with an earlier time than the present one changes nothing: a revocation is never taken
    /// back (docs/decisions.md#d8).
    pub fn apply(&self, revocation: &Revocation) {
        let mut keys = self.changing();
        let (is_new, hash) = match revocation {
            Revocation::Token { token, expires_at } => {
                (raise(&self.tokens, *token, *expires_at), hash(*token))
            }
            Revocation::User { user, up_to } => {
                (raise(&self.users, *user, *up_to), self.names.hash_one(user))
            }
            Revocation::Service { service, up_to } => {
                (raise(&self.services, service.clone(), *up_to), self.names.hash_one(service))
            }
        };
        if !is_new {
            return;
        }
        *keys += 1;
        let filter = self.filter.load();
        if *keys <= filter.capacity() {
            filter.add(hash);
        } else {
            self.renew_filter(&mut keys);
        }
    }

    /// Checks a verified token. Rules count for PATs alone.
    ///
    /// # Errors
    /// [`CheckError::Revoked`] tells which revocation hit it.
    pub fn check(&self, token: &VerifiedToken) -> Result<(), CheckError> {
        self.check_as(token.fingerprint(), token)
    }

    /// [`check`](Self::check) for an index whose tokens have other fingerprints than their own.
    pub(super) fn check_as(
        &self,
        fingerprint: TokenFingerprint,
        token: &VerifiedToken,
    ) -> Result<(), CheckError> {
        let filter = self.filter.load();
        if filter.may_have(hash(fingerprint)) && self.tokens.contains_key(&fingerprint) {
            return Err(CheckError::Revoked(RevokedBy::Token));
        }
        match token {
            VerifiedToken::Pat(pat) => self.check_rules(&filter, pat),
            VerifiedToken::Jwt(_) | VerifiedToken::External(_) => Ok(()),
        }
    }

    fn check_rules(&self, filter: &Filter, pat: &Pat) -> Result<(), CheckError> {
        let hits = |up_to: Timestamp| pat.issued_at() <= up_to;
        let user = pat.user();
        if filter.may_have(self.names.hash_one(user))
            && self.users.get(user).is_some_and(|up_to| hits(*up_to))
        {
            return Err(CheckError::Revoked(RevokedBy::UserRule));
        }
        // A rule for any of its services revokes the whole token
        // (docs/reference/tokens-and-revocation.md#revocation-check).
        let by_rule = |service| {
            filter.may_have(self.names.hash_one(service))
                && self.services.get(service).is_some_and(|up_to| hits(*up_to))
        };
        if pat.scopes().iter().any(by_rule) {
            return Err(CheckError::Revoked(RevokedBy::ServiceRule));
        }
        Ok(())
    }

    /// Removes what can hit no token at `now`, and frees the memory.
    pub(super) fn drop_stale(&self, now: Timestamp) -> Evicted {
        let mut keys = self.changing();
        let evicted = Evicted {
            tokens: retain(&self.tokens, |expires_at| token_matters(expires_at, now)),
            users: retain(&self.users, |up_to| rule_matters(up_to, now)),
            services: retain(&self.services, |up_to| rule_matters(up_to, now)),
        };
        if evicted != Evicted::default() {
            self.renew_filter(&mut keys);
        }
        evicted
    }

    fn changing(&self) -> MutexGuard<'_, usize> {
        // The number only says when to grow, so its value after a panic is good enough.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a new filter from the maps. Until then, checks use the old one: it lacks only the
    /// revocation that is being added, and that one is not yet acknowledged.
    fn renew_filter(&self, keys: &mut usize) {
        *keys = self.tokens.len() + self.users.len() + self.services.len();
        let filter = Filter::for_keys(*keys * 2);
        self.tokens.iter().for_each(|entry| filter.add(hash(*entry.key())));
        self.users.iter().for_each(|entry| filter.add(self.names.hash_one(entry.key())));
        self.services.iter().for_each(|entry| filter.add(self.names.hash_one(entry.key())));
        self.filter.store(Arc::new(filter));
    }

    /// All entries, for comparison.
    #[cfg(all(test, feature = "store"))]
    pub(super) fn entries(&self) -> std::collections::BTreeSet<String> {
        let tokens = self.tokens.iter().map(|e| format!("{:?} {:?}", e.key(), e.value()));
        let users = self.users.iter().map(|e| format!("{:?} {:?}", e.key(), e.value()));
        let services = self.services.iter().map(|e| format!("{:?} {:?}", e.key(), e.value()));
        tokens.chain(users).chain(services).collect()
    }
}

impl RevocationCheck for RevocationIndex {
    fn try_check_now(&self, token: &VerifiedToken) -> Option<Result<(), CheckError>> {
        Some(self.check(token))
    }
}

impl RevocationStore for RevocationIndex {
    fn record(&self, revocation: Revocation) -> StoreFuture<()> {
        self.apply(&revocation);
        Box::pin(ready(Ok(())))
    }

    fn evict(&self, now: Timestamp) -> StoreFuture<Evicted> {
        Box::pin(ready(Ok(self.drop_stale(now))))
    }
}

/// A part of the fingerprint, which is a hash already.
fn hash(token: TokenFingerprint) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *token.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Sets the time of `key`, unless it has a later one. Returns whether the key is new.
fn raise<K: Hash + Eq>(map: &DashMap<K, Timestamp>, key: K, to: Timestamp) -> bool {
    match map.entry(key) {
        Entry::Occupied(mut at) => {
            let raised = (*at.get()).max(to);
            at.insert(raised);
            false
        }
        Entry::Vacant(free) => {
            free.insert(to);
            true
        }
    }
}

fn retain<K: Hash + Eq>(map: &DashMap<K, Timestamp>, matters: impl Fn(Timestamp) -> bool) -> usize {
    let mut dropped = 0;
    map.retain(|_, at| {
        let keep = matters(*at);
        dropped += usize::from(!keep);
        keep
    });
    if dropped > 0 {
        map.shrink_to_fit();
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::ManualClock,
        token::{Rs256Verifier, Scopes, SigningKey, TokenIssuer, Validity},
    };

    const ISSUED: u64 = 1_800_000_000_500;

    fn pat(user: &str, scopes: &str) -> VerifiedToken {
        let key = SigningKey::from_pem(test_support::pki::SIGNING_KEY.as_bytes()).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(ISSUED)));
        let verifier = Rs256Verifier::new(key.verifying_key()).with_clock(clock.clone());
        let token = TokenIssuer::new(key)
            .with_clock(clock)
            .personal_access_token(
                &UserId::new(user).unwrap(),
                &Scopes::parse([scopes]).unwrap(),
                Validity::MAX,
            )
            .unwrap();
        verifier.verify(token.expose()).unwrap()
    }

    #[test]
    fn rules_hit_tokens_that_were_issued_up_to_their_time() {
        let pat = pat("user", "a,b");
        let user = |name: &str, up_to| Revocation::User {
            user: UserId::new(name).unwrap(),
            up_to: Timestamp::from_millis(up_to),
        };
        let service = |id: &str, up_to| Revocation::Service {
            service: ServiceId::new(id).unwrap(),
            up_to: Timestamp::from_millis(up_to),
        };
        let (by_user, by_service) = (Some(RevokedBy::UserRule), Some(RevokedBy::ServiceRule));
        let cases = [
            (vec![], None),
            (vec![user("USER", ISSUED)], by_user),
            (vec![user("user", ISSUED)], by_user),
            (vec![user("USER", ISSUED - 1)], None),
            (vec![user("OTHER", ISSUED)], None),
            (vec![service("B", ISSUED)], by_service),
            (vec![service("b", ISSUED - 1)], None),
            (vec![service("c", ISSUED)], None),
            // A later rule never lowers a time.
            (vec![user("USER", ISSUED), user("USER", 0)], by_user),
            (vec![service("a", ISSUED), service("a", 1)], by_service),
        ];
        for (revocations, want) in cases {
            let index = RevocationIndex::default();
            revocations.iter().for_each(|r| index.apply(r));
            let want = want.map_or(Ok(()), |by| Err(CheckError::Revoked(by)));
            assert_eq!(index.check(&pat), want, "{revocations:?}");
        }
    }

    #[test]
    fn a_revoked_token_does_not_revoke_another_of_its_user() {
        let (revoked, other) = (pat("user", "a"), pat("user", "a"));
        let index = RevocationIndex::default();
        index.apply(&Revocation::Token {
            token: revoked.fingerprint(),
            expires_at: revoked.expires_at(),
        });
        assert_eq!(index.check(&revoked), Err(CheckError::Revoked(RevokedBy::Token)));
        assert_eq!(index.check(&other), Ok(()));
    }
}
