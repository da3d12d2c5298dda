//! Tests of the breaker, with the functions that an authentication scheme and the proxy call.

use std::{future::ready, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::task::JoinSet;

use super::super::{
    RefusedStatuses, Reserved, SharedOutcome, SharedRefusal, SharedRefusals, SharedRefusalsError,
    SharedRefusalsFuture, SharedTicket, TicketBreaker, TicketLimits,
    permit::Sent,
    route_tickets::{RouteTickets, Tried},
};
use crate::{
    audit::{Audit, Collected},
    clock::{ManualClock, Timestamp},
    passticket::{
        Algorithm, Applid, GenerateError, KeyProfile, KeyProfiles, LocalGenerator,
        PassTicketGenerator, Qualifier, Replay, SafReturnCodes, UserId,
    },
};

const PREFIX: &str = "/svc/api/v1";

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn applid() -> Applid {
    Applid::new("ZOWEAPPL").unwrap()
}

fn profile(key: &str) -> KeyProfile {
    let profile = KeyProfile::from_hex(applid(), Algorithm::Legacy, key).unwrap();
    profile.with_replay(Replay::Allowed)
}

struct World {
    breaker: TicketBreaker,
    route: RouteTickets,
    clock: Arc<ManualClock>,
}

impl World {
    fn new() -> Self {
        Self::with([profile("F90F48F03C28DC86")], RefusedStatuses::default())
    }

    fn with<const N: usize>(profiles: [KeyProfile; N], refused: RefusedStatuses) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
        let profiles = KeyProfiles::new(profiles).unwrap();
        let breaker = TicketBreaker::with_clock(profiles, TicketLimits::default(), clock.clone());
        let route = RouteTickets::new(&breaker, applid(), PREFIX, refused);
        Self { breaker, route, clock }
    }

    fn wait(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
        self.breaker.tick();
    }

    fn try_now(&self, name: &str, path: &str) -> Option<Sent> {
        match self
            .route
            .try_now(user(name), self.route.class(&Method::GET, &format!("{PREFIX}{path}")))
        {
            Tried::Send(sent) => {
                sent.set_sent();
                Some(sent)
            }
            Tried::Wait | Tried::Stopped(_) => None,
        }
    }

    fn error(&self, name: &str, path: &str) -> GenerateError {
        match self
            .route
            .try_now(user(name), self.route.class(&Method::GET, &format!("{PREFIX}{path}")))
        {
            Tried::Stopped(error) => error,
            Tried::Send(_) | Tried::Wait => panic!("the ticket is not stopped"),
        }
    }

    fn answered(&self, name: &str, sent: &Sent, status: u16, headers: &HeaderMap) -> bool {
        let status = StatusCode::from_u16(status).unwrap();
        self.route.answered(user(name), sent.watched, status, headers, || Some(sent))
    }

    fn answer(&self, name: &str, sent: &Sent, status: u16) -> bool {
        self.answered(name, sent, status, &HeaderMap::new())
    }

    fn request(&self, name: &str, path: &str, status: u16) -> bool {
        let Some(sent) = self.try_now(name, path) else { return false };
        self.answer(name, &sent, status);
        true
    }
}

#[tokio::test]
async fn of_30_requests_at_the_same_time_one_sends_a_wrong_ticket() {
    let world = World::new();
    let mut requests = JoinSet::new();
    for number in 0..30 {
        let route = world.route.clone();
        requests.spawn(async move {
            let class = route.class(&Method::GET, &format!("{PREFIX}/path{number}"));
            let sent = match route.try_now(user("USER"), class) {
                Tried::Send(sent) => Ok(sent),
                Tried::Wait => route.clone().wait(user("USER"), class).await,
                Tried::Stopped(error) => Err(error),
            };
            let Ok(sent) = sent else { return false };
            sent.set_sent();
            tokio::task::yield_now().await;
            let (status, headers) = (StatusCode::UNAUTHORIZED, HeaderMap::new());
            route.answered(user("USER"), sent.watched, status, &headers, || Some(&sent));
            true
        });
    }
    let sent = requests.join_all().await;
    assert_eq!(sent.iter().filter(|sent| **sent).count(), 1);
}

