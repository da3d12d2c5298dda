//! The claims as they stand in the token (zowe-endpoints §2.1, §2.2).

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// `iss` of a login token; compared without case, as the reference does.
pub(super) const ISSUER_JWT: &str = "APIML";
/// `iss` of a Personal Access Token.
pub(super) const ISSUER_PAT: &str = "APIML_PAT";

/// Every field has the one JSON type it may have: a string where a number belongs, a `null` or
/// the same claim twice is refused while reading, so no check can be skipped by a wrong type
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
    /// When a PAT was issued, to the millisecond: ours alone. `iat` has whole seconds only, and a
    /// rule must tell two tokens of one second apart (design, decision 8).
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(super) iat_ms: Option<u64>,
    /// No token of ours has it and nothing asks for it. It is here to be refused when it stands
    /// twice (RFC 7519 §4).
    #[serde(default, skip_serializing)]
    #[expect(dead_code, reason = "reading it is the check")]
    pub(super) aud: Option<Value>,
}

/// A claim that may be absent but not `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}
