//! Tests of `POST token`, which exchanges a token for a PassTicket (a one-time password of z/OS).

use std::{
    convert::Infallible,
    num::NonZeroU32,
    pin::Pin,
    sync::atomic::AtomicUsize,
    task::{Context, Poll},
};

use http_body::{Body, Frame};
use test_support::tickets::applid;

use super::*;
use crate::{
    api::exchange_request::{FORM, GRANT_TYPE, PASSTICKET},
    audit::{AuditRecord, CredentialKind, Detail, Event, Outcome, ReasonCode},
    identity::{CertificateFilter, DistributedIdentity, DistributedMap, DistributedMapper},
    passticket::PassTicket,
    token::{ExternalClaims, ServiceId, TokenError, TokenFingerprint, TokenVerifier, VerifyFuture},
};

const TOKEN: &str = "/gateway/api/v1/auth/token";
const ISSUER: &str = "https://idp.example.com";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// A verifier that also accepts some tokens of an identity provider.
struct WithProvider(Rs256Verifier);

impl TokenVerifier for WithProvider {
    fn verify_token(&self, token: &[u8]) -> VerifyFuture {
        let external = |name: &str, more: Value| {
            let identity = DistributedIdentity::new(name, "idp").unwrap();
            let claims = ExternalClaims::new(identity, ISSUER, Timestamp::from_secs(NOW + 60));
            let claims = claims.with_claims(more.as_object().unwrap().clone());
            Ok(VerifiedToken::external(token, claims))
        };
        Box::pin(ready(match token {
            b"jane" => external("jane@x", json!({})),
            b"agent" => external("agent@x", json!({})),
            b"agent-2" => external("agent@x", json!({"iat": 1})),
            b"stranger" => external("stranger@x", json!({})),
            b"late" => {
                let identity = DistributedIdentity::new("jane@x", "idp").unwrap();
                let claims = ExternalClaims::new(identity, ISSUER, Timestamp::from_secs(NOW));
                Ok(VerifiedToken::external(token, claims))
            }
            b"acted" => external(
                "jane@x",
                json!({"act": {"sub": "svc", "iss": ISSUER, "act": {"sub": "B"}}}),
            ),
            b"deep" => external("jane@x", json!({"act": {"sub": 1}})),
            b"for-agent" => {
                external("jane@x", json!({"may_act": {"sub": "agent@x", "iss": ISSUER}}))
            }
            b"for-other" => external("jane@x", json!({"may_act": {"sub": "other@x"}})),
            b"down" => Err(TokenError::Unavailable("why".into())),
            _ => self.0.verify(str::from_utf8(token).unwrap()),
        }))
    }
}

fn identities() -> impl DistributedMapper {
    let entry = |name: &str, id: &str| (DistributedIdentity::new(name, "idp").unwrap(), user(id));
    DistributedMap::new([entry("jane@x", "JANE"), entry("agent@x", "AGENT")]).unwrap()
}

fn service(id: &str) -> ServiceId {
    ServiceId::new(id).unwrap()
}

/// Returns settings with which `AGENT` may act for all users except `IBMUSER`.
fn exchange() -> TokenExchange {
    TokenExchange::new()
        .with_grants([Grant::to_user(user("AGENT"), AllowList::Any, AllowList::Any)])
        .with_protected(user("IBMUSER"))
        .with_services(applid("ZOWEAPPL"), [service("a"), service("b")])
        .with_distributed_identities(identities())
}

fn bearer() -> TokenExchange {
    exchange().with_bearer_applids([applid("ZOWEAPPL")])
}

impl World {
    fn exchanging(&self, exchange: TokenExchange) -> AuthApi {
        let verifier = Rs256Verifier::new(KEY.verifying_key()).with_clock(self.clock.clone());
        self.api(Compatibility::Documented)
            .with_login_token_verifier(WithProvider(verifier))
            .with_token_exchange(exchange)
    }

    fn jwt_of(&self, name: &str) -> String {
        let issuer = TokenIssuer::new(KEY.clone()).with_clock(self.clock.clone());
        issuer.login_token(&user(name), "security-domain").unwrap().expose().to_owned()
    }
}

fn form(subject: &str, more: &[(&str, &str)]) -> String {
    let mut body = format!(
        "grant_type={GRANT_TYPE}&requested_token_type={PASSTICKET}&audience=ZOWEAPPL\
         &subject_token={subject}&subject_token_type={JWT}"
    );
    for (name, value) in more {
        body.push_str(&format!("&{name}={value}"));
    }
    body
}

