//! Sums up records of requests that were not authenticated.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    time::{Duration, Instant},
};

use super::{
    event::{Event, Outcome},
    reason::ReasonCode,
    record::AuditRecord,
};
use crate::{connection::ClientAddress, token::ServiceId};

/// The length of a period. Requests with the same [`Key`] within a period become one line.
const PERIOD: Duration = Duration::from_secs(1);

/// The maximum number of lines in one period that name the client and the service. Requests that need a further line
/// are counted in lines without client and service, one for each event and reason.
const MAX_SUMS: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    event: Event,
    outcome: Outcome,
    reason: Option<ReasonCode>,
    client: Option<ClientAddress>,
    service: Option<ServiceId>,
}

#[derive(Debug)]
pub(super) struct Sum {
    pub(super) first: AuditRecord,
    pub(super) count: u64,
}

/// The requests of the current period, and the lines of earlier periods that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// The lines, in the order of their first requests.
    sums: Vec<Sum>,
    positions: HashMap<Key, usize>,
    /// When the current period began. `None` if there was no request since the last period.
    began: Option<Instant>,
    due: VecDeque<Sum>,
}

impl Sums {
    pub(super) fn add(&mut self, record: AuditRecord, now: Instant) {
        self.end_period_when_due(now);
        self.began.get_or_insert(now);
        let AuditRecord { event, outcome, reason, .. } = record;
        let (client, service) = (record.client_address(), record.service.clone());
        let mut key = Key { event, outcome, reason, client, service };
        let mut first = record;
        if self.sums.len() >= MAX_SUMS && !self.positions.contains_key(&key) {
            (key.client, key.service) = (None, None);
            first = AuditRecord { reason, ..AuditRecord::new(event, outcome, first.time) };
        }
        let position = *self.positions.entry(key).or_insert(self.sums.len());
        match self.sums.get_mut(position) {
            Some(sum) => sum.count += 1,
            None => self.sums.push(Sum { first, count: 1 }),
        }
    }

    pub(super) fn next_due(&mut self, now: Instant) -> Option<Sum> {
        self.end_period_when_due(now);
        self.due.pop_front()
    }

    /// Ends the current period, so that the lines of all requests can be written.
    pub(super) fn end_period(&mut self) {
        self.due.extend(mem::take(&mut self.sums));
        self.positions.clear();
        self.began = None;
    }

    fn end_period_when_due(&mut self, now: Instant) {
        if self.began.is_some_and(|began| now.duration_since(began) >= PERIOD) {
            self.end_period();
        }
    }

    /// Removes all lines. Returns the number of requests in these lines.
    pub(super) fn clear(&mut self) -> u64 {
        self.end_period();
        self.due.drain(..).map(|sum| sum.count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        connection::{ConnectionInfo, Protocol},
    };

    fn record(host: u16, service: &str, reason: ReasonCode) -> AuditRecord {
        let peer = ([0x2001, 0xdb8, 0, 0, 0, 0, 0, host], 50_000 + host % 7).into();
        let mut extensions = http::Extensions::new();
        extensions.insert(ConnectionInfo::new(peer, ([127, 0, 0, 1], 1).into(), Protocol::Https));
        let uri = format!("/{host}").parse().unwrap();
        AuditRecord::failed(Event::Authentication, reason, Timestamp::from_secs(host.into()))
            .with_request(&http::Method::GET, &uri, &extensions)
            .with_service(&ServiceId::new(service).unwrap())
    }

    fn lines(sums: &mut Sums, now: Instant) -> Vec<(String, u64)> {
        let due = std::iter::from_fn(|| sums.next_due(now));
        due.map(|sum| {
            let client = sum.first.client_address().map(|client| client.to_string());
            let service = sum.first.service.map(|service| service.to_string());
            let reason = sum.first.reason.unwrap();
            let client = client.unwrap_or_default();
            (format!("{client} {} {reason}", service.unwrap_or_default()), sum.count)
        })
        .collect()
    }

    #[test]
    fn requests_are_summed_up_by_client_service_and_reason_in_a_second() {
        use ReasonCode::{NoCredential, TokenMalformed};
        let (mut sums, start) = (Sums::default(), Instant::now());
        for _ in 0..3 {
            sums.add(record(7, "a", NoCredential), start);
            sums.add(record(7, "b", NoCredential), start);
            sums.add(record(8, "a", NoCredential), start);
            sums.add(record(7, "a", TokenMalformed), start);
        }
        let later = start + PERIOD.mul_f32(0.9);
        assert_eq!(lines(&mut sums, later), []);
        sums.add(record(7, "a", NoCredential), later);
        let want = [
            ("2001:db8::7 a no-credential", 4),
            ("2001:db8::7 b no-credential", 3),
            ("2001:db8::8 a no-credential", 3),
            ("2001:db8::7 a token-malformed", 3),
        ];
        let want = want.map(|(line, count)| (line.to_owned(), count));
        assert_eq!(lines(&mut sums, start + PERIOD), want);
        assert_eq!(lines(&mut sums, start + 2 * PERIOD), []);

        // The first request after the time of a period ends this period, and begins the next one.
        let start = start + 10 * PERIOD;
        sums.add(record(7, "a", NoCredential), start);
        sums.add(record(7, "a", NoCredential), start + PERIOD);
        assert_eq!(lines(&mut sums, start + PERIOD), [(want[0].0.clone(), 1)]);
        assert_eq!(sums.clear(), 1);
        assert_eq!(lines(&mut sums, start + 2 * PERIOD), []);
    }

    #[test]
    fn the_number_of_lines_is_limited() {
        let (mut sums, now) = (Sums::default(), Instant::now());
        for host in 0..5000 {
            sums.add(record(host, "a", ReasonCode::NoCredential), now);
            sums.add(record(host, "a", ReasonCode::BadRequest), now);
        }
        sums.add(record(0, "a", ReasonCode::NoCredential), now);
        let lines = lines(&mut sums, now + PERIOD);
        assert_eq!(lines.len(), MAX_SUMS + 2);
        assert_eq!(lines[0], ("2001:db8:: a no-credential".to_owned(), 2));
        let rest = 5000 - MAX_SUMS as u64 / 2;
        assert_eq!(lines[MAX_SUMS], ("  no-credential".to_owned(), rest));
        assert_eq!(lines[MAX_SUMS + 1], ("  bad-request".to_owned(), rest));
        assert_eq!(lines.iter().map(|(_, count)| count).sum::<u64>(), 10_001);
    }
}
