//! What each endpoint records: one record for a request, whatever comes of it, and no secret.

use std::{future::pending, task::Waker};

use super::*;
use crate::{
    audit::{AuditRecord, CredentialKind, Detail, Event, Outcome, ReasonCode, RequestId, RuleKind},
    connection::{ConnectionInfo, Protocol},
    passticket::SafReturnCodes,
    token::{ServiceId, TokenFingerprint},
};

use CredentialKind as Is;
use Event as What;
use ReasonCode as Why;

const AUTH: &str = "/gateway/api/v1/auth/";

/// Who asks, with what.
#[derive(Clone, Default)]
struct By {
    authorization: Option<String>,
    certificate: Option<&'static str>,
}

fn nobody() -> By {
    By::default()
}

fn password(user: &str) -> By {
    By { authorization: Some(basic(&format!("{user}:validPassword"))), ..nobody() }
}

fn holder(name: &'static str) -> By {
    By { certificate: Some(name), ..nobody() }
}

fn bearer(token: &str) -> By {
    By { authorization: Some(format!("Bearer {token}")), ..nobody() }
}

impl By {
    fn and(self, certificate: &'static str) -> Self {
        Self { certificate: Some(certificate), ..self }
    }
}

/// The response to a request, and its record.
async fn ask(
    world: &World,
    endpoint: &str,
    by: By,
    body: &str,
) -> (Response<Bytes>, Option<AuditRecord>) {
    let (method, path) = endpoint.split_once(' ').unwrap();
    let url = format!("{AUTH}{path}");
    let asked = Asked {
        method,
        url: &url,
        authorization: by.authorization.as_deref(),
        cookie: None,
        certificate: by.certificate,
        body,
    };
    let response = asked.of(world.api(Compatibility::Documented)).await;
    let records = world.collected.take();
    assert!(records.len() <= 1, "{endpoint}: {records:?}");
    (response, records.into_iter().next())
}

fn name(user: Option<&UserId>) -> &str {
    user.map_or("", UserId::as_str)
}

