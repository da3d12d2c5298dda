//! Tests of the limits of services and routes.

use std::{convert::Infallible, fs, net::SocketAddr, time::Duration};

use crate::support::{Demo, admin_address, metric};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use reqwest::Body;
use test_support::raw::listener;
use tokio::time::sleep;
use tower::service_fn;
use tower_passticket::tls::Server;

/// Starts a service that answers with the length of the request body.
async fn service() -> SocketAddr {
    let (listener, address) = listener().await;
    let service = service_fn(async |request: Request<Incoming>| {
        let length = request.into_body().collect().await.map(|body| body.to_bytes().len());
        let text = length.unwrap_or_default().to_string();
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(text)))
    });
    tokio::spawn(Server::http(listener).run(service, std::future::pending()));
    address
}

/// Starts a gateway with the services `open` (scheme `bypass`) and `closed` (scheme `zoweJwt`). `ours` contains
/// settings of `components.passticket-proxy.services`, and `zowe` contains settings of `components.gateway.apiml`.
async fn start(ours: &'static str, zowe: &'static str) -> Demo {
    let address = service().await;
    Demo::beside_servers(move |directory, yaml| {
        let service = |id: &str, scheme: &str| {
            format!(
                "  - serviceId: {id}\n    instanceBaseUrls: [\"http://{address}\"]\n    authentication: \
                 {{scheme: {scheme}}}\n    routes:\n      - {{gatewayUrl: api/v1, serviceRelativeUrl: /}}\n      \
                 - {{gatewayUrl: ui, serviceRelativeUrl: /}}\n"
            )
        };
        let services = format!(
            "services:\n{}{}",
            service("open", "bypass"),
            service("closed", "zoweJwt")
        );
        fs::write(directory.join("services.yml"), services).unwrap();
        let yaml = yaml.replace("apiDefs: api-defs", "apiDefs: services.yml").replacen(
            "    apiml:\n",
            &format!("    apiml:\n{zowe}"),
            1,
        );
        format!("{yaml}\n    admin: {{port: 0}}\n    services: {{{ours}}}\n")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_paths_and_sizes_are_limited_for_a_service_and_for_a_route() {
    let mut demo = start(
        "open: {methods: [GET, POST], paths: [api/v1/jobs, ui], bodyMegabytes: 1, headerKilobytes: 2, \
         routes: {ui: {methods: [GET]}}}",
        "",
    )
    .await;
    let admin = admin_address(&mut demo.program);
    let client = demo.client();
    const MIB: usize = 1024 * 1024;
    let post =
        |path: &str, length: usize| client.post(demo.at(path)).body(Body::from(vec![b'x'; length]));
    let stream = |length: usize| {
        let pieces = (0..length.div_ceil(1000)).map(|_| Ok::<_, Infallible>(vec![b'x'; 1000]));
        let body = Body::wrap(http_body_util::StreamBody::new(Stream(pieces)));
        client.post(demo.at("/open/api/v1/jobs")).body(body)
    };
    let get = |path: &str| client.get(demo.at(path));
    let large = "x".repeat(2048);
    let cases = [
        ("get", get("/open/api/v1/jobs/1"), 200, ""),
        ("head", client.head(demo.at("/open/api/v1/jobs")), 200, ""),
        ("put", client.put(demo.at("/open/api/v1/jobs")), 405, "ZWEAO405E"),
        ("trace", client.request(Method::TRACE, demo.at("/open/api/v1/jobs")), 405, "ZWEAO405E"),
        ("other path", get("/open/api/v1/files"), 404, "ZWEAO404E"),
        ("longer segment", get("/open/api/v1/jobs2"), 404, "ZWEAO404E"),
        ("encoded", get("/open/api/v1/%6aobs"), 404, "ZWEAO404E"),
        ("parameter", get("/open/api/v1/jobs;x=y"), 404, "ZWEAO404E"),
        ("ui", get("/open/ui/x"), 200, ""),
        ("method of the route", post("/open/ui/x", 1), 405, "ZWEAO405E"),
        ("largest body", post("/open/api/v1/jobs", MIB), 200, ""),
        ("larger body", post("/open/api/v1/jobs", MIB + 1), 413, "ZWEAO413E"),
        ("largest stream", stream(MIB - 1000), 200, ""),
        ("larger stream", stream(MIB + 1000), 413, "ZWEAO413E"),
        ("headers", get("/open/ui/x").header("x-large", large), 431, "ZWEAO400E"),
        ("other service", client.put(demo.at("/closed/api/v1/x")), 200, ""),
    ];
    for (case, request, status, number) in cases {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{case}");
        let allow = response.headers().get("allow").map(|allow| allow.to_str().unwrap().to_owned());
        let want = match case {
            "put" => Some("GET, POST, HEAD"),
            "method of the route" => Some("GET, HEAD"),
            _ => None,
        };
        assert!(allow.as_deref() == want || case == "trace", "{case}: {allow:?}");
        let text = response.text().await.unwrap();
        assert!(text.contains(number), "{case}: {text}");
    }
    for (reason, want) in [("path", 4), ("method", 2), ("headers", 1), ("body", 2)] {
        let line = format!("passticket_route_limits_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(metric(&client, admin, &line).await, want, "{reason}");
    }
}

/// A stream of the frames of a body.
struct Stream<I>(I);

impl<I: Iterator<Item = Result<Vec<u8>, Infallible>> + Unpin> futures_core::Stream for Stream<I> {
    type Item = Result<hyper::body::Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let next = self.0.next();
        std::task::Poll::Ready(next.map(|it| it.map(|it| hyper::body::Frame::data(it.into()))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_rates_of_users_and_addresses_are_limited() {
    let mut demo = start(
        "closed: {rateLimit: {requests: 3, seconds: 3600}}",
        "      routing: {servicesToLimitRequestRate: open}\n      gateway: {rateLimiterCapacity: 2, \
         rateLimiterTokens: 1, rateLimiterRefillDuration: 1440}\n",
    )
    .await;
    let admin = admin_address(&mut demo.program);
    let client = demo.client();
    let token = demo.login().await;
    let send = async |path: &str, token: Option<&str>| {
        let request = client.get(demo.at(path));
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        request.send().await.unwrap()
    };
    for (path, token, want) in [
        ("/open/api/v1/x", None, 200),
        // All routes of a service share one limit. The scheme bypass does not read tokens, so this request has no user.
        // The request counts towards the limit of the client's address.
        ("/open/ui/x", Some(token.as_str()), 200),
        ("/open/api/v1/x", None, 429),
        ("/closed/api/v1/x", Some(&token), 200),
        ("/closed/api/v1/x", Some(&token), 200),
        ("/closed/ui/x", Some(&token), 200),
        ("/closed/api/v1/x", Some(&token), 429),
        // Requests without a user count towards the limit of the client's address. The limit of the address is separate
        // from the limit of the user.
        ("/closed/api/v1/x", None, 200),
        ("/closed/api/v1/x", Some("forged"), 200),
        ("/closed/api/v1/x", None, 200),
        ("/closed/api/v1/x", Some("forged"), 429),
    ] {
        let response = send(path, token).await;
        assert_eq!(response.status(), want, "{path} {token:?}");
        if want == 429 {
            assert_eq!(response.headers()["retry-after"], "10");
            let text = response.text().await.unwrap();
            assert!(text.contains("ZWESG429E") && text.contains("wait "), "{text}");
        }
    }
    for (key, want) in [("user", 1), ("address", 2)] {
        let line = format!("passticket_rate_limited_total{{key=\"{key}\"}}");
        assert_eq!(metric(&client, admin, &line).await, want, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_has_its_own_response_timeout() {
    let (listener, address) = listener().await;
    let service = service_fn(async |_: Request<Incoming>| {
        sleep(Duration::from_secs(3600)).await;
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    });
    tokio::spawn(Server::http(listener).run(service, std::future::pending()));
    let demo = Demo::beside_servers(move |directory, yaml| {
        let services = format!(
            "services:\n  - serviceId: slow\n    instanceBaseUrls: [\"http://{address}\"]\n    routes: \
             [{{gatewayUrl: api/v1, serviceRelativeUrl: /}}]\n    authentication: {{scheme: bypass}}\n"
        );
        fs::write(directory.join("services.yml"), services).unwrap();
        let yaml = yaml.replace("apiDefs: api-defs", "apiDefs: services.yml");
        format!("{yaml}\n    services: {{slow: {{routes: {{api/v1: {{responseSeconds: 1}}}}}}}}\n")
    })
    .await;
    let response = demo.client().get(demo.at("/slow/api/v1/x")).send().await.unwrap();
    assert_eq!(response.status(), 504);
}
