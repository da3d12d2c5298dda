//! Limits failed logins, so that an attacker can try only a few passwords.
//!
//! Failed logins are counted for each user and network, for each user, and for each network. The first few failures
//! cause no wait. The next failure causes a short wait, and each further failure doubles the wait up to a maximum. A
//! login during the wait is refused with 429 and `Retry-After`: its password is not checked, and the wait does not
//! become longer. A login with the right password clears the failures that the same user has in the same network. It
//! clears at most 20 failures a day. Without this maximum, each login of the user would give an attacker in the same
//! network new tries.
//!
//! A network is *known* for a user who has logged in from it within [`LoginThrottleOptions::known_for`]. In a network
//! that is known for the user, only the failures of this user from this network cause a wait. So an attacker in another
//! network cannot lock the user out.
//!
//! With the default limits, an attacker gets at most 100 tries a day for one user, in all unknown networks and one
//! known network together.
//!
//! The nodes of a cluster can count the failures together in a store, such as Redis ([`SharedLoginFailures`]). In
//! addition, each node counts the failures of the logins that it handles itself. If a node cannot reach the shared
//! store, it uses its own counts. In this case, it divides the number of failures that cause no wait by the number of
//! nodes.
//!
//! The number of concurrent password checks is also limited. Each check needs one of [`MAX_CONCURRENT`] turns. If no
//! turn is free, the login waits in a queue until the check of another login is done. After this wait, the throttle
//! checks the failures again, because other logins may have failed during the wait.
//!
//! A node asks the shared store only after the login has got its turn. If the store says that a client must wait, the
//! node remembers this wait for at most a minute ([`SharedWaits`]). During this time, the node refuses the client
//! before the client gets a turn. So a client that must wait does not take the place of another client in the queue. If
//! the user logs in at another node, the remembered wait does not end early.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    failure_counts::{Claimed, FailureCounts},
    shared_waits::SharedWaits,
};
use crate::{
    clock::Clock,
    log_limit::log_limited,
    login_failures::{
        Attempt, AttemptResult, CountInAdvance, FailureLimit, FailureLimits, NetworkOrigin,
        SharedClaim, SharedFailuresError, SharedLoginFailures,
    },
    passticket::UserId,
    revocation::{ClientNetwork, KnownNetworks, NetworkMemory},
};

/// The maximum number of concurrent password checks.
const MAX_CONCURRENT: usize = 16;

/// The maximum number of logins that wait for another check to end.
const MAX_WAITING: usize = 256;

/// The limits of the login throttle, see
/// [`AuthApi::with_login_throttle`](super::AuthApi::with_login_throttle).
#[derive(Clone)]
#[non_exhaustive]
pub struct LoginThrottleOptions {
    /// The failures of one user from one network. By default, 4 failures cause no wait, and the longest wait is an
    /// hour.
    pub user_and_network: FailureLimit,
    /// The failures of one user from all networks. They delay the user only in networks that are not known for the
    /// user. By default, 16 failures cause no wait, and the longest wait is an hour.
    pub user: FailureLimit,
    /// The failures of all users from one network within an hour. They delay only users for whom the network is not
    /// known. By default, 100 failures cause no wait. The longest wait is only a minute, because many users may share a
    /// network.
    pub network: FailureLimit,
    /// How long a network is known for a user after a login. The default is 30 days.
    pub known_for: Duration,
    exempt: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

impl LoginThrottleOptions {
    /// Exempts addresses for which `is_exempt` returns true: failed logins from these addresses are not counted, and
    /// earlier failures do not delay logins from them. The limit on concurrent password checks also applies to them.
    /// `is_exempt` receives an IPv4-mapped IPv6 address as IPv4. By default, no address is exempt.
    #[must_use]
    pub fn with_exempt(self, is_exempt: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self { exempt: Arc::new(is_exempt), ..self }
    }

    fn limits(&self) -> FailureLimits {
        FailureLimits::new(self.user_and_network, self.user, self.network)
    }
}

impl Default for LoginThrottleOptions {
    fn default() -> Self {
        let hour = Duration::from_secs(60 * 60);
        Self {
            user_and_network: FailureLimit::new(4, hour),
            user: FailureLimit::new(16, hour),
            network: FailureLimit::new(100, Duration::from_secs(60)),
            known_for: 30 * 24 * hour,
            exempt: Arc::new(|_| false),
        }
    }
}

impl fmt::Debug for LoginThrottleOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user_and_network, user, network, known_for, exempt: _ } = self;
        f.debug_struct("LoginThrottleOptions")
            .field("user_and_network", user_and_network)
            .field("user", user)
            .field("network", network)
            .field("known_for", known_for)
            .finish_non_exhaustive()
    }
}

/// The login throttle: its limits, and the failed logins that it counts.
pub(super) struct LoginThrottle {
    options: LoginThrottleOptions,
    known: Arc<dyn KnownNetworks>,
    failures: Arc<FailedLogins>,
    /// The counts that all nodes share. `None` if this node counts alone.
    shared: Option<Arc<dyn SharedLoginFailures>>,
}

