//! Tests of a service with several instances. The gateway chooses an instance for each request, ejects a failed
//! instance (stops using it), and sends failed requests again. A PassTicket is a short-lived password of z/OS.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use test_support::{pki, raw, tickets::key_profile};
use tokio::{
    io::{AsyncWriteExt, BufReader, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::oneshot,
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};
use tower_passticket::{
    clock::{ManualClock, Timestamp},
    layer::{
        AuthenticateLayer, Authenticator, Balancing, Bypass, Instance, Instances, PassTicketScheme,
        Route, RouteLayer, Routes, Scheme, SchemeLayer, ScopeLayer, Upstream,
    },
    passticket::{KeyProfiles, LocalGenerator, Replay, UserId},
    proxy::{Forward, ForwardTimeouts, InstanceHealth, InstanceStates, ResponseBody},
    token::{Rs256Verifier, ServiceId, SigningKey, TokenIssuer},
};

use crate::{PATIENCE, forwarding::unverified, until};

/// The number of times that an instance has received each request. The key is `METHOD path authorization`.
type Received = Arc<Mutex<HashMap<String, usize>>>;

/// An instance of a service, with its own thread and runtime. So a test can close all sockets of the instance at once,
/// as the kernel does when a process is killed.
struct Running {
    address: SocketAddr,
    received: Received,
    kill: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Running {
    fn start() -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    fn start_at(address_to_bind: SocketAddr) -> Self {
        let received = Received::default();
        let (kill, killed) = oneshot::channel::<()>();
        let (started, address) = mpsc::channel();
        let of_thread = received.clone();
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let listener = runtime.block_on(TcpListener::bind(address_to_bind)).unwrap();
            started.send(listener.local_addr().unwrap()).unwrap();
            runtime.spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(answer(stream, of_thread.clone()));
                }
            });
            let _ = runtime.block_on(killed);
            runtime.shutdown_background();
        });
        let address = address.recv().unwrap();
        Self { address, received, kill, thread }
    }

    /// Closes all sockets of the instance. Returns its address and the requests that it has received.
    fn kill(self) -> (SocketAddr, Received) {
        self.kill.send(()).unwrap();
        self.thread.join().unwrap();
        (self.address, self.received)
    }

    fn requests(&self) -> usize {
        self.received.lock().unwrap().values().sum()
    }
}

