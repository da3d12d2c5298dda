//! Tests of requests that web pages of other origins make a browser send.

use http::Method;

use super::{super::endpoint::ENDPOINTS, *};
use crate::{audit::ReasonCode, layer::OriginPolicy};

const EVIL: (&str, &str) = ("origin", "https://evil.example");
const OURS: (&str, &str) = ("origin", "https://gw.example");

async fn send(
    api: &AuthApi,
    (method, path): (&Method, &str),
    headers: &[(&str, &str)],
    body: &str,
) -> Response<Bytes> {
    let uri = format!("/gateway/api/v1/auth{path}");
    let request = Request::builder().method(method).uri(uri).header("host", "gw.example");
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.extension(certificate("ADMIN"));
    let request = request.body(Full::<Bytes>::from(body.to_owned())).unwrap();
    let (head, body) = api.clone().oneshot(request).await.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn each_endpoint_that_changes_something_refuses_pages_of_other_origins() {
    let world = World::new();
    let token = format!("apimlAuthenticationToken={}", world.jwt());
    for compatibility in [Compatibility::Documented, Compatibility::ZoweV3] {
        let api = world
            .api_with_registry()
            .with_compatibility(compatibility)
            .with_token_exchange(TokenExchange::new());
        for (method, path, endpoint) in &ENDPOINTS {
            let is_safe = *method == Method::GET;
            if !is_safe && *path != "/delegate/passticket" {
                for headers in [&[EVIL][..], &[("sec-fetch-site", "cross-site")]] {
                    let headers = [headers, &[("cookie", &token)]].concat();
                    let response = send(&api, (method, path), &headers, SCOPES).await;
                    assert_eq!(outcome(&response), (403, "ZWEAT403E".to_owned()), "{path}");
                    let error = response.extensions().get::<ApiError>().map(ApiError::cause);
                    assert_eq!(error, Some(&ApiError::CrossOrigin), "{endpoint:?}");
                    let record = world.collected.take().pop().unwrap();
                    assert_eq!(record.reason, Some(ReasonCode::CrossOrigin), "{endpoint:?}");
                }
            }
            let response = send(&api, (method, path), &[OURS, ("cookie", &token)], SCOPES).await;
            let error = response.extensions().get::<ApiError>();
            assert_ne!(error, Some(&ApiError::CrossOrigin), "{endpoint:?}");
            world.collected.take();
        }
    }
}

/// For a browser, all services have the origin of the gateway. So a script of any service can send requests of the same
/// origin.
#[tokio::test]
async fn a_script_gets_no_new_token_with_a_credential_of_the_browser() {
    let world = World::new();
    let (api, token) = (world.api_with_registry(), world.jwt());
    let cookie = format!("apimlAuthenticationToken={token}");
    let basic = basic("user:validPassword");
    let site = ("sec-fetch-site", "same-origin");
    let script = [OURS, site, ("sec-fetch-dest", "empty")];
    let form = [OURS, site, ("sec-fetch-dest", "document")];
    let create = (&Method::POST, "/access-tokens");
    let generate = (&Method::POST, "/access-token/generate");
    let rotate = (&Method::POST, "/access-tokens/0/rotate");
    let own = (&Method::POST, "/access-tokens/self/rotate");
    for (request, headers, is_refused) in [
        (create, [&script[..], &[("cookie", &*cookie)]].concat(), true),
        (create, [&script[..], &[]].concat(), true),
        (create, [&form[..], &[("cookie", &*cookie)]].concat(), false),
        (create, vec![OURS, site, ("cookie", &*cookie)], false),
        (create, vec![("cookie", &*cookie)], false),
        (rotate, [&script[..], &[("cookie", &*cookie)]].concat(), true),
        (own, [&script[..], &[("cookie", &*cookie)]].concat(), true),
        (generate, [&script[..], &[]].concat(), true),
        (generate, [&script[..], &[("authorization", &*basic)]].concat(), false),
    ] {
        let response = send(&api, request, &headers, SCOPES).await;
        let error = response.extensions().get::<ApiError>().map(ApiError::cause);
        assert_eq!(error == Some(&ApiError::ScriptRequest), is_refused, "{request:?} {headers:?}");
        if is_refused {
            assert_eq!(outcome(&response), (403, "ZWEAT403E".to_owned()), "{request:?}");
        }
    }
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_log_the_user_in() {
    let api = api();
    let login = (&Method::POST, "/login");
    let json = ("content-type", "text/plain");
    assert_eq!(send(&api, login, &[EVIL, json], GOOD_BODY).await.status(), 403);
    assert_eq!(send(&api, login, &[OURS, json], GOOD_BODY).await.status(), 204);
    assert_eq!(send(&api, login, &[], GOOD_BODY).await.status(), 204);
}

#[tokio::test]
async fn the_policy_of_the_embedder_decides() {
    let own = "https://evil.example".parse().unwrap();
    let api = api().with_origin_policy(OriginPolicy::default().with_own_origins([own]));
    let login = (&Method::POST, "/login");
    assert_eq!(send(&api, login, &[EVIL], GOOD_BODY).await.status(), 204);
    assert_eq!(send(&api, login, &[OURS], GOOD_BODY).await.status(), 403);
}
