//! Tests of three providers that call another server over TLS. The server sends correct, late or malformed responses,
//! or no response.
//!
//! - `EndpointSaf` asks whether a user may access a resource (a SAF check). SAF is the z/OS interface to the security
//!   product.
//! - `ZssCertificates` asks which user a client certificate belongs to. The server is ZSS (Zowe System Services) on
//!   z/OS.
//! - `ZssIdentities` asks ZSS which user a distributed identity belongs to. A distributed identity is a name in a user
//!   registry such as LDAP.

use std::{
    convert::Infallible,
    io,
    net::Ipv4Addr,
    num::NonZeroUsize,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use rcgen::CertificateParams;
use serde_json::json;
use test_support::{
    pki::{Authority, SERVER, self_signed},
    raw::{self, Scripted, Step, listener},
    tickets::user,
};
use tokio::{
    io::{AsyncWriteExt, BufReader, copy_bidirectional},
    net::TcpStream,
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

use crate::{PATIENCE, until};

/// The deadline of a call that the peer answers too late.
const SHORT: Duration = Duration::from_millis(300);

/// Longer than any deadline in this file.
const LATE: Duration = Duration::from_secs(30);

/// How the peer answers. The peer is the server that a provider calls.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Correct,
    Late,
    /// An HTML document with this status.
    Status(u16),
    /// The correct document with this status.
    CorrectWith(u16),
    NotJson,
    WrongTypes,
    Huge,
    HalfABody,
    Redirect,
    /// The correct document, but only after the test has added a permit for this request.
    WhenPermitted,
}

#[derive(Clone)]
struct Peer {
    how: Arc<Mutex<How>>,
    received: Arc<Mutex<Vec<Received>>>,
    concurrent: Arc<Mutex<Concurrent>>,
    permits: Arc<Semaphore>,
    port: u16,
}

#[derive(Clone, Debug)]
struct Received {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

/// Counts the requests that the peer handles at the same time.
#[derive(Default)]
struct Concurrent {
    now: usize,
    max: usize,
}

impl Peer {
    fn set_how(&self, how: How) {
        *self.how.lock().unwrap() = how;
    }

    fn calls(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    fn last(&self) -> Received {
        self.received.lock().unwrap().last().unwrap().clone()
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
        let correct = document(&path, &head.headers, &body);
        let received = Received { method: head.method, path, headers: head.headers, body };
        self.received.lock().unwrap().push(received);
        let how = *self.how.lock().unwrap();
        let mut response = Response::builder();
        let body = match how {
            How::Correct => correct,
            How::Late => {
                sleep(LATE).await;
                correct
            }
            How::Status(status) => {
                response = response.status(status);
                "<html>Sorry</html>".to_owned()
            }
            How::CorrectWith(status) => {
                response = response.status(status);
                correct
            }
            How::NotJson => "<html>Welcome</html>".to_owned(),
            How::WrongTypes => correct.replace("true", "\"true\"").replace(":0", ":\"0\""),
            How::Huge => format!("{correct}{}", " ".repeat(100 * 1024)),
            How::HalfABody => {
                let half = Bytes::from(correct).slice(..20);
                return Ok(response.body(BoxBody::new(Half(Some(half)))).unwrap());
            }
            How::Redirect => {
                response = response.status(307).header("location", self.url("/other").to_string());
                correct
            }
            How::WhenPermitted => {
                {
                    let mut concurrent = self.concurrent.lock().unwrap();
                    concurrent.now += 1;
                    concurrent.max = concurrent.max.max(concurrent.now);
                }
                self.permits.acquire().await.unwrap().forget();
                self.concurrent.lock().unwrap().now -= 1;
                correct
            }
        };
        let body = Full::from(body).map_err(|never| match never {});
        Ok(response.body(BoxBody::new(body)).unwrap())
    }
}

/// Returns the correct document. `USER` is authorized, and other users are not. Every certificate belongs to `USER`.
/// One distributed identity also belongs to `USER`, and all others belong to no user.
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
            let jane = json!({"dn": "jane@example.com", "registry": "ldaps://example"});
            let identity: serde_json::Value = serde_json::from_slice(body).unwrap();
            mapped(if as_user("ZWESVUSR") && identity == jane { "USER" } else { "" })
        }
        _ => json!({"authorized": as_user("USER"), "error": false, "message": ""}),
    }
    .to_string()
}

fn cookie(user: &str) -> String {
    format!("apimlAuthenticationToken=token-of-{user}")
}

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

/// Starts a peer with the certificate [`SERVER`]. It runs until the test ends.
async fn peer(how: How) -> Peer {
    peer_with(how, SERVER.certificate).await
}

