//! Tests of the endpoints of ZAAS over TLS. "The gateway" is a fake of API ML's gateway, which sends the same requests
//! as a real one.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use reqwest::Method;
use test_support::{
    apiml_gateway::{ClientRequest, GatewayScheme, NO_TICKET, NO_TOKEN, Reaction, ScriptedGateway},
    pki::{APIMTST, Authority, SERVER, SIGNING_KEY, USER},
    raw::listener,
    tickets::{is_valid, key_profile},
};
use tower::ServiceExt;
use tower_layer::Layer;
use tower_passticket::{
    api::{ApimlEndpoints, AuthApi, LoginError, LoginFuture, LoginProvider, Password},
    connection::ConnectionInfo,
    gateway::Gateway,
    identity::CommonNameMapper,
    layer::{
        AuthenticateLayer, Authenticator, CookieNames, ForwarderName, PassTicketScheme, Scheme,
        SchemeLayer, ScopeLayer, TrustedForwarders, ZoweJwtScheme,
    },
    passticket::{KeyProfiles, LocalGenerator, Replay, UserId},
    revocation::RevocationIndex,
    tls::{ClientCertificates, Server, ServerTls},
    token::{Rs256Verifier, ServiceId, SigningKey, TokenIssuer, Validity},
    zaas::{SchemeEndpoints, SchemeTarget, trust_layer},
};

struct Login;

impl LoginProvider for Login {
    fn login(&self, user: UserId, password: Password) -> LoginFuture {
        let is_right = password.expose() == b"validPassword";
        let result = if is_right { Ok(user) } else { Err(LoginError::WrongCredentials) };
        Box::pin(std::future::ready(result))
    }
}

/// A server with the endpoints of ZAAS. It accepts forwarded certificates of clients only from the gateway with the
/// certificate [`SERVER`].
struct Zaas {
    address: SocketAddr,
    issuer: TokenIssuer,
    /// The addresses of the connections that have sent a request.
    peers: Arc<Mutex<HashSet<SocketAddr>>>,
}

impl Zaas {
    async fn start() -> Self {
        let key = SigningKey::from_pem(SIGNING_KEY.as_bytes()).unwrap();
        let verifier = Rs256Verifier::new(key.verifying_key());
        let issuer = TokenIssuer::new(key);
        let revocations = Arc::<RevocationIndex>::default();
        let profile = key_profile("ZOWEAPPL").with_replay(Replay::Allowed);
        let profiles = KeyProfiles::new([profile]).unwrap();
        let tickets = LocalGenerator::one_shot(profiles);
        let zowe_jwt =
            ZoweJwtScheme::new(issuer.clone(), "security-domain", CookieNames::default());
        let generator = tickets.clone();
        let schemes = move |target: &SchemeTarget, _: Option<&ServiceId>| {
            let scheme: Arc<dyn Scheme> = match target {
                SchemeTarget::PassTicket { applid } => {
                    Arc::new(PassTicketScheme::new(*applid, generator.clone()))
                }
                SchemeTarget::ZoweJwt => Arc::new(zowe_jwt.clone()),
                _ => return None,
            };
            Some(scheme)
        };
        let authenticator = Authenticator::new(verifier.clone())
            .with_client_certificates(CommonNameMapper)
            .with_personal_access_tokens(revocations.clone());
        let endpoints = SchemeEndpoints::new(
            schemes,
            AuthenticateLayer::new(authenticator),
            ScopeLayer::new(),
            SchemeLayer::new(),
        );
        let api = AuthApi::new(issuer.clone(), verifier, Login, revocations)
            .with_client_certificates(CommonNameMapper)
            .with_passtickets(tickets)
            .with_personal_access_tokens(Validity::MAX)
            .with_apiml_endpoints(ApimlEndpoints::new([]))
            .for_zaas();
        let authorities = Authority::trusted().pem().as_bytes();
        let names = TrustedForwarders::fingerprints(SERVER.certificate.as_bytes()).unwrap();
        let gateways = TrustedForwarders::named(names.into_iter().map(ForwarderName::from));
        let trust = trust_layer(gateways, ClientCertificates::new(authorities).unwrap());
        let gateway = Gateway::new(trust.layer(api), trust.layer(endpoints)).for_zaas();
        let tls = ServerTls::builder(SERVER.certificate.as_bytes(), SERVER.key.as_bytes())
            .with_client_authorities(authorities)
            .build()
            .unwrap();
        let (listener, address) = listener().await;
        let peers = Arc::<Mutex<HashSet<_>>>::default();
        let seen = peers.clone();
        let service = gateway.map_request(move |request: http::Request<_>| {
            let connection = request.extensions().get::<ConnectionInfo>().unwrap();
            seen.lock().unwrap().insert(connection.peer);
            request
        });
        tokio::spawn(Server::https(listener, tls).run(service, std::future::pending()));
        Self { address, issuer, peers }
    }

