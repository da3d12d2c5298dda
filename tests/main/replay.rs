//! A service that takes each PassTicket once, and one that takes it as often as it comes: what
//! reaches them when one user makes many requests.

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use test_support::{
    pki,
    tickets::{key_profile, user},
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_passticket::{
    clock::{Clock, ManualClock, Timestamp},
    layer::{
        AuthenticateLayer, Authenticator, PassTicketScheme, Route, RouteLayer, Routes,
        SanitizeLayer, SchemeLayer, ScopeLayer,
    },
    passticket::{KeyProfile, KeyProfiles, LocalGenerator, PassTicket, Replay, UserId},
    saf::{AccessLevel, FileSaf, PermittedGenerator, Profile, ProfileName},
    token::{Rs256Verifier, ServiceId, SigningKey, TokenIssuer},
};

type Body = Full<Bytes>;

const NOW: u64 = 1_800_000_000;

/// What became of requests that were made at the same time.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    /// The service took the ticket.
    taken: usize,
    /// There was none, and both sides were told.
    refused: usize,
}

/// A service that evaluates tickets as RACF does.
#[derive(Debug)]
struct Evaluating {
    profile: KeyProfile,
    clock: Arc<ManualClock>,
    seen: Mutex<HashSet<String>>,
}

impl Evaluating {
    fn answer(&self, request: &Request<Body>) -> StatusCode {
        let Some(basic) = request.headers().get("authorization") else {
            // The stack must have said why.
            let told = request.headers().get("x-zowe-auth-failure").unwrap().to_str().unwrap();
            assert!(told.starts_with("ZWEAG141E"), "{told}");
            return StatusCode::UNAUTHORIZED;
        };
        let basic = basic.to_str().unwrap().strip_prefix("Basic ").unwrap();
        let plain = String::from_utf8(BASE64_STANDARD.decode(basic).unwrap()).unwrap();
        let (user, ticket) = plain.split_once(':').unwrap();
        let (user, parsed) = (UserId::new(user).unwrap(), PassTicket::parse(ticket).unwrap());
        let evaluated = self.profile.evaluate(&user, &parsed, self.clock.now());
        let is_new = self.seen.lock().unwrap().insert(plain.clone());
        match (evaluated, self.profile.replay()) {
            (Ok(_), Replay::Allowed) => StatusCode::OK,
            (Ok(_), Replay::Protected) if is_new => StatusCode::OK,
            _ => StatusCode::FORBIDDEN,
        }
    }
}

struct World {
    clock: Arc<ManualClock>,
    service: Arc<Evaluating>,
    key: SigningKey,
}

