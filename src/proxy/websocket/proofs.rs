//! The token and the end of the validity of a proof.

use crate::{audit::ReasonCode, clock::Timestamp, layer::Proof, token::VerifiedToken};

/// The end of the credential's validity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expiry {
    pub(super) at: Timestamp,
    /// The reason in the audit log.
    pub(super) reason: ReasonCode,
}

pub(super) fn token_of(proof: &Proof) -> Option<VerifiedToken> {
    match proof {
        Proof::Jwt(jwt) => Some(jwt.clone().into()),
        Proof::Pat(pat) => Some(pat.clone().into()),
        Proof::External(token) => Some(token.clone().into()),
        Proof::Certificate(_) | Proof::Password => None,
    }
}

pub(super) fn expiry_of(proof: &Proof) -> Option<Expiry> {
    match proof {
        Proof::Certificate(certificate) => {
            Some(Expiry { at: certificate.not_after(), reason: ReasonCode::CertificateExpired })
        }
        _ => {
            let at = token_of(proof)?.expires_at();
            Some(Expiry { at, reason: ReasonCode::TokenExpired })
        }
    }
}