    fn connections(&self) -> usize {
        self.peers.lock().unwrap().len()
    }

    fn jwt(&self, user: &str) -> String {
        let user = UserId::new(user).unwrap();
        self.issuer.login_token(&user, "domain").unwrap().expose().to_owned()
    }
}

fn ticket_user(reaction: &Reaction) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let Reaction::Replaced { name, value } = reaction else { panic!("{reaction:?}") };
    assert_eq!(name, "authorization");
    let plain = BASE64_STANDARD.decode(value.strip_prefix("Basic ").unwrap()).unwrap();
    let plain = String::from_utf8(plain).unwrap();
    let (user, ticket) = plain.split_once(':').unwrap();
    assert!(is_valid(&key_profile("ZOWEAPPL"), user, ticket), "{plain}");
    user.to_owned()
}

const TICKET: GatewayScheme<'_> = GatewayScheme::Ticket("ZOWEAPPL");

fn unchanged(failure: &str) -> Reaction {
    Reaction::Unchanged { failure: failure.to_owned() }
}

#[tokio::test]
async fn a_gateway_gets_credentials_for_its_clients() {
    let zaas = Zaas::start().await;
    let gateway = ScriptedGateway::new(zaas.address, SERVER);
    let client = ClientRequest::new;
    let jwt = zaas.jwt("JANE");
    let cookie = format!("a=b; apimlAuthenticationToken={jwt}; c=d");
    for (client, want) in [
        (client().bearer(&jwt), "JANE"),
        (client().header("cookie", &cookie), "JANE"),
        (client().certificate(USER), "USER"),
        (client().certificate(USER).bearer(&jwt), "JANE"),
        // The gateway drops the header `Client-Cert` of its client.
        (client().certificate(USER).header("client-cert", "forged"), "USER"),
    ] {
        let reaction = gateway.route(TICKET, "files", &client).await;
        assert_eq!(ticket_user(&reaction), want, "{client:?}");
    }
    let missing = "ZWEAG160E No authentication provided in the request";
    for (client, failure) in [
        (client(), missing),
        (client().header("authorization", "Basic VVNFUjp4"), missing),
        // The client has the certificate of the gateway itself.
        (client().certificate(SERVER), missing),
        (client().bearer("x"), "ZWEAG102E Token is not valid"),
    ] {
        let reaction = gateway.route(TICKET, "files", &client).await;
        assert_eq!(reaction, unchanged(failure), "{client:?}");
    }
    let jane = client().bearer(&jwt);
    let bad = gateway.route(GatewayScheme::Ticket("XBADAPPL"), "files", &jane).await;
    assert_eq!(bad, Reaction::NotForwarded { status: 400 });
    let token = gateway.route(GatewayScheme::ZoweJwt, "files", &jane).await;
    let value = format!("apimlAuthenticationToken={jwt}");
    assert_eq!(token, Reaction::Replaced { name: "cookie".to_owned(), value });
    let none = gateway.route(GatewayScheme::Zosmf, "files", &jane).await;
    assert_eq!(none, Reaction::NotForwarded { status: 503 });
    // The gateway kept its connection, also after requests with a body in chunks.
    assert_eq!(zaas.connections(), 1);
}

#[tokio::test]
async fn for_an_expired_token_the_gateway_uses_its_own_failure_text() {
    let zaas = Zaas::start().await;
    let gateway = ScriptedGateway::new(zaas.address, SERVER);
    let claims = serde_json::json!({"iss": "APIML", "sub": "USER", "iat": 1, "exp": 2});
    let header = serde_json::json!({"alg": "RS256"});
    let expired = test_support::jws::sign(SIGNING_KEY, &header, &claims);
    let client = ClientRequest::new().bearer(&expired);
    assert_eq!(gateway.route(TICKET, "files", &client).await, unchanged(NO_TICKET));
    let token = gateway.route(GatewayScheme::ZoweJwt, "files", &client).await;
    assert_eq!(token, unchanged(NO_TOKEN));
}

#[tokio::test]
async fn a_gateway_that_is_not_named_passes_on_tokens_only() {
    let zaas = Zaas::start().await;
    let other = ScriptedGateway::new(zaas.address, APIMTST);
    let client = ClientRequest::new().certificate(USER);
    for client in [client, ClientRequest::new()] {
        let refused = other.route(TICKET, "files", &client).await;
        assert_eq!(refused, unchanged("ZWEAG160E No authentication provided in the request"));
    }
    let bearer = ClientRequest::new().bearer(&zaas.jwt("JANE"));
    assert_eq!(ticket_user(&other.route(TICKET, "files", &bearer).await), "JANE");
}

