//! Fuzz targets for paths of requests, and for URLs of services.

use std::{convert::Infallible, sync::LazyLock};

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_passticket::{
    api::AuthPrefix,
    layer::{Bypass, Origin, PassTicketScheme, Route, RouteLayer, Routes, Upstream},
    passticket::{Applid, KeyProfiles, LocalGenerator},
    remote::Address,
    token::ServiceId,
};

use crate::support::{lines, ready};

fn route(gateway_url: &str, upstream: &str) -> Route {
    let applid = Applid::new("APPL").expect("a valid APPLID");
    let scheme = PassTicketScheme::new(applid, LocalGenerator::new(KeyProfiles::default()));
    let service = ServiceId::new("svc").expect("a valid service id");
    let upstream = Upstream::parse(upstream).expect("a valid URL");
    Route::new(service, gateway_url, upstream, scheme).expect("a valid route")
}

static ROUTES: LazyLock<Routes> = LazyLock::new(|| {
    let routes = [
        route("api/v1", "https://zos/base/api"),
        route("api/v1/admin", "https://zos/base/admin"),
        route("ui", "http://zos:8080/"),
    ];
    Routes::new(routes).expect("each prefix is unique")
});

/// Decodes a path as some tolerant servers do, and returns its segments. These servers decode percent-encoding,
/// treat `\` as `/`, and remove parameters and empty segments.
fn decoded_segments(path: &str) -> Vec<Vec<u8>> {
    let (bytes, mut decoded) = (path.as_bytes(), Vec::new());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| str::from_utf8(hex).ok());
        let byte = hex
            .filter(|hex| bytes[at] == b'%' && hex.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    decoded
        .split(|b| matches!(b, b'/' | b'\\'))
        .map(|segment| segment.split(|b| *b == b';').next().unwrap_or_default().to_vec())
        .filter(|segment| !segment.is_empty())
        .collect()
}

/// Returns whether the path with these segments begins with `prefix`.
fn covers(prefix: &str, segments: &[Vec<u8>]) -> bool {
    let prefix: Vec<_> = prefix.split('/').filter(|segment| !segment.is_empty()).collect();
    segments.len() >= prefix.len()
        && prefix.iter().zip(segments).all(|(prefix, segment)| prefix.as_bytes() == segment)
}

/// The input is the target of a request, in any form.
pub(crate) fn paths(data: &[u8]) {
    let Ok(uri) = Uri::try_from(data) else { return };
    let service = service_fn(|request: Request<Full<Bytes>>| async move {
        let mut response = Response::new(Full::<Bytes>::default());
        *response.extensions_mut() = request.into_parts().0.extensions;
        Ok::<_, Infallible>(response)
    });
    let service = RouteLayer::new(ROUTES.clone()).layer(service);
    let mut request = Request::new(Full::<Bytes>::default());
    *request.uri_mut() = uri.clone();
    *request.method_mut() = Method::GET;
    let Ok(response) = ready(service.oneshot(request));
    let Some(route) = response.extensions().get::<std::sync::Arc<Route>>() else {
        assert!(matches!(response.status().as_u16(), 400 | 404), "{uri}: {}", response.status());
        return;
    };
    let segments = decoded_segments(uri.path());
    assert!(!segments.iter().any(|segment| matches!(&**segment, b"." | b"..")), "{uri}");
    for other in ROUTES.iter().filter(|other| other.prefix().len() > route.prefix().len()) {
        assert!(!covers(other.prefix(), &segments), "{uri} decodes to {}", other.prefix());
    }
    let path = route.southbound_path(&uri);
    let southbound: Uri = path.parse().expect("the path for the service is a valid URI");
    assert_eq!(southbound.query(), uri.query());
    let base = route.upstream().expect("the route has an upstream").to_string();
    let base = base.parse::<Uri>().expect("an upstream is a valid URI");
    assert!(covers(base.path(), &decoded_segments(southbound.path())), "{uri}: {path}");
    let below = &uri.path()[route.prefix().len()..];
    assert!(southbound.path().ends_with(below), "{uri}: {path}");
}

/// The input is a line with the URL of a service or an origin, and a line with a path.
pub(crate) fn addresses(data: &[u8]) {
    let lines = lines(data, 2);
    let [url, rest @ ..] = &lines[..] else { return };
    let below = rest.first().copied().unwrap_or_default();
    if let Ok(upstream) = Upstream::parse(url) {
        let text = upstream.to_string();
        assert_eq!(Upstream::parse(&text).as_ref(), Ok(&upstream), "{text}");
        assert!(!text.contains(['?', '#']) && !upstream.authority().as_str().contains('@'));
        let joined = upstream.join(below);
        assert_eq!(joined.authority(), upstream.authority());
        assert!(joined.to_string().starts_with(&text));
        let service = ServiceId::new("svc").expect("a valid service id");
        if let Ok(route) = Route::new(service, below, upstream, Bypass) {
            let prefix: Uri = route.prefix().parse().expect("a prefix is a path");
            assert_eq!(prefix.path(), route.prefix());
            assert!(!route.prefix().contains("//") && !route.prefix().ends_with('/'));
            let segments = decoded_segments(route.prefix());
            assert_eq!(segments.join(&b'/'), route.prefix().as_bytes()[1..]);
            assert!(!segments.iter().any(|segment| matches!(&**segment, b"." | b"..")));
        }
    }
    if let Ok(prefix) = AuthPrefix::new(below) {
        assert_eq!(prefix.as_str(), below);
        let segments = decoded_segments(below);
        assert_eq!(segments.join(&b'/'), below.as_bytes()[1..]);
        assert!(!segments.iter().any(|segment| matches!(&**segment, b"." | b"..")));
    }
    if let Ok(origin) = url.parse::<Origin>() {
        let text = origin.to_string();
        assert_eq!(text.parse(), Ok(origin), "{text}");
        assert!(text.to_ascii_lowercase() == text && !text.contains(['@', '?', '#']), "{text}");
    }
    if let Ok(address) = Address::parse(url) {
        let text = address.to_string();
        assert_eq!(Address::parse(&text).as_ref(), Ok(&address), "{text}");
        assert!(!text.contains(['@', '?', '#']), "{text}");
        let local = ["localhost", "127.", "[::1]", "[::ffff:127."];
        let host = text.split("//").nth(1).unwrap_or_default().to_ascii_lowercase();
        assert!(
            !address.is_protected()
                || text.starts_with("https://")
                || local.iter().any(|local| host.starts_with(local))
                || host.contains(':'),
            "{text}"
        );
    }
}