/// The failed logins, and the limits on concurrent password checks. Several throttles can share this value.
#[derive(Debug)]
pub(super) struct FailedLogins {
    counts: Mutex<FailureCounts>,
    /// The waits that this node has learned from the shared counts. Empty if there are no shared counts.
    shared_waits: Mutex<SharedWaits>,
    turns: Arc<Semaphore>,
    waiting: Semaphore,
    /// How far the times of `counts` are ahead of the monotonic clock. This difference can be greater than zero only if
    /// this process continues the work of another process.
    ahead: Mutex<Duration>,
    /// All turns, from [`LoginFailures::hand_over`] until [`LoginFailures::take_back`]. While all turns are here, this
    /// process checks no passwords. `None` at all other times, and if `hand_over` did not get all turns in time.
    all_turns: Mutex<Option<OwnedSemaphorePermit>>,
}

impl FailedLogins {
    fn new(limits: FailureLimits) -> Self {
        Self {
            counts: Mutex::new(FailureCounts::new(limits)),
            shared_waits: Mutex::default(),
            turns: Arc::new(Semaphore::new(MAX_CONCURRENT)),
            waiting: Semaphore::new(MAX_WAITING),
            ahead: Mutex::default(),
            all_turns: Mutex::default(),
        }
    }

    fn counts(&self) -> MutexGuard<'_, FailureCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared_waits(&self) -> MutexGuard<'_, SharedWaits> {
        self.shared_waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time that `counts` uses.
    fn now(&self, clock: &dyn Clock) -> Duration {
        clock.monotonic() + *self.ahead()
    }

    fn ahead(&self) -> MutexGuard<'_, Duration> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_turns(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.all_turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for FailedLogins {
    fn default() -> Self {
        Self::new(LoginThrottleOptions::default().limits())
    }
}

/// The client must wait, so the password of this login must not be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooEarly {
    /// The time after which the client may try again.
    pub(super) retry_after: Duration,
}

/// The reason why a password must not be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoTurn {
    TooEarly(TooEarly),
    /// [`MAX_WAITING`] logins already wait for a turn.
    Busy,
}

impl From<TooEarly> for NoTurn {
    fn from(early: TooEarly) -> Self {
        Self::TooEarly(early)
    }
}

impl LoginThrottle {
    pub(super) fn new(options: LoginThrottleOptions, known: Arc<dyn KnownNetworks>) -> Self {
        let failures = Arc::new(FailedLogins::new(options.limits()));
        Self { options, known, failures, shared: None }
    }

    /// Creates a throttle that continues with `failures`. From now on, the limits of this throttle apply to `failures`.
    pub(super) fn with_failures(&self, failures: Arc<FailedLogins>) -> Self {
        failures.counts().set_limits(self.options.limits());
        let Self { options, known, shared, .. } = self;
        Self { options: options.clone(), known: known.clone(), failures, shared: shared.clone() }
    }

    /// Returns a throttle with `options` and without failures.
    pub(super) fn with_options(&self, options: LoginThrottleOptions) -> Self {
        Self { shared: self.shared.clone(), ..Self::new(options, self.known.clone()) }
    }

    /// Returns a throttle that stores known networks in `known`. The new throttle has no failures.
    pub(super) fn with_known_networks(&self, known: Arc<dyn KnownNetworks>) -> Self {
        Self { shared: self.shared.clone(), ..Self::new(self.options.clone(), known) }
    }

    /// Returns a throttle that also counts in `shared`. The new throttle has no failures of its own.
    pub(super) fn with_shared_failures(&self, shared: Arc<dyn SharedLoginFailures>) -> Self {
        Self { shared: Some(shared), ..Self::new(self.options.clone(), self.known.clone()) }
    }

    /// Waits until fewer than [`MAX_CONCURRENT`] passwords are being checked. The caller keeps the returned [`Turn`]
    /// while it checks the password, and then calls one of the methods of the turn.
    ///
    /// `client` is the address of the client, if known.
    ///
    /// # Errors
    /// [`NoTurn::TooEarly`] if there were too many failures, and [`NoTurn::Busy`] if too many logins wait.
    pub(super) async fn turn(
        self: &Arc<Self>,
        user: &UserId,
        client: Option<IpAddr>,
        clock: Arc<dyn Clock>,
    ) -> Result<Turn, NoTurn> {
        let attempt = self.attempt(user, client, &*clock);
        if let Some(attempt) = &attempt {
            self.check_before_turn(attempt, self.now(&*clock))?;
        }
        let permit = self.permit().await?;
        let state = match attempt {
            None => None,
            Some(attempt) => Some(self.begin(attempt, &*clock).await?),
        };
        let throttle = self.clone();
        Ok(Turn { attempt: Counted { throttle, clock, state }, is_guess: false, _permit: permit })
    }

