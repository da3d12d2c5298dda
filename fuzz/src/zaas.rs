//! Fuzz target for the scheme endpoints of ZAAS. API ML's gateway calls such an endpoint to get the credential that a
//! service receives, such as a PassTicket.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tower::{Layer, ServiceExt};
use tower_passticket::{
    identity::{CommonNameMapper, Fingerprint},
    layer::{
        AuthenticateLayer, Authenticator, CookieNames, PassTicketScheme, Scheme, SchemeLayer,
        ScopeLayer, TrustedForwarders, VerifyClientCertificate, ZoweJwtScheme,
    },
    passticket::{KeyProfiles, LocalGenerator, PassTicket},
    revocation::RevocationIndex,
    token::{ServiceId, TokenIssuer},
    zaas::{SchemeEndpoints, SchemeTarget, trust_layer},
};

use crate::{
    exchange::block_on,
    gateway::{APPLID, profile, user},
    headers::expected_user,
    support::{CERTIFICATE, KEY, PAT_USER, clock, header_lines, ready, verifier, with_tokens},
};

/// The service of the PAT.
const SERVICE: &str = "svc";

const PATHS: [&str; 4] =
    ["/zaas/scheme/ticket", "/zaas/scheme/zoweJwt", "/zaas/scheme/zosmf", "/zaas/scheme/ticket/"];

