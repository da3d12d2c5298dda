//! The inner layer. It counts and times the requests that reach the service.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use http::{Extensions, Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    labels::Ending,
    series::{RequestMetrics, ServiceSeries},
    started,
};
use crate::{
    audit::{CredentialKind, ReasonCode},
    layer::{
        authentication::Authentication, rejection::Rejection, routes::Route,
        scheme::ReadyToForward, scope::Authorized, service_failure::ServiceFailure,
    },
};

/// The inner layer adds this extension to a rejection that it has counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted;

/// The inner layer. See the [module](super).
#[derive(Clone, Debug)]
pub struct ServiceMetricsLayer {
    metrics: Arc<RequestMetrics>,
}

impl ServiceMetricsLayer {
    pub(super) fn new(metrics: Arc<RequestMetrics>) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for ServiceMetricsLayer {
    type Service = ServiceMetricsService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ServiceMetricsService { inner, metrics: self.metrics.clone(), last: None }
    }
}

/// The service of [`ServiceMetricsLayer`].
#[derive(Clone, Debug)]
pub struct ServiceMetricsService<S> {
    inner: S,
    metrics: Arc<RequestMetrics>,
    /// The series of the last request. The next request usually has the same route, and then needs no lock.
    last: Option<Last>,
}

#[derive(Clone)]
struct Last {
    route: Arc<Route>,
    series: Arc<ServiceSeries>,
}

impl fmt::Debug for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Last").field(&self.route.service()).finish()
    }
}

impl<S> ServiceMetricsService<S> {
    fn series(&mut self, route: Option<&Arc<Route>>) -> Arc<ServiceSeries> {
        let Some(route) = route else { return self.metrics.without_route().clone() };
        match &self.last {
            Some(last) if Arc::ptr_eq(&last.route, route) => last.series.clone(),
            _ => {
                let series = self.metrics.of_service(route.service());
                self.last = Some(Last { route: route.clone(), series: series.clone() });
                series
            }
        }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ServiceMetricsService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ServiceMetricsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let extensions = request.extensions();
        let Seen { route, credential, ending } = Seen::of(extensions);
        let series = self.series(route);
        let called = self.metrics.now();
        if let Some(started) = started::current() {
            self.metrics.add_gateway_time(called.saturating_duration_since(started));
        }
        let metrics = self.metrics.clone();
        let running = Running { metrics, series, credential, ending, called };
        ServiceMetricsFuture { inner: self.inner.call(request), running: Some(running) }
    }
}

/// What the layers before this layer have found out about a request.
struct Seen<'r> {
    route: Option<&'r Arc<Route>>,
    credential: CredentialKind,
    /// The ending if the service answers.
    ending: Ending,
}

impl<'r> Seen<'r> {
    fn of(extensions: &'r Extensions) -> Self {
        let forwarded = |route, credential| Self { route, credential, ending: Ending::Forwarded };
        if let Some(ready) = extensions.get::<ReadyToForward>() {
            return match ready.result() {
                Ok(authorized) => forwarded(Some(ready.route()), authorized.proof().kind()),
                Err((credential, reason)) => {
                    let ending = reason.map_or(Ending::Observed, Ending::ForwardedUnauthenticated);
                    Self { route: Some(ready.route()), credential, ending }
                }
            };
        }
        let route = extensions.get::<Arc<Route>>();
        if let Some(authorized) = extensions.get::<Authorized>() {
            return forwarded(route, authorized.proof().kind());
        }
        match extensions.get::<Authentication>() {
            Some(Authentication::Authenticated(authenticated)) => {
                forwarded(route, authenticated.proof().kind())
            }
            Some(Authentication::Failed(failure)) => {
                let credential = extensions.get().copied().unwrap_or(CredentialKind::None);
                let ending = Ending::ForwardedUnauthenticated(failure.into());
                Self { route, credential, ending }
            }
            // The scheme of the route is bypass, or the stack has no authentication.
            None => forwarded(route, CredentialKind::None),
        }
    }
}

struct Running {
    metrics: Arc<RequestMetrics>,
    series: Arc<ServiceSeries>,
    credential: CredentialKind,
    ending: Ending,
    called: Instant,
}

impl Running {
    fn finish<B, E>(self, result: &mut Result<Response<B>, E>) {
        let ending = match result {
            Ok(response) => ending_of(response).unwrap_or(self.ending),
            Err(_) => Ending::Decided(ReasonCode::Internal),
        };
        self.series.add_time(self.metrics.now().saturating_duration_since(self.called));
        self.metrics.count(&self.series, self.credential, ending);
    }

    #[cold]
    fn abandon(self) {
        self.metrics.count(&self.series, self.credential, Ending::Abandoned);
    }
}

/// Returns the ending if the proxy or a handler has rejected the request, or if the service gave no response.
fn ending_of<B>(response: &mut Response<B>) -> Option<Ending> {
    let extensions = response.extensions();
    if extensions.is_empty() {
        return None;
    }
    if let Some(rejection) = extensions.get::<Rejection>() {
        let ending = rejection.into();
        response.extensions_mut().insert(Counted);
        return Some(ending);
    }
    extensions.get::<ServiceFailure>().copied().map(Ending::NoResponse)
}

pin_project! {
    /// The future of a [`ServiceMetricsService`]. If it is dropped before the service answers, the request counts as
    /// abandoned.
    pub struct ServiceMetricsFuture<F> {
        #[pin]
        inner: F,
        running: Option<Running>,
    }

    impl<F> PinnedDrop for ServiceMetricsFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(running) = this.project().running.take() {
                running.abandon();
            }
        }
    }
}

impl<F> fmt::Debug for ServiceMetricsFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceMetricsFuture").finish_non_exhaustive()
    }
}

impl<F, B, E> Future for ServiceMetricsFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = ready!(this.inner.poll(cx));
        if let Some(running) = this.running.take() {
            running.finish(&mut result);
        }
        Poll::Ready(result)
    }
}
