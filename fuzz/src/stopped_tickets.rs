//! Fuzz targets for refused PassTickets (one-time passwords of z/OS): the header `Date` of a service, and the file that
//! records for which users and keys the gateway makes no PassTickets.

use tower_passticket::{
    clock::Timestamp,
    passticket::KeyProfiles,
    ticket_breaker::{TicketBreaker, TicketLimits, clock_difference, parse_date},
};

use crate::support::NOW;

/// The input is the value of `Date`.
pub(crate) fn date(data: &[u8]) {
    let Some(date) = parse_date(data) else { return };
    assert_eq!(data.len(), 29);
    // The latest date is in the year 9999.
    assert!(date.as_secs() < 253_402_300_801);
    let secs = clock_difference(date, Timestamp::from_secs(NOW));
    assert!(secs.unsigned_abs().abs_diff(date.as_secs().abs_diff(NOW)) <= 1);
}

/// The input is the text of the file.
pub(crate) fn file(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let breaker = || TicketBreaker::new(KeyProfiles::default(), TicketLimits::default());
    let first = breaker();
    if first.restore(text).is_err() {
        return;
    }
    // A second breaker that reads the text of the first one must have the same report.
    let second = breaker();
    second.restore(&first.hand_over()).expect("the text of the breaker");
    assert_eq!(first.report(), second.report());
    first.resume(None, None);
    assert!(first.report().users.is_empty());
}
