//! Tests of requests to services with tokens of an identity provider. The gateway replaces such a token by a PassTicket
//! (a short-lived password of z/OS). The provider is a TLS server in the test. It sends the list of its signing keys.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::{
    PATIENCE, Running, client, jws,
    pki::{self, Authority, SERVER},
    raw::{self, head},
};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tower_passticket::{
    clock::{Clock, SystemClock},
    token::{KeyId, SigningKey},
};

use crate::support::{Demo, serve, user_service, with_any_port, without_exchange};

pub(crate) const ISSUER: &str = "https://idp.example.com/realms/z";

/// An identity provider. A test sets its response.
#[derive(Clone, Default)]
pub(crate) struct Provider(Arc<Mutex<String>>);

impl Provider {
    async fn start(&self) -> u16 {
        let response = self.0.clone();
        let acceptor = SERVER.acceptor();
        let address = raw::service(move |stream: TcpStream| {
            let (response, acceptor) = (response.clone(), acceptor.clone());
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let mut stream = BufReader::new(stream);
                head(&mut stream).await;
                let response = response.lock().unwrap().clone();
                let _ = stream.get_mut().write_all(response.as_bytes()).await;
                let _ = stream.get_mut().shutdown().await;
            }
        })
        .await;
        address.port()
    }

    /// Makes the provider send a list of these keys (PEM).
    pub(crate) fn send_keys(&self, keys: &[&str]) {
        let keys: Vec<_> = keys.iter().map(|pem| jwk(pem)).collect();
        let body = json!({ "keys": keys }).to_string();
        self.send("200 OK", "", &body);
    }

    /// Makes the provider send this response. Each header ends with CRLF.
    pub(crate) fn send(&self, status: &str, headers: &str, body: &str) {
        *self.0.lock().unwrap() = format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
    }
}

fn jwk(pem: &str) -> Value {
    let id = if pem == pki::OTHER_SIGNING_KEY { "a" } else { "b" };
    let key = SigningKey::from_pem(pem.as_bytes()).unwrap().with_key_id(KeyId::new(id).unwrap());
    key.verifying_key().to_jwk()
}

fn now() -> u64 {
    SystemClock.now().as_secs()
}

/// Makes a token and signs it with the key `pem`. `claims` replaces claims of a valid token.
pub(crate) fn token(pem: &str, algorithm: Algorithm, claims: Value) -> String {
    let mut all = json!({"iss": ISSUER, "sub": "x", "email": "jane@example.com", "email_verified": true, "aud": "gateway",
                         "exp": now() + 600, "iat": now()});
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    let mut header = Header::new(algorithm);
    header.kid = Some(jwk(pem)["kid"].as_str().unwrap().to_owned());
    let key = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
    jsonwebtoken::encode(&header, &all, &key).unwrap()
}

pub(crate) struct Gateway {
    pub(crate) program: Running,
    url: String,
    client: reqwest::Client,
    pub(crate) own_token: String,
    pub(crate) directory: TempDir,
}

impl Gateway {
    async fn start(provider: &Provider) -> Self {
        Self::start_with(provider, |_, yaml| yaml).await
    }

