//! Tests of malformed requests and forged headers. Each test uses all values of [`OnFailure`], which determines what
//! the gateway does after a failed authentication. One route sends the PassTicket (a short-lived password of z/OS) in
//! custom headers. The other route has no authentication.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, Version};
use http_body_util::Full;
use test_support::{
    pki,
    tickets::{key_profile, user},
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_passticket::{
    gateway::Gateway,
    layer::{
        AuthenticateLayer, Authenticator, Bypass, CustomHeaders, OnFailure, PassTicketScheme,
        Route, RouteLayer, Routes, SanitizeLayer, SchemeLayer, ScopeLayer, Upstream,
    },
    passticket::{KeyProfiles, LocalGenerator, Replay},
    proxy::ResponseBody,
    token::{Rs256Verifier, ServiceId, SigningKey, TokenIssuer},
};

type Body = Full<Bytes>;

const MODES: [OnFailure; 3] = [OnFailure::Forward, OnFailure::ForwardUnchanged, OnFailure::Reject];

fn key() -> SigningKey {
    SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap()
}

fn credentials() -> [Option<String>; 3] {
    let token = TokenIssuer::new(key()).login_token(&user("USER"), "domain").unwrap();
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    [None, bearer("garbage"), bearer(token.expose())]
}

/// Returns a gateway with two routes: `/svc`, whose service gets PassTickets, and `/open`, which has no authentication.
/// The service counts its requests in `received`, and puts the headers of each request into the extensions of the
/// response.
fn gateway(
    on_failure: OnFailure,
    received: &Arc<AtomicUsize>,
) -> impl Service<Request<Body>, Response = Response<ResponseBody>, Error = Infallible> + Clone + use<>
{
    let profile = key_profile("ZOWEAPPL").with_replay(Replay::Allowed);
    let applid = *profile.applid();
    let custom =
        CustomHeaders::new(HeaderName::from_static("x-user"), HeaderName::from_static("x-ticket"));
    let names = [custom.user().clone(), custom.ticket().clone()];
    let tickets = LocalGenerator::new(KeyProfiles::new([profile]).unwrap());
    let scheme = PassTicketScheme::new(applid, tickets).with_custom_headers(custom);
    let upstream = || Upstream::parse("http://zos").unwrap();
    let service = |id| ServiceId::new(id).unwrap();
    let routes = [
        Route::new(service("svc"), "", upstream(), scheme).unwrap().with_on_failure(on_failure),
        Route::new(service("open"), "", upstream(), Bypass).unwrap().with_on_failure(on_failure),
    ];
    let received = received.clone();
    let echo = service_fn(move |request: Request<Body>| {
        received.fetch_add(1, Ordering::Relaxed);
        let mut response = Response::new(ResponseBody::default());
        response.extensions_mut().insert(request.headers().clone());
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let authenticator = Authenticator::new(Rs256Verifier::new(key().verifying_key()));
    let stack = ServiceBuilder::new()
        .layer(SanitizeLayer::new().with_headers(names))
        .layer(RouteLayer::new(Routes::new(routes).unwrap()))
        .layer(AuthenticateLayer::new(authenticator))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service(echo);
    let api = service_fn(async |_: Request<Body>| Ok(Response::new(ResponseBody::default())));
    Gateway::new(api, stack)
}

#[tokio::test]
async fn malformed_requests_are_refused_for_each_value_of_on_failure() {
    const HOST: (&str, &str) = ("host", "gw");
    const OK: Version = Version::HTTP_11;
    #[rustfmt::skip]
    let cases: [(&str, &str, Version, &[(&str, &str)], u16); 15] = [
        ("GET", "/svc/x", OK, &[], 400),
        ("GET", "/svc/x", OK, &[HOST, HOST], 400),
        ("GET", "/svc/x", OK, &[("host", "a b/c@d")], 400),
        ("GET", "https://gw/svc/x", Version::HTTP_2, &[("host", "other")], 400),
        ("GET", "https://u@gw/svc/x", Version::HTTP_2, &[], 400),
        ("GET", "ftp://gw/svc/x", OK, &[HOST], 400),
        ("POST", "/svc/x", OK, &[HOST, ("transfer-encoding", "chunked, chunked")], 400),
        ("POST", "/svc/x", OK, &[HOST, ("transfer-encoding", "gzip, chunked")], 501),
        ("GET", "/svc/../x", OK, &[HOST], 400),
        ("GET", "/svc/%2e%2e/x", OK, &[HOST], 400),
        ("GET", "/svc/%252e%252e/x", OK, &[HOST], 400),
        ("GET", "/svc/..%00", OK, &[HOST], 400),
        ("TRACE", "/svc/x", OK, &[HOST], 405),
        ("trace", "/svc/x", OK, &[HOST], 405),
        ("GET", "/unknown", OK, &[HOST], 404),
    ];
    for on_failure in MODES {
        let received = Arc::default();
        let gateway = gateway(on_failure, &received);
        for credential in credentials() {
            for (method, target, version, headers, want) in cases {
                let mut request = Request::builder().method(method).uri(target).version(version);
                for (name, value) in headers {
                    request = request.header(*name, *value);
                }
                if let Some(value) = &credential {
                    request = request.header("authorization", value);
                }
                let request = request.body(Body::default()).unwrap();
                let response = gateway.clone().oneshot(request).await.unwrap();
                let case = (on_failure, &credential, method, target, headers);
                assert_eq!(response.status(), want, "{case:?}");
            }
        }
        assert_eq!(received.load(Ordering::Relaxed), 0, "{on_failure:?}");
    }
}

#[tokio::test]
async fn forged_headers_with_credentials_are_not_forwarded() {
    const FORGED: [&str; 9] = [
        "x-user",
        "x_user",
        "x.user",
        "x-ticket",
        "x_ticket",
        "x-original-url",
        "x-http-method-override",
        "iv-user",
        "x-certificate-public",
    ];
    for on_failure in MODES {
        let received = Arc::default();
        let gateway = gateway(on_failure, &received);
        for (at, credential) in credentials().into_iter().enumerate() {
            let is_valid = at == 2;
            for path in ["/svc/x", "/open/x"] {
                let mut request = Request::get(path).header("host", "gw");
                for name in FORGED {
                    request = request.header(name, "FORGED").header(name, "FORGED");
                }
                if let Some(value) = &credential {
                    request = request.header("authorization", value);
                }
                let request = request.body(Body::default()).unwrap();
                let response = gateway.clone().oneshot(request).await.unwrap();
                let case = (on_failure, &credential, path);
                let Some(southbound) = response.extensions().get::<HeaderMap>() else {
                    let is_refused = on_failure == OnFailure::Reject && !is_valid;
                    assert!(is_refused && path == "/svc/x", "{case:?}");
                    continue;
                };
                let forged = southbound.iter().find(|(_, value)| *value == "FORGED");
                assert!(forged.is_none(), "{case:?}: {forged:?}");
                let has_ticket = is_valid && path == "/svc/x";
                assert_eq!(southbound.contains_key("x-ticket"), has_ticket, "{case:?}");
                let user = southbound.get_all("x-user").iter().collect::<Vec<_>>();
                assert_eq!(user, if has_ticket { vec!["USER"] } else { Vec::new() }, "{case:?}");
            }
        }
    }
}
