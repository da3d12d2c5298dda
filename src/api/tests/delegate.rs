//! Tests of `POST delegate/passticket`, which issues PassTickets (one-time passwords of z/OS) for other users.

use std::{future::ready, num::NonZeroU32, sync::atomic::Ordering::SeqCst, time::Duration};

use test_support::tickets::{applid, key_profile, user};

use super::{Compatibility, POST_LOGIN, TestRequest, World, content, outcome};
use crate::{
    api::{AllowList, ApiError, AuthApi, Delegation, Grant},
    audit::ReasonCode,
    clock::Clock,
    identity::{
        CertificateFilter, DistributedIdentity, DistributedMap, DistributedMapper, MapError,
        MapFuture, Registry,
    },
    passticket::{PassTicket, Replay},
};

const DELEGATE: TestRequest<'_> = TestRequest {
    url: "/gateway/api/v1/auth/delegate/passticket",
    certificate: Some("AGENT"),
    body: r#"{"applId":"ZOWEAPPL","emailId":"User@Example.com"}"#,
    ..POST_LOGIN
};

fn registry() -> Registry {
    Registry::new("ldaps://us.example.com").unwrap()
}

fn delegation() -> Delegation {
    let entries = [
        ("user@example.com", "USER"),
        ("root@example.com", "IBMUSER"),
        ("other@example.com", "OTHER"),
    ];
    let entries = entries.map(|(email, name)| {
        (DistributedIdentity::in_registry(email, &registry()).unwrap(), user(name))
    });
    Delegation::new(DistributedMap::new(entries).unwrap(), registry())
        .with_protected(user("IBMUSER"))
}

fn api_with(world: &World, delegation: Delegation) -> AuthApi {
    world.api(Compatibility::Documented).with_delegation(delegation)
}

fn body(applid: &str, email: &str) -> String {
    serde_json::json!({ "applId": applid, "emailId": email }).to_string()
}

#[tokio::test]
async fn a_permitted_caller_gets_a_ticket_for_the_user_of_the_address() {
    let world = World::new();
    let response = DELEGATE.send_to(api_with(&world, delegation())).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["cache-control"], "no-store");
    let answer: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(answer["tsoUserid"], "USER");
    assert_eq!(answer.as_object().unwrap().len(), 2);
    let key = key_profile("ZOWEAPPL");
    let ticket = PassTicket::parse(answer["passticket"].as_str().unwrap()).unwrap();
    assert!(key.evaluate(&user("USER"), &ticket, world.clock.now()).is_ok());
}

#[tokio::test]
async fn delegation_is_off_by_default() {
    let response = DELEGATE.send_to(World::new().api(Compatibility::Documented)).await;
    assert_eq!(outcome(&response), (404, "ZWEAO404E".to_owned()));
}

#[tokio::test]
async fn each_failure_has_a_status_and_a_message_number() {
    let (unknown, protected) =
        (body("ZOWEAPPL", "x@example.com"), body("ZOWEAPPL", "root@example.com"));
    let no_key = body("NOKEY", "user@example.com");
    let two_ats = body("ZOWEAPPL", "user@example.com@evil.example");
    let long = body("ZOWEAPPL", &format!("{}@example.com", "a".repeat(240)));
    let basic = super::basic("user:validPassword");
    let world = World::new();
    let jwt = format!("Bearer {}", world.jwt());
    for (name, request, want) in [
        ("no certificate", TestRequest { certificate: None, ..DELEGATE }, (401, "ZWEAG167E")),
        (
            "Basic is not accepted",
            TestRequest { certificate: None, authorization: Some(&basic), ..DELEGATE },
            (401, "ZWEAG167E"),
        ),
        (
            "a login token is not accepted",
            TestRequest { certificate: None, authorization: Some(&jwt), ..DELEGATE },
            (401, "ZWEAG167E"),
        ),
        (
            "a certificate that is mapped to no user",
            TestRequest { certificate: Some("no user"), ..DELEGATE },
            (401, "ZWEAG161E"),
        ),
        (
            "no permission",
            TestRequest { certificate: Some("USER"), ..DELEGATE },
            (403, "ZWEAT403E"),
        ),
        (
            "only the permission to revoke tokens",
            TestRequest { certificate: Some("ADMIN"), ..DELEGATE },
            (403, "ZWEAT403E"),
        ),
        (
            "no permission, malformed body",
            TestRequest { certificate: Some("USER"), body: "{", ..DELEGATE },
            (403, "ZWEAT403E"),
        ),
        (
            "SAF not available",
            TestRequest { certificate: Some("SAFDOWN"), ..DELEGATE },
            (503, "ZWEAG104E"),
        ),
        (
            "SAF gives no decision",
            TestRequest { certificate: Some("SAFBAD"), ..DELEGATE },
            (500, "ZWEAT603E"),
        ),
        ("empty body", TestRequest { body: "", ..DELEGATE }, (400, "ZWEAO400E")),
        ("address with two @", TestRequest { body: &two_ats, ..DELEGATE }, (400, "ZWEAO400E")),
        ("address too long", TestRequest { body: &long, ..DELEGATE }, (400, "ZWEAO400E")),
        (
            "address that is mapped to no user",
            TestRequest { body: &unknown, ..DELEGATE },
            (404, "ZWEAG161E"),
        ),
        (
            "address of a protected user",
            TestRequest { body: &protected, ..DELEGATE },
            (403, "ZWEAT403E"),
        ),
        ("no key for the APPLID", TestRequest { body: &no_key, ..DELEGATE }, (400, "ZWEAG141E")),
        ("wrong method", TestRequest { method: "GET", ..DELEGATE }, (405, "ZWEAG101E")),
    ] {
        let response = request.send_to(api_with(&world, delegation())).await;
        let (status, number) = outcome(&response);
        assert_eq!((status, number.as_str()), want, "{name}");
    }
    let api = world.minimal.clone().with_delegation(delegation());
    assert_eq!(outcome(&DELEGATE.send_to(api).await), (401, "ZWEAG167E".to_owned()));
    let zowe_v3 = world.api(Compatibility::ZoweV3).with_delegation(delegation());
    let response = TestRequest { body: "{}", ..DELEGATE }.send_to(zowe_v3).await;
    assert_eq!((response.status().as_u16(), response.body().len()), (400, 0));
}

