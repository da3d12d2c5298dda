//! An OpenID Connect provider whose tokens are accepted, and the checks of their claims.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashSet},
};

use serde_json::Value;

use super::{
    Algorithm, ExternalClaims, IssuerKeys, IssuerUrl, TokenError,
    claims::LEEWAY_SECS,
    payload::{Claim, Payload},
};
use crate::{
    clock::Timestamp,
    identity::{DistributedIdentity, Registry},
};

/// The maximum number of audiences of a token.
const MAX_AUDIENCES: usize = 64;

/// An OpenID Connect provider whose tokens are accepted, or another OAuth 2.0 server that issues JWTs.
///
/// A token is accepted if all of these are true:
///
/// - Its claim `iss` is exactly the issuer. A URL with a slash at the end and the same URL without it are different
///   issuers.
/// - One of the provider's own keys has signed it, with one of the accepted algorithms.
/// - `aud` contains one of the audiences.
/// - If `aud` has several values, or if authorized parties are set, the claim `azp` is one of the authorized parties.
///   If no authorized parties are set, the audiences are the authorized parties (OpenID Connect Core §3.1.3.7).
/// - Its header has no critical extension (`crit`). Its type (`typ`) is absent, or one of `JWT`, `at+jwt`,
///   `application/jwt` and `application/at+jwt`.
/// - It has not expired, and the times in `nbf` and `iat` are at most one minute in the future.
/// - It is not a security event (`events`).
/// - It is not bound to a key of the client (`cnf`), because this crate cannot check that the client has this key.
/// - It names a user. The result is a [`DistributedIdentity`] in the registry of the provider. A
///   [`DistributedMapper`](crate::identity::DistributedMapper) maps this identity to a user id (docs/decisions.md#d22).
///
/// ```
/// use tower_passticket::{
///     identity::Registry,
///     token::{Algorithm, IssuerKeys, IssuerUrl, OidcIssuer},
/// };
///
/// # fn keys() -> IssuerKeys {
/// #     let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
/// #     let key = tower_passticket::token::VerifyingKey::from_pem(pem.unwrap().public_key_pem().as_bytes());
/// #     IssuerKeys::fixed(&key.unwrap())
/// # }
/// let registry = Registry::new("ldaps://idp.example.com")?;
/// let issuer = IssuerUrl::new("https://idp.example.com/")?;
/// let provider = OidcIssuer::new(issuer, "zos-gateway", registry, keys())
///     .with_algorithms([Algorithm::Rs256, Algorithm::Es256])
///     .with_user_id_fields(["email", "identities.zos.userid"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct OidcIssuer {
    issuer: IssuerUrl,
    audiences: Vec<Box<str>>,
    authorized_parties: Vec<Box<str>>,
    algorithms: Vec<Algorithm>,
    user_id_fields: Vec<Box<str>>,
    registry: Registry,
    keys: IssuerKeys,
    /// The wanted values, by the name of the claim. Of each claim, only these values are kept. The claims `act` and
    /// `may_act` are always kept.
    kept: BTreeMap<Box<str>, HashSet<Box<str>>>,
}

impl OidcIssuer {
    /// Accepts tokens of `issuer` whose claim `aud` contains `audience`. `registry` is the name of the user registry
    /// that contains the users of these tokens. All `keys` must belong to this issuer. By default, the algorithm is
    /// RS256, and the claim `sub` names the user.
    ///
    /// An empty `audience` matches no token.
    pub fn new(
        issuer: IssuerUrl,
        audience: impl Into<Box<str>>,
        registry: Registry,
        keys: IssuerKeys,
    ) -> Self {
        Self {
            issuer,
            audiences: vec![audience.into()],
            authorized_parties: Vec::new(),
            algorithms: vec![Algorithm::Rs256],
            user_id_fields: vec!["sub".into()],
            registry,
            keys,
            kept: BTreeMap::new(),
        }
    }

