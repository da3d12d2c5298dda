//! The future of one tunnel, which moves bytes in both directions. A tunnel ends when one side ends, a limit is
//! reached, the gateway stops, or the credential of the handshake is no longer valid.

use std::{
    fmt, mem,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::{
    rt::Write,
    upgrade::{OnUpgrade, Upgraded},
};
use tokio::{
    task::coop::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

use super::super::instances::InFlight;
use super::{
    counts::Ended,
    credential_check::{CredentialCheck, Invalid},
    flow::{Failed, Flow},
    frames::{CloseCode, close_frame},
    proofs::Expiry,
    service_upgrade::SwitchedConnection,
    tunnels::Registered,
};
use crate::{
    audit::{AuditRecord, ReasonCode, RequestId},
    passticket::UserId,
    request_facts::{Cause, RequestFacts},
    revocation::CheckError,
    token::ServiceId,
    tunnel::Tunnel,
};

/// The time that both sides may take to close the WebSocket after the close frame of the gateway. Also the time that a
/// service may take to close its connection after the client has closed its connection.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// The time that both connections may take to change to WebSocket after the status 101.
const UPGRADE_TIME: Duration = Duration::from_secs(10);

/// The time until the next check if there is nothing to check.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) struct About {
    pub(super) service: ServiceId,
    pub(super) user: Option<UserId>,
    pub(super) request_id: Option<RequestId>,
    /// The record to write if the credential is no longer valid. `None` if there is no audit log, if there is no user,
    /// or if the record was written.
    pub(super) record: Option<Box<AuditRecord>>,
    /// `None` if no outer layer needs the facts about the request.
    pub(super) facts: Option<RequestFacts>,
}

pub(super) struct WebSocketTunnel {
    state: State,
    registered: Registered,
    /// The tunnel counts as a request in flight at its instance, so that new requests go to instances with fewer
    /// tunnels.
    in_flight: Option<InFlight>,
    about: About,
    credential: CredentialCheck,
    opened: Instant,
    active: Instant,
    closing: Option<Closing>,
    /// The side that was first to send a close frame or to close its connection.
    first_closed: Option<Ended>,
    /// The time until which the service may close its connection. `None` before the client has closed its connection.
    service_until: Option<Instant>,
    /// Fires at the next deadline of the tunnel or earlier.
    timer: Pin<Box<Sleep>>,
    ended: Option<Ended>,
}

enum State {
    /// The connections still belong to HTTP.
    Upgrading {
        client: OnUpgrade,
        service: SwitchedConnection,
        upgraded: [Option<Upgraded>; 2],
    },
    Open(Box<Open>),
    Closed,
}

struct Open {
    client: Upgraded,
    service: Upgraded,
    /// The bytes from the client to the service.
    up: Flow,
    /// The bytes from the service to the client.
    down: Flow,
}

#[derive(Clone, Copy)]
struct Closing {
    why: Ended,
    deadline: Instant,
}

impl WebSocketTunnel {
    pub(super) fn new(
        client: OnUpgrade,
        service: SwitchedConnection,
        registered: Registered,
        expiry: Option<Expiry>,
        about: About,
    ) -> Self {
        let now = Instant::now();
        let has_credential = expiry.is_some() || registered.control().token().is_some();
        let user = about.user.map(tracing::field::display);
        let request_id = about.request_id.map(tracing::field::display);
        tracing::debug!(service = %about.service, user, request_id, "WebSocket opened");
        Self {
            state: State::Upgrading { client, service, upgraded: [None, None] },
            registered,
            in_flight: None,
            about,
            // The first check is immediate: the token may have been revoked during the handshake.
            credential: CredentialCheck::new(
                expiry,
                if has_credential { now } else { now + NEVER },
            ),
            opened: now,
            active: now,
            closing: None,
            first_closed: None,
            service_until: None,
            timer: Box::pin(sleep_until(now)),
            ended: None,
        }
    }

    pub(super) fn with_in_flight(mut self, in_flight: Option<InFlight>) -> Self {
        self.in_flight = in_flight;
        self
    }

    fn close(&mut self, why: Ended, code: CloseCode, reason: &str) {
        if self.closing.is_some() {
            return;
        }
        if let State::Open(open) = &mut self.state {
            open.up.close_with(close_frame(code, reason, Some(random_mask())));
            open.down.close_with(close_frame(code, reason, None));
        }
        self.closing = Some(Closing { why, deadline: Instant::now() + CLOSE_TIME });
    }

    fn close_for_credential(&mut self, why: Ended, reason: ReasonCode, text: &str) {
        if self.closing.is_some() {
            return;
        }
        self.close(why, CloseCode::PolicyViolation, text);
        let About { service, user, request_id, record, .. } = &mut self.about;
        let (user, request_id) =
            (user.map(tracing::field::display), request_id.map(tracing::field::display));
        tracing::info!(%service, user, request_id, reason = reason.as_str(), "WebSocket closed: its credential is no longer valid");
        if let Some(record) = record.take() {
            let audit = &self.registered.tunnels().audit;
            audit.record(|| AuditRecord { time: audit.now(), ..record.with_reason(reason) });
        }
    }

    fn check_credential(&mut self, now: Instant) {
        let (tunnels, control) = (self.registered.tunnels(), self.registered.control());
        let checked = self.credential.begin(tunnels, control.token(), now);
        self.close_if_invalid(checked);
    }

    fn close_if_invalid(&mut self, checked: Result<(), Invalid>) {
        let Err(invalid) = checked else { return };
        let (why, reason) = match invalid {
            Invalid::Expired(reason) => (Ended::Expired, reason),
            Invalid::Revoked(by) => (Ended::Revoked, by.into()),
            Invalid::Unchecked => (Ended::Unchecked, CheckError::Unavailable.into()),
        };
        self.close_for_credential(why, reason, invalid.as_str());
    }

    /// Handles the signals of other tasks, and polls a check that waits for a server.
    fn poll_orders(&mut self, cx: &mut Context<'_>) {
        self.registered.control().register(cx.waker());
        if self.registered.control().must_shut_down() {
            self.close(Ended::Shutdown, CloseCode::GoingAway, SHUTDOWN);
        }
        if self.registered.control().take_check() {
            self.check_credential(Instant::now());
        }
        let checked = self.credential.poll(cx);
        self.close_if_invalid(checked);
    }

    /// Moves bytes. Ready when the tunnel has ended.
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if let State::Upgrading { client, service, upgraded } = &mut self.state {
            if self.closing.is_some() {
                // The connections still belong to HTTP, so no close frame can be sent.
                return Poll::Ready(self.closing.map_or(Ended::Dropped, |closing| closing.why));
            }
            let [for_client, for_service] = upgraded;
            if for_service.is_none()
                && let Poll::Ready(result) = service.poll_upgraded(cx)
            {
                match result {
                    Ok(upgraded) => *for_service = Some(upgraded),
                    Err(_) => return Poll::Ready(Ended::Service),
                }
            }
            if for_client.is_none()
                && let Poll::Ready(result) = Pin::new(client).poll(cx)
            {
                match result {
                    Ok(upgraded) => *for_client = Some(upgraded),
                    Err(_) => return Poll::Ready(Ended::Client),
                }
            }
            let (Some(_), Some(_)) = (&for_client, &for_service) else { return Poll::Pending };
            if let (Some(client), Some(service)) = (for_client.take(), for_service.take()) {
                let (up, down) = (Flow::default(), Flow::default());
                self.active = Instant::now();
                self.state = State::Open(Box::new(Open { client, service, up, down }));
            }
        }
        let State::Open(open) = &mut self.state else { return Poll::Ready(Ended::Dropped) };
        let Open { client, service, up, down } = &mut **open;
        if let Some(Closing { why, .. }) = self.closing {
            let up = up.poll_close(cx, client, service);
            let down = down.poll_close(cx, service, client);
            ready!(up);
            ready!(down);
            for side in [service, client] {
                // The connections are dropped after this call, so the shutdown need not finish.
                let _ = Pin::new(side).poll_shutdown(cx);
            }
            return Poll::Ready(why);
        }
        let before = up.moved() + down.moved();
        let up_result = up.poll_forward(cx, client, service);
        let down_result = down.poll_forward(cx, service, client);
        if up.moved() + down.moved() != before {
            self.active = Instant::now();
        }
        if self.first_closed.is_none() {
            if up.has_closed() || up_result == Poll::Ready(Ok(())) {
                self.first_closed = Some(Ended::Client);
            } else if down.has_closed() {
                self.first_closed = Some(Ended::Service);
            }
        }
        let first_closed = self.first_closed;
        let first_or = |other| first_closed.unwrap_or(other);
        match (up_result, down_result) {
            // The service has closed the connection. A WebSocket does not continue in one direction only.
            (_, Poll::Ready(Ok(()))) => Poll::Ready(first_or(Ended::Service)),
            (_, Poll::Ready(Err(Failed::Source))) | (Poll::Ready(Err(Failed::Destination)), _) => {
                Poll::Ready(first_or(Ended::Service))
            }
            (_, Poll::Ready(Err(Failed::Destination))) | (Poll::Ready(Err(Failed::Source)), _) => {
                Poll::Ready(first_or(Ended::Client))
            }
            (Poll::Ready(Ok(())), Poll::Pending) => {
                self.service_until.get_or_insert_with(|| Instant::now() + CLOSE_TIME);
                Poll::Pending
            }
            (Poll::Pending, Poll::Pending) => Poll::Pending,
        }
    }

    /// Compares the state with the time limits. Returns the time of the next check. This function may begin to close
    /// the WebSocket.
    ///
    /// # Errors
    /// The reason why the tunnel ends immediately.
    fn check_limits(&mut self, now: Instant) -> Result<Instant, Ended> {
        if let Some(Closing { why, deadline }) = self.closing {
            return if now >= deadline { Err(why) } else { Ok(deadline) };
        }
        let State::Open(open) = &self.state else {
            let end = self.opened + UPGRADE_TIME;
            return if now >= end { Err(Ended::Dropped) } else { Ok(end) };
        };
        let settings = self.registered.tunnels().settings;
        let blocked = [open.up.blocked_since(), open.down.blocked_since()];
        let mut next = self.active + settings.idle;
        let is_idle = now >= next;
        for since in blocked.into_iter().flatten() {
            let end = since + settings.write;
            if now >= end {
                return Err(Ended::Stalled);
            }
            next = next.min(end);
        }
        if let Some(end) = self.service_until {
            if now >= end {
                return Err(self.first_closed.unwrap_or(Ended::Client));
            }
            next = next.min(end);
        }
        if now >= self.credential.next {
            self.check_credential(now);
        } else if is_idle {
            self.close(Ended::Idle, CloseCode::GoingAway, "idle for too long");
        }
        Ok(next.min(self.credential.next))
    }

    fn finish(&mut self, ended: Ended) {
        self.ended = Some(ended);
        self.in_flight = None;
        let (moved, has_close_frame) = match mem::replace(&mut self.state, State::Closed) {
            State::Open(open) => {
                let (up, down) = (&open.up, &open.down);
                ((up.moved(), down.moved()), up.has_closed() || down.has_closed())
            }
            State::Upgrading { .. } | State::Closed => ((0, 0), false),
        };
        self.registered.tunnels().counts.ended.increment((ended,));
        let About { service, user, request_id, facts, .. } = &self.about;
        if let Some(facts) = facts {
            facts.end_tunnel(moved.0, moved.1, cause(ended, has_close_frame));
        }
        let request_id = request_id.map(tracing::field::display);
        let user = user.map(tracing::field::display);
        let (seconds, (from_client, from_service)) = (self.opened.elapsed().as_secs(), moved);
        let reason = crate::metrics::Label::value(ended);
        tracing::debug!(%service, user, request_id, reason, seconds, from_client, from_service, "WebSocket ended");
    }
}

