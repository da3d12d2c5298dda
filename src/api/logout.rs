//! `POST logout` and `POST refresh` (docs/reference/auth-endpoints.md#logout,
//! docs/reference/auth-endpoints.md#refresh).

use http::{StatusCode, request::Parts};
use zeroize::Zeroizing;

use super::{
    certificates::ClientCertificates,
    error::ApiError,
    login_tokens::{DOMAIN, LoginTokens},
    response::{Answer, empty},
    sessions::Sessions,
};
use crate::token::{TokenError, TokenOrigin};

/// Revokes the caller's login token. Then ends the sessions that the login provider and the logout listeners keep for
/// the user. As in API ML (Zowe's API Mediation Layer), the response does not delete the cookie. If the token is
/// already revoked, returns an error and does nothing else.
///
/// If another server has issued the token, and `sessions` contains this server, the gateway also logs the user out
/// there (docs/decisions.md#d48), even if it could not revoke the token. If the revocation or the logout at the server
/// fails, the client gets an error.
///
/// The gateway does not ask the issuer whether the token is still valid, so it can revoke the token even if the issuer
/// does not answer. If the client disconnects, the logout continues.
pub(super) async fn log_out(
    request: &Parts,
    tokens: LoginTokens<'_>,
    sessions: Sessions,
) -> Answer {
    let jwt = tokens.require_for_logout(request).await.map_err(as_logout_error)?;
    let checked = match tokens.check(&jwt).await {
        Err(ApiError::LoggedOut) => return Err(ApiError::LoggedOut),
        checked => checked,
    };
    let revoking = tokens.revoke(&jwt);
    let text = tokens.text(request).and_then(|text| str::from_utf8(text).ok());
    let text = Zeroizing::new(text.unwrap_or_default().to_owned());
    let (user, origin) = (*jwt.user(), jwt.origin());
    let ending = tokio::spawn(async move {
        let revoked = revoking.await;
        sessions.end(user);
        let relayed = sessions.relay(origin, &text).await;
        revoked.and(relayed)
    });
    let ended = ending.await.unwrap_or_else(|error| {
        tracing::error!(%error, "the logout task did not finish");
        Err(ApiError::Internal)
    });
    checked.and(ended)?;
    tracing::info!(url = request.uri.path(), user = %jwt.user(), "logged out");
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Answers with a new login token in a cookie, and revokes the old token. Refuses a token that another server has
/// issued, because a logout at that server would not revoke the new token.
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

/// Converts an error of the caller's token to the error of `logout`. As in API ML, the status is 400 in three cases:
/// the token is not a JWT, is a Personal Access Token, or lacks the claims or the issuer of a login token. Returns all
/// other errors unchanged.
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
