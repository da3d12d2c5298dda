//! Tests of the endpoints of API ML (Zowe's API Mediation Layer) that are not part of the auth API.

use super::*;
use crate::{
    audit::{CredentialKind, Event, Outcome, ReasonCode},
    health::Health,
    layer::{ForeignOrigins, OriginPolicy},
    token::ServiceId,
};

const SERVICES: &str = "/gateway/api/v1/services";
const CHECK: &str = "/gateway/auth/check";
const HEALTH: &str = "/application/health";

fn endpoints() -> ApimlEndpoints {
    let mut service = ListedService::new(ServiceId::new("ibmzosmf").unwrap());
    service.apis.push(ListedApi::new("ibm.zosmf", "api/v1"));
    ApimlEndpoints::new([service]).with_certificates([b"a certificate"])
}

struct Answer {
    status: u16,
    number: String,
    headers: http::HeaderMap,
    body: Value,
    text: String,
}

/// Sends a request. `line` is the method and the path. `credential` is `basic:USER`, `token` or `certificate:NAME`, or
/// is empty.
async fn send(world: &World, api: AuthApi, line: &str, credential: &str, body: &str) -> Answer {
    let (method, url) = line.split_once(' ').unwrap();
    let request = Request::builder().method(method).uri(url).header("host", "gw:7554");
    let request = match credential.split_once(':') {
        Some(("basic", name)) => {
            request.header("authorization", basic(&format!("{name}:validPassword")))
        }
        Some(("certificate", name)) => request.extension(certificate(name)),
        _ if credential == "token" => {
            request.header("authorization", format!("Bearer {}", world.jwt()))
        }
        _ if credential.is_empty() => request,
        _ => request.header("authorization", credential),
    };
    let request = request.body(Full::<Bytes>::from(body.to_owned())).unwrap();
    let (head, body) = api.oneshot(request).await.unwrap().into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    let number = body["messages"][0]["messageNumber"].as_str().unwrap_or_default().to_owned();
    Answer { status: head.status.as_u16(), number, headers: head.headers, body, text }
}

#[tokio::test]
async fn permitted_users_and_programs_with_a_certificate_list_the_services() {
    let world = World::new();
    for (credential, status, documented, zowe_v3) in [
        ("certificate:nobody at all", 200, "", ""),
        ("basic:READER", 200, "", ""),
        ("basic:ADMIN", 200, "", ""),
        ("basic:OTHER", 403, "ZWEAT403E", "ZWEAT403E"),
        ("token", 403, "ZWEAT403E", "ZWEAT403E"),
        ("", 401, "ZWEAO402E", "ZWEAO402E"),
        ("Bearer x", 401, "ZWEAG130E", "ZWEAO402E"),
        ("Basic dXNlcjp3cm9uZw==", 401, "ZWEAG120E", "ZWEAO402E"),
        ("basic:SAFDOWN", 503, "ZWEAG104E", "ZWEAG104E"),
    ] {
        for (profile, number) in
            [(Compatibility::Documented, documented), (Compatibility::ZoweV3, zowe_v3)]
        {
            let api = world.api(profile).with_apiml_endpoints(endpoints());
            for path in [SERVICES, "/gateway/services"] {
                let line = format!("GET {path}");
                let answer = send(&world, api.clone(), &line, credential, "").await;
                assert_eq!((answer.status, &*answer.number), (status, number), "{credential}");
                let version = answer.headers.get("content-version").is_some();
                assert_eq!(version, status == 200, "{credential}");
                if status == 200 {
                    let base = &answer.body[0]["apiml"]["apiInfo"][0]["baseUrl"];
                    assert_eq!(base, "https://gw:7554/ibmzosmf/api/v1");
                }
                if status == 401 {
                    let challenge = answer.headers["www-authenticate"].to_str().unwrap();
                    assert!(!challenge.starts_with("Basic"), "{challenge}");
                    let failure = answer.headers.contains_key("x-zowe-auth-failure");
                    assert_eq!(failure, number == "ZWEAG130E", "{credential}");
                }
            }
        }
    }
    let api = world.minimal.clone().with_apiml_endpoints(endpoints());
    let answer = send(&world, api, &format!("GET {SERVICES}"), "certificate:ADMIN", "").await;
    assert_eq!(answer.status, 401);
    let message = |profile| {
        let api = world.api(profile).with_apiml_endpoints(endpoints());
        let world = &world;
        async move {
            let answer = send(world, api, &format!("GET {SERVICES}"), "token", "").await;
            answer.body["messages"][0]["messageContent"].as_str().unwrap().to_owned()
        }
    };
    assert_eq!(
        message(Compatibility::ZoweV3).await,
        "The user is not authorized to the target resource: /gateway/api/v1/services"
    );
    assert!(message(Compatibility::Documented).await.contains("READ on APIML.SERVICES"));
}

