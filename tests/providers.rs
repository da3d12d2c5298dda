//! The providers that ask other services, against a peer on TLS that answers rightly, late,
//! wrongly, or not at all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_passticket::{
    clock::{ManualClock, Timestamp},
    identity::{
        DistributedIdentity, DistributedMapper, IdentityMapper, MapError, PeerCertificate,
        ZssCertificates, ZssIdentities,
    },
    passticket::UserId,
    remote::{
        Address, CachePolicy, Client, ClientLimits, Connect, NoToken, RemoteError, UserToken,
    },
    saf::{Access, AccessLevel, EndpointSaf, SafError, SafProvider},
    tls::{Connector, Server, ServerTls},
};

/// How long anything may take on a slow and busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A deadline that passes.
const SHORT: Duration = Duration::from_millis(300);

/// Beyond the short deadline, and not for ever.
const LATE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Rightly,
    Late,
    Status(u16),
    /// The right document under this status.
    RightlyWith(u16),
    NotJson,
    WrongTypes,
    Huge,
    HalfABody,
    Redirect,
    /// When it may: one permit for each answer.
    WhenLet,
}

/// The service that is asked.
#[derive(Clone)]
struct Peer {
    how: Arc<Mutex<How>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    busy: Arc<Mutex<Busy>>,
    let_through: Arc<Semaphore>,
    port: u16,
}

#[derive(Clone, Debug)]
struct Seen {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Default)]
struct Busy {
    now: usize,
    most: usize,
}

impl Peer {
    fn answers(&self, how: How) {
        *self.how.lock().unwrap() = how;
    }

    fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }

    fn url(&self, path: &str) -> Address {
        Address::parse(&format!("https://localhost:{}{path}", self.port)).unwrap()
    }

    async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<BoxBody<Bytes, io::Error>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let path = head.uri.path().to_owned();
        let right = document(&path, &head.headers, &body);
        let seen = Seen { method: head.method, path, headers: head.headers, body };
        self.seen.lock().unwrap().push(seen);
        let how = *self.how.lock().unwrap();
        let mut response = Response::builder();
        let body = match how {
            How::Rightly => right,
            How::Late => {
                sleep(LATE).await;
                right
            }
            How::Status(status) => {
                response = response.status(status);
                "<html>Sorry</html>".to_owned()
            }
            How::RightlyWith(status) => {
                response = response.status(status);
                right
            }
            How::NotJson => "<html>Welcome</html>".to_owned(),
            How::WrongTypes => right.replace("true", "\"true\"").replace(":0", ":\"0\""),
            How::Huge => format!("{right}{}", " ".repeat(100 * 1024)),
            How::HalfABody => {
                let half = Bytes::from(right).slice(..20);
                return Ok(response.body(BoxBody::new(Half(Some(half)))).unwrap());
            }
            How::Redirect => {
                response = response.status(307).header("location", self.url("/other").to_string());
                right
            }
            How::WhenLet => {
                {
                    let mut busy = self.busy.lock().unwrap();
                    busy.now += 1;
                    busy.most = busy.most.max(busy.now);
                }
                self.let_through.acquire().await.unwrap().forget();
                self.busy.lock().unwrap().now -= 1;
                right
            }
        };
        let body = Full::from(body).map_err(|never| match never {});
        Ok(response.body(BoxBody::new(body)).unwrap())
    }
}

/// What is right: `USER` may, `OTHER` may not; the certificate and one address are `USER`'s.
fn document(path: &str, headers: &HeaderMap, body: &Bytes) -> String {
    let as_user = |user| headers["cookie"] == cookie(user);
    let mapped = |userid: &str| {
        let code = if userid.is_empty() { 8 } else { 0 };
        let reason = if userid.is_empty() { 48 } else { 0 };
        json!({
            "userid": userid, "returnCode": code, "safReturnCode": code, "racfReturnCode": code,
            "racfReasonCode": reason,
        })
    };
    match path {
        "/zss/x509/map" => {
            mapped(if as_user("ZWESVUSR") && !body.is_empty() { "USER" } else { "" })
        }
        "/zss/dn" => {
            let question = json!({"dn": "jane@example.com", "registry": "ldaps://example"});
            let asked: serde_json::Value = serde_json::from_slice(body).unwrap();
            mapped(if as_user("ZWESVUSR") && asked == question { "USER" } else { "" })
        }
        _ => json!({"authorized": as_user("USER"), "error": false, "message": ""}),
    }
    .to_string()
}