    /// Checks whether a password of `user` may be compared with the cached password. The comparison needs no turn,
    /// because it does not call the login provider.
    ///
    /// # Errors
    /// [`TooEarly`] if there were too many failures.
    pub(super) fn check(
        &self,
        user: &UserId,
        client: Option<IpAddr>,
        clock: &dyn Clock,
    ) -> Result<(), TooEarly> {
        let Some(attempt) = self.attempt(user, client, clock) else { return Ok(()) };
        let now = self.now(clock);
        self.check_shared_waits(&attempt, now)?;
        self.counts().check(attempt, now).map_err(early)
    }

    /// Counts a failure for a password that differs from the cached password. If the login provider then accepts the
    /// password, the failure is taken back. Otherwise the failure stays.
    ///
    /// # Errors
    /// [`TooEarly`] if there were too many failures.
    pub(super) fn guess(
        self: &Arc<Self>,
        user: &UserId,
        client: Option<IpAddr>,
        clock: Arc<dyn Clock>,
    ) -> Result<Guess, TooEarly> {
        let state = match self.attempt(user, client, &*clock) {
            None => None,
            Some(attempt) => {
                let now = self.now(&*clock);
                self.check_shared_waits(&attempt, now)?;
                let own = self.counts().claim(attempt, now).map_err(early)?;
                Some(Begun { attempt, own, shared: SharedClaim::default() })
            }
        };
        Ok(Guess(Counted { throttle: self.clone(), clock, state }))
    }

    /// Checks an attempt before it waits for a turn. Without shared counts, all counts of this node decide. With shared
    /// counts, only the remembered waits and this node's count of the network decide. This node's count of the user
    /// does not decide, because it may be too high: a login at another node may have cleared the failures of the user.
    /// No login clears the failures of a network, so the count of the network is never too high for this reason.
    fn check_before_turn(&self, attempt: &Attempt, now: Duration) -> Result<(), TooEarly> {
        let counted = match &self.shared {
            Some(_) => {
                self.check_shared_waits(attempt, now)?;
                self.counts().check_network(*attempt, now)
            }
            None => self.counts().check(*attempt, now),
        };
        counted.map_err(early)
    }

    /// Checks whether this node remembers a wait that the shared counts have imposed on the client.
    fn check_shared_waits(&self, attempt: &Attempt, now: Duration) -> Result<(), TooEarly> {
        match &self.shared {
            Some(_) => self.failures.shared_waits().check(attempt, now).map_err(early),
            None => Ok(()),
        }
    }

    fn keep_shared_wait(&self, attempt: &Attempt, early: TooEarly, clock: &dyn Clock) {
        let now = self.now(clock);
        self.failures.shared_waits().keep(attempt, early.retry_after, now);
    }

    /// Begins an attempt. If there are shared counts, only the shared counts and the remembered waits decide whether
    /// the attempt may begin. If the shared counts cannot be reached, the counts of this node decide.
    async fn begin(&self, attempt: Attempt, clock: &dyn Clock) -> Result<Begun, TooEarly> {
        match &self.shared {
            None => {
                let own = self.counts().begin(attempt, self.now(clock)).map_err(early)?;
                Ok(Begun { attempt, own, shared: SharedClaim::default() })
            }
            Some(shared) => {
                // While this attempt waited for the turn, the store may have refused another attempt of the same
                // client. The node then remembers the wait.
                self.check_shared_waits(&attempt, self.now(clock))?;
                let begun = self.begin_shared(&**shared, attempt, clock).await;
                begun.inspect_err(|early| self.keep_shared_wait(&attempt, *early, clock))
            }
        }
    }

    async fn begin_shared(
        &self,
        shared: &dyn SharedLoginFailures,
        attempt: Attempt,
        clock: &dyn Clock,
    ) -> Result<Begun, TooEarly> {
        let limits = self.options.limits();
        match shared.begin(attempt, limits, CountInAdvance::IfLimitIsExceeded).await {
            Ok(Ok(shared)) => {
                let own = self.counts().begin_unchecked(attempt, self.now(clock));
                Ok(Begun { attempt, own, shared })
            }
            Ok(Err(wait)) => Err(early(wait)),
            Err(error) => {
                log_unshared(&error);
                let (mut counts, now) = (self.counts(), self.now(clock));
                let limits = limits.divided_by(shared.nodes());
                counts.check_with(attempt, limits, now).map_err(early)?;
                // `counts` does not know these divided limits, so it cannot decide whether the attempt must be counted
                // in advance. `claim` always counts the attempt in advance.
                let own = counts.claim(attempt, now).map_err(early)?;
                Ok(Begun { attempt, own, shared: SharedClaim::default() })
            }
        }
    }

