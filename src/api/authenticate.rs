//! Authenticates callers by a password or a client certificate.

use std::{sync::Arc, time::Duration};

use http::request::Parts;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    certificates::ClientCertificates,
    credentials::{Credentials, basic},
    error::ApiError,
    login_throttle::{LoginThrottle, NoTurn, TooEarly, Turn},
    password_memory::PasswordMemory,
    provider::{LoginError, LoginFuture, LoginProvider},
    record::add_to_record,
};
use crate::{
    audit::{CredentialKind, Detail, ReasonCode},
    clock::Clock,
    connection::ConnectionInfo,
    log_limit::log_limited,
    passticket::UserId,
};

/// The maximum time of a password check. The number of concurrent checks is limited. If a provider never answered and
/// there were no maximum time, no password could be checked any more.
pub(super) const LONGEST_CHECK: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
pub(super) struct Callers<'a> {
    pub(super) login: &'a dyn LoginProvider,
    pub(super) throttle: &'a Arc<LoginThrottle>,
    pub(super) memory: &'a Arc<PasswordMemory>,
    pub(super) certificates: ClientCertificates<'a>,
    pub(super) clock: &'a Arc<dyn Clock>,
    /// How long a client waits for a password check. The check itself may take longer.
    pub(super) wait: Duration,
}

impl Callers<'_> {
    /// Authenticates the caller with `Authorization: Basic`. If the request has no Basic credentials, authenticates the
    /// caller with the client certificate.
    ///
    /// # Errors
    /// [`ApiError::WrongCredentials`] if the Basic credentials are malformed, or if the user name or the password is
    /// empty. In all other cases, the errors of [`authenticate`](Self::authenticate).
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
    /// [`ApiError::InvalidLoginInput`] if there is no credential, if the user name or a password is empty, or if the
    /// certificate has expired or is mapped to no user. In all other cases, the errors of
    /// [`authenticate`](Self::authenticate).
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

    /// Authenticates the caller with `credentials`. If `credentials` is `None` and client certificates are on, uses the
    /// client certificate instead. If `credentials` are wrong, does not try the certificate.
    ///
    /// # Errors
    /// - [`ApiError::AuthenticationRequired`] if `credentials` is `None`, and either the request has no certificate or
    ///   client certificates are off.
    /// - [`ApiError::NoUser`] if the certificate has expired or is mapped to no user.
    /// - [`ApiError::InvalidLoginInput`] if the user name or a password is empty.
    /// - [`ApiError::TooManyAttempts`], [`ApiError::WrongCredentials`], [`ApiError::Platform`],
    ///   [`ApiError::PasswordChangeUnsupported`], [`ApiError::NewPasswordRefused`] and [`ApiError::Unavailable`]: see
    ///   the documentation of these variants.
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
        let Self { login, throttle, memory, clock, wait, .. } = self;
        let peer =
            request.extensions.get::<ConnectionInfo>().map(|connection| connection.client().ip());
        let deadline = Instant::now() + wait;
        let turn = timeout_at(deadline, throttle.turn(&user, peer, clock.clone())).await;
        let turn = turn.unwrap_or(Err(NoTurn::Busy)).map_err(|refused| match refused {
            NoTurn::TooEarly(TooEarly { retry_after }) => {
                tracing::info!(url, %user, ?peer, "too many failed logins; the password was not checked");
                ApiError::TooManyAttempts { retry_after }
            }
            NoTurn::Busy => {
                log_limited!(warn, "login provider", { url, %user }, "too many concurrent logins; the password was not checked");
                add_to_record(request, |record| record.reason = Some(ReasonCode::LoginUnavailable));
                ApiError::Unavailable
            }
        })?;
        let password_change = new_password.is_some();
        let checking = match new_password {
            None => login.login(user, password),
            Some(new) => match login.change_password(user, password, new) {
                Some(changing) => {
                    let forget = memory.forget_on_drop(user);
                    Box::pin(async move {
                        let result = changing.await;
                        if result.is_err_and(LoginError::is_guess) {
                            forget.cancel();
                        }
                        result
                    })
                }
                None => {
                    turn.withdraw();
                    return Err(ApiError::PasswordChangeUnsupported);
                }
            },
        };
        let wait = deadline.saturating_duration_since(Instant::now());
        match check(turn, checking, wait).await {
            Ok(user) => {
                tracing::info!(url, %user, proof = "password", password_change, "authenticated");
                add_to_record(request, |record| record.user = Some(user));
                Ok(user)
            }
            Err(reason @ LoginError::Unavailable) => {
                log_limited!(warn, "login provider", { url, %user, %reason }, "authentication failed");
                add_to_record(request, |record| record.reason = Some(ReasonCode::LoginUnavailable));
                Err(reason.into())
            }
            Err(reason) => {
                tracing::info!(url, %user, %reason, "authentication failed");
                Err(reason.into())
            }
        }
    }
}