fn cookie(user: &str) -> String {
    format!("apimlAuthenticationToken=token-of-{user}")
}

/// A body that breaks off.
struct Half(Option<Bytes>);

impl Body for Half {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(Some(match self.0.take() {
            Some(half) => Ok(Frame::data(half)),
            None => Err(io::Error::other("broken")),
        }))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(100)
    }
}

/// An authority, and a certificate for `localhost`.
fn pki() -> (String, ServerTls) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = ca.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();
    let tls = ServerTls::from_pem(leaf.pem().as_bytes(), key.serialize_pem().as_bytes(), None);
    (certificate.pem(), tls.unwrap())
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A peer that runs until the test ends, and the authority of its certificate.
async fn peer(how: How) -> (Peer, String) {
    let (ca, tls) = pki();
    let (listener, address) = listener().await;
    let peer = Peer {
        how: Arc::new(Mutex::new(how)),
        seen: Arc::default(),
        busy: Arc::default(),
        let_through: Arc::new(Semaphore::new(0)),
        port: address.port(),
    };
    let service = tower::service_fn({
        let peer = peer.clone();
        move |request| peer.clone().answer(request)
    });
    tokio::spawn(Server::https(listener, tls).run(service, std::future::pending()));
    (peer, ca)
}

fn limits(deadline: Duration) -> ClientLimits {
    ClientLimits::default().with_deadline(deadline)
}

fn client(ca: &str, limits: ClientLimits) -> Client<impl Connect> {
    let connector = Connector::builder()
        .with_authorities(ca.as_bytes())
        .with_connect_timeout(PATIENCE)
        .build()
        .unwrap();
    Client::new(connector, limits)
}

fn tokens(user: &UserId) -> Result<UserToken, NoToken> {
    UserToken::new(format!("token-of-{user}"))
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn certificate(names: usize) -> PeerCertificate {
    let names: Vec<_> = (0..names).map(|i| format!("name-{i}.example.com")).collect();
    let params = CertificateParams::new(names).unwrap();
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    PeerCertificate::from_der(certificate.der().to_vec()).unwrap()
}

fn jane() -> DistributedIdentity {
    DistributedIdentity::new("jane@example.com", "ldaps://example").unwrap()
}

const RESOURCE: &str = "APIML.SERVICES";

/// What came of a question to one of the three.
#[derive(Debug, PartialEq)]
enum Outcome {
    Yes,
    No,
    Failed,
    Unavailable,
}

impl From<Result<Access, SafError>> for Outcome {
    fn from(result: Result<Access, SafError>) -> Self {
        match result {
            Ok(Access::Granted) => Self::Yes,
            Ok(Access::Refused) => Self::No,
            Err(SafError::Unavailable) => Self::Unavailable,
            Err(SafError::Failed(_)) => Self::Failed,
            Err(other) => panic!("{other}"),
        }
    }
}

impl From<Result<UserId, MapError>> for Outcome {
    fn from(result: Result<UserId, MapError>) -> Self {
        match result {
            Ok(mapped) if mapped == user("USER") => Self::Yes,
            Err(MapError::NotMapped) => Self::No,
            Err(MapError::Unavailable) => Self::Unavailable,
            Err(MapError::Failed(_)) => Self::Failed,
            other => panic!("{other:?}"),
        }
    }
}

const PROVIDERS: [&str; 3] = ["SAF", "certificates", "identities"];

/// Asks one of them what should be answered with yes, without anything remembered.
async fn ask<C>(provider: &str, client: Client<C>, base: &str) -> Outcome
where
    C: Connect,
{
    let url = |path| Address::parse(&format!("{base}{path}")).unwrap();
    let asking = user("ZWESVUSR");
    let answer = async {
        match provider {
            "SAF" => EndpointSaf::new(client, url("/saf-auth"), tokens)
                .check(&user("USER"), "ZOWE", RESOURCE, AccessLevel::Read)
                .await
                .into(),
            "certificates" => ZssCertificates::new(client, url("/zss/x509/map"), asking, tokens)
                .map_certificate(&certificate(1))
                .await
                .into(),
            _ => ZssIdentities::new(client, url("/zss/dn"), asking, tokens)
                .map_identity(&jane())
                .await
                .into(),
        }
    };
    timeout(PATIENCE + SHORT, answer).await.expect("it ends")
}

#[tokio::test]
async fn only_right_answers_count() {
    use Outcome::{Failed, Unavailable, Yes};
    for (how, deadline, want) in [
        (How::Rightly, PATIENCE, Yes),
        (How::RightlyWith(201), PATIENCE, Yes),
        (How::Late, SHORT, Unavailable),
        (How::Status(500), PATIENCE, Unavailable),
        (How::Status(503), PATIENCE, Unavailable),
        (How::RightlyWith(500), PATIENCE, Unavailable),
        (How::Status(404), PATIENCE, Failed),
        (How::Status(401), PATIENCE, Failed),
        (How::RightlyWith(403), PATIENCE, Failed),
        (How::NotJson, PATIENCE, Failed),
        (How::WrongTypes, PATIENCE, Failed),
        (How::Huge, PATIENCE, Failed),
        (How::HalfABody, PATIENCE, Unavailable),
        (How::Redirect, PATIENCE, Failed),
    ] {
        let (peer, ca) = peer(how).await;
        for provider in PROVIDERS {
            let client = client(&ca, limits(deadline));
            let before = peer.calls();
            let base = format!("https://localhost:{}", peer.port);
            assert_eq!(ask(provider, client, &base).await, want, "{provider}, {how:?}");
            if deadline == PATIENCE {
                assert_eq!(peer.calls(), before + 1, "{provider}, {how:?}: asked once");
            }
        }
    }
}

#[tokio::test]
async fn without_an_answer_nobody_is_let_in() {
    let (mine, _) = pki();
    // Accepts, and says nothing.
    let (silent, silent_at) = listener().await;
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            kept.push(stream);
        }
    });
    // Accepts, and hangs up.
    let (hangs_up, hangs_up_at) = listener().await;
    tokio::spawn(async move { while hangs_up.accept().await.is_ok() {} });
    // Nobody listens.
    let (gone, gone_at) = listener().await;
    drop(gone);
    // Somebody else.
    let (stranger, _) = peer(How::Rightly).await;
    for (what, port, deadline) in [
        ("silent", silent_at.port(), SHORT),
        ("hangs up", hangs_up_at.port(), PATIENCE),
        ("gone", gone_at.port(), PATIENCE),
        ("stranger", stranger.port, PATIENCE),
    ] {
        for provider in PROVIDERS {
            let client = client(&mine, limits(deadline));
            let base = format!("https://localhost:{port}");
            assert_eq!(
                ask(provider, client, &base).await,
                Outcome::Unavailable,
                "{provider}, {what}"
            );
        }
    }
    assert_eq!(stranger.calls(), 0);
}

