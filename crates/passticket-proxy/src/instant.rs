//! Reads and writes the instants of the configuration and of the command line: RFC 3339 in UTC, such as
//! `2026-12-01T02:00:00Z`.

use std::time::Duration;

use tower_passticket::clock::Timestamp;
use x509_cert::der::DateTime;

/// An instant, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant(pub Timestamp);

/// The error for a text that is not an instant. It does not contain the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not an instant; write it in UTC and in the form of RFC 3339, as in 2026-12-01T02:00:00Z"
)]
pub struct InstantError;

impl std::str::FromStr for Instant {
    type Err = InstantError;

    fn from_str(text: &str) -> Result<Self, InstantError> {
        let time: DateTime = text.parse().map_err(|_| InstantError)?;
        Ok(Self(Timestamp::from_secs(time.unix_duration().as_secs())))
    }
}

impl std::fmt::Display for Instant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match DateTime::from_unix_duration(Duration::from_secs(self.0.as_secs())) {
            Ok(time) => time.fmt(f),
            // The year has more than four digits.
            Err(_) => write!(f, "{} s after 1970", self.0.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_utc_in_the_form_of_rfc_3339() {
        for (text, want) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-12-01T02:00:00Z", Some(1_796_090_400)),
            ("2028-02-29T23:59:59Z", Some(1_835_481_599)),
            ("2027-02-29T00:00:00Z", None),
            ("2026-12-01T24:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-12-01T02:00:00", None),
            ("2026-12-01T02:00:00+01:00", None),
            ("2026-12-01 02:00:00Z", None),
            ("2026-12-01", None),
            ("1796090400", None),
            ("", None),
        ] {
            let instant = text.parse::<Instant>();
            assert_eq!(instant.map(|it| it.0.as_secs()).ok(), want, "{text}");
            if let Ok(instant) = instant {
                assert_eq!(instant.to_string(), text);
            }
        }
        let late = Instant(Timestamp::from_secs(u64::MAX / 1000));
        assert!(late.to_string().ends_with(" s after 1970"));
    }
}