/// Checks a password in a separate task, so that the throttle learns the result even if the client disconnects early.
/// `turn` is the permission of the throttle to check one password.
///
/// The client waits at most `wait`. After that, the check continues, so that the throttle also counts a late refusal.
/// If the check ended with the wait, the number of guesses would not be limited while the login provider is slow.
pub(super) async fn check(
    turn: Turn,
    checking: LoginFuture,
    wait: Duration,
) -> Result<UserId, LoginError> {
    match timeout(wait, tokio::spawn(finish_check(turn, checking))).await {
        // Without a result, the provider has panicked, or the runtime shuts down.
        Ok(finished) => finished.unwrap_or(Err(LoginError::Unavailable)),
        Err(_) => Err(LoginError::Unavailable),
    }
}

/// Waits for the result of a password check, but at most for [`LONGEST_CHECK`], and reports it to the throttle. The
/// caller runs this function in a separate task.
pub(super) async fn finish_check(turn: Turn, checking: LoginFuture) -> Result<UserId, LoginError> {
    let result = timeout(LONGEST_CHECK, checking).await;
    let result = result.unwrap_or(Err(LoginError::Unavailable));
    match result {
        Ok(_) => turn.succeeded(),
        Err(reason) if reason.is_guess() => turn.failed(),
        // If the password was already compared with the cached password, `withdraw` leaves the attempt a failed login.
        Err(_) => turn.withdraw(),
    }
    result
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use test_support::tickets::user;
    use tokio::sync::oneshot;

    use super::*;
    use crate::api::PlatformError;
    use crate::clock::{ManualClock, Timestamp};

    fn world() -> (Arc<LoginThrottle>, Arc<ManualClock>) {
        let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
        (Arc::new(LoginThrottle::default()), Arc::new(clock))
    }

    #[tokio::test]
    async fn the_throttle_learns_the_result_of_a_check_whose_client_has_disconnected() {
        for (result, is_held) in [
            (Ok(user("A")), false),
            (Err(LoginError::WrongCredentials), true),
            (Err(LoginError::Unavailable), false),
            (Err(LoginError::Platform(PlatformError::WrongPassword)), true),
            (Err(LoginError::Platform(PlatformError::PasswordExpired)), false),
        ] {
            let (throttle, clock) = world();
            for _ in 0..5 {
                let turn = throttle.turn(&user("A"), None, clock.clone()).await.ok().unwrap();
                let (answer, answered) = oneshot::channel();
                let checking = Box::pin(async move { answered.await.unwrap() });
                let mut client = Box::pin(check(turn, checking, LONGEST_CHECK));
                let poll = std::future::poll_fn(|cx| Poll::Ready(client.as_mut().poll(cx)));
                assert_eq!(poll.await, Poll::Pending);
                drop(client);
                tokio::task::yield_now().await;
                let _ = answer.send(result);
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
            }
            let next = throttle.turn(&user("A"), None, clock.clone()).await;
            assert_eq!(next.is_err(), is_held, "{result:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_does_not_end_is_abandoned() {
        let (throttle, clock) = world();
        for _ in 0..6 {
            let turn = throttle.turn(&user("A"), None, clock.clone()).await.ok().unwrap();
            let result = check(turn, Box::pin(std::future::pending()), LONGEST_CHECK).await;
            assert_eq!(result, Err(LoginError::Unavailable));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_throttle_counts_a_refusal_that_comes_too_late_for_the_client() {
        for (late, is_held) in [
            (Err(LoginError::WrongCredentials), true),
            (Err(LoginError::Unavailable), false),
            (Ok(user("A")), false),
        ] {
            let (throttle, clock) = world();
            for _ in 0..5 {
                let turn = throttle.turn(&user("A"), None, clock.clone()).await.ok().unwrap();
                let checking = Box::pin(async move {
                    tokio::time::sleep(Duration::from_secs(20)).await;
                    late
                });
                let begun = Instant::now();
                let result = check(turn, checking, Duration::from_secs(5)).await;
                assert_eq!(result, Err(LoginError::Unavailable));
                assert_eq!(begun.elapsed(), Duration::from_secs(5));
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            let next = throttle.turn(&user("A"), None, clock.clone()).await;
            assert_eq!(next.is_err(), is_held, "{late:?}");
        }
    }

    #[tokio::test]
    async fn if_the_provider_panics_the_attempt_counts_as_a_failed_login() {
        let (throttle, clock) = world();
        for _ in 0..5 {
            let turn = throttle.turn(&user("A"), None, clock.clone()).await.ok().unwrap();
            let checking = Box::pin(async { panic!("of the test") });
            let result = check(turn, checking, LONGEST_CHECK).await;
            assert_eq!(result, Err(LoginError::Unavailable));
        }
        assert!(throttle.turn(&user("A"), None, clock.clone()).await.is_err());
    }
}
