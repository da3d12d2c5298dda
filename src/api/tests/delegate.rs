//! `POST delegate/passticket`.

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

fn with(world: &World, delegation: Delegation) -> AuthApi {
    world.api(Compatibility::Documented).with_delegation(delegation)
}

fn body(applid: &str, email: &str) -> String {
    serde_json::json!({ "applId": applid, "emailId": email }).to_string()
}

#[tokio::test]
async fn a_permitted_caller_gets_a_ticket_for_the_user_of_the_address() {
    let world = World::new();
    let response = DELEGATE.send_to(with(&world, delegation())).await;
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
async fn each_failure_has_its_status_and_message() {
    let (unknown, protected) =
        (body("ZOWEAPPL", "x@example.com"), body("ZOWEAPPL", "root@example.com"));
    let no_key = body("NOKEY", "user@example.com");
    let two_ats = body("ZOWEAPPL", "user@example.com@evil.example");
    let long = body("ZOWEAPPL", &format!("{}@example.com", "a".repeat(240)));
    let basic = super::basic("user:validPassword");
    let world = World::new();
    let jwt = format!("Bearer {}", world.jwt());
    for (name, asked, want) in [
        ("no certificate", TestRequest { certificate: None, ..DELEGATE }, (401, "ZWEAG167E")),
        (
            "a password is no credential",
            TestRequest { certificate: None, authorization: Some(&basic), ..DELEGATE },
            (401, "ZWEAG167E"),
        ),
        (
            "a token is no credential",
            TestRequest { certificate: None, authorization: Some(&jwt), ..DELEGATE },
            (401, "ZWEAG167E"),
        ),
        (
            "nobody's certificate",
            TestRequest { certificate: Some("no user"), ..DELEGATE },
            (401, "ZWEAG161E"),
        ),
        (
            "not permitted",
            TestRequest { certificate: Some("USER"), ..DELEGATE },
            (403, "ZWEAT403E"),
        ),
        // The permission to revoke is not enough.
        (
            "not an administrator",
            TestRequest { certificate: Some("ADMIN"), ..DELEGATE },
            (403, "ZWEAT403E"),
        ),
        (
            "who may not learns nothing of the body",
            TestRequest { certificate: Some("USER"), body: "{", ..DELEGATE },
            (403, "ZWEAT403E"),
        ),
        (
            "SAF is down",
            TestRequest { certificate: Some("SAFDOWN"), ..DELEGATE },
            (503, "ZWEAG104E"),
        ),
        ("SAF fails", TestRequest { certificate: Some("SAFBAD"), ..DELEGATE }, (500, "ZWEAT603E")),
        ("no body", TestRequest { body: "", ..DELEGATE }, (400, "ZWEAO400E")),
        ("two ats", TestRequest { body: &two_ats, ..DELEGATE }, (400, "ZWEAO400E")),
        ("too long", TestRequest { body: &long, ..DELEGATE }, (400, "ZWEAO400E")),
        ("unmapped", TestRequest { body: &unknown, ..DELEGATE }, (404, "ZWEAG161E")),
        ("protected", TestRequest { body: &protected, ..DELEGATE }, (403, "ZWEAT403E")),
        ("no key", TestRequest { body: &no_key, ..DELEGATE }, (400, "ZWEAG141E")),
        ("GET", TestRequest { method: "GET", ..DELEGATE }, (405, "ZWEAG101E")),
    ] {
        let response = asked.send_to(with(&world, delegation())).await;
        let (status, number) = outcome(&response);
        assert_eq!((status, number.as_str()), want, "{name}");
    }
    // Without client certificates no caller is authenticated.
    let api = world.bare.clone().with_delegation(delegation());
    assert_eq!(outcome(&DELEGATE.send_to(api).await), (401, "ZWEAG167E".to_owned()));
    let old = world.api(Compatibility::ZoweV3).with_delegation(delegation());
    let response = TestRequest { body: "{}", ..DELEGATE }.send_to(old).await;
    assert_eq!((response.status().as_u16(), response.body().len()), (400, 0));
}

/// With replay protection, tickets of both endpoints use the same time slots.
#[tokio::test]
async fn delegated_tickets_use_the_time_slots_of_their_user() {
    let world = World::of(Replay::Protected);
    world.clock.advance(Duration::from_secs(3));
    let of_another =
        |profile| DELEGATE.send_to(with(&world, delegation()).with_compatibility(profile));
    let jwt = format!("Bearer {}", world.jwt());
    let own = TestRequest {
        url: "/gateway/api/v1/auth/ticket",
        authorization: Some(&jwt),
        body: r#"{"applicationName":"ZOWEAPPL"}"#,
        ..DELEGATE
    };
    let mut tickets = std::collections::HashSet::new();
    for (field, response) in [
        ("passticket", of_another(Compatibility::Documented).await),
        ("ticket", own.send_to(world.api(Compatibility::Documented)).await),
        ("passticket", of_another(Compatibility::ZoweV3).await),
    ] {
        assert_eq!(response.status(), 200);
        let answer: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert!(tickets.insert(answer[field].as_str().unwrap().to_owned()));
    }
    world.collected.take();
    for (response, status, end) in [
        (of_another(Compatibility::Documented).await, 503, "that Retry-After tells"),
        (own.send_to(world.api(Compatibility::Documented)).await, 503, "that Retry-After tells"),
        (
            of_another(Compatibility::ZoweV3).await,
            500,
            "Reason: An internal error was encountered.",
        ),
    ] {
        assert_eq!(outcome(&response), (status, "ZWEAG141E".to_owned()));
        assert_eq!(response.headers()["retry-after"], "1");
        assert!(content(&response).ends_with(end), "{}", content(&response));
    }
    let reasons: Vec<_> = world.collected.take().iter().map(|record| record.reason).collect();
    assert_eq!(reasons, [Some(ReasonCode::NoTimeSlot); 3]);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(of_another(Compatibility::Documented).await.status(), 200);
}

#[tokio::test]
async fn grants_allow_only_what_they_name() {
    let only = |name| AllowList::Only([user(name)].into());
    let zowe = || AllowList::Only([applid("ZOWEAPPL")].into());
    let of_subject = |subject: &str| CertificateFilter::subject(subject.parse().unwrap()).unwrap();
    let other = body("ZOWEAPPL", "other@example.com");
    let root = body("ZOWEAPPL", "root@example.com");
    let no_key = body("NOKEY", "user@example.com");
    let all = || Grant::to_user(user("AGENT"), AllowList::Any, AllowList::Any);
    for (name, grant, body, want) in [
        ("allowed", Grant::to_user(user("AGENT"), zowe(), only("USER")), DELEGATE.body, 200),
        ("all", all(), DELEGATE.body, 200),
        (
            "by certificate",
            Grant::to_certificate(of_subject("CN=AGENT"), zowe(), only("USER")),
            DELEGATE.body,
            200,
        ),
        (
            "of another user",
            Grant::to_user(user("OTHER"), AllowList::Any, AllowList::Any),
            DELEGATE.body,
            403,
        ),
        (
            "of another certificate",
            Grant::to_certificate(of_subject("CN=OTHER"), AllowList::Any, AllowList::Any),
            DELEGATE.body,
            403,
        ),
        (
            "another application",
            Grant::to_user(
                user("AGENT"),
                AllowList::Only([applid("IZUDFLT")].into()),
                AllowList::Any,
            ),
            DELEGATE.body,
            403,
        ),
        ("another target", Grant::to_user(user("AGENT"), zowe(), only("USER")), &other, 403),
        (
            "nobody",
            Grant::to_user(user("AGENT"), zowe(), AllowList::Only([].into())),
            DELEGATE.body,
            403,
        ),
        ("protected beats all", all(), &root, 403),
        ("all but no key", all(), &no_key, 400),
    ] {
        let api = with(&World::new(), delegation().with_grants([grant]));
        let response = TestRequest { body, ..DELEGATE }.send_to(api).await;
        assert_eq!(response.status(), want, "{name}");
        if want == 403 {
            // The response does not reveal the user of the address.
            let content = content(&response);
            assert!(!content.contains("OTHER") && !content.contains("IBMUSER"), "{content}");
        }
    }
    // An application of one grant and a user of another are not allowed together.
    let apart = delegation().with_grants([
        Grant::to_user(user("AGENT"), zowe(), only("OTHER")),
        Grant::to_user(user("AGENT"), AllowList::Only([applid("IZUDFLT")].into()), only("USER")),
    ]);
    assert_eq!(DELEGATE.send_to(with(&World::new(), apart)).await.status(), 403);
    // An empty list allows nothing.
    let nobody = delegation().with_grants([]);
    assert_eq!(DELEGATE.send_to(with(&World::new(), nobody)).await.status(), 403);
}

#[tokio::test]
async fn without_audit_log_there_are_no_delegated_tickets() {
    let world = World::new();
    let api = with(&world, delegation());
    world.collected.is_unavailable.store(true, SeqCst);
    // No credential is evaluated.
    for certificate in [Some("AGENT"), Some("USER"), None] {
        let response = TestRequest { certificate, ..DELEGATE }.send_to(api.clone()).await;
        assert_eq!(outcome(&response), (503, "ZWEAG104E".to_owned()), "{certificate:?}");
        assert_eq!(response.extensions().get(), Some(&ApiError::AuditUnavailable));
        let records = world.collected.take();
        assert_eq!(records[0].reason, Some(ReasonCode::AuditUnavailable));
        assert_eq!(records[0].user, None);
    }
    // While delegation is off, the endpoint is unknown, and other endpoints do not need the log.
    let off = DELEGATE.send_to(world.api(Compatibility::Documented)).await;
    assert_eq!(off.status(), 404);
    let basic = super::basic("user:validPassword");
    let login = TestRequest { authorization: Some(&basic), body: "", ..POST_LOGIN };
    assert_eq!(login.send_to(api.clone()).await.status(), 204);
    world.collected.is_unavailable.store(false, SeqCst);
    assert_eq!(DELEGATE.send_to(api).await.status(), 200);
}

#[tokio::test]
async fn calls_of_a_caller_are_limited_per_minute() {
    let world = World::new();
    let two = delegation().with_calls_per_minute(NonZeroU32::new(2).unwrap());
    let api = with(&world, two);
    for want in [200, 200, 429] {
        assert_eq!(DELEGATE.send_to(api.clone()).await.status(), want);
    }
    let refused = DELEGATE.send_to(api.clone()).await;
    assert_eq!(outcome(&refused), (429, "ZWESG429E".to_owned()));
    assert_eq!(refused.headers()["retry-after"], "30");
    // Refused calls count, too, and each caller has their own limit.
    let other = TestRequest { certificate: Some("USER"), ..DELEGATE };
    for want in [403, 403, 429] {
        assert_eq!(other.send_to(api.clone()).await.status(), want);
    }
    world.clock.advance(Duration::from_secs(30));
    for want in [200, 429] {
        assert_eq!(DELEGATE.send_to(api.clone()).await.status(), want);
    }
}

/// Gives the same answer for every address.
struct Says(MapError);

impl DistributedMapper for Says {
    fn map_identity(&self, _: &DistributedIdentity) -> MapFuture {
        Box::pin(ready(Err(self.0.clone())))
    }
}

#[tokio::test]
async fn a_failing_mapper_is_503_and_not_404() {
    for (error, want) in [
        (MapError::NotMapped, (404, "ZWEAG161E")),
        (MapError::Unavailable, (503, "ZWEAG104E")),
        (MapError::Failed("no READ on IRR.IDIDMAP.QUERY".to_owned()), (503, "ZWEAG104E")),
    ] {
        let api = with(&World::new(), Delegation::new(Says(error), registry()));
        let (status, number) = outcome(&DELEGATE.send_to(api).await);
        assert_eq!((status, number.as_str()), want);
    }
}
