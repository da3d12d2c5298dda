//! The writes of this node that are not published yet. The *place* to which they are published is the store that the
//! nodes share, such as Redis. The *memory* of the node is its own store of all records.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, oneshot};

use super::coordinator::{LogPosition, MAX_PUBLISHED, Term};
use crate::revocation::Record;

/// The maximum number of records in the queue. If a write does not fit, the node publishes its whole memory instead.
const MAX_WAITING: usize = 10_000;

/// The term in which records were published, and the position of the last entry of the log after that.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) term: Term,
    pub(super) position: LogPosition,
}

/// The writes of this node that are not published yet, in the order of the writes. A write stays in the queue until the
/// place has confirmed it, so it is not lost if the connection breaks.
#[derive(Debug, Default)]
pub(super) struct PublishQueue {
    state: Mutex<State>,
    added: Notify,
    whole_added: Notify,
}

/// The number of a request to publish the whole memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole(u64);

#[derive(Debug, Default)]
struct State {
    writes: VecDeque<Write>,
    records: usize,
    /// The number of requests to publish the whole memory.
    whole: u64,
    /// How many of these requests are done. One publication does all requests that were made before it began.
    whole_done: u64,
}

#[derive(Debug)]
struct Write {
    records: Vec<Record>,
    published: Option<oneshot::Sender<Published>>,
}

#[derive(Debug)]
pub(super) struct Batch {
    writes: usize,
    pub(super) records: Vec<Record>,
}

impl PublishQueue {
    /// Adds the records of one write. When the place has the records, the returned receiver gets the position. Returns
    /// `None` if the queue is full: the node then publishes the records with its whole memory.
    pub(super) fn add(&self, records: Vec<Record>) -> Option<oneshot::Receiver<Published>> {
        let (sender, receiver) = oneshot::channel();
        let is_added = self.push(records, Some(sender));
        is_added.then_some(receiver)
    }

    /// Adds records whose publication no caller waits for.
    pub(super) fn add_unawaited(&self, records: Vec<Record>) {
        self.push(records, None);
    }

    fn push(&self, records: Vec<Record>, published: Option<oneshot::Sender<Published>>) -> bool {
        let mut state = self.lock();
        // An empty write counts as one record.
        let size = records.len().max(1);
        let fits = state.records + size <= MAX_WAITING;
        if fits {
            state.records += size;
            state.writes.push_back(Write { records, published });
        } else {
            state.whole += 1;
        }
        drop(state);
        self.added.notify_one();
        self.whole_added.notify_one();
        fits
    }

    /// Waits until the queue has a write, and returns the oldest writes. They stay in the queue.
    pub(super) async fn next(&self) -> Batch {
        loop {
            let added = self.added.notified();
            if let Some(batch) = self.first() {
                return batch;
            }
            added.await;
        }
    }

    fn first(&self) -> Option<Batch> {
        let state = self.lock();
        let mut batch = Batch { writes: 0, records: Vec::new() };
        for write in &state.writes {
            let is_full = batch.records.len() + write.records.len() > MAX_PUBLISHED;
            if is_full && batch.writes > 0 {
                break;
            }
            batch.records.extend_from_slice(&write.records);
            batch.writes += 1;
        }
        (batch.writes > 0).then_some(batch)
    }

    /// Removes the writes of `batch`, which were published.
    pub(super) fn remove(&self, batch: &Batch, published: &Published) {
        let mut state = self.lock();
        for _ in 0..batch.writes {
            if let Some(write) = state.writes.pop_front() {
                state.records -= write.records.len().max(1);
                if let Some(sender) = write.published {
                    // The caller may have given up.
                    let _ = sender.send(published.clone());
                }
            }
        }
    }

    /// Removes all writes. Their receivers get no result.
    pub(super) fn clear(&self) {
        let mut state = self.lock();
        state.writes.clear();
        state.records = 0;
    }

    pub(super) fn add_whole(&self) {
        self.lock().whole += 1;
        self.whole_added.notify_one();
    }

    /// Returns the last request to publish the whole memory, or `None` if all requests are done. When the node has
    /// published all records that the memory had at the time of this call, it passes the request to
    /// [`remove_whole`](Self::remove_whole).
    pub(super) fn whole(&self) -> Option<Whole> {
        let state = self.lock();
        (state.whole > state.whole_done).then_some(Whole(state.whole))
    }

    pub(super) async fn next_whole(&self) -> Whole {
        loop {
            let added = self.whole_added.notified();
            if let Some(whole) = self.whole() {
                return whole;
            }
            added.await;
        }
    }

    pub(super) fn remove_whole(&self, Whole(done): Whole) {
        let mut state = self.lock();
        state.whole_done = state.whole_done.max(done);
    }

    pub(super) fn len(&self) -> usize {
        self.lock().writes.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, passticket::UserId, revocation::Revocation};

    fn record(number: u64) -> Record {
        let user = UserId::new("USER").unwrap();
        Record::Revocation(Revocation::User { user, up_to: Timestamp::from_millis(number) })
    }

    fn published() -> Published {
        Published { term: Term::new("a"), position: LogPosition::new(1, 0) }
    }

    #[tokio::test]
    async fn writes_stay_until_they_are_published() {
        let queue = PublishQueue::default();
        let mut first = queue.add(vec![record(1)]).unwrap();
        let batch = queue.next().await;
        let mut second = queue.add(vec![record(2), record(3)]).unwrap();
        assert_eq!(queue.next().await.records.len(), 3);
        queue.remove(&batch, &published());
        assert_eq!(first.try_recv().unwrap().position, LogPosition::new(1, 0));
        assert!(second.try_recv().is_err());
        assert_eq!(queue.next().await.records, [record(2), record(3)]);
        queue.clear();
        assert!(second.await.is_err());
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test]
    async fn the_queue_and_its_batches_are_limited() {
        let queue = PublishQueue::default();
        for number in 0..20_000 {
            let is_added = queue.add(vec![record(number)]).is_some();
            assert_eq!(is_added, number < 10_000, "{number}");
        }
        let whole = queue.next_whole().await;
        queue.add_whole();
        queue.remove_whole(whole);
        // `add_whole` was called while the memory was published, so the memory must be published again.
        let whole = queue.next_whole().await;
        queue.remove_whole(whole);
        assert_eq!(queue.whole(), None);
        let mut batches = 0;
        while queue.len() > 0 {
            let batch = queue.next().await;
            assert_eq!(batch.records.len(), MAX_PUBLISHED);
            queue.remove(&batch, &published());
            batches += 1;
        }
        assert_eq!(batches, 10);
        assert!(queue.add(Vec::new()).is_some());
    }
}
