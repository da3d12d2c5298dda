//! All open tunnels. A tunnel is a WebSocket that the gateway forwards. This module has the settings and limits of the
//! tunnels, and searches for tunnels whose token was revoked. The search includes event streams and gRPC calls, which
//! are not tunnels.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::Duration,
};

use atomic_waker::AtomicWaker;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::counts::TunnelCounts;
use crate::{
    audit::Audit,
    clock::{Clock, SystemClock},
    passticket::UserId,
    revocation::{RevocationCheck, RevocationListener},
    token::VerifiedToken,
};

const PER_USER: NonZeroUsize = NonZeroUsize::new(100).expect("should not be zero");

/// The minimum time between two searches for tunnels with revoked tokens. All revocations in this time cause one
/// search.
const SEARCH_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// The WebSockets of [`Forward`](super::super::Forward): their settings, and which of them are open.
///
/// A WebSocket is closed with code 1008 in these cases:
///
/// - The token of its handshake expires or is revoked.
/// - The revocation store cannot check this token for 10 seconds.
/// - The client certificate expires, or [`tls::Server`](crate::tls::Server) no longer accepts the certificate.
///
/// Call [`enforce_revocations`](Self::enforce_revocations) in a task, so that a revocation closes WebSockets
/// immediately. Without this task, a revocation closes WebSockets within 30 seconds.
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use tower_passticket::{proxy::Tunnels, revocation::RevocationIndex};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let revocations = Arc::new(RevocationIndex::default());
/// let tunnels = Tunnels::new(revocations).with_idle_timeout(Duration::from_secs(600));
/// let tunnels = Arc::new(tunnels);
/// let enforcing = tunnels.clone();
/// tokio::spawn(async move { enforcing.enforce_revocations().await });
/// // Pass `tunnels` to `Forward::with_tunnels`.
/// # }
/// ```
pub struct Tunnels {
    pub(super) settings: Settings,
    pub(super) revocations: Arc<dyn RevocationCheck>,
    pub(super) audit: Audit,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counts: Arc<TunnelCounts>,
    revoked: Arc<Notify>,
    table: Arc<Mutex<Table>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) connect: Duration,
    pub(super) idle: Duration,
    pub(super) write: Duration,
    per_user: NonZeroUsize,
}

#[derive(Default)]
struct Table {
    last_id: u64,
    open: HashMap<u64, Arc<Control>>,
    /// Event streams and gRPC calls. They end when their token is revoked.
    watched: HashMap<u64, Arc<Control>>,
    owners: HashMap<Owner, usize>,
    /// Whether [`Tunnels::end_all`] was called.
    has_ended: bool,
}

/// Each tunnel counts toward the limit of its owner: its user, or the address of its client if it has no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    User(UserId),
    Address(IpAddr),
    /// The HTTP server does not report the address of the client.
    Unknown,
}

impl Owner {
    /// Returns the owner for a client's address. All addresses of an IPv6 network of 64 bits are one owner, because a
    /// host can choose any address in its network.
    pub(super) fn of_address(ip: IpAddr) -> Self {
        Self::Address(match ip {
            IpAddr::V4(_) => ip,
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
        })
    }
}

impl Tunnels {
    /// Creates an empty table of WebSockets with the default settings. `revocations` checks the tokens of WebSockets.
    /// Pass the store that the layers use.
    pub fn new(revocations: impl RevocationCheck) -> Self {
        let revoked = Arc::<Notify>::default();
        let notified = revoked.clone();
        let listener: RevocationListener = Arc::new(move || notified.notify_one());
        revocations.on_revocation(listener);
        Self {
            settings: Settings {
                connect: Duration::from_secs(45),
                idle: Duration::from_secs(3600),
                write: Duration::from_secs(60),
                per_user: PER_USER,
            },
            revocations: Arc::new(revocations),
            audit: Audit::none(),
            clock: Arc::new(SystemClock),
            counts: Arc::default(),
            revoked,
            table: Arc::default(),
        }
    }