    /// Records the result of an attempt in the shared counts.
    fn end_shared(&self, begun: &Begun, result: AttemptResult) {
        if let Some(shared) = &self.shared {
            if result != AttemptResult::Failed {
                self.failures.shared_waits().remove(&begun.attempt);
            }
            shared.end(begun.attempt, begun.shared, result);
        }
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, NoTurn> {
        if let Ok(permit) = self.failures.turns.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = self.failures.waiting.try_acquire().map_err(|_| NoTurn::Busy)?;
        // The semaphore is never closed.
        self.failures.turns.clone().acquire_owned().await.map_err(|_| NoTurn::Busy)
    }

    /// Returns the attempt to count, or `None` if the client is exempt.
    fn attempt(&self, user: &UserId, client: Option<IpAddr>, clock: &dyn Clock) -> Option<Attempt> {
        let client = client.map(|client| client.to_canonical());
        if client.is_some_and(|client| (self.options.exempt)(client)) {
            return None;
        }
        let network = client.map(ClientNetwork::from);
        let is_known = network.is_some_and(|network| {
            self.known.is_known(user, network, clock.now(), self.options.known_for)
        });
        let origin = if is_known { NetworkOrigin::Known } else { NetworkOrigin::Unknown };
        Some(Attempt::new(*user, network, origin))
    }

    fn counts(&self) -> MutexGuard<'_, FailureCounts> {
        self.failures.counts()
    }

    /// Returns the time that the counts use.
    fn now(&self, clock: &dyn Clock) -> Duration {
        self.failures.now(clock)
    }
}

/// The failed logins of an [`AuthApi`](super::AuthApi). A process hands them over to a process that continues its work.
#[derive(Clone, Debug)]
pub struct LoginFailures {
    failures: Arc<FailedLogins>,
    clock: Arc<dyn Clock>,
}

/// The text does not come from [`LoginFailures::hand_over`], or a newer version has written it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the failed logins are malformed, or have the format of a newer version of this program")]
pub struct LoginFailuresError;

impl LoginFailures {
    pub(super) fn new(throttle: &LoginThrottle, clock: Arc<dyn Clock>) -> Self {
        Self { failures: throttle.failures.clone(), clock }
    }

    /// Returns the failed logins as text, for the process that continues the work. First waits for the results of the
    /// current password checks, but at most for `wait`. If these checks end in time, this process checks no passwords
    /// from then on: each login waits until [`take_back`](Self::take_back) is called, or until its time limit.
    ///
    /// If the checks do not end within `wait`, this process continues to check passwords. The text then lacks the
    /// failures that this process counts later.
    pub async fn hand_over(&self, wait: Duration) -> String {
        let failures = &self.failures;
        let all = u32::try_from(MAX_CONCURRENT).unwrap_or(u32::MAX);
        let turns = failures.turns.clone().acquire_many_owned(all);
        if let Ok(Ok(turns)) = timeout(wait, turns).await {
            *failures.all_turns() = Some(turns);
        }
        failures.counts().to_text(failures.now(&*self.clock))
    }

    /// Ends [`hand_over`](Self::hand_over): this process checks passwords again. Call this function if the other
    /// process has ended before it has taken over the work.
    pub fn take_back(&self) {
        *self.failures.all_turns() = None;
    }

    /// Continues with the failed logins of another process. Call this before the first login.
    ///
    /// # Errors
    /// [`LoginFailuresError`] if `text` is malformed. In this case, some of the failed logins may already have been
    /// added.
    pub fn continue_from(&self, text: &str) -> Result<(), LoginFailuresError> {
        let now = self.failures.counts().add_text(text).ok_or(LoginFailuresError)?;
        // If this process has run longer than the other process, its clock is ahead of the clock of the other process,
        // and the failures look older than they are. A process that was started to continue the work of the other
        // process has not run longer.
        *self.failures.ahead() = now.saturating_sub(self.clock.monotonic());
        Ok(())
    }
}

impl Default for LoginThrottle {
    fn default() -> Self {
        Self::new(LoginThrottleOptions::default(), Arc::new(NetworkMemory::default()))
    }
}

impl fmt::Debug for LoginThrottle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginThrottle").field("options", &self.options).finish_non_exhaustive()
    }
}

fn log_unshared(error: &SharedFailuresError) {
    log_limited!(warn, "login failures not shared", { %error }, "the shared counts of failed logins are not available; this node counts alone");
}

fn early(retry_after: Duration) -> TooEarly {
    TooEarly { retry_after }
}

/// An attempt that has begun. If this value is dropped before a result is recorded, the attempt counts as a failure.
struct Counted {
    throttle: Arc<LoginThrottle>,
    clock: Arc<dyn Clock>,
    /// `None` if the client is exempt, or if the result is already recorded.
    state: Option<Begun>,
}

/// An attempt, and the counts in which it was counted in advance.
#[derive(Clone, Copy, Debug)]
struct Begun {
    attempt: Attempt,
    own: Claimed,
    shared: SharedClaim,
}

/// A password that differs from the cached password, and that was counted as a failure. If this value is dropped, the
/// failure stays.
pub(super) struct Guess(Counted);

