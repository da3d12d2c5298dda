//! Layers between the layers of the gateway. They record what the next layer receives.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use http::{HeaderMap, Request};
use tower::{Layer, Service};
use tower_passticket::{
    audit::{AuditRecord, AuditSink},
    layer::{Authentication, Authorized, ReadyToForward, Route},
    passticket::UserId,
    saf::{Access, AccessLevel, CheckFuture, DecidingProfile, FileSaf, SafError, SafProvider},
};

use crate::stack::Step;

/// Collects what the layers decide about one request. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Trace(Arc<Mutex<Traced>>);

#[derive(Default)]
pub(super) struct Traced {
    pub(super) seen: Vec<Seen>,
    pub(super) records: Vec<AuditRecord>,
    pub(super) questions: Vec<SafQuestion>,
}

/// A request between two layers.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) step: Step,
    pub(super) headers: HeaderMap,
    pub(super) route: Option<Arc<Route>>,
    pub(super) authentication: Option<Authentication>,
    pub(super) authorized: Option<Authorized>,
    pub(super) ready: Option<ReadyToForward>,
}

/// A question whether a user has access to a resource, and its answer.
#[derive(Clone, Debug)]
pub(super) struct SafQuestion {
    pub(super) user: UserId,
    pub(super) class: String,
    pub(super) resource: String,
    pub(super) level: AccessLevel,
    pub(super) is_granted: bool,
    pub(super) profile: Option<DecidingProfile>,
}

impl Trace {
    pub(super) fn take(&self) -> Traced {
        std::mem::take(&mut self.lock())
    }

    pub(super) fn probe(&self, step: Step) -> ProbeLayer {
        ProbeLayer { step, trace: self.clone() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Traced> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AuditSink for Trace {
    fn record(&self, record: AuditRecord) {
        self.lock().records.push(record);
    }
}

/// A layer that records each request at one step.
#[derive(Clone)]
pub(super) struct ProbeLayer {
    step: Step,
    trace: Trace,
}

impl<S> Layer<S> for ProbeLayer {
    type Service = Probe<S>;

    fn layer(&self, inner: S) -> Probe<S> {
        Probe { inner, layer: self.clone() }
    }
}

#[derive(Clone)]
pub(super) struct Probe<S> {
    inner: S,
    layer: ProbeLayer,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Probe<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        let extensions = request.extensions();
        let seen = Seen {
            step: self.layer.step,
            headers: request.headers().clone(),
            route: extensions.get().cloned(),
            authentication: extensions.get().cloned(),
            authorized: extensions.get().cloned(),
            ready: extensions.get().cloned(),
        };
        self.layer.trace.lock().seen.push(seen);
        self.inner.call(request)
    }
}

/// Answers from the permissions file, and records each question. The layers ask with `try_check_now`, which always
/// has an answer, so `check` records nothing.
#[derive(Clone)]
pub(super) struct RecordedSaf {
    pub(super) saf: FileSaf,
    pub(super) trace: Trace,
}

impl SafProvider for RecordedSaf {
    fn check(&self, user: &UserId, class: &str, resource: &str, level: AccessLevel) -> CheckFuture {
        self.saf.check(user, class, resource, level)
    }

    fn try_check_now(
        &self,
        user: &UserId,
        class: &str,
        resource: &str,
        level: AccessLevel,
    ) -> Option<Result<Access, SafError>> {
        let answer = self.saf.try_check_now(user, class, resource, level)?;
        self.trace.lock().questions.push(SafQuestion {
            user: *user,
            class: class.to_owned(),
            resource: resource.to_owned(),
            level,
            is_granted: answer == Ok(Access::Granted),
            profile: self.saf.deciding_profile(user, class, resource),
        });
        Some(answer)
    }

    fn version(&self) -> Option<u64> {
        self.saf.version()
    }
}
