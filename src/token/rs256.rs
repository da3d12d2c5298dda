//! Verifies login tokens and Personal Access Tokens (PATs). One of the configured keys must have signed the token with
//! RS256, and the claim `iss` of the token must be `APIML` or `APIML_PAT`.

use std::{
    future::ready,
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;

#[cfg(feature = "remote")]
use super::{
    Algorithm, IssuerKeys,
    claims::{ISSUER_ZOSMF, LEEWAY_SECS},
    key_set::Signature,
};
use super::{
    Scopes, ServiceId, TokenError, TokenFingerprint, TokenVerifier, VerifiedToken, VerifyFuture,
    VerifyingKey,
    cache::TokenCache,
    claims::{Claims, ISSUER_JWT, ISSUER_PAT, OUR_HEADER},
    pat_form::SentToken,
    verified::{Jwt, JwtClaims, Pat, PatClaims, PatText, TokenOrigin},
};
use crate::{
    clock::{Clock, SystemClock, Timestamp},
    passticket::UserId,
};

/// The [`TokenVerifier`] for login tokens and Personal Access Tokens (PATs). [`TokenIssuer`](super::TokenIssuer) and
/// API ML (Zowe's API Mediation Layer) issue such tokens. The verifier has one or more public keys. One of them must
/// verify the signature of the token.
///
/// # Rotation of the signing key
/// With several keys, you can replace the signing key without logging any user out:
///
/// 1. Add the new key to all verifiers ([`with_key`](Self::with_key)).
/// 2. Sign all new tokens with the new key.
/// 3. When all tokens that the old key signed have expired, remove the old key.
#[derive(Clone, Debug)]
pub struct Rs256Verifier {
    keys: Arc<[VerifyingKey]>,
    #[cfg(feature = "remote")]
    apiml: Option<IssuerKeys>,
    /// Whether to accept PATs that API ML has signed. If so, the caller must ask API ML whether they are revoked.
    #[cfg(feature = "remote")]
    apiml_pats: bool,
    clock: Arc<dyn Clock>,
    cache: Option<Arc<TokenCache>>,
    keeps_pat_texts: bool,
}

impl Rs256Verifier {
    /// Creates a verifier that uses the system clock and has no cache.
    pub fn new(key: VerifyingKey) -> Self {
        Self {
            keys: Arc::new([key]),
            #[cfg(feature = "remote")]
            apiml: None,
            #[cfg(feature = "remote")]
            apiml_pats: false,
            clock: Arc::new(SystemClock),
            cache: None,
            keeps_pat_texts: false,
        }
    }

    /// Also accepts tokens that this key verifies. Keys are tried in the order in which they were added, with one
    /// exception: if a token has exactly the header that this crate writes for one of the keys, this key is tried
    /// first. The header contains the id of the key, if the key has one ([`VerifyingKey::key_id`]). A token with a
    /// wrong signature costs one check for each key.
    ///
    /// The new verifier does not share a cache with `self`.
    #[must_use]
    pub fn with_key(mut self, key: VerifyingKey) -> Self {
        self.keys = self.keys.iter().cloned().chain([key]).collect();
        // Verifiers that share a cache must have the same keys.
        self.cache = self.cache.map(|cache| Arc::new(cache.empty_like()));
        #[cfg(feature = "remote")]
        self.watch_apiml_keys();
        self
    }

    /// Also accepts login tokens that Zowe API ML has signed with one of these keys. Use only keys of API ML itself.
    /// The list `keys/public/all` of API ML also contains the keys of identity providers. If this verifier had the key
    /// of a provider, the provider could sign a token for any user (docs/decisions.md#d21).
    ///
    /// PATs of API ML are refused, because this verifier does not know which of them API ML has revoked. To accept
    /// them, use [`TrustedIssuers::with_apiml_check`](super::TrustedIssuers::with_apiml_check). [`TokenOrigin`] shows
    /// whose key has verified a token. The gateway's own keys are tried first.
    ///
    /// This verifier does not fetch keys. It uses the keys that `keys` has already fetched.
    /// [`TrustedIssuers`](super::TrustedIssuers) fetches keys when a token needs them. The new verifier does not share
    /// a cache with `self`.
    #[cfg(feature = "remote")]
    #[must_use]
    pub fn with_apiml_keys(mut self, keys: IssuerKeys) -> Self {
        self.apiml = Some(keys);
        self.cache = self.cache.map(|cache| Arc::new(cache.empty_like()));
        self.watch_apiml_keys();
        self
    }

    /// Returns the keys of [`new`](Self::new) and [`with_key`](Self::with_key), in the order in which they were added.
    pub fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }

    /// Uses `clock` instead of the system clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Caches up to `tokens` verified tokens. For a cached token, the verifier computes a hash and does not check the
    /// signature again. It rejects a cached token that has expired. The cache contains no text of a token, unless
    /// [`with_pat_texts`](Self::with_pat_texts) is used. Clones of the verifier share the cache.
    ///
    /// The cache needs less than 400 bytes for each token (`benches/memory.rs`). A PAT with many scopes needs more
    /// bytes, and counts as several tokens.
    #[must_use]
    pub fn with_cache(mut self, tokens: NonZeroUsize) -> Self {
        self.cache = Some(Arc::new(TokenCache::new(tokens)));
        #[cfg(feature = "remote")]
        self.watch_apiml_keys();
        self
    }

    /// Keeps the compact form of each verified PAT in memory ([`Pat::expose`]). Some revocation stores, such as Zowe's
    /// Caching Service, find PATs by a hash of this form. Other stores do not need this form. By default, the verifier
    /// keeps no text of a token.
    ///
    /// In the cache, a PAT with a long text counts as several tokens. The new verifier does not share a cache with
    /// `self`.
    #[must_use]
    pub fn with_pat_texts(mut self) -> Self {
        self.keeps_pat_texts = true;
        // PATs that are already cached have no text.
        self.cache = self.cache.map(|cache| Arc::new(cache.empty_like()));
        #[cfg(feature = "remote")]
        self.watch_apiml_keys();
        self
    }

    /// Verifies a token in its compact form (RFC 7515 §3.1), or a PAT with prefix and checksum
    /// ([`TokenIssuer::with_pat_prefix`](super::TokenIssuer::with_pat_prefix)):
    /// - A key of this verifier must have signed the token with RS256.
    /// - The token must not have expired (`now < exp`).
    /// - If the token has a claim `nbf`, it must not be in the future (`nbf <= now`).
    /// - If a key of API ML has signed the token, `iat` must be at most one minute in the future.
    /// - Each claim must have the right type, and `iss` must be `APIML` or `APIML_PAT`.
    /// - If the token has the prefix `zowepat_`, its checksum must be right, and it must be a PAT. The checksum is
    ///   checked first.
    ///
    /// Revocations are not checked.
    ///
    /// # Errors
    /// [`TokenError`] for the first problem that this function finds. The signature is checked before the claims are
    /// read.
    pub fn verify(&self, token: &str) -> Result<VerifiedToken, TokenError> {
        self.verify_bytes(token.as_bytes())
    }

    /// Does the same as [`verify`](Self::verify) for bytes. If the token is cached, the bytes are not checked for
    /// UTF-8.
    fn verify_bytes(&self, token: &[u8]) -> Result<VerifiedToken, TokenError> {
        let SentToken { jwt, form } = SentToken::parse(token)?;
        let uncached = || {
            let token = str::from_utf8(jwt).map_err(|_| TokenError::Malformed)?;
            self.verify_uncached(token, By::Any)
        };
        let verified = match &self.cache {
            Some(cache) => cache.get_or_verify(jwt, self.clock.now(), uncached)?,
            None => uncached()?,
        };
        form.check(verified)
    }

    pub(super) fn verify_uncached(&self, token: &str, by: By) -> Result<VerifiedToken, TokenError> {
        // We do not use `jsonwebtoken::decode`. It takes a third longer, because it parses the key for each token, and
        // reads header and claims twice. Its checks of `exp` and `nbf` allow a leeway of a minute, and do not use the
        // clock of the verifier.
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let named = self.keys.iter().position(|key| key.header() == header);
        let known = named.is_some() || header == OUR_HEADER;
        let has_critical = !known && has_critical_extensions(token, header)?;
        let (message, signature) = (message.as_bytes(), decode(signature)?);
        let origin = self.signer(by, named.unwrap_or(0), message, &signature);
        let origin = origin.ok_or(TokenError::Signature)?;
        let claims = parse_claims(&decode(payload)?)?;
        // A token with a critical extension is not valid if we do not support the extension (RFC 7515 §4.1.11). We
        // support none.
        if has_critical {
            return Err(TokenError::Malformed);
        }
        self.check(token, claims, origin)
    }

    /// Finds out whose key has signed `message`. Our own keys are tried first. So if API ML and the gateway have the
    /// same key, the origin of the tokens of both is [`TokenOrigin::Gateway`] (docs/decisions.md#d48).
    fn signer(
        &self,
        by: By,
        first: usize,
        message: &[u8],
        signature: &[u8],
    ) -> Option<TokenOrigin> {
        let is_tried = |only: By| by == only || by == By::Any;
        if is_tried(By::Gateway) && self.has_signed(first, message, signature) {
            return Some(TokenOrigin::Gateway);
        }
        #[cfg(feature = "remote")]
        if is_tried(By::Apiml)
            && let Some(keys) = &self.apiml
        {
            // The caller has already checked that the header names RS256.
            let checked =
                keys.with_current(|keys| keys.check(Algorithm::Rs256, None, message, signature));
            return (checked == Some(Signature::Good)).then_some(TokenOrigin::Apiml);
        }
        None
    }

    /// Returns whether one of the keys has signed `message`. The key `first` is tried first. Then all others are tried,
    /// because another program may use other ids for the same keys.
    fn has_signed(&self, first: usize, message: &[u8], signature: &[u8]) -> bool {
        let others = self.keys.iter().enumerate().filter(|(index, _)| *index != first);
        self.keys[first].has_signed(message, signature)
            || others.into_iter().any(|(_, key)| key.has_signed(message, signature))
    }

    /// Checks the claims of a token that a key of `origin` has signed.
    pub(super) fn check(
        &self,
        token: &str,
        claims: Claims,
        origin: TokenOrigin,
    ) -> Result<VerifiedToken, TokenError> {
        let now = self.clock.now().as_secs();
        if claims.exp <= now {
            return Err(TokenError::Expired { secs_ago: now - claims.exp });
        }
        if let Some(nbf) = claims.nbf.filter(|nbf| *nbf > now) {
            return Err(TokenError::NotYetValid { in_secs: nbf - now });
        }
        // `iat` is not checked for our own tokens. So they stay valid if the gateway's clock was ahead when it issued
        // them. Revocation rules can also revoke tokens whose `iat` is in the future (docs/decisions.md#d8).
        #[cfg(feature = "remote")]
        if origin != TokenOrigin::Gateway && claims.iat > now.saturating_add(LEEWAY_SECS) {
            return Err(TokenError::NotYetValid { in_secs: claims.iat - now });
        }
        let user = || UserId::new(&claims.sub).map_err(TokenError::Subject);
        let expires_at = Timestamp::from_secs(claims.exp);
        if claims.iss.eq_ignore_ascii_case(login_issuer(origin)) {
            let service = claims.for_service.as_deref().map(ServiceId::new).transpose();
            let service = service
                .map_err(|_| TokenError::Claims("`for_service` is not a service id".into()))?;
            return Ok(VerifiedToken::Jwt(Jwt::new(JwtClaims {
                user: user()?,
                issued_at: Timestamp::from_secs(claims.iat),
                expires_at,
                domain: claims.dom.map(Box::from),
                service,
                origin,
                fingerprint: TokenFingerprint::of(token),
            })));
        }
        if claims.iss.eq_ignore_ascii_case(ISSUER_PAT) && self.accepts_pats_of(origin) {
            let Some(scopes) = &claims.scopes else {
                return Err(TokenError::Claims("missing field `scopes`".into()));
            };
            return Ok(VerifiedToken::Pat(Pat::new(PatClaims {
                user: user()?,
                scopes: Scopes::from_claim(scopes),
                issued_at: issued_at(&claims),
                expires_at,
                origin,
                fingerprint: TokenFingerprint::of(token),
                text: self.keeps_pat_texts.then(|| PatText::new(token)),
                expiry_header: OnceLock::new(),
            })));
        }
        Err(TokenError::Issuer)
    }

    fn accepts_pats_of(&self, origin: TokenOrigin) -> bool {
        match origin {
            TokenOrigin::Gateway => true,
            #[cfg(feature = "remote")]
            TokenOrigin::Apiml => self.apiml_pats,
            _ => false,
        }
    }
}

