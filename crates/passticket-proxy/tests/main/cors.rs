//! Tests of CORS: which web pages of other origins may use services and the auth API.

use std::{convert::Infallible, fs};

use crate::support::Demo;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use reqwest::header::HeaderMap;
use test_support::raw::listener;
use tower::service_fn;
use tower_passticket::tls::Server;

const APP: &str = "https://app.example";
const EVIL: &str = "https://evil.example";

/// Starts a gateway with two services: `shared`, which pages of `APP` may use, and `closed`. Both services answer with
/// the number of headers in the request that a service must not receive. They also add their own CORS header.
async fn start() -> Demo {
    let (listener, address) = listener().await;
    let service = service_fn(async |request: Request<Incoming>| {
        let forbidden = ["origin", "access-control-request-method"];
        let found = forbidden.iter().filter(|name| request.headers().contains_key(**name)).count();
        let response = Response::builder().header("access-control-allow-origin", "*");
        Ok::<_, Infallible>(response.body(Full::<Bytes>::from(found.to_string())).unwrap())
    });
    tokio::spawn(Server::http(listener).run(service, std::future::pending()));
    Demo::beside_servers(move |directory, yaml| {
        let service = |id: &str, metadata: &str| {
            format!(
                "  - serviceId: {id}\n    instanceBaseUrls: [\"http://{address}\"]\n    authentication: \
                 {{scheme: zoweJwt}}\n    routes: [{{gatewayUrl: api/v1, serviceRelativeUrl: /}}]\n    \
                 customMetadata: {{{metadata}}}\n"
            )
        };
        let shared = service(
            "shared",
            &format!("apiml.corsEnabled: true, apiml.corsAllowedOrigins: {APP}"),
        );
        let definitions = format!("services:\n{shared}{}", service("closed", ""));
        fs::write(directory.join("services.yml"), definitions).unwrap();
        let yaml = yaml
            .replace("apiDefs: api-defs", "apiDefs: services.yml")
            .replacen("    apiml:\n", "    apiml:\n      service: {corsEnabled: true}\n", 1);
        format!("{yaml}\n    cors: {{allowedOrigins: {APP}}}\n")
    })
    .await
}

fn allowed(headers: &HeaderMap) -> Option<&str> {
    headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_origins_can_use_services_and_the_auth_api() {
    let demo = start().await;
    let token = demo.login().await;
    let cookie = format!("apimlAuthenticationToken={token}");
    let route = "/shared/api/v1/x";
    let login = "/gateway/api/v1/auth/login";
    let query = "/gateway/api/v1/auth/query";

    // The gateway answers preflight requests, although they have no credential.
    for (path, origin, method, status) in [
        (route, APP, "PUT", 200),
        (route, APP, "PATCH", 403),
        (route, EVIL, "PUT", 403),
        (login, APP, "POST", 200),
        (login, EVIL, "POST", 403),
    ] {
        let request = demo.client().request(Method::OPTIONS, demo.at(path));
        let request = request.header("origin", origin);
        let request = request.header("access-control-request-method", method);
        let request = request.header("access-control-request-headers", "content-type");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{path} {origin} {method}");
        let headers = response.headers();
        assert_eq!(allowed(headers), (status == 200).then_some(origin), "{path} {origin}");
        assert!(headers.contains_key("vary") && headers.contains_key("x-request-id"));
        if status == 200 {
            assert_eq!(headers["access-control-allow-credentials"], "true");
            assert_eq!(headers["access-control-allow-headers"], "content-type");
        }
    }

    // These requests have the cookie of the user.
    for (method, path, origin, status, shared) in [
        (Method::POST, route, APP, 200, Some(APP)),
        (Method::GET, route, APP, 200, Some(APP)),
        (Method::GET, query, APP, 200, Some(APP)),
        (Method::POST, route, EVIL, 403, None),
        (Method::PATCH, route, APP, 403, None),
        // The browser does not let the page read this response.
        (Method::GET, route, EVIL, 200, None),
        (Method::GET, query, EVIL, 200, None),
        (Method::POST, "/closed/api/v1/x", APP, 403, None),
        (Method::GET, "/closed/api/v1/x", APP, 200, Some("*")),
    ] {
        let case = format!("{method} {path} {origin}");
        let request = demo.client().request(method, demo.at(path));
        let request = request.header("origin", origin).header("cookie", &cookie);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{case}");
        assert_eq!(allowed(response.headers()), shared, "{case}");
        let varies = response.headers().get("vary").is_some_and(|value| value == "origin");
        assert_eq!(varies, !path.starts_with("/closed"), "{case}");
        if status == 200 && path != query {
            assert_eq!(response.text().await.unwrap(), "0", "{case}");
        }
    }

    // A page of the listed origin `APP` can log the user in, and can read why a login was refused.
    for (origin, password, status) in
        [(APP, "validPassword", 204), (APP, "wrong", 401), (EVIL, "validPassword", 403)]
    {
        let request = demo.client().post(demo.at(login)).header("origin", origin);
        let request = request.basic_auth("USER", Some(password));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{origin} {password}");
        assert_eq!(allowed(response.headers()), (origin == APP).then_some(APP), "{origin}");
    }
}
