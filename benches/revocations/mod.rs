//! Revocations that match no token of the benchmarks.

use tower_passticket::{
    clock::Timestamp,
    passticket::UserId,
    revocation::Revocation,
    token::{ServiceId, TokenFingerprint},
};

/// Returns the revocation with number `i`. Its kind depends on `i % 3`: it revokes one token, all tokens of a user, or
/// all tokens for a service.
pub(crate) fn revocation(i: usize) -> Revocation {
    let up_to = Timestamp::from_secs(1_700_000_000);
    match i % 3 {
        0 => Revocation::Token {
            token: TokenFingerprint::of(format!("token {i}")),
            expires_at: Timestamp::from_secs(1_900_000_000),
        },
        1 => Revocation::User { user: UserId::new(&format!("R{i}")).unwrap(), up_to },
        _ => {
            let service = ServiceId::new(&format!("revoked-{i}")).unwrap();
            Revocation::Service { service, up_to }
        }
    }
}
