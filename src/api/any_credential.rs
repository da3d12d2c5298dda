//! Authenticates callers by a login token, a password or a client certificate.

use http::request::Parts;

use super::{
    authenticate::Callers, error::ApiError, login_tokens::LoginTokens, record::add_to_record,
};
use crate::{audit::CredentialKind, passticket::UserId};

/// Authenticates callers by one credential of the request. [`user`](Self::user) looks for a login token, then for a
/// password, then for a client certificate, and uses the first credential that it finds. [`caller`](Self::caller) first
/// tries the client certificate.
#[derive(Clone, Copy)]
pub(super) struct AnyCredential<'a> {
    pub(super) callers: Callers<'a>,
    pub(super) tokens: LoginTokens<'a>,
}

impl AnyCredential<'_> {
    /// Returns the user of the request.
    ///
    /// # Errors
    /// [`ApiError::AuthenticationRequired`] if the request has no credential. Another [`ApiError`] if the credential is
    /// not valid, belongs to no user, or cannot be checked.
    pub(super) async fn user(self, request: &Parts) -> Result<UserId, ApiError> {
        if self.tokens.text(request).is_some() {
            return self.tokens.require(request).await.map(|jwt| *jwt.user());
        }
        self.callers.require(request).await
    }

    /// Returns the caller of an endpoint that both users and programs may call. If client certificates are on, and the
    /// request has a client certificate that has not expired, the caller is a program. The certificate need not belong
    /// to a user. In all other cases, the caller is the [`user`](Self::user) of the request.
    ///
    /// # Errors
    /// [`ApiError::NoCredential`] if the request has no credential. Another [`ApiError`] if the credential is not
    /// valid, belongs to no user, or cannot be checked.
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

/// The caller of an endpoint that both users and programs may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// A program with a client certificate that the listener trusts.
    Program,
    /// A user with a login token or a password.
    User(UserId),
}