/// Returns why the tunnel ended early. `None` if the client or the service has closed the tunnel with a close frame.
fn cause(ended: Ended, has_close_frame: bool) -> Option<Cause> {
    match ended {
        Ended::Client | Ended::Service if has_close_frame => None,
        Ended::Client => Some(Cause::Client),
        Ended::Service => Some(Cause::Service),
        Ended::Expired | Ended::Revoked | Ended::Unchecked => Some(Cause::Gateway),
        Ended::Shutdown | Ended::Dropped => Some(Cause::Shutdown),
        Ended::Idle | Ended::Stalled => Some(Cause::ClientTimeout),
    }
}

const SHUTDOWN: &str = "the gateway stops";

fn random_mask() -> [u8; 4] {
    let mut mask = [0; 4];
    // If the random generator fails, the mask is zero, which does no harm. A mask protects intermediaries from payloads
    // that a script of a web page chooses (RFC 6455 §10.3). The gateway chooses this payload.
    let _ = aws_lc_rs::rand::fill(&mut mask);
    mask
}

impl Future for WebSocketTunnel {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            this.poll_orders(cx);
            if let Poll::Ready(ended) = this.poll_io(cx) {
                this.finish(ended);
                return Poll::Ready(());
            }
            let was_closing = this.closing.is_some();
            let next = match this.check_limits(Instant::now()) {
                Ok(next) => next,
                Err(ended) => {
                    this.finish(ended);
                    return Poll::Ready(());
                }
            };
            if this.credential.is_waiting() {
                // The check may have begun just now, so it must be polled once more.
                this.poll_orders(cx);
            }
            if this.closing.is_some() != was_closing {
                continue;
            }
            if this.timer.is_elapsed() || this.timer.deadline() > next {
                this.timer.as_mut().reset(next);
            }
            // Without `unconstrained`, the timer would not register the waker of a task that has used up tokio's
            // cooperative budget.
            if pin!(unconstrained(this.timer.as_mut())).poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Tunnel for WebSocketTunnel {
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.get_mut().close(Ended::Shutdown, CloseCode::GoingAway, SHUTDOWN);
    }

    fn revoke_certificate(self: Pin<&mut Self>) {
        let (reason, text) = (ReasonCode::CertificateRevoked, "the client certificate was revoked");
        self.get_mut().close_for_credential(Ended::Revoked, reason, text);
    }
}

impl Drop for WebSocketTunnel {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.finish(Ended::Dropped);
        }
    }
}

impl fmt::Debug for WebSocketTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketTunnel")
            .field("service", &self.about.service)
            .finish_non_exhaustive()
    }
}