#[tokio::test]
async fn every_decision_is_one_record() {
    let world = World::new();
    let jwt = world.jwt();
    let pat = world.pat("USER", "a");
    let revoked = world.pat("USER", "a");
    revoked_itself(&world, &revoked);
    let mangled = forged(&jwt);
    let in_body = |token: &str| json!({ "token": token }).to_string();
    let for_service =
        |token: &str, service: &str| json!({ "token": token, "serviceId": service }).to_string();
    let ticket = |applid: &str| json!({ "applicationName": applid }).to_string();
    let own = r#"{"timestamp":1000}"#.to_owned();
    let of_user = r#"{"userId":"other","timestamp":1000}"#.to_owned();
    let of_service = r#"{"serviceId":"files"}"#.to_owned();
    let none = String::new;
    let text = |text: &str| text.to_owned();

    let cases = [
        // What is asked for, by whom, with what; why it fails; who it was, and what they showed.
        ("POST login", password("user"), none(), What::Login, None, "USER", Is::Password),
        ("POST login", nobody(), text(GOOD_BODY), What::Login, None, "USER", Is::Password),
        ("POST login", holder("user"), none(), What::Login, None, "USER", Is::Certificate),
        (
            "POST login",
            nobody(),
            text(WRONG_BODY),
            What::Login,
            Some(Why::WrongPassword),
            "USER",
            Is::Password,
        ),
        (
            "POST login",
            password("john.doe@corp"),
            none(),
            What::Login,
            Some(Why::WrongPassword),
            "",
            Is::Password,
        ),
        (
            "POST login",
            By { authorization: Some(text("Basic ???")), ..nobody() },
            none(),
            What::Login,
            Some(Why::WrongPassword),
            "",
            Is::Password,
        ),
        (
            "POST login",
            password("down"),
            none(),
            What::Login,
            Some(Why::LoginUnavailable),
            "DOWN",
            Is::Password,
        ),
        ("POST login", nobody(), none(), What::Login, Some(Why::NoCredential), "", Is::None),
        (
            "POST login",
            holder("Zowe Service"),
            none(),
            What::Login,
            Some(Why::NoUser),
            "",
            Is::Certificate,
        ),
        ("GET query", bearer(&jwt), none(), What::Authentication, None, "USER", Is::LoginToken),
        (
            "GET query",
            nobody(),
            none(),
            What::Authentication,
            Some(Why::NoCredential),
            "",
            Is::None,
        ),
        (
            "GET query",
            bearer(&mangled),
            none(),
            What::Authentication,
            Some(Why::TokenSignature),
            "",
            Is::Token,
        ),
        (
            "GET query",
            bearer(&pat),
            none(),
            What::Authentication,
            Some(Why::WrongKind),
            "USER",
            Is::PersonalAccessToken,
        ),
        (
            "POST ticket",
            bearer(&jwt).and("x"),
            ticket("ZOWEAPPL"),
            What::Ticket,
            None,
            "USER",
            Is::LoginToken,
        ),
        (
            "POST ticket",
            bearer(&jwt).and("x"),
            ticket("NOKEY"),
            What::Ticket,
            Some(Why::NoKeyProfile),
            "USER",
            Is::LoginToken,
        ),
        (
            "POST ticket",
            bearer(&jwt).and("x"),
            text("{"),
            What::Ticket,
            Some(Why::BadRequest),
            "USER",
            Is::LoginToken,
        ),
        (
            "POST access-token/generate",
            password("user"),
            text(SCOPES),
            What::TokenMinted,
            None,
            "USER",
            Is::Password,
        ),
        (
            "POST access-token/generate",
            holder("Zowe Service"),
            text(SCOPES),
            What::TokenMinted,
            Some(Why::NoUser),
            "",
            Is::Certificate,
        ),
        (
            "POST access-token/validate",
            nobody(),
            for_service(&pat, "a"),
            What::Authentication,
            None,
            "USER",
            Is::PersonalAccessToken,
        ),
        (
            "POST access-token/validate",
            nobody(),
            for_service(&pat, "b"),
            What::Authentication,
            Some(Why::OutOfScope),
            "USER",
            Is::PersonalAccessToken,
        ),
        (
            "POST access-token/validate",
            nobody(),
            for_service(&revoked, "a"),
            What::Authentication,
            Some(Why::TokenRevoked),
            "USER",
            Is::PersonalAccessToken,
        ),
        (
            "POST access-token/validate",
            nobody(),
            for_service(&mangled, "a"),
            What::Authentication,
            Some(Why::TokenSignature),
            "",
            Is::Token,
        ),
        (
            "DELETE access-token/revoke",
            nobody(),
            in_body(&revoked),
            What::TokenRevoked,
            Some(Why::TokenRevoked),
            "USER",
            Is::PersonalAccessToken,
        ),
        (
            "DELETE access-token/revoke",
            nobody(),
            in_body(&jwt),
            What::TokenRevoked,
            Some(Why::WrongKind),
            "USER",
            Is::LoginToken,
        ),
        (
            "DELETE access-token/revoke",
            nobody(),
            in_body("validPassword"),
            What::TokenRevoked,
            Some(Why::TokenMalformed),
            "",
            Is::Token,
        ),
        (
            "DELETE access-token/revoke",
            nobody(),
            in_body(&pat),
            What::TokenRevoked,
            None,
            "USER",
            Is::PersonalAccessToken,
        ),
        (
            "DELETE access-token/revoke/tokens",
            password("user"),
            own,
            What::RuleMade,
            None,
            "USER",
            Is::Password,
        ),
        (
            "DELETE access-token/revoke/tokens/user",
            password("reader"),
            of_user.clone(),
            What::RuleMade,
            None,
            "READER",
            Is::Password,
        ),
        (
            "DELETE access-token/revoke/tokens/users",
            password("user"),
            of_user.clone(),
            What::RuleMade,
            Some(Why::SafRefused),
            "USER",
            Is::Password,
        ),
        (
            "DELETE access-token/revoke/tokens/users",
            password("safdown"),
            of_user.clone(),
            What::RuleMade,
            Some(Why::SafUnavailable),
            "SAFDOWN",
            Is::Password,
        ),
        (
            "DELETE access-token/revoke/tokens/users",
            password("safbad"),
            of_user,
            What::RuleMade,
            Some(Why::SafUnavailable),
            "SAFBAD",
            Is::Password,
        ),
        (
            "DELETE access-token/revoke/tokens/scope",
            password("reader"),
            of_service,
            What::RuleMade,
            None,
            "READER",
            Is::Password,
        ),
        (
            "DELETE access-token/evict",
            password("reader"),
            none(),
            What::Evicted,
            Some(Why::SafRefused),
            "READER",
            Is::Password,
        ),
        (
            "DELETE access-token/evict",
            holder("admin"),
            none(),
            What::Evicted,
            None,
            "ADMIN",
            Is::Certificate,
        ),
        (
            "POST refresh",
            bearer(&jwt),
            none(),
            What::Refresh,
            Some(Why::CertificateRequired),
            "",
            Is::None,
        ),
        (
            "POST refresh",
            bearer(&jwt).and("x"),
            none(),
            What::Refresh,
            None,
            "USER",
            Is::LoginToken,
        ),
        (
            "POST logout",
            bearer(&jwt),
            none(),
            What::Logout,
            Some(Why::TokenRevoked),
            "USER",
            Is::LoginToken,
        ),
        (
            "POST logout",
            bearer("garbage"),
            none(),
            What::Logout,
            Some(Why::TokenMalformed),
            "",
            Is::Token,
        ),
        ("POST logout", bearer(&world.jwt()), none(), What::Logout, None, "USER", Is::LoginToken),
    ];
    for (endpoint, by, body, event, why, user, credential) in cases {
        let (response, record) = ask(&world, endpoint, by, &body).await;
        let record = record.unwrap_or_else(|| panic!("{endpoint} {why:?}"));
        let context = format!("{endpoint}: {record:?}");
        assert_eq!((record.event, record.reason), (event, why), "{context}");
        let outcome = why.map_or(Outcome::Success, ReasonCode::outcome);
        assert_eq!(record.outcome, outcome, "{context}");
        assert_eq!(response.status().is_success(), why.is_none(), "{context}");
        assert_eq!(name(record.user.as_ref()), user, "{context}");
        // A certificate that is missing beside a token: nobody has looked at the token.
        let shown =
            (credential != Is::None || why == Some(Why::NoCredential)).then_some(credential);
        assert_eq!(record.credential, shown, "{context}");
        assert_eq!(record.time, Timestamp::from_secs(NOW), "{context}");
        let verified = matches!(credential, Is::LoginToken | Is::PersonalAccessToken);
        assert_eq!(record.token_id.is_some(), verified, "{context}");
    }
}

