//! Facts about one request that the inner layers of a stack know, and that an outer layer needs. Examples are the
//! service, the user, the instance, the timers, and how the request ended.
//!
//! An outer layer puts a [`RequestFacts`] into the extensions of the request. The inner layers record their facts in
//! this value while they handle the request. If the extension is absent, the inner layers record nothing. The access
//! log ([`access_log`](crate::access_log)) works in this way, and a layer for metrics can do the same.
//!
//! | source | facts |
//! |---|---|
//! | [`RouteLayer`](crate::layer::RouteLayer) | the service |
//! | [`AuthenticateLayer`](crate::layer::AuthenticateLayer), the auth API | the user, and the kind of the credential |
//! | `Forward` | the instance, the timers of the service, the retries, and the end of the request |
//! | `Forward`, the auth API | the bytes of the request |
//! | the access log | the bytes of the response, and the end of a request whose end `Forward` has not recorded |
//!
//! ```
//! use http::Request;
//! use tower_passticket::request_facts::RequestFacts;
//!
//! let mut request = Request::new(());
//! let facts = RequestFacts::of(request.extensions_mut());
//! // … call the inner service with the request …
//! let snapshot = facts.snapshot();
//! assert!(snapshot.service.is_none() && snapshot.connect.is_none());
//! ```

#![cfg_attr(
    not(all(feature = "proxy", feature = "api")),
    allow(dead_code, reason = "only the proxy and the auth API know some of the facts")
)]

mod termination;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{Extensions, uri::Authority};
use tokio::time::Instant;

use crate::{audit::CredentialKind, passticket::UserId, token::ServiceId};

pub use termination::{Cause, Stage, Termination, TerminationCode};

/// The facts about one request, as an extension of the request. Clones are handles to the same facts.
#[derive(Clone)]
pub struct RequestFacts(Arc<Shared>);

struct Shared {
    begun: Instant,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    snapshot: RequestSnapshot,
    /// The current stage, and the time when it began.
    now: Option<(Stage, Instant)>,
    tunnel: Tunnel,
}

#[derive(Default)]
enum Tunnel {
    /// There is no tunnel, or it has ended.
    #[default]
    None,
    /// The tunnel is open. The value of [`keep_until_tunnel_ends`](RequestFacts::keep_until_tunnel_ends) is dropped
    /// when the tunnel ends.
    Open(Option<Box<dyn Send>>),
}

/// The facts about a request at one moment.
///
/// A duration is `None` if the request has not finished the part of the work that the duration measures. For example,
/// [`connect`](Self::connect) is `None` if the gateway answered the request without a service.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RequestSnapshot {
    /// The service of the route.
    pub service: Option<ServiceId>,
    /// The user whom the credential proves. If the authentication failed, the user that the request names, if any.
    pub user: Option<UserId>,
    /// The kind of the credential.
    pub credential: Option<CredentialKind>,
    /// The host and port of the instance to which the request was sent last.
    pub instance: Option<Authority>,
    /// The time from the arrival of the request until the gateway began to forward it, including the time for
    /// authentication and for the PassTicket.
    pub prepare: Option<Duration>,
    /// The time that the request waited for a free connection to the service.
    pub queue: Option<Duration>,
    /// The time that the gateway took to connect to the service, including TLS. Zero if the request used an open
    /// connection. The sum of the times if the gateway connected more than once.
    pub connect: Option<Duration>,
    /// The time from the end of [`connect`](Self::connect) to the head of the response. If the request was sent again,
    /// this is the time of the last attempt.
    pub first_byte: Option<Duration>,
    /// The bytes of the request's body that the gateway has read. For a WebSocket that has ended, the bytes that the
    /// client sent through it.
    pub bytes_in: u64,
    /// The bytes of the response's body that the gateway has passed on. Zero without an
    /// [`AccessLogLayer`](crate::access_log::AccessLogLayer), and until the response has ended. For a WebSocket, the
    /// bytes that the service sent through it.
    pub bytes_out: u64,
    /// How often the request was sent again. One case is not counted: the service has closed an HTTP/1.1 connection, so
    /// the pool sends the request again on a new connection.
    pub retries: u32,
    /// Why the request ended before its normal end. `None` if no inner layer has recorded a cause. In this case, the
    /// request has not ended yet, it ended normally, or its client has disconnected.
    pub termination: Option<Termination>,
    /// The stage in which the request is now, or in which it ended.
    pub stage: Stage,
}

