//! Verifies the tokens of several issuers, each with its own keys.

use std::{borrow::Cow, fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, de::IgnoredAny};

use super::{
    Algorithm, DuplicateIssuer, MAX_TOKEN_LEN, OidcIssuer, Rs256Verifier, TokenError,
    TokenVerifier, VerifiedToken, VerifyFuture,
    claims::{ISSUER_JWT, ISSUER_PAT, present},
    issuer_keys::{IssuerKeys, Need},
    key_set::Signature,
    rs256::By,
};

/// The [`TokenVerifier`] for tokens of several issuers: of this crate, of Zowe API ML, and of OpenID Connect providers.
///
/// A token is verified only with the keys of the issuer that its claim `iss` names (docs/decisions.md#d21). So a
/// provider cannot sign a token of another issuer, such as a login token with `iss: APIML`.
///
/// If `own` has a cache ([`Rs256Verifier::with_cache`]), it also caches the tokens of the other issuers. A cached token
/// costs the same, whatever the number of issuers is.
///
/// ```
/// use tower_passticket::{
///     identity::Registry,
///     layer::Authenticator,
///     token::{IssuerKeys, IssuerUrl, OidcIssuer, Rs256Verifier, TrustedIssuers, VerifyingKey},
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pem = || rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
/// # let (own_key, key_of_provider) = (pem()?.public_key_pem(), pem()?.public_key_pem());
/// let own = Rs256Verifier::new(VerifyingKey::from_pem(own_key.as_bytes())?);
/// let keys = IssuerKeys::fixed(&VerifyingKey::from_pem(key_of_provider.as_bytes())?);
/// let registry = Registry::new("ldaps://idp.example.com")?;
/// let issuer = IssuerUrl::new("https://idp.example.com")?;
/// let provider = OidcIssuer::new(issuer, "zos-gateway", registry, keys);
/// let authenticator = Authenticator::new(TrustedIssuers::new(own).with_oidc(provider)?);
/// # let _ = authenticator;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TrustedIssuers(Arc<Issuers>);

#[derive(Clone)]
struct Issuers {
    own: Rs256Verifier,
    providers: Vec<OidcIssuer>,
}

impl TrustedIssuers {
    /// Accepts the tokens that `own` accepts.
    pub fn new(own: Rs256Verifier) -> Self {
        Self(Arc::new(Issuers { own, providers: Vec::new() }))
    }

    /// Accepts the tokens of this provider, too.
    ///
    /// # Errors
    /// [`DuplicateIssuer`] if a provider with the same issuer was added earlier.
    pub fn with_oidc(mut self, provider: OidcIssuer) -> Result<Self, DuplicateIssuer> {
        let issuers = Arc::make_mut(&mut self.0);
        if issuers.providers.iter().any(|other| other.issuer() == provider.issuer()) {
            return Err(DuplicateIssuer(provider.issuer().clone()));
        }
        if let Some(cache) = issuers.own.cache() {
            provider.keys().invalidate(cache.generation());
        }
        issuers.providers.push(provider);
        Ok(self)
    }

    /// Verifies a token with the keys that are known now.
    fn verify(&self, token: &[u8], last: Last) -> Result<VerifiedToken, Undecided> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenError::TooLong { len: token.len() }.into());
        }
        let uncached = || {
            let token = str::from_utf8(token).map_err(|_| TokenError::Malformed)?;
            self.verify_uncached(token, last)
        };
        match self.0.own.cache() {
            Some(cache) => cache.get_or_verify(token, self.0.own.now(), uncached),
            None => uncached(),
        }
    }

    fn verify_uncached(&self, token: &str, last: Last) -> Result<VerifiedToken, Undecided> {
        let own = &self.0.own;
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.rsplit_once('.').ok_or(TokenError::Malformed)?;
        // Most tokens are our own. They need not be read twice.
        let refused = match own.is_header_of_a_key(header) {
            false => None,
            true => match own.verify_uncached(token, By::Gateway) {
                Err(error) if error.is_foreign() => Some(error),
                decided => return decided.map_err(Undecided::from),
            },
        };
        let (header, payload) = (decode(header)?, decode(payload)?);
        let issuer = issuer(&payload)?;
        let Some(provider) =
            self.0.providers.iter().find(|other| other.issuer().as_str() == issuer)
        else {
            return match [ISSUER_JWT, ISSUER_PAT].iter().any(|own| issuer.eq_ignore_ascii_case(own))
            {
                true => self.verify_apiml(token, refused, last),
                false => Err(TokenError::Issuer.into()),
            };
        };
        let Header { alg, kid } = Header::parse(&header)?;
        let algorithm = alg.parse::<Algorithm>().map_err(|_| TokenError::Algorithm)?;
        if !provider.accepts(algorithm) {
            return Err(TokenError::Algorithm.into());
        }
        let keys = provider.keys();
        let wait = |need| match last {
            Last::No if keys.should_refresh(need) => Some(Undecided::Wait(keys.clone(), need)),
            _ => None,
        };
        if let Some(wait) = wait(Need::FreshSet) {
            return Err(wait);
        }
        let signature = decode(signature)?;
        let checked = keys.with_current(|keys| {
            keys.check(algorithm, kid.as_deref(), message.as_bytes(), &signature)
        });
        match checked {
            None => Err(unavailable(provider).into()),
            Some(Signature::Good) => {
                let claims = provider.check(&payload, own.now())?;
                Ok(VerifiedToken::external(token.as_bytes(), claims))
            }
            Some(Signature::Bad) => Err(TokenError::Signature.into()),
            Some(Signature::UnknownKey) => {
                Err(wait(Need::UnknownKey).unwrap_or(Undecided::Refused(TokenError::Signature)))
            }
        }
    }

    /// Verifies a token with the issuer `APIML` or `APIML_PAT`. `refused` is the
    /// error of our own keys if they were tried.
    fn verify_apiml(
        &self,
        token: &str,
        refused: Option<TokenError>,
        last: Last,
    ) -> Result<VerifiedToken, Undecided> {
        let own = &self.0.own;
        let Some(keys) = own.apiml_keys() else {
            let decided = refused.map_or_else(|| own.verify_uncached(token, By::Gateway), Err);
            return decided.map_err(Undecided::from);
        };
        let wait = |need| match last {
            Last::No if keys.should_refresh(need) => Err(Undecided::Wait(keys.clone(), need)),
            _ => Ok(()),
        };
        wait(Need::FreshSet)?;
        let by = if refused.is_some() { By::Apiml } else { By::Any };
        own.verify_uncached(token, by).or_else(|error| {
            if error == TokenError::Signature {
                wait(Need::UnknownKey)?;
            }
            Err(error.into())
        })
    }
}