/// The input is a byte that selects the path, the method and the peer, followed by header lines with placeholders for
/// tokens (see [`with_tokens`]), an empty line, and the body.
pub(crate) fn scheme(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let path = PATHS[usize::from(choice & 3)];
    let is_post = choice & 4 == 0;
    let peer = match (choice & 8, choice & 16) {
        (0, 0) => Peer::NamedGateway,
        (0, _) => Peer::Client,
        _ => Peer::Unknown,
    };
    let end = rest.windows(2).position(|pair| pair == b"\n\n").unwrap_or(rest.len());
    let headers = header_lines(&with_tokens(&rest[..end]));
    let body = rest.get(end + 2..).unwrap_or_default();
    let response = send(path, is_post, peer, headers.clone(), body);
    check(&response);
    let status = response.status().as_u16();
    if peer == Peer::Unknown {
        assert_eq!(status, 401);
        return;
    }
    if status == 403 {
        assert!(headers.contains_key("origin") || headers.contains_key("sec-fetch-site"));
        return;
    }
    // The rules for credentials are the same as on a route, with two exceptions. The service comes from the header
    // `X-Service-Id`, but only if a named gateway sends it. The certificate of the connection is a credential only if
    // the peer is a client and sends no header of a gateway. No certificate in `Client-Cert` is valid here.
    let of_gateway = ["client-cert", "client-cert-chain", "x-service-id"];
    let is_like_gateway = of_gateway.iter().any(|name| headers.contains_key(*name));
    let acts_for_itself = peer == Peer::Client && !is_like_gateway;
    let service = service(&headers).filter(|_| peer == Peer::NamedGateway);
    let user = expected_user(&headers, true, acts_for_itself);
    let is_permitted = user != Some(PAT_USER) || service.as_deref() == Some(SERVICE);
    let expected = user.filter(|_| is_permitted);
    match (path, status) {
        ("/zaas/scheme/ticket/", status) => assert_eq!(status, 404),
        (_, 401) => assert_eq!(expected, None),
        (_, 404) => assert!(expected.is_some()),
        ("/zaas/scheme/ticket", 200) => {
            assert!(is_post);
            let answer = object(response.body());
            let asked = object(body);
            assert_eq!(answer["applicationName"], asked["applicationName"]);
            let name = asked["applicationName"].as_str().expect("expected a JSON string");
            assert_eq!(name.trim().to_ascii_uppercase(), APPLID);
            assert_eq!(answer["userId"].as_str(), expected);
            let ticket = answer["ticket"].as_str().expect("expected a JSON string");
            let ticket = PassTicket::parse(ticket).expect("expected a PassTicket");
            let now = tower_passticket::clock::Clock::now(&*clock());
            let name = expected.expect("compared above");
            assert!(profile().evaluate(&self::user(name), &ticket, now).is_ok());
        }
        ("/zaas/scheme/ticket", status) => assert!(matches!(status, 400 | 413), "{response:?}"),
        ("/zaas/scheme/zoweJwt", status) => {
            assert_eq!((status, is_post), (200, true));
            let token = object(response.body())["token"].clone();
            let token = token.as_str().expect("expected a JSON string");
            let verified = ready(tower_passticket::token::TokenVerifier::verify_token(
                &verifier(),
                token.as_bytes(),
            ));
            let Ok(tower_passticket::token::VerifiedToken::Jwt(jwt)) = verified else {
                panic!("{verified:?}")
            };
            assert_eq!(Some(jwt.user().as_str()), expected);
        }
        // This test has no z/OSMF, so the answer is 503.
        (_, status) => assert_eq!((status, is_post), (503, true)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// The peer has the certificate of a gateway that an operator has named.
    NamedGateway,
    /// The peer has the certificate of a user.
    Client,
    /// The peer has no certificate.
    Unknown,
}

struct NoCertificate;

impl VerifyClientCertificate for NoCertificate {
    fn verify(&self, _: &[u8], _: &[Vec<u8>]) -> Result<(), String> {
        Err("no certificate is valid".to_owned())
    }
}

fn send(path: &str, is_post: bool, peer: Peer, headers: HeaderMap, body: &[u8]) -> Response<Bytes> {
    let authenticator = Authenticator::new(verifier())
        .with_client_certificates(CommonNameMapper)
        .with_personal_access_tokens(RevocationIndex::default())
        .with_clock(clock());
    let profiles = KeyProfiles::new([profile()]).expect("a single profile");
    let tickets = LocalGenerator::one_shot(profiles).with_clock(clock());
    let issuer = TokenIssuer::new(KEY.clone()).with_clock(clock());
    let zowe_jwt = ZoweJwtScheme::new(issuer, "security-domain", CookieNames::default());
    let schemes = move |target: &SchemeTarget, _: Option<&ServiceId>| {
        let scheme: Arc<dyn Scheme> = match target {
            SchemeTarget::PassTicket { applid } => {
                Arc::new(PassTicketScheme::new(*applid, tickets.clone()))
            }
            SchemeTarget::ZoweJwt => Arc::new(zowe_jwt.clone()),
            _ => return None,
        };
        Some(scheme)
    };
    let endpoints = SchemeEndpoints::new(
        schemes,
        AuthenticateLayer::new(authenticator),
        ScopeLayer::new(),
        SchemeLayer::new(),
    )
    .with_clock(clock());
    let mut request = Request::new(Full::new(Bytes::copy_from_slice(body)));
    *request.uri_mut() = path.parse().expect("a valid path");
    *request.method_mut() = if is_post { Method::POST } else { Method::PUT };
    *request.headers_mut() = headers;
    if peer != Peer::Unknown {
        request.extensions_mut().insert(CERTIFICATE.clone());
    }
    let named = (peer == Peer::NamedGateway).then(|| Fingerprint::from(*CERTIFICATE.sha256()));
    let trust = trust_layer(TrustedForwarders::new(named), NoCertificate).with_clock(clock());
    let Ok(response) = block_on(trust.layer(endpoints).oneshot(request));
    let (head, body) = response.into_parts();
    let Ok(body) = ready(body.collect());
    Response::from_parts(head, body.to_bytes())
}

fn check(response: &Response<Bytes>) {
    let headers = response.headers();
    assert_eq!(headers["cache-control"], "no-store");
    if response.body().is_empty() {
        assert!(!headers.contains_key(CONTENT_TYPE));
    } else {
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        object(response.body());
    }
    let is_401 = response.status() == 401;
    assert_eq!(headers.contains_key("www-authenticate"), is_401);
    assert!(is_401 || !headers.contains_key("x-zowe-auth-failure"));
}

/// Returns the service in the header `X-Service-Id`, if there is exactly one such header. This is a second
/// implementation of a rule of the library.
fn service(headers: &HeaderMap) -> Option<String> {
    let named: Vec<_> = headers.get_all("x-service-id").iter().collect();
    let [name] = named.as_slice() else { return None };
    Some(name.to_str().ok()?.trim().to_ascii_lowercase())
}

fn object(body: &[u8]) -> Value {
    let value: Value = serde_json::from_slice(body).expect("expected JSON");
    assert!(value.is_object(), "{value}");
    value
}
