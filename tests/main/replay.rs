//! Tests in which one user sends a burst of requests through a gateway to a service. With replay protection, the
//! service accepts each PassTicket (a short-lived password of z/OS) only once.

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

/// The results of a burst of requests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Results {
    /// The number of requests whose PassTicket the service accepted.
    accepted: usize,
    /// The number of requests for which the gateway made no PassTicket.
    without_ticket: usize,
}

/// A service that checks PassTickets as RACF (a security product of z/OS) does.
#[derive(Debug)]
struct TestService {
    profile: KeyProfile,
    clock: Arc<ManualClock>,
    /// The pairs of user and ticket that the service has received.
    seen: Mutex<HashSet<String>>,
}

impl TestService {
    fn answer(&self, request: &Request<Body>) -> StatusCode {
        let Some(basic) = request.headers().get("authorization") else {
            let failure = request.headers().get("x-zowe-auth-failure").unwrap().to_str().unwrap();
            assert!(failure.starts_with("ZWEAG141E"), "{failure}");
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

/// The parts that all gateways of a test share.
struct Setup {
    clock: Arc<ManualClock>,
    service: Arc<TestService>,
    key: SigningKey,
}

impl Setup {
    fn new(replay: Replay) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(NOW)));
        let profile = profile(replay);
        let service = TestService { profile, clock: clock.clone(), seen: Mutex::default() };
        let key = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
        Self { clock, service: Arc::new(service), key }
    }

    /// Creates a gateway in front of the service. A second call is like a restart: the new gateway shares no state with
    /// the old one.
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

    /// Sends `requests` requests of one user. Two clones of the gateway forward them in turn.
    async fn burst<S>(&self, gateway: &S, user: &str, requests: usize) -> Results
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
    {
        let issuer = TokenIssuer::new(self.key.clone()).with_clock(self.clock.clone());
        let token = issuer.login_token(&UserId::new(user).unwrap(), "domain").unwrap();
        let mut clones = [gateway.clone(), gateway.clone()];
        let mut results = Results::default();
        for i in 0..requests {
            let request = Request::get("/files/api/v1/x")
                .header("authorization", format!("Bearer {}", token.expose()))
                .body(Body::default())
                .unwrap();
            let gateway = clones[i % 2].ready().await.unwrap();
            let response = gateway.call(request).await.unwrap();
            let failure = response.headers().get("x-zowe-auth-failure");
            let failure = failure.map(|failure| failure.to_str().unwrap());
            match (response.status(), failure) {
                (StatusCode::OK, None) => results.accepted += 1,
                (StatusCode::UNAUTHORIZED, Some(failure)) => {
                    assert_eq!(
                        failure,
                        "ZWEAG141E The generation of the PassTicket failed. Reason: An internal \
                         error was encountered."
                    );
                    results.without_ticket += 1;
                }
                other => panic!("expected an accepted or a missing ticket: {other:?}"),
            }
        }
        results
    }

    fn tickets(&self) -> usize {
        self.service.seen.lock().unwrap().len()
    }
}

fn profile(replay: Replay) -> KeyProfile {
    key_profile("ZOWEAPPL").with_replay(replay)
}

#[tokio::test]
async fn with_replay_protection_no_ticket_is_sent_twice() {
    let setup = Setup::new(Replay::Protected);
    let gateway = setup.gateway();
    setup.clock.advance(Duration::from_secs(3600));
    assert_eq!(
        setup.burst(&gateway, "USER", 100).await,
        Results { accepted: 61, without_ticket: 39 }
    );
    assert_eq!(
        setup.burst(&gateway, "OTHER", 30).await,
        Results { accepted: 30, without_ticket: 0 }
    );
    for _ in 0..10 {
        setup.clock.advance(Duration::from_secs(1));
        assert_eq!(
            setup.burst(&gateway, "USER", 3).await,
            Results { accepted: 1, without_ticket: 2 }
        );
    }
    // Sets the clock back by 20 s, and then by another 1,000 s.
    for back in [20, 1000] {
        setup.clock.set(Timestamp::from_secs(setup.clock.now().as_secs() - back));
        assert_eq!(
            setup.burst(&gateway, "USER", 3).await,
            Results { accepted: 0, without_ticket: 3 }
        );
    }
    setup.clock.advance(Duration::from_secs(1020 + 5));
    assert_eq!(setup.burst(&gateway, "USER", 10).await, Results { accepted: 5, without_ticket: 5 });
    assert_eq!(setup.tickets(), 61 + 30 + 10 + 5);
}

#[tokio::test]
async fn a_restarted_gateway_repeats_no_ticket() {
    let setup = Setup::new(Replay::Protected);
    let before_restart = setup.gateway();
    setup.clock.advance(Duration::from_secs(3600));
    assert_eq!(
        setup.burst(&before_restart, "USER", 100).await,
        Results { accepted: 61, without_ticket: 39 }
    );
    let restarted = setup.gateway();
    assert_eq!(
        setup.burst(&restarted, "USER", 3).await,
        Results { accepted: 0, without_ticket: 3 }
    );
    setup.clock.advance(Duration::from_secs(2));
    assert_eq!(
        setup.burst(&restarted, "USER", 3).await,
        Results { accepted: 2, without_ticket: 1 }
    );
}

#[tokio::test]
async fn without_replay_protection_all_requests_in_a_second_share_one_ticket() {
    let setup = Setup::new(Replay::Allowed);
    let gateway = setup.gateway();
    assert_eq!(
        setup.burst(&gateway, "USER", 100).await,
        Results { accepted: 100, without_ticket: 0 }
    );
    assert_eq!(setup.tickets(), 1);
    setup.clock.advance(Duration::from_secs(1));
    assert_eq!(
        setup.burst(&gateway, "USER", 100).await,
        Results { accepted: 100, without_ticket: 0 }
    );
    assert_eq!(setup.tickets(), 2);
}
