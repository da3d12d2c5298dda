//! Tokens of other issuers.

use std::{fmt, sync::Arc};

use serde_json::{Map, Value};

use super::TokenFingerprint;
use crate::{clock::Timestamp, identity::DistributedIdentity, passticket::UserId};

/// The person or program that a token of another issuer names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExternalSubject {
    /// A z/OS user. Use this only if you trust the issuer to name z/OS users.
    User(UserId),
    /// The name of a user who is defined in a system other than z/OS. A
    /// [`DistributedMapper`](crate::identity::DistributedMapper) maps this name to a z/OS user.
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

/// The claims that a verifier has read from a token of another issuer.
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
    additional: Map<String, Value>,
}

impl ExternalClaims {
    /// Creates the claims from the three required values: the subject, the issuer (`iss`) and the expiry time (`exp`).
    /// From the expiry time on, the token is rejected.
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
            additional: Map::new(),
        }
    }

    /// Sets when the token was issued (`iat`).
    #[must_use]
    pub fn with_issued_at(self, issued_at: Timestamp) -> Self {
        Self { issued_at: Some(issued_at), ..self }
    }

    /// Adds a claim, which later layers can read. It replaces an earlier claim with the same name.
    #[must_use]
    pub fn with_claim(mut self, name: impl Into<String>, value: Value) -> Self {
        self.additional.insert(name.into(), value);
        self
    }

    /// Adds claims, for example the whole payload of the token. They replace earlier claims with the same names.
    #[must_use]
    pub fn with_claims(mut self, claims: impl IntoIterator<Item = (String, Value)>) -> Self {
        self.additional.extend(claims);
        self
    }
}

impl fmt::Debug for ExternalClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The additional claims are left out, because they may contain personal data.
        f.debug_struct("ExternalClaims")
            .field("subject", &self.subject)
            .field("issuer", &self.issuer)
            .field("issued_at", &self.issued_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A verified token of another issuer. [`VerifiedToken::external`](super::VerifiedToken::external) creates it. This
/// type does not show whether the token is revoked. Clones share the claims.
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

    /// Returns the person or program that the token names.
    pub fn subject(&self) -> &ExternalSubject {
        &self.0.claims.subject
    }

    /// Returns the issuer (`iss`).
    pub fn issuer(&self) -> &str {
        &self.0.claims.issuer
    }

    /// Returns the time when the token was issued, if the verifier has set it.
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.0.claims.issued_at
    }

    /// Returns the expiry time. From this time on, the token is rejected.
    pub fn expires_at(&self) -> Timestamp {
        self.0.claims.expires_at
    }

    /// Returns a claim that the verifier has added.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.0.claims.additional.get(name)
    }

    /// Returns all claims that the verifier has added.
    pub fn claims(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.claims.additional.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub(super) fn size_of_claims(&self) -> usize {
        // For each text, `Value` and the allocator need about 64 bytes in addition.
        self.claims().map(|(name, value)| 64 + name.len() + size(value)).sum()
    }

    /// Returns the fingerprint, which identifies the token in logs and in revocations.
    pub fn fingerprint(&self) -> TokenFingerprint {
        self.0.fingerprint
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => 64 + text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| name.len() + size(value)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 32,
    }
}