#[tokio::test]
async fn one_service_is_found_by_its_id() {
    let world = World::new();
    for (line, status) in [
        ("GET /gateway/api/v1/services/ibmzosmf", 200),
        ("GET /gateway/api/v1/services/IBMZOSMF", 200),
        ("HEAD /gateway/api/v1/services/ibmzosmf", 200),
        ("GET /gateway/api/v1/services/other", 404),
        ("GET /gateway/api/v1/services?apiId=ibm.zosmf", 200),
        ("GET /gateway/api/v1/services?apiId=other", 404),
        ("POST /gateway/api/v1/services", 405),
        ("OPTIONS /gateway/api/v1/services", 204),
        ("GET /gateway/api/v1/services/a/b", 404),
    ] {
        for (profile, number) in
            [(Compatibility::Documented, "ZWEAO404E"), (Compatibility::ZoweV3, "")]
        {
            let api = world.api(profile).with_apiml_endpoints(endpoints());
            let answer = send(&world, api, line, "basic:READER", "").await;
            assert_eq!(answer.status, status, "{line}");
            if line.ends_with("/other") && profile == Compatibility::ZoweV3 {
                assert_eq!(answer.body, json!({ "serviceId": "other", "status": "UNKNOWN" }));
                assert_eq!(answer.headers["content-type"], "application/json");
            } else if number.is_empty() && line.ends_with("=other") {
                assert_eq!(answer.text, "");
            }
            if status == 405 {
                let number = if number.is_empty() { "ZWEAO405E" } else { "ZWEAG101E" };
                assert_eq!(answer.number, number, "{line}");
            }
            if status == 404 && !line.ends_with("/b") {
                assert_eq!(answer.number, number, "{line}");
                assert_eq!(answer.headers["content-version"], "1", "{line}");
            }
            if matches!(status, 204 | 405) {
                assert_eq!(answer.headers["allow"], "GET, HEAD, OPTIONS", "{line}");
            }
        }
    }
    let own = OriginPolicy::default().with_own_origins(["https://zowe.example".parse().unwrap()]);
    let api = world.api(Compatibility::Documented).with_origin_policy(own);
    let api = api.with_apiml_endpoints(endpoints());
    let line = format!("GET {SERVICES}/ibmzosmf");
    let answer = send(&world, api, &line, "basic:READER", "").await;
    let base = &answer.body["apiml"]["apiInfo"][0]["baseUrl"];
    assert_eq!(base, "https://zowe.example/ibmzosmf/api/v1");
}

#[tokio::test]
async fn an_access_check_answers_for_the_caller() {
    let world = World::new();
    let body = |level: &str| {
        json!({ "resourceClass": "ZOWE", "resourceName": "APIML.SERVICES", "accessLevel": level })
            .to_string()
    };
    let (read, update) = (body("READ"), body("UPDATE"));
    for (credential, body, status, number) in [
        ("basic:READER", &*read, 204, ""),
        ("basic:READER", &update, 401, "ZWEAG711E"),
        ("basic:ADMIN", &update, 204, ""),
        ("certificate:ADMIN", &update, 204, ""),
        ("certificate:not a user", &read, 401, "ZWEAG161E"),
        ("token", &read, 401, "ZWEAG711E"),
        ("", &read, 401, "ZWEAG105E"),
        ("Bearer x", &read, 401, "ZWEAG130E"),
        ("basic:READER", "{}", 400, "ZWEAO400E"),
        ("basic:SAFDOWN", &read, 503, "ZWEAG104E"),
        ("basic:SAFBAD", &read, 500, "ZWEAT603E"),
    ] {
        let api = world.api(Compatibility::Documented).with_apiml_endpoints(endpoints());
        let answer = send(&world, api, &format!("POST {CHECK}"), credential, body).await;
        assert_eq!((answer.status, &*answer.number), (status, number), "{credential} {body}");
    }
    let api = world.api(Compatibility::ZoweV3).with_apiml_endpoints(endpoints());
    let answer = send(&world, api.clone(), &format!("POST {CHECK}"), "", &read).await;
    let text = answer.body["messages"][0]["messageContent"].as_str().unwrap();
    assert_eq!(text, "Authentication is required for URL '/zaas/auth/check'");
    let answer = send(&world, api, &format!("POST {CHECK}"), "token", &read).await;
    let text = answer.body["messages"][0]["messageContent"].as_str().unwrap();
    assert_eq!(text, "The principal 'USER' is missing queried authorization.");
}

