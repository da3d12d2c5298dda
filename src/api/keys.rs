//! `GET keys/public`, `…/all` and `…/current` (docs/reference/auth-endpoints.md#keys).

use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body_util::Full;
use serde_json::json;

use super::{compatibility::Compatibility, response::typed};
use crate::token::VerifyingKey;

/// The public key that verifies the gateway's tokens, in two formats.
#[derive(Clone)]
pub(super) struct PublicKeys {
    /// A JWK set that contains only this key (RFC 7517 §5).
    jwk_set: Bytes,
    pem: Bytes,
}

impl PublicKeys {
    pub(super) fn new(key: &VerifyingKey) -> Self {
        let jwk_set = Bytes::from(json!({ "keys": [key.to_jwk()] }).to_string());
        Self { jwk_set, pem: key.to_pem().into() }
    }

    /// Answers with the JWK set. `…/all` and `…/current` have the same answer, because there is only one key.
    pub(super) fn jwk_set(&self) -> Response<Full<Bytes>> {
        typed(self.jwk_set.clone(), HeaderValue::from_static("application/json"))
    }

    /// Answers with the key in PEM.
    pub(super) fn pem(&self, compatibility: Compatibility) -> Response<Full<Bytes>> {
        typed(self.pem.clone(), compatibility.pem_type())
    }
}