impl World {
    fn new(replay: Replay) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(NOW)));
        let profile = profile(replay);
        let service = Evaluating { profile, clock: clock.clone(), seen: Mutex::default() };
        let key = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
        Self { clock, service: Arc::new(service), key }
    }

    /// A gateway that has just been started.
    fn gateway(
        &self,
    ) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone {
        let applid = *self.service.profile.applid();
        let gateway = user("ZWESVUSR");
        let saf = FileSaf::new([Profile::new(
            "PTKTDATA",
            ProfileName::new("IRRPTAUTH.ZOWEAPPL.*").unwrap(),
        )
        .permit(gateway, AccessLevel::Update)]);
        let profile = profile(self.service.profile.replay());
        let tickets = LocalGenerator::new(KeyProfiles::new([profile]).unwrap())
            .with_clock(self.clock.clone());
        let upstream = "http://127.0.0.1".parse().unwrap();
        let scheme = PassTicketScheme::new(applid, PermittedGenerator::new(tickets, saf, gateway));
        let route = Route::new(ServiceId::new("files").unwrap(), "api/v1", upstream, scheme);
        let verifier = Rs256Verifier::new(self.key.verifying_key()).with_clock(self.clock.clone());
        let service = self.service.clone();
        ServiceBuilder::new()
            .layer(SanitizeLayer::new())
            .layer(RouteLayer::new(Routes::new([route.unwrap()]).unwrap()))
            .layer(AuthenticateLayer::new(Authenticator::new(verifier)))
            .layer(ScopeLayer::new())
            .layer(SchemeLayer::new())
            .service(service_fn(move |request: Request<Body>| {
                let mut response = Response::new(Body::default());
                *response.status_mut() = service.answer(&request);
                async move { Ok(response) }
            }))
    }

    /// So many requests of one user, on two connections in turn.
    async fn burst<S>(&self, gateway: &S, user: &str, requests: usize) -> Sum
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
    {
        let issuer = TokenIssuer::new(self.key.clone()).with_clock(self.clock.clone());
        let token = issuer.login_token(&UserId::new(user).unwrap(), "domain").unwrap();
        let mut connections = [gateway.clone(), gateway.clone()];
        let mut sum = Sum::default();
        for i in 0..requests {
            let request = Request::get("/files/api/v1/x")
                .header("authorization", format!("Bearer {}", token.expose()))
                .body(Body::default())
                .unwrap();
            let connection = connections[i % 2].ready().await.unwrap();
            let response = connection.call(request).await.unwrap();
            let told = response.headers().get("x-zowe-auth-failure");
            let told = told.map(|told| told.to_str().unwrap());
            match (response.status(), told) {
                (StatusCode::OK, None) => sum.taken += 1,
                (StatusCode::UNAUTHORIZED, Some(told)) => {
                    assert_eq!(
                        told,
                        "ZWEAG141E The generation of the PassTicket failed. Reason: An internal \
                         error was encountered."
                    );
                    sum.refused += 1;
                }
                other => panic!("a ticket that the service refuses: {other:?}"),
            }
        }
        sum
    }

    fn tickets(&self) -> usize {
        self.service.seen.lock().unwrap().len()
    }
}

fn profile(replay: Replay) -> KeyProfile {
    key_profile("ZOWEAPPL").with_replay(replay)
}

#[tokio::test]
async fn where_a_ticket_is_taken_once_none_comes_twice() {
    let world = World::new(Replay::Protected);
    let gateway = world.gateway();
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(world.burst(&gateway, "USER", 100).await, Sum { taken: 61, refused: 39 });
    // One is not the other's limit.
    assert_eq!(world.burst(&gateway, "OTHER", 30).await, Sum { taken: 30, refused: 0 });
    for _ in 0..10 {
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(world.burst(&gateway, "USER", 3).await, Sum { taken: 1, refused: 2 });
    }
    // A clock that is set back, a little or by much.
    for back in [20, 1000] {
        world.clock.set(Timestamp::from_secs(world.clock.now().as_secs() - back));
        assert_eq!(world.burst(&gateway, "USER", 3).await, Sum { taken: 0, refused: 3 });
    }
    world.clock.advance(Duration::from_secs(1020 + 5));
    assert_eq!(world.burst(&gateway, "USER", 10).await, Sum { taken: 5, refused: 5 });
    assert_eq!(world.tickets(), 61 + 30 + 10 + 5);
}

#[tokio::test]
async fn a_gateway_that_is_started_again_makes_no_ticket_of_the_one_before() {
    let world = World::new(Replay::Protected);
    let before = world.gateway();
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(world.burst(&before, "USER", 100).await, Sum { taken: 61, refused: 39 });
    let after = world.gateway();
    assert_eq!(world.burst(&after, "USER", 3).await, Sum { taken: 0, refused: 3 });
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(world.burst(&after, "USER", 3).await, Sum { taken: 2, refused: 1 });
}

#[tokio::test]
async fn where_replay_is_allowed_a_second_has_one_ticket_for_all() {
    let world = World::new(Replay::Allowed);
    let gateway = world.gateway();
    assert_eq!(world.burst(&gateway, "USER", 100).await, Sum { taken: 100, refused: 0 });
    assert_eq!(world.tickets(), 1);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.burst(&gateway, "USER", 100).await, Sum { taken: 100, refused: 0 });
    assert_eq!(world.tickets(), 2);
}
