//! In one test, an application chooses its providers at run time. The other tests make PassTickets (short-lived
//! passwords of z/OS) in three ways: with a generator of the application, with a key outside of the process, and in a
//! short job.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use sha2::Sha512;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_passticket::{
    api::{AuthApi, LoginError, LoginFuture, LoginProvider, Password},
    clock::{Clock, ManualClock, SystemClock, Timestamp},
    identity::{
        CommonNameMapper, DistributedIdentity, DistributedMap, DistributedMapper, IdentityMapper,
        MapError, MapFuture, PeerCertificate,
    },
    layer::{
        AuthenticateLayer, Authenticator, OnFailure, PassTicketScheme, Route, RouteLayer, Routes,
        SanitizeLayer, SchemeLayer, ScopeLayer, Upstream,
    },
    passticket::{
        Algorithm, Applid, EnhancedKey, EnhancedType, GenerateError, GenerateFuture, KeyProfile,
        KeyProfiles, KeySource, KeySourceError, LocalGenerator, PassTicket, PassTicketGenerator,
        Replay, SafReturnCodes, UserId,
    },
    revocation::RevocationIndex,
    saf::{
        Access, AccessLevel, CheckFuture, FileSaf, PermittedGenerator, Profile, ProfileName,
        SafError, SafProvider,
    },
    test_util,
    token::{Rs256Verifier, ServiceId, TokenIssuer},
};

const KEY: &str = "E001193519561977";
const ZWEAG141E: &str = "ZWEAG141E The generation of the PassTicket failed. Reason: ";

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn applid() -> Applid {
    Applid::new("ZOWEAPPL").unwrap()
}

fn key() -> KeyProfile {
    KeyProfile::from_hex(applid(), Algorithm::Legacy, KEY).unwrap().with_replay(Replay::Allowed)
}

fn certificate(common_name: &str) -> PeerCertificate {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
    let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    PeerCertificate::from_der(certificate.der().to_vec()).unwrap()
}

/// Returns a service that returns the headers of its request, behind all layers.
fn gateway(
    tickets: Arc<dyn PassTicketGenerator>,
    mapper: Arc<dyn IdentityMapper>,
    on_failure: OnFailure,
) -> impl Service<
    Request<Full<Bytes>>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future: Send,
> + Clone {
    let upstream = Upstream::parse("https://zos.example.com").unwrap();
    let scheme = PassTicketScheme::new(applid(), tickets);
    let route = Route::new(ServiceId::new("files").unwrap(), "", upstream, scheme).unwrap();
    let routes = Routes::new([route.with_on_failure(on_failure)]).unwrap();
    let verifier = test_util::verifier();
    let authenticator = Authenticator::new(verifier).with_client_certificates(mapper);
    ServiceBuilder::new()
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::new(routes))
        .layer(AuthenticateLayer::new(authenticator))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service(service_fn(|request: Request<Full<Bytes>>| async move {
            let mut response = Response::new(Full::default());
            *response.headers_mut() = request.headers().clone();
            Ok(response)
        }))
}

/// Sends a request of a client. `common_name` is the common name in its certificate.
async fn get(
    gateway: impl Service<
        Request<Full<Bytes>>,
        Response = Response<Full<Bytes>>,
        Error = Infallible,
        Future: Send,
    >,
    common_name: &str,
) -> Response<Full<Bytes>> {
    let mut request = Request::get("/files/x").body(Full::default()).unwrap();
    request.extensions_mut().insert(certificate(common_name));
    gateway.oneshot(request).await.unwrap()
}

/// Returns the user and the PassTicket of a `Basic` header.
fn basic(headers: &HeaderMap) -> (String, PassTicket) {
    let value = headers["authorization"].to_str().unwrap().strip_prefix("Basic ").unwrap();
    let value = String::from_utf8(BASE64_STANDARD.decode(value).unwrap()).unwrap();
    let (user, ticket) = value.split_once(':').unwrap();
    (user.to_owned(), PassTicket::parse(ticket).unwrap())
}

/// A PassTicket generator of the application. It simulates a remote system, which may be down.
#[derive(Clone, Default)]
struct Remote {
    down: Option<GenerateError>,
    asked: Arc<AtomicUsize>,
}

impl Remote {
    fn down(retry_after: Option<Duration>) -> Self {
        let error = GenerateError::unavailable(user("USER"), applid(), retry_after);
        Self { down: Some(error.with_reason("connection refused")), ..Self::default() }
    }
}

impl PassTicketGenerator for Remote {
    fn generate(&self, _: &UserId, _: &Applid) -> GenerateFuture {
        let Self { down, asked } = self.clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            asked.fetch_add(1, SeqCst);
            down.map_or_else(|| Ok(PassTicket::parse("QHOAH1TV").unwrap()), Err)
        })
    }
}

/// A provider of the application for logins, permission checks and user mapping. It simulates a remote system.
#[derive(Clone)]
struct Directory;

impl LoginProvider for Directory {
    fn login(&self, user: UserId, password: Password) -> LoginFuture {
        Box::pin(async move {
            match password.expose() {
                b"validPassword" => Ok(user),
                _ => Err(LoginError::WrongCredentials),
            }
        })
    }
}

