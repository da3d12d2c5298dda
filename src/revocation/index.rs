//! The index in memory.

use dashmap::DashMap;

use super::{CheckError, Revocation, RevocationCheck, RevokedBy};
use crate::{
    clock::Timestamp,
    passticket::UserId,
    token::{Pat, ServiceId, TokenFingerprint},
};

/// What is revoked, in memory: three maps, so a check is one look-up for the token, one for its
/// user and one for each of its scopes, however many rules there are.
#[derive(Debug, Default)]
pub struct RevocationIndex {
    tokens: DashMap<TokenFingerprint, Timestamp>,
    users: DashMap<UserId, Timestamp>,
    services: DashMap<ServiceId, Timestamp>,
}

impl RevocationIndex {
    /// Takes up one revocation; it holds for every check that starts after this returns.
    ///
    /// A rule with an earlier time than one that is there changes nothing: nothing un-revokes
    /// (design, decision 8).
    pub fn apply(&self, revocation: &Revocation) {
        match revocation {
            Revocation::Token { token, expires_at } => raise(&self.tokens, *token, *expires_at),
            Revocation::User { user, up_to } => raise(&self.users, *user, *up_to),
            Revocation::Service { service, up_to } => {
                raise(&self.services, service.clone(), *up_to);
            }
        }
    }

    /// Whether `pat` is revoked.
    ///
    /// # Errors
    /// [`CheckError::Revoked`] tells what hit it.
    pub fn check(&self, pat: &Pat) -> Result<(), CheckError> {
        let hits = |up_to: Timestamp| pat.issued_at() <= up_to;
        if self.tokens.contains_key(&pat.fingerprint()) {
            return Err(CheckError::Revoked(RevokedBy::Token));
        }
        if self.users.get(pat.user()).is_some_and(|up_to| hits(*up_to)) {
            return Err(CheckError::Revoked(RevokedBy::UserRule));
        }
        // A rule for any one of its services revokes the whole token (zowe-endpoints §3.2).
        let by_rule = |service| self.services.get(service).is_some_and(|up_to| hits(*up_to));
        if !self.services.is_empty() && pat.scopes().iter().any(by_rule) {
            return Err(CheckError::Revoked(RevokedBy::ServiceRule));
        }
        Ok(())
    }
}

impl RevocationCheck for RevocationIndex {
    fn check(&self, pat: &Pat) -> Result<(), CheckError> {
        Self::check(self, pat)
    }
}

fn raise<K: std::hash::Hash + Eq>(map: &DashMap<K, Timestamp>, key: K, to: Timestamp) {
    map.entry(key).and_modify(|at| *at = (*at).max(to)).or_insert(to);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        clock::ManualClock,
        token::{Scopes, SigningKey, TokenIssuer, TokenVerifier, Validity, VerifiedToken},
    };

    const ISSUED: u64 = 1_800_000_000_500;

    fn pat(user: &str, scopes: &str) -> Pat {
        let pem =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
        let key = SigningKey::from_pem(pem.unwrap().serialize_pem().as_bytes()).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(ISSUED)));
        let verifier = TokenVerifier::new(key.verifying_key()).with_clock(clock.clone());
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
