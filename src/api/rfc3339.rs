//! Times as RFC 3339 text in requests and responses.

use std::time::Duration;

use crate::{audit::rfc3339, clock::Timestamp};

/// Writes a time in UTC with milliseconds.
pub(super) fn write(time: Timestamp) -> String {
    rfc3339(time).iter().map(|byte| char::from(*byte)).collect()
}

/// Reads a time (RFC 3339 §5.6). Returns `None` if the text does not have this form, or if the time is before 1970.
/// Ignores digits after the milliseconds. Refuses the second 60 (a leap second), because a [`Timestamp`] does not count
/// leap seconds.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let text = text.as_bytes();
    let (date_time, rest) = text.split_first_chunk::<19>()?;
    let number = |from: usize, len: usize| digits(&date_time[from..from + len]);
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, byte)| date_time[*at] != *byte)
        || !matches!(date_time[10], b'T' | b't')
    {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let is_date = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (millis, offset) = fraction(rest)?;
    let minutes = offset_minutes(offset)?;
    let secs = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let secs = u64::try_from(secs - minutes * 60).ok()?;
    Some(Timestamp::from_secs(secs).plus(Duration::from_millis(millis)))
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
    })
}

/// Returns the milliseconds, and the rest of the text.
fn fraction(rest: &[u8]) -> Option<(u64, &[u8])> {
    let Some((b'.', rest)) = rest.split_first() else { return Some((0, rest)) };
    let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if len == 0 {
        return None;
    }
    let (fraction, rest) = rest.split_at(len);
    let digit = |at: usize| fraction.get(at).map_or(0, |byte| u64::from(byte - b'0'));
    Some((digit(0) * 100 + digit(1) * 10 + digit(2), rest))
}

/// Parses the offset from UTC, such as `+01:00`. Returns the offset in minutes.
fn offset_minutes(offset: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match offset {
        b"Z" | b"z" => return Some(0),
        [b'+', h @ .., b':', a, b] if h.len() == 2 => (1, digits(h)?, digits(&[*a, *b])?),
        [b'-', h @ .., b':', a, b] if h.len() == 2 => (-1, digits(h)?, digits(&[*a, *b])?),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let years = |to: i64| to * 365 + to.div_euclid(4) - to.div_euclid(100) + to.div_euclid(400);
    let months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    years(year - 1) - years(1969) + months + day - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_as_in_rfc_3339() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t00:00:00.5z", 500),
            ("2027-01-15T08:00:00Z", 1_800_000_000_000),
            ("2027-01-15T08:00:00.123456Z", 1_800_000_000_123),
            ("2027-01-15T10:30:00+02:30", 1_800_000_000_000),
            ("2027-01-14T23:00:00-09:00", 1_800_000_000_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            assert_eq!(parse(text), Some(Timestamp::from_millis(millis)), "{text}");
        }
        for wrong in [
            "",
            "2027-01-15",
            "2027-01-15T08:00:00",
            "2027-01-15 08:00:00Z",
            "2027-13-15T08:00:00Z",
            "2027-00-15T08:00:00Z",
            "2027-02-29T08:00:00Z",
            "2100-02-29T08:00:00Z",
            "2027-01-32T08:00:00Z",
            "2027-01-15T24:00:00Z",
            "2027-01-15T08:60:00Z",
            "2016-12-31T23:59:60Z",
            "2027-01-15T08:00:00.Z",
            "2027-01-15T08:00:00+2:00",
            "2027-01-15T08:00:00+24:00",
            "2027-01-15T08:00:00+0200",
            "2027-01-15T08:00:00ZZ",
            "+027-01-15T08:00:00Z",
            "1969-12-31T23:59:59Z",
            "1800000000000",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_written_time_is_read_back(millis in 0..253_402_300_799_999_u64) {
            let time = Timestamp::from_millis(millis);
            prop_assert_eq!(parse(&write(time)), Some(time));
        }

        #[test]
        fn the_parser_never_panics(text in "[0-9TZ:.+-]{0,40}|\\PC{0,40}") {
            let _ = parse(&text);
        }
    }
}
