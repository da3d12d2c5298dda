//! Tests of audit records. Each request to an audited endpoint causes one record, even if the request fails. A record
//! contains no secret.

use std::{future::pending, task::Waker};

use super::*;
use crate::{
    audit::{AuditRecord, CredentialKind, Detail, Event, Outcome, ReasonCode, RequestId, RuleKind},
    connection::{ConnectionInfo, Protocol},
    passticket::SafReturnCodes,
    token::{ServiceId, TokenFingerprint},
};

const AUTH: &str = "/gateway/api/v1/auth/";

#[derive(Clone, Default)]
struct Credentials {
    authorization: Option<String>,
    /// The common name of the client certificate.
    certificate: Option<&'static str>,
}

fn no_credentials() -> Credentials {
    Credentials::default()
}

fn password(user: &str) -> Credentials {
    Credentials { authorization: Some(basic(&format!("{user}:validPassword"))), ..no_credentials() }
}

fn certificate_of(name: &'static str) -> Credentials {
    Credentials { certificate: Some(name), ..no_credentials() }
}

fn bearer(token: &str) -> Credentials {
    Credentials { authorization: Some(format!("Bearer {token}")), ..no_credentials() }
}

impl Credentials {
    fn and_certificate(self, certificate: &'static str) -> Self {
        Self { certificate: Some(certificate), ..self }
    }
}

/// Sends a request, such as `POST login`. Returns the response and the audit record.
async fn send(
    world: &World,
    endpoint: &str,
    credentials: Credentials,
    body: &str,
) -> (Response<Bytes>, Option<AuditRecord>) {
    let (method, path) = endpoint.split_once(' ').unwrap();
    let url = format!("{AUTH}{path}");
    let request = TestRequest {
        method,
        url: &url,
        authorization: credentials.authorization.as_deref(),
        cookie: None,
        certificate: credentials.certificate,
        content_type: None,
        body,
    };
    let response = request.send_to(world.api(Compatibility::Documented)).await;
    let records = world.collected.take();
    assert!(records.len() <= 1, "{endpoint}: {records:?}");
    (response, records.into_iter().next())
}

fn user_text(user: Option<&UserId>) -> &str {
    user.map_or("", UserId::as_str)
}

