//! Authentication of callers by a password or a client certificate.

use http::request::Parts;

use super::{
    certificates::ClientCertificates,
    credentials::{Credentials, basic},
    error::ApiError,
    login_throttle::LoginThrottle,
    provider::{LoginError, LoginProvider},
    record::add_to_record,
};
use crate::{
    audit::{CredentialKind, Detail, ReasonCode},
    clock::Clock,
    connection::ConnectionInfo,
    log_limit::log_limited,
    passticket::UserId,
};

/// Authenticates callers.
#[derive(Clone, Copy)]
pub(super) struct Callers<'a> {
    pub(super) login: &'a dyn LoginProvider,
    pub(super) throttle: &'a LoginThrottle,
    pub(super) certificates: ClientCertificates<'a>,
    pub(super) clock: &'a dyn Clock,
}

impl Callers<'_> {
    /// Authenticates the caller with `Authorization: Basic`, else with the client certificate.
    ///
    /// # Errors
    /// The errors of [`authenticate`](Self::authenticate), with one difference: if the credentials lack a
    /// part, the error is [`ApiError::WrongCredentials`].
    pub(super) async fn require(self, request: &Parts) -> Result<UserId, ApiError> {
        self.authenticate(basic(request)?, request).await.map_err(|error| match error {
            ApiError::InvalidLoginInput => ApiError::WrongCredentials,
            other => other,
        })
    }

    /// Authenticates the caller of `login` or `access-token/generate`. These endpoints answer 400 to a
    /// request without a usable credential.
    ///
    /// # Errors
    /// The errors of [`authenticate`](Self::authenticate), with one difference: if there is no credential,
    /// or if the certificate has expired or has no user, the error is [`ApiError::InvalidLoginInput`].
    pub(super) async fn log_in(
        self,
        credentials: Option<Credentials>,
        request: &Parts,
    ) -> Result<UserId, ApiError> {
        self.authenticate(credentials, request).await.map_err(|error| match error {
            ApiError::AuthenticationRequired | ApiError::NoUser => ApiError::InvalidLoginInput,
            other => other,
        })
    }

    /// Authenticates the caller with `credentials` if there are any, else with the client
    /// certificate if certificates are on. If the credentials are wrong, the certificate is not tried.
    ///
    /// # Errors
    /// [`ApiError::AuthenticationRequired`] if there are neither credentials nor a certificate;
    /// [`ApiError::NoUser`] if the certificate has expired or is mapped to no user;
    /// [`ApiError::InvalidLoginInput`] if the credentials lack a part;
    /// [`ApiError::TooManyAttempts`]; [`ApiError::WrongCredentials`];
    /// [`ApiError::PasswordChangeUnsupported`]; [`ApiError::NewPasswordRefused`];
    /// [`ApiError::Unavailable`].
    async fn authenticate(
        self,
        credentials: Option<Credentials>,
        request: &Parts,
    ) -> Result<UserId, ApiError> {
        match credentials {
            Some(credentials) => self.check_password(credentials, request).await,
            None => self.certificates.user(request).await,
        }
    }

    async fn check_password(
        self,
        credentials: Credentials,
        request: &Parts,
    ) -> Result<UserId, ApiError> {
        let url = request.uri.path();
        add_to_record(request, |record| {
            record.credential = Some(CredentialKind::Password);
            record.user = UserId::new(&credentials.username).ok();
            if credentials.new_password.is_some() {
                record.detail = Some(Detail::PasswordChange);
            }
        });
        let user = credentials
            .check()
            .inspect_err(|reason| tracing::info!(url, %reason, "authentication failed"))?;
        let Credentials { password, new_password, .. } = credentials;
        let Self { login, throttle, clock, .. } = self;
        let peer =
            request.extensions.get::<ConnectionInfo>().map(|connection| connection.client().ip());
        let turn = throttle.turn(&user, peer, clock).await.map_err(|too_early| {
            tracing::info!(url, %user, ?peer, "too many failed logins; the password was not checked");
            ApiError::TooManyAttempts { retry_after: too_early.retry_after }
        })?;
        let password_change = new_password.is_some();
        let checking = match new_password {
            None => login.login(user, password),
            Some(new) => match login.change_password(user, password, new) {
                Some(changing) => changing,
                None => {
                    turn.withdraw();
                    return Err(ApiError::PasswordChangeUnsupported);
                }
            },
        };
        match checking.await {
            Ok(user) => {
                turn.succeeded();
                tracing::info!(url, %user, proof = "password", password_change, "authenticated");
                add_to_record(request, |record| record.user = Some(user));
                Ok(user)
            }
            Err(reason @ LoginError::Unavailable) => {
                turn.withdraw();
                log_limited!(warn, "login provider", { url, %user, %reason }, "authentication failed");
                add_to_record(request, |record| record.reason = Some(ReasonCode::LoginUnavailable));
                Err(reason.into())
            }
            Err(reason) => {
                match reason {
                    LoginError::WrongCredentials => turn.failed(),
                    // The old password was right, or was not checked.
                    _ => turn.withdraw(),
                }
                tracing::info!(url, %user, %reason, "authentication failed");
                Err(reason.into())
            }
        }
    }
}
