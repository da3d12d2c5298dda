//! Audit records of the layers: one for the credential of a routed request, one for each call of a scheme,
//! and no secret.

use super::*;
use crate::{
    audit::{AuditRecord, CredentialKind, Event, Outcome, ReasonCode, RequestId},
    connection::{ConnectionInfo, Protocol},
    revocation::RevokedBy,
    token::TokenError,
};

#[test]
fn each_failure_has_its_reason_code() {
    let no_profile = GenerateError::new(
        UserId::new("USER").unwrap(),
        Applid::new("ZOWEAPPL").unwrap(),
        SafReturnCodes::NO_PROFILE,
    );
    let service = ServiceId::new("a").unwrap();
    for (failure, want) in [
        (Failure::NoCredential, ReasonCode::NoCredential),
        (Failure::WrongKind, ReasonCode::WrongKind),
        (TokenError::Signature.into(), ReasonCode::TokenSignature),
        (CheckError::Revoked(RevokedBy::UserRule).into(), ReasonCode::RevokedByUserRule),
        (MapError::NotMapped.into(), ReasonCode::NoUser),
        (Failure::OutOfScope { service }, ReasonCode::OutOfScope),
        (no_profile.into(), ReasonCode::NoKeyProfile),
    ] {
        assert_eq!(ReasonCode::from(&failure), want, "{failure}");
    }
}

fn fingerprint(token: &str) -> Option<TokenFingerprint> {
    Some(TokenFingerprint::of(token))
}

/// The credential and its owner in a record.
fn who(
    record: &AuditRecord,
) -> (Option<CredentialKind>, Option<&str>, Option<TokenFingerprint>, Option<&str>) {
    (
        record.credential,
        record.user.as_ref().map(UserId::as_str),
        record.token_id,
        record.certificate.as_ref().map(PeerCertificate::subject),
    )
}

#[tokio::test]
async fn a_success_is_recorded_as_authentication_and_ticket() {
    let world = World::new();
    let (jwt, pat) = (world.jwt(), world.pat("files"));
    let bearer = format!("Bearer {jwt}");
    let mut with_certificate = get(FILES, &[]);
    with_certificate.extensions_mut().insert(certificate("user"));
    let user = Some("USER");
    let subject = "CN=user";
    let cases = [
        (
            get(FILES, &[("authorization", &bearer)]),
            (Some(CredentialKind::LoginToken), user, fingerprint(&jwt), None),
        ),
        (
            get(FILES, &[("private-token", &pat)]),
            (Some(CredentialKind::PersonalAccessToken), user, fingerprint(&pat), None),
        ),
        (with_certificate, (Some(CredentialKind::Certificate), user, None, Some(subject))),
    ];
    for (mut request, want) in cases {
        let id = RequestId::next();
        let peer = "192.0.2.7:555".parse().unwrap();
        let local = "192.0.2.1:443".parse().unwrap();
        request.extensions_mut().insert(id);
        request.extensions_mut().insert(ConnectionInfo::new(peer, local, Protocol::Https));
        world.exchange(request).await;
        let records = world.collected.take();
        let events: Vec<_> = records.iter().map(|record| record.event).collect();
        assert_eq!(events, [Event::Authentication, Event::Ticket]);
        for record in &records {
            let (credential, user, token, subject) = who(record);
            assert_eq!((credential, user, token), (want.0, want.1, want.2));
            assert_eq!(subject.is_some(), want.3.is_some());
            assert!(subject.is_none_or(|subject| subject.contains("CN=user")), "{subject:?}");
            assert_eq!((record.outcome, record.reason), (Outcome::Success, None));
            assert_eq!((record.request_id, record.peer), (Some(id), Some(peer)));
            assert_eq!(record.time, Timestamp::from_secs(NOW));
            assert_eq!(record.service.as_ref().map(ServiceId::as_str), Some("files"));
        }
        assert_eq!(records[0].applid, None);
        assert_eq!(records[1].applid.as_ref().map(Applid::as_str), Some("ZOWEAPPL"));
    }
}

