//! `GET query` (zowe-endpoints §1.3).

use bytes::Bytes;
use http::{Response, request::Parts};
use http_body_util::Full;
use serde::Serialize;

use super::{
    error::ApiError,
    service::{AuthApi, json},
};
use crate::{
    layer::login_token,
    token::{Jwt, TokenError, TokenVerifier, VerifiedToken},
};

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

impl<L, M> AuthApi<L, M> {
    /// Answers with what the login token of the caller says.
    pub(super) fn query(&self, request: &Parts) -> Result<Response<Full<Bytes>>, ApiError> {
        let token = login_token(&request.headers, &self.cookies);
        let jwt = verify(&self.verifier, token.ok_or(ApiError::TokenNotProvided)?)?;
        json(&QueryResponse {
            domain: jwt.domain(),
            user_id: jwt.user().as_str(),
            creation: jwt.issued_at().as_millis(),
            expiration: jwt.expires_at().as_millis(),
        })
    }
}

/// # Errors
/// [`ApiError::Token`], and [`ApiError::PersonalAccessToken`] for a token of that kind.
fn verify(verifier: &TokenVerifier, token: &[u8]) -> Result<Jwt, ApiError> {
    let token = str::from_utf8(token).map_err(|_| TokenError::Malformed)?;
    match verifier.verify(token)? {
        VerifiedToken::Jwt(jwt) => Ok(jwt),
        VerifiedToken::Pat(_) => Err(ApiError::PersonalAccessToken),
    }
}
