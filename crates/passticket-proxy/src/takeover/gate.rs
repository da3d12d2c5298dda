//! The gate in front of the gateway's Tower services. It holds requests during a takeover. If the takeover succeeds,
//! the gate relays these requests to the new process. If the takeover fails, this process answers them. If this process
//! ends while the new process may already serve, the gate refuses them.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tower::util::Oneshot;
use tower_passticket::proxy::ResponseBody;
use tower_service::Service;

use super::relay::{Listener, Relay, unavailable};
use crate::gateway_service::GatewayService;

/// Returns the path prefix by which the gate recognizes requests to the auth API. On [`Listener::Gateway`], some other
/// endpoints of this process also have this prefix, and count as requests to the auth API.
fn own_paths(listener: Listener) -> &'static str {
    match listener {
        Listener::Gateway => "/gateway/",
        Listener::Zaas => "/zaas/api/",
    }
}

/// The interval at which [`Gate::hold`] checks the number of unanswered requests to the auth API.
const CHECK_EVERY: Duration = Duration::from_millis(5);

/// Decides which process answers requests. Clones share the decision.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Whether the phase is not [`Phase::Open`]. Each request reads this value.
    is_closed: AtomicBool,
    phase: watch::Sender<Phase>,
    /// The number of requests to the auth API that are being answered.
    own_requests: AtomicUsize,
}

#[derive(Clone, Default)]
enum Phase {
    #[default]
    Open,
    /// A takeover is in progress. Requests wait for its end.
    Held,
    Relayed(Relay),
    /// This process ends, and does not know whether the new process answers requests.
    Refused,
}

pub(super) enum Answerer {
    ThisProcess,
    Successor(Relay),
    /// This process knows no process that can answer. The client may repeat the request.
    NoProcess,
}

impl Gate {
    /// Holds new requests. Then waits for the answers to earlier requests to the auth API, but at most for `wait`. In
    /// this time, this process still writes the revocations that clients requested before the takeover.
    pub(super) async fn hold(&self, wait: Duration) {
        self.set(Phase::Held);
        let deadline = Instant::now() + wait;
        while self.0.own_requests.load(SeqCst) > 0 && Instant::now() < deadline {
            sleep(CHECK_EVERY).await;
        }
    }

    pub(super) fn open(&self) {
        self.set(Phase::Open);
    }

    pub(super) fn relay(&self, relay: Relay) {
        self.set(Phase::Relayed(relay));
    }

    pub(super) fn refuse(&self) {
        self.set(Phase::Refused);
    }

    fn set(&self, phase: Phase) {
        self.0.is_closed.store(!matches!(phase, Phase::Open), SeqCst);
        self.0.phase.send_replace(phase);
    }

    /// Waits while the gate holds requests. Then returns the process that answers the request of the caller.
    pub(super) async fn answerer(&self) -> Answerer {
        let mut phases = self.0.phase.subscribe();
        let settled = phases.wait_for(|phase| !matches!(phase, Phase::Held)).await;
        match settled.as_deref() {
            Ok(Phase::Relayed(relay)) => Answerer::Successor(relay.clone()),
            Ok(Phase::Refused) => Answerer::NoProcess,
            // An error would mean that the sender was dropped, but `self` owns the sender.
            Ok(Phase::Open | Phase::Held) | Err(_) => Answerer::ThisProcess,
        }
    }

    pub(super) fn in_front_of<S>(&self, listener: Listener, service: S) -> Gated<S> {
        Gated { inner: service, listener, gate: self.clone() }
    }

    /// Counts a request to the auth API until the returned value is dropped.
    fn begin_own_request(&self) -> OwnRequest {
        self.0.own_requests.fetch_add(1, SeqCst);
        OwnRequest(self.clone())
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("is_closed", &self.0.is_closed).finish_non_exhaustive()
    }
}

struct OwnRequest(Gate);

impl Drop for OwnRequest {
    fn drop(&mut self) {
        self.0.0.own_requests.fetch_sub(1, SeqCst);
    }
}

#[derive(Clone)]
pub(crate) struct Gated<S> {
    inner: S,
    listener: Listener,
    gate: Gate,
}

type Answered = Result<Response<ResponseBody>, Infallible>;

impl<S: GatewayService> Service<Request<Incoming>> for Gated<S> {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = GatedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        // This order matters: a request to the auth API is counted first, and the gate is read then. `hold` does the
        // reverse: it closes the gate first, and reads the count then. So the gate holds the request, or `hold` waits
        // for the request.
        let is_own = request.uri().path().starts_with(own_paths(self.listener));
        let counted = is_own.then(|| self.gate.begin_own_request());
        if !self.gate.0.is_closed.load(SeqCst) {
            return GatedFuture::Here { future: self.inner.call(request), counted };
        }
        drop(counted);
        let (gate, service, listener) = (self.gate.clone(), self.inner.clone(), self.listener);
        GatedFuture::Late {
            future: Box::pin(async move {
                match gate.answerer().await {
                    Answerer::ThisProcess => Oneshot::new(service, request).await,
                    Answerer::Successor(relay) => Ok(relay.forward(listener, request).await),
                    Answerer::NoProcess => Ok(unavailable()),
                }
            }),
        }
    }
}

pin_project_lite::pin_project! {
    #[project = GatedFutureProj]
    pub(crate) enum GatedFuture<F> {
        Here { #[pin] future: F, counted: Option<OwnRequest> },
        /// A request during or after a takeover.
        Late { future: Pin<Box<dyn Future<Output = Answered> + Send>> },
    }
}

impl<F: Future<Output = Answered>> Future for GatedFuture<F> {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        match self.project() {
            GatedFutureProj::Here { future, counted } => {
                let answered = std::task::ready!(future.poll(cx));
                drop(counted.take());
                Poll::Ready(answered)
            }
            GatedFutureProj::Late { future } => future.as_mut().poll(cx),
        }
    }
}
