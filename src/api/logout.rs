//! `POST logout` and `POST refresh` (zowe-endpoints §1.2, §1.4).

use bytes::Bytes;
use http::{Response, StatusCode, request::Parts};
use http_body_util::Full;

use super::{
    error::ApiError,
    login::DOMAIN,
    service::{AuthApi, empty},
};
use crate::{
    revocation::{Revocation, RevocationStore},
    token::{Jwt, TokenError},
};

impl<L, R: RevocationStore, S, G, M> AuthApi<L, R, S, G, M> {
    /// Revokes the login token of the caller. As in the reference, the cookie stays where it is.
    pub(super) async fn log_out(&self, request: &Parts) -> Result<Response<Full<Bytes>>, ApiError> {
        let jwt = self.login_token(request).await.map_err(not_to_log_out)?;
        self.revoke_login_token(&jwt).await?;
        tracing::info!(url = request.uri.path(), user = %jwt.user(), "logged out");
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// Answers with a new login token in a cookie, for the one of the caller, which is revoked.
    pub(super) async fn refresh(&self, request: &Parts) -> Result<Response<Full<Bytes>>, ApiError> {
        self.require_certificate(request)?;
        let jwt = self.login_token(request).await?;
        let response = self.login_response(request, jwt.user(), jwt.domain().unwrap_or(DOMAIN))?;
        self.revoke_login_token(&jwt).await?;
        tracing::info!(url = request.uri.path(), user = %jwt.user(), "refreshed a login token");
        Ok(response)
    }

    async fn revoke_login_token(&self, jwt: &Jwt) -> Result<(), ApiError> {
        let (token, expires_at) = (jwt.fingerprint(), jwt.expires_at());
        self.record(Revocation::Token { token, expires_at }).await
    }
}

/// The reference tells what is no login token of its own apart from one that is not good.
fn not_to_log_out(error: ApiError) -> ApiError {
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