fn with_actor(subject: &str, actor: &str) -> String {
    form(subject, &[("actor_token", actor), ("actor_token_type", JWT)])
}

fn request<'a>(certificate: Option<&'a str>, body: &'a str) -> TestRequest<'a> {
    TestRequest { url: TOKEN, certificate, content_type: Some(FORM), body, ..POST_LOGIN }
}

fn refusal(response: &Response<Bytes>) -> (u16, String, String) {
    let status = response.status().as_u16();
    let headers = response.headers();
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["pragma"], "no-cache");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers.contains_key("www-authenticate"), status == 401);
    if status == 200 {
        return (200, String::new(), String::new());
    }
    let document: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(document.as_object().unwrap().len(), 2);
    let description = document["error_description"].as_str().unwrap();
    let number = description.split(' ').next().unwrap().to_owned();
    (status, document["error"].as_str().unwrap().to_owned(), number)
}

#[tokio::test]
async fn a_token_becomes_a_passticket_of_its_user() {
    let world = World::new();
    let api = world.exchanging(exchange());
    let pat = world.pat("USER", "a,b");
    for (subject, want) in [(world.jwt(), "USER"), (pat, "USER"), ("jane".to_owned(), "JANE")] {
        let body = form(&subject, &[]);
        let response = request(Some("AGENT"), &body).send_to(api.clone()).await;
        assert_eq!(refusal(&response).0, 200, "{response:?}");
        let answer: Value = serde_json::from_slice(response.body()).unwrap();
        let ticket = PassTicket::parse(answer["access_token"].as_str().unwrap()).unwrap();
        let key = key_profile("ZOWEAPPL");
        assert!(key.evaluate(&user(want), &ticket, world.clock.now()).is_ok());
        // Without replay protection, a PassTicket of the legacy algorithm is valid for ten minutes.
        let want = json!({"access_token": ticket.expose(), "issued_token_type": PASSTICKET,
                          "token_type": "N_A", "expires_in": 600, "user_id": want});
        assert_eq!(answer, want);
    }
}

#[tokio::test]
async fn with_replay_protection_expires_in_is_a_minute_shorter() {
    let world = World::with_replay(Replay::Protected);
    world.clock.advance(Duration::from_secs(2));
    let body = form(&world.jwt(), &[]);
    let response = request(Some("AGENT"), &body).send_to(world.exchanging(exchange())).await;
    let answer: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(answer["expires_in"], 540);
}

#[tokio::test]
async fn the_exchange_is_off_by_default() {
    let body = form("x", &[]);
    let response =
        request(Some("AGENT"), &body).send_to(World::new().api(Compatibility::Documented)).await;
    assert_eq!(outcome(&response), (404, "ZWEAO404E".to_owned()));
}

