//! Compares the clock of a service with the clock of this machine.
//!
//! A PassTicket is computed from the time at which it is made. z/OS accepts it only if its own clock differs from this
//! time by at most the window of the key. The header `Date` of an answer shows the clock of the service.

use std::time::Duration;

use crate::{clock::Timestamp, passticket::MAX_WINDOW};

/// The consequence of the difference between the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkewVerdict {
    /// The clocks differ by less than a quarter of the window.
    Agree,
    /// The clocks differ by at least a quarter of the window, but by less than half of it.
    Warn,
    /// The clocks differ by at least half of the window.
    Stop,
}

/// Returns how many seconds the clock of the service is ahead of `now`. The result is negative if the clock of the
/// service is behind.
///
/// `date` has whole seconds: the service has read its clock in the second that begins at `date`. So several differences
/// are possible. The result is the one that is nearest to zero, rounded down to whole seconds.
pub fn clock_difference(date: Timestamp, now: Timestamp) -> i64 {
    let (date, now) = (date.as_millis(), now.as_millis());
    let millis = |millis: u64| i64::try_from(millis).unwrap_or(i64::MAX);
    if date > now {
        millis(date - now) / 1000
    } else if now - date < 1000 {
        0
    } else {
        -(millis(now - date - 1000).saturating_add(999) / 1000)
    }
}

/// Returns the consequence of a difference of `secs` for the tickets of a key with this window.
pub fn clock_verdict(secs: i64, window: Duration) -> SkewVerdict {
    let (secs, window) = (secs.unsigned_abs(), window.min(MAX_WINDOW).as_secs());
    match () {
        () if secs == 0 => SkewVerdict::Agree,
        () if secs.saturating_mul(2) >= window => SkewVerdict::Stop,
        () if secs.saturating_mul(4) >= window => SkewVerdict::Warn,
        () => SkewVerdict::Agree,
    }
}

/// Reads the value of `Date`, such as `Sun, 06 Nov 1994 08:49:37 GMT` (IMF-fixdate, RFC 9110 §5.6.7). Returns `None`
/// for the obsolete formats, and for every other text.
pub fn parse_date(value: &[u8]) -> Option<Timestamp> {
    const DAYS: [&[u8; 3]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
    const MONTHS: [&[u8; 3]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let value: &[u8; 29] = value.try_into().ok()?;
    let is_shaped = value[3..5] == *b", "
        && value[7] == b' '
        && value[11] == b' '
        && value[16] == b' '
        && value[19] == b':'
        && value[22] == b':'
        && value[25..] == *b" GMT";
    if !is_shaped || !DAYS.iter().any(|day| day[..] == value[..3]) {
        return None;
    }
    let number = |from: usize, to: usize| {
        value[from..to].iter().try_fold(0_u64, |sum, byte| {
            byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0'))
        })
    };
    let month = MONTHS.iter().position(|month| month[..] == value[8..11])? as u64;
    let (day, year) = (number(5, 7)?, number(12, 16)?);
    let (hour, minute, second) = (number(17, 19)?, number(20, 22)?, number(23, 25)?);
    if year < 1970 || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Counts the days since 1970. In this formula, a year begins in March, so the leap day is the last day of a year
    // (https://howardhinnant.github.io/date_algorithms.html#days_from_civil).
    let (shifted, march_year) = if month < 2 { (month + 10, year - 1) } else { (month - 2, year) };
    let leap_days = march_year / 4 - march_year / 100 + march_year / 400;
    let days = march_year * 365 + leap_days + (153 * shifted + 2) / 5 + day - 1 - 719_468;
    Some(Timestamp::from_secs(((days * 24 + hour) * 60 + minute) * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_window_warns_and_half_of_it_stops() {
        use SkewVerdict::{Agree, Stop, Warn};
        for (secs, window, want) in [
            (0, 600, Agree),
            (149, 600, Agree),
            (150, 600, Warn),
            (-150, 600, Warn),
            (299, 600, Warn),
            (300, 600, Stop),
            (-300, 600, Stop),
            (i64::MIN, 600, Stop),
            (14, 60, Agree),
            (15, 60, Warn),
            (30, 60, Stop),
            // z/OS accepts at most ten minutes, whatever the configuration says.
            (300, 6000, Stop),
            (0, 0, Agree),
            (1, 0, Stop),
        ] {
            assert_eq!(clock_verdict(secs, Duration::from_secs(window)), want, "{secs} {window}");
        }
    }

    #[test]
    fn the_smallest_possible_difference_counts() {
        for (date, now, want) in [
            (100, 100_000, 0),
            (100, 100_999, 0),
            (100, 101_000, 0),
            (100, 101_001, -1),
            (100, 102_000, -1),
            (100, 103_500, -3),
            (100, 99_001, 0),
            (100, 99_000, 1),
            (400, 100_000, 300),
            (u64::MAX / 1000, 0, i64::MAX / 1000),
        ] {
            let got = clock_difference(Timestamp::from_secs(date), Timestamp::from_millis(now));
            assert!(got == want || want > 1_000_000 && got > 1_000_000, "{date} {now}: {got}");
        }
    }

    #[test]
    fn only_complete_dates_are_read() {
        for (text, want) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("Fri, 01 Mar 2024 00:00:00 GMT", Some(1_709_251_200)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799)),
            ("Tue, 30 Jun 2015 23:59:60 GMT", Some(1_435_708_800)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun Nov  6 08:49:37 1994", None),
            ("Sun, 06 Nov 1994 08:49:37 UTC", None),
            ("Sun, 06 nov 1994 08:49:37 GMT", None),
            ("Sun, 00 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 24:49:37 GMT", None),
            ("Sun, 06 Nov 1969 08:49:37 GMT", None),
            ("Sun, +6 Nov 1994 08:49:37 GMT", None),
            ("", None),
        ] {
            let got = parse_date(text.as_bytes()).map(Timestamp::as_secs);
            assert_eq!(got, want, "{text}");
        }
    }
}
