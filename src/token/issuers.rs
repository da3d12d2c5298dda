//! Verifies the tokens of several issuers, each with its own keys.

use std::{
    borrow::Cow,
    fmt,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, de::IgnoredAny};

use super::{
    Algorithm, DuplicateIssuer, OidcIssuer, Rs256Verifier, TokenError, TokenOrigin, TokenVerifier,
    VerifiedToken, VerifyFuture,
    claims::{ISSUER_JWT, ISSUER_PAT, ISSUER_ZOSMF, present},
    issuer_check::IssuerCheck,
    issuer_keys::{IssuerKeys, Need},
    key_set::Signature,
    pat_form::SentToken,
    payload::Payload,
    rs256::{By, decode, is_object, parse_claims},
};
use crate::clock::Timestamp;

/// The verifier looks for old keys of the issuers at most once in this number of seconds.
const LOOK_EVERY_SECS: u64 = 30;

/// The [`TokenVerifier`] for tokens of several issuers. These are this crate, API ML (Zowe's API Mediation Layer),
/// z/OSMF (IBM's management server on z/OS) and OpenID Connect providers.
///
/// The claim `iss` of a token names the issuer. The token is accepted only if a key of this issuer has signed it
/// (docs/decisions.md#d21). So a provider cannot sign a token of another issuer, such as a login token with `iss:
/// APIML`.
///
/// | tokens | setting that makes the verifier accept them |
/// |---|---|
/// | tokens of this crate | the keys of `own` |
/// | login tokens of API ML (`APIML`), without asking API ML whether the user has logged out | [`Rs256Verifier::with_apiml_keys`] |
/// | login tokens and PATs (`APIML_PAT`) of API ML, if API ML says that they are still valid | [`Rs256Verifier::with_apiml_keys`] together with [`with_apiml_check`](Self::with_apiml_check) |
/// | tokens of z/OSMF (`zOSMF`) | [`with_zosmf`](Self::with_zosmf) |
/// | tokens of OpenID Connect providers | [`with_oidc`](Self::with_oidc) |
///
/// If `own` has a cache ([`Rs256Verifier::with_cache`]), this verifier has its own cache of the same capacity, for the
/// tokens of all issuers. Verifiers that trust different issuers never share a cache. The look-up of a cached token
/// takes the same time for any number of issuers. If the keys of an issuer are old, they are fetched again in the
/// background, even if all tokens are cached.
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
    /// `None` if API ML is not asked whether it still accepts a token.
    apiml: Option<IssuerCheck>,
    zosmf: Option<Zosmf>,
    providers: Vec<OidcIssuer>,
    /// The time of the last look for old keys, in seconds.
    looked: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
struct Zosmf {
    keys: IssuerKeys,
    check: IssuerCheck,
}

impl TrustedIssuers {
    /// Accepts the tokens that `own` accepts.
    pub fn new(own: Rs256Verifier) -> Self {
        // Another verifier may trust other issuers. With a shared cache, each verifier would accept the tokens that the
        // other has verified.
        let own = own.with_empty_cache();
        let looked = Arc::default();
        Self(Arc::new(Issuers { own, apiml: None, zosmf: None, providers: Vec::new(), looked }))
    }

    /// Also accepts the tokens of `provider`.
    ///
    /// # Errors
    /// [`DuplicateIssuer`] if a provider with the same issuer was added earlier.
    pub fn with_oidc(self, provider: OidcIssuer) -> Result<Self, DuplicateIssuer> {
        if self.0.providers.iter().any(|other| other.issuer() == provider.issuer()) {
            return Err(DuplicateIssuer(provider.issuer().clone()));
        }
        Ok(self.with(|issuers| issuers.providers.push(provider)))
    }

    /// Also accepts the login tokens of z/OSMF (`iss: zOSMF`, RS256). `keys` must contain only keys of z/OSMF. `check`
    /// asks z/OSMF about each token, and caches the answers. The signature alone is not enough, because it stays valid
    /// after a logout at z/OSMF (docs/reference/zowe-site.md#zosmf).
    #[must_use]
    pub fn with_zosmf(self, keys: IssuerKeys, check: IssuerCheck) -> Self {
        self.with(|issuers| issuers.zosmf = Some(Zosmf { keys, check }))
    }

