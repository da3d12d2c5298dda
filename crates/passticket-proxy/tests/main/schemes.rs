//! Tests of the schemes `zoweJwt`, `zosmf`, `safIdt` and `x509`. The service, z/OSMF (IBM's management server on z/OS)
//! and ZSS (Zowe's server on z/OS) are fakes.
//!
//! A PassTicket is a short-lived password of z/OS. A PAT is a Personal Access Token.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use crate::support::Demo;
use reqwest::RequestBuilder;
use serde_json::Value;
use test_support::{
    fake::{Answer, Behaviour, Fake, Request},
    pki::{self, Authority, Clients},
    raw::Step,
    tickets,
    zosmf::{FakeZosmf, Tokens, UserState},
    zss::FakeZss,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

const AUTHENTICATE: &str = "POST /zosmf/services/authenticate";

/// The services. Each has the path `/ID/api/v1`.
const DEFINITIONS: &str = "\
services:
  - serviceId: jwt
    instanceBaseUrls: [SERVICE]
    routes: [{gatewayUrl: api/v1}]
    authentication: {scheme: zoweJwt}
  - serviceId: zosmf
    instanceBaseUrls: [SERVICE]
    routes: [{gatewayUrl: api/v1}]
    authentication: {scheme: zosmf}
  - serviceId: saf
    instanceBaseUrls: [SERVICE]
    routes: [{gatewayUrl: api/v1}]
    authentication: {scheme: safIdt, applid: ZOWEAPPL}
  - serviceId: cert
    instanceBaseUrls: [SERVICE]
    routes: [{gatewayUrl: api/v1}]
    authentication:
      scheme: x509
      headers: X-Certificate-Public, X-Certificate-DistinguishedName, X-Certificate-CommonName
";

struct Site {
    demo: Demo,
    service: Fake,
    zosmf: FakeZosmf,
    zss: FakeZss,
}

impl Site {
    /// Starts the gateway with users from a file. `ours` contains lines of `components.passticket-proxy`.
    async fn start(ours: &'static str) -> Self {
        Self::start_with(None, ours).await
    }

    /// Starts the gateway. If `clients` is present, the service behind it asks for client certificates.
    async fn start_with(clients: Option<Clients>, ours: &'static str) -> Self {
        Self::start_edited(clients, ours, |yaml| yaml).await
    }

    async fn start_edited(
        clients: Option<Clients>,
        ours: &'static str,
        edit: fn(String) -> String,
    ) -> Self {
        let acceptor = || pki::SERVER.acceptor();
        let asking = clients.map(|clients| pki::SERVER.acceptor_of_clients(clients));
        let asking = asking.unwrap_or_else(acceptor);
        let service = Fake::https(asking, |_| Answer::text(200, "ok")).await;
        let zosmf = FakeZosmf::https(acceptor()).await;
        let zss = FakeZss::https(acceptor()).await;
        let ports = [&service, &*zosmf, &*zss].map(|fake| fake.address.port());
        let prepare = move |directory: &Path, yaml: String| {
            let [service, zosmf, zss] = ports;
            let definitions =
                DEFINITIONS.replace("SERVICE", &format!("'https://localhost:{service}'"));
            fs::write(directory.join("api-defs/demo.yml"), definitions).unwrap();
            fs::write(directory.join("certs/other.pem"), Authority::trusted().pem()).unwrap();
            for (name, identity) in [("one", pki::USER), ("two", pki::APIMTST)] {
                let file = |end| directory.join(format!("certs/{name}.{end}"));
                fs::write(file("pem"), identity.certificate).unwrap();
                fs::write(file("key"), identity.key).unwrap();
                fs::set_permissions(file("key"), fs::Permissions::from_mode(0o600)).unwrap();
            }
            let yaml = yaml
                .replace("certs/ca.pem", "[certs/ca.pem, certs/other.pem]")
                .replace(
                    "      security:\n",
                    "      security:\n        auth: {jwt: {customAuthHeader: X-Token}}\n",
                )
                .replace(
                    "    users: users.yml\n",
                    &format!(
                        "    users: users.yml\n    timeouts: {{providerSeconds: 2}}\n    \
                         zss: {{url: 'https://localhost:{zss}'}}\n{ours}"
                    ),
                );
            let zosmf = format!("zOSMF: {{host: localhost, port: {zosmf}, applId: ZOWEAPPL}}\n");
            edit(yaml + &zosmf)
        };
        let demo = Demo::beside_servers(prepare).await;
        let key = fs::read_to_string(demo.directory.join("ptktdata/ZOWEAPPL.key")).unwrap();
        zosmf.accept_tickets(Some(tickets::key_profile_from("ZOWEAPPL", key.trim())));
        zss.accept_tickets(Some(tickets::key_profile_from("ZOWEAPPL", key.trim())));
        zosmf.set_user("APIMTST", "itsPassword", UserState::Active);
        Self { demo, service, zosmf, zss }
    }

    fn get(&self, user: Option<&str>, service: &str) -> RequestBuilder {
        let client = match user {
            Some(user) => self.demo.client_of(user),
            None => self.demo.client(),
        };
        client.get(self.demo.at(&format!("/{service}/api/v1/x")))
    }

    async fn send(&self, request: RequestBuilder) -> Request {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().get("x-zowe-auth-failure"), None);
        self.service.requests().pop().unwrap()
    }

    /// Sends a request whose scheme fails. Asserts that client and service get the same failure text, and returns it.
    async fn failure(&self, request: RequestBuilder) -> String {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let text = response.headers()["x-zowe-auth-failure"].to_str().unwrap().to_owned();
        let request = self.service.requests().pop().unwrap();
        assert_eq!(request.header("x-zowe-auth-failure"), Some(&*text));
        for credential in ["authorization", "cookie", "x-saf-token", "x-token"] {
            assert_eq!(request.header(credential), None);
        }
        text
    }

    async fn log_out(&self, token: &str) {
        let request = self.demo.client().post(self.demo.auth("logout")).bearer_auth(token);
        assert_eq!(request.send().await.unwrap().status(), 204);
    }
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + test_support::PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition does not become true");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn zowe_jwt_sends_the_token_of_the_client_or_issues_one() {
    let site = Site::start("").await;
    let token = site.demo.login().await;
    let cookie = format!("a=1; apimlAuthenticationToken={token}; b=2");
    for request in [
        site.get(None, "jwt").header("cookie", cookie),
        site.get(None, "jwt").header("cookie", "a=1; b=2").bearer_auth(&token),
        site.get(Some("APIMTST"), "jwt").header("cookie", "a=1; b=2").bearer_auth(&token),
    ] {
        let seen = site.send(request.header("x-token", "forged")).await;
        let want = format!("a=1; b=2; apimlAuthenticationToken={token}");
        assert_eq!(seen.header("cookie"), Some(&*want));
        assert_eq!(seen.header("x-token"), Some(&*token));
        assert_eq!(seen.header("authorization"), None);
    }

    let issued = async |request| {
        let seen = site.send(request).await;
        let token = seen.cookie("apimlAuthenticationToken").unwrap().to_owned();
        assert_eq!(seen.header("x-token"), Some(&*token));
        assert_eq!(seen.header("private-token"), None);
        token
    };
    let pat = site.demo.pat(&["jwt"]).await;
    let first = issued(site.get(Some("USER"), "jwt")).await;
    // The service has received a login token of the user.
    let query = site.demo.client().get(site.demo.auth("query")).bearer_auth(&first);
    let body: Value = query.send().await.unwrap().json().await.unwrap();
    assert_eq!(body["userId"], "USER");
    assert!(first != token && first != pat);
    assert_eq!(issued(site.get(Some("USER"), "jwt")).await, first);
    assert_eq!(issued(site.get(None, "jwt").header("private-token", &pat)).await, first);
    assert_ne!(issued(site.get(Some("APIMTST"), "jwt")).await, first);
    site.log_out(&token).await;
    assert_ne!(issued(site.get(Some("USER"), "jwt")).await, first);
    // The gateway does not send a revoked token.
    let text = site.failure(site.get(None, "jwt").bearer_auth(&token)).await;
    assert_eq!(text, "ZWEAG102E Token is not valid");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issued_token_is_valid_only_for_its_service() {
    let site = Site::start("    onFailure: reject\n").await;
    let pat = site.demo.pat(&["jwt"]).await;
    let login = site.demo.login().await;
    let issued = async || {
        let seen = site.send(site.get(None, "jwt").header("private-token", &pat)).await;
        seen.cookie("apimlAuthenticationToken").unwrap().to_owned()
    };
    let token = issued().await;
    let again = site.send(site.get(None, "jwt").bearer_auth(&token)).await;
    assert_eq!(again.cookie("apimlAuthenticationToken"), Some(&*token));
    // The other services refuse this token. The answers are the same as if the client had sent the PAT itself.
    for service in ["zosmf", "saf"] {
        let with_pat = site.get(None, service).header("private-token", &pat);
        for request in [site.get(None, service).bearer_auth(&token), with_pat] {
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 403, "{service}");
            let text = &response.headers()["x-zowe-auth-failure"];
            assert_eq!(text, "ZWEAG102E Token is not valid", "{service}");
        }
    }
    assert!(site.zosmf.take_requests().is_empty() && site.zss.take_requests().is_empty());

    for (token, want) in [(&token, 401), (&login, 200)] {
        let services = site.demo.client().get(site.demo.at("/gateway/api/v1/services"));
        assert_eq!(services.bearer_auth(token).send().await.unwrap().status(), want);
    }
    let ticket = r#"{"applicationName":"ZOWEAPPL"}"#;
    // A service that has received the token can also present a client certificate. So these requests present a
    // client certificate, too.
    let client = site.demo.client_of("APIMTST");
    for (path, body, want) in [("ticket", ticket, 200), ("refresh", "", 204)] {
        for (token, want) in [(&token, 401), (&login, want)] {
            let request = client.post(site.demo.auth(path)).bearer_auth(token);
            let request = request.header("content-type", "application/json").body(body);
            assert_eq!(request.send().await.unwrap().status(), want, "{path}");
        }
    }
    let generate = site.demo.client().post(site.demo.auth("access-token/generate"));
    let generate = generate.bearer_auth(&token).body(r#"{"validity":90,"scopes":["zosmf"]}"#);
    assert_eq!(generate.send().await.unwrap().status(), 400);

    let query = || site.demo.client().get(site.demo.auth("query")).bearer_auth(&token).send();
    let body: Value = query().await.unwrap().json().await.unwrap();
    assert_eq!(body["userId"], "USER");
    assert_eq!(issued().await, token);
    site.log_out(&token).await;
    assert_eq!(query().await.unwrap().status(), 401);
    // The gateway does not send a token again after its user has logged out.
    assert_ne!(issued().await, token);
}

#[tokio::test(flavor = "multi_thread")]
async fn zosmf_opens_one_session_for_each_user_and_ends_it_at_logout() {
    let site = Site::start("").await;
    for (tokens, name, count) in [
        (Tokens::Both, "jwtToken", 2),
        (Tokens::Ltpa, "LtpaToken2", 1),
        (Tokens::Jwt, "jwtToken", 1),
    ] {
        site.zosmf.issue(tokens);
        let token = site.demo.login().await;
        let first = site.send(site.get(Some("USER"), "zosmf").header("cookie", "a=1")).await;
        assert!(first.header("cookie").unwrap().starts_with(&format!("a=1; {name}=")));
        assert_eq!(first.header("authorization"), None);
        let forged = "LtpaToken2=forged; jwtToken=forged";
        let again = site.get(None, "zosmf").bearer_auth(&token).header("cookie", forged);
        let again = site.send(again).await;
        assert_eq!(again.header("cookie"), first.header("cookie").map(|line| &line[5..]));
        assert_eq!(site.zosmf.take_requests(), [AUTHENTICATE]);
        assert_eq!(site.zosmf.valid_tokens(), count);
        site.log_out(&token).await;
        until(|| site.zosmf.valid_tokens() == 0).await;
        let ended = site.zosmf.take_requests();
        assert_eq!(ended, ["DELETE /zosmf/services/authenticate"].repeat(count));
    }
    // If z/OSMF fails to end the first token of a session, the gateway still ends the second one.
    site.zosmf.issue(Tokens::Both);
    let token = site.demo.login().await;
    site.send(site.get(Some("USER"), "zosmf")).await;
    assert_eq!(site.zosmf.take_requests(), [AUTHENTICATE]);
    let error = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
    let fails = Behaviour::Scripted(vec![Step::send(error)]);
    site.zosmf.behave_in_turn([fails], Behaviour::Right);
    site.log_out(&token).await;
    until(|| site.zosmf.valid_tokens() == 1).await;
    assert_eq!(site.zosmf.take_requests().len(), 2);
    site.zosmf.issue(Tokens::Jwt);
    // If a user logs out while the gateway opens a session, the gateway ends this session.
    let token = site.demo.login().await;
    let slow = Behaviour::Slow(Duration::from_secs(1));
    site.zosmf.behave_in_turn([slow], Behaviour::Right);
    let request = tokio::spawn(site.get(Some("USER"), "zosmf").send());
    let valid = site.zosmf.valid_tokens();
    until(|| site.zosmf.take_requests() == [AUTHENTICATE]).await;
    site.log_out(&token).await;
    request.await.unwrap().unwrap();
    until(|| site.zosmf.take_requests() == ["DELETE /zosmf/services/authenticate"]).await;
    until(|| site.zosmf.valid_tokens() == valid).await;
    // Concurrent requests of one user share one session.
    site.zosmf.behave(Behaviour::Slow(Duration::from_millis(300)));
    let request = site.get(Some("USER"), "zosmf");
    let requests = (0..20).map(|_| request.try_clone().unwrap().send());
    for response in requests.collect::<JoinSet<_>>().join_all().await {
        assert_eq!(response.unwrap().headers().get("x-zowe-auth-failure"), None);
    }
    site.send(site.get(Some("APIMTST"), "zosmf")).await;
    assert_eq!(site.zosmf.take_requests(), [AUTHENTICATE; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_z_osmf_token_that_a_service_has_received_is_not_accepted_as_a_login_token() {
    // Without the setting `users`, z/OSMF checks passwords, and its tokens are login tokens.
    let without_users = |yaml: String| yaml.replace("    users: users.yml\n", "");
    let site = Site::start_edited(None, "    onFailure: reject\n", without_users).await;
    site.zosmf.issue(Tokens::Jwt);
    let pat = site.demo.pat(&["zosmf"]).await;
    let login = site.demo.login().await;
    // First the service receives the token of the login. Then it receives the token of a session that the scheme opens.
    for case in ["login", "scheme"] {
        let seen = site.send(site.get(None, "zosmf").header("private-token", &pat)).await;
        let token = seen.cookie("jwtToken").unwrap().to_owned();
        for service in ["jwt", "zosmf", "saf"] {
            let response = site.get(None, service).bearer_auth(&token).send().await.unwrap();
            assert_eq!(response.status(), 401, "{case} {service}");
        }
        let query = site.demo.client().get(site.demo.auth("query")).bearer_auth(&token);
        assert_eq!(query.send().await.unwrap().status(), 401, "{case}");
        if case == "login" {
            site.log_out(&login).await;
        }
    }
    let own = site.zosmf.jwt("USER");
    let seen = site.send(site.get(None, "jwt").bearer_auth(&own)).await;
    assert_eq!(seen.cookie("apimlAuthenticationToken"), Some(&*own));
}

#[tokio::test(flavor = "multi_thread")]
async fn saf_idt_asks_for_one_token_for_each_user() {
    let site = Site::start("").await;
    let token = site.demo.login().await;
    let first = site.send(site.get(Some("USER"), "saf")).await;
    let saf_token = first.header("x-saf-token").unwrap();
    assert_eq!(saf_token.split('.').count(), 3);
    let forged = site.get(None, "saf").bearer_auth(&token).header("x-saf-token", "forged");
    assert_eq!(site.send(forged).await.header("x-saf-token"), Some(saf_token));
    assert_eq!(site.zss.take_requests(), ["POST /saf/authenticate"]);
    site.send(site.get(Some("APIMTST"), "saf")).await;
    assert_eq!(site.zss.take_requests(), ["POST /saf/authenticate"]);
    site.log_out(&token).await;
    site.send(site.get(Some("USER"), "saf")).await;
    assert_eq!(site.zss.take_requests(), ["POST /saf/authenticate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn x509_sends_the_certificate_of_the_connection_only() {
    let site = Site::start("").await;
    let token = site.demo.login().await;
    let forged = |request: RequestBuilder| {
        request
            .header("x-certificate-commonname", "forged")
            .header("x-certificate-other", "forged")
            .header("client-cert", "forged")
            .bearer_auth(&token)
    };
    let seen = site.send(forged(site.get(Some("APIMTST"), "cert"))).await;
    let pem = fs::read_to_string(site.demo.directory.join("certs/APIMTST.pem")).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    assert_eq!(seen.header("x-certificate-public"), Some(&*base64));
    assert_eq!(seen.header("x-certificate-distinguishedname"), Some("CN=APIMTST"));
    assert_eq!(seen.header("x-certificate-commonname"), Some("APIMTST"));
    for header in ["x-certificate-other", "client-cert", "authorization"] {
        assert_eq!(seen.header(header), None);
    }
    let text = site.failure(forged(site.get(None, "cert"))).await;
    assert_eq!(text, "ZWEAG167E No client certificate provided in the request");
    assert_eq!(site.service.requests().pop().unwrap().header("x-certificate-commonname"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_get_the_client_certificates_of_the_configuration() {
    let asking = Some(Clients::MayHaveCertificate);
    let site = Site::start_with(asking, "").await;
    assert_eq!(site.send(site.get(Some("USER"), "jwt")).await.certificate, None);
    let keys = "    clientCertificate: {certificate: certs/one.pem, key: certs/one.key}
    services: {saf: {clientCertificate: {certificate: certs/two.pem, key: certs/two.key}}}
";
    let site = Site::start_with(asking, keys).await;
    for _ in 0..2 {
        for (service, want) in [("jwt", pki::USER), ("saf", pki::APIMTST), ("cert", pki::USER)] {
            let seen = site.send(site.get(Some("USER"), service)).await;
            let want = want.certificate_der().to_vec();
            assert!(seen.certificate == Some(want), "{service}");
            // Without a user, the gateway does not use its own client certificate.
            site.failure(site.get(None, service)).await;
            let seen = site.service.requests().pop().unwrap();
            assert!(seen.certificate.is_none(), "{service}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_refuse_or_do_not_answer_are_failures() {
    let site = Site::start("").await;
    // z/OSMF and ZSS refuse each PassTicket. After the first refusal, the gateway sends no more PassTickets of this
    // user.
    site.zosmf.accept_tickets(None);
    site.zss.accept_tickets(None);
    for _ in 0..2 {
        let text = site.failure(site.get(Some("USER"), "zosmf")).await;
        assert!(text.starts_with("ZWEAZ601W z/OSMF is not available or"), "{text}");
    }
    // z/OSMF and ZSS have the same APPLID, so the gateway does not send a PassTicket of this user to ZSS either.
    let text = site.failure(site.get(Some("USER"), "saf")).await;
    assert!(text.starts_with("ZWEAG141E"), "{text}");
    assert_eq!(site.zosmf.take_requests(), [AUTHENTICATE]);
    assert!(site.zss.take_requests().is_empty());
    let site = Site::start("").await;
    site.zss.accept_tickets(None);
    for _ in 0..2 {
        let text = site.failure(site.get(Some("USER"), "saf")).await;
        assert!(text.starts_with("ZWEAG150E SAF IDT generation failed."), "{text}");
    }
    assert_eq!(site.zss.take_requests(), ["POST /saf/authenticate"]);

    let site = Site::start("    onFailure: reject\n").await;
    let html = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>";
    let redirect = "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n";
    for (name, behaviour) in [
        ("no login", Behaviour::Scripted(vec![Step::send(html)])),
        ("redirect", Behaviour::Scripted(vec![Step::send(redirect)])),
        ("closed", Behaviour::Scripted(vec![])),
        ("no answer", Behaviour::Scripted(vec![Step::Stall])),
        ("late", Behaviour::Slow(Duration::from_secs(60))),
    ] {
        site.zosmf.behave(behaviour.clone());
        site.zss.behave(behaviour);
        for service in ["zosmf", "saf"] {
            let response = site.get(Some("USER"), service).send().await.unwrap();
            assert_eq!(response.status(), 503, "{service} {name}");
            let text = response.headers()["x-zowe-auth-failure"].to_str().unwrap();
            assert!(text.starts_with("ZWEAG104E"), "{service} {name}: {text}");
        }
        assert_eq!(site.zosmf.take_requests().len(), 1, "{name}");
        assert_eq!(site.zss.take_requests().len(), 1, "{name}");
        // The gateway caches the error for a second.
        sleep(Duration::from_millis(1100)).await;
    }
    site.zosmf.behave(Behaviour::Right);
    site.zss.behave(Behaviour::Right);
    site.send(site.get(Some("USER"), "zosmf")).await;
    site.send(site.get(Some("USER"), "saf")).await;
    assert_eq!(site.get(None, "cert").send().await.unwrap().status(), 401);

    for (scheme, outcome) in [("zosmf", "error"), ("zosmf", "success"), ("safIdt", "success")] {
        let is_wanted = |line: &str| {
            line.contains("\"event\":\"scheme\"")
                && line.contains(&format!("\"scheme\":\"{scheme}\""))
                && line.contains(&format!("\"outcome\":\"{outcome}\""))
                && line.contains("\"applid\":\"ZOWEAPPL\"")
        };
        let file = site.demo.directory.join("audit.jsonl");
        until(|| fs::read_to_string(&file).unwrap().lines().any(is_wanted)).await;
    }
}
