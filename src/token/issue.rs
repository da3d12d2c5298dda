//! Issues login tokens and Personal Access Tokens (PATs).

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{
    Scopes, ServiceId, SigningKey, TokenFingerprint, VerifyingKey,
    claims::{Claims, ISSUER_JWT, ISSUER_PAT},
    pat_form::{TokenForm, prefixed},
};
use crate::{
    clock::{Clock, SystemClock, Timestamp},
    passticket::UserId,
};

const DAY: Duration = Duration::from_secs(86_400);

/// The default lifetime of a login token: eight hours, as in Zowe API ML.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(28_800);

/// Issues login tokens and Personal Access Tokens.
#[derive(Clone, Debug)]
pub struct TokenIssuer {
    key: SigningKey,
    lifetime: Duration,
    pat_form: TokenForm,
    clock: Arc<dyn Clock>,
}

impl TokenIssuer {
    /// Creates an issuer that uses the system clock. Its login tokens are valid for eight hours. Its PATs have no
    /// prefix.
    pub fn new(key: SigningKey) -> Self {
        let (lifetime, clock) = (DEFAULT_LIFETIME, Arc::new(SystemClock));
        Self { key, lifetime, pat_form: TokenForm::Jwt, clock }
    }

    /// Puts each new PAT between the prefix `zowepat_` and a checksum, so that secret scanners recognize it:
    /// `zowepat_<JWT>.<checksum>`. The checksum is the first eight hexadecimal digits of the SHA-256 hash of the JWT.
    ///
    /// With and without this setting, the verifiers of this crate accept PATs in both forms. API ML (Zowe's API
    /// Mediation Layer) accepts only the JWT.
    ///
    /// ```
    /// # use tower_passticket::{passticket::UserId, token::*};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
    /// # let key = SigningKey::from_pem(pem.serialize_pem().as_bytes())?;
    /// # let verifier = Rs256Verifier::new(key.verifying_key());
    /// let issuer = TokenIssuer::new(key).with_pat_prefix();
    /// let (user, scopes) = (UserId::new("USER")?, Scopes::parse(["files"])?);
    /// let pat = issuer.personal_access_token(&user, &scopes, Validity::MAX)?;
    /// assert!(pat.expose().starts_with("zowepat_"));
    ///
    /// let verified = verifier.verify(pat.expose())?;
    /// assert_eq!(verified.fingerprint(), pat.fingerprint());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_pat_prefix(self) -> Self {
        Self { pat_form: TokenForm::Prefixed, ..self }
    }

    /// Sets the lifetime of login tokens. Fractions of a second are ignored.
    #[must_use]
    pub fn with_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Uses `clock` instead of the system clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the public key that verifies the tokens.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// Issues a login token for `user`. `domain` (claim `dom`) is the name of the security domain that authenticated
    /// the user.
    ///
    /// # Errors
    /// [`IssueError`] if the key cannot sign.
    pub fn login_token(&self, user: &UserId, domain: &str) -> Result<IssuedToken, IssueError> {
        let claims = self.claims(user, ISSUER_JWT, self.lifetime);
        self.sign(&Claims { dom: Some(domain.to_owned()), ..claims })
    }

    /// Issues a Personal Access Token (PAT) to `user`. `scopes` says which requests to which services this PAT permits.
    ///
    /// # Errors
    /// [`IssueError`] if the key cannot sign.
    pub fn personal_access_token(
        &self,
        user: &UserId,
        scopes: &Scopes,
        validity: Validity,
    ) -> Result<IssuedToken, IssueError> {
        let claims = self.claims(user, ISSUER_PAT, validity.duration());
        self.sign_pat(&Claims {
            auth_prov: Some(ISSUER_JWT.to_owned()),
            scopes: Some(scopes.iter().map(ToString::to_string).collect()),
            ..claims
        })
    }

    /// Issues a PAT for `user`, which expires at `expires_at`. Fractions of a second are ignored. The caller makes sure
    /// that the lifetime is not longer than [`Validity::MAX`].
    ///
    /// # Errors
    /// [`IssueError`] if the key cannot sign.
    #[cfg(feature = "api")]
    pub(crate) fn personal_access_token_until(
        &self,
        user: &UserId,
        scopes: &Scopes,
        expires_at: Timestamp,
    ) -> Result<IssuedToken, IssueError> {
        let claims = self.claims(user, ISSUER_PAT, Duration::ZERO);
        self.sign_pat(&Claims {
            // If `expires_at` has already passed, the lifetime is zero, and not negative.
            exp: expires_at.as_secs().max(claims.iat),
            auth_prov: Some(ISSUER_JWT.to_owned()),
            scopes: Some(scopes.iter().map(ToString::to_string).collect()),
            ..claims
        })
    }

    /// Issues a login token that the gateway accepts only on the routes of `service`
    /// ([`Jwt::service`](super::Jwt::service)). The token expires at `expires_at` or at the end of the lifetime of
    /// login tokens, whichever is earlier.
    pub(crate) fn service_token(
        &self,
        user: &UserId,
        domain: &str,
        service: &ServiceId,
        expires_at: Option<Timestamp>,
    ) -> Result<IssuedToken, IssueError> {
        let claims = self.claims(user, ISSUER_JWT, self.lifetime);
        let exp = expires_at.map_or(claims.exp, |latest| claims.exp.min(latest.as_secs()));
        self.sign(&Claims {
            // If `expires_at` has already passed, the lifetime is zero, and not negative.
            exp: exp.max(claims.iat),
            dom: Some(domain.to_owned()),
            for_service: Some(service.to_string()),
            ..claims
        })
    }

    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime
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
            for_service: None,
            aud: None,
        }
    }

    fn sign_pat(&self, claims: &Claims) -> Result<IssuedToken, IssueError> {
        let issued = self.sign(claims)?;
        Ok(match self.pat_form {
            TokenForm::Jwt => issued,
            TokenForm::Prefixed => {
                IssuedToken { text: prefixed(&issued.text, &issued.fingerprint), ..issued }
            }
        })
    }

    fn sign(&self, claims: &Claims) -> Result<IssuedToken, IssueError> {
        let payload = serde_json::to_vec(claims).map_err(|_| IssueError(()))?;
        let header = self.key.header();
        let mut text =
            Zeroizing::new(String::with_capacity(header.len() + 2 * payload.len() + 700));
        text.push_str(header);
        text.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(payload, &mut text);
        let signature = self.key.sign(text.as_bytes()).map_err(|_| IssueError(()))?;
        text.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        let issued_at =
            claims.iat_ms.map_or(Timestamp::from_secs(claims.iat), Timestamp::from_millis);
        let fingerprint = TokenFingerprint::of(text.as_bytes());
        Ok(IssuedToken { text, fingerprint, issued_at, lifetime_secs: claims.exp - claims.iat })
    }
}