/// Starts a peer with this certificate, which must be for the key of [`SERVER`].
async fn peer_with(how: How, certificate: &str) -> Peer {
    let tls = ServerTls::from_pem(certificate.as_bytes(), SERVER.key.as_bytes(), None).unwrap();
    let (listener, address) = listener().await;
    let peer = Peer {
        how: Arc::new(Mutex::new(how)),
        received: Arc::default(),
        concurrent: Arc::default(),
        permits: Arc::new(Semaphore::new(0)),
        port: address.port(),
    };
    let service = tower::service_fn({
        let peer = peer.clone();
        move |request| peer.clone().answer(request)
    });
    tokio::spawn(Server::https(listener, tls).run(service, std::future::pending()));
    peer
}

fn limits(deadline: Duration) -> ClientLimits {
    ClientLimits::default().with_deadline(deadline)
}

/// Returns a client that trusts the CA of [`SERVER`].
fn client(limits: ClientLimits) -> Client<impl Connect> {
    let connector = Connector::builder()
        .with_authorities(Authority::trusted().pem().as_bytes())
        .with_connect_timeout(PATIENCE)
        .build()
        .unwrap();
    Client::new(connector, limits)
}

fn tokens(user: &UserId) -> Result<UserToken, NoToken> {
    UserToken::new(format!("token-of-{user}"))
}

/// Returns a certificate with this number of host names.
fn certificate(names: usize) -> PeerCertificate {
    let names: Vec<_> = (0..names).map(|i| format!("name-{i}.example.com")).collect();
    let der = self_signed(|params| {
        params.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
    });
    PeerCertificate::from_der(der).unwrap()
}

fn jane() -> DistributedIdentity {
    DistributedIdentity::new("jane@example.com", "ldaps://example").unwrap()
}

const RESOURCE: &str = "APIML.SERVICES";

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