    /// Starts the gateway after `edit` has changed the zowe.yaml and the files in its directory.
    pub(crate) async fn start_with(
        provider: &Provider,
        edit: impl FnOnce(&Path, String) -> String,
    ) -> Self {
        let port = provider.start().await;
        let directory = TempDir::new().unwrap();
        let demo = Demo::start_in(directory.path());
        let own_token = demo.login().await;
        drop(demo);
        let path = |name: &str| directory.path().join(name);
        fs::write(path("certs/idp-ca.pem"), Authority::trusted().pem()).unwrap();
        let identities = "identities:\n  distributed:\n    - {user: JANE, name: jane@example.com, \
                          registry: idp}\n";
        fs::write(path("identities.yml"), identities).unwrap();
        let definition = format!(
            "services:\n  - serviceId: svc\n    instanceBaseUrls: [\"{}\"]\n    routes:\n      - \
             {{gatewayUrl: api/v1, serviceRelativeUrl: /}}\n    authentication: {{scheme: \
             httpBasicPassTicket, applid: ZOWEAPPL}}\n",
            user_service().await
        );
        fs::write(path("api-defs/demo.yml"), definition).unwrap();
        let yaml = with_any_port(&fs::read_to_string(path("zowe.yaml")).unwrap());
        let oidc = format!(
            "    onFailure: reject\n    oidc:\n    - issuer: {ISSUER}\n      jwksUri: \
             https://localhost:{port}/keys\n      audience: [other, gateway]\n      algorithms: [RS256, \
             PS256]\n      userIdField: [missing.claim, email]\n      registry: idp\n      \
             certificateAuthorities: certs/idp-ca.pem\n"
        );
        let yaml = edit(directory.path(), yaml + &oidc);
        fs::write(path("zowe.yaml"), yaml).unwrap();
        let (program, port) = serve(&path("zowe.yaml"));
        let authorities = fs::read(path("certs/ca.pem")).unwrap();
        let client = client(&authorities).timeout(PATIENCE).build().unwrap();
        let url = format!("https://localhost:{port}/svc/api/v1/x");
        Self { program, url, client, own_token, directory }
    }

    /// Sends a token to the endpoint `oidc-token/validate`. Returns the status.
    async fn validate(&self, token: &str) -> u16 {
        let url = self.url.replace("/svc/api/v1/x", "/gateway/api/v1/auth/oidc-token/validate");
        let request = self.client.post(url).json(&json!({"token": token}));
        request.send().await.unwrap().status().as_u16()
    }

