//! Revocations in memory.

use std::{
    future::ready,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher},
};

use dashmap::{DashMap, Entry};

use super::{
    CheckError, Evicted, Revocation, RevocationCheck, RevocationStore, RevokedBy, StoreFuture,
    rule_matters, token_matters,
};
use crate::{
    clock::Timestamp,
    passticket::UserId,
    token::{Pat, ServiceId, TokenFingerprint, VerifiedToken},
};

/// Many, because growth and eviction block the checks in one shard. With a million rules a shard has
/// 4,000 of them.
const SHARDS: usize = 256;

/// The revocations in memory. A check costs nearly the same with ten rules and with a million: one
/// look-up for the token, one for its user and one for each of its scopes.
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
    tokens: DashMap<TokenFingerprint, Timestamp, BuildHasherDefault<AlreadyHashed>>,
    users: DashMap<UserId, Timestamp>,
    services: DashMap<ServiceId, Timestamp>,
}

/// Takes a part of the fingerprint as its hash.
#[derive(Debug, Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(part) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*part);
        }
    }

    // The length of the fingerprint, which does not vary.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
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
            tokens: DashMap::with_capacity_and_hasher_and_shard_amount(
                tokens,
                BuildHasherDefault::default(),
                SHARDS,
            ),
            users: DashMap::with_capacity_and_shard_amount(users, SHARDS),
            services: DashMap::with_capacity_and_shard_amount(services, SHARDS),
        }
    }

    /// Adds one revocation. Every check that starts after this returns sees it.
    ///
    /// A rule with an earlier time than the present one changes nothing: a revocation is never taken
    /// back (docs/decisions.md#d8).
    pub fn apply(&self, revocation: &Revocation) {
        match revocation {
            Revocation::Token { token, expires_at } => raise(&self.tokens, *token, *expires_at),
            Revocation::User { user, up_to } => raise(&self.users, *user, *up_to),
            Revocation::Service { service, up_to } => {
                raise(&self.services, service.clone(), *up_to);
            }
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
        if self.tokens.contains_key(&fingerprint) {
            return Err(CheckError::Revoked(RevokedBy::Token));
        }
        match token {
            VerifiedToken::Pat(pat) => self.check_rules(pat),
            VerifiedToken::Jwt(_) | VerifiedToken::External(_) => Ok(()),
        }
    }

    fn check_rules(&self, pat: &Pat) -> Result<(), CheckError> {
        let hits = |up_to: Timestamp| pat.issued_at() <= up_to;
        if self.users.get(pat.user()).is_some_and(|up_to| hits(*up_to)) {
            return Err(CheckError::Revoked(RevokedBy::UserRule));
        }
        // A rule for any of its services revokes the whole token
        // (docs/reference/tokens-and-revocation.md#revocation-check).
        let by_rule = |service| self.services.get(service).is_some_and(|up_to| hits(*up_to));
        if pat.scopes().iter().any(by_rule) {
            return Err(CheckError::Revoked(RevokedBy::ServiceRule));
        }
        Ok(())
    }

    /// Removes what can hit no token at `now`, and frees the memory.
    pub(super) fn drop_stale(&self, now: Timestamp) -> Evicted {
        Evicted {
            tokens: retain(&self.tokens, |expires_at| token_matters(expires_at, now)),
            users: retain(&self.users, |up_to| rule_matters(up_to, now)),
            services: retain(&self.services, |up_to| rule_matters(up_to, now)),
        }
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

/// Sets the time of `key`, unless it has a later one.
fn raise<K: Hash + Eq, S: BuildHasher + Clone>(
    map: &DashMap<K, Timestamp, S>,
    key: K,
    to: Timestamp,
) {
    match map.entry(key) {
        Entry::Occupied(mut at) => {
            let raised = (*at.get()).max(to);
            at.insert(raised);
        }
        Entry::Vacant(free) => {
            free.insert(to);
        }
    }
}

/// Removes the entries that do not matter, and returns their number.
fn retain<K: Hash + Eq, S: BuildHasher + Clone>(
    map: &DashMap<K, Timestamp, S>,
    matters: impl Fn(Timestamp) -> bool,
) -> usize {
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
    use std::sync::Arc;

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