    /// Asks API ML about each token that a key of API ML has verified ([`Rs256Verifier::with_apiml_keys`]), unless the
    /// answer is cached. If the gateway itself has the key that has verified the token, API ML is not asked
    /// (docs/decisions.md#d48). Without this check, a token is accepted until it expires, even after its user has
    /// logged out at API ML.
    ///
    /// With this check, the Personal Access Tokens of API ML are also accepted, because API ML says whether they are
    /// revoked.
    #[must_use]
    pub fn with_apiml_check(self, check: IssuerCheck) -> Self {
        self.with(|issuers| {
            issuers.apiml = Some(check);
            issuers.own = issuers.own.clone().with_apiml_pats();
        })
    }

    fn with(mut self, change: impl FnOnce(&mut Issuers)) -> Self {
        let issuers = Arc::make_mut(&mut self.0);
        change(issuers);
        // The changed verifier gets its own cache. Clones from before the change must not accept the tokens of the new
        // issuer.
        issuers.own = issuers.own.clone().with_empty_cache();
        if let Some(cache) = issuers.own.cache() {
            issuers.keys().for_each(|keys| keys.invalidate(&cache.generation()));
        }
        self
    }

    /// Verifies a token in its compact form with the current keys. Does not ask the issuer.
    fn verify(&self, token: &[u8], last: Last) -> Result<VerifiedToken, Undecided> {
        let uncached = || {
            let token = str::from_utf8(token).map_err(|_| TokenError::Malformed)?;
            self.verify_uncached(token, last)
        };
        match self.0.own.cache() {
            Some(cache) => {
                let now = self.0.own.now();
                if self.0.is_look_due(now) {
                    self.0.look_for_old_keys(now);
                }
                cache.get_or_verify(token, now, uncached)
            }
            None => uncached(),
        }
    }

    fn verify_uncached(&self, token: &str, last: Last) -> Result<VerifiedToken, Undecided> {
        let own = &self.0.own;
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.rsplit_once('.').ok_or(TokenError::Malformed)?;
        // Most tokens are our own, so our keys are tried first, and the claims are read only once. But a token of
        // z/OSMF may have the same header as our tokens. So if z/OSMF is trusted, the claim `iss` is read first. This
        // takes less time than a signature check with one of our keys.
        let is_zosmf = || self.0.zosmf.is_some() && names_zosmf(payload);
        let refused = match own.is_header_of_a_key(header) && !is_zosmf() {
            false => None,
            true => match own.verify_uncached(token, By::Gateway) {
                Err(error) if error.is_foreign() => Some(error),
                decided => return decided.map_err(Undecided::from),
            },
        };
        let (header, payload) = (decode(header)?, decode(payload)?);
        let claims = Payload::parse(&payload)?;
        let issuer = claims.issuer()?;
        if let Some(provider) =
            self.0.providers.iter().find(|other| other.issuer().as_str() == issuer)
        {
            let Header { alg, kid } = Header::parse(&header)?;
            let algorithm = alg.parse::<Algorithm>().map_err(|_| TokenError::Algorithm)?;
            if !provider.accepts(algorithm) {
                return Err(TokenError::Algorithm.into());
            }
            let signed = Signed { algorithm, kid: kid.as_deref(), message, signature };
            signed.check(provider.keys(), provider.issuer().as_str(), last)?;
            let claims = provider.check(&claims, own.now())?;
            return Ok(VerifiedToken::external(token.as_bytes(), claims));
        }
        if let Some(zosmf) = &self.0.zosmf
            && issuer.eq_ignore_ascii_case(ISSUER_ZOSMF)
        {
            let Header { alg, .. } = Header::parse(&header)?;
            if alg != Algorithm::Rs256.name() {
                return Err(TokenError::Algorithm.into());
            }
            // The key id is ignored, because z/OSMF may use different ids in its tokens and in its list of keys.
            let algorithm = Algorithm::Rs256;
            let signed = Signed { algorithm, kid: None, message, signature };
            signed.check(&zosmf.keys, ISSUER_ZOSMF, last)?;
            let claims = parse_claims(&payload)?;
            return Ok(own.check(token, claims, TokenOrigin::Zosmf)?);
        }
        match [ISSUER_JWT, ISSUER_PAT].iter().any(|own| issuer.eq_ignore_ascii_case(own)) {
            true => self.verify_apiml(token, refused, last),
            false => Err(TokenError::Issuer.into()),
        }
    }

