//! Checks the passwords of `Authorization: Basic` on routes (docs/decisions.md#d24).

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use super::{
    authenticate::check,
    login_throttle::LoginThrottle,
    password_memory::{KeyedHash, PasswordMemory},
    provider::{LoginError, LoginProvider, Password},
};
use crate::{
    audit::ReasonCode,
    clock::Clock,
    layer::{PasswordError, PasswordFuture, PasswordVerifier},
    log_limit::log_limited,
    passticket::UserId,
};

/// Checks passwords of routed requests with the login provider and the login throttle (the limit on failed logins) of
/// an [`AuthApi`](super::AuthApi). [`AuthApi::basic_login`](super::AuthApi::basic_login) creates this type.
///
/// A wrong password counts as a failed login. A right password is cached: it is accepted for a minute without another
/// check, because a client sends it with each request. The cache contains a keyed hash of the password, for at most
/// 10,000 users. It does not notice when a user is revoked, or when a password is changed elsewhere. A change of the
/// password at this `AuthApi` removes the old password from the cache.
///
/// If several requests with the same user and password arrive together, they share one check.
///
/// ```
/// use tower_passticket::{
///     api::{AuthApi, FileLogin},
///     layer::Authenticator,
///     revocation::RevocationIndex,
///     token::{Rs256Verifier, SigningKey, TokenIssuer},
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
/// # let key = SigningKey::from_pem(pem.serialize_pem().as_bytes())?;
/// let verifier = Rs256Verifier::new(key.verifying_key());
/// let login = FileLogin::new([])?;
/// let api = AuthApi::new(TokenIssuer::new(key), verifier.clone(), login, RevocationIndex::default());
/// let authenticator = Authenticator::new(verifier).with_passwords(api.basic_login());
/// # drop(authenticator);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BasicLogin {
    pub(super) login: Arc<dyn LoginProvider>,
    pub(super) throttle: Arc<LoginThrottle>,
    pub(super) memory: Arc<PasswordMemory>,
    pub(super) clock: Arc<dyn Clock>,
    /// How long a request waits for a check.
    pub(super) wait: Duration,
}

impl BasicLogin {
    async fn check(
        self,
        user: UserId,
        password: Password,
        hash: Option<KeyedHash>,
        client: Option<IpAddr>,
    ) -> Result<UserId, PasswordError> {
        let turn = self.throttle.turn(&user, client, self.clock.clone()).await;
        let turn = turn
            .map_err(|early| PasswordError::TooManyAttempts { retry_after: early.retry_after })?;
        let result = check(turn, self.login.login(user, password), self.wait).await;
        let result = result.map_err(|error| {
            if error == LoginError::Unavailable {
                log_limited!(warn, "login provider", { %user, %error }, "authentication failed");
            }
            password_error(error)
        })?;
        if let Some(hash) = hash {
            self.memory.add(user, hash, result, self.clock.monotonic());
        }
        Ok(result)
    }
}

fn password_error(error: LoginError) -> PasswordError {
    match error {
        LoginError::WrongCredentials | LoginError::NewPasswordRefused => PasswordError::Wrong,
        LoginError::Platform(error) => match error.reason() {
            ReasonCode::WrongPassword => PasswordError::Wrong,
            ReasonCode::LoginUnavailable => PasswordError::Unavailable,
            reason => PasswordError::Refused { reason },
        },
        LoginError::Unavailable => PasswordError::Unavailable,
    }
}

impl PasswordVerifier for BasicLogin {
    fn try_verify_now(
        &self,
        user: &UserId,
        password: &[u8],
    ) -> Option<Result<UserId, PasswordError>> {
        let hash = self.memory.hash(user, password)?;
        self.memory.find(user, &hash, self.clock.monotonic()).map(Ok)
    }

    fn verify_password(
        &self,
        user: UserId,
        password: &[u8],
        client: Option<IpAddr>,
    ) -> PasswordFuture {
        let (this, hash) = (self.clone(), self.memory.hash(&user, password));
        let password = Password::new(password);
        Box::pin(async move {
            match hash {
                Some(hash) => {
                    let running = this.memory.join(hash);
                    running.run(|| this.check(user, password, Some(hash), client)).await
                }
                None => this.check(user, password, None, client).await,
            }
        })
    }
}

