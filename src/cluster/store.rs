//! The revocation store of a node. A node accepts tokens only while it has a *lease*: a permission for a short time.
//! The node must renew the lease at the store that the nodes share, such as Redis.

use std::{fmt, sync::Arc};

use tokio::sync::oneshot;

use super::{
    confirm::{Until, confirm},
    memory::{NodeMemory, NodeWrite},
    shared::Shared,
};
use crate::{
    clock::Timestamp,
    log_limit::log_limited,
    revocation::{
        AccessToken, AccessTokenChange, AccessTokenKey, AccessTokenOutcome, AccessTokenPage,
        AccessTokenQuery, AccessTokenStore, CheckError, CheckFuture, Evicted, IssuedPat, Record,
        Revocation, RevocationCheck, RevocationListener, RevocationStore, StoreError, StoreFuture,
    },
    token::VerifiedToken,
};

/// The revocation store of a node. Its revocations hold on all nodes of the site.
///
/// # Guarantees
/// With [`Confirm::Everywhere`](super::Confirm::Everywhere), `record` waits for each other node: until that node has
/// applied the revocation, or until its lease has certainly ended. Only then does `record` return `Ok`. From then on,
/// all nodes refuse the revoked tokens. A node whose
/// [`with_serve_without_lease`](super::ClusterOptions::with_serve_without_lease) is above zero does not guarantee this.
/// The guarantees of the [`DurableStore`](crate::revocation::DurableStore) also hold.
///
/// [`StoreError::NotEverywhere`] means that this node has stored the revocation, but that it is not certain that the
/// other nodes have it. Another node may still accept the token until this node has published the revocation and the
/// other node has applied it. If this node could not publish the revocation, it tries again.
///
/// # Cost
/// A check reads the clock of the machine, and then searches the memory of this node (its own store of all records). A
/// check does not call the store that the nodes share.
///
/// # Without a lease
/// Two kinds of nodes accept tokens without a lease: a node during the time of `with_serve_without_lease`, and a
/// process that has handed its lease over. At any other node without a lease, `try_check_now` returns
/// [`CheckError::Revoked`] for a token that this node knows to be revoked, and [`CheckError::Unavailable`] for other
/// tokens.
#[derive(Clone)]
pub struct ClusterStore {
    shared: Arc<Shared>,
}

impl ClusterStore {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    #[cold]
    fn refuse(&self) -> CheckError {
        self.shared.counts.refused.increment();
        log_limited!(
            error,
            "no lease",
            { node = %self.shared.name() },
            "tokens are refused, because this node has no lease from the store that the nodes share (such as Redis)"
        );
        CheckError::Unavailable
    }

    /// Stores and publishes a write. The write starts before this function returns. If the returned future is dropped,
    /// the write still finishes.
    fn write(&self, write: NodeWrite, until: Until) -> StoreFuture<()> {
        let shared = self.shared.clone();
        let written = shared.memory.write(write);
        self.finish(async move {
            match written.await {
                Ok(records) => confirm(&shared, records, until).await,
                Err(error) => Err(error),
            }
        })
    }

    /// Does `work` in a task of the node. If the returned future is dropped, the task still finishes.
    fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> StoreFuture<T> {
        let (sender, receiver) = oneshot::channel();
        (self.shared.spawn)(Box::pin(async move {
            let _ = sender.send(work.await);
        }));
        let store = self.shared.name().as_str().into();
        Box::pin(async move { receiver.await.unwrap_or(Err(StoreError::Ended { store })) })
    }
}

impl fmt::Debug for ClusterStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterStore").field("node", self.shared.name()).finish_non_exhaustive()
    }
}