    /// Returns a value with the same WebSockets and settings. If you change the settings of the returned value, the
    /// changes apply only to WebSockets that are opened with it. One call of
    /// [`enforce_revocations`](Self::enforce_revocations) is enough for both values.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            settings: self.settings,
            revocations: self.revocations.clone(),
            audit: self.audit.clone(),
            clock: self.clock.clone(),
            counts: self.counts.clone(),
            revoked: self.revoked.clone(),
            table: self.table.clone(),
        }
    }

    /// Sets how long a service may take to answer a handshake. The time to connect is included. A shorter response
    /// timeout of the route or of [`ForwardTimeouts`](super::super::ForwardTimeouts) takes precedence. Default: 45 s,
    /// as in Zowe.
    #[must_use]
    pub fn with_connect_timeout(mut self, connect: Duration) -> Self {
        self.settings.connect = connect;
        self
    }

    /// Sets the idle timeout. If no byte is sent in either direction for this time, the gateway closes the WebSocket
    /// with code 1001. Default: 1 hour, as in Zowe.
    #[must_use]
    pub fn with_idle_timeout(mut self, idle: Duration) -> Self {
        self.settings.idle = idle;
        self
    }

    /// Sets how long a client or a service may read nothing while the gateway has bytes for it. After this time, the
    /// gateway closes both connections without a close frame. Default: 60 s, as in Zowe.
    #[must_use]
    pub fn with_write_timeout(mut self, write: Duration) -> Self {
        self.settings.write = write;
        self
    }

    /// Sets the maximum number of open WebSockets of one user. A WebSocket without a user counts against the limit for
    /// the address of its client. The gateway answers further handshakes with 429. Default: 100.
    #[must_use]
    pub fn with_tunnels_per_user(mut self, per_user: NonZeroUsize) -> Self {
        self.settings.per_user = per_user;
        self
    }

    /// Records in `audit` each WebSocket that the gateway closes because its credential is no longer valid, or cannot
    /// be checked any more.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }

    /// Counts WebSockets in `counts`.
    #[must_use]
    pub fn with_counts(self, counts: Arc<TunnelCounts>) -> Self {
        Self { counts, ..self }
    }

    /// Uses `clock` instead of the system clock for the expiry of tokens and certificates.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Returns the number of open WebSockets.
    pub fn open(&self) -> usize {
        self.table().open.len()
    }

    /// Closes WebSockets, and ends event streams and gRPC calls, when their tokens are revoked. Never returns.
    pub async fn enforce_revocations(&self) {
        loop {
            self.revoked.notified().await;
            let began = Instant::now();
            self.wake_revoked();
            // So the searches take at most a tenth of the time, even with very many tunnels and revocations.
            sleep(SEARCH_AGAIN_AFTER.max(began.elapsed() * 9)).await;
        }
    }

    /// Wakes the tunnels whose tokens may be revoked. Each of these tunnels checks its token itself.
    fn wake_revoked(&self) {
        let table = self.table();
        let all: Vec<_> = table.open.values().chain(table.watched.values()).cloned().collect();
        drop(table);
        for control in all {
            // This search skips a check that needs a call to a server. If the search made such checks, each revocation
            // would cause one call for each tunnel. Each tunnel makes this check itself every 30 seconds.
            let checked = control.token.as_ref().map(|token| self.revocations.try_check_now(token));
            if let Some(Some(Err(_))) = checked {
                control.check_now();
            }
        }
    }

    /// Closes all WebSockets with code 1001. Call this function when the program stops. A
    /// [`tls::Server`](crate::tls::Server) closes its WebSockets itself, so only another HTTP server needs this call.
    pub fn shut_down(&self) {
        self.table().open.values().for_each(|control| control.shut_down());
    }

    /// Closes all WebSockets with code 1001, and ends the event streams and gRPC calls whose credentials are checked.
    /// WebSockets, streams and calls that begin after this call also end. Call this function if this process no longer
    /// learns about revocations, so that no response continues with a token that may have been revoked.
    pub fn end_all(&self) {
        let mut table = self.table();
        table.has_ended = true;
        let all: Vec<_> = table.open.values().chain(table.watched.values()).cloned().collect();
        drop(table);
        all.iter().for_each(|control| control.shut_down());
    }

    /// Takes a [`Place`] for a tunnel of `owner`. Returns `None` if the owner already has the maximum number of
    /// tunnels.
    pub(super) fn reserve(self: &Arc<Self>, owner: Owner) -> Option<Place> {
        let mut table = self.table();
        let open = table.owners.entry(owner).or_default();
        if *open >= self.settings.per_user.get() {
            self.counts.refused.increment();
            return None;
        }
        *open += 1;
        Some(Place { tunnels: self.clone(), owner })
    }

    /// Watches `token` for an event stream or a gRPC call.
    pub(super) fn watch(self: &Arc<Self>, token: Option<VerifiedToken>) -> Watched {
        let mut table = self.table();
        let control = Arc::new(Control::new(token, table.has_ended));
        table.last_id += 1;
        let id = table.last_id;
        table.watched.insert(id, control.clone());
        drop(table);
        Watched { tunnels: self.clone(), id, control }
    }

    pub(super) fn per_user(&self) -> NonZeroUsize {
        self.settings.per_user
    }

    /// Locks the table. Each function of this module that takes the lock releases it before it returns.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnels").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The right of an owner to have one tunnel. The tunnel counts toward the limit of the owner until this value is
/// dropped.
#[derive(Debug)]
pub(super) struct Place {
    tunnels: Arc<Tunnels>,
    owner: Owner,
}

impl Place {
    pub(super) fn tunnels(&self) -> &Arc<Tunnels> {
        &self.tunnels
    }

