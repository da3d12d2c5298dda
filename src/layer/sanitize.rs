//! Removes request headers that a client must not send to a service, and refuses requests that come from web pages of
//! other origins.
//!
//! The layer removes:
//!
//! 1. Hop-by-hop headers, including the headers that a `Connection` header names.
//! 2. The headers of the table in `docs/reference/request-headers.md`, such as `X-Zowe-Auth-Failure`, `X-Certificate-*`
//!    and `X-Remote-User`, because services can trust them. Also other spellings of their names, such as
//!    `X_Certificate_…`, because some servers accept them. [`SanitizeLayer::with_service_headers`] changes the table
//!    for one service.
//! 3. The headers of [`SanitizeLayer::with_headers`], such as the custom PassTicket headers.
//!
//! If a page of another origin makes a browser send a request, the layer answers 403 in some cases. [`OriginPolicy`]
//! describes them. Later layers cannot make this decision, because this layer removes `Origin`.
//!
//! The layer keeps `Authorization`, `Cookie` and `PRIVATE-TOKEN`, and marks them as sensitive.
//!
//! Put this layer before [`RouteLayer`](super::RouteLayer). If it comes after `RouteLayer` or
//! [`AuthenticateLayer`](super::AuthenticateLayer), it answers 500. [`CorsLayer`](super::CorsLayer) and
//! [`ForwardedCertificateLayer`](super::ForwardedCertificateLayer) must come before this layer, because they read
//! headers that it removes.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_passticket::layer::SanitizeLayer;
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let service = ServiceBuilder::new().layer(SanitizeLayer::new()).service(service_fn(
//!     |request: Request<Full<Bytes>>| async move {
//!         assert!(!request.headers().contains_key("x-certificate-commonname"));
//!         assert!(!request.headers().contains_key("x-zowe-auth-failure"));
//!         assert_eq!(request.headers()["accept"], "*/*");
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
//!     },
//! ));
//!
//! let request = Request::get("/")
//!     .header("X-Certificate-CommonName", "ADMIN")
//!     .header("X-Zowe-Auth-Failure", "none, trust me")
//!     .header("Accept", "*/*")
//!     .body(Full::default())
//!     .unwrap();
//! assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
//! # });
//! ```

use std::sync::Arc;

use http::{
    HeaderMap, HeaderName, Method, Request, Version,
    header::{AUTHORIZATION, COOKIE, TRAILER},
};
use tower_layer::Layer;

use super::{
    authentication::Authentication,
    check::{Check, CheckService},
    credential::PRIVATE_TOKEN,
    cross_origin::OriginPolicy,
    rejection::Rejection,
    request_headers::{Policy, RequestHeaders},
    routes::Route,
    websocket::AsksForWebSocket,
};
use crate::{
    headers::{HopByHop, all_list_items},
    token::ServiceId,
};

static SENSITIVE: [&HeaderName; 3] = [&AUTHORIZATION, &COOKIE, &PRIVATE_TOKEN];

/// The layer. See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct SanitizeLayer {
    check: Sanitize,
}

impl SanitizeLayer {
    /// Creates a layer that removes hop-by-hop headers and the headers of the table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also removes the headers with these names.
    #[must_use]
    pub fn with_headers(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        self.rules().headers.add(headers);
        self
    }

    /// Sets the policy about requests of web pages of other origins.
    #[must_use]
    pub fn with_origin_policy(mut self, policy: OriginPolicy) -> Self {
        self.rules().origins = policy;
        self
    }

    fn rules(&mut self) -> &mut Rules {
        Arc::make_mut(&mut self.check.rules)
    }

    /// Changes the table for requests to `service`. The first segment of their path is the id of the service.
    #[must_use]
    pub fn with_service_headers(mut self, service: ServiceId, headers: RequestHeaders) -> Self {
        self.rules().headers.set(service, headers);
        self
    }
}

impl<S> Layer<S> for SanitizeLayer {
    type Service = SanitizeService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CheckService::new(inner, self.check.clone())
    }
}

/// The service of [`SanitizeLayer`].
pub type SanitizeService<S> = CheckService<S, Sanitize>;

/// The check of [`SanitizeLayer`].
#[derive(Clone, Debug, Default)]
pub struct Sanitize {
    rules: Arc<Rules>,
}

#[derive(Clone, Debug, Default)]
struct Rules {
    headers: Policy,
    origins: OriginPolicy,
}