    /// Sends a request to the service. Returns the status, and the user if the gateway has forwarded the request.
    pub(crate) async fn get(&self, token: &str) -> (u16, String) {
        let response = self.client.get(&self.url).bearer_auth(token).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, if status == 200 { text } else { String::new() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_provider_become_passtickets_of_the_mapped_user() {
    let (key, other) = (pki::OTHER_SIGNING_KEY, pki::SIGNING_KEY);
    let provider = Provider::default();
    provider.send_keys(&[key]);
    let gateway = Gateway::start(&provider).await;
    let jane = || (200, "JANE".to_owned());
    let refused = || (401, String::new());
    use Algorithm::{PS256, RS256, RS512};
    for (case, token, want) in [
        ("valid", token(key, RS256, json!({})), jane()),
        ("second audience", token(key, RS256, json!({"aud": ["other"]})), jane()),
        ("algorithm that the key does not have", token(key, PS256, json!({})), refused()),
        ("wrong issuer", token(key, RS256, json!({"iss": format!("{ISSUER}/")})), refused()),
        ("wrong audience", token(key, RS256, json!({"aud": "gate"})), refused()),
        ("wrong algorithm", token(key, RS512, json!({})), refused()),
        ("expired", token(key, RS256, json!({"exp": now() - 1})), refused()),
        ("key of another issuer", token(other, RS256, json!({})), refused()),
        (
            "provider signs a token with the issuer of the gateway",
            token(key, RS256, json!({"iss": "APIML", "sub": "USER"})),
            refused(),
        ),
        (
            "provider signs a token with the issuer of Personal Access Tokens",
            token(key, RS256, json!({"iss": "APIML_PAT", "sub": "USER", "scopes": ["svc"]})),
            refused(),
        ),
        ("not mapped", token(key, RS256, json!({"email": "joe@example.com"})), refused()),
        ("our own", gateway.own_token.clone(), (200, "USER".to_owned())),
    ] {
        for _ in 0..2 {
            assert_eq!(gateway.get(&token).await, want, "{case}");
        }
        // The endpoint `oidc-token/validate` does not map a token to a user, and accepts only tokens of the provider.
        let status = match case {
            "not mapped" => 204,
            "our own" => 401,
            _ if want.0 == 200 => 204,
            _ => 401,
        };
        assert_eq!(gateway.validate(&token).await, status, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_made_without_a_jwt_library_become_passtickets_or_are_refused() {
    let (key, other) = (pki::OTHER_SIGNING_KEY, pki::SIGNING_KEY);
    let provider = Provider::default();
    provider.send_keys(&[key]);
    let gateway = Gateway::start(&provider).await;
    let claims = |members: Value| {
        let mut all = json!({"iss": ISSUER, "sub": "x", "email": "jane@example.com", "email_verified": true,
                             "aud": "gateway", "exp": now() + 600, "iat": now()});
        for (name, value) in members.as_object().unwrap() {
            all[name] = value.clone();
        }
        all
    };
    let header = || json!({"typ": "JWT", "alg": "RS256", "kid": "a"});
    let signed = |members| jws::sign(key, &header(), &claims(members));
    let refused = || (401, String::new());
    for (case, token, want) in [
        ("valid", signed(json!({})), (200, "JANE".to_owned())),
        ("wrong issuer", signed(json!({"iss": "https://idp.example.com"})), refused()),
        ("wrong audience", signed(json!({"aud": "x"})), refused()),
        (
            "wrong algorithm",
            jws::sign(key, &json!({"alg": "RS512", "kid": "a"}), &claims(json!({}))),
            refused(),
        ),
        ("expired", signed(json!({"exp": now() - 1})), refused()),
        ("issued in the future", signed(json!({"iat": now() + 3600})), refused()),
        ("key of another issuer", jws::sign(other, &header(), &claims(json!({}))), refused()),
    ] {
        assert_eq!(gateway.get(&token).await, want, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_without_usable_keys_does_not_stop_the_gateway() {
    let key = pki::OTHER_SIGNING_KEY;
    let provider = Provider::default();
    let listed = json!({ "keys": [jwk(key)] }).to_string();
    // The gateway does not follow a redirect, and does not use its body, which is a correct list of keys.
    provider.send("302 Found", "location: https://localhost:1/\r\n", &listed);
    let mut gateway = Gateway::start(&provider).await;
    let line = gateway.program.logged("the keys of an issuer could not be fetched");
    assert!(line.contains("status 302") && line.contains(ISSUER), "{line}");
    let jane = token(key, Algorithm::RS256, json!({}));
    let response = gateway.client.get(&gateway.url).bearer_auth(&jane).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(gateway.get(&gateway.own_token).await, (200, "USER".to_owned()));
    // The gateway fetches the keys again after five seconds.
    provider.send_keys(&[key]);
    let deadline = Instant::now() + PATIENCE;
    while gateway.get(&jane).await.0 != 200 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Adds the external address of the gateway to the configuration, so that OAuth clients can find the metadata.
fn with_domain(yaml: String) -> String {
    yaml.replacen(
        "zowe:\n",
        "zowe:\n  externalDomains: [zowe.example.com]\n  externalPort: 7554\n",
        1,
    )
}

fn challenges(response: &reqwest::Response) -> Vec<String> {
    let values = response.headers().get_all("www-authenticate").iter();
    values.map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_leads_to_the_identity_provider() {
    let provider = Provider::default();
    let gateway = Gateway::start_with(&provider, |_, yaml| with_domain(yaml)).await;
    // The client uses HTTP/1.1. In HTTP/2, a forged `Host` differs from `:authority`, so the gateway would refuse the
    // request.
    let authorities = fs::read(gateway.directory.path().join("certs/ca.pem")).unwrap();
    let client = client(&authorities).http1_only().timeout(PATIENCE).build().unwrap();
    let own = "https://zowe.example.com:7554";
    let well_known = "/.well-known/oauth-protected-resource";
    let metadata = |path: &str| format!("resource_metadata=\"{own}{well_known}{path}\"");
    // A forged host does not change the address in the answer.
    let request = client.get(&gateway.url).header("host", "evil.example.com");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 401);
    let want = format!("Bearer realm=\"zowe\", {}", metadata("/svc/api/v1/x"));
    let basic = "Basic realm=\"zowe\", charset=\"UTF-8\"".to_owned();
    assert_eq!(challenges(&response), [want, basic]);
    let query = gateway.url.replace("/svc/api/v1/x", "/gateway/api/v1/auth/query");
    let response = client.get(query).send().await.unwrap();
    assert_eq!(challenges(&response), [format!("Bearer realm=\"zowe\", {}", metadata(""))]);
    for (path, resource) in [("", own.to_owned()), ("/svc/api/v1", format!("{own}/svc/api/v1"))] {
        let url = gateway.url.replace("/svc/api/v1/x", &format!("{well_known}{path}"));
        let request = client.get(&url).header("host", "evil.example.com");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["cache-control"], "public, max-age=600");
        assert_eq!(response.headers()["content-type"], "application/json");
        let document: Value = response.json().await.unwrap();
        let want = json!({"resource": resource, "authorization_servers": [ISSUER],
                          "bearer_methods_supported": ["header"]});
        assert_eq!(document, want);
    }
    let url = gateway.url.replace("/svc/api/v1/x", &format!("{well_known}/other/api/v1"));
    assert_eq!(client.get(url).send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_oauth_metadata_with_zowe_v3_or_without_a_domain() {
    let with_v3 = |yaml| with_domain(yaml) + "    compatibility: zowe-v3\n";
    let switched_on = move |yaml| with_v3(yaml) + "    resourceMetadata: true\n";
    let switched_off = |yaml| with_domain(yaml) + "    resourceMetadata: false\n";
    let edits: [(Box<dyn FnOnce(String) -> String + Send>, bool); 4] = [
        (Box::new(|yaml| yaml), false),
        (Box::new(with_v3), false),
        (Box::new(switched_off), false),
        (Box::new(switched_on), true),
    ];
    for (edit, want) in edits {
        let gateway = Gateway::start_with(&Provider::default(), |_, yaml| edit(yaml)).await;
        let response = gateway.client.get(&gateway.url).send().await.unwrap();
        let has_metadata =
            challenges(&response).iter().any(|value| value.contains("resource_metadata"));
        let url = gateway.url.replace("/svc/api/v1/x", "/.well-known/oauth-protected-resource");
        let status = gateway.client.get(url).send().await.unwrap().status();
        assert_eq!((has_metadata, status == 200), (want, want));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_provider_is_exchanged_for_a_passticket_of_the_mapped_user() {
    let key = pki::OTHER_SIGNING_KEY;
    let provider = Provider::default();
    provider.send_keys(&[key]);
    let exchange = "    tokenExchange: {enabled: true, bearerApplids: [ZOWEAPPL]}\n";
    let gateway =
        Gateway::start_with(&provider, |_, yaml| without_exchange(&yaml) + exchange).await;
    let send = async |token: &str, kind: &str| {
        let urn = "urn:ietf:params:oauth";
        let body = format!(
            "grant_type={urn}:grant-type:token-exchange&requested_token_type=\
             urn:passticket:params:oauth:token-type:passticket&audience=ZOWEAPPL&subject_token={token}\
             &subject_token_type={urn}:token-type:{kind}"
        );
        let url = gateway.url.replace("/svc/api/v1/x", "/gateway/api/v1/auth/token");
        let request = gateway.client.post(url).body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let document: Value = request.send().await.unwrap().json().await.unwrap();
        let text = |name: &str| document[name].as_str().map(str::to_owned);
        text("user_id").or_else(|| text("error")).unwrap()
    };
    let of_provider = |claims| token(key, Algorithm::RS256, claims);
    for (case, token, kind, want) in [
        ("access token", of_provider(json!({})), "access_token", "JANE"),
        ("ID token", of_provider(json!({})), "id_token", "JANE"),
        ("earlier actor", of_provider(json!({"act": {"sub": "svc"}})), "jwt", "JANE"),
        ("malformed act", of_provider(json!({"act": "svc"})), "jwt", "invalid_request"),
        (
            "only for an actor",
            of_provider(json!({"may_act": {"sub": "svc"}})),
            "jwt",
            "invalid_request",
        ),
        ("not mapped", of_provider(json!({"email": "joe@example.com"})), "jwt", "invalid_request"),
        ("our own", gateway.own_token.clone(), "jwt", "USER"),
        ("our own as ID token", gateway.own_token.clone(), "id_token", "invalid_request"),
        (
            "provider signs APIML",
            of_provider(json!({"iss": "APIML", "sub": "USER"})),
            "jwt",
            "invalid_request",
        ),
    ] {
        assert_eq!(send(&token, kind).await, want, "{case}");
    }
}
