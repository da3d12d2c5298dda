//! Remembers whether this node has made revocations that other nodes may not have.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The revocations of this node that are not confirmed.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// How many revocations wait for their confirmation now.
    waiting: u64,
    /// How many confirmations have failed so far.
    failed: u64,
    /// The number of failed confirmations, counted from the first, whose revocations were confirmed later.
    made_up: u64,
}

/// The number of confirmations that had failed when [`Unconfirmed::failed`] returned this value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed(u64);

impl Unconfirmed {
    /// Notes that a revocation waits for its confirmation.
    pub(super) fn begin(&self) {
        self.lock().waiting += 1;
    }

    /// Notes that a revocation does not wait any more.
    pub(super) fn end(&self, is_confirmed: bool) {
        let mut counts = self.lock();
        counts.waiting -= 1;
        counts.failed += u64::from(!is_confirmed);
    }

    /// Returns `None` if all revocations are confirmed. If it returns a value, the caller waits until all revocations
    /// are confirmed, and then calls [`make_up_for`](Self::make_up_for) with this value.
    pub(super) fn failed(&self) -> Option<Failed> {
        let counts = self.lock();
        let is_open = counts.waiting > 0 || counts.failed > counts.made_up;
        is_open.then_some(Failed(counts.failed))
    }

    /// Notes that the revocations whose confirmations had failed when [`failed`](Self::failed) was called are now
    /// confirmed.
    pub(super) fn make_up_for(&self, Failed(failed): Failed) {
        let mut counts = self.lock();
        counts.made_up = counts.made_up.max(failed);
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_stay_until_they_are_made_up_for() {
        let unconfirmed = Unconfirmed::default();
        let end = |is_confirmed| {
            unconfirmed.begin();
            assert!(unconfirmed.failed().is_some());
            unconfirmed.end(is_confirmed);
        };
        end(true);
        assert_eq!(unconfirmed.failed(), None);
        end(false);
        let first = unconfirmed.failed().unwrap();
        end(true);
        assert_eq!(unconfirmed.failed(), Some(first));
        end(false);
        unconfirmed.make_up_for(first);
        let second = unconfirmed.failed().unwrap();
        unconfirmed.make_up_for(second);
        unconfirmed.make_up_for(first);
        assert_eq!(unconfirmed.failed(), None);
    }
}
