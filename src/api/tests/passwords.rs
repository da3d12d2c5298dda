//! Tests that neither the auth API nor a route sends a token or a control character to the login provider.

use std::convert::Infallible;

use tower::ServiceBuilder;

use super::*;
use crate::{
    layer::{
        AuthenticateLayer, Authenticator, ClientBasic, OnFailure, PassTicketScheme, Route,
        RouteLayer, Routes, SchemeLayer, ScopeLayer,
    },
    token::ServiceId,
};

struct NeverCalled;

impl LoginProvider for NeverCalled {
    fn login(&self, _: UserId, password: Password) -> LoginFuture {
        panic!("the provider received {:?}", password.expose());
    }

    fn change_password(&self, _: UserId, old: Password, new: Password) -> Option<LoginFuture> {
        panic!("the provider received {:?} and {:?}", old.expose(), new.expose());
    }
}

fn api() -> AuthApi {
    let verifier = Rs256Verifier::new(KEY.verifying_key());
    let issuer = TokenIssuer::new(KEY.clone());
    AuthApi::new(issuer, verifier, NeverCalled, RevocationIndex::default())
}

async fn log_in(api: &AuthApi, authorization: Option<String>, body: String) -> u16 {
    let mut request = Request::post(LOGIN);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    api.clone().oneshot(request).await.unwrap().status().as_u16()
}

/// Returns the status of a request on a route with `clientBasic: verify`.
async fn call_route(api: &AuthApi, authorization: String) -> u16 {
    let profile = key_profile("ZOWEAPPL");
    let generator = LocalGenerator::new(KeyProfiles::new([profile]).unwrap());
    let scheme = PassTicketScheme::new(Applid::new("ZOWEAPPL").unwrap(), generator);
    let upstream = "http://zos".parse().unwrap();
    let route = Route::new(ServiceId::new("files").unwrap(), "api/v1", upstream, scheme).unwrap();
    let route = route.with_client_basic(ClientBasic::Verify).with_on_failure(OnFailure::Reject);
    let authenticator = Authenticator::new(Rs256Verifier::new(KEY.verifying_key()))
        .with_passwords(api.basic_login());
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(Routes::new([route]).unwrap()))
        .layer(AuthenticateLayer::new(authenticator))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service(tower::service_fn(async |_| -> Result<_, Infallible> {
            Ok(Response::new(Full::<Bytes>::default()))
        }));
    let request = Request::get("/files/api/v1/x").header("authorization", authorization);
    let request = request.body(Full::<Bytes>::default()).unwrap();
    stack.oneshot(request).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_token_or_a_control_character_is_never_sent_to_the_provider_as_a_password() {
    let api = api();
    let issuer = TokenIssuer::new(KEY.clone());
    let jwt = issuer.login_token(&user("USER"), "domain").unwrap().expose().to_owned();
    for password in ["zowepat_x", &jwt, "eyJh.e30.", "a\0b", "a\nb", "a\tb", "\x7f", "\u{85}"] {
        let authorization = || basic(&format!("user:{password}"));
        // If the throttle counted these requests, it would answer 429 to the last requests.
        for _ in 0..6 {
            assert_eq!(call_route(&api, authorization()).await, 401, "{password:?}");
            let status = log_in(&api, Some(authorization()), String::new()).await;
            assert_eq!(status, 401, "{password:?}");
            let body = json!({"username": "user", "password": password});
            assert_eq!(log_in(&api, None, body.to_string()).await, 401, "{password:?}");
        }
        let body = json!({"username": "user", "password": "x", "newPassword": password});
        let status = log_in(&api, None, body.to_string()).await;
        assert!((400..500).contains(&status), "{password:?}: {status}");
    }
}