#[tokio::test]
async fn requests_wait_for_the_first_answer_and_all_go_on_if_it_is_good() {
    let world = World::new();
    let first = world.try_now("USER", "/jobs/1").unwrap();
    let class = world.route.class(&Method::GET, &format!("{PREFIX}/jobs/2"));
    let mut waiting = JoinSet::new();
    for _ in 0..30 {
        waiting.spawn(world.route.clone().wait(user("USER"), class));
    }
    tokio::task::yield_now().await;
    assert!(waiting.try_join_next().is_none());
    world.answer("USER", &first, 200);
    let sent = waiting.join_all().await;
    assert!(sent.iter().all(|sent| sent.as_ref().is_ok_and(|sent| sent.permit.is_none())));
}

#[test]
fn proven_paths_need_no_decision_for_ten_minutes() {
    let world = World::new();
    assert!(world.request("USER", "/jobs/1", 200));
    let open = ["/jobs/1", "/jobs/2"].map(|path| world.try_now("USER", path).unwrap());
    assert!(open.iter().all(|sent| sent.permit.is_none()));
    let other = world.try_now("USER", "/files").unwrap();
    assert!(other.permit.is_some());
    assert!(world.try_now("USER", "/files").is_none());
    drop(other);
    world.wait(599);
    assert!(world.request("USER", "/jobs/1", 200));
    world.wait(539);
    assert!(world.try_now("USER", "/jobs/1").unwrap().permit.is_none());
    world.wait(60);
    assert!(world.try_now("USER", "/jobs/1").unwrap().permit.is_some());
}

#[test]
fn a_success_proves_nothing_about_other_paths() {
    let world = World::new();
    // The files of a web page need no ticket. The requests of its scripts need one.
    assert!(world.request("USER", "/assets/a.js", 200));
    let sent = world.try_now("USER", "/jobs").unwrap();
    assert!((0..30).all(|_| world.try_now("USER", "/jobs").is_none()));
    assert!(world.answer("USER", &sent, 401));
    assert!(world.try_now("USER", "/jobs").is_none());
    assert!(world.try_now("USER", "/assets/b.js").is_some());
}

#[test]
fn a_success_of_options_proves_nothing_about_other_methods() {
    // Services answer a preflight request of CORS without a check of the ticket.
    let world = World::new();
    let class = |method| world.route.class(&method, &format!("{PREFIX}/jobs"));
    let Tried::Send(sent) = world.route.try_now(user("USER"), class(Method::OPTIONS)) else {
        panic!("nothing is stopped");
    };
    sent.set_sent();
    assert!(!world.answer("USER", &sent, 200));
    drop(sent);
    let _first = world.try_now("USER", "/jobs").unwrap();
    assert!((0..30).all(|_| world.try_now("USER", "/jobs").is_none()));
    for method in [Method::HEAD, Method::POST, Method::DELETE] {
        assert_eq!(class(method), class(Method::GET));
    }
}

/// A store of refusals that other nodes would share. The store is empty, as after an administrator has resumed the
/// tickets of all users.
#[derive(Debug)]
struct Store {
    /// Whether writes fail, as in a Redis without memory, or in a replica.
    is_read_only: bool,
}

impl Store {
    fn new(is_read_only: bool) -> Arc<Self> {
        Arc::new(Self { is_read_only })
    }
}

impl SharedRefusals for Store {
    fn reserve(&self, _: SharedTicket, _: u8, _: Option<u8>) -> SharedRefusalsFuture<Reserved> {
        Box::pin(ready(Ok(Reserved::Yes)))
    }

    fn settle(&self, _: SharedTicket, _: SharedOutcome) -> SharedRefusalsFuture<()> {
        let error = SharedRefusalsError("OOM".into());
        Box::pin(ready(if self.is_read_only { Err(error) } else { Ok(()) }))
    }

    fn list(&self) -> SharedRefusalsFuture<Vec<SharedRefusal>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn resume(&self, _: Option<Applid>, _: Option<UserId>) {}
}

#[tokio::test]
async fn a_refusal_that_other_nodes_do_not_know_stays() {
    for is_read_only in [true, false] {
        let world = World::new();
        world.breaker.share(Store::new(is_read_only));
        let class = world.route.class(&Method::GET, &format!("{PREFIX}/jobs"));
        let sent = world.route.clone().wait(user("USER"), class).await.unwrap();
        sent.set_sent();
        assert!(world.answer("USER", &sent, 401));
        drop(sent);
        // This lets the task that reports the refusal run.
        tokio::task::yield_now().await;
        world.wait(30);
        world.breaker.learn().await;
        let sent = world.route.clone().wait(user("USER"), class).await;
        assert_eq!(sent.is_err(), is_read_only, "{sent:?}");
    }
}

