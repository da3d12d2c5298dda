//! Tokens of other issuers, verified by an embedder's [`TokenVerifier`](super::TokenVerifier).

use std::{fmt, sync::Arc};

use serde_json::{Map, Value};

use super::TokenFingerprint;
use crate::{clock::Timestamp, identity::DistributedIdentity, passticket::UserId};

/// The person or program that a token of another issuer names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExternalSubject {
    /// A z/OS user. The issuer is trusted to name users of the mainframe itself.
    User(UserId),
    /// A name in another registry, which a
    /// [`DistributedMapper`](crate::identity::DistributedMapper) maps to a z/OS user.
    Identity(DistributedIdentity),
}

impl From<UserId> for ExternalSubject {
    fn from(user: UserId) -> Self {
        Self::User(user)
    }
}

impl From<DistributedIdentity> for ExternalSubject {
    fn from(identity: DistributedIdentity) -> Self {
        Self::Identity(identity)
    }
}

/// The claims of a token of another issuer, as its verifier has read them.
///
/// ```
/// use tower_passticket::{
///     clock::Timestamp,
///     identity::DistributedIdentity,
///     token::{ExternalClaims, serde_json::json},
/// };
///
/// let subject = DistributedIdentity::new("jane@example.com", "https://idp.example.com")?;
/// let expires_at = Timestamp::from_secs(1_900_000_000);
/// let claims = ExternalClaims::new(subject, "https://idp.example.com", expires_at)
///     .with_claim("groups", json!(["operators"]));
/// # Ok::<(), tower_passticket::identity::IdentityError>(())
/// ```
#[derive(Clone)]
pub struct ExternalClaims {
    subject: ExternalSubject,
    issuer: Box<str>,
    issued_at: Option<Timestamp>,
    expires_at: Timestamp,
    others: Map<String, Value>,
}

impl ExternalClaims {
    /// The claims that every token has: who it names, who issued it (`iss`), and the time from
    /// which on it is refused (`exp`).
    pub fn new(
        subject: impl Into<ExternalSubject>,
        issuer: impl Into<Box<str>>,
        expires_at: Timestamp,
    ) -> Self {
        Self {
            subject: subject.into(),
            issuer: issuer.into(),
            issued_at: None,
            expires_at,
            others: Map::new(),
        }
    }

    /// Sets when the token was issued (`iat`).
    #[must_use]
    pub fn with_issued_at(self, issued_at: Timestamp) -> Self {
        Self { issued_at: Some(issued_at), ..self }
    }

    /// Adds a claim that layers behind the authentication may read.
    #[must_use]
    pub fn with_claim(mut self, name: impl Into<String>, value: Value) -> Self {
        self.others.insert(name.into(), value);
        self
    }

    /// Adds claims, for example the whole payload of the token.
    #[must_use]
    pub fn with_claims(mut self, claims: impl IntoIterator<Item = (String, Value)>) -> Self {
        self.others.extend(claims);
        self
    }
}

impl fmt::Debug for ExternalClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the other claims: they may hold personal data.
        f.debug_struct("ExternalClaims")
            .field("subject", &self.subject)
            .field("issuer", &self.issuer)
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A verified token of another issuer. It may still be revoked. Clones share its claims.
///
/// Made by [`VerifiedToken::external`](super::VerifiedToken::external).
#[derive(Clone, Debug)]
pub struct ExternalToken(Arc<External>);

#[derive(Debug)]
struct External {
    claims: ExternalClaims,
    fingerprint: TokenFingerprint,
}

impl ExternalToken {
    pub(super) fn new(token: &[u8], claims: ExternalClaims) -> Self {
        Self(Arc::new(External { claims, fingerprint: TokenFingerprint::of(token) }))
    }

    /// The person or program that it names.
    pub fn subject(&self) -> &ExternalSubject {
        &self.0.claims.subject
    }

    /// The issuer (`iss`).
    pub fn issuer(&self) -> &str {
        &self.0.claims.issuer
    }

    /// When it was issued, if the verifier says so.
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.0.claims.issued_at
    }

    /// The time from which on it is refused.
    pub fn expires_at(&self) -> Timestamp {
        self.0.claims.expires_at
    }

    /// A claim that the verifier has added.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.0.claims.others.get(name)
    }

    /// All claims that the verifier has added.
    pub fn claims(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.claims.others.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The fingerprint, which identifies the token in logs and in revocations.
    pub fn fingerprint(&self) -> TokenFingerprint {
        self.0.fingerprint
    }
}
