//! `GET query` (docs/reference/auth-endpoints.md#query).

use http::request::Parts;
use serde::Serialize;

use super::{
    login_tokens::LoginTokens,
    response::{Answer, json},
};

/// The content of a login token. Zowe's Java client refuses any other field.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QueryResponse<'a> {
    domain: Option<&'a str>,
    user_id: &'a str,
    /// Milliseconds since the epoch, as is `expiration`.
    creation: u64,
    expiration: u64,
}

/// Answers with the content of the caller's login token.
pub(super) async fn query(request: &Parts, tokens: LoginTokens<'_>) -> Answer {
    let jwt = tokens.require(request).await?;
    json(&QueryResponse {
        domain: jwt.domain(),
        user_id: jwt.user().as_str(),
        creation: jwt.issued_at().as_millis(),
        expiration: jwt.expires_at().as_millis(),
    })
}