#[tokio::test]
async fn each_refusal_has_an_oauth_code_and_a_message() {
    let world = World::new();
    let (jwt, other_key) = (world.jwt(), forged(&world.jwt()));
    let (agent_jwt, root) = (world.jwt_of("AGENT"), world.jwt_of("IBMUSER"));
    let agent = Some("AGENT");
    let ok = (200, "", "");
    let invalid = |number| (400, "invalid_request", number);
    let good = form(&jwt, &[]);
    let audience = |name: &str| good.replace("audience=ZOWEAPPL", &format!("audience={name}"));
    let id_token = |body: String| body.replace(JWT, ID_TOKEN);
    let pat = |scopes| form(&world.pat("USER", scopes), &[]);
    let for_service = {
        let issuer = TokenIssuer::new(KEY.clone()).with_clock(world.clock.clone());
        let expires_at = Timestamp::from_secs(NOW + 60);
        let token = issuer.service_token(&user("USER"), "x", &service("a"), Some(expires_at));
        form(token.unwrap().expose(), &[])
    };
    for (name, certificate, body, want) in [
        ("good", agent, good.clone(), ok),
        ("actor token", None, with_actor(&jwt, "agent"), ok),
        ("actor token of our own", None, with_actor(&jwt, &agent_jwt), ok),
        ("actor token and certificate of one user", agent, with_actor(&jwt, "agent"), ok),
        ("ID token", agent, id_token(form("jane", &[])), ok),
        ("may_act", None, with_actor("for-agent", "agent"), ok),
        ("PAT with both services", agent, pat("a,b,c"), ok),
        // The form in the body of these requests is faulty.
        ("no body", agent, String::new(), invalid("ZWEAO400E")),
        ("JSON", agent, "{}".to_owned(), invalid("ZWEAO400E")),
        ("repeated", agent, format!("{good}&grant_type=x"), invalid("ZWEAO400E")),
        (
            "other grant",
            agent,
            good.replace(GRANT_TYPE, "password"),
            (400, "unsupported_grant_type", "ZWEAO400E"),
        ),
        ("other type", agent, good.replace(PASSTICKET, JWT), invalid("ZWEAO400E")),
        ("scope", agent, form(&jwt, &[("scope", "a")]), (400, "invalid_scope", "ZWEAO400E")),
        ("resource", agent, form(&jwt, &[("resource", "a")]), (400, "invalid_target", "ZWEAO400E")),
        ("bad audience", agent, audience("a.b"), (400, "invalid_target", "ZWEAO400E")),
        ("too long", agent, "x".repeat(70_000), (413, "invalid_request", "ZWEAO413E")),
        // In these requests, the actor is refused.
        ("no actor", None, good.clone(), (401, "invalid_client", "ZWEAG167E")),
        ("no actor, no valid token", None, form("x", &[]), (401, "invalid_client", "ZWEAG167E")),
        (
            "unmapped certificate",
            Some("no user"),
            good.clone(),
            (401, "invalid_client", "ZWEAG161E"),
        ),
        ("forged actor", None, with_actor(&jwt, &forged(&agent_jwt)), invalid("ZWEAG130E")),
        ("unmapped actor", None, with_actor(&jwt, "stranger"), invalid("ZWEAG161E")),
        ("PAT as actor", None, with_actor(&jwt, &world.pat("AGENT", "a,b")), invalid("ZWEAG130E")),
        (
            "actor token of another user",
            Some("USER"),
            with_actor("jane", "agent"),
            invalid("ZWEAG130E"),
        ),
        (
            "the subject token as actor",
            None,
            with_actor(&agent_jwt, &agent_jwt),
            invalid("ZWEAG130E"),
        ),
        (
            "another token of the subject as actor",
            None,
            with_actor("agent", "agent-2"),
            invalid("ZWEAG130E"),
        ),
        (
            "a token of ours and of the provider",
            None,
            with_actor("agent", &agent_jwt),
            invalid("ZWEAG130E"),
        ),
        ("no permission", Some("USER"), good.clone(), (400, "unauthorized_client", "ZWEAT403E")),
        (
            "SAF not available",
            Some("SAFDOWN"),
            good.clone(),
            (503, "temporarily_unavailable", "ZWEAG104E"),
        ),
        ("SAF without decision", Some("SAFBAD"), good.clone(), (500, "server_error", "ZWEAT603E")),
        // In these requests, the subject is refused.
        ("forged", agent, form(&other_key, &[]), invalid("ZWEAG130E")),
        ("not a token", agent, form("x", &[]), invalid("ZWEAG130E")),
        ("expired in a cache", agent, form("late", &[]), invalid("ZWEAT100E")),
        (
            "keys not available",
            agent,
            form("down", &[]),
            (503, "temporarily_unavailable", "ZWEAG104E"),
        ),
        ("unmapped", agent, form("stranger", &[]), invalid("ZWEAG161E")),
        ("login token as ID token", agent, id_token(good.clone()), invalid("ZWEAG130E")),
        ("protected", agent, form(&root, &[]), invalid("ZWEAT403E")),
        ("a token for one service", agent, for_service, invalid("ZWEAG130E")),
        ("malformed act", agent, form("deep", &[]), invalid("ZWEAG130E")),
        ("may_act without that actor", agent, form("for-agent", &[]), invalid("ZWEAG130E")),
        ("may_act for another", None, with_actor("for-other", "agent"), invalid("ZWEAG130E")),
        ("PAT of one of two services", agent, pat("a"), (400, "invalid_target", "ZWEAG102E")),
        ("PAT of another service", agent, pat("c"), (400, "invalid_target", "ZWEAG102E")),
        ("no key", agent, audience("NOKEY"), (400, "invalid_target", "ZWEAG141E")),
    ] {
        let response = request(certificate, &body).send_to(world.exchanging(exchange())).await;
        let (status, code, number) = refusal(&response);
        assert_eq!((status, code.as_str(), number.as_str()), want, "{name}: {response:?}");
        let text = str::from_utf8(response.body()).unwrap();
        for secret in [&jwt, &other_key, &agent_jwt] {
            assert!(!text.contains(secret.as_str()), "{name}");
        }
    }
    for content_type in [None, Some("application/json"), Some("text/plain")] {
        let request = TestRequest { content_type, ..request(agent, &good) };
        let response = request.send_to(world.exchanging(exchange())).await;
        assert_eq!(refusal(&response), (400, "invalid_request".into(), "ZWEAO400E".into()));
    }
    let get = TestRequest { method: "GET", ..request(agent, "") };
    let response = get.send_to(world.exchanging(exchange())).await;
    assert_eq!(outcome(&response), (405, "ZWEAG101E".to_owned()));
}