#[tokio::test]
async fn questions_are_those_of_the_reference() {
    let (peer, ca) = peer(How::Rightly).await;
    let client = client(&ca, limits(PATIENCE));
    let saf = EndpointSaf::new(client.clone(), peer.url("/saf-auth/"), tokens);
    let check = async |name, class, resource, level| {
        Outcome::from(saf.check(&user(name), class, resource, level).await)
    };
    let granted = check("USER", "zowe", RESOURCE, AccessLevel::Read).await;
    assert_eq!(granted, Outcome::Yes);
    let seen = peer.last();
    assert_eq!((seen.method, &*seen.path), (Method::GET, "/saf-auth/APIML.SERVICES/READ"));
    assert_eq!(seen.headers["accept"], "application/json");
    assert_eq!(seen.headers["content-type"], "application/json");
    assert_eq!(seen.headers["cookie"], cookie("USER"));
    assert_eq!(seen.body, "");

    // The same question is not asked again; another user, level or resource is another one.
    assert_eq!(check("USER", "ZOWE", RESOURCE, AccessLevel::Read).await, Outcome::Yes);
    assert_eq!(peer.calls(), 1);
    assert_eq!(check("OTHER", "ZOWE", RESOURCE, AccessLevel::Read).await, Outcome::No);
    assert_eq!(check("USER", "ZOWE", "A/..\u{a7}", AccessLevel::Alter).await, Outcome::Yes);
    assert_eq!(peer.last().path, "/saf-auth/A%2F..%C2%A7/ALTER");
    assert_eq!(peer.calls(), 3);

    // What cannot be asked is not.
    for resource in ["..", "", &"A".repeat(247)] {
        let failed = check("USER", "ZOWE", resource, AccessLevel::Read).await;
        assert_eq!(failed, Outcome::Failed, "{resource}");
    }
    let error = saf.check(&user("USER"), "FACILITY", RESOURCE, AccessLevel::Read).await;
    let (class, supported) = ("FACILITY".to_owned(), "ZOWE".to_owned());
    assert_eq!(error, Err(SafError::UnsupportedClass { class, supported }));
    let nobody = |_: &UserId| Err(NoToken::new("no key"));
    let tokenless = EndpointSaf::new(client.clone(), peer.url("/saf-auth"), nobody);
    let failed = tokenless.check(&user("USER"), "ZOWE", RESOURCE, AccessLevel::Read).await;
    assert!(matches!(&failed, Err(SafError::Failed(why)) if why.contains("no key")), "{failed:?}");
    assert_eq!(peer.calls(), 3);

    let asking = user("ZWESVUSR");
    let certificates =
        ZssCertificates::new(client.clone(), peer.url("/zss/x509/map"), asking, tokens);
    let shown = certificate(1);
    for _ in 0..2 {
        assert_eq!(certificates.map_certificate(&shown).await, Ok(user("USER")));
    }
    let seen = peer.last();
    assert_eq!((seen.method, &*seen.path), (Method::POST, "/zss/x509/map"));
    assert_eq!(seen.headers["content-type"], "application/json");
    assert_eq!(seen.headers["cookie"], cookie("ZWESVUSR"));
    assert_eq!(seen.body, *shown.der());
    assert_eq!(peer.calls(), 4);
    let large = certificate(400);
    assert!(large.der().len() > 4096);
    assert_eq!(certificates.map_certificate(&large).await, Err(MapError::NotMapped));
    assert_eq!(peer.calls(), 4);

    let identities = ZssIdentities::new(client, peer.url("/zss/dn"), asking, tokens);
    for _ in 0..2 {
        assert_eq!(identities.map_identity(&jane()).await, Ok(user("USER")));
    }
    assert_eq!(peer.last().headers["cookie"], cookie("ZWESVUSR"));
    assert_eq!(peer.calls(), 5);
    for (name, registry) in
        [("Jane@example.com", "ldaps://example"), ("jane@example.com", "ldaps://other")]
    {
        let stranger = DistributedIdentity::new(name, registry).unwrap();
        for _ in 0..2 {
            let mapped = identities.map_identity(&stranger).await;
            assert_eq!(mapped, Err(MapError::NotMapped), "{stranger}");
        }
    }
    assert_eq!(peer.calls(), 7);
    for shown in [format!("{saf:?}"), format!("{certificates:?}"), format!("{identities:?}")] {
        assert!(shown.contains("https://localhost") && !shown.contains("token-of"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_at_once_are_one_call() {
    let (peer, ca) = peer(How::WhenLet).await;
    let saf = EndpointSaf::new(client(&ca, limits(PATIENCE)), peer.url("/saf-auth"), tokens);
    let mut checks = JoinSet::new();
    for _ in 0..50 {
        checks.spawn(saf.check(&user("USER"), "ZOWE", RESOURCE, AccessLevel::Read));
    }
    until(|| peer.calls() > 0).await;
    peer.let_through.add_permits(50);
    let mut granted = 0;
    while let Some(answer) = checks.join_next().await {
        assert_eq!(answer.unwrap(), Ok(Access::Granted));
        granted += 1;
    }
    assert_eq!((granted, peer.calls()), (50, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_calls_run_at_once() {
    let (peer, ca) = peer(How::WhenLet).await;
    let limits = limits(PATIENCE).with_max_concurrent(NonZeroUsize::new(4).unwrap());
    let saf = EndpointSaf::new(client(&ca, limits), peer.url("/saf-auth"), tokens);
    let mut checks = JoinSet::new();
    for i in 0..30 {
        let resource = format!("RESOURCE.{i}");
        checks.spawn(saf.check(&user("USER"), "ZOWE", &resource, AccessLevel::Read));
    }
    until(|| peer.busy.lock().unwrap().now == 4).await;
    sleep(SHORT).await;
    assert_eq!(peer.calls(), 4, "the others wait");
    peer.let_through.add_permits(30);
    while let Some(answer) = checks.join_next().await {
        assert_eq!(answer.unwrap(), Ok(Access::Granted));
    }
    assert_eq!((peer.calls(), peer.busy.lock().unwrap().most), (30, 4));
}

#[tokio::test]
async fn who_would_wait_too_long_fails_and_leaves_its_place() {
    let (peer, ca) = peer(How::WhenLet).await;
    let one = NonZeroUsize::MIN;
    let limits = limits(PATIENCE).with_max_concurrent(one).with_max_waiting(1);
    let client = client(&ca, limits);
    let request = || {
        let url = peer.url("/x").to_string();
        Request::get(url).header("cookie", cookie("USER")).body(Full::default()).unwrap()
    };
    {
        let mut first = tokio_test::task::spawn(client.call(request()));
        let mut second = tokio_test::task::spawn(client.call(request()));
        let mut third = tokio_test::task::spawn(client.call(request()));
        assert!(first.poll().is_pending() && second.poll().is_pending());
        let Poll::Ready(third) = third.poll() else { panic!("there is no place for it") };
        assert!(matches!(third, Err(RemoteError::Unavailable(_))), "{third:?}");
    }
    // They have given up, and others are let in.
    peer.answers(How::Rightly);
    peer.let_through.add_permits(2);
    assert_eq!(client.call(request()).await.unwrap().status(), 200);
}

/// Waits for the turn of others count, too.
#[tokio::test]
async fn the_deadline_counts_from_the_question() {
    let (peer, ca) = peer(How::WhenLet).await;
    let limits = limits(SHORT).with_max_concurrent(NonZeroUsize::MIN);
    let saf = EndpointSaf::new(client(&ca, limits), peer.url("/saf-auth"), tokens);
    let mut checks = JoinSet::new();
    for i in 0..20 {
        let resource = format!("RESOURCE.{i}");
        checks.spawn(saf.check(&user("USER"), "ZOWE", &resource, AccessLevel::Read));
    }
    // One after the other it would be six seconds.
    let all = async {
        while let Some(answer) = checks.join_next().await {
            assert_eq!(answer.unwrap(), Err(SafError::Unavailable));
        }
    };
    timeout(SHORT * 10, all).await.expect("all of them end");
}

/// What the peer is reached through: can be cut.
struct Line {
    port: u16,
    up: watch::Sender<bool>,
}

async fn line(to: u16) -> Line {
    let (listener, address) = listener().await;
    let (up, state) = watch::channel(true);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut state = state.clone();
            if !*state.borrow_and_update() {
                continue;
            }
            tokio::spawn(async move {
                let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    _ = state.changed() => {}
                }
            });
        }
    });
    Line { port: address.port(), up }
}

#[tokio::test]
async fn a_peer_that_comes_back_is_asked_again() {
    let (peer, ca) = peer(How::Rightly).await;
    let line = line(peer.port).await;
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
    let address = Address::parse(&format!("https://localhost:{}/saf-auth", line.port)).unwrap();
    let memory = CachePolicy::default().with_found(Duration::from_secs(30));
    let saf = EndpointSaf::new(client(&ca, limits(PATIENCE)), address, tokens)
        .remembering(memory, clock.clone());
    let check = async || saf.check(&user("USER"), "ZOWE", RESOURCE, AccessLevel::Read).await;
    assert_eq!(check().await, Ok(Access::Granted));

    line.up.send(false).unwrap();
    clock.advance(Duration::from_secs(29));
    assert_eq!(check().await, Ok(Access::Granted), "remembered");
    clock.advance(Duration::from_secs(1));
    assert_eq!(check().await, Err(SafError::Unavailable), "and no longer");
    let calls = peer.calls();

    line.up.send(true).unwrap();
    assert_eq!(check().await, Err(SafError::Unavailable), "remembered for a second");
    assert_eq!(peer.calls(), calls);
    clock.advance(Duration::from_secs(1));
    assert_eq!(check().await, Ok(Access::Granted));
    assert_eq!(peer.calls(), calls + 1);
}

#[tokio::test]
async fn a_connection_that_was_closed_in_the_meantime_fails_no_call() {
    let (peer, ca) = peer(How::Rightly).await;
    let line = line(peer.port).await;
    let address = Address::parse(&format!("https://localhost:{}/saf-auth", line.port)).unwrap();
    let saf = EndpointSaf::new(client(&ca, limits(PATIENCE)), address, tokens);
    for i in 0..20 {
        let resource = format!("RESOURCE.{i}");
        let answer = saf.check(&user("USER"), "ZOWE", &resource, AccessLevel::Read).await;
        assert_eq!(answer, Ok(Access::Granted), "{i}");
        // Connections that there are, are cut; new ones are let through.
        line.up.send(true).unwrap();
        if i % 2 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("it comes true");
}
