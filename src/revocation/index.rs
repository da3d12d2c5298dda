//! Revocations in memory.

use std::{
    fmt,
    future::ready,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
};

use dashmap::{DashMap, Entry};

use super::{
    CheckError, Evicted, IssuedPat, Revocation, RevocationCheck, RevocationListener,
    RevocationStore, RevokedBy, StoreFuture, access_tokens::Entry as AccessTokenEntry,
    is_rule_needed, is_token_revocation_needed, issued::PatCounts,
};
use crate::{
    clock::Timestamp,
    passticket::UserId,
    token::{Scopes, ServiceId, TokenFingerprint, VerifiedToken},
};

/// The number of shards of each map. Each shard has its own lock. While a shard grows or is cleaned up, the checks that
/// need this shard wait. With this number of shards, these waits are short: with a million rules, a shard has about
/// 4,000 rules.
const SHARDS: usize = 256;

/// Revocations in memory. The check of a PAT (Personal Access Token) makes at most one look-up for the token, one for
/// its user, and one for each of its services. The check of any other token makes only one look-up. A check takes
/// nearly the same time with a million rules as with ten.
///
/// Use the index as a [`RevocationStore`] only in tests, because all revocations are lost when the process
/// ends. A store that keeps revocations elsewhere can [`apply`](Self::apply) them to an index, and use
/// the index to check tokens.
///
/// The maps of users and services use a hash function with a random seed, so an attacker who can choose
/// names cannot cause hash collisions. The map of tokens needs no random seed, because its keys are SHA-256
/// hashes of signed texts.
///
/// # Memory
/// These sizes hold with a million entries of each kind. A revoked token takes 86 bytes. A rule for a user takes 36
/// bytes. A rule for a service takes 84 bytes if the id has 14 characters. An empty index takes 96 KiB. While a shard
/// of a map grows, it takes three times its old size for a short time.
#[derive(Debug)]
pub struct RevocationIndex {
    tokens: DashMap<TokenFingerprint, Timestamp, BuildHasherDefault<AlreadyHashed>>,
    users: DashMap<UserId, Timestamp>,
    services: DashMap<ServiceId, Timestamp>,
    /// The registered PATs. The list is empty if the index belongs to a store that keeps registered PATs elsewhere.
    issued: Mutex<Issued>,
    listeners: Listeners,
}

#[derive(Debug, Default)]
struct Issued {
    pats: Vec<IssuedPat>,
    counts: PatCounts,
}

#[derive(Default)]
struct Listeners(Mutex<Vec<RevocationListener>>);

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, Vec<RevocationListener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        let listeners = self.lock();
        listeners.iter().for_each(|listener| listener());
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listeners")
    }
}

