//! Limits on failed logins, for one process and for several nodes.
//!
//! [`AuthApi`](crate::api::AuthApi) counts the failed logins of its own process. With [`SharedLoginFailures`], all
//! nodes of a cluster count failures together. So an attacker gains nothing by sending logins to several nodes.

use std::{fmt, num::NonZeroU32, pin::Pin, sync::Arc, time::Duration};

use crate::{passticket::UserId, revocation::ClientNetwork};

/// The first wait. Each further failure doubles the wait, up to [`FailureLimit::longest_wait`].
pub(crate) const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The failures of a user are removed this time after the last failure of the user. This must be at least a day.
/// Otherwise, an attacker who waits gets the free failures ([`FailureLimit::free`]) several times a day.
pub(crate) const USER_MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// The failures of a network are removed this time after the first failure. The last failure would not work: in a large
/// network, some user always enters a wrong password, and the failures would never be removed.
pub(crate) const NETWORK_MEMORY: Duration = Duration::from_secs(60 * 60);

/// The number of forgiven failures ([`FORGIVEN_A_DAY`]) becomes zero again this time after the first of them. The last
/// of them would not work: for a user who enters a wrong password every day, the number would never become zero.
pub(crate) const FORGIVEN_MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// A successful login forgives (clears) earlier failures of the same user from the same network, but at most this
/// number within a day. Without this limit, an attacker in this network would get the free failures again after each
/// login of the user.
pub(crate) const FORGIVEN_A_DAY: u32 = 20;

/// How many failed logins cause no wait, and how long a client must wait after further ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailureLimit {
    /// The number of failures that cause no wait.
    pub free: u32,
    /// The longest wait. The first wait is one second. Each further failure doubles the wait.
    pub longest_wait: Duration,
}

impl FailureLimit {
    /// Creates a limit with these values.
    pub const fn new(free: u32, longest_wait: Duration) -> Self {
        Self { free, longest_wait }
    }

    /// Returns the limit for one node, if `nodes` nodes count separately.
    #[cfg(feature = "api")]
    pub(crate) fn divided_by(self, nodes: NonZeroU32) -> Self {
        Self { free: self.free / nodes, ..self }
    }
}

/// The limits of the three counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailureLimits {
    /// The failures of one user from one network.
    pub user_and_network: FailureLimit,
    /// The failures of one user from all networks.
    pub user: FailureLimit,
    /// The failures of all users from one network.
    pub network: FailureLimit,
}

impl FailureLimits {
    /// Creates the limits.
    pub const fn new(
        user_and_network: FailureLimit,
        user: FailureLimit,
        network: FailureLimit,
    ) -> Self {
        Self { user_and_network, user, network }
    }

    /// Returns the limits for one node, if `nodes` nodes count separately.
    #[cfg(feature = "api")]
    pub(crate) fn divided_by(self, nodes: NonZeroU32) -> Self {
        Self {
            user_and_network: self.user_and_network.divided_by(nodes),
            user: self.user.divided_by(nodes),
            network: self.network.divided_by(nodes),
        }
    }
}

/// A login attempt before its password is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The user.
    pub user: UserId,
    /// The network of the client. `None` if the address of the client is not known.
    pub network: Option<ClientNetwork>,
    /// Whether the network is known for the user.
    pub origin: NetworkOrigin,
}

impl Attempt {
    /// Creates an attempt.
    pub const fn new(user: UserId, network: Option<ClientNetwork>, origin: NetworkOrigin) -> Self {
        Self { user, network, origin }
    }
}

/// Whether the user has logged in from the network recently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkOrigin {
    /// Only the failures of this user from this network can delay the attempt.
    Known,
    /// All three counts can delay the attempt.
    Unknown,
}

/// When an attempt counts as a failure in advance, that is, before its password is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountInAdvance {
    /// The attempt counts in advance if a limit is already exceeded. Otherwise, at the end of each wait, an attacker
    /// could begin many attempts before the first of them has failed.
    IfLimitIsExceeded,
    /// The attempt always counts in advance. This is for a password that differs from the cached password of the user.
    Always,
}

/// Where an attempt was counted in advance. All times are in milliseconds of the clock of the shared store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedClaim {
    /// The time of the attempt.
    pub at: u64,
    /// If the attempt was counted for the user and the network: the time of the last failure before it in this count.
    pub user_and_network: Option<u64>,
    /// If the attempt was counted for the user: the time of the last failure before it in this count.
    pub user: Option<u64>,
}

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// The password was right. This clears failures of the user from this network, but at most 20 a day.
    Succeeded,
    /// The password was wrong.
    Failed,
    /// The password could not be checked.
    Withdrawn,
}

/// The shared store that counts the failures cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed logins cannot be counted together with the other nodes: {0}")]
pub struct SharedFailuresError(pub Arc<str>);

/// The future of [`SharedLoginFailures::begin`]. It returns the claim, or the time for which the client must wait.
pub type BeginFuture = Pin<
    Box<dyn Future<Output = Result<Result<SharedClaim, Duration>, SharedFailuresError>> + Send>,
>;

/// Counts the failed logins of several nodes in a store that they share, such as Redis.
///
/// If the store cannot be reached, each node counts on its own, and divides the number of free failures by the [number
/// of nodes](Self::nodes). So users can still log in, and an attacker gains little.
pub trait SharedLoginFailures: fmt::Debug + Send + Sync + 'static {
    /// Begins an attempt, unless the client must wait. The future must limit the time for which it waits for the store.
    fn begin(
        &self,
        attempt: Attempt,
        limits: FailureLimits,
        count_in_advance: CountInAdvance,
    ) -> BeginFuture;

    /// Records the result of an attempt. Does not wait.
    fn end(&self, attempt: Attempt, claim: SharedClaim, result: AttemptResult);

    /// Returns the number of nodes that share the counts, as far as this node knows.
    fn nodes(&self) -> NonZeroU32;
}

impl<S: SharedLoginFailures + ?Sized> SharedLoginFailures for Arc<S> {
    fn begin(
        &self,
        attempt: Attempt,
        limits: FailureLimits,
        count_in_advance: CountInAdvance,
    ) -> BeginFuture {
        (**self).begin(attempt, limits, count_in_advance)
    }

    fn end(&self, attempt: Attempt, claim: SharedClaim, result: AttemptResult) {
        (**self).end(attempt, claim, result);
    }

    fn nodes(&self) -> NonZeroU32 {
        (**self).nodes()
    }
}
