//! Times of the auth API (RFC 3339 in UTC), as users read them, and dates that users choose.

use std::{fmt, ops::Range};

use tower_passticket::clock::Timestamp;

const DAY_SECS: u64 = 86_400;

/// The days before each month of a year without a leap day.
const DAYS_BEFORE_MONTH: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

/// The first year of a [`Date`].
const FIRST_YEAR: u64 = 1970;
/// The last year of a [`Date`].
const LAST_YEAR: u64 = 9999;

/// A date in UTC, from 1970 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Date {
    year: u64,
    month: u64,
    day: u64,
}

impl Date {
    /// Returns the date of a time.
    pub(super) fn of(time: Timestamp) -> Self {
        let days = time.as_secs() / DAY_SECS;
        // A year has at least 365 days, so this estimate is not too early.
        let mut year = (FIRST_YEAR + days / 365).min(LAST_YEAR);
        while days_before_year(year) > days {
            year -= 1;
        }
        let in_year = days - days_before_year(year);
        let month = (1..=12).rev().find(|month| days_before_month(year, *month) <= in_year);
        let month = month.unwrap_or(1);
        Self { year, month, day: in_year - days_before_month(year, month) + 1 }
    }

    /// Parses a date of a form, such as `2027-01-15`. Returns `None` if there is no such date.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_shape = text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if !is_shape {
            return None;
        }
        let number = |range: Range<usize>| text.get(range)?.parse().ok();
        let date = Self { year: number(0..4)?, month: number(5..7)?, day: number(8..10)? };
        let is_date = (FIRST_YEAR..=LAST_YEAR).contains(&date.year)
            && (1..=12).contains(&date.month)
            // A date that does not exist, such as February 30, is a day of the next month.
            && date.day >= 1
            && date.day <= 31
            && Self::of(date.start()) == date;
        is_date.then_some(date)
    }

    /// Returns the first second of the day.
    pub(super) fn start(self) -> Timestamp {
        let days = days_before_year(self.year) + days_before_month(self.year, self.month);
        Timestamp::from_secs((days + self.day - 1) * DAY_SECS)
    }

    /// Returns the last second of the day.
    pub(super) fn end(self) -> Timestamp {
        Timestamp::from_secs(self.start().as_secs() + DAY_SECS - 1)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day } = self;
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// Returns the days from 1970 up to the first day of `year`.
fn days_before_year(year: u64) -> u64 {
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    (year - FIRST_YEAR) * 365 + leap_days(year - 1) - leap_days(FIRST_YEAR - 1)
}

/// Returns the days from the first day of `year` up to the first day of `month`, which is 1 to 12.
fn days_before_month(year: u64, month: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let at = usize::try_from(month.saturating_sub(1)).unwrap_or(0);
    let days = DAYS_BEFORE_MONTH.get(at).copied().unwrap_or(0);
    days + u64::from(is_leap && month > 2)
}

/// Writes a time as the auth API reads it.
pub(super) fn rfc3339(time: Timestamp) -> String {
    let second = time.as_secs() % DAY_SECS;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", Date::of(time))
}

/// Writes a time of the auth API for users: `2027-01-15T08:00:00Z` becomes `2027-01-15 08:00 UTC`. Other texts stay.
pub(super) fn readable(time: &str) -> String {
    match (Date::parse(time.get(..10).unwrap_or_default()), time.get(10..11), time.get(11..16)) {
        (Some(date), Some("T"), Some(minutes)) => format!("{date} {minutes} UTC"),
        _ => time.to_owned(),
    }
}

/// Reads the date of a time of the auth API.
fn date(time: &str) -> Option<Date> {
    Date::parse(time.get(..10)?)
}

/// Returns the number of days from `now` to the date of `time`. Returns `None` if this date is in the past.
pub(super) fn days_until(now: Timestamp, time: &str) -> Option<u64> {
    let (then, now) = (date(time)?.start().as_secs(), Date::of(now).start().as_secs());
    then.checked_sub(now).map(|secs| secs / DAY_SECS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_and_times_have_the_same_days() {
        for (secs, date) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_798_761_599, "2026-12-31"),
            (1_800_000_000, "2027-01-15"),
            (4_107_542_399, "2100-02-28"),
            (4_107_542_400, "2100-03-01"),
        ] {
            let time = Timestamp::from_secs(secs);
            assert_eq!(Date::of(time).to_string(), date);
            let parsed = Date::parse(date).unwrap();
            assert!(parsed.start() <= time && time <= parsed.end(), "{date}");
        }
        for wrong in [
            "",
            "2027-1-15",
            "2027-02-29",
            "2027-13-01",
            "2027-00-10",
            "2027-01-00",
            "1969-12-31",
            "2027-01-32",
            "2027/01/15",
            "2027-01-15T",
            "+027-01-15",
            "2027-01-1\u{e4}",
        ] {
            assert_eq!(Date::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_written_for_users_and_for_the_api() {
        let time = Timestamp::from_secs(1_800_000_000);
        assert_eq!(rfc3339(time), "2027-01-15T08:00:00Z");
        assert_eq!(readable("2027-01-15T08:00:00Z"), "2027-01-15 08:00 UTC");
        assert_eq!(readable("2027-01-15T08:00:00.123Z"), "2027-01-15 08:00 UTC");
        assert_eq!(readable("soon"), "soon");
        for (then, want) in [
            ("2027-01-15T23:00:00Z", Some(0)),
            ("2027-01-16T00:00:00Z", Some(1)),
            ("2027-02-14T08:00:00Z", Some(30)),
            ("2027-01-14T23:59:59Z", None),
            ("x", None),
        ] {
            assert_eq!(days_until(time, then), want, "{then}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn each_day_has_one_date(days in 0_u64..2_900_000) {
            let time = Timestamp::from_secs(days * DAY_SECS);
            let date = Date::of(time);
            prop_assert_eq!(date.start(), time);
            prop_assert_eq!(Date::parse(&date.to_string()), Some(date));
        }

        #[test]
        fn the_parsers_never_panic(text in "\\PC{0,24}") {
            let _ = (Date::parse(&text), readable(&text), days_until(Timestamp::from_secs(0), &text));
        }
    }
}