#[tokio::test]
async fn grants_limit_the_applications_and_users_of_an_actor() {
    let only_user = |name| AllowList::Only([user(name)].into());
    let only_applid = |name| AllowList::Only([applid(name)].into());
    let subject = |name: &str| CertificateFilter::subject(name.parse().unwrap()).unwrap();
    let agent = || user("AGENT");
    let everything = || AllowList::Any;
    let of_certificate = |name| Grant::to_certificate(subject(name), everything(), AllowList::Any);
    for (name, grants, want) in [
        ("both", vec![Grant::to_user(agent(), only_applid("ZOWEAPPL"), only_user("USER"))], ""),
        ("certificate", vec![of_certificate("CN=AGENT")], ""),
        ("other certificate", vec![of_certificate("CN=OTHER")], "invalid_target"),
        ("nothing", Vec::new(), "invalid_target"),
        (
            "to another",
            vec![Grant::to_user(user("OTHER"), everything(), AllowList::Any)],
            "invalid_target",
        ),
        (
            "other applid",
            vec![Grant::to_user(agent(), only_applid("B"), AllowList::Any)],
            "invalid_target",
        ),
        (
            "other user",
            vec![Grant::to_user(agent(), everything(), only_user("JANE"))],
            "invalid_request",
        ),
        (
            "two halves",
            vec![
                Grant::to_user(agent(), only_applid("ZOWEAPPL"), only_user("JANE")),
                Grant::to_user(agent(), only_applid("B"), only_user("USER")),
            ],
            "invalid_request",
        ),
    ] {
        let world = World::new();
        let body = form(&world.jwt(), &[]);
        let api = world.exchanging(exchange().with_grants(grants.clone()));
        let (_, code, _) = refusal(&request(Some("AGENT"), &body).send_to(api).await);
        assert_eq!(code, want, "{name}");
        // A grant to a certificate does not apply to an actor that sends only a token.
        if name == "certificate" {
            let api = world.exchanging(exchange().with_grants(grants));
            let body = with_actor(&world.jwt(), "agent");
            assert_eq!(refusal(&request(None, &body).send_to(api).await).1, "invalid_target");
        }
    }
}

#[tokio::test]
async fn without_an_actor_tickets_are_issued_only_for_the_bearer_applids() {
    let world = World::new();
    let jwt = world.jwt();
    let (own, pat) = (form(&jwt, &[]), form(&world.pat("USER", "a,b"), &[]));
    let root = form(&world.jwt_of("IBMUSER"), &[]);
    let other = own.replace("audience=ZOWEAPPL", "audience=OTHER");
    let half = form(&world.pat("USER", "a"), &[]);
    let restricted = form("for-agent", &[]);
    for (name, certificate, body, want) in [
        ("login token", None, &own, ""),
        ("PAT", None, &pat, ""),
        ("the user's own certificate", Some("USER"), &own, ""),
        ("another user's certificate", Some("READER"), &own, "unauthorized_client"),
        ("other application", None, &other, "invalid_client"),
        ("protected", None, &root, "invalid_request"),
        ("PAT of one of two services", None, &half, "invalid_target"),
        ("a token that names its actor", None, &restricted, "invalid_request"),
    ] {
        let response = request(certificate, body).send_to(world.exchanging(bearer())).await;
        assert_eq!(refusal(&response).1, want, "{name}");
    }
    let verifier = Rs256Verifier::new(KEY.verifying_key()).with_clock(world.clock.clone());
    let minimal = world.minimal.clone().with_login_token_verifier(verifier);
    let api = minimal.clone().with_token_exchange(exchange());
    let response = request(Some("AGENT"), &own).send_to(api).await;
    assert_eq!(refusal(&response).1, "invalid_client");
    // In this API, Personal Access Tokens (PATs) are also off.
    let api = minimal.with_token_exchange(bearer());
    assert_eq!(refusal(&request(None, &pat).send_to(api).await).1, "invalid_request");
}

