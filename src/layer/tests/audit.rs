//! Tests of audit records. The layers write one record for the credential of a routed request, and one record for each
//! call of a scheme. No record contains a secret.

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

/// Returns the fields of a record about the credential: its kind, user, fingerprint and subject.
fn credential_fields(
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
async fn a_success_writes_an_authentication_and_a_ticket_record() {
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
            let (credential, user, token, subject) = credential_fields(record);
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
async fn a_failure_writes_one_record_regardless_of_on_failure() {
    use CredentialKind as Kind;
    use ReasonCode as Reason;
    for on_failure in [OnFailure::Forward, OnFailure::ForwardUnchanged, OnFailure::Reject] {
        let world = World::with(on_failure);
        let (revoked_jwt, valid_jwt) = (world.jwt(), world.jwt());
        let (revoked_pat, pat_for_jobs) = (world.pat("files"), world.pat("jobs"));
        let (signed, signature) = revoked_jwt.rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { "B" } else { "A" };
        let tampered = format!("{signed}.{first}{}", &signature[1..]);
        let user = UserId::new("USER").unwrap();
        let expires_at = Timestamp::from_secs(NOW + 1_000_000);
        for token in [&revoked_pat, &revoked_jwt] {
            let token = TokenFingerprint::of(token);
            world.revocations.apply(&Revocation::Token { token, expires_at });
        }

        // The expected user and fingerprint.
        let unknown = || (None::<&str>, None::<TokenFingerprint>);
        let known = |token: &str| (Some("USER"), fingerprint(token));
        let with_header = |name: &'static str, value: &str| get(FILES, &[(name, value)]);
        let mut with_unmapped = get(FILES, &[]);
        with_unmapped.extensions_mut().insert(certificate("Zowe Service"));
        let bearer = |token: &str| format!("Bearer {token}");
        let mut with_expired = get(FILES, &[]);
        with_expired.extensions_mut().insert(expired_certificate());
        let cases = vec![
            (get(FILES, &[]), Reason::NoCredential, Kind::None, unknown()),
            (
                with_header("authorization", "Bearer garbage"),
                Reason::TokenMalformed,
                Kind::Token,
                unknown(),
            ),
            (
                with_header("private-token", "\u{e9}"),
                Reason::TokenMalformed,
                Kind::Token,
                unknown(),
            ),
            (
                with_header("authorization", &bearer(&tampered)),
                Reason::TokenSignature,
                Kind::Token,
                unknown(),
            ),
            (
                with_header("private-token", &valid_jwt),
                Reason::WrongKind,
                Kind::LoginToken,
                known(&valid_jwt),
            ),
            (
                with_header("authorization", &bearer(&revoked_jwt)),
                Reason::TokenRevoked,
                Kind::LoginToken,
                known(&revoked_jwt),
            ),
            (
                with_header("private-token", &revoked_pat),
                Reason::TokenRevoked,
                Kind::PersonalAccessToken,
                known(&revoked_pat),
            ),
            (
                with_header("private-token", &pat_for_jobs),
                Reason::OutOfScope,
                Kind::PersonalAccessToken,
                known(&pat_for_jobs),
            ),
            (with_unmapped, Reason::NoUser, Kind::Certificate, unknown()),
            (with_expired, Reason::CertificateExpired, Kind::Certificate, unknown()),
        ];
        let check = |records: &[AuditRecord], reason: Reason, kind, want: (Option<&str>, _)| {
            let [record] = records else { panic!("expected one record, {reason}: {records:?}") };
            assert_eq!(record.event, Event::Authentication);
            assert_eq!((record.outcome, record.reason), (Outcome::Refused, Some(reason)));
            let (credential, user, token, subject) = credential_fields(record);
            assert_eq!((credential, user, token), (Some(kind), want.0, want.1), "{reason}");
            assert_eq!(subject.is_some(), kind == Kind::Certificate);
            assert_eq!(record.service.as_ref().map(ServiceId::as_str), Some("files"));
        };
        for (request, reason, kind, want) in cases {
            world.exchange(request).await;
            check(&world.collected.take(), reason, kind, want);
        }

        for (rule, reason) in [
            (Revocation::User { user, up_to: world.clock.now() }, Reason::RevokedByUserRule),
            (
                Revocation::Service {
                    service: ServiceId::new("files").unwrap(),
                    up_to: world.clock.now(),
                },
                Reason::RevokedByServiceRule,
            ),
        ] {
            let world = World::with(on_failure);
            let pat = world.pat("files");
            world.revocations.apply(&rule);
            world.exchange(with_header("private-token", &pat)).await;
            check(&world.collected.take(), reason, Kind::PersonalAccessToken, known(&pat));
        }

        world.clock.advance(Duration::from_secs(9 * 3600));
        world.exchange(with_header("authorization", &bearer(&valid_jwt))).await;
        check(&world.collected.take(), Reason::TokenExpired, Kind::Token, unknown());
    }
}

#[tokio::test]
async fn a_failed_ticket_writes_a_second_record() {
    let world = World::new();
    let bearer = format!("Bearer {}", world.jwt());
    world.exchange(get("/nokey/api/v1/x", &[("authorization", &bearer)])).await;
    let records = world.collected.take();
    let [authentication, ticket] = &records[..] else {
        panic!("expected two records: {records:?}")
    };
    assert_eq!(authentication.outcome, Outcome::Success);
    assert_eq!((ticket.event, ticket.outcome), (Event::Ticket, Outcome::Error));
    assert_eq!(ticket.reason, Some(ReasonCode::NoKeyProfile));
    assert_eq!(ticket.codes, Some(SafReturnCodes::NO_PROFILE));
    assert_eq!(ticket.applid.as_ref().map(Applid::as_str), Some("NOKEY"));
    assert_eq!(ticket.user.as_ref().map(UserId::as_str), Some("USER"));
}

#[tokio::test]
async fn bypassed_and_unrouted_requests_are_not_recorded() {
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
    let (jwt, pat, pat_for_jobs) = (world.jwt(), world.pat("files"), world.pat("jobs"));
    let mut secrets = vec![jwt.clone(), pat.clone(), pat_for_jobs.clone()];
    for token in [&jwt, &pat, &pat_for_jobs] {
        let bearer = format!("Bearer {token}");
        let exchange = world.exchange(get(FILES, &[("authorization", &bearer)])).await;
        if let Some(basic) = exchange.received("authorization") {
            let basic = basic.strip_prefix("Basic ").unwrap().to_owned();
            let plain = String::from_utf8(BASE64_STANDARD.decode(&basic).unwrap()).unwrap();
            secrets.extend([basic, plain.split_once(':').unwrap().1.to_owned()]);
        }
    }
    // Three tokens, and two PassTickets in two forms: as a `Basic` value and in plain text.
    assert_eq!(secrets.len(), 7);
    let records = world.collected.take();
    // Each of the two valid tokens causes two records. The PAT that is out of scope causes one.
    assert_eq!(records.len(), 5);
    let text: String = records.iter().map(|r| r.to_json() + &format!("{r:?}")).collect();
    for secret in secrets {
        // A record must also not contain the payload of a token.
        let payload = secret.split('.').nth(1).unwrap_or(&secret);
        assert!(!text.contains(payload), "{secret} is in {text}");
    }
}