/// Answers each request after 2 ms with the port of the instance.
async fn answer(stream: TcpStream, received: Received) {
    let port = stream.local_addr().unwrap().port();
    let mut stream = BufReader::new(stream);
    loop {
        let Ok(Ok(head)) = timeout(PATIENCE, async {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                use tokio::io::AsyncBufReadExt;
                if stream.read_line(&mut head).await? == 0 {
                    return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
                }
            }
            Ok(head)
        })
        .await
        else {
            return;
        };
        assert!(!head.contains("x-instanceid"), "{head}");
        let mut line: Vec<_> = head.split(' ').take(2).collect();
        line.extend(head.lines().find_map(|line| line.strip_prefix("authorization: ")));
        *received.lock().unwrap().entry(line.join(" ")).or_default() += 1;
        if head.contains("content-length: 4") {
            raw::discard(&mut stream, 4).await;
        }
        sleep(Duration::from_millis(2)).await;
        let body = port.to_string();
        let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

type Body = Full<Bytes>;

async fn answer_on(stream: DuplexStream) {
    let mut stream = BufReader::new(stream);
    let head = raw::head(&mut stream).await;
    if head.contains("content-length: 4") {
        raw::discard(&mut stream, 4).await;
    }
    let response = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    stream.get_mut().write_all(response).await.unwrap();
}

fn route(addresses: &[SocketAddr], balancing: Balancing, scheme: impl Scheme) -> Routes {
    let service = ServiceId::new("svc").unwrap();
    let upstream = |address: &SocketAddr| Upstream::parse(&format!("http://{address}")).unwrap();
    let instances =
        addresses.iter().map(|address| Instance::of_service(&service, upstream(address)));
    let instances = Instances::new(instances).with_balancing(balancing);
    let route = Route::new(service.clone(), "", upstream(&addresses[0]), scheme).unwrap();
    Routes::new([route.with_instances(instances)]).unwrap()
}

fn stack(
    addresses: &[SocketAddr],
    states: Arc<InstanceStates>,
) -> impl Service<Request<Body>, Response = Response<ResponseBody>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static
+ use<> {
    let routes = route(addresses, Balancing::LeastInFlight, Bypass);
    let forward = Forward::new(unverified(), ForwardTimeouts::default().with_response(PATIENCE));
    ServiceBuilder::new()
        .layer(RouteLayer::new(routes))
        .service(forward.with_instance_states(states))
}

fn request(method: Method, path: &str) -> Request<Body> {
    let body = if method == Method::POST { "body" } else { "" };
    Request::builder().method(method).uri(format!("/svc/{path}")).body(body.into()).unwrap()
}

async fn send(
    stack: impl Service<Request<Body>, Response = Response<ResponseBody>, Error = Infallible>,
    request: Request<Body>,
) -> (StatusCode, Option<String>) {
    let response = stack.oneshot(request).await.unwrap();
    assert!(!response.headers().contains_key("x-zowe-auth-failure"), "{response:?}");
    let status = response.status();
    let body = response.into_body().collect().await.ok();
    (status, body.map(|body| String::from_utf8(body.to_bytes().to_vec()).unwrap()))
}

#[tokio::test]
async fn no_get_fails_if_an_instance_is_killed_under_load() {
    let mut instances = [(); 3].map(|()| Some(Running::start()));
    let addresses = instances.each_ref().map(|it| it.as_ref().unwrap().address);
    let states = Arc::<InstanceStates>::default();
    let stack = stack(&addresses, states.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let gets = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for client in 0..20 {
        let (stack, stop, gets) = (stack.clone(), stop.clone(), gets.clone());
        let is_post = client % 5 == 0;
        clients.spawn(async move {
            let (mut failed, mut sent) = (Vec::new(), 0);
            while !stop.load(Ordering::Relaxed) {
                let path = format!("{client}-{sent}");
                sent += 1;
                let method = if is_post { Method::POST } else { Method::GET };
                let answer = send(stack.clone(), request(method.clone(), &path)).await;
                if !matches!(answer, (StatusCode::OK, Some(_))) {
                    failed.push((method, path, answer));
                } else if !is_post {
                    gets.fetch_add(1, Ordering::Relaxed);
                }
            }
            failed
        });
    }
    let has_requests = |more: usize| {
        let before = gets.load(Ordering::Relaxed);
        let gets = gets.clone();
        move || gets.load(Ordering::Relaxed) >= before + more
    };
    let first = instances[0].take().unwrap();
    until(|| [&first].into_iter().chain(instances.iter().flatten()).all(|it| it.requests() > 50))
        .await;
    let (address, received) = first.kill();
    until(has_requests(300)).await;
    let upstream = Upstream::parse(&format!("http://{address}")).unwrap();
    let health = || states.health(&ServiceId::new("svc").unwrap(), &upstream);
    until(|| health() == InstanceHealth::Ejected).await;
    assert_eq!(states.unhealthy(), [(format!("svc at {upstream}"), InstanceHealth::Ejected)]);

    // The gateway has already closed its connections to the killed instance, so no POST fails.
    let posts = (0..50).map(|number| {
        let request = request(Method::POST, &format!("after-{number}"));
        send(stack.clone(), request)
    });
    for (status, _) in futures_join(posts).await {
        assert_eq!(status, 200);
    }
    let again = Running::start_at(address);
    until(|| again.requests() > 50).await;
    until(|| health() == InstanceHealth::Up).await;
    stop.store(true, Ordering::Relaxed);
    let failed: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    let failed_gets: Vec<_> = failed.iter().filter(|it| it.0 == Method::GET).collect();
    assert!(failed_gets.is_empty(), "{failed_gets:?}");
    // Each of the four clients had at most one POST in flight when the instance was killed.
    assert!(failed.len() <= 4, "{failed:?}");
    let mut posts = HashMap::<String, usize>::new();
    let all = instances.iter().flatten().map(|it| it.received.clone()).chain([received]);
    for received in all.chain([again.received.clone()]) {
        for (line, times) in &*received.lock().unwrap() {
            *posts.entry(line.clone()).or_default() += times;
        }
    }
    posts.retain(|line, times| line.starts_with("POST") && *times > 1);
    assert!(posts.is_empty(), "these requests were executed twice: {posts:?}");
}

async fn futures_join<F: Future<Output: Send + 'static> + Send + 'static>(
    futures: impl Iterator<Item = F>,
) -> Vec<F::Output> {
    futures.collect::<JoinSet<_>>().join_all().await
}

async fn refused() -> SocketAddr {
    raw::listener().await.1
}

#[tokio::test]
async fn after_a_refused_connection_a_request_of_any_method_is_sent_to_another_instance() {
    let instance = Running::start();
    let addresses = [refused().await, instance.address];
    for method in [Method::GET, Method::POST, Method::DELETE] {
        // A new stack does not know which instance fails.
        for _ in 0..8 {
            let stack = stack(&addresses, Arc::default());
            let (status, body) = send(stack, request(method.clone(), "x")).await;
            assert_eq!((status, body), (StatusCode::OK, Some(instance.address.port().to_string())));
        }
    }
    let addresses = [refused().await, refused().await];
    let (status, _) = send(stack(&addresses, Arc::default()), request(Method::GET, "x")).await;
    assert_eq!(status, 503, "no instance can be reached");
}

#[tokio::test]
async fn a_client_chooses_an_instance_by_its_id() {
    let instances = [(); 3].map(|()| Running::start());
    let addresses = instances.each_ref().map(|it| it.address);
    let stack = stack(&addresses, Arc::default());
    let to = |id: &str| {
        let mut request = request(Method::GET, "x");
        request.headers_mut().insert("x-instanceid", id.parse().unwrap());
        send(stack.clone(), request)
    };
    for address in addresses.iter().chain(&addresses) {
        let (status, body) = to(&format!("127.0.0.1:svc:{}", address.port())).await;
        assert_eq!((status, body), (StatusCode::OK, Some(address.port().to_string())));
    }
    for id in ["", "127.0.0.1:svc:1", &format!("127.0.0.1:SVC:{}", addresses[0].port())] {
        let (status, body) = to(id).await;
        assert_eq!(status, 404, "{id}");
        assert!(body.unwrap().contains("ZWEAG510E"));
    }
    // The chosen instance is killed. The gateway must not send the request to another instance.
    let [first, second, third] = instances;
    let (killed, _) = first.kill();
    let before = second.requests() + third.requests();
    let (status, _) = to(&format!("127.0.0.1:svc:{}", killed.port())).await;
    assert_eq!(status, 503);
    assert_eq!(second.requests() + third.requests(), before);
}

/// Returns a scheme that uses each PassTicket only once (replay protection).
fn passtickets() -> Arc<dyn Scheme> {
    let profile = key_profile("ZOWEAPPL").with_replay(Replay::Protected);
    let applid = *profile.applid();
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
    let tickets = LocalGenerator::new(KeyProfiles::new([profile]).unwrap());
    let tickets = tickets.with_clock(clock.clone());
    clock.advance(Duration::from_secs(61));
    Arc::new(PassTicketScheme::new(applid, tickets))
}

/// Returns the stack of one node. The node authenticates users, and sends all requests of a user to the same instance.
fn sticky_node(
    addresses: &[SocketAddr],
    scheme: Arc<dyn Scheme>,
) -> BoxCloneService<Request<Body>, Response<ResponseBody>, Infallible> {
    let key = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
    let authenticator = Authenticator::new(Rs256Verifier::new(key.verifying_key()));
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(route(addresses, Balancing::StickyUser, scheme)))
        .layer(AuthenticateLayer::new(authenticator))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service(Forward::new(unverified(), ForwardTimeouts::default().with_response(PATIENCE)));
    BoxCloneService::new(stack)
}

/// Sends one GET for each user. Returns the instance that has answered, for each user.
async fn instances_of(
    node: &BoxCloneService<Request<Body>, Response<ResponseBody>, Infallible>,
    users: &[(String, HeaderValue)],
) -> Vec<String> {
    let mut instances = Vec::new();
    for (user, bearer) in users {
        let mut request = request(Method::GET, user);
        request.headers_mut().insert("authorization", bearer.clone());
        let (status, body) = send(node.clone(), request).await;
        assert_eq!(status, 200, "{user}");
        instances.push(body.unwrap());
    }
    instances
}

#[tokio::test]
async fn all_nodes_use_the_same_instance_for_a_user_until_it_is_lost() {
    let instances = [(); 3].map(|()| Running::start());
    let addresses = instances.each_ref().map(|it| it.address);
    // The order in which a node lists the instances must not matter.
    let scheme = passtickets();
    let nodes = [[0, 1, 2], [2, 0, 1]]
        .map(|order| sticky_node(&order.map(|at| addresses[at]), scheme.clone()));
    let key = SigningKey::from_pem(pki::SIGNING_KEY.as_bytes()).unwrap();
    let tokens = TokenIssuer::new(key);
    let users = (0..40).map(|number| {
        let user = format!("USER{number}");
        let token = tokens.login_token(&UserId::new(&user).unwrap(), "domain").unwrap();
        (user, format!("Bearer {}", token.expose()).parse().unwrap())
    });
    let users: Vec<_> = users.collect();
    let before = instances_of(&nodes[0], &users).await;
    for instance in &instances {
        assert!(before.contains(&instance.address.port().to_string()), "each instance has users");
    }
    for node in nodes.iter().chain(&nodes) {
        assert_eq!(instances_of(node, &users).await, before);
    }
    let [first, second, third] = instances;
    let (killed, of_killed) = first.kill();
    let killed = killed.port().to_string();
    for node in &nodes {
        let after = instances_of(node, &users).await;
        for ((user, _), (before, after)) in users.iter().zip(before.iter().zip(&after)) {
            assert_ne!(*after, killed, "{user}");
            assert_eq!(before != after, *before == killed, "{user}: {before} {after}");
        }
    }
    let mut tickets = HashMap::<String, usize>::new();
    for received in [of_killed, second.received.clone(), third.received.clone()] {
        for (line, times) in &*received.lock().unwrap() {
            *tickets.entry(line.split(' ').next_back().unwrap().to_owned()).or_default() += times;
        }
    }
    assert_eq!(tickets.len(), 40 * 7);
    assert!(tickets.values().all(|times| *times == 1), "a PassTicket was sent twice");
}

#[tokio::test]
async fn retired_connections_are_not_reused() {
    let accepted = Arc::<AtomicUsize>::default();
    let of_service = accepted.clone();
    let address = raw::service(move |stream| {
        of_service.fetch_add(1, Ordering::Relaxed);
        answer(stream, Received::default())
    })
    .await;
    let upstream = Upstream::parse(&format!("http://localhost:{}", address.port())).unwrap();
    let route = Route::new(ServiceId::new("svc").unwrap(), "", upstream, Bypass).unwrap();
    let forward = Forward::new(unverified(), ForwardTimeouts::default());
    let connections = forward.connections();
    let stack = ServiceBuilder::new()
        .layer(RouteLayer::new(Routes::new([route]).unwrap()))
        .service(forward);
    let get = || send(stack.clone(), request(Method::GET, "x"));
    for (name, want) in [("other", 1), ("localhost", 2), ("127.0.0.1", 2), ("localhost", 3)] {
        assert_eq!(get().await.0, 200);
        connections.retire(name);
        assert_eq!(get().await.0, 200);
        assert_eq!(accepted.load(Ordering::Relaxed), want, "{name}");
    }
    // If a connection is in use, `retire` closes it when its exchange ends.
    let response = stack.clone().oneshot(request(Method::GET, "x")).await.unwrap();
    connections.retire("localhost");
    drop(response.into_body().collect().await.unwrap());
    assert_eq!((get().await.0, accepted.load(Ordering::Relaxed)), (StatusCode::OK, 4));
    assert!(connections.are_used());
    drop(stack);
    assert!(!connections.are_used());
}

#[tokio::test]
async fn a_new_connection_that_closes_before_the_request_counts_as_refused() {
    let addresses: [SocketAddr; 2] = ["192.0.2.1:1", "192.0.2.1:2"].map(|it| it.parse().unwrap());
    // The connector numbers its connections from 0. A connection to the first instance ends immediately if its number
    // is less than `closing`.
    for (instances, closing, want, connections) in
        [(2, usize::MAX, 200, None), (1, 1, 200, Some(2)), (1, usize::MAX, 502, Some(2))]
    {
        for method in [Method::GET, Method::POST] {
            let connected = Arc::<AtomicUsize>::default();
            let of_connector = connected.clone();
            let connector = service_fn(move |uri: Uri| {
                let (io, service) = duplex(1024);
                let number = of_connector.fetch_add(1, Ordering::Relaxed);
                if uri.port_u16() == Some(1) && number < closing {
                    drop(service);
                } else {
                    tokio::spawn(answer_on(service));
                }
                async { Ok::<_, Infallible>(TokioIo::new(io)) }
            });
            let states = Arc::<InstanceStates>::default();
            let forward = Forward::new(connector, ForwardTimeouts::default());
            let stack = ServiceBuilder::new()
                .layer(RouteLayer::new(route(
                    &addresses[..instances],
                    Balancing::LeastInFlight,
                    Bypass,
                )))
                .service(forward.with_instance_states(states.clone()));
            for _ in 0..4 {
                let (status, _) = send(stack.clone(), request(method.clone(), "x")).await;
                assert_eq!(status, want, "{method}, {instances} instances");
                if let Some(connections) = connections {
                    assert_eq!(connected.load(Ordering::Relaxed), connections);
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_attempt_with_little_time_left_ejects_no_instance() {
    let addresses: [SocketAddr; 2] = ["192.0.2.1:1", "192.0.2.1:2"].map(|it| it.parse().unwrap());
    let [refusing, silent] = addresses;
    let upstream = |address| Upstream::parse(&format!("http://{address}")).unwrap();
    // The response timeout is 5 s. If the first attempt is refused after 4.5 s, the second attempt has only 0.5 s. A
    // timeout after 0.5 s does not prove that the second instance has failed.
    for (refused_after, is_ejected) in [(4500, false), (3500, true)] {
        let mut first_attempts = [0; 2];
        while first_attempts.contains(&0) {
            let ports = Arc::<Mutex<Vec<u16>>>::default();
            let of_connector = ports.clone();
            let connector = service_fn(move |uri: Uri| {
                of_connector.lock().unwrap().push(uri.port_u16().unwrap());
                async move {
                    if uri.port_u16() == Some(2) {
                        std::future::pending::<()>().await;
                    }
                    sleep(Duration::from_millis(refused_after)).await;
                    Err::<TokioIo<DuplexStream>, _>(std::io::Error::other("refused"))
                }
            });
            let states = Arc::<InstanceStates>::default();
            let timeouts = ForwardTimeouts::default().with_response(Duration::from_secs(5));
            let stack = ServiceBuilder::new()
                .layer(RouteLayer::new(route(&addresses, Balancing::LeastInFlight, Bypass)))
                .service(Forward::new(connector, timeouts).with_instance_states(states.clone()));
            assert_eq!(send(stack, request(Method::GET, "x")).await.0, 504);
            let health = |at| states.health(&ServiceId::new("svc").unwrap(), &upstream(at));
            let ports = ports.lock().unwrap().clone();
            match ports[..] {
                [1, 2] => {
                    first_attempts[0] += 1;
                    assert_eq!(health(refusing), InstanceHealth::Ejected);
                    assert_eq!(health(silent) == InstanceHealth::Ejected, is_ejected);
                }
                [2] => {
                    first_attempts[1] += 1;
                    assert_eq!(health(refusing), InstanceHealth::Up);
                    assert_eq!(health(silent), InstanceHealth::Ejected);
                }
                _ => panic!("{ports:?}"),
            }
        }
    }
}
