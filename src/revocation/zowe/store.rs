//! A store that also uses Zowe's Caching Service, in which API ML (Zowe's API Mediation Layer) keeps its revocations.

use super::{service::CachingService, write::Subject};
use crate::{
    clock::Timestamp,
    revocation::{
        CheckError, CheckFuture, Evicted, IssuedPat, Revocation, RevocationCheck,
        RevocationListener, RevocationStore, StoreError, StoreFuture,
    },
    token::VerifiedToken,
};

/// A [`RevocationStore`] that also uses Zowe's [`CachingService`] for PATs (Personal Access Tokens). Put it around all
/// other stores: it needs the token itself, but other stores pass on only the fingerprint of the token.
///
/// - **Reads:** the own store checks each token first. If it accepts a PAT, the Caching Service checks the PAT, too. So
///   a PAT is accepted only if both accept it. If the own store cannot decide, the result is
///   [`CheckError::Unavailable`]. The result is the same if the own store accepts a PAT, but the Caching Service cannot
///   decide. For other tokens, only the own store decides: API ML keeps only revocations of PATs in the Caching
///   Service.
/// - **Writes**, if they are [on](super::CachingServiceSettings::with_writes): the own store is written first, and then
///   the Caching Service. Only rules and the revocations of PATs with [`revoke`](RevocationStore::revoke) are written
///   there. For such a revocation, `Ok` means that the Caching Service has the revocation. [`StoreError::Unconfirmed`]
///   means that the own store has the revocation, but the Caching Service did not confirm it. The write is then
///   repeated while this process runs, unless too many writes wait.
///
/// A rule with the current time also revokes PATs that were issued while the clock was ahead, but only in the own
/// store.
#[derive(Clone, Debug)]
pub struct WithCachingService<S> {
    own: S,
    zowe: CachingService,
}

impl<S: RevocationStore> WithCachingService<S> {
    /// Uses `zowe` beside `own`.
    pub fn new(own: S, zowe: CachingService) -> Self {
        Self { own, zowe }
    }

    /// Returns the Caching Service.
    pub fn service(&self) -> &CachingService {
        &self.zowe
    }

    /// `own` is the write to the own store. When it has ended, this function writes `subject` to the Caching Service,
    /// even if the caller has dropped the returned future. An error of `own` does not stop the write: the own store may
    /// apply the revocation nevertheless, and API ML should apply it, too.
    fn then_write(&self, own: StoreFuture<()>, subject: Subject) -> StoreFuture<()> {
        let zowe = self.zowe.clone();
        let task = tokio::spawn(async move {
            let own = own.await;
            let written = zowe.write(subject).await;
            own.and(written)
        });
        Box::pin(async move {
            // The task is never aborted, so an error means that it has panicked, or that the runtime shuts down.
            let ended = |_| StoreError::Ended { store: "the Caching Service of API ML".into() };
            task.await.map_err(ended)?
        })
    }
}

impl<S: RevocationStore> RevocationCheck for WithCachingService<S> {
    fn try_check_now(&self, token: &VerifiedToken) -> Option<Result<(), CheckError>> {
        let own = self.own.try_check_now(token);
        match (token, own) {
            (VerifiedToken::Pat(pat), Some(Ok(()))) => self.zowe.try_check_now(pat),
            (_, own) => own,
        }
    }

    fn on_revocation(&self, listener: RevocationListener) {
        self.zowe.on_revocation(listener.clone());
        self.own.on_revocation(listener);
    }

    fn check_token(&self, token: &VerifiedToken) -> CheckFuture {
        let own = self.own.check_token(token);
        match token {
            VerifiedToken::Pat(pat) => {
                let (zowe, pat) = (self.zowe.clone(), pat.clone());
                Box::pin(async move {
                    own.await?;
                    zowe.check(pat).await
                })
            }
            _ => own,
        }
    }
}

impl<S: RevocationStore> RevocationStore for WithCachingService<S> {
    fn record(&self, revocation: Revocation) -> StoreFuture<()> {
        let own = self.own.record(revocation.clone());
        match revocation {
            // In the Caching Service, API ML keeps no revocations of login tokens. The revocation of a PAT needs the
            // text of the PAT, so only `revoke` can write it.
            Revocation::Token { .. } => own,
            rule if self.zowe.writes() => self.then_write(own, Subject::Rule(rule)),
            _ => own,
        }
    }

    fn revoke(&self, token: &VerifiedToken) -> StoreFuture<()> {
        let own = self.own.revoke(token);
        match token {
            VerifiedToken::Pat(pat) if self.zowe.writes() => {
                self.then_write(own, Subject::Pat(pat.clone()))
            }
            _ => own,
        }
    }

    fn register(&self, pat: IssuedPat) -> StoreFuture<()> {
        self.own.register(pat)
    }

    fn record_rule_of_now(&self, rule: Revocation) -> StoreFuture<()> {
        let own = self.own.record_rule_of_now(rule.clone());
        match rule {
            Revocation::Token { .. } => own,
            rule if self.zowe.writes() => self.then_write(own, Subject::Rule(rule)),
            _ => own,
        }
    }

    fn evict(&self, now: Timestamp) -> StoreFuture<Evicted> {
        // The entries of the Caching Service are evicted by API ML, or by the service itself.
        self.own.evict(now)
    }
}
