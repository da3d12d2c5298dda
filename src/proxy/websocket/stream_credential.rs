//! Ends an endless response, such as an event stream, when the credential of its request is no longer valid.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Extensions;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    super::response_body::StreamEnd,
    proofs::{Expiry, expiry_of, token_of},
    tunnels::{Tunnels, Watched},
};
use crate::{
    audit::RequestId,
    layer::{ReadyToForward, Route},
    passticket::UserId,
    revocation::{CheckError, CheckFuture},
    token::{ServiceId, VerifiedToken},
};

/// How often the token is checked, in addition to the checks after revocations.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// How soon the token is checked again if the revocation store could not answer. If it still cannot, the response ends.
const CHECK_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Watches the credential of one response, or of one request whose body has no time limit.
pub(in crate::proxy) struct StreamCredential {
    tunnels: Arc<Tunnels>,
    token: Option<VerifiedToken>,
    /// `None` until the request or the response first waits for the service.
    watched: Option<Watched>,
    expiry: Option<Expiry>,
    next_check: Instant,
    /// A check that waits for a server.
    check: Option<CheckFuture>,
    /// Whether the revocation store could not answer the last check.
    was_unavailable: bool,
    timer: Pin<Box<Sleep>>,
    service: ServiceId,
    user: UserId,
    request_id: Option<RequestId>,
}

impl StreamCredential {
    /// Watches the credential of a request with these extensions. Returns `None` if the credential cannot expire.
    pub(in crate::proxy) fn of(
        tunnels: &Arc<Tunnels>,
        extensions: &Extensions,
        route: &Route,
    ) -> Option<Box<Self>> {
        let authorized = extensions.get().and_then(ReadyToForward::authorized)?;
        let (token, expiry) = (token_of(authorized.proof()), expiry_of(authorized.proof()));
        if token.is_none() && expiry.is_none() {
            return None;
        }
        let now = Instant::now();
        Some(Box::new(Self {
            tunnels: tunnels.clone(),
            token,
            watched: None,
            expiry,
            // The first check is immediate: the token may have been revoked before the response began.
            next_check: now,
            check: None,
            was_unavailable: false,
            timer: Box::pin(sleep_until(now)),
            service: route.service().clone(),
            user: *authorized.user(),
            request_id: extensions.get().copied(),
        }))
    }

    /// Returns the reason why the credential is not valid.
    fn check(&mut self, now: Instant) -> Option<&'static str> {
        self.next_check = now + CHECK_EVERY;
        if let Some(Expiry { at, .. }) = self.expiry {
            // The wall clock may be set, so the remaining time is computed at each check.
            let left = at.as_millis().saturating_sub(self.tunnels.clock.now().as_millis());
            if left == 0 {
                return Some("the credential has expired");
            }
            self.next_check = self.next_check.min(now + Duration::from_millis(left));
        }
        let revocations = &self.tunnels.revocations;
        let token = self.token.as_ref()?;
        match revocations.try_check_now(token) {
            Some(result) => self.apply(result, now),
            None => {
                self.check = Some(revocations.check_token(token));
                None
            }
        }
    }

    fn apply(&mut self, result: Result<(), CheckError>, now: Instant) -> Option<&'static str> {
        match result {
            Ok(()) => {
                self.was_unavailable = false;
                None
            }
            Err(CheckError::Revoked(_)) => Some("the token was revoked"),
            Err(CheckError::Unavailable) if self.was_unavailable => {
                Some("the token cannot be checked")
            }
            Err(CheckError::Unavailable) => {
                self.was_unavailable = true;
                self.next_check = self.next_check.min(now + CHECK_AGAIN_AFTER);
                None
            }
        }
    }

    fn poll_invalid(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        let watched = self.watched.get_or_insert_with(|| self.tunnels.watch(self.token.clone()));
        watched.control().register(cx.waker());
        if watched.control().must_shut_down() {
            return Poll::Ready("the token cannot be checked any more");
        }
        if watched.control().take_check() {
            self.next_check = Instant::now();
        }
        loop {
            if let Some(check) = &mut self.check
                && let Poll::Ready(result) = check.as_mut().poll(cx)
            {
                self.check = None;
                if let Some(why) = self.apply(result, Instant::now()) {
                    return Poll::Ready(why);
                }
            }
            let now = Instant::now();
            if now < self.next_check {
                if self.timer.deadline() != self.next_check {
                    self.timer.as_mut().reset(self.next_check);
                }
                ready!(self.timer.as_mut().poll(cx));
            } else if let Some(why) = self.check(now) {
                return Poll::Ready(why);
            }
        }
    }
}

impl StreamEnd for StreamCredential {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        let why = ready!(self.poll_invalid(cx));
        let Self { service, user, request_id, .. } = self;
        let request_id = request_id.map(tracing::field::display);
        tracing::info!(%service, %user, request_id, reason = why, "event stream ended: its credential is no longer valid");
        Poll::Ready(why)
    }
}

impl fmt::Debug for StreamCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamCredential").finish_non_exhaustive()
    }
}
