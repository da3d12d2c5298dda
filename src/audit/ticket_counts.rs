//! Counts PassTickets for each APPLID (the name of an application on z/OS).

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    event::{Event, Outcome},
    record::AuditRecord,
};
use crate::{
    apiml_path::ZAAS_SCHEMES,
    metrics::{Description, Exposition, LabelName},
    passticket::Applid,
};

const TICKETS: Description = Description::counter(
    "passticket_tickets_total",
    "PassTickets that were requested, by APPLID and result.",
);
const APPLID: LabelName = LabelName::new("applid");
const RESULT: LabelName = LabelName::new("result");

/// The maximum number of APPLIDs with counters of their own. It is a power of two.
const SLOTS: usize = 256;

/// The label of all further APPLIDs. No APPLID has this name, because an APPLID has no lower-case letters.
const OTHER: &str = "other";

/// The number of PassTickets for each APPLID and outcome.
///
/// A client of the auth API can name any APPLID. So an APPLID gets counters of its own only if a ticket was made for
/// it, or if a route needs tickets for it.
pub(super) struct TicketCounts {
    slots: Box<[Slot]>,
    other: Counts,
}

type Counts = [AtomicU64; Outcome::ALL.len()];

#[derive(Default)]
struct Slot {
    /// The bytes of the APPLID, or 0 if the slot is free.
    applid: AtomicU64,
    counts: Counts,
}

/// Returns whether a gateway of API ML has asked for the ticket.
fn is_of_gateway(record: &AuditRecord) -> bool {
    record.request.as_ref().is_some_and(|request| request.path().starts_with(ZAAS_SCHEMES))
}

impl TicketCounts {
    pub(super) fn count(&self, record: &AuditRecord) {
        let (Event::Ticket | Event::DelegatedTicket | Event::TokenExchange, Some(applid)) =
            (record.event, record.applid)
        else {
            return;
        };
        // The APPLID of a route is configured. But a gateway of API ML may ask for a ticket for any APPLID.
        let is_configured = record.service.is_some() && !is_of_gateway(record);
        let may_be_new = record.outcome == Outcome::Success || is_configured;
        self.of(applid, may_be_new)[record.outcome as usize].fetch_add(1, Relaxed);
    }

    /// Finds the counters of an APPLID. A slot that is taken is never freed.
    fn of(&self, applid: Applid, may_be_new: bool) -> &Counts {
        let number = number(applid);
        let first = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize >> 20;
        for at in (first..first + SLOTS).map(|at| at % SLOTS) {
            let slot = &self.slots[at];
            let mut taken = slot.applid.load(Relaxed);
            if taken == 0 {
                if !may_be_new {
                    break;
                }
                let claimed = slot.applid.compare_exchange(0, number, Relaxed, Relaxed);
                taken = claimed.map_or_else(|taken| taken, |_| number);
            }
            if taken == number {
                return &slot.counts;
            }
        }
        &self.other
    }

    pub(super) fn collect(&self, exposition: &mut Exposition) {
        let mut named = Vec::new();
        for slot in &self.slots {
            let bytes = slot.applid.load(Relaxed).to_le_bytes();
            let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            if let Some(name) =
                std::str::from_utf8(&bytes[..length]).ok().filter(|it| !it.is_empty())
            {
                named.push((name.to_owned(), &slot.counts));
            }
        }
        named.sort_by(|(one, _), (other, _)| one.cmp(other));
        let named = named.iter().map(|(name, counts)| (name.as_str(), *counts));
        let samples = named.chain([(OTHER, &self.other)]).flat_map(|(name, counts)| {
            Outcome::ALL.iter().map(move |outcome| {
                let count = counts[*outcome as usize].load(Relaxed);
                ([(APPLID, name), (RESULT, outcome.as_str())], count)
            })
        });
        // Shows the counters of an APPLID even if they are 0, and the counters of `other` only if they are not 0.
        exposition.series(&TICKETS, samples.filter(|([(_, name), _], n)| *n > 0 || *name != OTHER));
    }
}

/// Returns the bytes of an APPLID as a number. It is not 0, because an APPLID has at least one character.
fn number(applid: Applid) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(applid.as_bytes()) {
        *to = *from;
    }
    u64::from_le_bytes(bytes)
}

impl Default for TicketCounts {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| Slot::default()).collect(), other: Counts::default() }
    }
}

impl fmt::Debug for TicketCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketCounts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::ReasonCode,
        clock::Timestamp,
        metrics::{Collect, MetricRegistry},
    };

    impl Collect for TicketCounts {
        fn collect(&self, exposition: &mut Exposition) {
            self.collect(exposition);
        }
    }

    fn made(applid: &str) -> AuditRecord {
        let record = AuditRecord::succeeded(Event::Ticket, Timestamp::from_secs(0));
        record.with_applid(Applid::new(applid).unwrap())
    }

    fn refused(applid: &str) -> AuditRecord {
        made(applid).with_reason(ReasonCode::NoKeyProfile)
    }

    fn lines(counts: TicketCounts) -> Vec<String> {
        let text = MetricRegistry::new().with(counts).expose();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn tickets_count_by_applid_and_outcome() {
        let counts = TicketCounts::default();
        for record in [refused("A"), made("A"), made("A"), made("IZUDFLT8"), refused("A")] {
            counts.count(&record);
        }
        counts.count(&AuditRecord { event: Event::Login, ..made("B") });
        assert_eq!(
            lines(counts),
            [
                r#"passticket_tickets_total{applid="A",result="success"} 2"#,
                r#"passticket_tickets_total{applid="A",result="refused"} 0"#,
                r#"passticket_tickets_total{applid="A",result="error"} 1"#,
                r#"passticket_tickets_total{applid="IZUDFLT8",result="success"} 1"#,
                r#"passticket_tickets_total{applid="IZUDFLT8",result="refused"} 0"#,
                r#"passticket_tickets_total{applid="IZUDFLT8",result="error"} 0"#,
                r#"passticket_tickets_total{applid="other",result="error"} 1"#,
            ]
        );
    }

    #[test]
    fn invented_applids_add_no_time_series() {
        let counts = TicketCounts::default();
        (0..10_000).for_each(|number| counts.count(&refused(&format!("X{number}"))));
        assert_eq!(lines(counts).len(), 1);
        let counts = TicketCounts::default();
        (0..10_000).for_each(|number| counts.count(&made(&format!("X{number}"))));
        let lines = lines(counts);
        assert_eq!(lines.len(), 3 * SLOTS + 1);
        let other = format!(r#"applid="other",result="success"}} {}"#, 10_000 - SLOTS);
        assert!(lines.last().unwrap().ends_with(&other), "{lines:?}");
    }
}
