//! Issuing login tokens and Personal Access Tokens.

use std::{fmt, sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, Header};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Scopes, SigningKey, VerifyingKey,
    claims::{Claims, ISSUER_JWT, ISSUER_PAT},
};
use crate::{
    clock::{Clock, SystemClock},
    passticket::UserId,
};

const DAY: Duration = Duration::from_secs(86_400);

/// How long a login token is good for unless told otherwise: eight hours, as the reference.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(28_800);

/// Signs tokens.
#[derive(Clone, Debug)]
pub struct TokenIssuer {
    key: SigningKey,
    lifetime: Duration,
    clock: Arc<dyn Clock>,
}

impl TokenIssuer {
    /// An issuer whose login tokens are good for eight hours.
    pub fn new(key: SigningKey) -> Self {
        Self { key, lifetime: DEFAULT_LIFETIME, clock: Arc::new(SystemClock) }
    }

    /// Sets how long login tokens are good for; whole seconds count.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Takes the time from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The public key that verifies the tokens.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// A login token for `user`, who was authenticated by the security domain `domain`.
    ///
    /// # Errors
    /// [`IssueError`] when the key cannot sign.
    pub fn login_token(&self, user: &UserId, domain: &str) -> Result<IssuedToken, IssueError> {
        let claims = self.claims(user, ISSUER_JWT, self.lifetime);
        self.sign(&Claims { dom: Some(domain.to_owned()), ..claims })
    }

    /// A Personal Access Token of `user` for the services in `scopes`.
    ///
    /// # Errors
    /// [`IssueError`] when the key cannot sign.
    pub fn personal_access_token(
        &self,
        user: &UserId,
        scopes: &Scopes,
        validity: Validity,
    ) -> Result<IssuedToken, IssueError> {
        let claims = self.claims(user, ISSUER_PAT, validity.duration());
        self.sign(&Claims {
            auth_prov: Some(ISSUER_JWT.to_owned()),
            scopes: Some(scopes.iter().map(ToString::to_string).collect()),
            ..claims
        })
    }

    fn claims(&self, user: &UserId, issuer: &str, lifetime: Duration) -> Claims {
        let now = self.clock.now();
        Claims {
            sub: user.as_str().to_owned(),
            iat: now.as_secs(),
            exp: now.as_secs().saturating_add(lifetime.as_secs()),
            iss: issuer.to_owned(),
            nbf: None,
            jti: Some(Uuid::new_v4().to_string()),
            dom: None,
            auth_prov: None,
            scopes: None,
            iat_ms: (issuer == ISSUER_PAT).then_some(now.as_millis()),
            aud: None,
        }
    }

    fn sign(&self, claims: &Claims) -> Result<IssuedToken, IssueError> {
        // The reference writes exactly {"alg":"RS256"}.
        let header = Header { typ: None, ..Header::new(Algorithm::RS256) };
        let text = jsonwebtoken::encode(&header, claims, self.key.private())?;
        Ok(IssuedToken { text: Zeroizing::new(text), lifetime_secs: claims.exp - claims.iat })
    }
}

/// The key could not sign.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the signing key cannot sign: {0}")]
pub struct IssueError(#[from] jsonwebtoken::errors::Error);

/// A token on its way to its owner. Not shown by `Debug`, wiped when dropped.
pub struct IssuedToken {
    text: Zeroizing<String>,
    lifetime_secs: u64,
}

impl IssuedToken {
    /// The compact form. Whoever holds it is the user: hand it to the owner and to nobody else.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// How long it is good for from now on, in seconds.
    pub fn lifetime_secs(&self) -> u64 {
        self.lifetime_secs
    }
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IssuedToken(..)")
    }
}

/// How long a PAT is good for: 1 to 90 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Validity(u8);

impl Validity {
    /// 90 days, the most there is (spec/004).
    pub const MAX: Self = Self(90);

    /// What a client gets who asks for `days`: what is absent, zero, negative or above 90 is 90,
    /// as in the reference (zowe-endpoints §1.7).
    pub fn requested(days: Option<i64>) -> Self {
        match days.map(u8::try_from) {
            Some(Ok(days @ 1..=90)) => Self(days),
            _ => Self::MAX,
        }
    }

    /// The number of days.
    pub fn days(self) -> u8 {
        self.0
    }

    fn duration(self) -> Duration {
        DAY * u32::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_is_clamped_as_in_the_reference() {
        for (asked, days) in [
            (None, 90),
            (Some(i64::MIN), 90),
            (Some(-1), 90),
            (Some(0), 90),
            (Some(1), 1),
            (Some(60), 60),
            (Some(90), 90),
            (Some(91), 90),
            (Some(257), 90),
            (Some(i64::MAX), 90),
        ] {
            assert_eq!(Validity::requested(asked).days(), days, "{asked:?}");
        }
    }
}