/// The service has paused for too long in the body of a response. An outer layer finds this error in the chain of
/// sources of the body's error.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the service is too slow")]
pub(crate) struct ServiceTooSlow;

impl RequestFacts {
    /// Begins the facts about a request that has arrived now.
    pub fn begin() -> Self {
        Self(Arc::new(Shared {
            begun: Instant::now(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            known: Mutex::default(),
        }))
    }

    /// Returns the facts in these extensions of a request. Adds them if they are absent.
    pub fn of(extensions: &mut Extensions) -> Self {
        extensions.get_or_insert_with(Self::begin).clone()
    }

    /// Returns the time since [`begin`](Self::begin).
    pub fn elapsed(&self) -> Duration {
        self.0.begun.elapsed()
    }

    /// Returns the facts that are known now.
    pub fn snapshot(&self) -> RequestSnapshot {
        let snapshot = self.known().snapshot.clone();
        self.with_bytes(snapshot)
    }

    /// Does the same as [`snapshot`](Self::snapshot), but moves the facts out instead of copying them.
    pub(crate) fn take_snapshot(&self) -> RequestSnapshot {
        let snapshot = std::mem::take(&mut self.known().snapshot);
        self.with_bytes(snapshot)
    }

    fn with_bytes(&self, snapshot: RequestSnapshot) -> RequestSnapshot {
        let Shared { bytes_in, bytes_out, .. } = &*self.0;
        let (bytes_in, bytes_out) = (bytes_in.load(Relaxed), bytes_out.load(Relaxed));
        RequestSnapshot { bytes_in, bytes_out, ..snapshot }
    }

    pub(crate) fn set_service(&self, service: &ServiceId) {
        self.known().snapshot.service = Some(service.clone());
    }

    /// Sets the kind of the credential, and the user. `user` is `None` if the user is not known.
    pub(crate) fn set_credential(&self, credential: CredentialKind, user: Option<UserId>) {
        let known = &mut self.known().snapshot;
        (known.credential, known.user) = (Some(credential), user);
    }

    pub(crate) fn add_bytes_in(&self, bytes: usize) {
        self.0.bytes_in.fetch_add(bytes as u64, Relaxed);
    }

    pub(crate) fn add_bytes_out(&self, bytes: u64) {
        self.0.bytes_out.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn set_forwarded(&self) {
        let elapsed = self.elapsed();
        self.known().snapshot.prepare.get_or_insert(elapsed);
    }

    pub(crate) fn add_retry(&self) {
        self.known().snapshot.retries += 1;
    }

    pub(crate) fn begin_queue(&self) {
        self.begin_stage(Stage::Queue);
    }

    pub(crate) fn begin_connect(&self) {
        let mut known = self.known();
        known.enter(Some(Stage::Connect));
        known.snapshot.queue.get_or_insert_default();
    }

    /// Records that the gateway has a connection to `instance`, and begins to send the request.
    pub(crate) fn begin_exchange(&self, instance: &Authority) {
        let mut known = self.known();
        known.enter(Some(Stage::Head));
        let known = &mut known.snapshot;
        known.instance = Some(instance.clone());
        known.queue.get_or_insert_default();
        known.connect.get_or_insert_default();
        // After a retry, only the last exchange counts.
        known.first_byte = None;
    }

    /// Records the instance before there is a connection to it.
    pub(crate) fn set_instance(&self, instance: &Authority) {
        self.known().snapshot.instance = Some(instance.clone());
    }

    pub(crate) fn begin_body(&self) {
        self.begin_stage(Stage::Body);
    }

    fn begin_stage(&self, stage: Stage) {
        self.known().enter(Some(stage));
    }

    /// Records how the request ended. If an end was already recorded, keeps that end, because later ends are its
    /// consequences.
    pub(crate) fn end(&self, termination: Termination) {
        let mut known = self.known();
        known.enter(None);
        known.snapshot.termination.get_or_insert(termination);
    }

    /// Records that the request ended because of `cause` in the current stage.
    pub(crate) fn end_now(&self, cause: Cause) {
        let mut known = self.known();
        known.enter(None);
        let stage = known.snapshot.stage;
        known.snapshot.termination.get_or_insert(Termination { cause, stage });
    }

    pub(crate) fn begin_tunnel(&self) {
        let mut known = self.known();
        known.enter(Some(Stage::Body));
        known.tunnel = Tunnel::Open(None);
    }

    /// Keeps a value until the tunnel ends. Returns the value if there is no open tunnel.
    pub(crate) fn keep_until_tunnel_ends<T: Send + 'static>(
        &self,
        value: Box<T>,
    ) -> Option<Box<T>> {
        match &mut self.known().tunnel {
            Tunnel::None => Some(value),
            Tunnel::Open(kept) => {
                *kept = Some(value);
                None
            }
        }
    }

    /// Records that the tunnel has ended, and how many bytes it has moved. `cause` is `None` after a normal end.
    pub(crate) fn end_tunnel(&self, from_client: u64, to_client: u64, cause: Option<Cause>) {
        self.0.bytes_in.fetch_add(from_client, Relaxed);
        self.0.bytes_out.fetch_add(to_client, Relaxed);
        if let Some(cause) = cause {
            self.end_now(cause);
        }
        // The value is dropped after the lock has been released, because it may read the facts.
        let _kept = std::mem::take(&mut self.known().tunnel);
    }

    /// Locks the facts. No function keeps the lock while it waits.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Ends the current stage, and adds its time. Then begins the next stage.
    fn enter(&mut self, next: Option<Stage>) {
        let now = Instant::now();
        if let Some((stage, since)) = self.now.take() {
            let elapsed = now.saturating_duration_since(since);
            let RequestSnapshot { queue, connect, first_byte, .. } = &mut self.snapshot;
            match stage {
                Stage::Queue => *queue.get_or_insert_default() += elapsed,
                Stage::Connect => *connect.get_or_insert_default() += elapsed,
                Stage::Head if next == Some(Stage::Body) => *first_byte = Some(elapsed),
                Stage::Request | Stage::Head | Stage::Body => {}
            }
        }
        if let Some(stage) = next {
            self.now = Some((stage, now));
            self.snapshot.stage = stage;
        }
    }
}

impl fmt::Debug for RequestFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestFacts").field("known", &self.snapshot()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[tokio::test(start_paused = true)]
    async fn each_stage_adds_its_time_to_its_timer() {
        let facts = RequestFacts::begin();
        let instance = Authority::from_static("zos:7000");
        advance(millis(1)).await;
        facts.set_forwarded();
        facts.begin_queue();
        advance(millis(2)).await;
        facts.begin_connect();
        advance(millis(4)).await;
        // The first instance refuses the connection.
        facts.add_retry();
        facts.begin_connect();
        advance(millis(8)).await;
        facts.begin_exchange(&instance);
        facts.add_bytes_in(7);
        advance(millis(16)).await;
        facts.begin_body();
        advance(millis(32)).await;
        let known = facts.snapshot();
        assert_eq!(known.prepare, Some(millis(1)));
        assert_eq!(known.queue, Some(millis(2)));
        assert_eq!(known.connect, Some(millis(12)));
        assert_eq!(known.first_byte, Some(millis(16)));
        assert_eq!((known.retries, known.bytes_in), (1, 7));
        assert_eq!(known.stage, Stage::Body);
        assert_eq!(known.instance, Some(instance));
        assert_eq!(facts.elapsed(), millis(63));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_on_an_open_connection_has_no_queue_and_connect_time() {
        let facts = RequestFacts::begin();
        facts.begin_connect();
        assert_eq!(facts.snapshot().queue, Some(Duration::ZERO));
        let facts = RequestFacts::begin();
        facts.begin_exchange(&Authority::from_static("zos"));
        advance(millis(5)).await;
        let known = facts.snapshot();
        assert_eq!((known.queue, known.connect), (Some(Duration::ZERO), Some(Duration::ZERO)));
        assert_eq!(known.first_byte, None);
        facts.end_now(Cause::ServiceTimeout);
        assert_eq!(facts.snapshot().first_byte, None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_first_cause_of_the_end_is_kept() {
        let facts = RequestFacts::begin();
        facts.begin_queue();
        facts.end_now(Cause::Client);
        facts.end_now(Cause::Service);
        let ended = facts.snapshot().termination.unwrap();
        assert_eq!(ended, Termination { cause: Cause::Client, stage: Stage::Queue });
        assert_eq!(ended.code(), "CQ");
    }
}