impl Guess {
    /// Waits for a turn, as [`LoginThrottle::turn`] does. The counts of this node are not checked again, because the
    /// attempt is already counted there.
    ///
    /// # Errors
    /// [`NoTurn::Busy`] if too many logins wait, and [`NoTurn::TooEarly`] if the shared store makes the client wait.
    pub(super) async fn turn(mut self) -> Result<Turn, NoTurn> {
        let permit = self.0.throttle.permit().await?;
        if let (Some(begun), Some(shared)) = (&mut self.0.state, &self.0.throttle.shared) {
            let limits = self.0.throttle.options.limits();
            match shared.begin(begun.attempt, limits, CountInAdvance::Always).await {
                Ok(Ok(claim)) => begun.shared = claim,
                Ok(Err(wait)) => {
                    let early = early(wait);
                    self.0.throttle.keep_shared_wait(&begun.attempt, early, &*self.0.clock);
                    return Err(early.into());
                }
                Err(error) => log_unshared(&error),
            }
        }
        Ok(Turn { attempt: self.0, is_guess: true, _permit: permit })
    }
}

/// The permission to check one password. If it is dropped without a result, the attempt counts as a failure. For
/// example, this happens if the provider panics.
pub(super) struct Turn {
    attempt: Counted,
    is_guess: bool,
    _permit: OwnedSemaphorePermit,
}

impl Turn {
    /// Records that the password was right.
    pub(super) fn succeeded(mut self) {
        let Counted { throttle, clock, state } = &mut self.attempt;
        if let Some(begun) = state.take() {
            let Begun { attempt, own, .. } = begun;
            throttle.counts().succeeded(attempt, own, throttle.now(&**clock));
            throttle.end_shared(&begun, AttemptResult::Succeeded);
            if let Some(network) = attempt.network {
                throttle.known.remember(&attempt.user, network, clock.now());
            }
        }
    }

    /// Records that the password was wrong.
    pub(super) fn failed(self) {
        drop(self);
    }

