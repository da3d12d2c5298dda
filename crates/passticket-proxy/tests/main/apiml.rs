//! Tests of the endpoints of API ML (Zowe's gateway) that are not part of the auth API, and of the compatibility
//! profile `zowe-v3` on routes.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::support::{Demo, with_any_port};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use test_support::PATIENCE;
use tower_passticket::clock::{Clock, SystemClock};

const SERVICES: &str = "/gateway/api/v1/services";
const HEALTH: &str = "/application/health";

const ZOWE_V3: &str = "    compatibility: zowe-v3\n";

fn with_user(request: RequestBuilder) -> RequestBuilder {
    request.basic_auth("USER", Some("validPassword"))
}

async fn body(response: Response) -> Value {
    response.json().await.unwrap()
}

#[tokio::test]
async fn the_services_of_the_definitions_are_listed() {
    let demo = Demo::start();
    let list = body(with_user(demo.client().get(demo.at(SERVICES))).send().await.unwrap()).await;
    let ids: Vec<_> = list.as_array().unwrap().iter().map(|it| &it["serviceId"]).collect();
    assert_eq!(ids, ["dcpassticket", "dcbypass"]);
    let apiml = &list[0]["apiml"];
    assert_eq!(apiml["service"]["title"], "Receives a PassTicket");
    let authentication =
        json!([{"scheme": "httpBasicPassTicket", "applid": "ZOWEAPPL", "supportsSso": true}]);
    assert_eq!(apiml["authentication"], authentication);
    assert_eq!(list[1]["apiml"]["authentication"][0]["supportsSso"], false);
    let instances = list[0]["instances"].as_object().unwrap();
    let (id, instance) = instances.iter().next().unwrap();
    assert!(id.starts_with("STATIC-localhost:dcpassticket:"), "{id}");
    assert_eq!(
        (&instance["hostname"], &instance["protocol"]),
        (&json!("localhost"), &json!("https"))
    );

    let token = demo.login().await;
    let stranger = demo.client_of("APIMTST");
    let anonymous = demo.client();
    for (client, path, token, status, number) in [
        (&anonymous, SERVICES, None, 401, "ZWEAO402E"),
        (&anonymous, SERVICES, Some(&token), 200, ""),
        (&stranger, SERVICES, None, 200, ""),
        (&stranger, "/gateway/services/dcbypass", None, 200, ""),
        (&stranger, "/gateway/services/none", None, 404, "ZWEAO404E"),
        (&stranger, "/gateway/services?apiId=none", None, 404, "ZWEAO404E"),
    ] {
        let request = client.get(demo.at(path));
        let request = match token {
            Some(token) => request.header("cookie", format!("apimlAuthenticationToken={token}")),
            None => request,
        };
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let number_seen = body(response).await["messages"][0]["messageNumber"].clone();
        assert_eq!(number_seen.as_str().unwrap_or_default(), number, "{path}");
    }
}