impl SafProvider for Directory {
    fn check(&self, _: &UserId, _: &str, resource: &str, _: AccessLevel) -> CheckFuture {
        let answer = match resource {
            "IRRPTAUTH.ZOWEAPPL.USER" => Ok(Access::Granted),
            "IRRPTAUTH.ZOWEAPPL.LOST" => Err(SafError::Unavailable),
            _ => Ok(Access::Refused),
        };
        Box::pin(async { answer })
    }
}

impl IdentityMapper for Directory {
    fn map_certificate(&self, certificate: &PeerCertificate) -> MapFuture {
        let mapped = certificate.common_name().map(UserId::new);
        Box::pin(async { Ok(mapped.ok_or(MapError::NoCommonName)??) })
    }
}

impl DistributedMapper for Directory {
    fn map_identity(&self, _: &DistributedIdentity) -> MapFuture {
        Box::pin(async { Ok(user("USER")) })
    }
}

/// The providers of an application. A real application would select them by its configuration.
struct Providers {
    tickets: Arc<dyn PassTicketGenerator>,
    login: Arc<dyn LoginProvider>,
    mapper: Arc<dyn IdentityMapper>,
    identities: Arc<dyn DistributedMapper>,
}

impl Providers {
    fn choose(remote: bool) -> Self {
        let gateway = user("ZWESVUSR");
        let (tickets, saf): (Arc<dyn PassTicketGenerator>, Arc<dyn SafProvider>) = if remote {
            (Arc::new(Remote::default()), Arc::new(Directory))
        } else {
            let profile = Profile::new("PTKTDATA", ProfileName::new("IRRPTAUTH.*.USER").unwrap());
            (
                Arc::new(LocalGenerator::new(KeyProfiles::new([key()]).unwrap())),
                Arc::new(FileSaf::new([profile.permit(gateway, AccessLevel::Update)])),
            )
        };
        Self {
            tickets: Arc::new(PermittedGenerator::new(tickets, saf, gateway)),
            login: Arc::new(Directory),
            mapper: if remote { Arc::new(Directory) } else { Arc::new(CommonNameMapper) },
            identities: if remote {
                Arc::new(Directory)
            } else {
                let jane = DistributedIdentity::new("jane@example.com", "R").unwrap();
                Arc::new(DistributedMap::new([(jane, user("USER"))]).unwrap())
            },
        }
    }
}

#[tokio::test]
async fn providers_are_chosen_at_run_time() {
    for remote in [true, false] {
        let providers = Providers::choose(remote);
        let gateway = gateway(providers.tickets, providers.mapper, OnFailure::Reject);
        let response = get(gateway.clone(), "user").await;
        assert_eq!(response.status(), StatusCode::OK, "remote: {remote}");
        let (name, ticket) = basic(response.headers());
        assert_eq!(name, "USER");
        if remote {
            assert_eq!(ticket.expose(), "QHOAH1TV");
        } else {
            assert!(key().evaluate(&user("USER"), &ticket, SystemClock.now()).is_ok());
        }
        // The gateway is not permitted to make tickets for this user.
        let response = get(gateway, "other").await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let codes = SafReturnCodes::NOT_AUTHORIZED.text();
        assert_eq!(response.headers()["x-zowe-auth-failure"], format!("{ZWEAG141E}{codes}"));

        let jane = DistributedIdentity::new("jane@example.com", "R").unwrap();
        assert_eq!(providers.identities.map_identity(&jane).await, Ok(user("USER")));
        let wrong = providers.login.login(user("USER"), Password::new("wrong"));
        assert_eq!(wrong.await, Err(LoginError::WrongCredentials));
    }
}

#[tokio::test]
async fn an_unavailable_generator_gives_503_on_a_route_that_rejects_failures() {
    for (retry_after, header) in [(None, "10"), (Some(3), "3"), (Some(3600), "10")] {
        let down = Arc::new(Remote::down(retry_after.map(Duration::from_secs)));
        let text = format!("{ZWEAG141E}An internal error was encountered.");

        let rejecting = gateway(down.clone(), Arc::new(CommonNameMapper), OnFailure::Reject);
        let response = get(rejecting, "USER").await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["x-zowe-auth-failure"], text);
        assert_eq!(response.headers()["retry-after"], header);

        let forwarding = gateway(down, Arc::new(CommonNameMapper), OnFailure::Forward);
        let response = get(forwarding, "USER").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["x-zowe-auth-failure"], text);
        assert!(!response.headers().contains_key("authorization"));
    }
}