impl TokenVerifier for TrustedIssuers {
    fn verify_token(&self, token: &[u8]) -> VerifyFuture {
        let (issuers, token) = (self.clone(), token.to_vec());
        Box::pin(async move {
            match issuers.verify(&token, Last::No) {
                Ok(verified) => return Ok(verified),
                Err(Undecided::Refused(error)) => return Err(error),
                Err(Undecided::Wait(keys, need)) => keys.refresh(need).await,
            }
            // The keys were just fetched, or may not be fetched yet. The token does not wait again.
            issuers.verify(&token, Last::Yes).map_err(|undecided| match undecided {
                Undecided::Refused(error) => error,
                Undecided::Wait(..) => TokenError::Signature,
            })
        })
    }

    fn try_verify_now(&self, token: &[u8]) -> Option<Result<VerifiedToken, TokenError>> {
        match self.verify(token, Last::No) {
            Ok(verified) => Some(Ok(verified)),
            Err(Undecided::Refused(error)) => Some(Err(error)),
            Err(Undecided::Wait(..)) => None,
        }
    }
}

impl fmt::Debug for TrustedIssuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustedIssuers")
            .field("own", &self.0.own)
            .field("providers", &self.0.providers)
            .finish()
    }
}

/// Whether this is the last attempt, which does not wait for keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    No,
    Yes,
}

/// Why a token is not verified.
enum Undecided {
    Refused(TokenError),
    /// The token must be verified again after these keys were fetched.
    Wait(IssuerKeys, Need),
}

impl From<TokenError> for Undecided {
    fn from(error: TokenError) -> Self {
        Self::Refused(error)
    }
}

fn unavailable(provider: &OidcIssuer) -> TokenError {
    let issuer = provider.issuer();
    TokenError::Unavailable(format!("the keys of {issuer} could not be fetched yet").into())
}

/// The claim `iss`, before the signature was checked. It only selects the keys.
fn issuer(payload: &[u8]) -> Result<Cow<'_, str>, TokenError> {
    #[derive(Deserialize)]
    struct Payload<'a> {
        #[serde(borrow)]
        iss: Cow<'a, str>,
    }
    if payload.trim_ascii_start().first() != Some(&b'{') {
        return Err(TokenError::Malformed);
    }
    match serde_json::from_slice::<Payload<'_>>(payload) {
        Ok(Payload { iss }) => Ok(iss),
        Err(error) if error.is_data() => {
            Err(TokenError::Claims("iss is missing, repeated or not a text".into()))
        }
        Err(_) => Err(TokenError::Malformed),
    }
}

/// The members of a header that have an effect. Members that carry or locate a key (`jwk`, `jku`, `x5c`, `x5u`) are
/// never used: keys come only from the configured issuer.
struct Header {
    alg: String,
    kid: Option<String>,
}

impl Header {
    fn parse(json: &[u8]) -> Result<Self, TokenError> {
        #[derive(Deserialize)]
        struct Members {
            alg: String,
            #[serde(default, deserialize_with = "present")]
            kid: Option<String>,
            #[serde(default, deserialize_with = "present")]
            typ: Option<String>,
            #[serde(default, deserialize_with = "present")]
            crit: Option<IgnoredAny>,
        }
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(TokenError::Malformed);
        }
        let members: Members = serde_json::from_slice(json).map_err(|_| TokenError::Malformed)?;
        // RFC 7515 §4.1.11: no extension is supported.
        if members.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        // RFC 8725 §3.11: a token of another kind, such as `logout+jwt`, is not a credential.
        if let Some(typ) = members.typ {
            let typ = typ.to_ascii_lowercase();
            let kind = typ.strip_prefix("application/").unwrap_or(&typ);
            if !matches!(kind, "jwt" | "at+jwt") {
                return Err(TokenError::Claims(
                    "the type of the token (typ) is not JWT or at+jwt".into(),
                ));
            }
        }
        Ok(Self { alg: members.alg, kid: members.kid })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
mod tests;
