//! A place for the records of a node that is alone. It keeps nothing.

use std::{
    future::ready,
    sync::{Arc, Mutex},
    time::Duration,
};

use tower_passticket::{
    cluster::coordinator::{
        Coordinator, CoordinatorFuture, Followed, ImageCursor, ImagePart, Incarnation, Joined,
        LeaseRecord, LogPosition, NodeName, Renewed, Term,
    },
    revocation::Record,
};

const LAST: LogPosition = LogPosition::new(1, 0);

/// The place. It has the lease of the node, because the node reads its own lease back.
#[derive(Debug, Default)]
pub(crate) struct Place(Arc<Mutex<Vec<LeaseRecord>>>);

impl Place {
    fn leases(&self) -> Vec<LeaseRecord> {
        self.0.lock().unwrap().clone()
    }
}

fn now<T: Send + 'static>(answer: T) -> CoordinatorFuture<T> {
    Box::pin(ready(Ok(answer)))
}

impl Coordinator for Place {
    fn join(&self, _: Duration) -> CoordinatorFuture<Joined> {
        now(Joined { term: Term::new("term"), last: LAST, is_new: true })
    }

    fn publish(&self, _: Term, _: NodeName, _: Vec<Record>) -> CoordinatorFuture<LogPosition> {
        now(LAST)
    }

    fn follow(&self, _: Term, _: LogPosition, wait: Duration) -> CoordinatorFuture<Followed> {
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            Ok(Followed::Entries(Vec::new()))
        })
    }

    fn image(&self, _: Term, _: Option<ImageCursor>) -> CoordinatorFuture<ImagePart> {
        now(ImagePart { records: Vec::new(), next: None })
    }

    fn renew(
        &self,
        _: Term,
        lease: LeaseRecord,
        _: Option<Incarnation>,
    ) -> CoordinatorFuture<Renewed> {
        *self.0.lock().unwrap() = vec![lease];
        now(Renewed { last: LAST, leases: self.leases() })
    }

    fn leases(&self, _: Term) -> CoordinatorFuture<Vec<LeaseRecord>> {
        now(self.leases())
    }

    fn remove(&self, _: Term, _: LeaseRecord) -> CoordinatorFuture<()> {
        now(())
    }
}