impl Check for Sanitize {
    fn check<B>(&mut self, request: &mut Request<B>) -> Result<(), Rejection> {
        let extensions = request.extensions();
        if extensions.get::<Arc<Route>>().is_some() || extensions.get::<Authentication>().is_some()
        {
            return Err(Rejection::misassembled(
                "SanitizeLayer must come before RouteLayer and AuthenticateLayer",
            ));
        }
        let Rules { headers, origins } = &*self.rules;
        origins.check(&*request).map_err(|_| Rejection::CrossOrigin)?;
        let changes = headers.of_path(request.uri().path());
        let Asked { websocket, trailers } = sanitize(request.headers_mut(), headers, changes);
        if let Some(trailers) = trailers {
            request.extensions_mut().insert(trailers);
        }
        if websocket && request.method() == Method::GET && request.version() == Version::HTTP_11 {
            request.extensions_mut().insert(AsksForWebSocket);
        }
        Ok(())
    }
}

/// What the removed hop-by-hop headers asked for.
struct Asked {
    /// The upgrade to WebSocket.
    websocket: bool,
    trailers: Option<AnnouncedTrailers>,
}

/// The names of the trailers that a request announces (RFC 9110 §6.6.2), except credentials and headers that this layer
/// removes. The proxy forwards only these trailers, because a service can merge trailers into the headers.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "proxy"), expect(dead_code, reason = "only `Forward` reads it"))]
pub(crate) struct AnnouncedTrailers(pub(crate) Arc<[HeaderName]>);

#[cold]
fn announced_trailers(
    headers: &HeaderMap,
    policy: &Policy,
    changes: Option<&RequestHeaders>,
) -> AnnouncedTrailers {
    let names = all_list_items(headers, &TRAILER);
    let names = names.filter_map(|name| HeaderName::from_bytes(name).ok());
    let is_permitted =
        |name: &HeaderName| !policy.removes(name, changes) && !SENSITIVE.contains(&name);
    AnnouncedTrailers(names.filter(is_permitted).collect())
}

fn sanitize(headers: &mut HeaderMap, policy: &Policy, changes: Option<&RequestHeaders>) -> Asked {
    let mut hop_by_hop = HopByHop::default();
    let mut reserved = Vec::new();
    for (name, value) in headers.iter_mut() {
        hop_by_hop.see(name, value);
        if policy.removes(name, changes) {
            reserved.push(name.clone());
        } else if SENSITIVE.contains(&name) {
            value.set_sensitive(true);
        }
    }
    let trailers = (hop_by_hop.has_fixed() && headers.contains_key(TRAILER))
        .then(|| announced_trailers(headers, policy, changes));
    let websocket = hop_by_hop.asks_for_websocket();
    hop_by_hop.strip_request(headers);
    if !reserved.is_empty() {
        remove_reserved(headers, &reserved);
    }
    Asked { websocket, trailers }
}

#[cold]
fn remove_reserved(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        headers.remove(name);
        tracing::debug!(header = %name, "removed a header that clients must not send");
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn reserved_headers_are_removed_and_others_stay() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-zowe-auth-failure", "a"),
            ("x-zowe-auth-failure", "b"),
            ("x-certificate-public", "x"),
            ("x-certificate-distinguishedname", "x"),
            ("oidc-token", "x"),
            ("x-saf-token", "x"),
            ("client-cert", "x"),
            ("customuser", "ADMIN"),
            ("x_certificate_public", "x"),
            ("x-zowe_auth-failure", "x"),
            ("custom_user", "x"),
            ("under-scored", "x"),
            ("client_cert", "x"),
            ("x.certificate.public", "x"),
            ("x+remote+user", "ADMIN"),
            ("x~certificate~commonname", "ADMIN"),
            ("custom!user", "ADMIN"),
            ("content_length", "3"),
            ("transfer_encoding", "chunked"),
            ("x-original-url", "/admin"),
            ("x-rewrite-url", "/admin"),
            ("x-http-method-override", "DELETE"),
            ("iv-user", "ADMIN"),
            ("sm_user", "ADMIN"),
            ("x-remote-user", "ADMIN"),
            ("x-forwarded-user", "ADMIN"),
            ("x-forwarded-client-cert", "x"),
            ("ssl_client_cert", "x"),
            ("x-real-ip", "127.0.0.1"),
            ("true-client-ip", "127.0.0.1"),
            ("$wsru", "ADMIN"),
            ("connection", "close, x-named"),
            ("x-named", "x"),
            ("under_score", "stays"),
            ("authorization", "Bearer x"),
            ("private-token", "x"),
            ("cookie", "personalAccessToken=x"),
            ("x-service-id", "x"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let custom = ["customuser", "custom-user", "under_scored"].map(HeaderName::from_static);
        let mut policy = Policy::default();
        policy.add(custom);
        sanitize(&mut headers, &policy, None);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(
            left,
            ["authorization", "cookie", "private-token", "under_score", "x-service-id"]
        );
        for (name, value) in &headers {
            let is_credential =
                ["authorization", "cookie", "private-token"].contains(&name.as_str());
            assert_eq!(value.is_sensitive(), is_credential, "{name}");
        }
    }
}
