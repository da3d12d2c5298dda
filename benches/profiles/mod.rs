//! Key profiles with a key that is not secret.

use tower_passticket::passticket::{Algorithm, Applid, KeyProfile, Replay};

/// Returns a profile with a key of 8 bytes, or of 64 bytes for enhanced tickets.
pub(crate) fn profile(applid: Applid, algorithm: Algorithm, replay: Replay) -> KeyProfile {
    let digits = if algorithm == Algorithm::Legacy { 16 } else { 128 };
    let key = &"F90F48F03C28DC86".repeat(8)[..digits];
    KeyProfile::from_hex(applid, algorithm, key).unwrap().with_replay(replay)
}