/// The key could not sign.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the signing key cannot sign; check that it is a valid RSA key")]
pub struct IssueError(());

/// An issued token. `Debug` does not print its text. Dropping the value overwrites the text with zeros.
pub struct IssuedToken {
    text: Zeroizing<String>,
    fingerprint: TokenFingerprint,
    issued_at: Timestamp,
    lifetime_secs: u64,
}

impl IssuedToken {
    /// Returns the token in its compact form (RFC 7515 §3.1), or a PAT with prefix and checksum
    /// ([`TokenIssuer::with_pat_prefix`]). Give this text only to the user of the token, because any client that has
    /// the text can act as the user.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Returns the fingerprint, which identifies the token in logs and in revocations. It is the fingerprint of the
    /// compact form, so a prefix does not change it.
    pub fn fingerprint(&self) -> TokenFingerprint {
        self.fingerprint
    }

    /// Returns the time when the token was issued, in milliseconds for a PAT and in whole seconds for a login token.
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// Returns the expiry time. From this time on, the token is rejected.
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_secs(self.issued_at.as_secs().saturating_add(self.lifetime_secs))
    }

    /// Returns the lifetime of the token in seconds, from the time of issue.
    pub fn lifetime_secs(&self) -> u64 {
        self.lifetime_secs
    }
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IssuedToken(..)")
    }
}

/// The lifetime of a PAT: 1 to 90 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Validity(u8);

impl Validity {
    /// The maximum lifetime: 90 days (docs/reference/tokens-and-revocation.md#pat).
    pub const MAX: Self = Self(90);

    /// Returns the lifetime for a client that requests `days`. If `days` is absent, zero, negative or above 90, the
    /// lifetime is 90 days, as in Zowe API ML (docs/reference/auth-endpoints.md#generate).
    pub fn requested(days: Option<i64>) -> Self {
        match days.map(u8::try_from) {
            Some(Ok(days @ 1..=90)) => Self(days),
            _ => Self::MAX,
        }
    }

    /// Returns the number of days.
    pub fn days(self) -> u8 {
        self.0
    }

    pub(crate) fn duration(self) -> Duration {
        DAY * u32::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_invalid_days_become_90() {
        for (requested, days) in [
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
            assert_eq!(Validity::requested(requested).days(), days, "{requested:?}");
        }
    }
}