/// Returns the claim `iss` that a login token must have if a key of `origin` has verified it.
fn login_issuer(origin: TokenOrigin) -> &'static str {
    match origin {
        #[cfg(feature = "remote")]
        TokenOrigin::Zosmf => ISSUER_ZOSMF,
        _ => ISSUER_JWT,
    }
}

pub(super) fn parse_claims(payload: &[u8]) -> Result<Claims, TokenError> {
    if !is_object(payload) {
        return Err(TokenError::Malformed);
    }
    serde_json::from_slice(payload).map_err(|e| {
        if e.is_data() { TokenError::Claims(claim_problem(&e)) } else { TokenError::Malformed }
    })
}

/// Functions for [`TrustedIssuers`](super::TrustedIssuers).
#[cfg(feature = "remote")]
impl Rs256Verifier {
    /// Makes the cached tokens invalid when API ML withdraws a key.
    fn watch_apiml_keys(&self) {
        if let (Some(cache), Some(keys)) = (&self.cache, &self.apiml) {
            keys.invalidate(&cache.generation());
        }
    }

    pub(super) fn with_empty_cache(mut self) -> Self {
        self.cache = self.cache.map(|cache| Arc::new(cache.empty_like()));
        self.watch_apiml_keys();
        self
    }

    /// Accepts PATs of API ML. The caller must ask API ML whether they are revoked.
    pub(super) fn with_apiml_pats(self) -> Self {
        Self { apiml_pats: true, ..self }
    }