    /// Verifies a token with the issuer `APIML` or `APIML_PAT`. `refused` is the error of the check with our own keys,
    /// if they were tried.
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
                // The token may come from API ML, but there are no current keys of API ML.
                if !keys.has_keys() {
                    return Err(unavailable(ISSUER_JWT).into());
                }
            }
            Err(error.into())
        })
    }

    /// Verifies a token in its compact form with the keys of its issuer. Fetches the keys if necessary.
    async fn verify_signature(&self, token: &[u8]) -> Result<VerifiedToken, TokenError> {
        match self.verify(token, Last::No) {
            Ok(verified) => return Ok(verified),
            Err(Undecided::Refused(error)) => return Err(error),
            Err(Undecided::Wait(keys, need)) => keys.refresh(need).await,
        }
        // The fetch has ended, or no fetch was allowed to start. In both cases, the token does not wait a second time.
        self.verify(token, Last::Yes).map_err(|undecided| match undecided {
            Undecided::Refused(error) => error,
            Undecided::Wait(..) => TokenError::Signature,
        })
    }
}

impl Issuers {
    /// Returns the keys of the OpenID Connect providers and of z/OSMF.
    fn keys(&self) -> impl Iterator<Item = &IssuerKeys> {
        let zosmf = self.zosmf.iter().map(|zosmf| &zosmf.keys);
        self.providers.iter().map(OidcIssuer::keys).chain(zosmf)
    }

    /// Returns the check for the issuer that has signed a token, or `None` if the issuer is not asked.
    fn check_of(&self, verified: &VerifiedToken) -> Option<&IssuerCheck> {
        let origin = match verified {
            VerifiedToken::Jwt(jwt) => jwt.origin(),
            VerifiedToken::Pat(pat) => pat.origin(),
            VerifiedToken::External(_) => return None,
        };
        match origin {
            TokenOrigin::Gateway => None,
            TokenOrigin::Apiml => self.apiml.as_ref(),
            TokenOrigin::Zosmf => self.zosmf.as_ref().map(|zosmf| &zosmf.check),
        }
    }

    /// Returns whether the last [look for old keys](Self::look_for_old_keys) was at least 30 s ago. A cached token is
    /// accepted without its keys. So without this look, the cached tokens of a withdrawn key would stay accepted.
    fn is_look_due(&self, now: Timestamp) -> bool {
        // If the clock was set back, the difference is very large, so the look is due.
        now.as_secs().wrapping_sub(self.looked.load(Ordering::Relaxed)) >= LOOK_EVERY_SECS
    }

    #[cold]
    fn look_for_old_keys(&self, now: Timestamp) {
        self.looked.store(now.as_secs(), Ordering::Relaxed);
        self.keys().chain(self.own.apiml_keys()).for_each(IssuerKeys::refresh_in_background);
    }
}

impl TokenVerifier for TrustedIssuers {
    fn verify_token(&self, token: &[u8]) -> VerifyFuture {
        let SentToken { jwt, form } = match SentToken::parse(token) {
            Ok(sent) => sent,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        let (issuers, token) = (self.clone(), jwt.to_vec());
        Box::pin(async move {
            let verified = form.check(issuers.verify_signature(&token).await?)?;
            if let Some(check) = issuers.0.check_of(&verified) {
                let token = str::from_utf8(&token).map_err(|_| TokenError::Malformed)?;
                check.check(token, &verified).await?;
            }
            Ok(verified)
        })
    }

    fn try_verify_now(&self, token: &[u8]) -> Option<Result<VerifiedToken, TokenError>> {
        let SentToken { jwt, form } = match SentToken::parse(token) {
            Ok(sent) => sent,
            Err(error) => return Some(Err(error)),
        };
        let verified = match self.verify(jwt, Last::No) {
            Ok(verified) => verified,
            Err(Undecided::Refused(error)) => return Some(Err(error)),
            Err(Undecided::Wait(..)) => return None,
        };
        let verified = match form.check(verified) {
            Ok(verified) => verified,
            Err(error) => return Some(Err(error)),
        };
        match self.0.check_of(&verified) {
            None => Some(Ok(verified)),
            Some(check) => check.cached(&verified).map(|answer| answer.map(|()| verified)),
        }
    }

    fn verify_for_logout(&self, token: &[u8]) -> VerifyFuture {
        let SentToken { jwt, form } = match SentToken::parse(token) {
            Ok(sent) => sent,
            Err(error) => return Box::pin(ready(Err(error))),
        };
        let (issuers, token) = (self.clone(), jwt.to_vec());
        Box::pin(async move { form.check(issuers.verify_signature(&token).await?) })
    }
}

impl fmt::Debug for TrustedIssuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustedIssuers")
            .field("own", &self.0.own)
            .field("apiml_check", &self.0.apiml)
            .field("zosmf", &self.0.zosmf)
            .field("providers", &self.0.providers)
            .finish()
    }
}