/// With replay protection, each user gets one PassTicket in each time slot of one second, from `ticket` and
/// `delegate/passticket` together.
#[tokio::test]
async fn delegated_tickets_use_the_time_slots_of_their_user() {
    let world = World::with_replay(Replay::Protected);
    world.clock.advance(Duration::from_secs(3));
    let delegated =
        |profile| DELEGATE.send_to(api_with(&world, delegation()).with_compatibility(profile));
    let jwt = format!("Bearer {}", world.jwt());
    let own = TestRequest {
        url: "/gateway/api/v1/auth/ticket",
        authorization: Some(&jwt),
        body: r#"{"applicationName":"ZOWEAPPL"}"#,
        ..DELEGATE
    };
    let mut tickets = std::collections::HashSet::new();
    for (field, response) in [
        ("passticket", delegated(Compatibility::Documented).await),
        ("ticket", own.send_to(world.api(Compatibility::Documented)).await),
        ("passticket", delegated(Compatibility::ZoweV3).await),
    ] {
        assert_eq!(response.status(), 200);
        let answer: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert!(tickets.insert(answer[field].as_str().unwrap().to_owned()));
    }
    world.collected.take();
    for (response, status, end_of_text) in [
        (delegated(Compatibility::Documented).await, 503, "seconds in Retry-After"),
        (own.send_to(world.api(Compatibility::Documented)).await, 503, "seconds in Retry-After"),
        (delegated(Compatibility::ZoweV3).await, 500, "Reason: An internal error was encountered."),
    ] {
        assert_eq!(outcome(&response), (status, "ZWEAG141E".to_owned()));
        assert_eq!(response.headers()["retry-after"], "1");
        assert!(content(&response).ends_with(end_of_text), "{}", content(&response));
    }
    let reasons: Vec<_> = world.collected.take().iter().map(|record| record.reason).collect();
    assert_eq!(reasons, [Some(ReasonCode::NoTimeSlot); 3]);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(delegated(Compatibility::Documented).await.status(), 200);
}

#[tokio::test]
async fn grants_allow_only_what_they_name() {
    let only_user = |name| AllowList::Only([user(name)].into());
    let only_zoweappl = || AllowList::Only([applid("ZOWEAPPL")].into());
    let with_subject =
        |subject: &str| CertificateFilter::subject(subject.parse().unwrap()).unwrap();
    let other = body("ZOWEAPPL", "other@example.com");
    let root = body("ZOWEAPPL", "root@example.com");
    let no_key = body("NOKEY", "user@example.com");
    let grant_for_everything = || Grant::to_user(user("AGENT"), AllowList::Any, AllowList::Any);
    // Each case contains a description of the grant, the grant, the body of the request, and the status.
    for (name, grant, body, want) in [
        (
            "application and user",
            Grant::to_user(user("AGENT"), only_zoweappl(), only_user("USER")),
            DELEGATE.body,
            200,
        ),
        ("everything", grant_for_everything(), DELEGATE.body, 200),
        (
            "to the certificate",
            Grant::to_certificate(with_subject("CN=AGENT"), only_zoweappl(), only_user("USER")),
            DELEGATE.body,
            200,
        ),
        (
            "to another user",
            Grant::to_user(user("OTHER"), AllowList::Any, AllowList::Any),
            DELEGATE.body,
            403,
        ),
        (
            "to another certificate",
            Grant::to_certificate(with_subject("CN=OTHER"), AllowList::Any, AllowList::Any),
            DELEGATE.body,
            403,
        ),
        (
            "only another application",
            Grant::to_user(
                user("AGENT"),
                AllowList::Only([applid("IZUDFLT")].into()),
                AllowList::Any,
            ),
            DELEGATE.body,
            403,
        ),
        (
            "only another user",
            Grant::to_user(user("AGENT"), only_zoweappl(), only_user("USER")),
            &other,
            403,
        ),
        (
            "no users",
            Grant::to_user(user("AGENT"), only_zoweappl(), AllowList::Only([].into())),
            DELEGATE.body,
            403,
        ),
        ("everything, but the user is protected", grant_for_everything(), &root, 403),
        ("everything, but no key for the APPLID", grant_for_everything(), &no_key, 400),
    ] {
        let api = api_with(&World::new(), delegation().with_grants([grant]));
        let response = TestRequest { body, ..DELEGATE }.send_to(api).await;
        assert_eq!(response.status(), want, "{name}");
        if want == 403 {
            // The response must not contain the user id to which the e-mail address is mapped.
            let content = content(&response);
            assert!(!content.contains("OTHER") && !content.contains("IBMUSER"), "{content}");
        }
    }
    // One grant must allow both the application and the user. Two grants, one for each, are not enough.
    let two_grants = delegation().with_grants([
        Grant::to_user(user("AGENT"), only_zoweappl(), only_user("OTHER")),
        Grant::to_user(
            user("AGENT"),
            AllowList::Only([applid("IZUDFLT")].into()),
            only_user("USER"),
        ),
    ]);
    assert_eq!(DELEGATE.send_to(api_with(&World::new(), two_grants)).await.status(), 403);
    let no_grants = delegation().with_grants([]);
    assert_eq!(DELEGATE.send_to(api_with(&World::new(), no_grants)).await.status(), 403);
}

