//! User ids, APPLIDs and a PassTicket key.

use passticket::{Algorithm, Applid, KeyProfile, UserId};

/// A PassTicket key of the legacy algorithm, as hexadecimal digits. This key is published, so never use it outside of
/// tests.
pub const LEGACY_KEY: &str = "E001193519561977";

/// Returns the user id `name`.
///
/// # Panics
/// This function panics if `name` is not a valid user id.
pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// Returns the APPLID (name of an application) `name`.
///
/// # Panics
/// This function panics if `name` is not a valid APPLID.
pub fn applid(name: &str) -> Applid {
    Applid::new(name).unwrap()
}

/// Returns a key profile of the APPLID `name` with [`LEGACY_KEY`] and replay protection.
///
/// # Panics
/// This function panics if `name` is not a valid APPLID.
pub fn key_profile(name: &str) -> KeyProfile {
    KeyProfile::from_hex(applid(name), Algorithm::Legacy, LEGACY_KEY).unwrap()
}
