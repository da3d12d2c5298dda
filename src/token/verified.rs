//! Tokens that a verifier has accepted, with their claims.
//!
//! A value of these types is the proof: [`Jwt`] and [`Pat`] are made by
//! [`Rs256Verifier`](super::Rs256Verifier) alone, an [`ExternalToken`] by the
//! [`TokenVerifier`](super::TokenVerifier) of another issuer.

use std::sync::Arc;

use super::{ExternalClaims, ExternalToken, Scopes, TokenFingerprint};
use crate::{clock::Timestamp, passticket::UserId};

/// A token whose signature, times and claims were verified. It may still be revoked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum VerifiedToken {
    /// A login token of ours.
    Jwt(Jwt),
    /// A Personal Access Token of ours.
    Pat(Pat),
    /// A token of another issuer.
    External(ExternalToken),
}

impl VerifiedToken {
    /// A token of another issuer, with what it says.
    ///
    /// Only an implementation of [`TokenVerifier`](super::TokenVerifier) calls this, after it has
    /// verified `token`: the value is the proof, and nothing checks it again except the expiry and
    /// the revocations. `token` is the compact form as the client sent it; only its fingerprint is
    /// kept.
    pub fn external(token: &[u8], claims: ExternalClaims) -> Self {
        Self::External(ExternalToken::new(token, claims))
    }

    /// The time from which on the token is refused.
    pub fn expires_at(&self) -> Timestamp {
        match self {
            Self::Jwt(jwt) => jwt.expires_at(),
            Self::Pat(pat) => pat.expires_at(),
            Self::External(token) => token.expires_at(),
        }
    }

    /// The fingerprint, which identifies the token in logs and in revocations.
    pub fn fingerprint(&self) -> TokenFingerprint {
        match self {
            Self::Jwt(jwt) => jwt.fingerprint(),
            Self::Pat(pat) => pat.fingerprint(),
            Self::External(token) => token.fingerprint(),
        }
    }
}

impl From<Jwt> for VerifiedToken {
    fn from(jwt: Jwt) -> Self {
        Self::Jwt(jwt)
    }
}

impl From<Pat> for VerifiedToken {
    fn from(pat: Pat) -> Self {
        Self::Pat(pat)
    }
}

impl From<ExternalToken> for VerifiedToken {
    fn from(token: ExternalToken) -> Self {
        Self::External(token)
    }
}

/// A verified login token. Clones share its claims.
#[derive(Clone, Debug)]
pub struct Jwt(Arc<JwtClaims>);

#[derive(Debug)]
pub(super) struct JwtClaims {
    pub(super) user: UserId,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) domain: Option<Box<str>>,
    pub(super) fingerprint: TokenFingerprint,
}

impl Jwt {
    pub(super) fn new(claims: JwtClaims) -> Self {
        Self(Arc::new(claims))
    }

    /// The user.
    pub fn user(&self) -> &UserId {
        &self.0.user
    }

    /// When it was issued, in whole seconds.
    pub fn issued_at(&self) -> Timestamp {
        self.0.issued_at
    }

    /// The time from which on it is refused.
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }

    /// The security domain that authenticated the user.
    pub fn domain(&self) -> Option<&str> {
        self.0.domain.as_deref()
    }

    /// The fingerprint, which identifies the token in logs and in revocations.
    pub fn fingerprint(&self) -> TokenFingerprint {
        self.0.fingerprint
    }
}

/// A verified Personal Access Token. It may still be revoked or out of scope. Clones share its
/// claims.
#[derive(Clone, Debug)]
pub struct Pat(Arc<PatClaims>);

#[derive(Debug)]
pub(super) struct PatClaims {
    pub(super) user: UserId,
    pub(super) scopes: Scopes,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) fingerprint: TokenFingerprint,
}

impl Pat {
    pub(super) fn new(claims: PatClaims) -> Self {
        Self(Arc::new(claims))
    }

    /// The user.
    pub fn user(&self) -> &UserId {
        &self.0.user
    }

    /// The services that it is for.
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// When it was issued: in milliseconds if this crate issued it, else in whole seconds.
    pub fn issued_at(&self) -> Timestamp {
        self.0.issued_at
    }

    /// The time from which on it is refused.
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }

    /// The fingerprint, which identifies the token in logs and in revocations.
    pub fn fingerprint(&self) -> TokenFingerprint {
        self.0.fingerprint
    }
}