    pub(super) fn cache(&self) -> Option<&TokenCache> {
        self.cache.as_deref()
    }

    pub(super) fn apiml_keys(&self) -> Option<&IssuerKeys> {
        self.apiml.as_ref()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn is_header_of_a_key(&self, header: &str) -> bool {
        self.keys.iter().any(|key| key.header() == header)
    }
}

/// The owner of the keys that are tried.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "remote"), expect(dead_code, reason = "TrustedIssuers uses all of them"))]
pub(super) enum By {
    Gateway,
    Apiml,
    Any,
}

impl TokenVerifier for Rs256Verifier {
    fn verify_token(&self, token: &[u8]) -> VerifyFuture {
        Box::pin(ready(self.verify_bytes(token)))
    }

    fn try_verify_now(&self, token: &[u8]) -> Option<Result<VerifiedToken, TokenError>> {
        Some(self.verify_bytes(token))
    }
}

/// Returns whether the header of `token` lists critical extensions. `header` is the encoded text of this header.
///
/// # Errors
/// [`TokenError::Algorithm`] if the header names an algorithm other than RS256. [`TokenError::Malformed`] if the header
/// is not valid for another reason.
fn has_critical_extensions(token: &str, header: &str) -> Result<bool, TokenError> {
    match (jsonwebtoken::decode_header(token), algorithm(header)) {
        (_, Some(other)) if other != "RS256" => Err(TokenError::Algorithm),
        (Ok(parsed), Some(_)) => Ok(parsed.crit.is_some()),
        _ => Err(TokenError::Malformed),
    }
}

/// Returns the algorithm in the encoded text of a header, if the header is a JSON object and `alg` is a string. The
/// crate jsonwebtoken cannot do this, because it returns the same error for an unknown algorithm, such as `none`, and
/// for a text that is not JSON. It also accepts `{"alg": {"RS256": null}}`, in which `alg` is not a string.
fn algorithm(header: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
    }
    let json = decode(header).ok().filter(|json| is_object(json))?;
    serde_json::from_slice(&json).ok().map(|Header { alg }| alg)
}

/// Returns whether a JSON text is an object. The header and the claims of a JWT must be objects (RFC 7515 §4, RFC 7519
/// §7.2), but serde also reads a struct from an array. If the text is not valid JSON, the result has no meaning.
pub(super) fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}

/// Decodes the header, the payload or the signature of a token from base64url.
pub(super) fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)
}

/// Returns the issue time. This is our private claim `iat_ms` (in milliseconds) if it is in the same second as `iat`.
/// Otherwise it is `iat`.
fn issued_at(claims: &Claims) -> Timestamp {
    claims
        .iat_ms
        .map(Timestamp::from_millis)
        .filter(|precise| precise.as_secs() == claims.iat)
        .unwrap_or(Timestamp::from_secs(claims.iat))
}

/// Returns the error text of serde without the position in the JSON, cut to 120 characters. The text names a claim that
/// is missing, occurs twice, or has a wrong type. The text may contain the value of the claim with the wrong type, but
/// no value of another claim.
fn claim_problem(error: &serde_json::Error) -> Box<str> {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    text.chars().filter(|c| !c.is_control()).take(120).collect::<String>().into()
}

#[cfg(test)]
mod tests;
