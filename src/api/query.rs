//! `GET query` (zowe-endpoints §1.3).

use bytes::Bytes;
use http::{Response, request::Parts};
use http_body_util::Full;
use serde::Serialize;

use super::{
    error::ApiError,
    service::{AuthApi, json},
};
use crate::revocation::RevocationStore;

/// What a token says. Exactly these fields: the Java client of Zowe refuses any other.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QueryResponse<'a> {
    domain: Option<&'a str>,
    user_id: &'a str,
    /// Milliseconds since the epoch, as is `expiration`.
    creation: u64,
    expiration: u64,
}

impl<L, R: RevocationStore, S, G, M> AuthApi<L, R, S, G, M> {
    /// Answers with what the login token of the caller says.
    pub(super) async fn query(&self, request: &Parts) -> Result<Response<Full<Bytes>>, ApiError> {
        let jwt = self.login_token(request).await?;
        json(&QueryResponse {
            domain: jwt.domain(),
            user_id: jwt.user().as_str(),
            creation: jwt.issued_at().as_millis(),
            expiration: jwt.expires_at().as_millis(),
        })
    }
}