#[test]
fn a_late_success_does_not_prove_paths_for_later_tickets() {
    let world = World::new();
    assert!(world.request("USER", "/jobs", 200));
    assert!(world.request("OTHER", "/jobs", 200));
    world.wait(60);
    let late = world.try_now("OTHER", "/jobs").unwrap();
    assert!(world.request("USER", "/jobs", 401));
    assert!(!world.answer("OTHER", &late, 200));
    let _first = world.try_now("OTHER", "/jobs").unwrap();
    assert!(world.try_now("OTHER", "/jobs").is_none());
}

#[test]
fn a_breaker_without_its_state_tries_one_ticket_first() {
    let world = World::new();
    world.breaker.begin_without_state();
    let first = world.try_now("A", "/jobs").unwrap();
    assert!(world.try_now("B", "/files").is_none());
    let error = world.error("B", "/files").to_string();
    assert!(error.contains("could not be read; one ticket is tried"), "{error}");
    assert!(world.answer("A", &first, 401));
    assert!(world.request("B", "/jobs", 401) && world.request("C", "/files", 401));
    assert!(world.try_now("D", "/jobs").is_none());
    world.wait(59);
    assert!(world.try_now("D", "/jobs").is_none());
    world.wait(1);
    assert!(world.request("D", "/jobs", 200));
    for name in ["E", "F", "G", "H"] {
        assert!(world.try_now(name, "/jobs").is_some());
    }
    for applid in [None, Some(applid())] {
        let world = World::new();
        world.breaker.begin_without_state();
        let first = world.try_now("A", "/jobs").unwrap();
        assert!(world.try_now("B", "/files").is_none());
        drop(first);
        world.breaker.resume(applid, None);
        assert!(world.try_now("B", "/files").is_some() && world.try_now("C", "/files").is_some());
    }
}

#[test]
fn a_refusal_on_proven_paths_drops_all_proofs() {
    let world = World::new();
    for path in ["/jobs", "/files"] {
        assert!(world.request("USER", path, 200));
    }
    let late = world.try_now("USER", "/files").unwrap();
    let sent = world.try_now("USER", "/jobs").unwrap();
    assert!(world.answer("USER", &sent, 401));
    assert!(world.try_now("USER", "/files").is_none());
    // The ticket `late` was sent before the refusal. So its success proves nothing.
    world.answer("USER", &late, 200);
    assert!(world.try_now("USER", "/files").is_none());
    assert!(world.try_now("OTHER", "/files").is_some());
}

#[test]
fn each_success_between_refusals_ends_their_count_even_in_the_same_minute() {
    // The user Z uses proven paths. The users A, B and C use a path that always answers 401.
    let world = World::new();
    assert!(world.request("Z", "/jobs", 200));
    for name in ["A", "B", "C"] {
        assert!(world.request(name, "/strange", 401));
        assert!(world.request("Z", "/jobs", 200), "{name}");
    }
    assert!(world.request("Z", "/jobs", 200));
    assert!(world.request("D", "/jobs", 200));
    assert!(!world.request("D", "/strange", 401));
    // The path that always answers 401 can also have the same class as the proven path.
    let world = World::new();
    assert!(world.request("Z", "/jobs", 200));
    for name in ["A", "B", "C", "D"] {
        assert!(world.request(name, "/jobs/strange", 401), "{name}");
        assert!(world.request("Z", "/jobs", 200), "{name}");
    }
}

#[test]
fn after_a_success_a_401_that_asks_for_another_credential_is_no_refusal() {
    let mut bearer = HeaderMap::new();
    bearer.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    // Without an earlier success, this 401 counts as a refusal.
    let world = World::new();
    let sent = world.try_now("USER", "/jobs").unwrap();
    assert!(world.answered("USER", &sent, 401, &bearer));
    let world = World::new();
    assert!(world.request("USER", "/jobs", 200));
    let sent = world.try_now("USER", "/jobs").unwrap();
    assert!(!world.answered("USER", &sent, 401, &bearer));
    assert!(world.try_now("USER", "/jobs").is_some());
    let sent = world.try_now("USER", "/jobs").unwrap();
    assert!(world.answered("USER", &sent, 401, &HeaderMap::new()));
    assert!(world.try_now("USER", "/jobs").is_none());
}

