//! Metrics of routed requests: their number, their outcome, and the times that the gateway and the services take.
//!
//! | metric | kind | labels | value |
//! |---|---|---|---|
//! | `passticket_requests_total` | counter | `service`, `credential`, `outcome`, `reason` | requests, see [`RequestOutcome`] |
//! | `passticket_gateway_duration_seconds` | histogram | | time from the call of the outer layer until the request is handed to the service, or until the response if a layer rejects the request |
//! | `passticket_service_duration_seconds` | histogram | `service` | time from the hand-over to the service until the head of the response |
//!
//! Two layers measure. Put [`RequestMetrics::layer`], the outer layer, in front of all layers that can reject requests.
//! Put [`RequestMetrics::service_layer`], the inner layer, directly around the proxy or your handlers. The inner layer
//! counts the requests that reach it. The outer layer counts the requests that a layer between them rejects. If a
//! client disconnects while a layer waits, no layer counts its request.
//!
//! Both layers must run in the same task. If a layer between them moves requests to another task, as tower's `Buffer`
//! does, `passticket_gateway_duration_seconds` contains only rejected requests.
//!
//! No client can choose the value of a label, and the number of time series is limited:
//!
//! - `service` is the service id of the [`Route`](super::Route). It is empty if the path has no route. The first
//!   [`RequestMetrics::MAX_SERVICES`] services that get a request have values of their own. All later services share
//!   the value `other`.
//! - A time series appears with its first request. Apart from the service `other`, the metric
//!   `passticket_requests_total` has at most [`RequestMetrics::MAX_SERIES`] time series. At this limit, a request that
//!   needs a new time series counts for the service `other`.
//!
//! If the previous request on the same connection had the same route, a request that reaches the service usually takes
//! no lock. Most other requests take a lock.
//!
//! ```
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_passticket::{
//!     layer::{Bypass, RequestMetrics, Route, RouteLayer, Routes},
//!     metrics::MetricRegistry,
//!     token::ServiceId,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let metrics = Arc::new(RequestMetrics::default());
//! let registry = MetricRegistry::new().with(metrics.clone());
//!
//! let route = Route::new(ServiceId::new("files")?, "api/v1", "https://zos.example.com".parse()?, Bypass)?;
//! let service = ServiceBuilder::new()
//!     .layer(metrics.layer())
//!     .layer(RouteLayer::new(Routes::new([route])?))
//!     .layer(metrics.service_layer())
//!     .service(service_fn(async |_: Request<Full<Bytes>>| {
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
//!     }));
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! for path in ["/files/api/v1/x", "/unknown"] {
//!     let request = Request::get(path).body(Full::default()).unwrap();
//!     service.clone().oneshot(request).await.unwrap();
//! }
//! # });
//! let text = registry.expose();
//! for line in [
//!     r#"passticket_requests_total{service="files",credential="none",outcome="forwarded",reason=""} 1"#,
//!     r#"passticket_requests_total{service="",credential="none",outcome="refused",reason="no-route"} 1"#,
//!     r#"passticket_service_duration_seconds_count{service="files"} 1"#,
//!     "passticket_gateway_duration_seconds_count 2",
//! ] {
//!     assert!(text.lines().any(|it| it == line), "{line} is not in {text}");
//! }
//! # Ok(())
//! # }
//! ```

mod labels;
mod requests;
mod series;
mod service;
mod started;
#[cfg(test)]
mod tests;

pub use labels::RequestOutcome;
pub use requests::{RequestMetricsFuture, RequestMetricsLayer, RequestMetricsService};
pub use series::RequestMetrics;
pub use service::{ServiceMetricsFuture, ServiceMetricsLayer, ServiceMetricsService};
