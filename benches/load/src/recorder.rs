//! Counts and latencies of the measured requests.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

use crate::outcome::{ErrorKind, Outcome, Refusal};

/// A request counts as late if it is sent at least this long after it was due.
pub(crate) const LATE: Duration = Duration::from_millis(10);

/// The maximum number of different refusals that are kept. Further refusals are only counted.
const REFUSALS: usize = 8;

/// The longest latency in a histogram, in microseconds: one hour. A longer latency is recorded as one hour.
const LONGEST: u64 = 3_600_000_000;

/// The times of one request, as offsets from the start of the load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) due: Duration,
    pub(crate) sent: Duration,
    pub(crate) done: Duration,
    /// Whether the maximum number of requests was in flight when the request was due.
    pub(crate) waited_for_place: bool,
}

#[derive(Debug)]
pub(crate) struct Recorder {
    /// The latencies from the due time to the end of the answer, in microseconds. Also contains the waits of requests
    /// that were never sent.
    pub(crate) from_due: Histogram<u64>,
    /// The latencies from the time of sending to the end of the answer, in microseconds.
    pub(crate) from_send: Histogram<u64>,
    /// The delays of the late requests, from the due time to the time of sending, in microseconds.
    pub(crate) late: Histogram<u64>,
    /// The number of requests that were late because the maximum number of requests was in flight.
    pub(crate) late_by_limit: u64,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) not_sent: u64,
    pub(crate) body_bytes: u64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) errors: BTreeMap<ErrorKind, Errors>,
    pub(crate) refused: u64,
    pub(crate) refusals: Vec<(Refusal, u64)>,
    /// When the last answer was complete.
    pub(crate) last_done: Duration,
}

#[derive(Debug)]
pub(crate) struct Errors {
    pub(crate) count: u64,
    pub(crate) first: String,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let histogram = || {
            Histogram::new_with_bounds(1, LONGEST, 3)
                .expect("the bounds and the precision are valid")
        };
        Self {
            from_due: histogram(),
            from_send: histogram(),
            late: histogram(),
            late_by_limit: 0,
            sent: 0,
            answered: 0,
            not_sent: 0,
            body_bytes: 0,
            statuses: BTreeMap::new(),
            errors: BTreeMap::new(),
            refused: 0,
            refusals: Vec::new(),
            last_done: Duration::ZERO,
        }
    }

    /// Records a request that was sent.
    ///
    /// The latency of a request ends with the answer, or with the timeout. After other errors, no latency is recorded.
    pub(crate) fn record(&mut self, times: Times, outcome: &Outcome) {
        self.sent += 1;
        let delay = times.sent.saturating_sub(times.due);
        if delay >= LATE {
            self.late.saturating_record(micros(delay));
            self.late_by_limit += u64::from(times.waited_for_place);
        }
        let has_latency = match outcome {
            Outcome::Answered(answer) => {
                self.answered += 1;
                self.body_bytes += answer.length;
                *self.statuses.entry(answer.status).or_default() += 1;
                if let Some(refusal) = &answer.refusal {
                    self.refuse(refusal);
                }
                self.last_done = self.last_done.max(times.done);
                true
            }
            Outcome::Failed { kind, text } => {
                let errors = self.errors.entry(*kind);
                errors.or_insert_with(|| Errors { count: 0, first: text.clone() }).count += 1;
                *kind == ErrorKind::Timeout
            }
        };
        if has_latency {
            self.from_due.saturating_record(micros(times.done.saturating_sub(times.due)));
            self.from_send.saturating_record(micros(times.done.saturating_sub(times.sent)));
        }
    }

    /// Records a request that was not sent before the load ended. `waited` is the time since it was due. Without these
    /// requests, the latencies of a gateway that is too slow would look better than those that its clients see.
    pub(crate) fn record_not_sent(&mut self, waited: Duration) {
        self.not_sent += 1;
        self.from_due.saturating_record(micros(waited));
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.refused += 1;
        if let Some((_, count)) = self.refusals.iter_mut().find(|(known, _)| known == refusal) {
            *count += 1;
        } else if self.refusals.len() < REFUSALS {
            self.refusals.push((refusal.clone(), 1));
        }
    }

    pub(crate) fn error_count(&self) -> u64 {
        self.errors.values().map(|errors| errors.count).sum()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Answer;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn times(due: u64, sent: u64, done: u64) -> Times {
        let [due, sent, done] = [due, sent, done].map(millis);
        Times { due, sent, done, waited_for_place: sent > due }
    }

    fn answer(status: u16, refusal: Option<Refusal>) -> Outcome {
        Outcome::Answered(Answer { status, length: 10, refusal })
    }

    #[test]
    fn latency_counts_from_the_due_time_and_from_the_time_of_sending() {
        let mut recorder = Recorder::new();
        recorder.record(times(0, 0, 2), &answer(200, None));
        recorder.record(times(1, 10, 12), &answer(200, None));
        recorder.record(times(2, 12, 14), &answer(200, None));
        assert_eq!((recorder.from_due.min() / 100, recorder.from_due.max() / 100), (20, 120));
        assert_eq!((recorder.from_send.min() / 100, recorder.from_send.max() / 100), (20, 20));
        // A delay below 10 ms does not count as late.
        assert_eq!((recorder.late.len(), recorder.late_by_limit), (1, 1));
        assert_eq!((recorder.sent, recorder.answered, recorder.body_bytes), (3, 3, 30));
        assert_eq!(recorder.last_done, millis(14));
    }

    #[test]
    fn errors_have_no_latency_except_timeouts_and_requests_that_were_not_sent() {
        let failed = |kind| Outcome::Failed { kind, text: "first".to_owned() };
        let mut recorder = Recorder::new();
        recorder.record(times(0, 0, 1), &failed(ErrorKind::Closed));
        assert_eq!(recorder.from_due.len(), 0);
        recorder.record(times(0, 0, 1000), &failed(ErrorKind::Timeout));
        recorder.record_not_sent(millis(3000));
        assert_eq!((recorder.from_due.len(), recorder.from_send.len()), (2, 1));
        assert_eq!(recorder.from_due.max() / 1_000_000, 3);
        assert_eq!((recorder.error_count(), recorder.sent, recorder.not_sent), (2, 2, 1));
    }

    #[test]
    fn the_first_different_refusals_are_kept_and_the_others_counted() {
        let mut recorder = Recorder::new();
        for status in (400..420).chain(400..420) {
            let refusal = Refusal { status, auth_failure: None, message_number: None };
            recorder.record(times(0, 0, 1), &answer(status, Some(refusal)));
        }
        assert_eq!((recorder.refused, recorder.refusals.len()), (40, REFUSALS));
        assert!(recorder.refusals.iter().all(|(_, count)| *count == 2));
    }
}