#[tokio::test]
async fn revoked_tokens_are_refused() {
    let world = World::new();
    let api = world.exchanging(exchange());
    let (jwt, pat) = (world.jwt(), world.pat("USER", "a,b"));
    let revoke = async |token: &str| {
        let token = TokenFingerprint::of(token);
        let expires_at = Timestamp::from_secs(NOW + 1_000_000);
        world.store.index.record(Revocation::Token { token, expires_at }).await.unwrap();
    };
    let actor = world.jwt_of("AGENT");
    for (body, revoked) in [
        (form(&jwt, &[]), &jwt[..]),
        (form(&pat, &[]), &pat),
        (form("jane", &[]), "jane"),
        (with_actor("acted", &actor), &actor),
    ] {
        let certificate = Some("AGENT");
        assert_eq!(refusal(&request(certificate, &body).send_to(api.clone()).await).0, 200);
        revoke(revoked).await;
        let response = request(certificate, &body).send_to(api.clone()).await;
        assert_eq!(refusal(&response).1, "invalid_request", "{body}");
        let records = world.collected.take();
        let record = records.last().unwrap();
        assert_eq!(record.reason, Some(ReasonCode::TokenRevoked));
        // The record of a revoked token names its user, so that an operator can warn the user of a theft.
        let own = (revoked == jwt || revoked == pat).then(|| user("USER"));
        assert_eq!(record.target, own, "{body}");
    }
    let pat = form(&world.pat("JANE", "a,b"), &[]);
    let rule = Revocation::Service { service: service("b"), up_to: Timestamp::from_secs(NOW) };
    world.store.index.record(rule).await.unwrap();
    assert_eq!(
        refusal(&request(Some("AGENT"), &pat).send_to(api.clone()).await).1,
        "invalid_request"
    );
    world.store.cannot_check.store(true, SeqCst);
    let response = request(Some("AGENT"), &form("acted", &[])).send_to(api).await;
    assert_eq!(refusal(&response).0, 503);
}

#[tokio::test]
async fn exchanges_are_limited_per_minute() {
    let world = World::new();
    let two = || NonZeroU32::new(2).unwrap();
    let api = world.exchanging(bearer().with_calls_per_minute(two()));
    let (user, jane) = (form(&world.jwt(), &[]), form("jane", &[]));
    // Requests with tokens that are not valid also count for the actor.
    let wrong = form("x", &[]);
    for (body, want) in [(&user, 200), (&wrong, 400), (&jane, 429), (&wrong, 429)] {
        assert_eq!(refusal(&request(Some("AGENT"), body).send_to(api.clone()).await).0, want);
    }
    for (body, want) in [(&user, 200), (&user, 200), (&user, 429), (&jane, 200)] {
        assert_eq!(refusal(&request(None, body).send_to(api.clone()).await).0, want);
    }
    let limited = request(None, &user).send_to(api.clone()).await;
    assert_eq!(limited.headers()["retry-after"], "10");
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(refusal(&request(None, &user).send_to(api).await).0, 200);
}

#[tokio::test]
async fn no_exchange_while_the_audit_log_cannot_be_written() {
    let world = World::new();
    let api = world.exchanging(bearer());
    world.collected.is_unavailable.store(true, SeqCst);
    let body = form(&world.jwt(), &[]);
    for certificate in [Some("AGENT"), None] {
        let response = request(certificate, &body).send_to(api.clone()).await;
        let want = (503, "temporarily_unavailable".to_owned(), "ZWEAG104E".to_owned());
        assert_eq!(refusal(&response), want);
        assert_eq!(world.collected.take()[0].reason, Some(ReasonCode::AuditUnavailable));
    }
    world.collected.is_unavailable.store(false, SeqCst);
    assert_eq!(refusal(&request(None, &body).send_to(api).await).0, 200);
}

