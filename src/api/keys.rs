//! `GET keys/public`, `…/all` and `…/current` (docs/reference/auth-endpoints.md#keys).

use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body_util::Full;
use serde_json::json;

use super::{compatibility::Compatibility, response::typed};
use crate::token::VerifyingKey;

#[derive(Clone)]
pub(super) struct PublicKeys {
    /// A JWK set with the signing key (RFC 7517 §5).
    current: Bytes,
    /// A JWK set with all keys. The signing key is the first.
    all: Bytes,
    /// The signing key in PEM.
    pem: Bytes,
}

impl PublicKeys {
    /// Creates the documents. `signing` is the public part of the signing key. `accepted` contains all keys that verify
    /// tokens of this gateway, in any order.
    pub(super) fn new(signing: &VerifyingKey, accepted: &[VerifyingKey]) -> Self {
        let others = accepted.iter().filter(|key| !key.is_same_key(signing));
        let all: Vec<_> = [signing].into_iter().chain(others).map(VerifyingKey::to_jwk).collect();
        let jwk_set = |keys| Bytes::from(json!({ "keys": keys }).to_string());
        Self {
            current: jwk_set(vec![signing.to_jwk()]),
            all: jwk_set(all),
            pem: signing.to_pem().into(),
        }
    }

    pub(super) fn current(&self) -> Response<Full<Bytes>> {
        typed(self.current.clone(), HeaderValue::from_static("application/json"))
    }

    /// Unlike in API ML (Zowe's API Mediation Layer), this set does not contain the keys of identity providers
    /// (docs/decisions.md#d21).
    pub(super) fn all(&self) -> Response<Full<Bytes>> {
        typed(self.all.clone(), HeaderValue::from_static("application/json"))
    }

    pub(super) fn pem(&self, compatibility: Compatibility) -> Response<Full<Bytes>> {
        typed(self.pem.clone(), compatibility.pem_type())
    }
}
