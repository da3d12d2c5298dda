//! Fuzz target for PassTickets (one-time passwords of z/OS): parsing, making and evaluation.

use tower_passticket::{
    clock::Timestamp,
    passticket::{Algorithm, Applid, KeyProfile, PassTicket, UserId},
};

use crate::support::NOW;

/// The input is a byte that selects the algorithm, eight bytes for the time, a user id up to a newline, and the text of
/// a PassTicket.
pub(crate) fn tickets(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let Some((time, rest)) = rest.split_first_chunk::<8>() else { return };
    let algorithm = match choice & 3 {
        0 => Algorithm::EnhancedUpper,
        1 => Algorithm::EnhancedMixed,
        _ => Algorithm::Legacy,
    };
    let key = if algorithm == Algorithm::Legacy { "E001193519561977" } else { ENHANCED };
    let applid = Applid::new("ZOWEAPPL").expect("a valid APPLID");
    let profile = KeyProfile::from_hex(applid, algorithm, key).expect("a valid key");
    // If the eight bytes are digits, the time is this number of seconds after `NOW`. If not, only the last five bytes
    // (40 bits) are the time, because PassTickets of type UPPER have only 41 bits for the time.
    let time = match str::from_utf8(time).ok().and_then(|digits| digits.parse::<u64>().ok()) {
        Some(secs) => NOW + secs,
        None => u64::from_be_bytes(*time) % (1 << 40),
    };
    let now = Timestamp::from_secs(time);
    let mut parts = rest.splitn(2, |b| *b == b'\n');
    let (user, ticket) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (user, ticket) = (String::from_utf8_lossy(user), String::from_utf8_lossy(ticket));
    let user = UserId::new(&user).unwrap_or(UserId::new("IBMUSER").expect("a valid user id"));

    let made = profile.generate(&user, now).expect("the key is in memory");
    assert_eq!(PassTicket::parse(made.expose()).as_ref(), Ok(&made));
    let evaluated = profile.evaluate(&user, &made, now).expect("a new PassTicket is accepted");
    assert_eq!((evaluated.generated_at().as_secs(), evaluated.age_secs()), (now.as_secs(), 0));

    match PassTicket::parse(&ticket) {
        Ok(parsed) => {
            assert_eq!(parsed.expose(), ticket);
            if let Ok(evaluated) = profile.evaluate(&user, &parsed, now) {
                // An accepted ticket is equal to the ticket that is generated for the same time.
                let generated = profile
                    .generate(&user, evaluated.generated_at())
                    .expect("the key is in memory");
                let is_same = |one: &str, other: &str| match algorithm {
                    Algorithm::EnhancedMixed => one == other,
                    _ => one.eq_ignore_ascii_case(other),
                };
                assert!(is_same(generated.expose(), parsed.expose()));
                let age = evaluated.generated_at().as_secs().abs_diff(now.as_secs());
                assert!(age <= profile.window().as_secs());
            }
        }
        Err(error) => {
            // The text may be a password, so the error must show no part of it. To test this, replace all allowed
            // characters with `A`, and all others with `!`. The error must stay the same.
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            let other: String =
                ticket.chars().map(|c| if is_allowed(c) { 'A' } else { '!' }).collect();
            let of_other = PassTicket::parse(&other).expect_err("the same characters are wrong");
            assert_eq!(error.to_string(), of_other.to_string());
            assert_eq!(format!("{error:?}"), format!("{of_other:?}"));
        }
    }
}

const ENHANCED: &str = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F";