#[tokio::test]
async fn the_record_names_the_actors_the_tokens_and_the_user() {
    let world = World::new();
    let api = world.exchanging(bearer());
    let record = async |certificate, body: &str| -> AuditRecord {
        request(certificate, body).send_to(api.clone()).await;
        let mut records = world.collected.take();
        assert_eq!(records.len(), 1);
        let record = records.remove(0);
        assert_eq!(record.event, Event::TokenExchange);
        record
    };
    let facts = |record: &AuditRecord| {
        let Some(Detail::Exchange(detail)) = &record.detail else { panic!("{record:?}") };
        let actors: Vec<_> = detail.actors.iter().map(|actor| actor.to_string()).collect();
        (detail.subject, detail.actor_token, actors.join(","))
    };
    let jwt = world.jwt();
    let by_certificate = record(Some("AGENT"), &form(&jwt, &[])).await;
    assert_eq!(by_certificate.outcome, Outcome::Success);
    assert_eq!(by_certificate.credential, Some(CredentialKind::Certificate));
    assert_eq!(
        (by_certificate.user, by_certificate.target),
        (Some(user("AGENT")), Some(user("USER")))
    );
    assert_eq!(by_certificate.applid, Some(applid("ZOWEAPPL")));
    assert_eq!(by_certificate.token_id, Some(TokenFingerprint::of(&jwt)));
    assert!(by_certificate.certificate.is_some());
    assert_eq!(facts(&by_certificate), (Some(CredentialKind::LoginToken), None, "AGENT".into()));

    let by_token = record(None, &with_actor("acted", "agent")).await;
    let want = format!("AGENT,{ISSUER}#svc,B");
    let agent = TokenFingerprint::of("agent");
    assert_eq!(facts(&by_token), (Some(CredentialKind::ExternalToken), Some(agent), want));
    assert_eq!(by_token.credential, Some(CredentialKind::ExternalToken));
    assert_eq!((by_token.user, by_token.target), (Some(user("AGENT")), Some(user("JANE"))));

    let alone = record(None, &form(&world.pat("USER", "a,b"), &[])).await;
    assert_eq!((alone.user, alone.target), (Some(user("USER")), Some(user("USER"))));
    assert_eq!(alone.credential, Some(CredentialKind::PersonalAccessToken));
    assert_eq!(facts(&alone), (Some(CredentialKind::PersonalAccessToken), None, String::new()));

    for (certificate, body, reason) in [
        (Some("AGENT"), form("x", &[]), ReasonCode::TokenMalformed),
        (Some("AGENT"), form("deep", &[]), ReasonCode::TokenClaims),
        (Some("AGENT"), form("stranger", &[]), ReasonCode::NoUser),
        (Some("AGENT"), form(&world.jwt_of("IBMUSER"), &[]), ReasonCode::TargetProtected),
        (Some("AGENT"), form(&world.pat("USER", "a"), &[]), ReasonCode::OutOfScope),
        (Some("READER"), form(&jwt, &[]), ReasonCode::SafRefused),
        (None, with_actor("agent", "agent-2"), ReasonCode::UserMismatch),
        (None, form(&jwt, &[("scope", "x")]), ReasonCode::BadRequest),
        (None, form(&jwt, &[]).replace("=ZOWEAPPL", "=OTHER"), ReasonCode::NoCredential),
    ] {
        let record = record(certificate, &body).await;
        assert_eq!(record.reason, Some(reason), "{body}");
        assert_eq!(record.outcome, Outcome::Refused);
    }
}

#[tokio::test]
async fn forms_of_web_pages_of_other_origins_are_refused() {
    let world = World::new();
    let body = form(&world.jwt(), &[]);
    for certificate in [None, Some("AGENT")] {
        let mut request = Request::post(TOKEN)
            .header("content-type", FORM)
            .header("origin", "https://evil.example.com")
            .header("host", "gw");
        if let Some(name) = certificate {
            request = request.extension(super::certificate(name));
        }
        let request = request.body(Full::<Bytes>::from(body.clone())).unwrap();
        let response = world.exchanging(bearer()).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 403, "{certificate:?}");
    }
}

#[tokio::test]
async fn an_endless_body_is_read_only_up_to_the_limit() {
    /// A body that never ends, and counts the bytes that were read.
    struct Endless(Arc<AtomicUsize>);

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let data = Bytes::from_static(&[b'x'; 1024]);
            self.0.fetch_add(data.len(), SeqCst);
            Poll::Ready(Some(Ok(Frame::data(data))))
        }
    }

    let read = Arc::new(AtomicUsize::new(0));
    let request = Request::post(TOKEN).header("content-type", FORM);
    let request = request.body(Endless(read.clone())).unwrap();
    let response = World::new().exchanging(bearer()).oneshot(request).await.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(read.load(SeqCst), MAX_BODY_LEN + 1024);
}