#[tokio::test]
async fn definitions_describe_apis_and_pages() {
    let demo = Demo::start();
    let definition = "services:
  - serviceId: ibmzosmf
    title: IBM z/OSMF
    instanceBaseUrls: [https://localhost:1/zosmf]
    homePageRelativeUrl: /web
    routes:
      - {gatewayUrl: api/v1, serviceRelativeUrl: /}
    authentication: {scheme: httpBasicPassTicket, applid: ZOWEAPPL}
    apiInfo:
      - {apiId: ibm.zosmf, gatewayUrl: api/v1, version: 1.0.0, defaultApi: true}
  - serviceId: reports
    instanceBaseUrls: [https://localhost:2]
    routes:
      - {gatewayUrl: api/v1, serviceRelativeUrl: /}
    authentication: {scheme: x509}
    customMetadata:
      apiml: {authentication: {headers: X-Certificate-CommonName}}
      zone: east
";
    fs::write(demo.directory.join("api-defs/demo.yml"), definition).unwrap();
    let path = demo.directory.join("zowe.yaml");
    let yaml = with_any_port(&fs::read_to_string(&path).unwrap());
    let domains = "zowe:\n  externalDomains: [zowe.example.com]\n  externalPort: 7554\n";
    fs::write(&path, yaml.replacen("zowe:\n", domains, 1)).unwrap();
    let demo = demo.restarted();
    let list = body(demo.client_of("USER").get(demo.at(SERVICES)).send().await.unwrap()).await;
    let want = json!([{
        "apiId": "ibm.zosmf", "gatewayUrl": "api/v1", "version": "1.0.0", "codeSnippet": [],
        "baseUrl": "https://zowe.example.com:7554/ibmzosmf/api/v1", "basePath": "/ibmzosmf/api/v1",
        "defaultApi": true,
    }]);
    assert_eq!(list[0]["apiml"]["apiInfo"], want);
    let authentication = json!([
        {"scheme": "x509", "headers": "X-Certificate-CommonName", "supportsSso": true},
    ]);
    assert_eq!(list[1]["apiml"]["authentication"], authentication);
    let instance = &list[1]["instances"]["STATIC-localhost:reports:2"];
    assert_eq!(instance["customMetadata"], json!({"zone": "east"}));
    // No route leads to the page, so the list contains the page's own address at the service.
    assert_eq!(list[0]["apiml"]["service"]["homePageUrl"], "https://localhost:1/zosmf/web");
}

#[tokio::test]
async fn certificates_version_information_and_health_need_no_credential() {
    let demo = Demo::start();
    let client = demo.client();
    let pem = client.get(demo.at("/gateway/certificates")).send().await.unwrap();
    assert_eq!(pem.headers()["content-type"], "text/plain;charset=UTF-8");
    let file = fs::read_to_string(demo.directory.join("certs/localhost.pem")).unwrap();
    assert_eq!(pem.text().await.unwrap(), file.replace("\r\n", "\n"));
    for path in ["/application/version", "/gateway/version", "/gateway/api/v1/version"] {
        let version = body(client.get(demo.at(path)).send().await.unwrap()).await;
        assert_eq!(version["apiml"]["version"], env!("CARGO_PKG_VERSION"), "{path}");
    }
    let info = body(client.get(demo.at("/application/info")).send().await.unwrap()).await;
    assert_eq!(info["build"]["version"], env!("CARGO_PKG_VERSION"));
    let health = client.get(demo.at(HEALTH)).send().await.unwrap();
    assert_eq!(health.text().await.unwrap(), r#"{"status":"UP"}"#);
    for (method, path, status, allow) in [
        (Method::HEAD, HEALTH, 200, None),
        (Method::POST, HEALTH, 405, Some("GET, HEAD, OPTIONS")),
        (Method::OPTIONS, SERVICES, 204, Some("GET, HEAD, OPTIONS")),
        (Method::OPTIONS, "/gateway/api/v1/auth/login", 204, Some("POST, OPTIONS")),
        (Method::OPTIONS, "/gateway/api/v1/auth/unknown", 404, None),
    ] {
        let response = client.request(method.clone(), demo.at(path)).send().await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        let seen = response.headers().get("allow").map(|allow| allow.to_str().unwrap());
        assert_eq!(seen, allow, "{method} {path}");
        assert_eq!(response.headers()["cache-control"], "no-store", "{method} {path}");
    }
}

#[tokio::test]
async fn an_access_check_uses_the_permissions_of_the_user_in_saf_yml() {
    let demo = Demo::start();
    for (level, status) in [("UPDATE", 204), ("ALTER", 401)] {
        let check = json!({"resourceClass": "ZOWE", "resourceName": "APIML.SERVICES", "accessLevel": level});
        let request = demo.client().post(demo.at("/gateway/auth/check")).json(&check);
        assert_eq!(with_user(request).send().await.unwrap().status(), status, "{level}");
    }
}

#[tokio::test]
async fn the_health_endpoint_gives_503_while_revocations_cannot_be_stored() {
    let demo = Demo::reconfigured(|yaml| yaml);
    let client = demo.client();
    let pat = demo.pat(&["dcpassticket"]).await;
    let health = async || client.get(demo.at(HEALTH)).send().await.unwrap();
    assert_eq!(health().await.status(), 200);
    let (store, away) = ("revocations.redb", "away.redb");
    let (store, away) = (demo.directory.join(store), demo.directory.join(away));
    fs::rename(&store, &away).unwrap();
    let revoke = client.delete(demo.auth("access-token/revoke")).json(&json!({"token": pat}));
    assert_eq!(revoke.send().await.unwrap().status(), 503);
    let down = health().await;
    assert_eq!(down.status(), 503);
    assert_eq!(down.text().await.unwrap(), r#"{"status":"DOWN"}"#);
    fs::rename(&away, &store).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while health().await.status() != 200 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn with_the_profile_zowe_v3_the_health_endpoint_is_detailed_and_protected() {
    let protected = Demo::reconfigured(|yaml| yaml + ZOWE_V3);
    let open = Demo::reconfigured(|yaml| {
        let apiml = "    apiml:\n      health: {protected: false}\n";
        yaml.replacen("    apiml:\n", apiml, 1) + ZOWE_V3
    });
    let anonymous = protected.client().get(protected.at(HEALTH)).send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
    assert_eq!(body(anonymous).await["messages"][0]["messageNumber"], "ZWEAO402E");
    let token = protected.login().await;
    for request in [
        with_user(protected.client().get(protected.at(HEALTH))),
        protected.client().get(protected.at(HEALTH)).bearer_auth(token),
        protected.client_of("APIMTST").get(protected.at(HEALTH)),
        open.client().get(open.at(HEALTH)),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let health = body(response).await;
        assert_eq!(health["status"], "UP");
        assert_eq!(health["components"]["gateway"]["details"]["zaas"], "UP");
        assert_eq!(health["components"]["revocations"]["status"], "UP");
    }
}

/// The service does not run, so the gateway itself answers. Its responses also contain the header
/// `X-Zowe-Auth-Failure`.
#[tokio::test]
async fn with_the_profile_zowe_v3_routes_have_the_texts_and_statuses_of_api_ml() {
    const DOCUMENTED: [&str; 3] = [
        "ZWEAG160E No authentication provided in the request",
        "ZWEAG102E Token is not valid",
        "ZWEAG103E The token has expired",
    ];
    const API_ML: [&str; 3] = [
        "ZWEAG160E No authentication provided in the request",
        "ZWEAG160E No authentication provided in the request",
        "ZWEAG141E The generation of the PassTicket failed. Reason: Invalid or missing authentication",
    ];
    for (keys, status, number, texts) in
        [("", 503, "ZWEAO503E", DOCUMENTED), (ZOWE_V3, 500, "ZWEAO500E", API_ML)]
    {
        let demo = Demo::reconfigured(|yaml| yaml + keys);
        let client = demo.client();
        let logged_out = demo.login().await;
        let logout = client.post(demo.auth("logout")).bearer_auth(&logged_out);
        assert_eq!(logout.send().await.unwrap().status(), 204);
        let now = SystemClock.now().as_secs();
        let claims =
            json!({"sub": "USER", "iss": "APIML", "iat": now - 20, "exp": now - 10, "dom": "x"});
        let key = fs::read(demo.directory.join("keys/jwt.pem")).unwrap();
        let key = EncodingKey::from_rsa_pem(&key).unwrap();
        let expired = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key).unwrap();
        let url = demo.at("/dcpassticket/api/v1/x");
        for (token, text) in [None, Some(&logged_out), Some(&expired)].into_iter().zip(texts) {
            let request = client.get(&url);
            let request = match token {
                Some(token) => request.bearer_auth(token),
                None => request,
            };
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["x-zowe-auth-failure"], text);
            assert_eq!(response.status(), status, "{text}");
            assert_eq!(body(response).await["messages"][0]["messageNumber"], number);
        }
    }
}
