//! Tokens that a verifier has accepted, with their claims.
//!
//! A value of such a type proves that a token was verified. Only [`Rs256Verifier`](super::Rs256Verifier) makes a
//! [`Jwt`] or a [`Pat`]. A [`TokenVerifier`](super::TokenVerifier) for another issuer makes an [`ExternalToken`].

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use http::HeaderValue;
use zeroize::Zeroizing;

use super::{ExternalClaims, ExternalToken, Scopes, ServiceId, TokenFingerprint};
use crate::{clock::Timestamp, passticket::UserId};

/// A token whose signature, times and claims were verified. This type does not show whether the token is revoked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum VerifiedToken {
    /// A login token of this crate, of API ML (Zowe's API Mediation Layer) or of z/OSMF (IBM's management server on
    /// z/OS).
    Jwt(Jwt),
    /// A Personal Access Token of this crate or of Zowe API ML.
    Pat(Pat),
    /// A token of another issuer.
    External(ExternalToken),
}

impl VerifiedToken {
    /// Creates a verified token of another issuer, with its claims.
    ///
    /// Call this only in an implementation of [`TokenVerifier`](super::TokenVerifier), after it has verified `token`.
    /// Other parts of this crate check only the expiry time and the revocations. `token` is the compact form that the
    /// client sent. Only its fingerprint is stored.
    pub fn external(token: &[u8], claims: ExternalClaims) -> Self {
        Self::External(ExternalToken::new(token, claims))
    }

    /// Returns the expiry time. From this time on, the token is rejected.
    pub fn expires_at(&self) -> Timestamp {
        match self {
            Self::Jwt(jwt) => jwt.expires_at(),
            Self::Pat(pat) => pat.expires_at(),
            Self::External(token) => token.expires_at(),
        }
    }

    /// Returns the fingerprint, which identifies the token in logs and in revocations.
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

/// The owner of the key that has verified a token (docs/decisions.md#d48). The claim `iss` does not show the owner,
/// because API ML and the gateway use the same values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenOrigin {
    /// A key of this gateway. API ML may have the same key.
    Gateway,
    /// A key of Zowe API ML that the gateway itself does not have.
    Apiml,
    /// A key of z/OSMF. The claim `iss` is `zOSMF`.
    Zosmf,
}

/// A verified login token. Clones share the claims.
#[derive(Clone, Debug)]
pub struct Jwt(Arc<JwtClaims>);

#[derive(Debug)]
pub(super) struct JwtClaims {
    pub(super) user: UserId,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) domain: Option<Box<str>>,
    pub(super) service: Option<ServiceId>,
    pub(super) origin: TokenOrigin,
    pub(super) fingerprint: TokenFingerprint,
}

impl Jwt {
    pub(super) fn new(claims: JwtClaims) -> Self {
        Self(Arc::new(claims))
    }

    /// Returns the user.
    pub fn user(&self) -> &UserId {
        &self.0.user
    }

    /// Returns the time when the token was issued, in whole seconds.
    pub fn issued_at(&self) -> Timestamp {
        self.0.issued_at
    }

    /// Returns the expiry time. From this time on, the token is rejected.
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }

    /// Returns the owner of the key that has verified the token.
    pub fn origin(&self) -> TokenOrigin {
        self.0.origin
    }

    /// Returns the security domain that authenticated the user (claim `dom`).
    pub fn domain(&self) -> Option<&str> {
        self.0.domain.as_deref()
    }

    /// Returns the only service for which the token is valid (claim `for_service`). Returns `None` if the token is
    /// valid for all services. A token from a user's login is valid for all services.
    ///
    /// A scheme such as [`ZoweJwtScheme`](crate::layer::ZoweJwtScheme) issues tokens for one service
    /// ([D23](crate::decisions#d23)). On the routes of other services, code that accepts login tokens must refuse such
    /// a token.
    pub fn service(&self) -> Option<&ServiceId> {
        self.0.service.as_ref()
    }

    /// Returns the fingerprint, which identifies the token in logs and in revocations.
    pub fn fingerprint(&self) -> TokenFingerprint {
        self.0.fingerprint
    }
}

/// A verified Personal Access Token. The verifier checks neither whether it is revoked, nor whether its scopes permit
/// the request. Clones share the claims.
#[derive(Clone, Debug)]
pub struct Pat(Arc<PatClaims>);

#[derive(Debug)]
pub(super) struct PatClaims {
    pub(super) user: UserId,
    pub(super) scopes: Scopes,
    pub(super) issued_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) origin: TokenOrigin,
    pub(super) fingerprint: TokenFingerprint,
    pub(super) text: Option<PatText>,
    /// The expiry time as a value of a response header. The cache of verified tokens keeps it, because each response to
    /// a request with this token needs it.
    pub(super) expiry_header: OnceLock<HeaderValue>,
}

/// The compact form of a PAT. `Debug` does not show it. When this value is dropped, its memory is overwritten.
pub(super) struct PatText(Zeroizing<Box<str>>);

impl PatText {
    pub(super) fn new(token: &str) -> Self {
        Self(Zeroizing::new(token.into()))
    }
}

impl fmt::Debug for PatText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PatText(..)")
    }
}

impl Pat {
    pub(super) fn new(claims: PatClaims) -> Self {
        Self(Arc::new(claims))
    }

    /// Returns the user.
    pub fn user(&self) -> &UserId {
        &self.0.user
    }

    /// Returns the scopes: which requests to which services the token permits.
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// Returns the owner of the key that has verified the token.
    pub fn origin(&self) -> TokenOrigin {
        self.0.origin
    }

    /// Returns the time when the token was issued. The time is in milliseconds if this crate issued the token, and
    /// otherwise in whole seconds.
    pub fn issued_at(&self) -> Timestamp {
        self.0.issued_at
    }

    /// Returns the expiry time. From this time on, the token is rejected.
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }

    /// Returns the expiry time as a value of a response header. Only the first call on a value or on one of its clones
    /// calls `render`.
    pub(crate) fn expiry_header(
        &self,
        render: impl FnOnce(Timestamp) -> HeaderValue,
    ) -> HeaderValue {
        self.0.expiry_header.get_or_init(|| render(self.0.expires_at)).clone()
    }

    /// Returns the compact form of the token, if the verifier keeps it
    /// ([`Rs256Verifier::with_pat_texts`](super::Rs256Verifier::with_pat_texts)). This text is a secret. Do not write
    /// it to logs or errors.
    pub fn expose(&self) -> Option<&str> {
        self.0.text.as_ref().map(|text| &**text.0)
    }

    /// Returns the fingerprint, which identifies the token in logs and in revocations.
    pub fn fingerprint(&self) -> TokenFingerprint {
        self.0.fingerprint
    }
}
