//! `POST logout` and `POST refresh` (docs/reference/auth-endpoints.md#logout,
//! docs/reference/auth-endpoints.md#refresh).

use http::{StatusCode, request::Parts};

use super::{
    certificates::ClientCertificates,
    error::ApiError,
    login_tokens::{DOMAIN, LoginTokens},
    response::{Answer, empty},
    sessions::Sessions,
};
use crate::token::{TokenError, TokenOrigin};

/// Revokes the caller's login token, and ends the sessions that depend on it. As in Zowe API ML, the response does not
/// delete the cookie.
///
/// If another server has issued the token, this function also logs the user out there (docs/decisions.md#d48). If that
/// fails, the token is revoked only here. The client then gets an error, because other servers still accept the token.
pub(super) async fn log_out(
    request: &Parts,
    tokens: LoginTokens<'_>,
    sessions: Sessions<'_>,
) -> Answer {
    let jwt = tokens.require(request).await.map_err(as_logout_error)?;
    tokens.revoke(&jwt).await?;
    sessions.end(*jwt.user());
    let text = tokens.text(request).and_then(|text| str::from_utf8(text).ok());
    sessions.relay(jwt.origin(), text.unwrap_or_default()).await?;
    tracing::info!(url = request.uri.path(), user = %jwt.user(), "logged out");
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Answers with a new login token in a cookie, and revokes the old token. A token that another server has issued is
/// refused, because the new token would stay valid after a logout there.
pub(super) async fn refresh(
    request: &Parts,
    certificates: ClientCertificates<'_>,
    tokens: LoginTokens<'_>,
) -> Answer {
    certificates.require(request)?;
    let jwt = tokens.require(request).await?;
    if jwt.origin() != TokenOrigin::Gateway {
        return Err(TokenError::Issuer.into());
    }
    let response = tokens.issue(request, jwt.user(), jwt.domain().unwrap_or(DOMAIN))?;
    tokens.revoke(&jwt).await?;
    tracing::info!(url = request.uri.path(), user = %jwt.user(), "refreshed a login token");
    Ok(response)
}

/// Converts an error of the caller's token to the error of `logout`. As in Zowe API ML, the status is 400 for a token
/// that is not a JWT, for a Personal Access Token, and for a token without the claims or the issuer of a login token.
/// All other errors are returned unchanged.
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