#[tokio::test]
async fn each_request_has_one_record() {
    let world = World::new();
    let jwt = world.jwt();
    let pat = world.pat("USER", "a");
    let revoked = world.pat("USER", "a");
    revoke(&world, &revoked);
    let wrong_signature = forged(&jwt);
    let in_body = |token: &str| json!({ "token": token }).to_string();
    let for_service =
        |token: &str, service: &str| json!({ "token": token, "serviceId": service }).to_string();
    let ticket = |applid: &str| json!({ "applicationName": applid }).to_string();
    let own = r#"{"timestamp":1000}"#.to_owned();
    let of_user = r#"{"userId":"other","timestamp":1000}"#.to_owned();
    let of_service = r#"{"serviceId":"files"}"#.to_owned();
    let no_body = String::new;
    let text = |text: &str| text.to_owned();

    let cases = [
        // The request: endpoint, credentials and body. The expected record: event, reason, user and kind of credential.
        (
            "POST login",
            password("user"),
            no_body(),
            Event::Login,
            None,
            "USER",
            CredentialKind::Password,
        ),
        (
            "POST login",
            no_credentials(),
            text(GOOD_BODY),
            Event::Login,
            None,
            "USER",
            CredentialKind::Password,
        ),
        (
            "POST login",
            certificate_of("user"),
            no_body(),
            Event::Login,
            None,
            "USER",
            CredentialKind::Certificate,
        ),
        (
            "POST login",
            no_credentials(),
            text(WRONG_BODY),
            Event::Login,
            Some(ReasonCode::WrongPassword),
            "USER",
            CredentialKind::Password,
        ),
        (
            "POST login",
            password("john.doe@corp"),
            no_body(),
            Event::Login,
            Some(ReasonCode::WrongPassword),
            "",
            CredentialKind::Password,
        ),
        (
            "POST login",
            Credentials { authorization: Some(text("Basic ???")), ..no_credentials() },
            no_body(),
            Event::Login,
            Some(ReasonCode::WrongPassword),
            "",
            CredentialKind::Password,
        ),
        (
            "POST login",
            password("down"),
            no_body(),
            Event::Login,
            Some(ReasonCode::LoginUnavailable),
            "DOWN",
            CredentialKind::Password,
        ),
        (
            "POST login",
            no_credentials(),
            no_body(),
            Event::Login,
            Some(ReasonCode::NoCredential),
            "",
            CredentialKind::None,
        ),
        (
            "POST login",
            certificate_of("Zowe Service"),
            no_body(),
            Event::Login,
            Some(ReasonCode::NoUser),
            "",
            CredentialKind::Certificate,
        ),
        (
            "GET query",
            bearer(&jwt),
            no_body(),
            Event::Authentication,
            None,
            "USER",
            CredentialKind::LoginToken,
        ),
        (
            "GET query",
            no_credentials(),
            no_body(),
            Event::Authentication,
            Some(ReasonCode::NoCredential),
            "",
            CredentialKind::None,
        ),
        (
            "GET query",
            bearer(&wrong_signature),
            no_body(),
            Event::Authentication,
            Some(ReasonCode::TokenSignature),
            "",
            CredentialKind::Token,
        ),
        (
            "GET query",
            bearer(&pat),
            no_body(),
            Event::Authentication,
            Some(ReasonCode::WrongKind),
            "USER",
            CredentialKind::PersonalAccessToken,
        ),
        (
            "POST ticket",
            bearer(&jwt).and_certificate("x"),
            ticket("ZOWEAPPL"),
            Event::Ticket,
            None,
            "USER",
            CredentialKind::LoginToken,
        ),
        (
            "POST ticket",
            bearer(&jwt).and_certificate("x"),
            ticket("NOKEY"),
            Event::Ticket,
            Some(ReasonCode::NoKeyProfile),
            "USER",
            CredentialKind::LoginToken,
        ),
        (
            "POST ticket",
            bearer(&jwt).and_certificate("x"),
            text("{"),
            Event::Ticket,
            Some(ReasonCode::BadRequest),
            "USER",
            CredentialKind::LoginToken,
        ),
        (
            "POST access-token/generate",
            password("user"),
            text(SCOPES),
            Event::TokenMinted,
            None,
            "USER",
            CredentialKind::Password,
        ),
        (
            "POST access-token/generate",
            certificate_of("Zowe Service"),
            text(SCOPES),
            Event::TokenMinted,
            Some(ReasonCode::NoUser),
            "",
            CredentialKind::Certificate,
        ),
        (
            "POST access-token/validate",
            no_credentials(),
            for_service(&pat, "a"),
            Event::Authentication,
            None,
            "USER",
            CredentialKind::PersonalAccessToken,
        ),
        (
            "POST access-token/validate",
            no_credentials(),
            for_service(&pat, "b"),
            Event::Authentication,
            Some(ReasonCode::OutOfScope),
            "USER",
            CredentialKind::PersonalAccessToken,
        ),
        (
            "POST access-token/validate",
            no_credentials(),
            for_service(&revoked, "a"),
            Event::Authentication,
            Some(ReasonCode::TokenRevoked),
            "USER",
            CredentialKind::PersonalAccessToken,
        ),
        (
            "POST access-token/validate",
            no_credentials(),
            for_service(&wrong_signature, "a"),
            Event::Authentication,
            Some(ReasonCode::TokenSignature),
            "",
            CredentialKind::Token,
        ),
        (
            "DELETE access-token/revoke",
            no_credentials(),
            in_body(&revoked),
            Event::TokenRevoked,
            Some(ReasonCode::TokenRevoked),
            "USER",
            CredentialKind::PersonalAccessToken,
        ),
        (
            "DELETE access-token/revoke",
            no_credentials(),
            in_body(&jwt),
            Event::TokenRevoked,
            Some(ReasonCode::WrongKind),
            "USER",
            CredentialKind::LoginToken,
        ),
        (
            "DELETE access-token/revoke",
            no_credentials(),
            in_body("validPassword"),
            Event::TokenRevoked,
            Some(ReasonCode::TokenMalformed),
            "",
            CredentialKind::Token,
        ),
        (
            "DELETE access-token/revoke",
            no_credentials(),
            in_body(&pat),
            Event::TokenRevoked,
            None,
            "USER",
            CredentialKind::PersonalAccessToken,
        ),
        (
            "DELETE access-token/revoke/tokens",
            password("user"),
            own,
            Event::RuleMade,
            None,
            "USER",
            CredentialKind::Password,
        ),
        (
            "DELETE access-token/revoke/tokens/user",
            password("reader"),
            of_user.clone(),
            Event::RuleMade,
            None,
            "READER",
            CredentialKind::Password,
        ),
        (
            "DELETE access-token/revoke/tokens/users",
            password("user"),
            of_user.clone(),
            Event::RuleMade,
            Some(ReasonCode::SafRefused),
            "USER",
            CredentialKind::Password,
        ),
        (
            "DELETE access-token/revoke/tokens/users",
            password("safdown"),
            of_user.clone(),
            Event::RuleMade,
            Some(ReasonCode::SafUnavailable),
            "SAFDOWN",
            CredentialKind::Password,
        ),
        (
            "DELETE access-token/revoke/tokens/users",
            password("safbad"),
            of_user,
            Event::RuleMade,
            Some(ReasonCode::SafUnavailable),
            "SAFBAD",
            CredentialKind::Password,
        ),
        (
            "DELETE access-token/revoke/tokens/scope",
            password("reader"),
            of_service,
            Event::RuleMade,
            None,
            "READER",
            CredentialKind::Password,
        ),
        (
            "DELETE access-token/evict",
            password("reader"),
            no_body(),
            Event::Evicted,
            Some(ReasonCode::SafRefused),
            "READER",
            CredentialKind::Password,
        ),
        (
            "DELETE access-token/evict",
            certificate_of("admin"),
            no_body(),
            Event::Evicted,
            None,
            "ADMIN",
            CredentialKind::Certificate,
        ),
        (
            "POST refresh",
            bearer(&jwt),
            no_body(),
            Event::Refresh,
            Some(ReasonCode::CertificateRequired),
            "",
            CredentialKind::None,
        ),
        (
            "POST refresh",
            bearer(&jwt).and_certificate("x"),
            no_body(),
            Event::Refresh,
            None,
            "USER",
            CredentialKind::LoginToken,
        ),
        (
            "POST logout",
            bearer(&jwt),
            no_body(),
            Event::Logout,
            Some(ReasonCode::TokenRevoked),
            "USER",
            CredentialKind::LoginToken,
        ),
        (
            "POST logout",
            bearer("garbage"),
            no_body(),
            Event::Logout,
            Some(ReasonCode::TokenMalformed),
            "",
            CredentialKind::Token,
        ),
        (
            "POST logout",
            bearer(&world.jwt()),
            no_body(),
            Event::Logout,
            None,
            "USER",
            CredentialKind::LoginToken,
        ),
    ];
    for (endpoint, credentials, body, event, reason, user, credential) in cases {
        let (response, record) = send(&world, endpoint, credentials, &body).await;
        let record = record.unwrap_or_else(|| panic!("expected a record: {endpoint} {reason:?}"));
        let context = format!("{endpoint}: {record:?}");
        assert_eq!((record.event, record.reason), (event, reason), "{context}");
        let outcome = reason.map_or(Outcome::Success, ReasonCode::outcome);
        assert_eq!(record.outcome, outcome, "{context}");
        assert_eq!(response.status().is_success(), reason.is_none(), "{context}");
        assert_eq!(user_text(record.user.as_ref()), user, "{context}");
        // `refresh` checks the certificate before the token. Without a certificate, it does not look for a token, so
        // `record.credential` is `None`, and not `Some(CredentialKind::None)`.
        let is_recorded =
            credential != CredentialKind::None || reason == Some(ReasonCode::NoCredential);
        let credential_in_record = is_recorded.then_some(credential);
        assert_eq!(record.credential, credential_in_record, "{context}");
        assert_eq!(record.time, Timestamp::from_secs(NOW), "{context}");
        let verified =
            matches!(credential, CredentialKind::LoginToken | CredentialKind::PersonalAccessToken);
        assert_eq!(record.token_id.is_some(), verified, "{context}");
    }
}

