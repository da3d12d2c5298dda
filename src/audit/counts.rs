//! Counts audited decisions.

use std::sync::Arc;

use super::{
    event::{CredentialKind, Event, Outcome},
    reason::ReasonCode,
    record::AuditRecord,
    sink::AuditSink,
    ticket_counts::TicketCounts,
};
use crate::metrics::{Collect, CounterFamily, Description, Exposition, Label, LabelName};

const DECISIONS: Description = Description::counter(
    "passticket_decisions_total",
    "Decisions about credentials, PassTickets, tokens and revocation rules, as in the audit log.",
);
const EVENT: LabelName = LabelName::new("event");
const OUTCOME: LabelName = LabelName::new("outcome");
const REASON: LabelName = LabelName::new("reason");

const AUTHENTICATIONS: Description = Description::counter(
    "passticket_authentications_total",
    "Authentications of clients, by kind of credential, outcome and reason.",
);
const CREDENTIAL: LabelName = LabelName::new("credential");

/// Counts decisions for each [`Event`] and [`ReasonCode`], authentications for each [`CredentialKind`], and PassTickets
/// for each APPLID (the name of an application on z/OS). A [`CountingSink`] does the counting.
///
/// ```
/// use std::sync::Arc;
/// use tower_passticket::{
///     audit::{Audit, AuditCounts, AuditFile, AuditRecord, CountingSink, Event, ReasonCode},
///     metrics::MetricRegistry,
/// };
///
/// let counts = Arc::new(AuditCounts::default());
/// // This program has no audit file, so records are only counted.
/// let audit = Audit::to(CountingSink::new(counts.clone(), None::<AuditFile>));
/// audit.record(|| AuditRecord::failed(Event::Login, ReasonCode::WrongPassword, audit.now()));
///
/// assert_eq!(counts.get(Event::Login, Some(ReasonCode::WrongPassword)), 1);
/// let line = r#"passticket_decisions_total{event="login",outcome="refused",reason="wrong-password"} 1"#;
/// assert!(MetricRegistry::new().with(counts).expose().contains(line));
/// ```
#[derive(Debug, Default)]
pub struct AuditCounts {
    decisions: CounterFamily<(Event, Reason)>,
    authentications: CounterFamily<(CredentialKind, Reason)>,
    tickets: TicketCounts,
}

impl AuditCounts {
    /// Counts the decision of a record.
    pub fn count(&self, record: &AuditRecord) {
        let reason = match record.outcome {
            Outcome::Success => None,
            Outcome::Refused | Outcome::Error => {
                Some(record.reason.unwrap_or(ReasonCode::Internal))
            }
        };
        self.decisions.increment((record.event, Reason(reason)));
        if let (Event::Authentication, Some(credential)) = (record.event, record.credential) {
            self.authentications.increment((credential, Reason(reason)));
        }
        self.tickets.count(record);
    }

    /// Returns how many decisions of `event` had this reason. With `None`, returns how many succeeded.
    pub fn get(&self, event: Event, reason: Option<ReasonCode>) -> u64 {
        self.decisions.get((event, Reason(reason)))
    }
}

impl Collect for AuditCounts {
    /// Writes the number of successes of each event, and the number of failures for each pair of event and reason.
    /// Leaves out pairs that have not occurred, because most of them cannot occur. Also writes the numbers of
    /// authentications and of PassTickets.
    fn collect(&self, exposition: &mut Exposition) {
        let decisions = self.decisions.iter();
        let occurred = decisions.filter(|((_, reason), count)| *count > 0 || reason.0.is_none());
        exposition.series(
            &DECISIONS,
            occurred.map(|((event, reason), count)| {
                let outcome = reason.0.map_or(Outcome::Success, ReasonCode::outcome);
                let labels = [
                    (EVENT, event.as_str()),
                    (OUTCOME, outcome.as_str()),
                    (REASON, reason.value()),
                ];
                (labels, count)
            }),
        );
        let occurred = self.authentications.iter().filter(|(_, count)| *count > 0);
        exposition.series(
            &AUTHENTICATIONS,
            occurred.map(|((credential, reason), count)| {
                let outcome = reason.0.map_or(Outcome::Success, ReasonCode::outcome);
                let labels = [
                    (CREDENTIAL, credential.as_str()),
                    (OUTCOME, outcome.as_str()),
                    (REASON, reason.value()),
                ];
                (labels, count)
            }),
        );
        self.tickets.collect(exposition);
    }
}

