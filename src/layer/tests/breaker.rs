//! Tests of the PassTicket scheme with a breaker.

use super::*;
use crate::ticket_breaker::{RefusedStatuses, TicketBreaker, TicketLimits};

/// A gateway with a breaker in front of a service.
struct Watched {
    world: World,
    route: Arc<Route>,
    breaker: TicketBreaker,
}

impl Watched {
    fn new(profile: KeyProfile, on_failure: OnFailure, refused: RefusedStatuses) -> Self {
        let world = World::new();
        let profiles = KeyProfiles::new([profile]).unwrap();
        let tickets = LocalGenerator::new(profiles.clone())
            .with_clock(world.clock.clone())
            .with_ticket_cache(std::num::NonZeroUsize::new(10).unwrap());
        let limits = TicketLimits::default();
        let breaker = TicketBreaker::with_clock(profiles, limits, world.clock.clone());
        let applid = Applid::new("ZOWEAPPL").unwrap();
        let scheme =
            PassTicketScheme::new(applid, tickets).with_breaker(&breaker, "/svc/api/v1", refused);
        let service = ServiceId::new("svc").unwrap();
        let route = Route::new(service, "api/v1", "https://a".parse().unwrap(), scheme).unwrap();
        Self { world, route: Arc::new(route.with_on_failure(on_failure)), breaker }
    }

    async fn send(&self, path: &str, status: u16) -> (Option<String>, Response<Body>) {
        let seen = Arc::<std::sync::Mutex<Option<String>>>::default();
        let received = seen.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let basic = request.headers().get("authorization");
            *received.lock().unwrap() = basic.map(|it| it.to_str().unwrap().to_owned());
            let status = StatusCode::from_u16(status).unwrap();
            let headers = HeaderMap::new();
            let extensions = request.extensions();
            let prepared = extensions.get::<ReadyToForward>().unwrap();
            if let (Some(user), Some(sent)) = (prepared.user(), prepared.sent()) {
                let (user, watched) = (*user, sent.watched);
                let answer = TicketAnswer { user, watched, status, headers: &headers, extensions };
                prepared.route().scheme().answered(&answer);
            }
            let mut response = Response::new(Body::default());
            *response.status_mut() = status;
            ready(Ok::<_, Infallible>(response))
        });
        let verifier = Rs256Verifier::new(KEY.verifying_key()).with_clock(self.world.clock.clone());
        let stack = ServiceBuilder::new()
            .layer(RouteLayer::new(Routes::new([Route::clone(&self.route)]).unwrap()))
            .layer(AuthenticateLayer::new(Authenticator::new(verifier)))
            .layer(ScopeLayer::new())
            .layer(SchemeLayer::new().with_audit(self.world.audit()))
            .service(service);
        let request =
            Request::get(path).header("authorization", format!("Bearer {}", self.world.jwt()));
        let response = stack.oneshot(request.body(Body::default()).unwrap()).await.unwrap();
        let ticket = seen.lock().unwrap().take();
        (ticket, response)
    }
}

#[tokio::test]
async fn after_a_refusal_the_service_gets_no_ticket_and_the_client_gets_the_reason() {
    for (on_failure, status) in [(OnFailure::Forward, 401), (OnFailure::Reject, 503)] {
        let watched = Watched::new(profile(), on_failure, RefusedStatuses::default());
        let (ticket, _) = watched.send("/svc/api/v1/jobs", 401).await;
        assert!(ticket.is_some());
        let (ticket, response) = watched.send("/svc/api/v1/jobs", 401).await;
        assert_eq!((ticket, response.status().as_u16()), (None, status));
        if on_failure == OnFailure::Forward {
            let failure = response.headers()["x-zowe-auth-failure"].to_str().unwrap();
            let text = "ZWEAG141E The generation of the PassTicket failed. Reason: PassTicket evaluation failure.";
            assert!(failure.starts_with(text), "{failure}");
        }
        let records = watched.world.collected.take();
        let reasons: Vec<_> = records.iter().map(|it| it.reason.map(|it| it.as_str())).collect();
        assert_eq!(reasons, [None, Some("tickets-stopped")]);
    }
}

#[tokio::test]
async fn a_refused_ticket_is_not_reused() {
    let profile = profile().with_reuse(Duration::from_secs(150));
    let watched = Watched::new(profile, OnFailure::Forward, RefusedStatuses::default());
    let (first, _) = watched.send("/svc/api/v1/jobs", 200).await;
    watched.world.clock.advance(Duration::from_secs(10));
    let (second, _) = watched.send("/svc/api/v1/jobs", 401).await;
    assert_eq!(second, first);
    watched.world.clock.advance(Duration::from_secs(60));
    watched.breaker.tick();
    let (tried, _) = watched.send("/svc/api/v1/jobs", 200).await;
    assert!(tried.is_some() && tried != first, "{tried:?}");
}

#[tokio::test]
async fn a_service_without_refused_statuses_is_not_watched() {
    let watched = Watched::new(profile(), OnFailure::Forward, RefusedStatuses::NONE);
    for _ in 0..5 {
        assert!(watched.send("/svc/api/v1/jobs", 401).await.0.is_some());
    }
}

#[tokio::test]
async fn statuses_that_are_no_refusal_of_the_ticket_do_not_stop_tickets() {
    let watched = Watched::new(profile(), OnFailure::Forward, RefusedStatuses::default());
    assert!(watched.send("/svc/api/v1/jobs", 200).await.0.is_some());
    for status in [403, 404, 302, 500] {
        assert!(watched.send("/svc/api/v1/jobs", status).await.0.is_some(), "{status}");
    }
}
