//! `POST logout` and `POST refresh` (docs/reference/auth-endpoints.md#logout,
//! docs/reference/auth-endpoints.md#refresh).

use http::{StatusCode, request::Parts};

use super::{
    certificates::ClientCertificates,
    error::ApiError,
    login_tokens::{DOMAIN, LoginTokens},
    response::{Answer, empty},
};
use crate::token::TokenError;

/// Revokes the caller's login token. As in Zowe API ML, the client keeps the cookie.
pub(super) async fn log_out(request: &Parts, tokens: LoginTokens<'_>) -> Answer {
    let jwt = tokens.require(request).await.map_err(as_logout_error)?;
    tokens.revoke(&jwt).await?;
    tracing::info!(url = request.uri.path(), user = %jwt.user(), "logged out");
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Answers with a new login token in a cookie, and revokes the old token.
pub(super) async fn refresh(
    request: &Parts,
    certificates: ClientCertificates<'_>,
    tokens: LoginTokens<'_>,
) -> Answer {
    certificates.require(request)?;
    let jwt = tokens.require(request).await?;
    let response = tokens.issue(request, jwt.user(), jwt.domain().unwrap_or(DOMAIN))?;
    tokens.revoke(&jwt).await?;
    tracing::info!(url = request.uri.path(), user = %jwt.user(), "refreshed a login token");
    Ok(response)
}

/// The error of `logout` for an error of the caller's token. As in Zowe API ML, a text that is not a
/// login token of this gateway gets 400. A login token that is not valid gets 401.
fn as_logout_error(error: ApiError) -> ApiError {
    match error {
        ApiError::Token(
            TokenError::Malformed
            | TokenError::TooLong { .. }
            | TokenError::Claims(_)
            | TokenError::Issuer,
        )
        | ApiError::PersonalAccessToken => ApiError::NotALoginToken,
        other => other,
    }
}
