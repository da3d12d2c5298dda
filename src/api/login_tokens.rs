//! Reads the login tokens of requests, and issues and revokes login tokens.

use http::{HeaderValue, StatusCode, header::SET_COOKIE, request::Parts};
use zeroize::Zeroizing;

use super::{
    error::ApiError,
    record::{add_to_record, add_token_to_record},
    response::{Answer, empty},
    revocations::Revocations,
};
use crate::{
    layer::{CookieNames, login_token},
    passticket::UserId,
    revocation::{CheckError, Revocation},
    token::{
        IssuedToken, Jwt, TokenError, TokenFingerprint, TokenIssuer, TokenVerifier, VerifiedToken,
    },
};

/// The `dom` claim of tokens for users whom the gateway itself has authenticated. Zowe API ML also uses this value.
pub(super) const DOMAIN: &str = "security-domain";

/// Reads, issues and revokes login tokens.
#[derive(Clone, Copy)]
pub(super) struct LoginTokens<'a> {
    pub(super) issuer: &'a TokenIssuer,
    pub(super) verifier: &'a dyn TokenVerifier,
    pub(super) revocations: &'a Revocations,
    pub(super) cookies: &'a CookieNames,
}

impl LoginTokens<'_> {
    /// Returns the caller's token as text, from the cookie or else from `Authorization: Bearer`.
    pub(super) fn text(self, request: &Parts) -> Option<&[u8]> {
        login_token(&request.headers, self.cookies)
    }

    /// Verifies the caller's token, and checks that it is a login token and not revoked.
    ///
    /// # Errors
    /// - [`ApiError::TokenNotProvided`] if the request has no token.
    /// - [`ApiError::Token`] if the token is not valid.
    /// - [`ApiError::PersonalAccessToken`] if the token is not a login token.
    /// - [`ApiError::LoggedOut`] if the token is revoked.
    /// - [`ApiError::StoreUnavailable`] if the store cannot check the token.
    ///
    /// For a token of an identity provider, the error is [`TokenError::Issuer`], because these endpoints accept only
    /// login tokens of z/OS users.
    pub(super) async fn require(self, request: &Parts) -> Result<Jwt, ApiError> {
        let text = self.text(request).ok_or(ApiError::TokenNotProvided)?;
        let verified = match self.verifier.try_verify_now(text) {
            Some(verified) => verified,
            None => self.verifier.verify_token(text).await,
        };
        let token = verified.and_then(|verified| match verified {
            VerifiedToken::External(_) => Err(TokenError::Issuer),
            verified => Ok(verified),
        });
        add_token_to_record(request, &token);
        let VerifiedToken::Jwt(jwt) = token? else {
            return Err(ApiError::PersonalAccessToken);
        };
        match self.revocations.check(&jwt.clone().into()).await {
            Ok(()) => Ok(jwt),
            Err(CheckError::Revoked(_)) => Err(ApiError::LoggedOut),
            Err(CheckError::Unavailable) => Err(ApiError::StoreUnavailable),
        }
    }

    /// Answers 204 with a new token of `user` in a cookie.
    ///
    /// # Errors
    /// [`ApiError::Internal`] if the token cannot be signed, or if the name of the cookie is not valid
    /// in a header.
    pub(super) fn issue(self, request: &Parts, user: &UserId, domain: &str) -> Answer {
        let token = self.issuer.login_token(user, domain).map_err(|error| {
            tracing::error!(%error, "the login token could not be issued");
            ApiError::Internal
        })?;
        add_to_record(request, |record| {
            record.issued_token_id = Some(TokenFingerprint::of(token.expose()));
        });
        let mut response = empty(StatusCode::NO_CONTENT);
        let headers = response.headers_mut();
        headers.insert(SET_COOKIE, cookie(self.cookies.jwt(), &token)?);
        Ok(response)
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// [`ApiError::StoreUnavailable`] if the store returns an error.
    pub(super) async fn revoke(self, jwt: &Jwt) -> Result<(), ApiError> {
        let (token, expires_at) = (jwt.fingerprint(), jwt.expires_at());
        self.revocations.record(Revocation::Token { token, expires_at }).await
    }
}

/// Returns the value of `Set-Cookie`. It is the same as in Zowe API ML, but without the final semicolon. The cookie has
/// no expiry date, because the token itself has one.
fn cookie(name: &str, token: &IssuedToken) -> Result<HeaderValue, ApiError> {
    let token = token.expose();
    let cookie =
        Zeroizing::new(format!("{name}={token}; Path=/; SameSite=Strict; HttpOnly; Secure"));
    let mut cookie = HeaderValue::from_str(&cookie).map_err(|_| {
        tracing::error!(
            name,
            "the configured name of the login cookie is not valid in an HTTP header"
        );
        ApiError::Internal
    })?;
    cookie.set_sensitive(true);
    Ok(cookie)
}
