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
    token::{IssuedToken, Jwt, TokenError, TokenIssuer, TokenVerifier, VerifiedToken},
};

/// The `dom` claim of tokens for users whom the gateway itself has authenticated. API ML (Zowe's API Mediation Layer)
/// also uses this value.
pub(super) const DOMAIN: &str = "security-domain";

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

    /// Verifies the caller's token. Checks that the token is not revoked, and that it is a login token for all
    /// services. Refuses a token that a scheme has issued for one service, so that this service cannot use it to act as
    /// the user elsewhere (docs/decisions.md#d23).
    ///
    /// # Errors
    /// The errors of [`require_of_any_service`](Self::require_of_any_service), and [`ApiError::ServiceToken`] if the
    /// token is for one service only.
    pub(super) async fn require(self, request: &Parts) -> Result<Jwt, ApiError> {
        let jwt = self.require_of_any_service(request).await?;
        match jwt.service() {
            None => Ok(jwt),
            Some(service) => Err(ApiError::ServiceToken { service: service.clone() }),
        }
    }

    /// Verifies the caller's token, and checks that it is a login token and not revoked. The token may be for one
    /// service only. So an endpoint may call this function directly only if it does nothing but show the content of the
    /// token.
    ///
    /// # Errors
    /// - [`ApiError::TokenNotProvided`] if the request has no token.
    /// - [`ApiError::Token`] if the token is not valid or cannot be verified.
    /// - [`ApiError::PersonalAccessToken`] if the token is a Personal Access Token.
    /// - [`ApiError::LoggedOut`] if the token is revoked.
    /// - [`ApiError::StoreUnavailable`] if the store cannot check the token.
    ///
    /// For a token of an identity provider, the error contains [`TokenError::Issuer`]: the endpoints that call this
    /// function accept only login tokens of z/OS users.
    pub(super) async fn require_of_any_service(self, request: &Parts) -> Result<Jwt, ApiError> {
        let text = self.text(request).ok_or(ApiError::TokenNotProvided)?;
        let verified = match self.verifier.try_verify_now(text) {
            Some(verified) => verified,
            None => self.verifier.verify_token(text).await,
        };
        let jwt = login_token_of(request, verified)?;
        self.check(&jwt).await?;
        Ok(jwt)
    }

    /// Like [`require_of_any_service`](Self::require_of_any_service), but neither asks the issuer whether the token is
    /// still valid, nor checks whether the token is [revoked](Self::check). So the gateway can revoke the token even if
    /// the issuer does not answer.
    pub(super) async fn require_for_logout(self, request: &Parts) -> Result<Jwt, ApiError> {
        let text = self.text(request).ok_or(ApiError::TokenNotProvided)?;
        login_token_of(request, self.verifier.verify_for_logout(text).await)
    }

    /// # Errors
    /// [`ApiError::LoggedOut`] if the token is revoked. [`ApiError::StoreUnavailable`] if the store cannot check it.
    pub(super) async fn check(self, jwt: &Jwt) -> Result<(), ApiError> {
        self.revocations.check(&jwt.clone().into()).await.map_err(|error| match error {
            CheckError::Revoked(_) => ApiError::LoggedOut,
            CheckError::Unavailable => ApiError::StoreUnavailable,
        })
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
            record.issued_token_id = Some(token.fingerprint());
        });
        let mut response = empty(StatusCode::NO_CONTENT);
        let headers = response.headers_mut();
        headers.insert(SET_COOKIE, cookie(self.cookies.jwt(), &token)?);
        Ok(response)
    }

    /// The future borrows nothing, so it can outlive the request.
    ///
    /// # Errors
    /// [`ApiError::StoreUnavailable`] if the store returns an error.
    pub(super) fn revoke(
        self,
        jwt: &Jwt,
    ) -> impl Future<Output = Result<(), ApiError>> + Send + use<> {
        let revocations = self.revocations.clone();
        let (token, expires_at) = (jwt.fingerprint(), jwt.expires_at());
        async move { revocations.record(Revocation::Token { token, expires_at }).await }
    }
}

/// Adds the result of the verification of a token to the audit record, and returns the token if it is a login token.
fn login_token_of(
    request: &Parts,
    verified: Result<VerifiedToken, TokenError>,
) -> Result<Jwt, ApiError> {
    let token = verified.and_then(|verified| match verified {
        VerifiedToken::External(_) => Err(TokenError::Issuer),
        verified => Ok(verified),
    });
    add_token_to_record(request, &token);
    match token? {
        VerifiedToken::Jwt(jwt) => Ok(jwt),
        _ => Err(ApiError::PersonalAccessToken),
    }
}

/// Returns the value of `Set-Cookie`: that of Zowe API ML without the final semicolon. The cookie has no expiry date,
/// because the token itself has one.
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
