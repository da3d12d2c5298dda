//! Decides when the gateway parks or closes the connection of a client. To park an idle connection means to take it
//! from hyper, so that it needs no buffers. There are five reasons to close a connection:
//!
//! - The connection is idle for too long.
//! - The client does not finish the head of a request.
//! - The client does not take a response.
//! - Another client needs the place of this connection, because a limit of connections was reached.
//! - The client certificate of the connection is no longer accepted.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    task::coop::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    client_connection::ClientConnection, close_reason::CloseReason, http_version::HttpVersion,
};
use crate::stall::{LONG, MinimumProgress};

/// An HTTP/1.1 connection is parked when it has been idle for this long (`docs/decisions.md#d61`). With a shorter time,
/// connections would also be parked between two requests of the same page.
const PARK_AFTER: Duration = Duration::from_millis(500);

/// The time limit for requests that are in flight when their connection is evicted. Meanwhile, the connection does not
/// count for the limits of connections.
const EVICTION_GRACE: Duration = Duration::from_secs(10);

/// The time limit for requests that are in flight when their client certificate is revoked.
const REVOCATION_GRACE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
pub(super) struct ClientTimeouts {
    /// The maximum time between two requests, and before the first request.
    pub(super) idle: Duration,
    /// The maximum time from the first byte to the last byte of the head of a request. This limit applies only to
    /// HTTP/1.1.
    pub(super) head: Duration,
    /// Within this time, a client must take a minimum number of bytes of a response.
    pub(super) send: Duration,
}

/// The action that the server must take on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The server shuts the connection down gracefully, and then polls the connection and the watch again. If the
    /// connection is parked, the server closes it instead.
    ShutDown(CloseReason),
    /// The server closes the connection now.
    Close(CloseReason),
    /// The server closes the connection now. Its graceful shutdown began earlier. Since then, the connection has become
    /// idle, or the shutdown has taken too long.
    Abort,
    /// The server takes the idle connection from hyper until the client sends data, to free the buffers of hyper.
    Park,
}

/// Watches one connection. The watch has one timer, which is not reset for each request. When the timer fires, the
/// watch compares the current state with the limits.
pub(super) struct Watch {
    state: State,
    timer: Pin<Box<Sleep>>,
    waker: Option<Waker>,
}

struct State {
    connection: Arc<ClientConnection>,
    timeouts: ClientTimeouts,
    version: HttpVersion,
    /// `changes` and `read` are the values of [`ClientConnection::changes`] and [`ClientConnection::read`]. They are
    /// stored at each poll at which a request is in flight, or has begun or ended since the previous poll. If the
    /// connection has read more bytes than `read`, these bytes are the beginning of a head.
    changes: u64,
    read: u64,
    head_since: Option<Instant>,
    is_blocked: bool,
    send: MinimumProgress,
    shutting_down_since: Option<Instant>,
    evicted_at: Option<Instant>,
    revoked_at: Option<Instant>,
    is_parked: bool,
    /// If this is true, the timer must be set again at the end of the next request. Otherwise, it could fire too late
    /// to park the connection.
    parks_after_request: bool,
}

impl Watch {
    pub(super) fn new(
        connection: Arc<ClientConnection>,
        timeouts: ClientTimeouts,
        version: HttpVersion,
    ) -> Self {
        let state = State::new(connection, timeouts, version);
        Self { state, timer: Box::pin(sleep_until(Instant::now())), waker: None }
    }

    pub(super) fn version(&self) -> HttpVersion {
        self.state.version
    }

    /// Call this when hyper serves the connection again after [`Action::Park`].
    pub(super) fn resume(&mut self) {
        self.state.is_parked = false;
    }