/// Calls a new provider, whose cache is empty. Returns [`Outcome::Yes`] after a correct response.
async fn ask<C>(provider: &str, client: Client<C>, base: &str) -> Outcome
where
    C: Connect,
{
    let url = |path| Address::parse(&format!("{base}{path}")).unwrap();
    let asking = user("ZWESVUSR");
    let outcome = async {
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
    timeout(PATIENCE + SHORT, outcome).await.expect("the call returns in time")
}

#[tokio::test]
async fn only_correct_responses_grant_access() {
    use Outcome::{Failed, Unavailable, Yes};
    for (how, deadline, want) in [
        (How::Correct, PATIENCE, Yes),
        (How::CorrectWith(201), PATIENCE, Yes),
        (How::Late, SHORT, Unavailable),
        (How::Status(500), PATIENCE, Unavailable),
        (How::Status(503), PATIENCE, Unavailable),
        (How::CorrectWith(500), PATIENCE, Unavailable),
        (How::Status(404), PATIENCE, Failed),
        (How::Status(401), PATIENCE, Failed),
        (How::CorrectWith(403), PATIENCE, Failed),
        (How::NotJson, PATIENCE, Failed),
        (How::WrongTypes, PATIENCE, Failed),
        (How::Huge, PATIENCE, Failed),
        (How::HalfABody, PATIENCE, Unavailable),
        (How::Redirect, PATIENCE, Failed),
    ] {
        let peer = peer(how).await;
        for provider in PROVIDERS {
            let client = client(limits(deadline));
            let before = peer.calls();
            let base = format!("https://localhost:{}", peer.port);
            assert_eq!(ask(provider, client, &base).await, want, "{provider}, {how:?}");
            if deadline == PATIENCE {
                assert_eq!(peer.calls(), before + 1, "{provider}, {how:?}: expected one call");
            }
        }
    }
}

#[tokio::test]
async fn without_a_response_the_outcome_is_unavailable() {
    let silent = Scripted::http([Step::Stall]).await;
    let closing = Scripted::http([]).await;
    let (not_listening, free_address) = listener().await;
    drop(not_listening);
    let foreign = Authority::namesake().certify(&SERVER.key_pair(), |_| {});
    let untrusted = peer_with(How::Correct, &foreign).await;
    for (name, port, deadline) in [
        ("sends nothing", silent.address.port(), SHORT),
        ("closes the connection", closing.address.port(), PATIENCE),
        ("does not listen", free_address.port(), PATIENCE),
        ("has a certificate of another authority", untrusted.port, PATIENCE),
    ] {
        for provider in PROVIDERS {
            let client = client(limits(deadline));
            let base = format!("https://localhost:{port}");
            assert_eq!(
                ask(provider, client, &base).await,
                Outcome::Unavailable,
                "{provider}, the peer {name}"
            );
        }
    }
    assert_eq!(untrusted.calls(), 0);
}

/// A server that sends endless or too large responses.
#[derive(Clone, Copy, Debug)]
struct Hostile {
    /// The bytes that the server sends first.
    first: &'static str,
    /// The bytes that the server sends repeatedly after that.
    again: &'static str,
    pace: Pace,
}

#[derive(Clone, Copy, Debug)]
enum Pace {
    Drip,
    Flood,
}

impl Hostile {
    /// Starts the server. Returns its port.
    async fn start(self) -> u16 {
        let address = raw::service(move |mut stream| async move {
            raw::head(&mut BufReader::new(&mut stream)).await;
            let (times, pause) = match self.pace {
                Pace::Drip => (1, Duration::from_millis(20)),
                Pace::Flood => (1000, Duration::ZERO),
            };
            let (mut next, again) = (self.first, self.again.repeat(times));
            // The loop ends when the gateway closes the connection.
            while stream.write_all(next.as_bytes()).await.is_ok() {
                next = &again;
                sleep(pause).await;
            }
        })
        .await;
        address.port()
    }
}

#[tokio::test]
async fn a_call_to_a_hostile_server_ends_at_the_deadline() {
    use Outcome::{Failed, Unavailable};
    use Pace::{Drip, Flood};
    let hostile = |first, again, pace| Hostile { first, again, pace };
    for (hostile, want) in [
        (hostile("H", "T", Drip), Unavailable),
        (hostile("HTTP/1.1 200 OK\r\nx: ", "y", Drip), Unavailable),
        (hostile("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{", " ", Drip), Unavailable),
        (hostile("HTTP/1.1 200 OK\r\n\r\n{", " ", Drip), Unavailable),
        (hostile("HTTP/1.1 103 Early Hints\r\n\r\n", "HTTP/1.1 103 E\r\n\r\n", Flood), Unavailable),
        (hostile("HTTP/1.1 200 OK\r\nx: ", "yyyyyyyy", Flood), Unavailable),
        // This body exceeds the limit of 64 KiB.
        (hostile("HTTP/1.1 200 OK\r\n\r\n", "{\"authorized\": true", Flood), Failed),
        (
            hostile("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", "        ", Flood),
            Failed,
        ),
    ] {
        for provider in PROVIDERS {
            let port = hostile.start().await;
            let client = client(limits(if want == Failed { PATIENCE } else { SHORT }));
            let begin = Instant::now();
            let outcome = ask(provider, client, &format!("http://localhost:{port}")).await;
            assert_eq!(outcome, want, "{provider}, {hostile:?}");
            if want == Unavailable {
                assert!(begin.elapsed() < SHORT * 5, "{:?}, {hostile:?}", begin.elapsed());
            }
        }
    }
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let target = peer(How::Correct).await;
    for status in [300, 301, 302, 303, 307, 308] {
        let location = target.url("/saf-auth");
        let head = format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\n");
        let body = r#"{"authorized": true, "error": false, "message": ""}"#;
        let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        let moved = Scripted::http([Step::ReadHead, Step::send(answer), Step::Stall]).await;
        for provider in ["SAF", "identities"] {
            let base = format!("http://localhost:{}", moved.address.port());
            let outcome = ask(provider, client(limits(PATIENCE)), &base).await;
            assert_eq!(outcome, Outcome::Failed, "{provider}, {status}");
        }
    }
    assert_eq!(target.calls(), 0);
}

#[tokio::test]
async fn calls_have_the_form_that_zowe_expects_and_are_cached() {
    let peer = peer(How::Correct).await;
    let client = client(limits(PATIENCE));
    let saf = EndpointSaf::new(client.clone(), peer.url("/saf-auth/"), tokens);
    let check = async |name, class, resource, level| {
        Outcome::from(saf.check(&user(name), class, resource, level).await)
    };
    let granted = check("USER", "zowe", RESOURCE, AccessLevel::Read).await;
    assert_eq!(granted, Outcome::Yes);
    let request = peer.last();
    assert_eq!((request.method, &*request.path), (Method::GET, "/saf-auth/APIML.SERVICES/READ"));
    assert_eq!(request.headers["accept"], "application/json");
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.headers["cookie"], cookie("USER"));
    assert_eq!(request.body, "");

    // The provider answers an equal check from its cache. A check of another user, level or resource is a new call.
    assert_eq!(check("USER", "ZOWE", RESOURCE, AccessLevel::Read).await, Outcome::Yes);
    assert_eq!(peer.calls(), 1);
    assert_eq!(check("OTHER", "ZOWE", RESOURCE, AccessLevel::Read).await, Outcome::No);
    assert_eq!(check("USER", "ZOWE", "A/..\u{a7}", AccessLevel::Alter).await, Outcome::Yes);
    assert_eq!(peer.last().path, "/saf-auth/A%2F..%C2%A7/ALTER");
    assert_eq!(peer.calls(), 3);

    // For an invalid resource, the check fails without a call.
    for resource in ["..", "", &"A".repeat(247)] {
        let failed = check("USER", "ZOWE", resource, AccessLevel::Read).await;
        assert_eq!(failed, Outcome::Failed, "{resource}");
    }
    let error = saf.check(&user("USER"), "FACILITY", RESOURCE, AccessLevel::Read).await;
    let (class, supported) = ("FACILITY".to_owned(), "ZOWE".to_owned());
    assert_eq!(error, Err(SafError::UnsupportedClass { class, supported }));
    let no_token = |_: &UserId| Err(NoToken::new("no key"));
    let without_token = EndpointSaf::new(client.clone(), peer.url("/saf-auth"), no_token);
    let failed = without_token.check(&user("USER"), "ZOWE", RESOURCE, AccessLevel::Read).await;
    assert!(matches!(&failed, Err(SafError::Failed(why)) if why.contains("no key")), "{failed:?}");
    assert_eq!(peer.calls(), 3);

    let asking = user("ZWESVUSR");
    let certificates =
        ZssCertificates::new(client.clone(), peer.url("/zss/x509/map"), asking, tokens);
    let small = certificate(1);
    for _ in 0..2 {
        assert_eq!(certificates.map_certificate(&small).await, Ok(user("USER")));
    }
    let request = peer.last();
    assert_eq!((request.method, &*request.path), (Method::POST, "/zss/x509/map"));
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.headers["cookie"], cookie("ZWESVUSR"));
    assert_eq!(request.body, *small.der());
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
        let unknown = DistributedIdentity::new(name, registry).unwrap();
        for _ in 0..2 {
            let mapped = identities.map_identity(&unknown).await;
            assert_eq!(mapped, Err(MapError::NotMapped), "{unknown}");
        }
    }
    assert_eq!(peer.calls(), 7);
    for debug in [format!("{saf:?}"), format!("{certificates:?}"), format!("{identities:?}")] {
        assert!(debug.contains("https://localhost") && !debug.contains("token-of"), "{debug}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_equal_concurrent_checks_make_one_call() {
    let peer = peer(How::WhenPermitted).await;
    let saf = EndpointSaf::new(client(limits(PATIENCE)), peer.url("/saf-auth"), tokens);
    let mut checks = JoinSet::new();
    for _ in 0..50 {
        checks.spawn(saf.check(&user("USER"), "ZOWE", RESOURCE, AccessLevel::Read));
    }
    until(|| peer.calls() > 0).await;
    peer.permits.add_permits(50);
    let mut granted = 0;
    while let Some(answer) = checks.join_next().await {
        assert_eq!(answer.unwrap(), Ok(Access::Granted));
        granted += 1;
    }
    assert_eq!((granted, peer.calls()), (50, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_calls_are_limited() {
    let peer = peer(How::WhenPermitted).await;
    let limits = limits(PATIENCE).with_max_concurrent(NonZeroUsize::new(4).unwrap());
    let saf = EndpointSaf::new(client(limits), peer.url("/saf-auth"), tokens);
    let mut checks = JoinSet::new();
    for i in 0..30 {
        let resource = format!("RESOURCE.{i}");
        checks.spawn(saf.check(&user("USER"), "ZOWE", &resource, AccessLevel::Read));
    }
    until(|| peer.concurrent.lock().unwrap().now == 4).await;
    sleep(SHORT).await;
    assert_eq!(peer.calls(), 4, "expected that all further calls wait");
    peer.permits.add_permits(30);
    while let Some(answer) = checks.join_next().await {
        assert_eq!(answer.unwrap(), Ok(Access::Granted));
    }
    assert_eq!((peer.calls(), peer.concurrent.lock().unwrap().max), (30, 4));
}

#[tokio::test]
async fn a_call_fails_if_the_queue_is_full_and_a_dropped_call_leaves_the_queue() {
    let peer = peer(How::WhenPermitted).await;
    let one = NonZeroUsize::MIN;
    let limits = limits(PATIENCE).with_max_concurrent(one).with_max_waiting(1);
    let client = client(limits);
    let request = || {
        let url = peer.url("/x").to_string();
        Request::get(url).header("cookie", cookie("USER")).body(Full::default()).unwrap()
    };
    {
        let mut first = tokio_test::task::spawn(client.call(request()));
        let mut second = tokio_test::task::spawn(client.call(request()));
        let mut third = tokio_test::task::spawn(client.call(request()));
        assert!(first.poll().is_pending() && second.poll().is_pending());
        let Poll::Ready(third) = third.poll() else {
            panic!("expected an error because the queue is full")
        };
        assert!(matches!(third, Err(RemoteError::Unavailable(_))), "{third:?}");
    }
    // All three calls are now dropped, so the queue accepts a new call.
    peer.set_how(How::Correct);
    peer.permits.add_permits(2);
    assert_eq!(client.call(request()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_deadline_counts_from_the_start_of_the_call() {
    let peer = peer(How::WhenPermitted).await;
    let limits = limits(SHORT).with_max_concurrent(NonZeroUsize::MIN);
    let saf = EndpointSaf::new(client(limits), peer.url("/saf-auth"), tokens);
    let mut checks = JoinSet::new();
    for i in 0..20 {
        let resource = format!("RESOURCE.{i}");
        checks.spawn(saf.check(&user("USER"), "ZOWE", &resource, AccessLevel::Read));
    }
    // If the deadline of a call began only when the call leaves the queue, all calls together would take six seconds.
    let all = async {
        while let Some(answer) = checks.join_next().await {
            assert_eq!(answer.unwrap(), Err(SafError::Unavailable));
        }
    };
    timeout(SHORT * 10, all).await.expect("all calls end in time");
}

/// A TCP proxy in front of the peer. When a test sends a value to `up`, the proxy closes all open connections. After
/// the value `false`, it also closes each new connection, until the test sends `true`.
struct TcpProxy {
    port: u16,
    up: watch::Sender<bool>,
}

async fn tcp_proxy(peer_port: u16) -> TcpProxy {
    let (listener, address) = listener().await;
    let (up, state) = watch::channel(true);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut state = state.clone();
            if !*state.borrow_and_update() {
                continue;
            }
            tokio::spawn(async move {
                let address = (Ipv4Addr::LOCALHOST, peer_port);
                let mut peer = TcpStream::connect(address).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut peer) => {}
                    _ = state.changed() => {}
                }
            });
        }
    });
    TcpProxy { port: address.port(), up }
}

#[tokio::test]
async fn a_peer_is_called_again_after_it_was_unreachable() {
    let peer = peer(How::Correct).await;
    let proxy = tcp_proxy(peer.port).await;
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
    let address = Address::parse(&format!("https://localhost:{}/saf-auth", proxy.port)).unwrap();
    let policy = CachePolicy::default().with_found(Duration::from_secs(30));
    let saf = EndpointSaf::new(client(limits(PATIENCE)), address, tokens)
        .with_cache(policy, clock.clone());
    let check = async || saf.check(&user("USER"), "ZOWE", RESOURCE, AccessLevel::Read).await;
    assert_eq!(check().await, Ok(Access::Granted));

    proxy.up.send(false).unwrap();
    clock.advance(Duration::from_secs(29));
    assert_eq!(check().await, Ok(Access::Granted), "expected the cached result");
    clock.advance(Duration::from_secs(1));
    assert_eq!(
        check().await,
        Err(SafError::Unavailable),
        "expected a call, because the cached result has expired"
    );
    let calls = peer.calls();

    proxy.up.send(true).unwrap();
    assert_eq!(check().await, Err(SafError::Unavailable), "expected the cached error");
    assert_eq!(peer.calls(), calls);
    clock.advance(Duration::from_secs(1));
    assert_eq!(check().await, Ok(Access::Granted));
    assert_eq!(peer.calls(), calls + 1);
}

#[tokio::test]
async fn no_call_fails_because_a_pooled_connection_was_closed() {
    let peer = peer(How::Correct).await;
    let proxy = tcp_proxy(peer.port).await;
    let address = Address::parse(&format!("https://localhost:{}/saf-auth", proxy.port)).unwrap();
    let saf = EndpointSaf::new(client(limits(PATIENCE)), address, tokens);
    for i in 0..20 {
        let resource = format!("RESOURCE.{i}");
        let answer = saf.check(&user("USER"), "ZOWE", &resource, AccessLevel::Read).await;
        assert_eq!(answer, Ok(Access::Granted), "{i}");
        // With `true`, the proxy closes the open connections, and new connections reach the peer.
        proxy.up.send(true).unwrap();
        if i % 2 == 0 {
            tokio::task::yield_now().await;
        }
    }
}