#[tokio::test]
async fn no_delegated_tickets_while_the_audit_log_cannot_be_written() {
    let world = World::new();
    let api = api_with(&world, delegation());
    world.collected.is_unavailable.store(true, SeqCst);
    // Without the audit log, the endpoint evaluates no credential.
    for certificate in [Some("AGENT"), Some("USER"), None] {
        let response = TestRequest { certificate, ..DELEGATE }.send_to(api.clone()).await;
        assert_eq!(outcome(&response), (503, "ZWEAG104E".to_owned()), "{certificate:?}");
        assert_eq!(response.extensions().get(), Some(&ApiError::AuditUnavailable));
        let records = world.collected.take();
        assert_eq!(records[0].reason, Some(ReasonCode::AuditUnavailable));
        assert_eq!(records[0].user, None);
    }
    // If delegation is off, the status is 404. Other endpoints, such as `login`, work without the audit log.
    let response = DELEGATE.send_to(world.api(Compatibility::Documented)).await;
    assert_eq!(response.status(), 404);
    let basic = super::basic("user:validPassword");
    let login = TestRequest { authorization: Some(&basic), body: "", ..POST_LOGIN };
    assert_eq!(login.send_to(api.clone()).await.status(), 204);
    world.collected.is_unavailable.store(false, SeqCst);
    assert_eq!(DELEGATE.send_to(api).await.status(), 200);
}

#[tokio::test]
async fn calls_of_a_caller_are_limited_per_minute() {
    let world = World::new();
    let two_calls = delegation().with_calls_per_minute(NonZeroU32::new(2).unwrap());
    let api = api_with(&world, two_calls);
    for want in [200, 200, 429] {
        assert_eq!(DELEGATE.send_to(api.clone()).await.status(), want);
    }
    let refused = DELEGATE.send_to(api.clone()).await;
    assert_eq!(outcome(&refused), (429, "ZWESG429E".to_owned()));
    // `Retry-After` is at most 10 s. The message contains the whole time that the caller must wait.
    assert_eq!(refused.headers()["retry-after"], "10");
    assert!(refused.body().windows(4).any(|text| text == b"30 s"), "{:?}", refused.body());
    // Each caller has a separate limit. A call that gets 403 also counts.
    let other = TestRequest { certificate: Some("USER"), ..DELEGATE };
    for want in [403, 403, 429] {
        assert_eq!(other.send_to(api.clone()).await.status(), want);
    }
    world.clock.advance(Duration::from_secs(30));
    for want in [200, 429] {
        assert_eq!(DELEGATE.send_to(api.clone()).await.status(), want);
    }
}

struct FailingMapper(MapError);

impl DistributedMapper for FailingMapper {
    fn map_identity(&self, _: &DistributedIdentity) -> MapFuture {
        Box::pin(ready(Err(self.0.clone())))
    }
}

#[tokio::test]
async fn an_unmapped_address_gets_404_and_a_failing_mapper_causes_503() {
    for (error, want) in [
        (MapError::NotMapped, (404, "ZWEAG161E")),
        (MapError::Unavailable, (503, "ZWEAG104E")),
        (MapError::Failed("no READ on IRR.IDIDMAP.QUERY".to_owned()), (503, "ZWEAG104E")),
    ] {
        let api = api_with(&World::new(), Delegation::new(FailingMapper(error), registry()));
        let (status, number) = outcome(&DELEGATE.send_to(api).await);
        assert_eq!((status, number.as_str()), want);
    }
}