/// The signed parts of a token.
struct Signed<'a> {
    algorithm: Algorithm,
    kid: Option<&'a str>,
    message: &'a str,
    /// The signature in base64url.
    signature: &'a str,
}

impl Signed<'_> {
    fn check(&self, keys: &IssuerKeys, issuer: &str, last: Last) -> Result<(), Undecided> {
        let wait = |need| match last {
            Last::No if keys.should_refresh(need) => Some(Undecided::Wait(keys.clone(), need)),
            _ => None,
        };
        if let Some(wait) = wait(Need::FreshSet) {
            return Err(wait);
        }
        let signature = decode(self.signature)?;
        let message = self.message.as_bytes();
        let checked =
            keys.with_current(|keys| keys.check(self.algorithm, self.kid, message, &signature));
        match checked {
            None => Err(unavailable(issuer).into()),
            Some(Signature::Good) => Ok(()),
            Some(Signature::Bad) => Err(TokenError::Signature.into()),
            Some(Signature::UnknownKey) => {
                Err(wait(Need::UnknownKey).unwrap_or(Undecided::Refused(TokenError::Signature)))
            }
        }
    }
}

/// Whether this is the last attempt to verify a token, which does not wait for keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    No,
    Yes,
}

enum Undecided {
    Refused(TokenError),
    /// The caller must wait for [`IssuerKeys::refresh`], and then verify the token again.
    Wait(IssuerKeys, Need),
}

impl From<TokenError> for Undecided {
    fn from(error: TokenError) -> Self {
        Self::Refused(error)
    }
}

fn unavailable(issuer: &str) -> TokenError {
    TokenError::Unavailable(format!("there are no current keys of {issuer}").into())
}

/// Returns whether the claim `iss` of an encoded payload is the issuer of z/OSMF.
fn names_zosmf(payload: &str) -> bool {
    let Ok(payload) = decode(payload) else { return false };
    let issuer = Payload::parse(&payload).and_then(|claims| claims.issuer());
    issuer.is_ok_and(|issuer| issuer.eq_ignore_ascii_case(ISSUER_ZOSMF))
}

/// The algorithm and the key id in the header of a token. Keys come only from the configured issuer, so the verifier
/// ignores members with a key or the URL of a key (`jwk`, `jku`, `x5c`, `x5u`).
struct Header<'a> {
    alg: Cow<'a, str>,
    kid: Option<Cow<'a, str>>,
}

impl<'a> Header<'a> {
    fn parse(json: &'a [u8]) -> Result<Self, TokenError> {
        #[derive(Deserialize)]
        struct Members<'a> {
            #[serde(borrow)]
            alg: Cow<'a, str>,
            #[serde(borrow, default, deserialize_with = "present")]
            kid: Option<Cow<'a, str>>,
            #[serde(borrow, default, deserialize_with = "present")]
            typ: Option<Cow<'a, str>>,
            #[serde(default, deserialize_with = "present")]
            crit: Option<IgnoredAny>,
        }
        if !is_object(json) {
            return Err(TokenError::Malformed);
        }
        let members: Members<'_> =
            serde_json::from_slice(json).map_err(|_| TokenError::Malformed)?;
        // RFC 7515 §4.1.11: no extension is supported.
        if members.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        // RFC 8725 §3.11: a token of another kind, such as `logout+jwt`, is not a credential.
        const KINDS: [&str; 4] = ["jwt", "at+jwt", "application/jwt", "application/at+jwt"];
        if members.typ.is_some_and(|typ| !KINDS.iter().any(|kind| typ.eq_ignore_ascii_case(kind))) {
            return Err(TokenError::Claims(
                "the type of the token (typ) is not JWT or at+jwt".into(),
            ));
        }
        Ok(Self { alg: members.alg, kid: members.kid })
    }
}

#[cfg(test)]
mod tests;