#[tokio::test]
async fn a_gateway_relays_the_auth_api() {
    let zaas = Zaas::start().await;
    let gateway = ScriptedGateway::new(zaas.address, SERVER);
    let json = || ClientRequest::new().header("content-type", "application/json");
    let credentials = r#"{"username":"USER","password":"validPassword"}"#;
    let auth = |endpoint: &str| format!("/gateway/api/v1/auth/{endpoint}");
    let login = auth("login");
    let answer = gateway.relay(Method::POST, &login, &json(), credentials).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let session = || ClientRequest::new().header("cookie", &cookie);

    let query = gateway.relay(Method::GET, &auth("query?a=b"), &session(), "").await;
    assert_eq!(query.status, 200);
    assert!(query.body.contains(r#""userId":"USER""#), "{}", query.body);
    let token = cookie.split_once('=').unwrap().1;
    assert_eq!(gateway.query(token).await, 200);

    let body = r#"{"applicationName":"ZOWEAPPL"}"#;
    let refused = gateway.relay(Method::POST, &auth("ticket"), &session(), body).await;
    assert_eq!((refused.status, refused.body.as_str()), (403, ""));
    let ticket = session().certificate(APIMTST).header("content-type", "application/json");
    let ticket = gateway.relay(Method::POST, &auth("ticket"), &ticket, body).await;
    assert_eq!(ticket.status, 200, "{}", ticket.body);

    let wrong = r#"{"username":"USER","password":"wrong"}"#;
    let wrong = gateway.relay(Method::POST, &login, &json(), wrong).await;
    assert_eq!((wrong.status, wrong.message_number().as_str()), (401, "ZWEAG120E"));
    assert!(wrong.body.contains("'/zaas/api/v1/auth/login'"), "{}", wrong.body);

    let by_certificate = ClientRequest::new().certificate(USER);
    assert_eq!(gateway.relay(Method::POST, &login, &by_certificate, "").await.status, 204);
    let forged = ClientRequest::new().header("client-cert", "MIIC");
    assert_eq!(gateway.relay(Method::POST, &login, &forged, "").await.status, 400);

    // The first page comes from the address of the gateway that the browser has requested. The second page comes from
    // another site.
    for (origin, status) in [("https://gw:7554", 204), ("https://evil.example.com", 403)] {
        let page = json().header("host", "gw:7554").header("origin", origin);
        let answer = gateway.relay(Method::POST, &login, &page, credentials).await;
        assert_eq!(answer.status, status, "{origin}");
    }

    let out = gateway.relay(Method::POST, &auth("logout"), &session(), "").await;
    assert_eq!(out.status, 204);
    assert_eq!(gateway.query(token).await, 401);
    let reaction = gateway.route(TICKET, "files", &session()).await;
    assert_eq!(reaction, unchanged("ZWEAG160E No authentication provided in the request"));
    // One connection has the certificate of the gateway. The other has no certificate.
    assert_eq!(zaas.connections(), 2);
}

#[tokio::test]
async fn a_personal_access_token_is_issued_used_and_revoked() {
    let zaas = Zaas::start().await;
    let gateway = ScriptedGateway::new(zaas.address, SERVER);
    let auth = |endpoint: &str| format!("/gateway/api/v1/auth/access-token/{endpoint}");
    let json = || ClientRequest::new().header("content-type", "application/json");
    let basic = json().header("authorization", "Basic VVNFUjp2YWxpZFBhc3N3b3Jk");
    let scopes = r#"{"validity":1,"scopes":["Files"]}"#;
    let pat = gateway.relay(Method::POST, &auth("generate"), &basic, scopes).await;
    assert_eq!(pat.status, 200, "{}", pat.body);
    let client = ClientRequest::new().header("private-token", &pat.body);
    assert_eq!(ticket_user(&gateway.route(TICKET, "FILES", &client).await), "USER");
    let missing = unchanged("ZWEAG160E No authentication provided in the request");
    assert_eq!(gateway.route(TICKET, "jobs", &client).await, missing);
    let body = serde_json::json!({ "token": pat.body }).to_string();
    let revoked = gateway.relay(Method::DELETE, &auth("revoke"), &json(), &body).await;
    assert_eq!(revoked.status, 204);
    assert_eq!(gateway.route(TICKET, "files", &client).await, missing);
}
