//! User ids, APPLIDs (names of z/OS applications) and a key of PassTickets (one-time passwords of z/OS).

use passticket::{
    Algorithm, Applid, KeyProfile, PassTicket, UserId,
    clock::{Clock, SystemClock},
};

/// A PassTicket key of the legacy algorithm, as hexadecimal digits. It is public, so never use it outside of tests.
pub const LEGACY_KEY: &str = "E001193519561977";

/// Returns the user id `name`.
///
/// # Panics
/// This function panics if `name` is not a valid user id.
pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// Returns the APPLID `name`.
///
/// # Panics
/// This function panics if `name` is not a valid APPLID.
pub fn applid(name: &str) -> Applid {
    Applid::new(name).unwrap()
}

/// Returns whether `ticket` is a PassTicket of `profile` for the user `name`, and is valid now. Does not check whether
/// the ticket was used before.
pub fn is_valid(profile: &KeyProfile, name: &str, ticket: &str) -> bool {
    let (Ok(user), Ok(ticket)) = (UserId::new(name), PassTicket::parse(ticket)) else {
        return false;
    };
    profile.evaluate(&user, &ticket, SystemClock.now()).is_ok()
}

/// Returns a profile of the APPLID `name` with [`LEGACY_KEY`] and replay protection.
///
/// # Panics
/// This function panics if `name` is not a valid APPLID.
pub fn key_profile(name: &str) -> KeyProfile {
    key_profile_from(name, LEGACY_KEY)
}

/// Returns a profile of the APPLID `name` with replay protection. `key` is a key of the legacy algorithm, as
/// hexadecimal digits.
///
/// # Panics
/// This function panics if `name` is not a valid APPLID, or if `key` is not a valid key.
pub fn key_profile_from(name: &str, key: &str) -> KeyProfile {
    KeyProfile::from_hex(applid(name), Algorithm::Legacy, key).unwrap()
}
