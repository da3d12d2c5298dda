//! Times as RFC 3339 text.

use std::time::Duration;

use x509_cert::der::DateTime;

use crate::clock::Timestamp;

/// The last millisecond of the year 9999. RFC 3339 has four digits for the year.
const LAST: u64 = 253_402_300_799_999;

/// Writes a time as RFC 3339 §5.6 says, in UTC, with milliseconds: `2027-01-15T08:00:00.000Z`.
///
/// A time after the year 9999 is written as the last millisecond of that year.
pub(super) fn rfc3339(time: Timestamp) -> [u8; 24] {
    let millis = time.as_millis().min(LAST);
    // It fails only after LAST.
    let date = DateTime::from_unix_duration(Duration::from_secs(millis / 1000))
        .unwrap_or(DateTime::INFINITY);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (at, number) in [
        (0..4, date.year()),
        (5..7, date.month().into()),
        (8..10, date.day().into()),
        (11..13, date.hour().into()),
        (14..16, date.minutes().into()),
        (17..19, date.seconds().into()),
        (20..23, (millis % 1000) as u16),
    ] {
        write_digits(&mut text[at], number);
    }
    text
}

fn write_digits(text: &mut [u8], mut number: u16) {
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789"[usize::from(number % 10)];
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(time: Timestamp) -> String {
        String::from_utf8(rfc3339(time).into()).unwrap()
    }

    #[test]
    fn times_are_written_as_rfc_3339_says() {
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
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_written_time_reads_back_as_the_same_time(millis in 0..=LAST) {
            let text = written(Timestamp::from_millis(millis));
            let (seconds, fraction) = text.split_at(19);
            let date: DateTime = format!("{seconds}Z").parse().unwrap();
            prop_assert_eq!(date.unix_duration(), Duration::from_secs(millis / 1000));
            prop_assert_eq!(fraction, format!(".{:03}Z", millis % 1000));
        }
    }
}