    pub(super) fn open(self, token: Option<VerifiedToken>) -> Registered {
        let mut table = self.tunnels.table();
        let control = Arc::new(Control::new(token, table.has_ended));
        table.last_id += 1;
        let id = table.last_id;
        table.open.insert(id, control.clone());
        drop(table);
        self.tunnels.counts.open.increment();
        Registered { place: self, id, control }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.tunnels.table();
        if let Some(open) = table.owners.get_mut(&self.owner) {
            *open -= 1;
            if *open == 0 {
                table.owners.remove(&self.owner);
            }
        }
    }
}

/// An open tunnel. It leaves the table when this value is dropped.
#[derive(Debug)]
pub(super) struct Registered {
    place: Place,
    id: u64,
    control: Arc<Control>,
}

impl Registered {
    pub(super) fn tunnels(&self) -> &Arc<Tunnels> {
        self.place.tunnels()
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let tunnels = self.place.tunnels();
        tunnels.table().open.remove(&self.id);
        tunnels.counts.open.decrement();
    }
}

/// An event stream or a gRPC call whose token is watched. It leaves the table when this value is dropped.
#[derive(Debug)]
pub(super) struct Watched {
    tunnels: Arc<Tunnels>,
    id: u64,
    control: Arc<Control>,
}

impl Watched {
    pub(super) fn control(&self) -> &Control {
        &self.control
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.tunnels.table().watched.remove(&self.id);
    }
}

/// Signals from other tasks to one tunnel or watched response: check the token, or shut down.
#[derive(Debug)]
pub(super) struct Control {
    token: Option<VerifiedToken>,
    must_check: AtomicBool,
    must_shut_down: AtomicBool,
    waker: AtomicWaker,
}

impl Control {
    fn new(token: Option<VerifiedToken>, must_shut_down: bool) -> Self {
        Self {
            token,
            must_check: AtomicBool::new(false),
            must_shut_down: AtomicBool::new(must_shut_down),
            waker: AtomicWaker::new(),
        }
    }

    pub(super) fn token(&self) -> Option<&VerifiedToken> {
        self.token.as_ref()
    }

    /// Registers the waker of the tunnel. Call this before the other functions, so that no signal is missed.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    fn check_now(&self) {
        self.must_check.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn shut_down(&self) {
        self.must_shut_down.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Returns whether the tunnel must check its token now. Returns true once after one or more calls of `check_now`.
    pub(super) fn take_check(&self) -> bool {
        self.must_check.load(Ordering::Acquire) && self.must_check.swap(false, Ordering::AcqRel)
    }

    pub(super) fn must_shut_down(&self) -> bool {
        self.must_shut_down.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use test_support::tickets::user;

    use super::*;
    use crate::revocation::RevocationIndex;

    #[test]
    fn each_owner_has_its_own_limit_and_a_closed_tunnel_frees_its_place() {
        let tunnels = Tunnels::new(RevocationIndex::default())
            .with_tunnels_per_user(NonZeroUsize::new(2).unwrap());
        let tunnels = Arc::new(tunnels);
        let [one, two] = ["ONE", "TWO"].map(|name| Owner::User(user(name)));
        let [first, _second] = [(); 2].map(|()| tunnels.reserve(one).unwrap());
        assert!(tunnels.reserve(one).is_none());
        assert!(tunnels.reserve(two).is_some());
        drop(first);
        let open = tunnels.reserve(one).unwrap().open(None);
        assert!(tunnels.reserve(one).is_none());
        assert_eq!((tunnels.open(), tunnels.counts.open.get()), (1, 1));
        drop(open);
        assert!(tunnels.reserve(one).is_some());
        assert_eq!((tunnels.open(), tunnels.counts.open.get()), (0, 0));
        assert_eq!(tunnels.counts.refused.get(), 2);
        assert_eq!(tunnels.table().owners.len(), 1);
    }

    #[test]
    fn end_all_also_ends_tunnels_and_watched_responses_that_begin_later() {
        let tunnels = Arc::new(Tunnels::new(RevocationIndex::default()));
        let open = || tunnels.reserve(Owner::Unknown).unwrap().open(None);
        let (before, watched_before) = (open(), tunnels.watch(None));
        assert!(!before.control().must_shut_down() && !watched_before.control().must_shut_down());
        tunnels.share().end_all();
        let (after, watched_after) = (open(), tunnels.watch(None));
        for control in
            [before.control(), watched_before.control(), after.control(), watched_after.control()]
        {
            assert!(control.must_shut_down());
        }
    }

    #[test]
    fn a_network_of_64_bits_is_one_owner() {
        let owner = |ip: &str| Owner::of_address(ip.parse().unwrap());
        assert_eq!(owner("2001:db8::1"), owner("2001:db8::ffff:0:0:2"));
        assert_ne!(owner("2001:db8::1"), owner("2001:db8:0:1::1"));
        assert_ne!(owner("192.0.2.1"), owner("192.0.2.2"));
    }
}