fn revoked_itself(world: &World, token: &str) {
    let expires_at = Timestamp::from_secs(NOW + 1_000_000);
    world.store.index.apply(&Revocation::Token { token: TokenFingerprint::of(token), expires_at });
}

#[tokio::test]
async fn each_event_says_what_it_is_about() {
    let world = World::new();

    let (response, login) = ask(&world, "POST login", password("user"), "").await;
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    let jwt = cookie.split(['=', ';']).nth(1).unwrap();
    assert_eq!(login.unwrap().issued_token_id, Some(TokenFingerprint::of(jwt)));

    let (response, minted) =
        ask(&world, "POST access-token/generate", password("user"), SCOPES).await;
    let minted = minted.unwrap();
    let pat = str::from_utf8(response.body()).unwrap();
    assert_eq!(minted.issued_token_id, Some(TokenFingerprint::of(pat)));
    let scopes = Scopes::parse(["a", "b"]).unwrap();
    assert_eq!(minted.detail, Some(Detail::Minted { scopes, days: 2 }));

    let body = json!({ "token": pat, "serviceId": "c" }).to_string();
    let (_, validated) = ask(&world, "POST access-token/validate", nobody(), &body).await;
    let validated = validated.unwrap();
    assert_eq!(validated.service.as_ref().map(ServiceId::as_str), Some("c"));
    assert_eq!(validated.reason, Some(Why::OutOfScope));
    let (_, broken) = ask(&world, "POST access-token/validate", nobody(), "{}").await;
    assert_eq!(broken.unwrap().reason, Some(Why::BadRequest));

    let body = r#"{"applicationName":"NOKEY"}"#;
    let (_, ticket) = ask(&world, "POST ticket", bearer(jwt).and("shown"), body).await;
    let ticket = ticket.unwrap();
    assert_eq!(ticket.applid, Some(Applid::new("NOKEY").unwrap()));
    assert_eq!(ticket.codes, Some(SafReturnCodes::NO_PROFILE));
    assert_eq!(ticket.token_id, Some(TokenFingerprint::of(jwt)));
    assert_eq!(ticket.certificate.unwrap().subject(), "CN=shown");

    let (_, refresh) = ask(&world, "POST refresh", bearer(jwt).and("shown"), "").await;
    let refresh = refresh.unwrap();
    assert_eq!(refresh.token_id, Some(TokenFingerprint::of(jwt)));
    assert!(refresh.issued_token_id.is_some() && refresh.issued_token_id != refresh.token_id);
    assert_eq!(refresh.certificate.unwrap().subject(), "CN=shown");

    let up_to = Timestamp::from_millis(1000);
    let tokens = "DELETE access-token/revoke/tokens";
    for (path, body, target, service, kind) in [
        ("", r#"{"timestamp":1000}"#, "ADMIN", None, RuleKind::User),
        ("/user", r#"{"userId":"other","timestamp":1000}"#, "OTHER", None, RuleKind::User),
        (
            "/scope",
            r#"{"serviceId":"Files","timestamp":1000}"#,
            "",
            Some("files"),
            RuleKind::Service,
        ),
    ] {
        // Whether it can be written or not.
        for cannot_write in [true, false] {
            world.store.cannot_write.store(cannot_write, SeqCst);
            let (_, rule) = ask(&world, &format!("{tokens}{path}"), password("admin"), body).await;
            let rule = rule.unwrap();
            let why = cannot_write.then_some(Why::StoreUnavailable);
            assert_eq!((rule.reason, name(rule.user.as_ref())), (why, "ADMIN"));
            assert_eq!(name(rule.target.as_ref()), target);
            assert_eq!(rule.service.as_ref().map(ServiceId::as_str), service);
            assert_eq!(rule.detail, Some(Detail::Rule { kind, up_to }));
        }
    }

    world.clock.advance(Duration::from_secs(1_000_000_000));
    let (_, evicted) = ask(&world, "DELETE access-token/evict", password("admin"), "").await;
    let Some(Detail::Evicted(evicted)) = evicted.unwrap().detail else { panic!("an eviction") };
    assert_eq!((evicted.tokens, evicted.users, evicted.services), (1, 2, 1));
}

#[tokio::test]
async fn what_decides_nothing_is_not_recorded() {
    let world = World::new();
    for (endpoint, body) in [
        ("GET keys/public", ""),
        ("GET keys/public/all", ""),
        ("GET openapi.json", ""),
        ("GET nowhere", ""),
        ("DELETE login", ""),
    ] {
        let (_, record) = ask(&world, endpoint, password("user"), body).await;
        assert!(record.is_none(), "{endpoint}: {record:?}");
    }
}

#[tokio::test]
async fn guesses_that_are_not_looked_at_are_told_apart() {
    let world = World::new();
    let mut seen = Vec::new();
    for _ in 0..6 {
        let (_, record) = ask(&world, "POST login", nobody(), WRONG_BODY).await;
        seen.push(record.unwrap().reason.unwrap());
    }
    let last = Why::TooManyAttempts;
    assert_eq!(seen[..4], [Why::WrongPassword; 4]);
    assert_eq!(seen.last(), Some(&last), "{seen:?}");
}

#[tokio::test]
async fn a_new_password_is_mentioned_and_not_told() {
    let world = World::new();
    let body = r#"{"username":"user","password":"validPassword","newPassword":"n3wSecret"}"#;
    let (_, record) = ask(&world, "POST login", nobody(), body).await;
    let record = record.unwrap();
    assert_eq!(record.detail, Some(Detail::PasswordChange));
    assert_eq!(record.reason, Some(Why::BadRequest));
}

#[tokio::test]
async fn the_request_is_told_by_id_and_peer() {
    let world = World::new();
    let id = RequestId::next();
    let peer = "192.0.2.7:555".parse().unwrap();
    let local = "192.0.2.1:443".parse().unwrap();
    let request = Request::post(LOGIN)
        .extension(id)
        .extension(ConnectionInfo::new(peer, local, Protocol::Https))
        .body(Full::<Bytes>::from(GOOD_BODY))
        .unwrap();
    world.api(Compatibility::Documented).oneshot(request).await.unwrap();
    let records = world.collected.take();
    assert_eq!((records[0].request_id, records[0].peer), (Some(id), Some(peer)));
}

/// A mapper that never answers.
struct Silent;

impl IdentityMapper for Silent {
    fn map_certificate(&self, _: &PeerCertificate) -> MapFuture {
        Box::pin(pending())
    }
}

#[tokio::test]
async fn a_request_that_is_given_up_is_recorded_all_the_same() {
    let world = World::new();
    let api = world.bare.clone().with_client_certificates(Silent);
    let request = Request::post(LOGIN).extension(certificate("user"));
    let mut answer = api.oneshot(request.body(Full::<Bytes>::default()).unwrap());
    let waker = Waker::noop();
    assert!(Pin::new(&mut answer).poll(&mut Context::from_waker(waker)).is_pending());
    assert!(world.collected.take().is_empty());
    drop(answer);
    let records = world.collected.take();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].event, records[0].reason), (What::Login, Some(Why::Abandoned)));
}