#[test]
fn other_statuses_count_only_if_they_are_listed() {
    for (refused, status, is_stopped) in [
        (RefusedStatuses::default(), 403, false),
        (RefusedStatuses::default(), 500, false),
        (RefusedStatuses::default().with(StatusCode::FORBIDDEN), 403, true),
        (RefusedStatuses::NONE.with(StatusCode::INTERNAL_SERVER_ERROR), 401, false),
        (RefusedStatuses::NONE.with(StatusCode::INTERNAL_SERVER_ERROR), 500, true),
    ] {
        let world = World::with([profile("F90F48F03C28DC86")], refused);
        assert!(world.request("USER", "/jobs", status));
        assert_eq!(!world.request("USER", "/jobs", status), is_stopped, "{refused:?} {status}");
    }
}

#[test]
fn the_error_has_the_text_of_the_catalogue_and_says_what_to_check() {
    let world = World::new();
    assert!(world.request("USER", "/jobs", 401));
    let error = world.error("USER", "/jobs");
    assert!(error.is_stopped());
    assert_eq!(error.codes(), SafReturnCodes::STOPPED);
    assert!(error.text().starts_with("PassTicket evaluation failure."));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(10)));
    let text = error.to_string();
    for part in ["USER", "ZOWEAPPL", "key", "algorithm", "window", "clocks"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn the_auth_api_makes_no_stopped_ticket() {
    let world = World::new();
    let local = LocalGenerator::new(KeyProfiles::new([profile("F90F48F03C28DC86")]).unwrap());
    let guarded = world.breaker.guard(local);
    let make = |name| guarded.try_generate_now(&user(name), &applid()).unwrap();
    assert!(make("USER").is_ok());
    assert!(world.request("USER", "/jobs", 401));
    assert!(make("USER").unwrap_err().is_stopped());
    assert!(make("OTHER").is_ok());
    world.breaker.resume(None, None);
    assert!(make("USER").is_ok());
}

#[test]
fn a_changed_key_resumes_tickets_and_an_equal_key_does_not() {
    let group = |users: &[&str]| Qualifier::Group {
        group: "PAYROLL".parse().unwrap(),
        users: users.iter().map(|name| user(name)).collect(),
    };
    let (old, new) = ("F90F48F03C28DC86", "E001193519561977");
    let profiles = |own: &str, of_group: &str| {
        [profile(own), profile(of_group).with_qualifier(group(&["ANN"]))]
    };
    for (own, of_group, want) in [
        (old, old, [false, false]),
        (new, old, [false, true]),
        (old, new, [true, false]),
        (new, new, [true, true]),
    ] {
        let world = World::with(profiles(old, old), RefusedStatuses::default());
        for name in ["ANN", "BOB"] {
            assert!(world.request(name, "/jobs", 401));
        }
        let profiles = KeyProfiles::new(profiles(own, of_group)).unwrap();
        world.breaker.set_keys(profiles, TicketLimits::default());
        let resumed = ["ANN", "BOB"].map(|name| world.try_now(name, "/jobs").is_some());
        assert_eq!(resumed, want, "{own} {of_group}");
    }
}

#[test]
fn a_removed_key_is_no_longer_reported_as_stopped() {
    let users = ["ANN", "BEN", "CAT"];
    let group = Qualifier::Group {
        group: "PAYROLL".parse().unwrap(),
        users: users.map(user).into_iter().collect(),
    };
    let own = || profile("F90F48F03C28DC86");
    let world = World::with([own(), own().with_qualifier(group)], RefusedStatuses::default());
    for name in users {
        assert!(world.request(name, "/jobs", 401));
    }
    assert_eq!(world.breaker.report().applids.len(), 1);
    let without_group = KeyProfiles::new([own()]).unwrap();
    world.breaker.set_keys(without_group, TicketLimits::default());
    let report = world.breaker.report();
    assert!(report.applids.is_empty() && report.users.is_empty(), "{report:?}");
    // The key of the group is gone. So the key of the whole APPLID now makes the tickets of its users.
    assert!(world.try_now("ANN", "/jobs").is_some());
}

#[test]
fn refusals_of_one_qualified_key_do_not_stop_the_users_of_another() {
    let users = ["ANN", "BEN", "CAT"];
    let group = Qualifier::Group {
        group: "PAYROLL".parse().unwrap(),
        users: users.iter().chain(&["DAN"]).map(|name| user(name)).collect(),
    };
    let profiles = [profile("F90F48F03C28DC86"), profile("E001193519561977").with_qualifier(group)];
    let world = World::with(profiles, RefusedStatuses::default());
    for name in users {
        assert!(world.request(name, "/jobs", 401));
    }
    assert!(world.try_now("DAN", "/jobs").is_none());
    assert!(world.try_now("EVE", "/jobs").is_some());
    let report = world.breaker.report();
    assert_eq!(report.applids.len(), 1);
    assert_eq!(report.applids[0].key, "ZOWEAPPL.PAYROLL");
}

#[test]
fn wrong_dates_of_answers_stop_the_tickets_but_dates_of_cached_answers_do_not() {
    let world = World::new();
    let date = |text| {
        let mut headers = HeaderMap::new();
        headers.insert(header::DATE, HeaderValue::from_static(text));
        headers
    };
    // The clock shows Tue, 14 Nov 2023 22:13:20 GMT.
    let request = |headers: &HeaderMap| {
        let Some(sent) = world.try_now("USER", "/jobs") else { return false };
        world.answered("USER", &sent, 200, headers);
        world.wait(4);
        true
    };
    let wrong = date("Tue, 14 Nov 2023 23:13:20 GMT");
    let mut cached = wrong.clone();
    cached.insert(header::AGE, HeaderValue::from_static("3600"));
    for _ in 0..5 {
        assert!(request(&cached));
    }
    assert!(request(&wrong));
    assert!(request(&wrong));
    assert!(!request(&wrong));
    let report = world.breaker.report();
    assert!(report.applids[0].is_stopped_by_clock);
    assert!(report.applids[0].clock_difference.unwrap() > 3500);
    world.wait(60);
    assert!(request(&date("Tue, 14 Nov 2023 22:14:52 GMT")));
    assert!(request(&HeaderMap::new()));
    assert!(world.breaker.report().applids.is_empty());
}

#[test]
fn stops_and_resumptions_are_audited() {
    let world = World::new();
    let records = Arc::new(Collected::default());
    world.breaker.set_audit(Audit::to(records.clone()));
    assert!(world.request("USER", "/jobs", 401));
    world.breaker.resume(Some(applid()), Some(user("USER")));
    let lines: Vec<_> = records.take().iter().map(|record| record.to_json()).collect();
    for (line, parts) in lines.iter().zip([
        [r#""event":"tickets-stopped""#, r#""reason":"ticket-refused""#, "compare key"],
        [r#""event":"tickets-resumed""#, r#""user":"USER""#, "administrator"],
    ]) {
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
    assert_eq!(lines.len(), 2);
}

#[tokio::test]
async fn the_first_refusal_is_saved_if_the_limit_is_two() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("stopped");
    let limits = TicketLimits::default().with(applid(), 2);
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
    let profiles = KeyProfiles::new([profile("F90F48F03C28DC86")]).unwrap();
    let breaker = TicketBreaker::with_clock(profiles, limits, clock.clone());
    let route = RouteTickets::new(&breaker, applid(), PREFIX, RefusedStatuses::default());
    let world = World { breaker, route, clock };
    let running = tokio::spawn(world.breaker.clone().run(Some(file.clone())));
    assert!(world.request("USER", "/jobs", 401));
    let written = tokio::time::timeout(Duration::from_secs(20), async {
        while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains("USER")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    written.await.unwrap();
    running.abort();
}

#[tokio::test]
async fn the_file_has_the_stops_after_each_change() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("stopped");
    let world = World::new();
    let running = tokio::spawn(world.breaker.clone().run(Some(file.clone())));
    assert!(world.request("USER", "/jobs", 401));
    let text = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            match std::fs::read_to_string(&file) {
                Ok(text) => break text,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    });
    let text = text.await.unwrap();
    running.abort();
    let next = World::new();
    next.breaker.restore(&text).unwrap();
    assert!(next.try_now("USER", "/jobs").is_none());
    assert!(next.try_now("OTHER", "/jobs").is_some());
}
