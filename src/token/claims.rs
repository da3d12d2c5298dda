//! Header and claims of our tokens (docs/reference/tokens-and-revocation.md#jwt,
//! docs/reference/tokens-and-revocation.md#pat).

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// `{"alg":"RS256"}`: the header of the reference, and of our tokens.
pub(super) const OUR_HEADER: &str = "eyJhbGciOiJSUzI1NiJ9";

/// `iss` of a login token. Compared without case, as in the reference.
pub(super) const ISSUER_JWT: &str = "APIML";
/// `iss` of a Personal Access Token.
pub(super) const ISSUER_PAT: &str = "APIML_PAT";

/// Every field has exactly one JSON type. A string in the place of a number, a `null`, and a claim
/// that occurs twice are refused while reading, so a wrong type cannot skip a check
/// (CVE-2026-25537).
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
    /// When a PAT was issued, in milliseconds: a private claim of ours. `iat` has whole seconds, and
    /// a rule must distinguish two tokens of one second (docs/decisions.md#d8).
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(super) iat_ms: Option<u64>,
    /// Our tokens do not have it and no check uses it. It is read so that it is refused when it
    /// occurs twice (RFC 7519 §4).
    #[serde(default, skip_serializing)]
    #[expect(dead_code, reason = "reading it is the check")]
    pub(super) aud: Option<Value>,
}

/// A claim that may be absent but not `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}