impl fmt::Debug for BasicLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicLogin").field("throttle", &self.throttle).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use test_support::{pki, tickets::user};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        api::{AuthApi, LoginFuture, PlatformError},
        clock::{ManualClock, Timestamp},
        revocation::RevocationIndex,
        token::{Rs256Verifier, SigningKey, TokenIssuer},
    };

    /// Counts the checks. Each check waits for a permit.
    #[derive(Clone)]
    struct Counting {
        checks: Arc<AtomicUsize>,
        gate: Arc<Semaphore>,
    }

    impl LoginProvider for Counting {
        fn login(&self, user: UserId, password: Password) -> LoginFuture {
            self.checks.fetch_add(1, Ordering::Relaxed);
            let gate = self.gate.clone();
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                match password.expose() {
                    b"right" => Ok(user),
                    b"expired" => Err(LoginError::Platform(PlatformError::PasswordExpired)),
                    b"down" => Err(LoginError::Unavailable),
                    _ => Err(LoginError::WrongCredentials),
                }
            })
        }

        fn change_password(&self, user: UserId, _: Password, _: Password) -> Option<LoginFuture> {
            Some(Box::pin(async move { Ok(user) }))
        }
    }

    struct World {
        provider: Counting,
        clock: Arc<ManualClock>,
        api: AuthApi,
        login: BasicLogin,
    }

    impl World {
        fn new(permits: usize) -> Self {
            let gate = Arc::new(Semaphore::new(permits));
            let provider = Counting { checks: Arc::default(), gate };
            let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
            let key = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
            let verifier = Rs256Verifier::new(key.verifying_key());
            let revocations = RevocationIndex::default();
            let api = AuthApi::new(TokenIssuer::new(key), verifier, provider.clone(), revocations);
            let api = api.with_clock(clock.clone());
            let login = api.basic_login();
            Self { provider, clock, api, login }
        }

        fn checks(&self) -> usize {
            self.provider.checks.load(Ordering::Relaxed)
        }

        /// Checks like the layer: first in the cache, then with the provider.
        async fn verify(&self, name: &str, password: &str) -> Result<UserId, PasswordError> {
            let (user, password) = (user(name), password.as_bytes());
            match self.login.try_verify_now(&user, password) {
                Some(verified) => verified,
                None => self.login.verify_password(user, password, None).await,
            }
        }
    }

    #[tokio::test]
    async fn a_right_password_is_checked_once_a_minute() {
        let world = World::new(100);
        for (second, want) in [(0, 1), (1, 1), (59, 1), (60, 2), (61, 2)] {
            let passed = Duration::from_secs(second);
            let now = world.clock.monotonic();
            world.clock.advance(passed.saturating_sub(now));
            assert_eq!(world.verify("A", "right").await, Ok(user("A")), "{second}");
            assert_eq!(world.checks(), want, "{second}");
        }
        // Another password of the same user is checked, although the right one is in the memory.
        assert_eq!(world.verify("A", "wrong").await, Err(PasswordError::Wrong));
        assert_eq!(world.checks(), 3);
    }

    #[tokio::test]
    async fn wrong_passwords_are_throttled_together_with_the_logins_of_the_auth_api() {
        let world = World::new(100);
        for _ in 0..5 {
            assert_eq!(world.verify("A", "wrong").await, Err(PasswordError::Wrong));
        }
        let early = world.verify("A", "right").await;
        let retry_after = Duration::from_secs(1);
        assert_eq!(early, Err(PasswordError::TooManyAttempts { retry_after }));
        assert_eq!(world.checks(), 5);
        let login = http::Request::post("/gateway/api/v1/auth/login");
        let login = login.header("authorization", "Basic QTpyaWdodA==");
        let body = http_body_util::Full::<bytes::Bytes>::default();
        let response =
            tower::ServiceExt::oneshot(world.api.clone(), login.body(body).unwrap()).await.unwrap();
        assert_eq!(response.status(), 429);
        for (password, want) in [
            ("expired", PasswordError::Refused { reason: ReasonCode::PasswordExpired }),
            ("down", PasswordError::Unavailable),
        ] {
            for _ in 0..10 {
                assert_eq!(world.verify("B", password).await, Err(want));
            }
        }
    }

    #[tokio::test]
    async fn a_burst_with_one_password_causes_one_check() {
        let world = World::new(0);
        let begin = |password: &str| {
            tokio::spawn(world.login.verify_password(user("A"), password.as_bytes(), None))
        };
        let burst: Vec<_> = (0..30).map(|_| begin("right")).collect();
        let other = begin("wrong");
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.checks(), 2);
        world.provider.gate.add_permits(2);
        for request in burst {
            assert_eq!(request.await.unwrap(), Ok(user("A")));
        }
        assert_eq!(other.await.unwrap(), Err(PasswordError::Wrong));
        assert_eq!(world.checks(), 2);
    }

    #[tokio::test]
    async fn a_changed_password_is_checked_again() {
        let world = World::new(100);
        assert_eq!(world.verify("A", "right").await, Ok(user("A")));
        let change = http::Request::post("/gateway/api/v1/auth/login");
        let body = r#"{"username": "a", "password": "right", "newPassword": "new"}"#;
        let body = http_body_util::Full::new(bytes::Bytes::from_static(body.as_bytes()));
        let response = tower::ServiceExt::oneshot(world.api.clone(), change.body(body).unwrap())
            .await
            .unwrap();
        assert_eq!(response.status(), 204);
        assert!(world.login.try_verify_now(&user("A"), b"right").is_none());
    }
}
