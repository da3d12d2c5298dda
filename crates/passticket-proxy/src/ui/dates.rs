//! Times of the auth API (RFC 3339 in UTC), as users read them, and dates that users choose.

use std::{fmt, time::Duration};

use tower_passticket::clock::Timestamp;
use x509_cert::der::DateTime;

const DAY_SECS: u64 = 86_400;

/// A date in UTC, from 1970 up to 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Date {
    start: Timestamp,
}

impl Date {
    pub(super) fn of(time: Timestamp) -> Self {
        Self { start: Timestamp::from_secs(time.as_secs() / DAY_SECS * DAY_SECS) }
    }

    /// Parses a date of a form, such as `2027-01-15`. Returns `None` if there is no such date.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let start: DateTime = format!("{text}T00:00:00Z").parse().ok()?;
        Some(Self { start: Timestamp::from_secs(start.unix_duration().as_secs()) })
    }

    pub(super) fn start(self) -> Timestamp {
        self.start
    }

    pub(super) fn end(self) -> Timestamp {
        Timestamp::from_secs(self.start.as_secs() + DAY_SECS - 1)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = rfc3339(self.start);
        f.write_str(time.split('T').next().unwrap_or_default())
    }
}

/// Writes a time as the auth API reads it. A time after the year 9999 is written as the last second of that year.
pub(super) fn rfc3339(time: Timestamp) -> String {
    let time = DateTime::from_unix_duration(Duration::from_secs(time.as_secs()));
    time.unwrap_or(DateTime::INFINITY).to_string()
}

/// Writes a time of the auth API for users: `2027-01-15T08:00:00Z` becomes `2027-01-15 08:00 UTC`. Other texts stay.
pub(super) fn readable(time: &str) -> String {
    match (Date::parse(time.get(..10).unwrap_or_default()), time.get(10..11), time.get(11..16)) {
        (Some(date), Some("T"), Some(minutes)) => format!("{date} {minutes} UTC"),
        _ => time.to_owned(),
    }
}

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
