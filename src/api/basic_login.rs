//! Checks the passwords in `Authorization: Basic` of requests on routes (docs/decisions.md#d24).

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    authenticate::finish_check,
    login_throttle::{Guess, LoginThrottle, NoTurn, TooEarly, Turn},
    password_memory::{Check, PasswordMemory, Sender},
    provider::{LoginError, LoginProvider, Password},
};
use crate::{
    audit::ReasonCode,
    clock::Clock,
    layer::{PasswordError, PasswordFuture, PasswordVerifier},
    log_limit::log_limited,
    passticket::UserId,
};

/// Checks passwords of routed requests. It shares the login provider and the login throttle (the limit on failed
/// logins) with an [`AuthApi`](super::AuthApi). [`AuthApi::basic_login`](super::AuthApi::basic_login) creates a value
/// of this type.
///
/// A wrong password counts as a failed login. A client sends its password with each request, and the login provider
/// does not check it each time: a cache holds a keyed hash of each password that the provider has accepted. For a
/// minute, this password is accepted from the same network without another check. A network is the first 24 bits of an
/// IPv4 address, or the first 56 bits of an IPv6 address. The cache holds at most 10,000 pairs of a user and a network.
/// If a user is revoked, or if a password is changed elsewhere, the cache does not notice it. If the user changes the
/// password at this `AuthApi`, the cache removes the old password.
///
/// The throttle also applies to passwords in the cache. While it refuses the logins of a user from a network, it also
/// refuses every password of this user in requests from this network, even the cached password. A password that differs
/// from the cached password counts as a failed login, even before the provider checks it. If the provider then accepts
/// the password, the failure is taken back.
///
/// Requests from one network with the same user and password share one check. A request waits at most
/// [`AuthApi::with_login_wait`](super::AuthApi::with_login_wait). This limit includes the time in which the request
/// waits for other checks to end.
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
    pub(super) wait: Duration,
}

impl BasicLogin {
    /// Waits for a turn, which is the permission of the throttle to check one password. Then checks the password. The
    /// caller runs this function in a separate task. Several requests can wait for one check. Even if all of their
    /// clients disconnect during the check, the throttle counts the result, and the cache gets an accepted password. If
    /// all of them disconnect before the check has a turn, the provider is not called.
    async fn run(
        self,
        check: Check,
        guess: Option<Result<Guess, TooEarly>>,
        password: Password,
        user: UserId,
        client: Option<IpAddr>,
    ) {
        let turn = async {
            match guess {
                Some(Ok(guess)) => guess.turn().await,
                Some(Err(early)) => Err(early.into()),
                None => self.throttle.turn(&user, client, self.clock.clone()).await,
            }
        };
        let turn = tokio::select! {
            biased;
            turn = turn => turn,
            () = check.abandoned() => return,
        };
        let result = match turn {
            Ok(turn) => self.ask(turn, user, password).await,
            Err(NoTurn::TooEarly(early)) => Err(too_many_attempts(early)),
            Err(NoTurn::Busy) => {
                log_limited!(warn, "login provider", { %user }, "too many concurrent logins; the password was not checked");
                Err(PasswordError::Unavailable)
            }
        };
        check.finish(result, self.clock.monotonic());
    }

    async fn ask(
        &self,
        turn: Turn,
        user: UserId,
        password: Password,
    ) -> Result<UserId, PasswordError> {
        let result = finish_check(turn, self.login.login(user, password)).await;
        result.map_err(|error| {
            if error == LoginError::Unavailable {
                log_limited!(warn, "login provider", { %user, %error }, "the login provider did not check a password");
            }
            password_error(error)
        })
    }
}