fn revoke(world: &World, token: &str) {
    let expires_at = Timestamp::from_secs(NOW + 1_000_000);
    world.store.index.apply(&Revocation::Token { token: TokenFingerprint::of(token), expires_at });
}

#[tokio::test]
async fn each_record_has_the_fields_of_its_event() {
    let world = World::new();

    let (response, login) = send(&world, "POST login", password("user"), "").await;
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    let jwt = cookie.split(['=', ';']).nth(1).unwrap();
    assert_eq!(login.unwrap().issued_token_id, Some(TokenFingerprint::of(jwt)));

    let (response, minted) =
        send(&world, "POST access-token/generate", password("user"), SCOPES).await;
    let minted = minted.unwrap();
    let pat = str::from_utf8(response.body()).unwrap();
    assert_eq!(minted.issued_token_id, Some(TokenFingerprint::of(pat)));
    let scopes = Scopes::parse(["a", "b"]).unwrap();
    assert_eq!(minted.detail, Some(Detail::Minted { scopes, days: 2 }));

    let body = json!({ "token": pat, "serviceId": "c" }).to_string();
    let (_, validated) = send(&world, "POST access-token/validate", no_credentials(), &body).await;
    let validated = validated.unwrap();
    assert_eq!(validated.service.as_ref().map(ServiceId::as_str), Some("c"));
    assert_eq!(validated.reason, Some(ReasonCode::OutOfScope));
    let (_, broken) = send(&world, "POST access-token/validate", no_credentials(), "{}").await;
    assert_eq!(broken.unwrap().reason, Some(ReasonCode::BadRequest));

    let body = r#"{"applicationName":"NOKEY"}"#;
    let (_, ticket) = send(&world, "POST ticket", bearer(jwt).and_certificate("shown"), body).await;
    let ticket = ticket.unwrap();
    assert_eq!(ticket.applid, Some(Applid::new("NOKEY").unwrap()));
    assert_eq!(ticket.codes, Some(SafReturnCodes::NO_PROFILE));
    assert_eq!(ticket.token_id, Some(TokenFingerprint::of(jwt)));
    assert_eq!(ticket.certificate.unwrap().subject(), "CN=shown");

    let (_, refresh) = send(&world, "POST refresh", bearer(jwt).and_certificate("shown"), "").await;
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
        // The record contains these fields even if the rule cannot be stored.
        for cannot_write in [true, false] {
            world.store.cannot_write.store(cannot_write, SeqCst);
            let (_, rule) = send(&world, &format!("{tokens}{path}"), password("admin"), body).await;
            let rule = rule.unwrap();
            let reason = cannot_write.then_some(ReasonCode::StoreUnavailable);
            assert_eq!((rule.reason, user_text(rule.user.as_ref())), (reason, "ADMIN"));
            assert_eq!(user_text(rule.target.as_ref()), target);
            assert_eq!(rule.service.as_ref().map(ServiceId::as_str), service);
            assert_eq!(rule.detail, Some(Detail::Rule { kind, up_to }));
        }
    }

    world.clock.advance(Duration::from_secs(1_000_000_000));
    let (_, evicted) = send(&world, "DELETE access-token/evict", password("admin"), "").await;
    let Some(Detail::Evicted(evicted)) = evicted.unwrap().detail else {
        panic!("expected an eviction")
    };
    assert_eq!((evicted.tokens, evicted.users, evicted.services), (1, 2, 1));
}

