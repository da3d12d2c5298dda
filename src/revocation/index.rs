//! The index in memory.

use std::{
    future::{Ready, ready},
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use dashmap::{DashMap, Entry};

use super::{
    CheckError, Evicted, Revocation, RevocationCheck, RevocationStore, RevokedBy, StoreError,
    filter::Filter, rule_matters, token_matters,
};
use crate::{
    clock::Timestamp,
    passticket::UserId,
    token::{Jwt, Pat, ServiceId, TokenFingerprint},
};

/// Many, for growing and evicting hold up the checks that ask one shard: with a million rules that
/// is 4,000 of them.
const SHARDS: usize = 256;

/// What is revoked, in memory. A check costs the same with ten rules and with a million: one look
/// at a filter for the token, one for its user and one for each of its scopes.
///
/// It is a [`RevocationStore`] that survives nothing: for tests, and for embedders who keep
/// revocations elsewhere and [`apply`](Self::apply) them here.
///
/// Users and services are hashed under a random key, so that nobody who may choose their names can
/// choose ones that collide. A token stands for itself: its fingerprint is a hash, of something
/// that was signed.
///
/// # Memory
/// Measured with a million of each: 82 bytes for a revoked token, 30 for a rule for a user, 72 for
/// one for a service whose id has 14 characters. An empty one has half a megabyte at most. Making a
/// map larger briefly takes as much again, of one of its shards.
#[derive(Debug)]
pub struct RevocationIndex {
    tokens: DashMap<TokenFingerprint, Timestamp>,
    users: DashMap<UserId, Timestamp>,
    services: DashMap<ServiceId, Timestamp>,
    /// Has every key of the three maps, and what was evicted since it was made.
    filter: ArcSwap<Filter>,
    names: RandomState,
    /// How many keys the filter has. Who changes the maps holds it, so that a new filter is made of
    /// all that is in them.
    keys: Mutex<usize>,
}

impl Default for RevocationIndex {
    fn default() -> Self {
        Self::with_capacity(0, 0, 0)
    }
}

impl RevocationIndex {
    /// An empty one that takes up so many of each without growing.
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

    /// Takes up one revocation; it holds for every check that starts after this returns.
    ///
    /// A rule with an earlier time than one that is there changes nothing: nothing un-revokes
    /// (design, decision 8).
    pub fn apply(&self, revocation: &Revocation) {
        let mut keys = self.changing();
        let (is_new, hash) = match revocation {
            Revocation::Token { token, expires_at } => {
                (raise(&self.tokens, *token, *expires_at), token.short())
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

    /// Whether `pat` is revoked.
    ///
    /// # Errors
    /// [`CheckError::Revoked`] tells what hit it.
    pub fn check(&self, pat: &Pat) -> Result<(), CheckError> {
        self.check_as(pat.fingerprint(), pat)
    }

    /// Whether `token` is revoked.
    ///
    /// # Errors
    /// [`CheckError::Revoked`] if it is.
    pub fn check_login_token(&self, token: &Jwt) -> Result<(), CheckError> {
        self.check_token(&self.filter.load(), token.fingerprint())
    }

    /// [`check`](Self::check), where the tokens go by other fingerprints than their own.
    pub(super) fn check_as(
        &self,
        fingerprint: TokenFingerprint,
        pat: &Pat,
    ) -> Result<(), CheckError> {
        let filter = self.filter.load();
        let hits = |up_to: Timestamp| pat.issued_at() <= up_to;
        self.check_token(&filter, fingerprint)?;
        let user = pat.user();
        if filter.may_have(self.names.hash_one(user))
            && self.users.get(user).is_some_and(|up_to| hits(*up_to))
        {
            return Err(CheckError::Revoked(RevokedBy::UserRule));
        }
        // A rule for any one of its services revokes the whole token (zowe-endpoints §3.2).
        let by_rule = |service| {
            filter.may_have(self.names.hash_one(service))
                && self.services.get(service).is_some_and(|up_to| hits(*up_to))
        };
        if pat.scopes().iter().any(by_rule) {
            return Err(CheckError::Revoked(RevokedBy::ServiceRule));
        }
        Ok(())
    }

    /// [`check_login_token`](Self::check_login_token), likewise.
    #[cfg(feature = "store")]
    pub(super) fn check_login_token_as(
        &self,
        fingerprint: TokenFingerprint,
    ) -> Result<(), CheckError> {
        self.check_token(&self.filter.load(), fingerprint)
    }

    fn check_token(
        &self,
        filter: &Filter,
        fingerprint: TokenFingerprint,
    ) -> Result<(), CheckError> {
        if filter.may_have(fingerprint.short()) && self.tokens.contains_key(&fingerprint) {
            return Err(CheckError::Revoked(RevokedBy::Token));
        }
        Ok(())
    }

    /// Drops what can hit no token any more, and gives the memory back.
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
        // The number says when to grow, no more: it is good enough after a panic.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a filter of what is in the maps. Checks go on with the old one, which has all of it
    /// except what is being applied, and that is not yet answered.
    fn renew_filter(&self, keys: &mut usize) {
        *keys = self.tokens.len() + self.users.len() + self.services.len();
        let filter = Filter::for_keys(*keys * 2);
        self.tokens.iter().for_each(|entry| filter.add(entry.key().short()));
        self.users.iter().for_each(|entry| filter.add(self.names.hash_one(entry.key())));
        self.services.iter().for_each(|entry| filter.add(self.names.hash_one(entry.key())));
        self.filter.store(Arc::new(filter));
    }

    /// Everything that is in it, for comparing.
    #[cfg(all(test, feature = "store"))]
    pub(super) fn entries(&self) -> std::collections::BTreeSet<String> {
        let tokens = self.tokens.iter().map(|e| format!("{:?} {:?}", e.key(), e.value()));
        let users = self.users.iter().map(|e| format!("{:?} {:?}", e.key(), e.value()));
        let services = self.services.iter().map(|e| format!("{:?} {:?}", e.key(), e.value()));
        tokens.chain(users).chain(services).collect()
    }
}

impl RevocationCheck for RevocationIndex {
    fn check(&self, pat: &Pat) -> Result<(), CheckError> {
        Self::check(self, pat)
    }

    fn check_login_token(&self, token: &Jwt) -> Result<(), CheckError> {
        Self::check_login_token(self, token)
    }
}

impl RevocationStore for RevocationIndex {
    type Recording = Ready<Result<(), StoreError>>;
    type Evicting = Ready<Result<Evicted, StoreError>>;

    fn record(&self, revocation: Revocation) -> Self::Recording {
        self.apply(&revocation);
        ready(Ok(()))
    }

    fn evict(&self, now: Timestamp) -> Self::Evicting {
        ready(Ok(self.drop_stale(now)))
    }
}

/// Whether the key is a new one.
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
        token::{Rs256Verifier, Scopes, SigningKey, TokenIssuer, Validity, VerifiedToken},
    };

    const ISSUED: u64 = 1_800_000_000_500;

    fn pat(user: &str, scopes: &str) -> Pat {
        let pem =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
        let key = SigningKey::from_pem(pem.unwrap().serialize_pem().as_bytes()).unwrap();
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
        let Ok(VerifiedToken::Pat(pat)) = verifier.verify(token.expose()) else { panic!() };
        pat
    }

    #[test]
    fn rules_hit_what_was_issued_up_to_their_time() {
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
    fn one_token_is_revoked_and_another_is_not() {
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