    /// Takes the attempt back. Call this function if the login has failed for a reason other than a wrong password, or
    /// if the password could not be checked. A [`Guess`] stays a failure: the client already knows that the password
    /// differs from the cached password.
    pub(super) fn withdraw(mut self) {
        if self.is_guess {
            return;
        }
        if let Some(begun) = self.attempt.state.take() {
            let throttle = &self.attempt.throttle;
            throttle.counts().withdrawn(begun.attempt, begun.own);
            throttle.end_shared(&begun, AttemptResult::Withdrawn);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(begun) = self.state.take() {
            let now = self.throttle.now(&*self.clock);
            self.throttle.counts().failed(begun.attempt, begun.own, now);
            self.throttle.end_shared(&begun, AttemptResult::Failed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, task::Poll};

    use test_support::tickets::user;

    use super::*;
    use crate::clock::{ManualClock, Timestamp};

    const CLIENT: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)))
    }

    fn throttle() -> Arc<LoginThrottle> {
        Arc::new(LoginThrottle::default())
    }

    async fn guess(
        throttle: &Arc<LoginThrottle>,
        client: Option<IpAddr>,
        clock: &Arc<ManualClock>,
    ) -> bool {
        let turn = throttle.turn(&user("A"), client, clock.clone()).await;
        turn.map(Turn::failed).is_ok()
    }

    #[tokio::test]
    async fn a_login_makes_its_network_known_for_30_days() {
        let (throttle, clock) = (throttle(), clock());
        let elsewhere = |i: u8| Some(IpAddr::from([10, 0, i, 1]));
        throttle.turn(&user("A"), CLIENT, clock.clone()).await.unwrap().succeeded();
        for i in 0..17 {
            assert!(guess(&throttle, elsewhere(i), &clock).await);
        }
        assert!(!guess(&throttle, elsewhere(20), &clock).await);
        for _ in 0..61 {
            throttle.turn(&user("A"), CLIENT, clock.clone()).await.unwrap().succeeded();
        }
        clock.set(clock.now().plus(Duration::from_secs(31 * 24 * 60 * 60)));
        assert!(throttle.turn(&user("A"), CLIENT, clock.clone()).await.is_err());
    }

    #[tokio::test]
    async fn a_network_gets_at_most_4000_tries_a_day_for_all_users_together() {
        let (throttle, clock) = (throttle(), clock());
        throttle.turn(&user("OWNER"), CLIENT, clock.clone()).await.unwrap().succeeded();
        let (mut guesses, mut minutes) = (0, 0);
        while minutes < 24 * 60 {
            match throttle.turn(&user(&format!("U{guesses}")), CLIENT, clock.clone()).await {
                Ok(turn) => {
                    turn.failed();
                    guesses += 1;
                }
                Err(_) => {
                    clock.advance(Duration::from_secs(60));
                    minutes += 1;
                    throttle.turn(&user("OWNER"), CLIENT, clock.clone()).await.unwrap().succeeded();
                }
            }
        }
        assert!((2400..=4000).contains(&guesses), "{guesses}");
    }

    #[tokio::test]
    async fn waits_do_not_depend_on_the_wall_clock() {
        let (throttle, clock) = (throttle(), clock());
        for _ in 0..5 {
            assert!(guess(&throttle, CLIENT, &clock).await);
        }
        for time in [0, 1_700_000_000, 2_000_000_000] {
            clock.set(Timestamp::from_secs(time));
            let refused = throttle.turn(&user("A"), CLIENT, clock.clone()).await.err().unwrap();
            assert_eq!(refused, early(Duration::from_secs(1)).into(), "{time}");
        }
        clock.advance(Duration::from_secs(1));
        assert!(guess(&throttle, CLIENT, &clock).await);
    }

    /// A shared store. While `is_away` is true, the store cannot be reached.
    #[derive(Debug)]
    struct Place {
        counts: Mutex<FailureCounts>,
        claims: Mutex<Vec<(Attempt, Claimed)>>,
        clock: Arc<ManualClock>,
        is_away: std::sync::atomic::AtomicBool,
        begun: std::sync::atomic::AtomicUsize,
    }

    impl Place {
        fn new(clock: &Arc<ManualClock>) -> Arc<Self> {
            Arc::new(Self {
                counts: Mutex::new(FailureCounts::new(LoginThrottleOptions::default().limits())),
                claims: Mutex::default(),
                clock: clock.clone(),
                is_away: false.into(),
                begun: 0.into(),
            })
        }

        fn begun(&self) -> usize {
            self.begun.load(std::sync::atomic::Ordering::Relaxed)
        }

        fn is_away(&self) -> bool {
            self.is_away.load(std::sync::atomic::Ordering::Relaxed)
        }
    }

    impl SharedLoginFailures for Place {
        fn begin(
            &self,
            attempt: Attempt,
            _: FailureLimits,
            count_in_advance: CountInAdvance,
        ) -> crate::login_failures::BeginFuture {
            self.begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let (mut counts, now) = (self.counts.lock().unwrap(), self.clock.monotonic());
            let begun = match count_in_advance {
                CountInAdvance::IfLimitIsExceeded => counts.begin(attempt, now),
                CountInAdvance::Always => counts.claim(attempt, now),
            };
            let result = begun.map(|claimed| {
                let mut claims = self.claims.lock().unwrap();
                claims.push((attempt, claimed));
                SharedClaim { at: claims.len() as u64, ..SharedClaim::default() }
            });
            let away = || SharedFailuresError("connection refused".into());
            Box::pin(std::future::ready(if self.is_away() { Err(away()) } else { Ok(result) }))
        }

        fn end(&self, attempt: Attempt, claim: SharedClaim, result: AttemptResult) {
            if self.is_away() {
                return;
            }
            let at = usize::try_from(claim.at).unwrap();
            let claimed = at.checked_sub(1).map(|at| self.claims.lock().unwrap()[at].1);
            let (claimed, now) = (claimed.unwrap_or_default(), self.clock.monotonic());
            let mut counts = self.counts.lock().unwrap();
            match result {
                AttemptResult::Succeeded => counts.succeeded(attempt, claimed, now),
                AttemptResult::Failed => counts.failed(attempt, claimed, now),
                AttemptResult::Withdrawn => counts.withdrawn(attempt, claimed),
            }
        }

        fn nodes(&self) -> std::num::NonZeroU32 {
            2.try_into().unwrap()
        }
    }

    #[tokio::test]
    async fn nodes_count_together_but_each_counts_alone_while_the_store_is_unreachable() {
        let clock = clock();
        let place = Place::new(&clock);
        let node = || Arc::new(throttle().with_shared_failures(place.clone()));
        let (one, two) = (node(), node());
        for throttle in [&one, &two, &one, &two, &one] {
            assert!(guess(throttle, CLIENT, &clock).await);
        }
        for throttle in [&one, &two] {
            assert!(!guess(throttle, CLIENT, &clock).await);
        }
        // After the wait, only one node can begin an attempt.
        clock.advance(Duration::from_secs(1));
        let open = two.turn(&user("A"), CLIENT, clock.clone()).await.unwrap();
        assert!(!guess(&one, CLIENT, &clock).await);
        open.succeeded();
        // The other node remembers that the user had to wait for two seconds.
        assert!(!guess(&one, CLIENT, &clock).await);
        clock.advance(Duration::from_secs(2));
        for throttle in [&one, &two, &one, &two, &one] {
            assert!(guess(throttle, CLIENT, &clock).await);
        }
        assert!(!guess(&two, CLIENT, &clock).await);
        // A wrong password that is only compared with the cached password also counts for all nodes.
        let name = user("B");
        for throttle in [&one, &two, &one, &two, &one] {
            drop(throttle.guess(&name, CLIENT, clock.clone()).unwrap());
        }
        for throttle in [&one, &two] {
            assert!(throttle.turn(&name, CLIENT, clock.clone()).await.is_err());
        }
        assert!(one.guess(&name, CLIENT, clock.clone()).is_err());

        // While the shared store cannot be reached, each node uses half of `FailureLimit::free`: two failures cause no
        // wait, so three attempts are possible without a wait.
        place.is_away.store(true, std::sync::atomic::Ordering::Relaxed);
        let (one, two) = (node(), node());
        for throttle in [&one, &two] {
            let mut attempts = 0;
            while guess(throttle, CLIENT, &clock).await {
                attempts += 1;
            }
            assert_eq!(attempts, 3);
        }
    }

    /// Returns two nodes that count in one store. The user A has used up the free failures at the first node, so that
    /// the store makes A wait for a second.
    async fn nodes_after_failures(
        clock: &Arc<ManualClock>,
    ) -> (Arc<Place>, Arc<LoginThrottle>, Arc<LoginThrottle>) {
        let place = Place::new(clock);
        let node = || Arc::new(throttle().with_shared_failures(place.clone()));
        let (one, two) = (node(), node());
        for _ in 0..5 {
            assert!(guess(&one, CLIENT, clock).await);
        }
        (place, one, two)
    }

    /// Takes all turns for logins of other users from another network.
    async fn all_turns(throttle: &Arc<LoginThrottle>, clock: &Arc<ManualClock>) -> Vec<Turn> {
        let mut turns = Vec::new();
        for i in 0..MAX_CONCURRENT {
            let (name, client) = (user(&format!("O{i}")), "198.51.100.1".parse().ok());
            turns.push(throttle.turn(&name, client, clock.clone()).await.unwrap());
        }
        turns
    }

    /// Returns the reason why a login gets no turn, or `None` if the login waits for a turn.
    async fn refused_now(
        throttle: &Arc<LoginThrottle>,
        name: &str,
        clock: &Arc<ManualClock>,
    ) -> Option<NoTurn> {
        let name = user(name);
        let mut turn = Box::pin(throttle.turn(&name, CLIENT, clock.clone()));
        match std::future::poll_fn(|cx| Poll::Ready(turn.as_mut().poll(cx))).await {
            Poll::Ready(turn) => Some(turn.err().expect("a turn")),
            Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn a_client_that_the_shared_store_has_refused_is_refused_without_a_turn() {
        let clock = clock();
        let (place, _, two) = nodes_after_failures(&clock).await;
        // The node remembers the wait of this refusal.
        assert!(!guess(&two, CLIENT, &clock).await);
        let begun = place.begun();
        let turns = all_turns(&two, &clock).await;
        for _ in 0..2 * MAX_WAITING {
            let refused = refused_now(&two, "A", &clock).await;
            assert_eq!(refused, Some(early(Duration::from_secs(1)).into()));
        }
        assert_eq!(refused_now(&two, "B", &clock).await, None);
        assert_eq!(place.begun(), begun + MAX_CONCURRENT, "the store was asked again");
        drop(turns);
        // After the wait, the store is asked again.
        clock.advance(Duration::from_secs(1));
        assert!(guess(&two, CLIENT, &clock).await);
        assert_eq!(place.begun(), begun + MAX_CONCURRENT + 1);
    }

    #[tokio::test]
    async fn after_a_refusal_by_the_shared_store_comparisons_are_refused_until_a_login() {
        let clock = clock();
        let (_, _, two) = nodes_after_failures(&clock).await;
        let name = user("A");
        let check = || two.check(&name, CLIENT, &*clock);
        assert_eq!(check(), Ok(()), "the node knows only its own counts");
        let refused = two.guess(&name, CLIENT, clock.clone()).unwrap().turn().await.err();
        let wait = early(Duration::from_secs(1));
        assert_eq!(refused, Some(wait.into()));
        assert_eq!(check(), Err(wait));
        assert_eq!(two.guess(&name, CLIENT, clock.clone()).err(), Some(wait));
        assert_eq!(two.check(&user("B"), CLIENT, &*clock), Ok(()));
        // The guess has failed, so the wait is two seconds now. The next attempt counts in advance, so a concurrent
        // attempt must wait for longer than two seconds. A success ends this wait.
        clock.advance(Duration::from_secs(2));
        let open = two.turn(&name, CLIENT, clock.clone()).await.unwrap();
        assert!(!guess(&two, CLIENT, &clock).await);
        assert!(check().is_err());
        open.succeeded();
        assert_eq!(check(), Ok(()));
    }

    #[tokio::test]
    async fn a_new_user_in_a_network_with_too_many_failures_is_refused_without_a_turn() {
        let clock = clock();
        let node = Arc::new(throttle().with_shared_failures(Place::new(&clock)));
        for i in 0..101 {
            let turn = node.turn(&user(&format!("U{i}")), CLIENT, clock.clone()).await;
            turn.unwrap().failed();
        }
        let _turns = all_turns(&node, &clock).await;
        let refused = refused_now(&node, "NEW", &clock).await;
        assert_eq!(refused, Some(early(Duration::from_secs(1)).into()));
    }

    #[tokio::test]
    async fn an_unreachable_store_is_not_asked_again_for_a_refused_client() {
        let clock = clock();
        let (place, one, _) = nodes_after_failures(&clock).await;
        place.is_away.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(!guess(&one, CLIENT, &clock).await);
        let begun = place.begun();
        assert!(!guess(&one, CLIENT, &clock).await);
        assert_eq!(place.begun(), begun);
    }

    #[tokio::test]
    async fn exempt_addresses_are_neither_counted_nor_refused() {
        let options = LoginThrottleOptions::default();
        let throttle = throttle().with_options(options.with_exempt(|ip| Some(ip) == CLIENT));
        let throttle = Arc::new(throttle);
        let mapped = "::ffff:192.0.2.1".parse().ok();
        for _ in 0..100 {
            assert!(guess(&throttle, CLIENT, &clock()).await);
            assert!(guess(&throttle, mapped, &clock()).await);
        }
        assert!(guess(&throttle, "192.0.2.2".parse().ok(), &clock()).await);
    }

    #[tokio::test]
    async fn an_attempt_without_a_result_is_a_failure_and_a_withdrawn_one_is_not() {
        let (throttle, clock) = (throttle(), clock());
        for _ in 0..30 {
            throttle.turn(&user("A"), CLIENT, clock.clone()).await.unwrap().withdraw();
        }
        for _ in 0..5 {
            drop(throttle.turn(&user("A"), CLIENT, clock.clone()).await.unwrap());
        }
        assert!(!guess(&throttle, CLIENT, &clock).await);
    }

    #[tokio::test]
    async fn a_password_that_differs_from_the_cached_one_is_a_failure_until_it_is_accepted() {
        let (throttle, clock) = (throttle(), clock());
        let name = user("A");
        let guess = || throttle.guess(&name, CLIENT, clock.clone()).unwrap();
        let check = || throttle.check(&name, CLIENT, &*clock).is_ok();
        // The failure is taken back if the password is right.
        for _ in 0..10 {
            let guess = guess();
            guess.turn().await.unwrap().succeeded();
        }
        let open: Vec<_> = (0..4).map(|_| guess()).collect();
        assert!(check());
        let fifth = guess();
        assert!(!check());
        assert!(throttle.guess(&name, CLIENT, clock.clone()).is_err());
        // An abandoned guess, and a guess that could not be checked, still count as failures.
        drop(open);
        fifth.turn().await.unwrap().withdraw();
        assert!(!check());
        clock.advance(Duration::from_secs(1));
        assert!(check());
        guess().turn().await.unwrap().failed();
        clock.advance(Duration::from_secs(1));
        assert!(!check());
    }

    #[tokio::test]
    async fn at_most_256_logins_wait_for_a_turn() {
        let (throttle, clock) = (throttle(), clock());
        let turn = |i: usize| {
            let (throttle, clock) = (throttle.clone(), clock.clone());
            async move { throttle.turn(&user(&format!("U{i}")), None, clock).await }
        };
        let mut turns = Vec::new();
        for i in 0..MAX_CONCURRENT {
            turns.push(turn(i).await.unwrap());
        }
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|i| Box::pin(turn(100 + i))).collect();
        for login in &mut waiting {
            let poll = std::future::poll_fn(|cx| Poll::Ready(login.as_mut().poll(cx).is_pending()));
            assert!(poll.await);
        }
        assert_eq!(turn(1000).await.err(), Some(NoTurn::Busy));
        drop(waiting.pop());
        drop(turns.pop());
        assert!(waiting.remove(0).await.is_ok());
    }

    #[tokio::test]
    async fn concurrent_guesses_get_few_more_checks_than_sequential_guesses() {
        let (throttle, clock) = (throttle(), clock());
        let name = user("A");
        let checked = Cell::new(0);
        let run = async || {
            checked.set(0);
            let guess = || async {
                if let Ok(turn) = throttle.turn(&name, CLIENT, clock.clone()).await {
                    checked.set(checked.get() + 1);
                    tokio::task::yield_now().await;
                    turn.failed();
                }
            };
            let mut guesses: Vec<_> = (0..1000).map(|_| Box::pin(guess())).collect();
            while !guesses.is_empty() {
                let mut pending = Vec::new();
                for mut guess in guesses {
                    let poll = std::future::poll_fn(|cx| {
                        Poll::Ready(guess.as_mut().poll(cx).is_pending())
                    });
                    if poll.await {
                        pending.push(guess);
                    }
                }
                guesses = pending;
                tokio::task::yield_now().await;
            }
            checked.get()
        };
        assert!(run().await <= MAX_CONCURRENT + 5);
        clock.advance(Duration::from_secs(60 * 60));
        assert_eq!(run().await, 1);
    }
}
