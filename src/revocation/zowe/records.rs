//! The records that the gateway writes to Zowe's Caching Service, and the small records that it reads.

use serde::Deserialize;
use serde_json::json;

use super::salt::ItemHash;
use crate::clock::Timestamp;

/// A record of the key-value part of the service, such as the salt.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyValue {
    pub(super) value: String,
    /// The partition to which the client belongs, as plain text. It is the subject of the client's certificate.
    #[serde(default)]
    pub(super) service_id: String,
}

/// Returns whether the body of a response is an error of API ML (Zowe's API Mediation Layer) with this message number.
pub(super) fn has_message(body: &[u8], number: &str) -> bool {
    #[derive(Deserialize)]
    struct Body {
        messages: Vec<Message>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        message_number: String,
    }
    let body = serde_json::from_slice::<Body>(body);
    body.is_ok_and(|body| body.messages.iter().any(|message| message.message_number == number))
}

/// Returns the value of a revoked token, in the form of API ML (docs/reference/zowe-site.md#revocation-records).
///
/// This function writes times in UTC, but API ML reads them as its local time. So the function adds one day to
/// `expiresAt`. Because of this day, API ML never evicts the entry before the token expires, even if its local time is
/// many hours ahead of UTC.
pub(super) fn token_value(hash: &ItemHash, issued_at: Timestamp, expires_at: Timestamp) -> String {
    const DAY_SECS: u64 = 24 * 60 * 60;
    let expires_at = expires_at.as_secs().saturating_add(DAY_SECS);
    json!({
        "userId": null,
        "tokenValue": hash.to_string(),
        "issuedAt": date_time(issued_at.as_secs()),
        "expiresAt": date_time(expires_at),
        "scopes": null,
        "tokenProvider": null,
    })
    .to_string()
}

fn date_time(secs: u64) -> [u64; 6] {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    // In this calculation, a year begins in March, so that the leap day is its last day. Day 0 is 0000-03-01.
    let days = secs / 86_400 + 719_468;
    let (era, day) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let of_day = secs % 86_400;
    [era * 400 + year + next, month, of_month, of_day / 3600, of_day / 60 % 60, of_day % 60]
}

#[cfg(test)]
mod tests {
    use super::{super::salt::Salt, *};

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (secs, want) in [
            (0, [1970, 1, 1, 0, 0, 0]),
            (951_782_399, [2000, 2, 28, 23, 59, 59]),
            (951_782_400, [2000, 2, 29, 0, 0, 0]),
            (1_735_689_599, [2024, 12, 31, 23, 59, 59]),
            (1_764_320_400, [2025, 11, 28, 9, 0, 0]),
            (4_107_542_400, [2100, 3, 1, 0, 0, 0]),
        ] {
            assert_eq!(date_time(secs), want, "{secs}");
        }
    }

    #[test]
    fn a_token_is_stored_for_one_day_longer() {
        let hash = Salt::parse("s").unwrap().hash("jwt");
        let at = Timestamp::from_secs(1_764_320_400);
        let value: serde_json::Value = serde_json::from_str(&token_value(&hash, at, at)).unwrap();
        assert_eq!(value["issuedAt"], json!([2025, 11, 28, 9, 0, 0]));
        assert_eq!(value["expiresAt"], json!([2025, 11, 29, 9, 0, 0]));
        assert_eq!(value["tokenValue"], hash.to_string());
        assert_eq!(value.as_object().unwrap().len(), 6);
    }

    #[test]
    fn a_message_is_found_by_its_number() {
        let body = br#"{"messages":[{"messageType":"ERROR","messageNumber":"ZWECS131E"}]}"#;
        assert!(has_message(body, "ZWECS131E") && !has_message(body, "ZWECS130E"));
        for other in [&b""[..], b"{}", b"ZWECS131E", br#"{"messages":"ZWECS131E"}"#] {
            assert!(!has_message(other, "ZWECS131E"));
        }
    }
}
