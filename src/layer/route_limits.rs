//! The methods, paths and sizes that a route allows.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderValue, Method, Request,
    header::{CONTENT_LENGTH, HeaderName},
};

use super::{
    path::{decoded, decoded_again, is_ambiguous, is_at_or_below, is_plain},
    rejection::Rejection,
};
use crate::metrics::{Collect, CounterFamily, Description, Exposition, Label, LabelName};

const REFUSED: Description = Description::counter(
    "passticket_route_limits_refused_total",
    "Requests that were refused because of the methods, paths or sizes that their route allows.",
);

/// The methods, paths and sizes that a [`Route`](super::Route) allows. By default, it allows everything.
/// [`RouteLayer`](super::RouteLayer) refuses a request outside of these limits before its credential is evaluated. If
/// the length of a body is unknown, the proxy checks it later.
///
/// | limit | answer |
/// |---|---|
/// | [`with_paths`](Self::with_paths) | 404 |
/// | [`with_methods`](Self::with_methods) | 405 with `Allow` |
/// | [`with_max_headers`](Self::with_max_headers) | 431 |
/// | [`with_max_body`](Self::with_max_body) | 413 |
#[derive(Clone, Debug, Default)]
pub struct RouteLimits {
    methods: Option<AllowedMethods>,
    /// Each path begins with a slash, and does not end with a slash.
    paths: Option<Vec<String>>,
    max_headers: Option<usize>,
    max_body: Option<u64>,
    counts: Option<Arc<RouteLimitCounts>>,
}

#[derive(Clone, Debug)]
struct AllowedMethods {
    methods: Vec<Method>,
    allow: HeaderValue,
}

impl RouteLimits {
    /// Allows only these methods. GET includes HEAD (RFC 9110 §9.3.2). `TRACE` and `CONNECT` are never allowed.
    #[must_use]
    pub fn with_methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        let mut methods: Vec<_> = methods.into_iter().collect();
        if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
            methods.push(Method::HEAD);
        }
        let names: Vec<_> = methods.iter().map(Method::as_str).collect();
        // This cannot fail, because methods are tokens (RFC 9110 §9.1).
        let allow = HeaderValue::try_from(names.join(", ")).unwrap_or(HeaderValue::from_static(""));
        Self { methods: Some(AllowedMethods { methods, allow }), ..self }
    }

    /// Allows only these paths and the paths below them. Write paths of the gateway, which begin with the id of the
    /// service, such as `/files/api/v1/jobs`. This does not allow `/files/api/v1/jobs2`. Upper and lower case matter.
    ///
    /// A service can decode a path, and then see other segments than the gateway. So the gateway also decodes the path
    /// of a request once and twice, and removes empty segments and parameters (`;x=y`). It refuses the request if one
    /// of these forms of the path is not allowed.
    ///
    /// # Errors
    /// [`LimitPathError`] if a path is empty, if it has a character that a path cannot contain, or if two servers could
    /// read it in different ways.
    pub fn with_paths(
        self,
        paths: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, LimitPathError> {
        let normal = |path: &str| {
            let path = path.trim_matches('/');
            let is_valid = !path.is_empty()
                && path.bytes().all(|b| b.is_ascii_graphic() && !b"?#".contains(&b))
                && !is_ambiguous(&format!("/{path}"));
            match is_valid {
                true => Ok(format!("/{path}")),
                false => Err(LimitPathError(path.chars().take(200).collect())),
            }
        };
        let paths = paths.into_iter().map(|path| normal(path.as_ref()));
        Ok(Self { paths: Some(paths.collect::<Result<_, _>>()?), ..self })
    }

    /// Sets the maximum size of all headers of a request, in bytes. The size is the length of the names and values,
    /// plus four bytes for each header. Headers that [`SanitizeLayer`](super::SanitizeLayer) has removed do not count.
    #[must_use]
    pub fn with_max_headers(self, bytes: usize) -> Self {
        Self { max_headers: Some(bytes), ..self }
    }

    /// Sets the maximum size of the body of a request, in bytes. [`RouteLayer`](super::RouteLayer) refuses a request
    /// whose `Content-Length` is larger. If the length is unknown, the proxy of this crate counts the bytes while it
    /// forwards the body. A handler of your own must count them itself.
    #[must_use]
    pub fn with_max_body(self, bytes: u64) -> Self {
        Self { max_body: Some(bytes), ..self }
    }

    /// Counts refused requests in `counts`.
    #[must_use]
    pub fn with_counts(self, counts: Arc<RouteLimitCounts>) -> Self {
        Self { counts: Some(counts), ..self }
    }

    /// Returns the maximum size of the body, in bytes.
    pub fn max_body(&self) -> Option<u64> {
        self.max_body
    }

    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Rejection> {
        self.decide(request).inspect_err(|rejection| {
            let reason = match rejection {
                Rejection::MethodNotAllowed { .. } => LimitReason::Method,
                Rejection::HeadersTooLarge { .. } => LimitReason::Headers,
                Rejection::BodyTooLarge { .. } => LimitReason::Body,
                _ => LimitReason::Path,
            };
            self.count(reason);
        })
    }

    /// Counts a request that is refused because of its body.
    #[cfg(feature = "proxy")]
    pub(crate) fn count_body(&self) {
        self.count(LimitReason::Body);
    }

    #[cold]
    fn count(&self, reason: LimitReason) {
        if let Some(counts) = &self.counts {
            counts.0.increment((reason,));
        }
    }

    fn decide<B>(&self, request: &Request<B>) -> Result<(), Rejection> {
        let headers = request.headers();
        if let Some(paths) = &self.paths
            && !is_allowed(request.uri().path(), paths)
        {
            return Err(Rejection::NoRoute);
        }
        if let Some(allowed) = &self.methods
            && !allowed.methods.contains(request.method())
        {
            let method = request.method().clone();
            return Err(Rejection::MethodNotAllowed { method, allow: allowed.allow.clone() });
        }
        if let Some(limit) = self.max_headers
            && size(headers) > limit
        {
            return Err(Rejection::HeadersTooLarge { limit });
        }
        if let Some(limit) = self.max_body
            && content_length(headers).is_some_and(|length| length > limit)
        {
            return Err(Rejection::BodyTooLarge { limit });
        }
        Ok(())
    }
}

