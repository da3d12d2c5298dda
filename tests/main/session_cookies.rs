//! Tests of session cookies of services. A session permits all requests to the service. So if the scopes of a Personal
//! Access Token (PAT) permit only some requests, its client must not get a session cookie (docs/decisions.md#d49).

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use test_support::{
    pki,
    raw::{Scripted, Step},
    tickets::{key_profile, user},
};
use tower::{ServiceBuilder, ServiceExt};
use tower_passticket::{
    layer::{
        AuthenticateLayer, Authenticator, PassTicketScheme, Route, RouteLayer, Routes,
        SanitizeLayer, SchemeLayer, ScopeLayer, Upstream,
    },
    passticket::{KeyProfiles, LocalGenerator, Replay},
    proxy::{Forward, ForwardTimeouts},
    revocation::RevocationIndex,
    token::{Rs256Verifier, Scopes, ServiceId, SigningKey, TokenIssuer, Validity},
};

use crate::{PATIENCE, forwarding::unverified};

#[tokio::test]
async fn a_pat_with_suffixes_gets_no_session_of_the_service() {
    let key = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
    let revocations = Arc::new(RevocationIndex::default());
    let verifier = Rs256Verifier::new(key.verifying_key());
    let issuer = TokenIssuer::new(key);
    let pat = |scopes: &str| {
        let scopes = Scopes::parse([scopes]).unwrap();
        issuer.personal_access_token(&user("USER"), &scopes, Validity::MAX).unwrap()
    };
    for (token, want) in [
        (issuer.login_token(&user("USER"), "domain").unwrap(), true),
        (pat("svc"), true),
        (pat("svc,svc:read,other:read"), true),
        (pat("svc:read"), false),
        (pat("svc:/"), false),
        (pat("svc:/x,svc:read,other"), false),
    ] {
        let answer = "HTTP/1.1 200 OK\r\nset-cookie: JSESSIONID=x\r\ncontent-length: 0\r\n\r\n";
        let service = Scripted::http([Step::ReadHead, Step::send(answer)]).await;
        let profile = key_profile("ZOWEAPPL").with_replay(Replay::Allowed);
        let applid = *profile.applid();
        let tickets = LocalGenerator::new(KeyProfiles::new([profile]).unwrap());
        let authenticator =
            Authenticator::new(verifier.clone()).with_personal_access_tokens(revocations.clone());
        let upstream = Upstream::parse(&format!("http://{}", service.address)).unwrap();
        let scheme = PassTicketScheme::new(applid, tickets);
        let route = Route::new(ServiceId::new("svc").unwrap(), "", upstream, scheme).unwrap();
        let stack = ServiceBuilder::new()
            .layer(SanitizeLayer::new())
            .layer(RouteLayer::new(Routes::new([route]).unwrap()))
            .layer(AuthenticateLayer::new(authenticator))
            .layer(ScopeLayer::new())
            .layer(SchemeLayer::new())
            .service(Forward::new(
                unverified(),
                ForwardTimeouts::default().with_response(PATIENCE),
            ));
        let request = Request::get("/svc/x")
            .header("host", "gw")
            .header("authorization", format!("Bearer {}", token.expose()))
            .body(Full::<Bytes>::default())
            .unwrap();
        let response = stack.oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(!response.headers().contains_key("x-zowe-auth-failure"));
        assert_eq!(response.headers().contains_key("set-cookie"), want, "{token:?}");
    }
}