#[tokio::test]
async fn the_health_depends_on_the_profile_and_on_the_access() {
    use Compatibility::{Documented, ZoweV3};
    let world = World::new();
    let parts = |is_up| {
        move || {
            let audit = if is_up { Health::Up } else { Health::down("/secret/path is full") };
            vec![("revocations", Health::Up), ("audit", audit)]
        }
    };
    for (profile, access, credential, is_up, status) in [
        (Documented, HealthAccess::Open, "", true, 200),
        (Documented, HealthAccess::Open, "", false, 503),
        (ZoweV3, HealthAccess::Protected, "", true, 401),
        (ZoweV3, HealthAccess::Protected, "Bearer x", true, 401),
        (ZoweV3, HealthAccess::Protected, "token", true, 200),
        (ZoweV3, HealthAccess::Protected, "basic:OTHER", false, 503),
        (ZoweV3, HealthAccess::Protected, "certificate:no user", true, 200),
        (ZoweV3, HealthAccess::Open, "", true, 200),
    ] {
        let endpoints = endpoints().with_health(parts(is_up), access);
        let api = world.api(profile).with_apiml_endpoints(endpoints);
        let answer = send(&world, api, &format!("GET {HEALTH}"), credential, "").await;
        let case = format!("{profile:?} {access:?} {credential} {is_up}");
        assert_eq!(answer.status, status, "{case}");
        assert!(!answer.text.contains("secret"), "{case}");
        if status == 401 {
            assert_eq!(answer.number, "ZWEAO402E", "{case}");
            assert!(!answer.headers.contains_key("x-zowe-auth-failure"), "{case}");
            continue;
        }
        let content_type = match profile {
            ZoweV3 => "application/vnd.spring-boot.actuator.v3+json",
            _ => "application/json",
        };
        assert_eq!(answer.headers["content-type"], content_type, "{case}");
        let up = if is_up { "UP" } else { "DOWN" };
        let want = match profile {
            ZoweV3 => json!({ "status": up, "components": {
                "gateway": { "status": up, "details": {
                    "discovery": up, "zaas": up, "gatewayCount": 1, "zaasCount": 1,
                }},
                "revocations": { "status": "UP" },
                "audit": { "status": up },
            }}),
            _ => json!({ "status": up }),
        };
        assert_eq!(answer.body, want, "{case}");
    }
}

#[tokio::test]
async fn certificates_version_and_information_need_no_credential() {
    let world = World::new();
    let api = world.api(Compatibility::Documented).with_apiml_endpoints(endpoints());
    for path in ["/gateway/certificates", "/gateway/api/v1/certificates"] {
        let answer = send(&world, api.clone(), &format!("GET {path}"), "", "").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers["content-type"], "text/plain;charset=UTF-8");
        let want = "-----BEGIN CERTIFICATE-----\nYSBjZXJ0aWZpY2F0ZQ==\n-----END CERTIFICATE-----\n";
        assert_eq!(answer.text, want);
    }
    let version = env!("CARGO_PKG_VERSION");
    for path in ["/application/version", "/gateway/version", "/gateway/api/v1/version"] {
        let answer = send(&world, api.clone(), &format!("GET {path}"), "", "").await;
        assert_eq!((answer.status, &answer.body["apiml"]["version"]), (200, &json!(version)));
    }
    let answer = send(&world, api.clone(), "GET /application/info", "", "").await;
    assert_eq!((answer.status, &answer.body["build"]["version"]), (200, &json!(version)));
    assert_eq!(answer.headers["content-type"], "application/vnd.spring-boot.actuator.v3+json");
    assert!(world.collected.take().is_empty());

    let off = world.api(Compatibility::Documented);
    for line in
        ["GET /application/info", "GET /gateway/api/v1/services", "POST /gateway/auth/check"]
    {
        assert_eq!(send(&world, off.clone(), line, "basic:ADMIN", "").await.status, 404, "{line}");
    }
    let empty = off.with_apiml_endpoints(ApimlEndpoints::new([]));
    assert_eq!(send(&world, empty, "GET /gateway/certificates", "", "").await.status, 404);
}

