//! Personal Access Tokens in JSON responses.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::ACCEPT};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    error::ApiError,
    response::{Answer, typed},
    rfc3339,
};
use crate::{
    clock::Timestamp,
    revocation::{AccessToken, AccessTokenState},
    token::IssuedToken,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenEntry {
    id: String,
    user: String,
    name: Option<String>,
    description: String,
    scopes: Vec<String>,
    created_at: String,
    expires_at: String,
    last_used_at: Option<String>,
    last_used_from: Option<String>,
    last_used_service: Option<String>,
    state: &'static str,
}

impl From<AccessToken> for TokenEntry {
    fn from(token: AccessToken) -> Self {
        let last_use = token.last_use.as_ref();
        Self {
            id: token.id.to_string(),
            user: token.user.to_string(),
            name: token.name.as_ref().map(ToString::to_string),
            description: token.description.as_str().to_owned(),
            scopes: token.scopes.iter().map(ToString::to_string).collect(),
            created_at: rfc3339::write(token.created_at),
            expires_at: rfc3339::write(token.expires_at),
            last_used_at: last_use.map(|last| rfc3339::write(last.at)),
            last_used_from: last_use.and_then(|last| last.from).map(|from| from.to_string()),
            last_used_service: last_use
                .and_then(|last| last.service.as_ref())
                .map(ToString::to_string),
            state: match token.state {
                AccessTokenState::Active => "active",
                AccessTokenState::Expired => "expired",
                AccessTokenState::Revoked => "revoked",
            },
        }
    }
}

#[derive(Serialize)]
pub(super) struct TokenPage {
    pub(super) tokens: Vec<TokenEntry>,
    pub(super) next: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Permissions<'a> {
    pub(super) user: &'a str,
    /// See and revoke the tokens of other users.
    pub(super) manage_tokens: bool,
    /// Remove expired revocations.
    pub(super) evict: bool,
}

/// The numbers of removed revocations.
#[derive(Serialize)]
pub(super) struct EvictedCounts {
    /// Revocations of single tokens.
    pub(super) tokens: usize,
    /// Rules for users.
    pub(super) users: usize,
    /// Rules for services.
    pub(super) services: usize,
}

/// The response with a new token. No other response of the registry contains a token.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewToken<'a> {
    id: Option<String>,
    token: &'a str,
    name: Option<String>,
    scopes: Vec<String>,
    created_at: String,
    expires_at: String,
}

/// The facts about a new token in the response.
pub(super) struct NewTokenFacts {
    pub(super) entry: Option<AccessToken>,
    pub(super) scopes: Vec<String>,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

/// Answers with a new token.
///
/// # Errors
/// [`ApiError::Internal`] if the response cannot be serialized.
pub(super) fn new_token(issued: &IssuedToken, facts: NewTokenFacts) -> Answer {
    let NewTokenFacts { entry, scopes, created_at, expires_at } = facts;
    let response = NewToken {
        id: entry.as_ref().map(|entry| entry.id.to_string()),
        token: issued.expose(),
        name: entry.and_then(|entry| entry.name).map(|name| name.to_string()),
        scopes,
        created_at: rfc3339::write(created_at),
        expires_at: rfc3339::write(expires_at),
    };
    let text = serde_json::to_vec(&response).map(Zeroizing::new).map_err(|error| {
        tracing::error!(%error, "the response with a new token could not be serialized");
        ApiError::Internal
    })?;
    Ok(typed(Bytes::copy_from_slice(&text), HeaderValue::from_static("application/json")))
}

/// Returns whether the client asks for JSON. A client that sends `*/*` gets plain text, as in API ML (Zowe's API
/// Mediation Layer).
pub(super) fn wants_json(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let is_json =
            parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
        let is_refused = parts.any(|part| {
            let quality = part.strip_prefix("q=").or(part.strip_prefix("Q="));
            quality.is_some_and(|quality| quality.trim().parse() == Ok(0.0_f32))
        });
        is_json && !is_refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_that_ask_for_json_get_json() {
        for (accept, want) in [
            ("application/json", true),
            ("text/html, Application/JSON;q=0.5", true),
            ("application/json; charset=utf-8", true),
            ("*/*", false),
            ("application/*", false),
            ("text/plain", false),
            ("application/json;q=0", false),
            ("application/json;q=0.0, text/plain", false),
            ("application/jsonx", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(wants_json(&headers), want, "{accept}");
        }
        assert!(!wants_json(&HeaderMap::new()));
    }
}
