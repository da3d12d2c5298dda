//! Ends an event stream or a call of gRPC when the credential of its request is no longer valid.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::Extensions;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    super::response_body::StreamEnd,
    credential_check::CredentialCheck,
    proofs::{expiry_of, token_of},
    tunnels::{Tunnels, Watched},
};
use crate::{
    audit::RequestId,
    layer::{ReadyToForward, Route},
    passticket::UserId,
    request_facts::{Cause, RequestFacts},
    token::{ServiceId, VerifiedToken},
};

/// Watches the credential of one request while an endless response is sent. If the request's body has no time limit
/// (gRPC), the credential is also watched while the request waits for its response.
pub(in crate::proxy) struct StreamCredential {
    tunnels: Arc<Tunnels>,
    token: Option<VerifiedToken>,
    /// `None` before the first call of [`poll_end`](StreamEnd::poll_end).
    watched: Option<Watched>,
    check: CredentialCheck,
    timer: Pin<Box<Sleep>>,
    service: ServiceId,
    user: UserId,
    request_id: Option<RequestId>,
    /// `None` if no outer layer needs the facts about the request.
    facts: Option<RequestFacts>,
}

impl StreamCredential {
    /// Watches the credential of a request with these extensions. Returns `None` if no user is authenticated, or if the
    /// credential is a password, which has no expiry.
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
            // The first check is immediate: the token may have been revoked after the gateway authenticated the
            // request.
            check: CredentialCheck::new(expiry, now),
            timer: Box::pin(sleep_until(now)),
            service: route.service().clone(),
            user: *authorized.user(),
            request_id: extensions.get().copied(),
            facts: extensions.get().cloned(),
        }))
    }

    fn poll_invalid(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        let watched = self.watched.get_or_insert_with(|| self.tunnels.watch(self.token.clone()));
        watched.control().register(cx.waker());
        // `Tunnels::end_all` sets this if the process no longer learns about revocations.
        if watched.control().must_shut_down() {
            return Poll::Ready("the token cannot be checked any more");
        }
        if watched.control().take_check() {
            self.check.next = Instant::now();
        }
        loop {
            if let Err(invalid) = self.check.poll(cx) {
                return Poll::Ready(invalid.as_str());
            }
            let now = Instant::now();
            if now < self.check.next {
                if self.timer.deadline() != self.check.next {
                    self.timer.as_mut().reset(self.check.next);
                }
                ready!(self.timer.as_mut().poll(cx));
                continue;
            }
            if let Err(invalid) = self.check.begin(&self.tunnels, self.token.as_ref(), now) {
                return Poll::Ready(invalid.as_str());
            }
        }
    }
}

impl StreamEnd for StreamCredential {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<&'static str> {
        let why = ready!(self.poll_invalid(cx));
        let Self { service, user, request_id, facts, .. } = self;
        if let Some(facts) = facts {
            facts.end_now(Cause::Gateway);
        }
        let request_id = request_id.map(tracing::field::display);
        tracing::info!(
            %service,
            %user,
            request_id,
            reason = why,
            "event stream or gRPC call ended: its credential is no longer valid"
        );
        Poll::Ready(why)
    }
}

impl fmt::Debug for StreamCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamCredential").finish_non_exhaustive()
    }
}
