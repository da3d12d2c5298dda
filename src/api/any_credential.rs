//! Authentication of callers by any credential: a login token, a password or a client certificate.

use http::request::Parts;

use super::{
    authenticate::Callers, error::ApiError, login_tokens::LoginTokens, record::add_to_record,
};
use crate::{audit::CredentialKind, passticket::UserId};

/// Authenticates callers by the first credential that a request has: a login token, a password, a client certificate.
#[derive(Clone, Copy)]
pub(super) struct AnyCredential<'a> {
    pub(super) callers: Callers<'a>,
    pub(super) tokens: LoginTokens<'a>,
}

impl AnyCredential<'_> {
    /// The user of the request.
    ///
    /// # Errors
    /// [`ApiError::AuthenticationRequired`] if the request has no credential. Other errors if the credential is not
    /// valid, or belongs to no user.
    pub(super) async fn user(self, request: &Parts) -> Result<UserId, ApiError> {
        if self.tokens.text(request).is_some() {
            return self.tokens.require(request).await.map(|jwt| *jwt.user());
        }
        self.callers.require(request).await
    }

    /// The caller of an endpoint that is also for programs: a program needs only a client certificate that the listener
    /// trusts, even if it belongs to no user.
    ///
    /// # Errors
    /// [`ApiError::NoCredential`] if the request has no credential. Other errors if the credential is not valid.
    pub(super) async fn caller(self, request: &Parts) -> Result<Caller, ApiError> {
        if self.callers.certificates.require(request).is_ok() {
            add_to_record(request, |record| {
                record.credential = Some(CredentialKind::Certificate);
            });
            return Ok(Caller::Program);
        }
        match self.user(request).await {
            Ok(user) => Ok(Caller::User(user)),
            Err(ApiError::AuthenticationRequired) => Err(ApiError::NoCredential),
            Err(error) => Err(error),
        }
    }
}

/// The caller of an endpoint that is also for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// A program with a client certificate that the listener trusts.
    Program,
    /// A user with a login token or a password.
    User(UserId),
}
