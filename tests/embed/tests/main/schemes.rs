//! An application has its own schemes. A scheme makes the headers that a service receives instead of the client's
//! credential. One scheme in this file makes a constant header. The other scheme asks a server for a token.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::Full;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_passticket::{
    audit::{Audit, AuditRecord, AuditSink, Detail, Event, Outcome, ReasonCode},
    layer::{
        AuthenticateLayer, Authenticator, Failure, OnFailure, PassTicketScheme, Route, RouteLayer,
        Routes, SanitizeLayer, Scheme, SchemeError, SchemeFuture, SchemeHeaders, SchemeLayer,
        SchemeRequest, ScopeLayer, X_ZOWE_AUTH_FAILURE,
    },
    passticket::{KeyProfiles, LocalGenerator},
    test_util,
    token::ServiceId,
};

type Body = Full<Bytes>;

/// Sends the gateway's API key to the service.
struct ApiKey {
    header: [HeaderName; 1],
    key: HeaderValue,
}

impl Scheme for ApiKey {
    fn name(&self) -> &'static str {
        "apiKey"
    }

    fn reserved_headers(&self) -> &[HeaderName] {
        &self.header
    }

    fn prepare(&self, _: &SchemeRequest<'_>) -> SchemeFuture {
        SchemeHeaders::new().with(self.header[0].clone(), self.key.clone()).into()
    }
}

/// Asks a token server for a token of the user, and sends this token to the service. In this test, the server has a
/// token only for `USER`. For other users, it does not answer.
struct Exchange;

impl Scheme for Exchange {
    fn name(&self) -> &'static str {
        "exchange"
    }

    fn reserved_headers(&self) -> &[HeaderName] {
        &[]
    }

    fn prepare(&self, request: &SchemeRequest<'_>) -> SchemeFuture {
        let user = *request.user();
        SchemeFuture::pending(async move {
            tokio::task::yield_now().await;
            if user.as_str() != "USER" {
                let error = SchemeError::unavailable("the token server does not answer", None);
                return Err(Failure::from(error));
            }
            let token = HeaderValue::from_static("Bearer exchanged");
            Ok(SchemeHeaders::new().with(http::header::AUTHORIZATION, token))
        })
    }
}

#[derive(Default)]
struct Records(Mutex<Vec<AuditRecord>>);

impl AuditSink for Records {
    fn record(&self, record: AuditRecord) {
        self.0.lock().unwrap().push(record);
    }
}

fn routes() -> Routes {
    let route = |service: &str| (ServiceId::new(service).unwrap(), "http://zos".parse().unwrap());
    let api_key = ApiKey {
        header: [HeaderName::from_static("x-api-key")],
        key: HeaderValue::from_static("secret"),
    };
    let profile = test_util::key_profile("ZOWEAPPL");
    let applid = *profile.applid();
    let generator = LocalGenerator::new(KeyProfiles::new([profile]).unwrap());
    let (keyed, exchanged, ticket) = (route("keyed"), route("exchanged"), route("ticket"));
    Routes::new([
        Route::new(keyed.0, "", keyed.1, api_key).unwrap(),
        Route::new(exchanged.0, "", exchanged.1, Arc::new(Exchange)).unwrap(),
        Route::new(ticket.0, "", ticket.1, PassTicketScheme::new(applid, generator)).unwrap(),
    ])
    .unwrap()
}

/// Sends a request through all layers. Returns the headers that the service has received, the response, and the audit
/// records of the scheme.
async fn exchange(request: Request<Body>) -> (HeaderMap, Response<Body>, Vec<AuditRecord>) {
    let records = Arc::new(Records::default());
    let stack = ServiceBuilder::new()
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::new(routes()))
        .layer(AuthenticateLayer::new(Authenticator::new(test_util::verifier())))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new().with_audit(Audit::to(records.clone())))
        .service(service_fn(|request: Request<Body>| async move {
            let mut response = Response::new(Body::default());
            response.extensions_mut().insert(request.headers().clone());
            Ok::<_, Infallible>(response)
        }));
    let mut response = stack.oneshot(request).await.unwrap();
    let received = response.extensions_mut().remove().unwrap_or_default();
    let records = records.0.lock().unwrap().drain(..).collect();
    (received, response, records)
}