#[tokio::test]
async fn with_the_profile_zowe_v3_a_wrong_method_has_the_message_of_the_endpoint() {
    let world = World::new();
    let api = world.api(Compatibility::ZoweV3).with_apiml_endpoints(endpoints());
    for (line, number) in [
        ("POST /application/info", "ZWEAO405E"),
        ("DELETE /application/health", "ZWEAO405E"),
        ("POST /gateway/version", "ZWEAO405E"),
        ("POST /gateway/certificates", "ZWEAO405E"),
        ("PUT /gateway/services/ibmzosmf", "ZWEAO405E"),
        ("GET /gateway/auth/check", "ZWEAG101E"),
        ("GET /gateway/api/v1/auth/login", "ZWEAG101E"),
    ] {
        let answer = send(&world, api.clone(), line, "", "").await;
        assert_eq!((answer.status, &*answer.number), (405, number), "{line}");
        assert!(answer.headers.contains_key("allow"), "{line}");
    }
}

#[tokio::test]
async fn with_the_profile_zowe_v3_all_invalid_credentials_get_the_same_response() {
    let world = World::new();
    let bearer = |token: &str| format!("Bearer {token}");
    let expired = issuer().with_lifetime(Duration::ZERO);
    let expired = expired.login_token(&UserId::new("USER").unwrap(), "d").unwrap();
    let logged_out = bearer(&world.jwt());
    let logout = TestRequest {
        url: "/gateway/api/v1/auth/logout",
        authorization: Some(&logged_out),
        ..POST_LOGIN
    };
    let response = logout.send_to(world.api(Compatibility::ZoweV3)).await;
    assert_eq!(response.status(), 204);
    for credential in [
        logged_out,
        bearer(expired.expose()),
        bearer(&forged(&world.jwt())),
        bearer(&world.pat("USER", "a")),
        basic("USER:wrong"),
    ] {
        for path in [SERVICES, "/gateway/services/ibmzosmf", HEALTH] {
            let endpoints = endpoints().with_health(Vec::new, HealthAccess::Protected);
            let api = world.api(Compatibility::ZoweV3).with_apiml_endpoints(endpoints);
            let answer = send(&world, api, &format!("GET {path}"), &credential, "").await;
            assert_eq!((answer.status, &*answer.number), (401, "ZWEAO402E"), "{path}");
            assert!(!answer.headers.contains_key("x-zowe-auth-failure"), "{path}");
            assert!(answer.headers.contains_key("www-authenticate"), "{path}");
        }
    }
}

#[tokio::test]
async fn each_evaluated_credential_has_a_record() {
    let world = World::new();
    let api = world.api(Compatibility::Documented).with_apiml_endpoints(endpoints());
    for (line, credential, outcome, kind, reason) in [
        (
            "GET /gateway/api/v1/services",
            "basic:READER",
            Outcome::Success,
            CredentialKind::Password,
            None,
        ),
        (
            "GET /gateway/api/v1/services",
            "certificate:x y",
            Outcome::Success,
            CredentialKind::Certificate,
            None,
        ),
        (
            "GET /gateway/api/v1/services",
            "token",
            Outcome::Refused,
            CredentialKind::LoginToken,
            Some(ReasonCode::SafRefused),
        ),
        (
            "GET /gateway/api/v1/services",
            "",
            Outcome::Refused,
            CredentialKind::None,
            Some(ReasonCode::NoCredential),
        ),
        (
            "GET /gateway/api/v1/services/x",
            "Basic dXNlcjp3cm9uZw==",
            Outcome::Refused,
            CredentialKind::Password,
            Some(ReasonCode::WrongPassword),
        ),
    ] {
        send(&world, api.clone(), line, credential, "").await;
        let records = world.collected.take();
        let [record] = &records[..] else { panic!("{line} {credential}: {records:?}") };
        assert_eq!(
            (record.event, record.outcome),
            (Event::Authentication, outcome),
            "{credential}"
        );
        assert_eq!((record.credential, record.reason), (Some(kind), reason), "{credential}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_as_on_other_endpoints() {
    let world = World::new();
    let strict = OriginPolicy::default().with_foreign_origins(ForeignOrigins::Refused);
    for (policy, line, status) in [
        (OriginPolicy::default(), "GET /application/info", 200),
        (OriginPolicy::default(), "POST /gateway/auth/check", 403),
        (strict.clone(), "GET /application/info", 403),
        (strict, "OPTIONS /application/info", 403),
    ] {
        let api = world.api(Compatibility::Documented).with_origin_policy(policy);
        let api = api.with_apiml_endpoints(endpoints());
        let (method, url) = line.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(url).header("host", "gw");
        let request = request.header("origin", "https://evil.example").header("cookie", "a=b");
        let response = api.oneshot(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        assert_eq!(response.status(), status, "{line}");
    }
}