impl RevocationCheck for ClusterStore {
    fn try_check_now(&self, token: &VerifiedToken) -> Option<Result<(), CheckError>> {
        // The clock is read before the revocations. In the other order, a revocation and a renewal can happen between
        // the two reads. The check then uses the new lease with the old revocations.
        if self.shared.may_serve() {
            return self.shared.memory.try_check_now(token);
        }
        // This node may not accept tokens now. If it knows that the token is revoked, it still returns `Revoked`,
        // because `Revoked` ends a WebSocket immediately, and `Unavailable` does not.
        match self.shared.memory.try_check_now(token) {
            Some(Err(revoked @ CheckError::Revoked(_))) => Some(Err(revoked)),
            _ => Some(Err(self.refuse())),
        }
    }

    fn on_revocation(&self, listener: RevocationListener) {
        self.shared.memory.on_revocation(listener);
    }

    fn check_token(&self, token: &VerifiedToken) -> CheckFuture {
        if self.shared.may_serve() {
            self.shared.memory.check_token(token)
        } else {
            let refused = self.refuse();
            Box::pin(async move { Err(refused) })
        }
    }
}

/// The registry of issued PATs (Personal Access Tokens). The memory of each node has the entries of all nodes. With
/// [`Confirm::Everywhere`](super::Confirm::Everywhere), a change that revokes tokens returns `Ok` only when no node
/// accepts these tokens any more. With [`Confirm::Local`](super::Confirm::Local), and for changes that revoke nothing,
/// `Ok` means that the store that the nodes share has the change. [`AccessTokenChange::Use`] returns `Ok` as soon as
/// this node has stored the uses.
///
/// If the wait fails, for example because it takes too long, the result is [`StoreError::NotEverywhere`]. The change is
/// then stored on this node, and this node publishes it later. If a caller then repeats the change, nothing is left to
/// revoke. The repeated change returns `Ok` immediately, although other nodes may still accept the tokens.
impl AccessTokenStore for ClusterStore {
    fn change(&self, change: AccessTokenChange, now: Timestamp) -> StoreFuture<AccessTokenOutcome> {
        let shared = self.shared.clone();
        let is_awaited = !matches!(change, AccessTokenChange::Use(_));
        let changed = NodeMemory::change(&*shared.memory, change, now);
        self.finish(async move {
            match changed.await {
                Ok((outcome, records)) if records.is_empty() => Ok(outcome),
                Ok((outcome, records)) if !is_awaited => {
                    shared.queue.add_unawaited(records);
                    Ok(outcome)
                }
                Ok((outcome, records)) => {
                    let revokes = |record: &Record| matches!(record, Record::Revocation(_));
                    let until =
                        if records.iter().any(revokes) { Until::Applied } else { Until::Published };
                    confirm(&shared, records, until).await.map(|()| outcome)
                }
                Err(error) => Err(error),
            }
        })
    }

    fn find(&self, key: AccessTokenKey, now: Timestamp) -> StoreFuture<Option<AccessToken>> {
        self.shared.memory.find(key, now)
    }

    fn list(&self, query: AccessTokenQuery, now: Timestamp) -> StoreFuture<AccessTokenPage> {
        self.shared.memory.list(query, now)
    }
}

impl RevocationStore for ClusterStore {
    fn record(&self, revocation: Revocation) -> StoreFuture<()> {
        self.write(NodeWrite::Revocation(revocation), Until::Applied)
    }

    fn register(&self, pat: IssuedPat) -> StoreFuture<()> {
        self.write(NodeWrite::Issued(pat), Until::Published)
    }

    fn record_rule_of_now(&self, rule: Revocation) -> StoreFuture<()> {
        self.write(NodeWrite::RuleOfNow(rule), Until::AppliedWithDerived)
    }

    /// Removes the records that are no longer needed at `now` from the memory of this node. Then starts to remove such
    /// records from the store that the nodes share, without waiting for the end. Other nodes keep such records until
    /// they call `evict` themselves.
    fn evict(&self, now: Timestamp) -> StoreFuture<Evicted> {
        let (evicted, shared) = (self.shared.memory.evict(now), self.shared.clone());
        Box::pin(async move {
            let evicted = evicted.await?;
            let of_place = shared.clone();
            (shared.spawn)(Box::pin(async move { of_place.evict_from_place(now).await }));
            Ok(evicted)
        })
    }
}