#[tokio::test]
async fn a_failure_is_one_record_in_each_failure_mode() {
    use CredentialKind as Is;
    use ReasonCode as Why;
    for on_failure in [OnFailure::Forward, OnFailure::ForwardUnchanged, OnFailure::Reject] {
        let world = World::with(on_failure);
        let (jwt, pat, foreign) = (world.jwt(), world.pat("files"), world.pat("jobs"));
        let (by_itself, by_user, later) = (world.pat("files"), world.pat("files"), world.jwt());
        let (signed, signature) = jwt.rsplit_once('.').unwrap();
        let other = if signature.starts_with('A') { "B" } else { "A" };
        let tampered = format!("{signed}.{other}{}", &signature[1..]);
        let user = UserId::new("USER").unwrap();
        let expires_at = Timestamp::from_secs(NOW + 1_000_000);
        for token in [&by_itself, &jwt] {
            let token = TokenFingerprint::of(token);
            world.revocations.apply(&Revocation::Token { token, expires_at });
        }

        let none = || (None::<&str>, None::<TokenFingerprint>);
        let known = |token: &str| (Some("USER"), fingerprint(token));
        let token = |name: &'static str, value: &str| get(FILES, &[(name, value)]);
        let shown = |name: &str| {
            let mut request = get(FILES, &[]);
            request.extensions_mut().insert(certificate(name));
            request
        };
        let bearer = |token: &str| format!("Bearer {token}");
        let mut with_expired = get(FILES, &[]);
        with_expired.extensions_mut().insert(expired_certificate());
        let cases = vec![
            (get(FILES, &[]), Why::NoCredential, Is::None, none()),
            (token("authorization", "Bearer garbage"), Why::TokenMalformed, Is::Token, none()),
            (token("private-token", "\u{e9}"), Why::TokenMalformed, Is::Token, none()),
            (token("authorization", &bearer(&tampered)), Why::TokenSignature, Is::Token, none()),
            (token("private-token", &later), Why::WrongKind, Is::LoginToken, known(&later)),
            (token("authorization", &bearer(&jwt)), Why::TokenRevoked, Is::LoginToken, known(&jwt)),
            (
                token("private-token", &by_itself),
                Why::TokenRevoked,
                Is::PersonalAccessToken,
                known(&by_itself),
            ),
            (
                token("private-token", &foreign),
                Why::OutOfScope,
                Is::PersonalAccessToken,
                known(&foreign),
            ),
            (shown("Zowe Service"), Why::NoUser, Is::Certificate, none()),
            (with_expired, Why::CertificateExpired, Is::Certificate, none()),
        ];
        let check = |records: &[AuditRecord], why: Why, is, known: (Option<&str>, _)| {
            let [record] = records else { panic!("{why}: {records:?}") };
            assert_eq!(record.event, Event::Authentication);
            assert_eq!((record.outcome, record.reason), (Outcome::Refused, Some(why)));
            let (credential, user, token, subject) = who(record);
            assert_eq!((credential, user, token), (Some(is), known.0, known.1), "{why}");
            assert_eq!(subject.is_some(), is == Is::Certificate);
            assert_eq!(record.service.as_ref().map(ServiceId::as_str), Some("files"));
        };
        for (request, why, is, known) in cases {
            world.exchange(request).await;
            check(&world.collected.take(), why, is, known);
        }

        for (rule, why) in [
            (Revocation::User { user, up_to: world.clock.now() }, Why::RevokedByUserRule),
            (
                Revocation::Service {
                    service: ServiceId::new("files").unwrap(),
                    up_to: world.clock.now(),
                },
                Why::RevokedByServiceRule,
            ),
        ] {
            let world = World::with(on_failure);
            let pat = if matches!(rule, Revocation::User { .. }) { &by_user } else { &pat };
            world.revocations.apply(&rule);
            world.exchange(token("private-token", pat)).await;
            check(&world.collected.take(), why, Is::PersonalAccessToken, known(pat));
        }

        world.clock.advance(Duration::from_secs(9 * 3600));
        world.exchange(token("authorization", &bearer(&later))).await;
        check(&world.collected.take(), Why::TokenExpired, Is::Token, none());
    }
}

#[tokio::test]
async fn a_failed_ticket_is_recorded_after_the_authentication() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.jwt());
    world.exchange(get("/nokey/api/v1/x", &[("authorization", &bearer)])).await;
    let records = world.collected.take();
    let [authentication, ticket] = &records[..] else { panic!("{records:?}") };
    assert_eq!(authentication.outcome, Outcome::Success);
    assert_eq!((ticket.event, ticket.outcome), (Event::Ticket, Outcome::Error));
    assert_eq!(ticket.reason, Some(ReasonCode::NoKeyProfile));
    assert_eq!(ticket.codes, Some(SafReturnCodes::NO_PROFILE));
    assert_eq!(ticket.applid.as_ref().map(Applid::as_str), Some("NOKEY"));
    assert_eq!(ticket.user.as_ref().map(UserId::as_str), Some("USER"));
}

#[tokio::test]
async fn requests_without_a_decision_are_not_recorded() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.jwt());
    for path in ["/open/api/v1/x", "/unknown/api/v1/x", "/files/api/v1/../x"] {
        world.exchange(get(path, &[("authorization", &bearer)])).await;
        assert!(world.collected.take().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn no_record_contains_a_token_or_a_ticket() {
    let world = World::new();
    let (jwt, pat, foreign) = (world.jwt(), world.pat("files"), world.pat("jobs"));
    let mut secrets = vec![jwt.clone(), pat.clone(), foreign.clone()];
    for token in [&jwt, &pat, &foreign] {
        let bearer = format!("Bearer {token}");
        let exchange = world.exchange(get(FILES, &[("authorization", &bearer)])).await;
        if let Some(basic) = exchange.sent("authorization") {
            let basic = basic.strip_prefix("Basic ").unwrap().to_owned();
            let plain = String::from_utf8(BASE64_STANDARD.decode(&basic).unwrap()).unwrap();
            secrets.extend([basic, plain.split_once(':').unwrap().1.to_owned()]);
        }
    }
    assert_eq!(secrets.len(), 7);
    let records = world.collected.take();
    assert_eq!(records.len(), 5);
    let said = records.iter().map(|r| r.to_json() + &format!("{r:?}"));
    let said: String = said.collect();
    for secret in secrets {
        // The payload alone is not a token, but it has no place in a record.
        let payload = secret.split('.').nth(1).unwrap_or(&secret);
        assert!(!said.contains(payload), "{secret} is in {said}");
    }
}