    /// Also accepts tokens for this audience.
    #[must_use]
    pub fn with_audience(mut self, audience: impl Into<Box<str>>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Sets the authorized parties, which are clients of the provider. If `parties` is not empty, the claim `azp` of
    /// each token must be one of them.
    #[must_use]
    pub fn with_authorized_parties(
        mut self,
        parties: impl IntoIterator<Item = impl Into<Box<str>>>,
    ) -> Self {
        self.authorized_parties = parties.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the accepted algorithms. If `algorithms` is empty, no token is accepted.
    #[must_use]
    pub fn with_algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// Sets the claims that may name the user. The first claim of `fields` that the token contains names the user. A
    /// claim with the value `null` counts as missing. If the first claim has an unusable value, the token is refused,
    /// and no later claim is tried. If `fields` is empty, no token is accepted.
    ///
    /// A field is the name of a claim, or a path into nested objects with dots between the names. If a claim has the
    /// whole field as its name, with the dots, this claim is used instead of the path. The value must be a string,
    /// or an array with exactly one string.
    ///
    /// If the field is `email`, the claim `email_verified` must be `true` or the string `"true"`, because many
    /// providers let users enter any address.
    #[must_use]
    pub fn with_user_id_fields(
        mut self,
        fields: impl IntoIterator<Item = impl Into<Box<str>>>,
    ) -> Self {
        self.user_id_fields = fields.into_iter().map(Into::into).collect();
        self
    }

    /// Keeps this value of a claim, if a token has it. Later layers can read it with
    /// [`ExternalToken::claim`](super::ExternalToken::claim), which then returns a list of texts. All other values of
    /// the claim are dropped, so that a token needs little memory. Only the claims `act` and `may_act` are always kept
    /// whole.
    ///
    /// `claim` is a name or a path with dots, as in [`with_user_id_fields`](Self::with_user_id_fields). The claim may
    /// be a text or a list of texts. A text in `scope` (RFC 8693 §4.2) or `scp` (Entra ID) is a list whose items are
    /// separated by spaces. A text in any other claim is one value, even if it contains spaces. Otherwise, the group `x
    /// admin` would count as the group `admin`. Values that are not texts are not kept.
    #[must_use]
    pub fn with_kept_value(
        mut self,
        claim: impl Into<Box<str>>,
        value: impl Into<Box<str>>,
    ) -> Self {
        self.kept.entry(claim.into()).or_default().insert(value.into());
        self
    }

    /// Returns the issuer.
    pub fn issuer(&self) -> &IssuerUrl {
        &self.issuer
    }

    /// Returns the keys.
    pub fn keys(&self) -> &IssuerKeys {
        &self.keys
    }

    pub(super) fn accepts(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Checks the claims of a token whose signature was checked.
    pub(super) fn check(
        &self,
        claims: &Payload<'_>,
        now: Timestamp,
    ) -> Result<ExternalClaims, TokenError> {
        if claims.issuer()? != self.issuer.as_str() {
            return Err(TokenError::Issuer);
        }
        // A security event (RFC 8417), such as a logout token, does not authenticate a user.
        if claims.claim("events")?.is_some() {
            return Err(problem("events: the token is a security event"));
        }
        // The token is bound to a key (RFC 7800): only a client that proves that it has this key may use the token.
        // This crate cannot check such a proof, so it would accept a stolen token.
        if claims.claim("cnf")?.is_some() {
            return Err(problem("cnf: tokens that are bound to a key are not supported"));
        }
        let now = now.as_secs();
        let expires_at = seconds(claims, "exp")?.ok_or_else(|| problem("exp is missing"))?;
        if expires_at <= now {
            return Err(TokenError::Expired { secs_ago: now - expires_at });
        }
        let (not_before, issued_at) = (seconds(claims, "nbf")?, seconds(claims, "iat")?);
        for time in [not_before, issued_at].into_iter().flatten() {
            if time > now.saturating_add(LEEWAY_SECS) {
                return Err(TokenError::NotYetValid { in_secs: time - now });
            }
        }
        self.check_audience(claims)?;
        let name = self.user(claims)?;
        let user = DistributedIdentity::in_registry(&name, &self.registry)
            // The problem contains only the violated rule. The whole `error` also contains the name, which is personal
            // data.
            .map_err(|error| problem(&format!("the name of the user {}", error.rule())))?;
        let expires_at = Timestamp::from_secs(expires_at);
        let verified = ExternalClaims::new(user, self.issuer.as_str(), expires_at);
        let mut verified = self.keep_values(verified, claims)?;
        // The token exchange needs these claims (RFC 8693 §4.1, §4.4).
        for name in ["act", "may_act"] {
            if let Some(claim) = claims.claim(name)? {
                verified = verified.with_claim(name, claim.value().ok_or(TokenError::Malformed)?);
            }
        }
        Ok(match issued_at {
            Some(at) => verified.with_issued_at(Timestamp::from_secs(at)),
            None => verified,
        })
    }

    fn keep_values(
        &self,
        verified: ExternalClaims,
        claims: &Payload<'_>,
    ) -> Result<ExternalClaims, TokenError> {
        self.kept.iter().try_fold(verified, |verified, (name, wanted)| {
            let value = match claims.claim(name)? {
                Some(claim) => Some(claim.value().ok_or(TokenError::Malformed)?),
                None => at_path(claims, name)?,
            };
            let is_separated = matches!(&**name, "scope" | "scp");
            let texts: Vec<&str> = match &value {
                Some(Value::String(text)) if is_separated => text.split(' ').collect(),
                Some(Value::String(text)) => vec![text],
                Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            };
            // This is a set, because a token may repeat a value thousands of times.
            let kept: BTreeSet<_> =
                texts.into_iter().filter(|text| wanted.contains(*text)).collect();
            Ok(match kept.is_empty() {
                true => verified,
                false => verified.with_claim(&**name, kept.into_iter().map(Value::from).collect()),
            })
        })
    }

    fn check_audience(&self, claims: &Payload<'_>) -> Result<(), TokenError> {
        let has = |list: &[Box<str>], text: &str| {
            !text.is_empty() && list.iter().any(|item| **item == *text)
        };
        let audience = claims.claim("aud")?.ok_or_else(|| problem("aud is missing"))?;
        let (is_accepted, is_single) = match audience.text() {
            Some(text) => (has(&self.audiences, &text), true),
            None => {
                let items = audience.list().filter(|items| items.len() <= MAX_AUDIENCES);
                let items = items.ok_or_else(|| {
                    problem("aud is neither a string nor an array of at most 64 strings")
                })?;
                let texts: Option<Vec<_>> = items.iter().map(|item| item.text()).collect();
                let texts =
                    texts.ok_or_else(|| problem("aud has an element that is not a string"))?;
                (texts.iter().any(|text| has(&self.audiences, text)), texts.len() == 1)
            }
        };
        if !is_accepted {
            return Err(problem("aud does not contain an accepted audience"));
        }
        let party = match claims.claim("azp")? {
            None => None,
            Some(party) => Some(party.text().ok_or_else(|| problem("azp is not a string"))?),
        };
        let parties = match self.authorized_parties.as_slice() {
            [] if is_single => return Ok(()),
            [] => &self.audiences,
            parties => parties,
        };
        match party {
            Some(party) if has(parties, &party) => Ok(()),
            Some(_) => Err(problem("azp is not an accepted client")),
            None => Err(problem("azp is missing")),
        }
    }

    fn user<'a>(&self, claims: &Payload<'a>) -> Result<Cow<'a, str>, TokenError> {
        for field in &self.user_id_fields {
            let name = match claims.claim(field)? {
                Some(claim) if claim.is_null() => continue,
                Some(claim) => name_of_user(claim, field)?,
                None => match at_path(claims, field)? {
                    None | Some(Value::Null) => continue,
                    Some(value) => Cow::Owned(name_at_path(value, field)?),
                },
            };
            // Many providers let users enter any address, and do not check that it belongs to the user.
            if **field == *"email" && !has_verified_email(claims)? {
                return Err(problem("email_verified is not true"));
            }
            return Ok(name);
        }
        Err(problem("no claim names the user"))
    }
}

fn name_of_user<'a>(claim: Claim<'a>, field: &str) -> Result<Cow<'a, str>, TokenError> {
    if let Some(text) = claim.text() {
        return Ok(text);
    }
    let Some(items) = claim.list() else { return Err(not_a_text(field)) };
    match items.as_slice() {
        [item] => item.text().ok_or_else(|| not_one_text(field)),
        _ => Err(not_one_text(field)),
    }
}