/// The text cannot be a path in [`RouteLimits::with_paths`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be a path; write segments like api/v1/jobs, without encoded characters")]
pub struct LimitPathError(String);

/// Returns whether all decoded forms of a path are in `paths`, or below one of them.
fn is_allowed(path: &str, paths: &[String]) -> bool {
    let is_in_one = |path: &str| paths.iter().any(|allowed| is_at_or_below(allowed, path));
    if !is_in_one(path) {
        return false;
    }
    if is_plain(path) {
        return true;
    }
    let once = decoded(path);
    let twice = once.as_deref().and_then(decoded_again);
    [once, twice].iter().flatten().all(|path| is_in_one(path))
}

fn size(headers: &HeaderMap) -> usize {
    let of = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    headers.iter().map(of).sum()
}

/// Returns the value of `Content-Length`. The HTTP server has checked it.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The limit because of which a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitReason {
    /// The route does not allow the path.
    Path,
    /// The route does not allow the method.
    Method,
    /// The headers are too large.
    Headers,
    /// The body is too large.
    Body,
}

impl Label for LimitReason {
    const NAME: LabelName = LabelName::new("reason");
    const ALL: &'static [Self] = &[Self::Path, Self::Method, Self::Headers, Self::Body];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Method => "method",
            Self::Headers => "headers",
            Self::Body => "body",
        }
    }
}

/// Counts the requests that were refused because of [`RouteLimits`].
#[derive(Debug, Default)]
pub struct RouteLimitCounts(CounterFamily<(LimitReason,)>);

impl RouteLimitCounts {
    /// Returns the number of requests that were refused for this reason.
    pub fn refused(&self, reason: LimitReason) -> u64 {
        self.0.get((reason,))
    }
}