#[tokio::test]
async fn requests_that_are_not_audited_have_no_record() {
    let world = World::new();
    for (endpoint, body) in [
        ("GET keys/public", ""),
        ("GET keys/public/all", ""),
        ("GET openapi.json", ""),
        ("GET nowhere", ""),
        ("DELETE login", ""),
    ] {
        let (_, record) = send(&world, endpoint, password("user"), body).await;
        assert!(record.is_none(), "{endpoint}: {record:?}");
    }
}

#[tokio::test]
async fn a_throttled_login_has_the_reason_too_many_attempts() {
    let world = World::new();
    let mut reasons = Vec::new();
    for _ in 0..6 {
        let (_, record) = send(&world, "POST login", no_credentials(), WRONG_BODY).await;
        reasons.push(record.unwrap().reason.unwrap());
    }
    let last = ReasonCode::TooManyAttempts;
    assert_eq!(reasons[..4], [ReasonCode::WrongPassword; 4]);
    assert_eq!(reasons.last(), Some(&last), "{reasons:?}");
}

#[tokio::test]
async fn a_password_change_is_recorded_without_the_password() {
    let world = World::new();
    let body = r#"{"username":"user","password":"validPassword","newPassword":"n3wSecret"}"#;
    let (_, record) = send(&world, "POST login", no_credentials(), body).await;
    let record = record.unwrap();
    assert!(!record.to_json().contains("n3wSecret"));
    assert_eq!(record.detail, Some(Detail::PasswordChange));
    assert_eq!(record.reason, Some(ReasonCode::BadRequest));
}