fn get(path: &str, user: &str) -> Request<Body> {
    let bearer = format!("Bearer {}", test_util::login_token(user));
    let request = Request::get(path).header("authorization", bearer);
    request.header("x-api-key", "forged").body(Body::default()).unwrap()
}

#[tokio::test]
async fn each_route_has_its_own_scheme_and_audit_event() {
    for (path, header, beginning, event) in [
        ("/keyed/x", "x-api-key", "secret", Event::Scheme),
        ("/exchanged/x", "authorization", "Bearer exchanged", Event::Scheme),
        ("/ticket/x", "authorization", "Basic ", Event::Ticket),
    ] {
        let (received, response, records) = exchange(get(path, "USER")).await;
        assert_eq!(response.status(), 200, "{path}");
        assert!(received[header].to_str().unwrap().starts_with(beginning), "{path}");
        assert!(received[header].is_sensitive(), "{path}");
        let [record] = &records[..] else { panic!("{path}: {records:?}") };
        assert_eq!((record.event, record.outcome), (event, Outcome::Success), "{path}");
        assert_eq!(record.user.unwrap().as_str(), "USER");
        let name = match record.detail {
            Some(Detail::Scheme { name }) => name,
            _ => "httpBasicPassTicket",
        };
        assert!(path == "/ticket/x" || ["apiKey", "exchange"].contains(&name), "{path}");
    }
}

#[tokio::test]
async fn a_client_cannot_set_a_reserved_header() {
    let request = Request::get("/keyed/x").header("x-api-key", "forged");
    let (received, response, records) = exchange(request.body(Body::default()).unwrap()).await;
    // The request has no credential. It is forwarded without the header of the scheme.
    assert!(response.headers().contains_key(&X_ZOWE_AUTH_FAILURE));
    assert!(!received.contains_key("x-api-key"));
    assert!(records.is_empty());
}

#[tokio::test]
async fn a_failed_scheme_is_recorded_and_reported_to_the_client() {
    let (received, response, records) = exchange(get("/exchanged/x", "OTHER")).await;
    assert_eq!(response.status(), 200);
    assert!(!received.contains_key("authorization"));
    assert_eq!(
        response.headers()[&X_ZOWE_AUTH_FAILURE],
        "ZWEAG104E Authentication service is not available"
    );
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!((record.outcome, record.reason), (Outcome::Error, Some(ReasonCode::Unavailable)));
}

#[tokio::test]
async fn a_route_that_rejects_failures_answers_503_when_a_scheme_fails() {
    let service = ServiceId::new("svc").unwrap();
    let route = Route::new(service, "", "http://zos".parse().unwrap(), Exchange).unwrap();
    let route = Arc::new(route.with_on_failure(OnFailure::Reject));
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::fixed(route))
        .layer(AuthenticateLayer::new(Authenticator::new(test_util::verifier())))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service(service_fn(|_: Request<Body>| async {
            panic!("the service must not be called");
            #[expect(unreachable_code, reason = "sets the type of the response")]
            Ok::<Response<Body>, Infallible>(Response::default())
        }));
    let response = stack.oneshot(get("/", "OTHER")).await.unwrap();
    assert_eq!(response.status(), 503);
}

/// With the feature `test-util`, a scheme can be tested without the other layers.
#[tokio::test]
async fn a_scheme_can_be_tested_with_only_its_layer() {
    let service = ServiceId::new("svc").unwrap();
    let route = Arc::new(Route::new(service, "", "http://zos".parse().unwrap(), Exchange).unwrap());
    let mut request = Request::new(Body::default());
    let authorized = test_util::authorized_on(Route::clone(&route), "USER");
    request.extensions_mut().insert(authorized);
    request.extensions_mut().insert(route);
    let stack = ServiceBuilder::new().layer(SchemeLayer::new()).service(service_fn(
        |request: Request<Body>| async move {
            assert_eq!(request.headers()["authorization"], "Bearer exchanged");
            Ok::<_, Infallible>(Response::new(Body::default()))
        },
    ));
    assert_eq!(stack.oneshot(request).await.unwrap().status(), 200);
}
