//! The header and the claims of login tokens and PATs (docs/reference/tokens-and-revocation.md#jwt,
//! docs/reference/tokens-and-revocation.md#pat).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::KeyId;

/// `{"alg":"RS256"}` in base64url: the header of the tokens that this crate and API ML (Zowe's API Mediation Layer)
/// issue.
pub(super) const OUR_HEADER: &str = "eyJhbGciOiJSUzI1NiJ9";

/// Returns the encoded header of the tokens that a key signs. The header is `{"alg":"RS256"}`, and also has `kid` if
/// the key has an id. An id contains no characters that JSON must escape.
pub(super) fn header(id: Option<&KeyId>) -> String {
    match id {
        None => OUR_HEADER.to_owned(),
        Some(id) => BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"RS256","kid":"{id}"}}"#)),
    }
}

/// `iss` of a login token. The comparison ignores case, as in API ML.
pub(super) const ISSUER_JWT: &str = "APIML";
/// `iss` of a token of z/OSMF (IBM's management server on z/OS). The comparison ignores case, as in API ML.
#[cfg(feature = "remote")]
pub(super) const ISSUER_ZOSMF: &str = "zOSMF";
/// `iss` of a PAT. The comparison ignores case.
pub(super) const ISSUER_PAT: &str = "APIML_PAT";

/// The claims of a token. Each claim except `aud` has exactly one JSON type. Parsing fails if a number is written as a
/// string, or if one of these claims occurs twice. It also fails if a claim other than `aud` is `null`. So a claim with
/// the wrong type cannot cause a check to be skipped (CVE-2026-25537).
#[derive(Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: String,
    pub(super) iat: u64,
    pub(super) exp: u64,
    pub(super) iss: String,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<u64>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(super) jti: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(super) dom: Option<String>,
    #[serde(
        rename = "auth.prov",
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) auth_prov: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(super) scopes: Option<Vec<String>>,
    /// A private claim of this crate: the time when a PAT was issued, in milliseconds. The claim `iat` contains only
    /// whole seconds, but a revocation rule must distinguish PATs that were issued in the same second
    /// (docs/decisions.md#d8).
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(super) iat_ms: Option<u64>,
    /// A private claim of this crate: the only service for which a login token is valid (docs/decisions.md#d23). The
    /// token from a user's login does not have this claim.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(super) for_service: Option<String>,
    /// The audience. Tokens of this crate do not have this claim, and its value is never used. The claim is parsed only
    /// so that a token with two `aud` claims is rejected (RFC 7519 §4).
    #[serde(default, skip_serializing)]
    #[expect(dead_code, reason = "parsing the claim is the check")]
    pub(super) aud: Option<Value>,
}

/// How many seconds the clock of another issuer may be ahead of ours. The expiry is checked without this leeway.
#[cfg(feature = "remote")]
pub(super) const LEEWAY_SECS: u64 = 60;

/// Parses a claim that may be absent, but not `null`.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    d: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}
