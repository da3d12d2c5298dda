//! Times as RFC 3339 text.

use std::{cell::Cell, time::Duration};

use x509_cert::der::DateTime;

use crate::clock::Timestamp;

/// The last millisecond of the year 9999. A year in RFC 3339 has four digits.
const LAST: u64 = 253_402_300_799_999;

type Text = [u8; 24];

thread_local! {
    /// The last time that this thread wrote, in whole seconds since 1970, and the text of this time. Consecutive
    /// records often have the same second, and computing the date takes longer than all other work for the text.
    static LAST_SECOND: Cell<(u64, Text)> = const { Cell::new((0, *b"1970-01-01T00:00:00.000Z")) };
}

/// Writes a time in the format of RFC 3339 §5.6, in UTC, with milliseconds: `2027-01-15T08:00:00.000Z`.
///
/// A time after the year 9999 is written as the last millisecond of that year.
pub(crate) fn rfc3339(time: Timestamp) -> Text {
    let millis = time.as_millis().min(LAST);
    let (secs, millis) = (millis / 1000, (millis % 1000) as u16);
    let mut text = LAST_SECOND.with(|last| {
        let (cached, text) = last.get();
        if cached == secs {
            return text;
        }
        let text = with_date(secs);
        last.set((secs, text));
        text
    });
    for (digit, value) in text[20..23].iter_mut().zip([millis / 100, millis / 10 % 10, millis % 10])
    {
        *digit = b'0' + value as u8;
    }
    text
}

/// Returns the text of a time in whole seconds since 1970, with the milliseconds 000.
fn with_date(secs: u64) -> Text {
    let mut text = *b"0000-00-00T00:00:00.000Z";
    text[..19].copy_from_slice(&date_and_time(secs));
    text
}

/// Writes a time in the format of RFC 3339 §5.6, in UTC, without a fraction: `2027-01-15T08:00:00Z`.
///
/// A time after the year 9999 is written as the last second of that year. Unlike [`rfc3339`], this function caches no
/// text, because consecutive calls rarely have the same time.
pub(crate) fn rfc3339_secs(time: Timestamp) -> [u8; 20] {
    let mut text = *b"0000-00-00T00:00:00Z";
    text[..19].copy_from_slice(&date_and_time(time.as_secs().min(LAST / 1000)));
    text
}

/// Writes a time in whole seconds since 1970, such as `2027-01-15T08:00:00`.
fn date_and_time(secs: u64) -> [u8; 19] {
    // The conversion fails only for times after LAST.
    let date =
        DateTime::from_unix_duration(Duration::from_secs(secs)).unwrap_or(DateTime::INFINITY);
    let mut text = *b"0000-00-00T00:00:00";
    let mut write = |at: usize, number: u8| {
        text[at..at + 2].copy_from_slice(&[b'0' + number / 10, b'0' + number % 10]);
    };
    // Both halves of a year up to 9999 have two digits.
    write(0, (date.year() / 100) as u8);
    write(2, (date.year() % 100) as u8);
    write(5, date.month());
    write(8, date.day());
    write(11, date.hour());
    write(14, date.minutes());
    write(17, date.seconds());
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(time: Timestamp) -> String {
        String::from_utf8(rfc3339(time).into()).unwrap()
    }

    #[test]
    fn times_are_written_in_the_format_of_rfc_3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_800_000_000_001, "2027-01-15T08:00:00.001Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (LAST, "9999-12-31T23:59:59.999Z"),
            (LAST + 1, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(written(Timestamp::from_millis(millis)), text);
            let secs = rfc3339_secs(Timestamp::from_millis(millis));
            assert_eq!(secs[..], *format!("{}Z", &text[..19]).as_bytes());
            assert_eq!(written(Timestamp::from_millis(millis)), text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_written_time_parses_to_the_same_time(millis in 0..=LAST) {
            let text = written(Timestamp::from_millis(millis));
            let (seconds, fraction) = text.split_at(19);
            let date: DateTime = format!("{seconds}Z").parse().unwrap();
            prop_assert_eq!(date.unix_duration(), Duration::from_secs(millis / 1000));
            prop_assert_eq!(fraction, format!(".{:03}Z", millis % 1000));
        }
    }
}
