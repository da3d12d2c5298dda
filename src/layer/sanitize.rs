//! Removes request headers that a client must not send to a service:
//!
//! 1. Hop-by-hop headers, including those that a `Connection` line names.
//! 2. `X-Zowe-Auth-Failure`, `X-Certificate-*`, `OIDC-token`, `X-SAF-Token` and `Client-Cert`. A service
//!    trusts these headers, so only the gateway may set them. Some servers accept these headers under
//!    other names, such as `X_Certificate_…`. Headers with such names, and all `$WS…` headers, are removed
//!    too.
//! 3. The headers that are passed to [`SanitizeLayer::with_headers`], such as the custom PassTicket headers.
//!
//! The layer keeps `Authorization`, `Cookie` and `PRIVATE-TOKEN`. It marks them as sensitive, so that
//! `Debug` does not show their values.
//!
//! Put this layer first. If it comes after [`RouteLayer`](super::RouteLayer) or
//! [`AuthenticateLayer`](super::AuthenticateLayer), it answers 500.
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
    HeaderMap, HeaderName, Request,
    header::{AUTHORIZATION, COOKIE},
};
use memchr::memchr;
use tower_layer::Layer;

use super::{
    authentication::Authentication,
    check::{Check, CheckService},
    credential::{CLIENT_CERT, PRIVATE_TOKEN, X_CERTIFICATE, X_SAF_TOKEN},
    failure::X_ZOWE_AUTH_FAILURE,
    rejection::Rejection,
    routes::Route,
};
use crate::headers::HopByHop;

static OIDC_TOKEN: HeaderName = HeaderName::from_static("oidc-token");

/// Headers that only the gateway may set, besides `X-Certificate-*`.
static ALWAYS: [&HeaderName; 4] = [&OIDC_TOKEN, &X_SAF_TOKEN, &CLIENT_CERT, &X_ZOWE_AUTH_FAILURE];

/// Headers that are kept and marked as sensitive.
static SENSITIVE: [&HeaderName; 3] = [&AUTHORIZATION, &COOKIE, &PRIVATE_TOKEN];

/// The layer. See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct SanitizeLayer {
    check: Sanitize,
}

impl SanitizeLayer {
    /// Creates a layer that removes hop-by-hop headers and the headers that Zowe services trust.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also removes `headers`.
    #[must_use]
    pub fn with_headers(mut self, headers: impl IntoIterator<Item = HeaderName>) -> Self {
        let others = &mut self.check.others;
        *others = others.iter().cloned().chain(headers).collect();
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
    others: Arc<[HeaderName]>,
}

impl Check for Sanitize {
    fn check<B>(&self, request: &mut Request<B>) -> Result<(), Rejection> {
        let extensions = request.extensions();
        if extensions.get::<Arc<Route>>().is_some() || extensions.get::<Authentication>().is_some()
        {
            return Err(Rejection::misassembled(
                "SanitizeLayer must be the first layer; later it would remove headers of earlier layers",
            ));
        }
        sanitize(request.headers_mut(), &self.others);
        Ok(())
    }
}

fn sanitize(headers: &mut HeaderMap, others: &[HeaderName]) {
    let mut hop_by_hop = HopByHop::default();
    // Empty, and so not allocated, for most requests.
    let mut reserved = Vec::new();
    for (name, value) in headers.iter_mut() {
        hop_by_hop.see(name, value);
        if is_reserved(name, others) {
            reserved.push(name.clone());
        } else if SENSITIVE.contains(&name) {
            value.set_sensitive(true);
        }
    }
    hop_by_hop.strip(headers);
    if !reserved.is_empty() {
        remove_reserved(headers, &reserved);
    }
}

#[cold]
fn remove_reserved(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        headers.remove(name);
        tracing::debug!(header = %name, "removed a header that only the gateway may set");
    }
}

/// Whether only the gateway may set the header `name`, or some servers treat `name` as the name of such a
/// header. WebSphere Liberty (z/OSMF, CICS) takes users and certificates from `$WS…` headers of a proxy that
/// it trusts.
fn is_reserved(name: &HeaderName, others: &[HeaderName]) -> bool {
    let text = name.as_str();
    ALWAYS.contains(&name)
        || text.starts_with(X_CERTIFICATE)
        || text.starts_with("$ws")
        || others.iter().any(|other| same_for_cgi(text, other.as_str()))
        || (memchr(b'_', text.as_bytes()).is_some() && is_alias(text))
}

/// Whether two header names are equal in CGI, which does not distinguish `_` and `-`.
fn same_for_cgi(a: &str, b: &str) -> bool {
    let dashed = |byte| if byte == b'_' { b'-' } else { byte };
    a.len() == b.len() && a.bytes().map(dashed).eq(b.bytes().map(dashed))
}

/// Whether a CGI server treats this name, which has an underscore, as the name of a reserved header.
#[cold]
fn is_alias(name: &str) -> bool {
    let is = |reserved: &HeaderName| same_for_cgi(name, reserved.as_str());
    let prefix = name.get(..X_CERTIFICATE.len());
    prefix.is_some_and(|prefix| same_for_cgi(prefix, X_CERTIFICATE))
        || ALWAYS.into_iter().any(is)
        || is(&PRIVATE_TOKEN)
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
        sanitize(&mut headers, &custom);
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