#[tokio::test]
async fn an_unavailable_generator_gives_503_in_the_auth_api() {
    let key = test_util::signing_key();
    let token = TokenIssuer::new(key.clone()).login_token(&user("USER"), "demo").unwrap();
    let login: Arc<dyn LoginProvider> = Arc::new(Directory);
    let mapper: Arc<dyn IdentityMapper> = Arc::new(CommonNameMapper);
    for (tickets, status) in [(Remote::default(), 200), (Remote::down(None), 503)] {
        let tickets: Arc<dyn PassTicketGenerator> = Arc::new(tickets);
        let verifier = Rs256Verifier::new(key.verifying_key());
        let issuer = TokenIssuer::new(key.clone());
        let api = AuthApi::new(issuer, verifier, login.clone(), RevocationIndex::default())
            .with_passtickets(tickets)
            .with_client_certificates(mapper.clone());
        let mut request = Request::post("/gateway/api/v1/auth/ticket")
            .header("authorization", format!("Bearer {}", token.expose()))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(br#"{"applicationName":"ZOWEAPPL"}"#)))
            .unwrap();
        request.extensions_mut().insert(certificate("USER"));
        let response = api.oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
        let retry_after = response.headers().get("retry-after").cloned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        if status == 200 {
            assert_eq!(body["ticket"], "QHOAH1TV");
        } else {
            assert_eq!(retry_after.unwrap(), "10");
            let message = &body["messages"][0];
            assert_eq!(message["messageNumber"], "ZWEAG141E");
            let content = message["messageContent"].as_str().unwrap();
            assert!(content.contains("is not available; try again"), "{content}");
        }
    }
}

#[tokio::test]
async fn permitted_generator_calls_a_custom_generator_only_for_permitted_tickets() {
    for (name, codes, unavailable, asked) in [
        ("USER", None, false, 1),
        ("OTHER", Some("8/8/16"), false, 0),
        ("LOST", Some("8/8/8"), true, 0),
    ] {
        let remote = Remote::default();
        let tickets = PermittedGenerator::new(remote.clone(), Directory, user("ZWESVUSR"));
        let error = tickets.generate(&user(name), &applid()).await.err();
        assert_eq!(error.as_ref().map(|e| e.codes().to_string()).as_deref(), codes, "{name}");
        assert_eq!(error.is_some_and(|error| error.is_unavailable()), unavailable, "{name}");
        assert_eq!(remote.asked.load(SeqCst), asked, "{name}");
    }
}

/// Simulates a key in a hardware security module (HSM), which computes HMACs with the key.
#[derive(Debug)]
struct HsmKey {
    key: [u8; 32],
    /// The number of calls before the session with the HSM ends.
    calls_left: AtomicUsize,
}

impl KeySource for HsmKey {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EnhancedMixed
    }

    fn compute(&self, input: &[u8]) -> Result<[u8; 8], KeySourceError> {
        let ended = |_| KeySourceError::new("the session has ended");
        self.calls_left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).map_err(ended)?;
        let mac = Hmac::<Sha512>::new_from_slice(&self.key).unwrap().chain_update(input);
        Ok(*mac.finalize().into_bytes().first_chunk().unwrap())
    }
}

#[test]
fn a_key_outside_of_the_process_makes_the_same_tickets_as_a_local_key() {
    // A PassTicket needs seven HMACs, so the session ends after two PassTickets.
    let hsm: Arc<dyn KeySource> =
        Arc::new(HsmKey { key: [0xAB; 32], calls_left: AtomicUsize::new(2 * 7) });
    let remote = KeyProfile::from_source(applid(), hsm).with_replay(Replay::Allowed);
    let key = EnhancedKey::from_hex(&"AB".repeat(32)).unwrap();
    let local = KeyProfile::enhanced(applid(), EnhancedType::Mixed, &key);
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
    let generator =
        LocalGenerator::new(KeyProfiles::new([remote]).unwrap()).with_clock(clock.clone());
    for _ in 0..2 {
        let ticket = generator.generate_now(&user("USER"), &applid()).unwrap();
        assert_eq!(ticket, local.generate(&user("USER"), clock.now()).unwrap());
        clock.advance(Duration::from_secs(1));
    }
    let error = generator.generate_now(&user("USER"), &applid()).unwrap_err();
    assert!(error.is_unavailable());
    assert!(error.to_string().ends_with("the session has ended"), "{error}");
}

#[test]
fn a_short_job_gets_its_first_ticket_without_waiting() {
    let key = || KeyProfile::from_hex(applid(), Algorithm::Legacy, KEY).unwrap();
    let profiles = || KeyProfiles::new([key()]).unwrap();
    let job = LocalGenerator::one_shot(profiles());
    assert!(job.generate_now(&user("BATCH"), &applid()).is_ok());
    // With replay protection, the generator of a long-running service makes no PassTicket in the second in which it
    // starts.
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
    let service = LocalGenerator::new(profiles()).with_clock(clock.clone());
    let error = service.generate_now(&user("BATCH"), &applid()).unwrap_err();
    assert!(error.to_string().contains("one ticket per second"), "{error}");
    clock.advance(error.retry_after().unwrap());
    assert!(service.generate_now(&user("BATCH"), &applid()).is_ok());
}

#[test]
fn names_are_read_with_serde() {
    let users: Vec<UserId> = serde_json::from_str(r#"["ibmuser"]"#).unwrap();
    assert_eq!(users, [user("IBMUSER")]);
    assert!(serde_json::from_str::<Applid>(r#""not an APPLID""#).is_err());
}
