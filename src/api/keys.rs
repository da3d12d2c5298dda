//! `GET keys/public/all` (zowe-endpoints §1.6).

use bytes::Bytes;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use http_body_util::Full;
use serde_json::json;

use super::service::AuthApi;
use crate::token::VerifyingKey;

/// The JWK set (RFC 7517 §5) with `key` alone.
pub(super) fn jwk_set(key: &VerifyingKey) -> Bytes {
    Bytes::from(json!({ "keys": [key.to_jwk()] }).to_string())
}

impl<L, M> AuthApi<L, M> {
    /// Answers with the key that our tokens verify under.
    pub(super) fn public_keys(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.jwk_set.clone()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