/// A hasher for the map of tokens. The hash of a token is a part of its fingerprint.
#[derive(Debug, Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(part) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*part);
        }
    }

    // The argument is the length of the fingerprint. This length is always the same, so it is not hashed.
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
    /// Makes an empty index with room for these numbers of tokens, rules for users and rules for services.
    pub(super) fn with_capacity(tokens: usize, users: usize, services: usize) -> Self {
        Self {
            tokens: DashMap::with_capacity_and_hasher_and_shard_amount(
                tokens,
                BuildHasherDefault::default(),
                SHARDS,
            ),
            users: DashMap::with_capacity_and_shard_amount(users, SHARDS),
            services: DashMap::with_capacity_and_shard_amount(services, SHARDS),
            issued: Mutex::default(),
            listeners: Listeners::default(),
        }
    }

    /// Returns the numbers of revoked tokens, of rules for users and of rules for services.
    #[cfg(feature = "store")]
    pub(super) fn sizes(&self) -> [usize; 3] {
        [self.tokens.len(), self.users.len(), self.services.len()]
    }

    /// Adds one revocation. Every check that starts after this call has returned sees the revocation.
    ///
    /// A revocation is never undone (docs/decisions.md#d8). If the index already has a rule with a later
    /// time for the user or the service, the new rule changes nothing.
    pub fn apply(&self, revocation: &Revocation) {
        self.insert(revocation);
        self.listeners.notify();
    }

    fn insert(&self, revocation: &Revocation) {
        match revocation {
            Revocation::Token { token, expires_at } => raise(&self.tokens, *token, *expires_at),
            Revocation::User { user, up_to } => raise(&self.users, *user, *up_to),
            Revocation::Service { service, up_to } => {
                raise(&self.services, service.clone(), *up_to);
            }
        }
    }

    #[cfg(feature = "redis")]
    pub(super) fn apply_all<'a>(&self, revocations: impl Iterator<Item = &'a Revocation>) {
        revocations.for_each(|revocation| self.insert(revocation));
        self.listeners.notify();
    }

    /// Checks a verified token. Rules apply to PATs only.
    ///
    /// # Errors
    /// [`CheckError::Revoked`] with the kind of revocation.
    pub fn check(&self, token: &VerifiedToken) -> Result<(), CheckError> {
        self.check_as(token.fingerprint(), token)
    }

    /// Does the same as [`check`](Self::check), but looks up `fingerprint` instead of the token's own fingerprint.
    pub(super) fn check_as(
        &self,
        fingerprint: TokenFingerprint,
        token: &VerifiedToken,
    ) -> Result<(), CheckError> {
        self.check_fingerprint(fingerprint)?;
        match token {
            VerifiedToken::Pat(pat) => self.check_rules(pat.user(), pat.scopes(), pat.issued_at()),
            VerifiedToken::Jwt(_) | VerifiedToken::External(_) => Ok(()),
        }
    }

    /// Checks that no revocation of a single token has this fingerprint.
    pub(super) fn check_fingerprint(
        &self,
        fingerprint: TokenFingerprint,
    ) -> Result<(), CheckError> {
        if self.tokens.contains_key(&fingerprint) {
            return Err(CheckError::Revoked(RevokedBy::Token));
        }
        Ok(())
    }

    #[cfg(feature = "store")]
    pub(super) fn rule_of_user(&self, user: &UserId) -> Option<Timestamp> {
        self.users.get(user).map(|up_to| *up_to)
    }

    #[cfg(feature = "store")]
    pub(super) fn rule_of_service(&self, service: &ServiceId) -> Option<Timestamp> {
        self.services.get(service).map(|up_to| *up_to)
    }

    #[cfg(feature = "store")]
    pub(super) fn has_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    #[cfg(feature = "store")]
    pub(super) fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.users.is_empty() && self.services.is_empty()
    }

    /// Checks an entry of the registry of issued PATs. `entry.token` must be the fingerprint under which this index
    /// stores the revocation of the PAT.
    pub(super) fn check_entry(&self, entry: &AccessTokenEntry) -> Result<(), CheckError> {
        self.check_fingerprint(entry.token)?;
        self.check_rules(&entry.user, &entry.scopes, entry.issued_at)
    }

    fn check_rules(
        &self,
        user: &UserId,
        scopes: &Scopes,
        issued_at: Timestamp,
    ) -> Result<(), CheckError> {
        let hits = |up_to: Timestamp| issued_at <= up_to;
        if self.users.get(user).is_some_and(|up_to| hits(*up_to)) {
            return Err(CheckError::Revoked(RevokedBy::UserRule));
        }
        // A rule for one of the services of a PAT revokes the PAT for all its services. The suffixes of its scopes do
        // not matter (docs/reference/tokens-and-revocation.md#revocation-check).
        let by_rule = |service| self.services.get(service).is_some_and(|up_to| hits(*up_to));
        if scopes.services().any(by_rule) {
            return Err(CheckError::Revoked(RevokedBy::ServiceRule));
        }
        Ok(())
    }

    /// Removes the revocations that have no effect at `now` or later, and frees their memory.
    pub(super) fn drop_stale(&self, now: Timestamp) -> Evicted {
        Evicted {
            tokens: retain(&self.tokens, |expires_at| is_token_revocation_needed(expires_at, now)),
            users: retain(&self.users, |up_to| is_rule_needed(up_to, now)),
            services: retain(&self.services, |up_to| is_rule_needed(up_to, now)),
        }
    }

    #[cfg(all(test, feature = "store"))]
    pub(super) fn entries(&self) -> std::collections::BTreeSet<String> {
        // `Debug` writes only a part of a fingerprint.
        let tokens = self.tokens.iter().map(|e| format!("{} {:?}", e.key(), e.value()));
        let users = self.users.iter().map(|e| format!("{:?} {:?}", e.key(), e.value()));
        let services = self.services.iter().map(|e| format!("{:?} {:?}", e.key(), e.value()));
        tokens.chain(users).chain(services).collect()
    }
}

impl RevocationCheck for RevocationIndex {
    fn try_check_now(&self, token: &VerifiedToken) -> Option<Result<(), CheckError>> {
        Some(self.check(token))
    }

    fn on_revocation(&self, listener: RevocationListener) {
        self.listeners.lock().push(listener);
    }
}

impl RevocationStore for RevocationIndex {
    fn record(&self, revocation: Revocation) -> StoreFuture<()> {
        self.apply(&revocation);
        Box::pin(ready(Ok(())))
    }

    fn register(&self, pat: IssuedPat) -> StoreFuture<()> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let reserved = issued.counts.reserve(pat.user);
        if reserved.is_ok() {
            issued.pats.push(pat);
        }
        Box::pin(ready(reserved))
    }

    fn record_rule_of_now(&self, rule: Revocation) -> StoreFuture<()> {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        self.apply(&rule);
        for pat in issued.pats.iter().filter(|pat| pat.is_missed_by(&rule)) {
            self.apply(&pat.revocation());
        }
        Box::pin(ready(Ok(())))
    }

    fn evict(&self, now: Timestamp) -> StoreFuture<Evicted> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.pats.retain(|pat| is_token_revocation_needed(pat.expires_at, now));
        let mut counts = PatCounts::default();
        issued.pats.iter().for_each(|pat| counts.count(pat.user));
        issued.counts = counts;
        Box::pin(ready(Ok(self.drop_stale(now))))
    }
}

/// Sets the time of `key` to `to`, unless `key` has a later time.
fn raise<K: Hash + Eq, S: BuildHasher + Clone>(
    map: &DashMap<K, Timestamp, S>,
    key: K,
    to: Timestamp,
) {
    match map.entry(key) {
        Entry::Occupied(mut entry) => {
            let later = (*entry.get()).max(to);
            entry.insert(later);
        }
        Entry::Vacant(entry) => {
            entry.insert(to);
        }
    }
}

fn retain<K: Hash + Eq, S: BuildHasher + Clone>(
    map: &DashMap<K, Timestamp, S>,
    is_needed: impl Fn(Timestamp) -> bool,
) -> usize {
    let mut removed = 0;
    map.retain(|_, time| {
        let keep = is_needed(*time);
        removed += usize::from(!keep);
        keep
    });
    if removed > 0 {
        map.shrink_to_fit();
    }
    removed
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
    fn a_rule_revokes_pats_that_were_issued_at_its_time_or_before() {
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
    fn revoking_a_token_does_not_revoke_another_token_of_the_user() {
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
