//! Times as text.

use crate::clock::Timestamp;

const DAY_MS: u64 = 86_400_000;

/// The last millisecond that has four digits for its year.
const LAST: u64 = 253_402_300_799_999;

/// RFC 3339 §5.6, in UTC, to the millisecond: `2027-01-15T08:00:00.000Z`. What is later than the
/// year 9999, which the format has no room for, is its end.
pub(super) fn rfc3339(time: Timestamp) -> [u8; 24] {
    let millis = time.as_millis().min(LAST);
    let (year, month, day) = date(millis / DAY_MS);
    let of_day = millis % DAY_MS;
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, millis) = (of_day / 1000 % 60, of_day % 1000);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (at, number) in [
        (0..4, year),
        (5..7, month),
        (8..10, day),
        (11..13, hour),
        (14..16, minute),
        (17..19, second),
        (20..23, millis),
    ] {
        write_digits(&mut text[at], number);
    }
    text
}

fn write_digits(text: &mut [u8], mut number: u64) {
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789"[(number % 10) as usize];
        number /= 10;
    }
}

/// Year, month and day of a day since 1970-01-01 in the Gregorian calendar. The year is taken to
/// begin in March, so that the day that is not always there is its last.
fn date(days: u64) -> (u64, u64, u64) {
    const FOUR_CENTURIES: u64 = 146_097;
    const FROM_MARCH_OF_0000: u64 = 719_468;
    let day = days + FROM_MARCH_OF_0000;
    let (era, day) = (day / FOUR_CENTURIES, day % FOUR_CENTURIES);
    // Every 4 years have a day more, every 100 do not, every 400 do.
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, five months have 153 days.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use x509_cert::der::DateTime;

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
        fn any_time_is_the_one_that_another_calendar_says(secs in 0..=LAST / 1000) {
            let other = DateTime::from_unix_duration(Duration::from_secs(secs)).unwrap();
            let ours = written(Timestamp::from_secs(secs));
            prop_assert_eq!(ours.replace(".000Z", "Z"), other.to_string());
        }
    }
}