impl Collect for RouteLimitCounts {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.family(&REFUSED, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decide(limits: &RouteLimits, method: &str, uri: &str, headers: &[(&str, &str)]) -> String {
        let request = Request::builder().method(method).uri(uri);
        let request = headers.iter().fold(request, |request, (n, v)| request.header(*n, *v));
        match limits.check(&request.body(()).unwrap()) {
            Ok(()) => "ok".to_owned(),
            Err(Rejection::NoRoute) => "404".to_owned(),
            Err(Rejection::MethodNotAllowed { allow, .. }) => {
                format!("405 {}", allow.to_str().unwrap())
            }
            Err(Rejection::HeadersTooLarge { limit }) => format!("431 {limit}"),
            Err(Rejection::BodyTooLarge { limit }) => format!("413 {limit}"),
            Err(other) => other.to_string(),
        }
    }

    #[test]
    fn each_decoded_form_of_a_path_must_be_allowed() {
        let limits = RouteLimits::default().with_paths(["svc/api/v1/jobs", "/svc/ui/"]).unwrap();
        for (path, want) in [
            ("/svc/api/v1/jobs", "ok"),
            ("/svc/api/v1/jobs/", "ok"),
            ("/svc/api/v1/jobs/1?x=/../y", "ok"),
            ("/svc/api/v1/jobs/a%20b", "ok"),
            ("/svc/api/v1/jobs/a%2Fb;c", "ok"),
            ("/svc/ui/index.html", "ok"),
            ("/svc/api/v1/jobs2", "404"),
            ("/svc/api/v1", "404"),
            ("/svc/api/v1/", "404"),
            ("/svc/api/v1/files", "404"),
            ("/svc/api/v1/JOBS", "404"),
            ("/svc/api/v1/%6aobs", "404"),
            ("/svc/api/v1/%256aobs", "404"),
            ("/svc/api/v1//jobs", "404"),
            ("/svc//api/v1/jobs", "404"),
            ("/svc/api/v1/jobs;x=y", "404"),
            ("/svc/api/v1/jobs\\..\\files", "404"),
            ("/svc/api/v1/jobs%2F", "404"),
            ("/svc/api/v1/jobs%3Fx", "404"),
        ] {
            assert_eq!(decide(&limits, "GET", path, &[]), want, "{path}");
        }
        for path in ["", "/", "a b", "a/../b", "a//b", "a%20", "a;b", "a?b", "a\\b", "\u{e9}"] {
            assert!(RouteLimits::default().with_paths([path]).is_err(), "{path}");
        }
    }

    #[test]
    fn methods_and_sizes_are_limited() {
        let limits = RouteLimits::default()
            .with_methods([Method::GET, Method::POST])
            .with_max_headers(20)
            .with_max_body(10);
        for (method, headers, want) in [
            ("GET", &[][..], "ok"),
            ("HEAD", &[], "ok"),
            ("POST", &[("content-length", "1")], "ok"),
            ("PUT", &[], "405 GET, POST, HEAD"),
            ("get", &[], "405 GET, POST, HEAD"),
            ("OPTIONS", &[], "405 GET, POST, HEAD"),
            ("GET", &[("abcd", "0123456789ab")], "ok"),
            ("GET", &[("abcd", "0123456789abc")], "431 20"),
            ("GET", &[("a", "01234"), ("a", "01234")], "ok"),
            ("GET", &[("a", "01234"), ("a", "012345")], "431 20"),
        ] {
            assert_eq!(decide(&limits, method, "/x", headers), want, "{method} {headers:?}");
        }
        let limits = RouteLimits::default().with_max_body(10);
        for (length, want) in [("10", "ok"), ("11", "413 10"), ("18446744073709551615", "413 10")] {
            assert_eq!(decide(&limits, "POST", "/x", &[("content-length", length)]), want);
        }
        assert_eq!(decide(&RouteLimits::default(), "BREW", "/", &[("content-length", "99")]), "ok");
    }

    #[test]
    fn refused_requests_are_counted() {
        let counts = Arc::<RouteLimitCounts>::default();
        let limits = RouteLimits::default()
            .with_paths(["svc"])
            .unwrap()
            .with_methods([Method::POST])
            .with_max_body(1)
            .with_max_headers(30)
            .with_counts(counts.clone());
        decide(&limits, "POST", "/other", &[]);
        decide(&limits, "GET", "/svc", &[]);
        decide(&limits, "POST", "/svc", &[("content-length", "2")]);
        decide(&limits, "POST", "/svc", &[("a", "012345678901234567890123456789")]);
        decide(&limits, "POST", "/svc", &[]);
        for reason in LimitReason::ALL {
            assert_eq!(counts.refused(*reason), 1, "{reason:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_encoding_of_a_path_avoids_the_allowed_paths(path in "/a(/|[.%;a-f0-9\\\\]){0,20}") {
            let allowed = ["/a/b".to_owned()];
            if is_allowed(&path, &allowed) {
                let once = decoded(&path).unwrap_or_else(|| path.clone());
                let twice = decoded(&once).unwrap_or_else(|| once.clone());
                for reading in [&path, &once, &twice] {
                    prop_assert!(reading == "/a/b" || reading.starts_with("/a/b/"), "{}", reading);
                }
            }
        }
    }
}