#[tokio::test]
async fn no_record_has_a_secret_in_it() {
    let world = World::new();
    let mut secrets =
        vec!["validPassword".to_owned(), "wrong".to_owned(), basic("user:validPassword")];
    let mut said = String::new();
    let mut add = |record: Option<AuditRecord>| {
        let record = record.unwrap();
        said += &format!("{}{record:?}", record.to_json());
    };

    let (response, record) = ask(&world, "POST login", password("user"), "").await;
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    let jwt = cookie.split(['=', ';']).nth(1).unwrap().to_owned();
    add(record);
    add(ask(&world, "POST login", nobody(), WRONG_BODY).await.1);
    let (response, record) =
        ask(&world, "POST access-token/generate", password("user"), SCOPES).await;
    let pat = String::from_utf8(response.body().to_vec()).unwrap();
    add(record);
    let body = r#"{"applicationName":"ZOWEAPPL"}"#;
    let (response, record) = ask(&world, "POST ticket", bearer(&jwt).and("x"), body).await;
    let answer: Value = serde_json::from_slice(response.body()).unwrap();
    secrets.push(answer["ticket"].as_str().unwrap().to_owned());
    add(record);
    add(ask(&world, "GET query", bearer(&pat), "").await.1);
    let body = json!({ "token": pat }).to_string();
    add(ask(&world, "DELETE access-token/revoke", nobody(), &body).await.1);
    let body = json!({ "token": "validPassword" }).to_string();
    add(ask(&world, "DELETE access-token/revoke", nobody(), &body).await.1);
    add(ask(&world, "POST logout", bearer(&jwt), "").await.1);
    secrets.extend([jwt, pat]);

    // Nor the hash of what is no token: that of a password can be guessed at.
    let guessed = TokenFingerprint::of("validPassword").to_string();
    secrets.push(guessed);
    let outcome = said.replace("wrong-password", "").replace("wrong-kind", "");
    for secret in secrets {
        // A token without its signature is none, but says more than it should.
        let part = secret.split('.').nth(1).unwrap_or(&secret);
        assert!(!outcome.contains(part), "{secret} is in {said}");
    }
}