#[tokio::test]
async fn a_record_has_the_request_id_and_the_peer_address() {
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

struct HangingMapper;

impl IdentityMapper for HangingMapper {
    fn map_certificate(&self, _: &PeerCertificate) -> MapFuture {
        Box::pin(pending())
    }
}

#[tokio::test]
async fn a_cancelled_request_is_recorded_as_abandoned() {
    let world = World::new();
    let api = world.minimal.clone().with_client_certificates(HangingMapper);
    let request = Request::post(LOGIN).extension(certificate("user"));
    let mut answer = api.oneshot(request.body(Full::<Bytes>::default()).unwrap());
    let waker = Waker::noop();
    assert!(Pin::new(&mut answer).poll(&mut Context::from_waker(waker)).is_pending());
    assert!(world.collected.take().is_empty());
    drop(answer);
    let records = world.collected.take();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].event, records[0].reason), (Event::Login, Some(ReasonCode::Abandoned)));
}

#[tokio::test]
async fn no_record_has_a_secret() {
    let world = World::new();
    let mut secrets = vec![
        "validPassword".to_owned(),
        "wrong".to_owned(),
        basic("user:validPassword").replace("Basic ", ""),
    ];
    let mut all_records = String::new();
    let mut add = |record: Option<AuditRecord>| {
        let record = record.unwrap();
        all_records += &format!("{}{record:?}", record.to_json());
    };

    let (response, record) = send(&world, "POST login", password("user"), "").await;
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    let jwt = cookie.split(['=', ';']).nth(1).unwrap().to_owned();
    add(record);
    add(send(&world, "POST login", no_credentials(), WRONG_BODY).await.1);
    let (response, record) =
        send(&world, "POST access-token/generate", password("user"), SCOPES).await;
    let pat = String::from_utf8(response.body().to_vec()).unwrap();
    add(record);
    let body = r#"{"applicationName":"ZOWEAPPL"}"#;
    let (response, record) =
        send(&world, "POST ticket", bearer(&jwt).and_certificate("x"), body).await;
    let answer: Value = serde_json::from_slice(response.body()).unwrap();
    secrets.push(answer["ticket"].as_str().unwrap().to_owned());
    add(record);
    add(send(&world, "GET query", bearer(&pat), "").await.1);
    let body = json!({ "token": pat }).to_string();
    add(send(&world, "DELETE access-token/revoke", no_credentials(), &body).await.1);
    let body = json!({ "token": "validPassword" }).to_string();
    add(send(&world, "DELETE access-token/revoke", no_credentials(), &body).await.1);
    add(send(&world, "POST logout", bearer(&jwt), "").await.1);
    secrets.extend([jwt, pat]);

    // A client may send a password in place of a token. The record must not contain the fingerprint of the password:
    // with this hash, an attacker could test guesses of the password.
    secrets.push(TokenFingerprint::of("validPassword").to_string());
    // In this test, `wrong` is a password. The reason codes `wrong-password` and `wrong-kind` also contain this text.
    let searched = all_records.replace("wrong-password", "").replace("wrong-kind", "");
    for secret in secrets {
        // The records must also not contain a part of a token.
        for part in secret.split('.') {
            assert!(!searched.contains(part), "{part} is in {all_records}");
        }
    }
}