/// Does the same as [`name_of_user`] for a value in a nested object.
fn name_at_path(value: Value, field: &str) -> Result<String, TokenError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Array(items) => match <[Value; 1]>::try_from(items) {
            Ok([Value::String(text)]) => Ok(text),
            _ => Err(not_one_text(field)),
        },
        _ => Err(not_a_text(field)),
    }
}

fn not_a_text(field: &str) -> TokenError {
    problem(&format!("{field} is not a string"))
}

fn not_one_text(field: &str) -> TokenError {
    problem(&format!("{field} is an array, but not of exactly one string"))
}

/// Returns the value at a path into nested objects, with dots between the names.
fn at_path(claims: &Payload<'_>, path: &str) -> Result<Option<Value>, TokenError> {
    let Some((first, rest)) = path.split_once('.') else { return Ok(None) };
    let Some(claim) = claims.claim(first)? else { return Ok(None) };
    let value = claim.value().ok_or(TokenError::Malformed)?;
    let nested = rest.split('.').try_fold(value, |value, name| match value {
        Value::Object(mut members) => members.remove(name),
        _ => None,
    });
    Ok(nested)
}

fn has_verified_email(claims: &Payload<'_>) -> Result<bool, TokenError> {
    let verified = claims.claim("email_verified")?;
    Ok(verified
        .is_some_and(|claim| claim.is_true() || claim.text().is_some_and(|text| text == "true")))
}

/// Reads a claim with a time in whole seconds. Returns an error if the claim has another type, so that a wrong type
/// cannot skip the check of this time.
fn seconds(claims: &Payload<'_>, name: &str) -> Result<Option<u64>, TokenError> {
    let Some(claim) = claims.claim(name)? else { return Ok(None) };
    let error = || problem(&format!("{name} is not an integer, or is negative"));
    claim.number().map(Some).ok_or_else(error)
}

fn problem(text: &str) -> TokenError {
    TokenError::Claims(text.chars().take(120).collect::<String>().into())
}

/// Two providers have the same issuer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the issuer {0} occurs twice; keep one of them")]
pub struct DuplicateIssuer(pub(super) IssuerUrl);
