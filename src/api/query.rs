//! `GET query` (docs/reference/auth-endpoints.md#query).

use http::request::Parts;
use serde::Serialize;

use super::{
    login_tokens::LoginTokens,
    response::{Answer, json},
};

/// The content of a login token. Do not add fields: Zowe's Java client refuses unknown fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QueryResponse<'a> {
    domain: Option<&'a str>,
    user_id: &'a str,
    /// When the token was issued, in milliseconds since 1970-01-01.
    creation: u64,
    /// When the token expires, in milliseconds since 1970-01-01.
    expiration: u64,
}

pub(super) async fn query(request: &Parts, tokens: LoginTokens<'_>) -> Answer {
    let jwt = tokens.require_of_any_service(request).await?;
    json(&QueryResponse {
        domain: jwt.domain(),
        user_id: jwt.user().as_str(),
        creation: jwt.issued_at().as_millis(),
        expiration: jwt.expires_at().as_millis(),
    })
}
