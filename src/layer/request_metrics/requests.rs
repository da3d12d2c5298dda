//! The outer layer. It counts the requests that a layer rejects.

use std::{
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
    series::RequestMetrics,
    service::{Counted, ServiceMetricsLayer},
    started,
};
use crate::{
    audit::CredentialKind,
    layer::{rejection::Rejection, routes::Route},
};

impl RequestMetrics {
    /// Returns the outer layer, which counts rejected requests. Put it in front of all layers that can reject a
    /// request. Put [`service_layer`](Self::service_layer) into the same stack.
    pub fn layer(self: &Arc<Self>) -> RequestMetricsLayer {
        RequestMetricsLayer { metrics: self.clone() }
    }

    /// Returns the inner layer, which counts and times the requests that reach the service. Put it directly around the
    /// proxy or your handlers.
    pub fn service_layer(self: &Arc<Self>) -> ServiceMetricsLayer {
        ServiceMetricsLayer::new(self.clone())
    }
}

/// The outer layer. See the [module](super).
#[derive(Clone, Debug)]
pub struct RequestMetricsLayer {
    metrics: Arc<RequestMetrics>,
}

impl<S> Layer<S> for RequestMetricsLayer {
    type Service = RequestMetricsService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequestMetricsService { inner, metrics: self.metrics.clone() }
    }
}

/// The service of [`RequestMetricsLayer`].
#[derive(Clone, Debug)]
pub struct RequestMetricsService<S> {
    inner: S,
    metrics: Arc<RequestMetrics>,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for RequestMetricsService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RequestMetricsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        let started = self.metrics.now();
        let metrics = self.metrics.clone();
        let inner = started::scope(started, || self.inner.call(request));
        RequestMetricsFuture { inner, metrics, started }
    }
}

pin_project! {
    /// The future of a [`RequestMetricsService`].
    #[derive(Debug)]
    pub struct RequestMetricsFuture<F> {
        #[pin]
        inner: F,
        metrics: Arc<RequestMetrics>,
        started: Instant,
    }
}

impl<F, B, E> Future for RequestMetricsFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // If a layer waits, it calls the inner layer while this future is polled.
        let response = ready!(started::scope(*this.started, || this.inner.poll(cx)))?;
        if let Some(rejection) = response.extensions().get::<Rejection>() {
            count_rejected(this.metrics, rejection, response.extensions(), *this.started);
        }
        Poll::Ready(Ok(response))
    }
}

#[cold]
fn count_rejected(
    metrics: &RequestMetrics,
    rejection: &Rejection,
    extensions: &Extensions,
    started: Instant,
) {
    if extensions.get::<Counted>().is_some() {
        return;
    }
    let credential = extensions.get().copied().unwrap_or(CredentialKind::None);
    let ending = Ending::from(rejection);
    match extensions.get::<Arc<Route>>() {
        Some(route) => metrics.count(&metrics.of_service(route.service()), credential, ending),
        None => metrics.count(metrics.without_route(), credential, ending),
    }
    metrics.add_gateway_time(metrics.now().saturating_duration_since(started));
}