/// The reason of a failure. `None` means that the decision was a success.
#[derive(Clone, Copy, Debug)]
struct Reason(Option<ReasonCode>);

impl Reason {
    const COUNT: usize = ReasonCode::ALL.len() + 1;

    const LIST: [Self; Self::COUNT] = {
        let mut list = [Self(None); Self::COUNT];
        let mut at = 1;
        while at < Self::COUNT {
            list[at] = Self(Some(ReasonCode::ALL[at - 1]));
            at += 1;
        }
        list
    };
}

impl Label for Reason {
    const NAME: LabelName = REASON;
    const ALL: &'static [Self] = &Self::LIST;

    fn index(self) -> usize {
        self.0.map_or(0, |reason| reason as usize + 1)
    }

    /// Returns an empty value for a success. Prometheus treats a label with an empty value like a missing label.
    fn value(self) -> &'static str {
        self.0.map_or("", ReasonCode::as_str)
    }
}

impl Label for Event {
    const NAME: LabelName = EVENT;
    const ALL: &'static [Self] = Self::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        self.as_str()
    }
}

impl Label for CredentialKind {
    const NAME: LabelName = CREDENTIAL;
    const ALL: &'static [Self] = Self::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        self.as_str()
    }
}

/// A sink that counts each record, and then passes the record to another sink, if there is one.
#[derive(Debug)]
pub struct CountingSink<S> {
    counts: Arc<AuditCounts>,
    sink: Option<S>,
}

impl<S: AuditSink> CountingSink<S> {
    /// Makes a sink that counts records in `counts`. If `sink` is `None`, the records are only counted.
    pub fn new(counts: Arc<AuditCounts>, sink: Option<S>) -> Self {
        Self { counts, sink }
    }
}

impl<S: AuditSink> AuditSink for CountingSink<S> {
    fn record(&self, record: AuditRecord) {
        self.counts.count(&record);
        if let Some(sink) = &self.sink {
            sink.record(record);
        }
    }

    fn is_available(&self) -> bool {
        self.sink.as_ref().is_none_or(AuditSink::is_available)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audit::Audit, clock::Timestamp, metrics::MetricRegistry};

    #[test]
    fn each_reason_and_each_event_has_its_own_counter() {
        for (at, reason) in <Reason as Label>::ALL.iter().enumerate() {
            assert_eq!(reason.index(), at, "{reason:?}");
        }
        for (at, event) in <Event as Label>::ALL.iter().enumerate() {
            assert_eq!(event.index(), at, "{event}");
        }
    }

    #[test]
    fn decisions_are_counted_by_event_and_reason() {
        let counts = Arc::new(AuditCounts::default());
        let audit = Audit::to(CountingSink::new(counts.clone(), None::<Arc<dyn AuditSink>>));
        let time = Timestamp::from_secs(1);
        let failed = |event, reason| audit.record(|| AuditRecord::failed(event, reason, time));
        audit.record(|| AuditRecord::succeeded(Event::Ticket, time));
        failed(Event::Ticket, ReasonCode::NoTimeSlot);
        failed(Event::Ticket, ReasonCode::NoTimeSlot);
        failed(Event::Authentication, ReasonCode::StoreUnavailable);
        audit.record(|| AuditRecord::new(Event::Login, Outcome::Error, time));
        assert!(audit.is_available());

        let text = MetricRegistry::new().with(counts).expose();
        let failures: Vec<_> = text.lines().filter(|line| !line.contains("\"success\"")).collect();
        assert_eq!(
            failures[2..],
            [
                r#"passticket_decisions_total{event="authentication",outcome="error",reason="store-unavailable"} 1"#,
                r#"passticket_decisions_total{event="ticket",outcome="refused",reason="no-time-slot"} 2"#,
                r#"passticket_decisions_total{event="login",outcome="error",reason="internal"} 1"#,
            ]
        );
        let successes = text.lines().filter(|line| line.contains(r#"outcome="success",reason="""#));
        assert_eq!(successes.clone().count(), Event::ALL.len(), "{text}");
        let tickets: Vec<_> = successes.filter(|line| line.ends_with(" 1")).collect();
        assert_eq!(
            tickets,
            [r#"passticket_decisions_total{event="ticket",outcome="success",reason=""} 1"#]
        );
    }
}
