//! `GET keys/public`, `…/all` and `…/current` (zowe-endpoints §1.6).

use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body_util::Full;
use serde_json::json;

use super::service::{AuthApi, typed};
use crate::token::VerifyingKey;

/// The key that our tokens verify under, in the forms in which it is given away.
#[derive(Clone)]
pub(super) struct PublicKey {
    /// RFC 7517 §5, with the one key.
    jwk_set: Bytes,
    pem: Bytes,
}

impl PublicKey {
    pub(super) fn new(key: &VerifyingKey) -> Self {
        let jwk_set = Bytes::from(json!({ "keys": [key.to_jwk()] }).to_string());
        Self { jwk_set, pem: key.to_pem().into() }
    }
}

impl<L, R, S, G, M> AuthApi<L, R, S, G, M> {
    /// Answers with the JWK set. All keys and the current one are the same as long as there is
    /// one key.
    pub(super) fn jwk_set(&self) -> Response<Full<Bytes>> {
        typed(self.shared.public_key.jwk_set.clone(), HeaderValue::from_static("application/json"))
    }

    /// Answers with the key in PEM.
    pub(super) fn public_key_pem(&self) -> Response<Full<Bytes>> {
        typed(self.shared.public_key.pem.clone(), self.compatibility.pem_type())
    }
}
