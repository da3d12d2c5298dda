//! `POST logout` and `POST refresh` (docs/reference/auth-endpoints.md#logout,
//! docs/reference/auth-endpoints.md#refresh).

use http::{StatusCode, request::Parts};

use super::{
    certificates::ClientCertificates,
    error::ApiError,
    login_tokens::{DOMAIN, LoginTokens},
    provider::LoginProvider,
    response::{Answer, empty},
};
use crate::token::TokenError;

/// Revokes the caller's login token, and tells the login provider. As in Zowe API ML, the response does not delete the
/// cookie.
pub(super) async fn log_out(
    request: &Parts,
    tokens: LoginTokens<'_>,
    provider: &dyn LoginProvider,
) -> Answer {
    let jwt = tokens.require(request).await.map_err(as_logout_error)?;
    tokens.revoke(&jwt).await?;
    provider.logged_out(*jwt.user());
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

/// Converts the error of the caller's token to the error of `logout`. As in Zowe API ML, the status is 400 if the token
/// is not a JWT, if its claims or its issuer are not those of a login token, or if it is a Personal Access Token. All
/// other errors are returned unchanged.
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