fn too_many_attempts(early: TooEarly) -> PasswordError {
    PasswordError::TooManyAttempts { retry_after: early.retry_after }
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
        client: Option<IpAddr>,
    ) -> Option<Result<UserId, PasswordError>> {
        let (sender, now) = (Sender::new(*user, client), self.clock.monotonic());
        if !self.memory.contains(&sender, now) {
            return None;
        }
        // The comparison below tells the client whether its password is the cached password. So while the user must
        // wait, the throttle refuses the comparison, as it refuses a login.
        if let Err(early) = self.throttle.check(user, client, &*self.clock) {
            return Some(Err(too_many_attempts(early)));
        }
        let hash = self.memory.hash(user, password)?;
        self.memory.find(&sender, &hash, now).map(Ok)
    }

    fn verify_password(
        &self,
        user: UserId,
        password: &[u8],
        client: Option<IpAddr>,
    ) -> PasswordFuture {
        let (sender, now) = (Sender::new(user, client), self.clock.monotonic());
        let Some(hash) = self.memory.hash(&user, password) else {
            log_limited!(warn, "login provider", { %user }, "no password check: the system gave no random key at the start; restart the gateway");
            return Box::pin(std::future::ready(Err(PasswordError::Unavailable)));
        };
        let Some(mut joined) = self.memory.join(sender, hash, now) else {
            log_limited!(warn, "login provider", { %user }, "too many concurrent logins; the password was not checked");
            return Box::pin(std::future::ready(Err(PasswordError::Unavailable)));
        };
        let task = joined.begun.take().map(|check| {
            // The throttle counts the guess here, before the first `.await`. If it counted later, clients could compare
            // many passwords with the cached password at the same time, or could disconnect before the throttle counts
            // the guess.
            let guess = check
                .was_compared()
                .then(|| self.throttle.guess(&user, client, self.clock.clone()));
            self.clone().run(check, guess, Password::new(password), user, client)
        });
        let wait = self.wait;
        Box::pin(async move {
            if let Some(task) = task {
                tokio::spawn(task);
            }
            timeout(wait, joined.result()).await.unwrap_or_else(|_| {
                log_limited!(warn, "login provider", { %user, ?wait }, "the password was not checked in time");
                Err(PasswordError::Unavailable)
            })
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
    use std::{
        num::NonZeroU32,
        sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use test_support::{pki, tickets::user};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        api::{AuthApi, LoginFuture, PlatformError},
        clock::{ManualClock, Timestamp},
        login_failures::{
            Attempt, AttemptResult, BeginFuture, CountInAdvance, FailureLimits, SharedClaim,
            SharedLoginFailures,
        },
        revocation::RevocationIndex,
        token::{Rs256Verifier, SigningKey, TokenIssuer},
    };

    /// A login provider that counts the checks. Each check and each password change waits for a permit.
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
            let gate = self.gate.clone();
            Some(Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                Ok(user)
            }))
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
            let api = api.with_clock(clock.clone()).with_login_wait(Duration::from_secs(5));
            let login = api.basic_login();
            Self { provider, clock, api, login }
        }

        fn checks(&self) -> usize {
            self.provider.checks.load(Ordering::Relaxed)
        }

        async fn verify(&self, name: &str, password: &str) -> Result<UserId, PasswordError> {
            self.verify_from(None, name, password).await
        }

        async fn verify_from(
            &self,
            client: Option<IpAddr>,
            name: &str,
            password: &str,
        ) -> Result<UserId, PasswordError> {
            let (user, password) = (user(name), password.as_bytes());
            match self.login.try_verify_now(&user, password, client) {
                Some(verified) => verified,
                None => self.login.verify_password(user, password, client).await,
            }
        }

        fn change_password(&self) -> impl Future<Output = http::StatusCode> + use<> {
            let change = http::Request::post("/gateway/api/v1/auth/login");
            let body = r#"{"username": "a", "password": "right", "newPassword": "new"}"#;
            let body = http_body_util::Full::new(bytes::Bytes::from_static(body.as_bytes()));
            let response = tower::ServiceExt::oneshot(self.api.clone(), change.body(body).unwrap());
            async { response.await.unwrap().status() }
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
        // The provider checks each password that differs from the cached password.
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
        assert_eq!(world.change_password().await, 204);
        assert!(world.login.try_verify_now(&user("A"), b"right", None).is_none());
    }

    #[tokio::test]
    async fn an_old_password_leaves_the_cache_even_if_the_client_does_not_wait_for_the_change() {
        let world = World::new(1);
        assert_eq!(world.verify("A", "right").await, Ok(user("A")));
        // A check with the old password is in progress, from another network.
        let elsewhere = "192.0.2.1".parse().ok();
        let old = tokio::spawn(world.login.verify_password(user("A"), b"right", elsewhere));
        yield_often().await;
        let mut change = Box::pin(world.change_password());
        std::future::poll_fn(|cx| {
            assert!(change.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        yield_often().await;
        drop(change);
        world.provider.gate.add_permits(2);
        assert_eq!(old.await.unwrap(), Ok(user("A")));
        yield_often().await;
        for client in [None, elsewhere] {
            let found = world.login.try_verify_now(&user("A"), b"right", client);
            assert_eq!(found, None, "{client:?}");
        }
    }

    #[tokio::test]
    async fn wrong_passwords_from_another_network_do_not_block_the_cached_password() {
        let world = World::new(100);
        let [first, second] = ["192.0.2.1", "198.51.100.1"].map(|address| address.parse().ok());
        assert_eq!(world.verify_from(first, "A", "right").await, Ok(user("A")));
        for _ in 0..5 {
            let wrong = world.verify_from(second, "A", "wrong").await;
            assert_eq!(wrong, Err(PasswordError::Wrong));
        }
        let early = Err(PasswordError::TooManyAttempts { retry_after: Duration::from_secs(1) });
        assert_eq!(world.verify_from(second, "A", "right").await, early);
        assert_eq!(world.verify_from(first, "A", "right").await, Ok(user("A")));
        assert_eq!(world.checks(), 6);
    }

    #[tokio::test]
    async fn guesses_at_the_cached_password_count_before_their_checks_end() {
        let world = World::new(1);
        let client = "192.0.2.1".parse().ok();
        assert_eq!(world.verify_from(client, "A", "right").await, Ok(user("A")));
        let guess = |i: usize| {
            let password = format!("guess {i}");
            let now = world.login.try_verify_now(&user("A"), password.as_bytes(), client);
            assert_eq!(now, None, "{i}");
            world.login.verify_password(user("A"), password.as_bytes(), client)
        };
        // These clients disconnect before their checks begin.
        (0..5).for_each(|i| drop(guess(i)));
        let early = Err(PasswordError::TooManyAttempts { retry_after: Duration::from_secs(1) });
        assert_eq!(world.verify_from(client, "A", "right").await, early);
        assert_eq!(world.verify_from(client, "A", "guess 5").await, early);
        assert_eq!(world.checks(), 1);
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(world.verify_from(client, "A", "right").await, Ok(user("A")));
    }

    /// A shared store that refuses each attempt while the value is true.
    #[derive(Debug, Default)]
    struct Refusing(AtomicBool);

    impl SharedLoginFailures for Refusing {
        fn begin(&self, _: Attempt, _: FailureLimits, _: CountInAdvance) -> BeginFuture {
            let result = match self.0.load(Ordering::Relaxed) {
                true => Err(Duration::from_secs(30)),
                false => Ok(SharedClaim::default()),
            };
            Box::pin(std::future::ready(Ok(result)))
        }

        fn end(&self, _: Attempt, _: SharedClaim, _: AttemptResult) {}

        fn nodes(&self) -> NonZeroU32 {
            NonZeroU32::MIN
        }
    }

    #[tokio::test]
    async fn while_the_shared_store_makes_a_client_wait_no_password_is_compared() {
        let (world, shared) = (World::new(100), Arc::new(Refusing::default()));
        let api = world.api.clone().with_shared_login_failures(shared.clone());
        let world = World { login: api.basic_login(), api, ..world };
        let client = "192.0.2.1".parse().ok();
        assert_eq!(world.verify_from(client, "A", "right").await, Ok(user("A")));
        shared.0.store(true, Ordering::Relaxed);
        let early =
            |secs| Err(PasswordError::TooManyAttempts { retry_after: Duration::from_secs(secs) });
        assert_eq!(world.verify_from(client, "A", "wrong").await, early(30));
        world.clock.advance(Duration::from_secs(10));
        for password in ["right", "wrong"] {
            let compared = world.login.try_verify_now(&user("A"), password.as_bytes(), client);
            assert_eq!(compared, Some(early(20)), "{password}");
        }
        let guess = world.login.verify_password(user("A"), b"wrong", client);
        assert_eq!(guess.await, early(20));
        world.clock.advance(Duration::from_secs(20));
        assert_eq!(world.verify_from(client, "A", "right").await, Ok(user("A")));
        assert_eq!(world.checks(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_a_turn_also_waits_at_most_the_login_wait() {
        let world = World::new(0);
        let hanging: Vec<_> = (0..20)
            .map(|i| tokio::spawn(world.login.verify_password(user(&format!("U{i}")), b"x", None)))
            .collect();
        yield_often().await;
        assert_eq!(world.checks(), 16, "the other four wait for a turn");
        let begun = tokio::time::Instant::now();
        let next = world.verify("A", "right").await;
        assert_eq!(next, Err(PasswordError::Unavailable));
        assert_eq!(begun.elapsed(), world.login.wait);
        for request in hanging {
            assert_eq!(request.await.unwrap(), Err(PasswordError::Unavailable));
        }
        // The 16 checks continue and hold all turns. A login at the auth API also waits for a turn, and has the same
        // time limit as the requests above.
        let begun = tokio::time::Instant::now();
        assert_eq!(world.change_password().await, 503);
        assert_eq!(begun.elapsed(), world.login.wait);
    }

    async fn yield_often() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
}