    /// Call this after each poll of the connection.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Action> {
        let is_registered = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        let has_changed = self.state.observe();
        if is_registered && !has_changed && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        self.poll_slowly(cx, is_registered)
    }

    #[cold]
    fn poll_slowly(&mut self, cx: &mut Context<'_>, is_registered: bool) -> Poll<Action> {
        if !is_registered {
            self.state.connection.register(cx.waker());
            self.waker = Some(cx.waker().clone());
        }
        loop {
            match self.state.check(Instant::now()) {
                Err(action) => {
                    // The next poll must check again, because the timer may not be armed yet.
                    self.waker = None;
                    return Poll::Ready(action);
                }
                Ok(next) if next != self.timer.deadline() => self.timer.as_mut().reset(next),
                Ok(_) => {}
            }
            // `unconstrained` is needed, because tokio does not register the waker of a task that has used up its
            // cooperative budget.
            if pin!(unconstrained(self.timer.as_mut())).poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl State {
    fn new(
        connection: Arc<ClientConnection>,
        timeouts: ClientTimeouts,
        version: HttpVersion,
    ) -> Self {
        let (changes, read) = (connection.changes(), connection.read());
        Self {
            connection,
            timeouts,
            version,
            changes,
            read,
            head_since: None,
            is_blocked: false,
            send: MinimumProgress::new(timeouts.send),
            shutting_down_since: None,
            evicted_at: None,
            revoked_at: None,
            is_parked: false,
            parks_after_request: false,
        }
    }

    /// Compares the connection with its last known state. Returns true if a time limit begins or ends now, or if the
    /// connection must be closed.
    fn observe(&mut self) -> bool {
        let connection = &*self.connection;
        let (changes, read, in_flight) =
            (connection.changes(), connection.read(), connection.in_flight());
        let has_changed = changes != self.changes;
        if has_changed || in_flight > 0 {
            self.changes = changes;
            self.read = read;
            self.head_since = None;
        }
        let begins_head = self.head_since.is_none() && read != self.read;
        begins_head && self.version == HttpVersion::Http1
            || self.parks_after_request && has_changed && in_flight == 0
            || connection.is_blocked() != self.is_blocked
            || connection.is_evicted()
            || connection.is_revoked()
    }

    /// Compares the state with the limits. Returns the time of the next check.
    fn check(&mut self, now: Instant) -> Result<Instant, Action> {
        let after = |start: Instant, limit| start.checked_add(limit).unwrap_or(now + LONG);
        let connection = &*self.connection;
        let in_flight = connection.in_flight();
        let was_blocked = std::mem::replace(&mut self.is_blocked, connection.is_blocked());
        if was_blocked && !self.is_blocked && in_flight == 0 {
            connection.restart_idle_time();
        }
        // While the client still takes a response, the connection is not idle, although the service has finished.
        let is_idle = in_flight == 0 && !self.is_blocked;
        let mut next = after(now, self.timeouts.idle);
        if connection.is_evicted() {
            let evicted_at = match self.evicted_at {
                Some(evicted_at) => evicted_at,
                None => {
                    self.evicted_at = Some(now);
                    if connection.was_stalled() && connection.waits_for_client() {
                        return Err(Action::Close(CloseReason::ConnectionLimit));
                    }
                    if self.shutting_down_since.is_none() {
                        self.shutting_down_since = Some(now);
                        return Err(Action::ShutDown(CloseReason::ConnectionLimit));
                    }
                    now
                }
            };
            // An HTTP/2 client can open streams until it has acknowledged the shutdown, and it may never acknowledge
            // the shutdown. So the connection ends at `end` at the latest.
            let end = after(evicted_at, EVICTION_GRACE);
            if is_idle || now >= end {
                return Err(Action::Abort);
            }
            next = next.min(end);
        }
        if connection.is_revoked() {
            let revoked_at = *self.revoked_at.get_or_insert(now);
            if self.shutting_down_since.is_none() {
                self.shutting_down_since = Some(now);
                return Err(Action::ShutDown(CloseReason::Certificate));
            }
            // As after an eviction, the connection ends at `end` at the latest.
            let end = after(revoked_at, REVOCATION_GRACE);
            if is_idle || now >= end {
                return Err(Action::Abort);
            }
            next = next.min(end);
        }
        let has_no_limit =
            self.version == HttpVersion::Http1 && in_flight > 0 && connection.has_no_send_limit();
        if self.is_blocked && !has_no_limit {
            let end = self.send.waiting(now, connection.written());
            next = next.min(end.map_err(|_| Action::Close(CloseReason::Send))?);
        } else {
            self.send.clear();
        }
        if !is_idle {
            self.parks_after_request = self.version == HttpVersion::Http1;
            return Ok(next);
        }
        if self.version == HttpVersion::Http1 && connection.read() != self.read {
            let end = after(*self.head_since.get_or_insert(now), self.timeouts.head);
            if now >= end {
                return Err(Action::Close(CloseReason::Head));
            }
            self.parks_after_request = true;
            // The head has begun, so the idle timeout does not apply.
            return Ok(next.min(end));
        }
        let idle_since = connection.idle_since();
        match self.shutting_down_since {
            None => {
                let end = after(idle_since, self.timeouts.idle);
                if now >= end {
                    self.shutting_down_since = Some(now);
                    return Err(Action::ShutDown(CloseReason::Idle));
                }
                if self.version == HttpVersion::Http2 || self.is_parked {
                    return Ok(next.min(end));
                }
                let park_at = after(idle_since, PARK_AFTER);
                self.parks_after_request = now >= park_at;
                if now < park_at {
                    return Ok(next.min(end).min(park_at));
                }
                self.is_parked = self.can_be_parked();
                if self.is_parked { Err(Action::Park) } else { Ok(next.min(end)) }
            }
            // The connection is shutting down. An HTTP/2 client may still take the rest of a response, for at most the
            // send timeout.
            Some(since) => {
                let end = after(since.max(idle_since), self.timeouts.send);
                if now >= end { Err(Action::Abort) } else { Ok(next.min(end)) }
            }
        }
    }

    /// Returns whether an idle connection can be taken from hyper without the loss of a byte. After the beginning of
    /// the server's shutdown, no connection is parked, because hyper must announce the close.
    fn can_be_parked(&self) -> bool {
        let response = self.connection.response();
        response.is_between_requests() && !response.announces_close()
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, task};

    use super::*;
    use crate::tls::client_connection::{Eviction, InFlight, WaitsFor};

    const TIMEOUTS: ClientTimeouts = ClientTimeouts {
        idle: Duration::from_secs(75),
        head: Duration::from_secs(30),
        send: Duration::from_secs(60),
    };

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Read,
        Request,
        End,
        Blocked,
        Written(usize),
        Evicted,
        EvictedAsStalled,
        Revoked,
        /// The last request waits for the client.
        WaitsForClient,
        /// hyper waits for the beginning of a request.
        AwaitsHead,
        /// The connection was parked, and hyper serves it again.
        Resumed,
        Check,
    }

    /// Applies each event at the given second. Returns each action with the second at which it occurs.
    async fn actions(version: HttpVersion, events: &[(u64, Event)]) -> Vec<(u64, Action)> {
        let start = Instant::now();
        let connection = Arc::new(ClientConnection::unlimited());
        let mut state = State::new(connection.clone(), TIMEOUTS, version);
        let mut requests = Vec::new();
        let mut actions = Vec::new();
        for (second, event) in events {
            let now = start + Duration::from_secs(*second);
            tokio::time::advance(now - Instant::now()).await;
            match event {
                Event::Read => connection.add_read(10),
                Event::Request => requests.push(InFlight::begin(&connection)),
                Event::End => drop(requests.pop()),
                Event::Blocked => connection.add_written(Poll::Pending),
                Event::Written(bytes) => connection.add_written(Poll::Ready(*bytes)),
                Event::Evicted => connection.evict(Eviction::Idle),
                Event::EvictedAsStalled => connection.evict(Eviction::Stalled),
                Event::Revoked => connection.revoke(),
                Event::WaitsForClient => {
                    requests.last_mut().unwrap().set_waits_for(WaitsFor::Client);
                }
                Event::AwaitsHead => connection.response().set_awaits_head(true),
                Event::Resumed => state.is_parked = false,
                Event::Check => {}
            }
            state.observe();
            if let Err(action) = state.check(now) {
                actions.push((*second, action));
            }
        }
        actions
    }

    #[tokio::test(start_paused = true)]
    async fn each_limit_has_its_action() {
        use Action::{Abort, Close, Park, ShutDown};
        use Event::{
            AwaitsHead, Blocked, Check, End, Evicted, EvictedAsStalled, Read, Request, Resumed,
            Revoked, WaitsForClient, Written,
        };
        use HttpVersion::{Http1, Http2};
        type Case<'a> = (&'a str, HttpVersion, &'a [(u64, Event)], &'a [(u64, Action)]);
        let cases: &[Case<'_>] = &[
            (
                "idle before the first request",
                Http1,
                &[(74, Check), (75, Check)],
                &[(75, ShutDown(CloseReason::Idle))],
            ),
            (
                "idle after a request",
                Http1,
                &[(70, Read), (70, Request), (99, End), (173, Check), (174, Check)],
                &[(174, ShutDown(CloseReason::Idle))],
            ),
            ("busy", Http2, &[(1, Request), (500, Check)], &[]),
            (
                "a head that never ends",
                Http1,
                &[(50, Read), (60, Read), (79, Read), (80, Check)],
                &[(80, Close(CloseReason::Head))],
            ),
            (
                "pings are not heads, and do not make an HTTP/2 connection busy",
                Http2,
                &[(30, Read), (60, Read), (74, Check), (75, Check)],
                &[(75, ShutDown(CloseReason::Idle))],
            ),
            (
                "an HTTP/2 client that does not end the connection",
                Http2,
                &[(75, Check), (134, Check), (135, Check)],
                &[(75, ShutDown(CloseReason::Idle)), (135, Abort)],
            ),
            (
                "the bytes of a body are not a head",
                Http1,
                &[(1, Request), (2, Read), (3, Read), (3, End), (34, Check)],
                &[],
            ),
            (
                "a response that is not taken",
                Http1,
                &[(1, Request), (2, Blocked), (61, Check), (62, Check)],
                &[(62, Close(CloseReason::Send))],
            ),
            (
                "a response of which the client takes only a part",
                Http1,
                &[
                    (1, Request),
                    (2, Blocked),
                    (50, Written(4096)),
                    (50, Blocked),
                    (62, Check),
                    (109, Check),
                    (110, Check),
                ],
                &[(110, Close(CloseReason::Send))],
            ),
            (
                "evicted",
                Http2,
                &[(1, Evicted), (1, Check)],
                &[(1, ShutDown(CloseReason::ConnectionLimit)), (1, Abort)],
            ),
            (
                "a revoked certificate",
                Http2,
                &[(1, Revoked), (1, Check)],
                &[(1, ShutDown(CloseReason::Certificate)), (1, Abort)],
            ),
            (
                "a request in flight with a revoked certificate",
                Http1,
                &[(1, Request), (2, Revoked), (20, Check), (25, End)],
                &[(2, ShutDown(CloseReason::Certificate)), (25, Abort)],
            ),
            (
                "a request that takes too long after the revocation",
                Http2,
                &[(1, Request), (2, Revoked), (31, Check), (32, Check)],
                &[(2, ShutDown(CloseReason::Certificate)), (32, Abort)],
            ),
            (
                "a request that began when the connection was evicted",
                Http1,
                &[(1, Request), (1, Evicted), (2, Check), (9, End)],
                &[(1, ShutDown(CloseReason::ConnectionLimit)), (9, Abort)],
            ),
            (
                "requests after the eviction",
                Http2,
                &[(1, Evicted), (1, Request), (1, Request), (10, End), (10, Request), (11, Check)],
                &[(1, ShutDown(CloseReason::ConnectionLimit)), (11, Abort)],
            ),
            (
                "parked, and idle for too long",
                Http1,
                &[(0, AwaitsHead), (1, Check), (2, Check), (75, Check)],
                &[(1, Park), (75, ShutDown(CloseReason::Idle))],
            ),
            (
                "parked again after a request",
                Http1,
                &[(0, AwaitsHead), (1, Check), (9, Request), (9, Resumed), (9, End), (10, Check)],
                &[(1, Park), (10, Park)],
            ),
            (
                "a head that has begun",
                Http1,
                &[(0, Read), (0, AwaitsHead), (1, Check), (30, Check)],
                &[(30, Close(CloseReason::Head))],
            ),
            ("an idle HTTP/2 connection", Http2, &[(0, AwaitsHead), (1, Check)], &[]),
            (
                "evicted while it is parked",
                Http1,
                &[(0, AwaitsHead), (1, Check), (2, Evicted), (2, Check)],
                &[(1, Park), (2, ShutDown(CloseReason::ConnectionLimit)), (2, Abort)],
            ),
            (
                "evicted, and the client does not take the response",
                Http2,
                &[(1, Request), (1, WaitsForClient), (1, EvictedAsStalled)],
                &[(1, Close(CloseReason::ConnectionLimit))],
            ),
            (
                "evicted, but the client has taken the response",
                Http2,
                &[(1, Request), (1, EvictedAsStalled), (3, End)],
                &[(1, ShutDown(CloseReason::ConnectionLimit)), (3, Abort)],
            ),
            (
                "the rest of a response that the client takes slowly",
                Http1,
                &[
                    (1, Request),
                    (2, Blocked),
                    (2, End),
                    (50, Written(9000)),
                    (50, Blocked),
                    (90, Written(9000)),
                    (90, Check),
                    (164, Check),
                    (165, Check),
                ],
                &[(165, ShutDown(CloseReason::Idle))],
            ),
            (
                "the rest of a response that the client does not take",
                Http2,
                &[(1, Request), (2, Blocked), (2, End), (2, Evicted), (9, Check), (12, Check)],
                &[(2, ShutDown(CloseReason::ConnectionLimit)), (12, Abort)],
            ),
        ];
        for (name, version, events, want) in cases {
            assert_eq!(actions(*version, events).await, *want, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_timer_parks_a_connection_half_a_second_after_its_last_request() {
        let start = Instant::now();
        let at = |millis| sleep_until(start + Duration::from_millis(millis));
        let connection = Arc::new(ClientConnection::unlimited());
        connection.response().set_awaits_head(true);
        let mut watch = task::spawn(Watch::new(connection.clone(), TIMEOUTS, HttpVersion::Http1));
        let mut poll = || watch.enter(|cx, mut watch| watch.poll(cx));
        assert_pending!(poll());
        // The head of a request arrives in two parts.
        connection.add_read(10);
        assert_pending!(poll());
        // The first request is in flight when the timer fires.
        for (begin, end) in [(300, 1700), (1800, 1900), (2300, 2310)] {
            at(begin).await;
            let request = InFlight::begin(&connection);
            assert_pending!(poll());
            at(1700.min(end)).await;
            assert_pending!(poll());
            at(end).await;
            drop(request);
            assert_pending!(poll());
        }
        at(2809).await;
        assert_pending!(poll());
        at(2811).await;
        assert!(watch.is_woken());
        assert_eq!(watch.enter(|cx, mut watch| watch.poll(cx)), Poll::Ready(Action::Park));
    }

    /// A slow handshake can take longer than `PARK_AFTER`.
    #[tokio::test(start_paused = true)]
    async fn the_idle_timeout_applies_if_the_first_check_parks_the_connection() {
        let connection = Arc::new(ClientConnection::unlimited());
        let start = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        connection.response().set_awaits_head(true);
        let mut watch = task::spawn(Watch::new(connection, TIMEOUTS, HttpVersion::Http1));
        let mut poll = || watch.enter(|cx, mut watch| watch.poll(cx));
        assert_eq!(poll(), Poll::Ready(Action::Park));
        assert_pending!(poll());
        sleep_until(start + TIMEOUTS.idle + Duration::from_millis(1)).await;
        assert!(watch.is_woken());
        let action = watch.enter(|cx, mut watch| watch.poll(cx));
        assert_eq!(action, Poll::Ready(Action::ShutDown(CloseReason::Idle)));
    }
}
