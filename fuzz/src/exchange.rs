//! Whole exchanges: bytes of a client into a connection of the listener, and bytes of a service as the
//! answer on a connection to it. All connections are in memory, and time is stopped: when nothing else can
//! happen, the next timer fires at once.

use std::{
    collections::BTreeMap,
    future::{Ready, ready},
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split},
    task::yield_now,
    time::timeout,
};
use tower::ServiceExt;
use tower_passticket::{
    clock::Clock,
    connection::{ConnectionInfo, Protocol},
    fuzzing::serve_io,
    passticket::PassTicket,
};

use crate::{
    gateway::{Log, SERVICE, gateway, profile, user},
    support::{LOGIN_TOKEN, PAT, clock, header_lines, with_tokens},
};

/// More than the room of a connection in memory would make the fuzzer measure copying.
const ROOM: usize = 64 * 1024;

/// Longer than every timeout of the gateway.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs on a runtime of its own, whose clock stands still.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can be made")
        .block_on(future)
}

fn connection() -> ConnectionInfo {
    let (peer, local) = (([192, 0, 2, 7], 555).into(), ([127, 0, 0, 1], 10010).into());
    ConnectionInfo::new(peer, local, Protocol::Https)
}

// --- HTTP/1.1, read strictly -------------------------------------------------------------------------

/// A message, and what came behind it.
struct Taken<'a> {
    message: Message,
    rest: &'a [u8],
}

#[derive(Clone, Debug)]
struct Message {
    /// Method and target of a request, status and nothing of a response.
    start: (String, String),
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Message {
    fn all(&self, name: &str) -> Vec<&[u8]> {
        let named = self.headers.iter().filter(|(other, _)| other == name);
        named.map(|(_, value)| value.as_slice()).collect()
    }

    fn status(&self) -> u16 {
        self.start.0.parse().expect("a response has a status")
    }
}

fn headers_of(headers: &[httparse::Header<'_>]) -> Vec<(String, Vec<u8>)> {
    let pair = |h: &httparse::Header<'_>| (h.name.to_ascii_lowercase(), h.value.to_vec());
    headers.iter().map(pair).collect()
}

/// The first request, if all of it is there.
fn take_request(bytes: &[u8]) -> Option<Taken<'_>> {
    let mut headers = [httparse::EMPTY_HEADER; 256];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes);
    let parsed = parsed.unwrap_or_else(|error| panic!("{error}: {:?}", bytes.escape_ascii()));
    let httparse::Status::Complete(length) = parsed else { return None };
    assert_eq!(request.version, Some(1));
    let start = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let start = (start.0.to_owned(), start.1.to_owned());
    let message = Message { start, headers: headers_of(request.headers), body: Vec::new() };
    take_body(message, &bytes[length..], None)
}

/// The first final response to a request with this method, if all of it is there.
fn take_response<'a>(bytes: &'a [u8], method: &Method, is_end: bool) -> Option<Taken<'a>> {
    let mut headers = [httparse::EMPTY_HEADER; 256];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes);
    let parsed = parsed.unwrap_or_else(|error| panic!("{error}: {:?}", bytes.escape_ascii()));
    let httparse::Status::Complete(length) = parsed else { return None };
    let status = response.code.expect("was parsed");
    assert!((100..1000).contains(&status), "{status}");
    let rest = &bytes[length..];
    if (100..200).contains(&status) {
        assert!(status != 101, "nothing here upgrades");
        return take_response(rest, method, is_end);
    }
    let start = (status.to_string(), String::new());
    let message = Message { start, headers: headers_of(response.headers), body: Vec::new() };
    if *method == Method::HEAD || matches!(status, 204 | 304) {
        return Some(Taken { message, rest });
    }
    take_body(message, rest, Some(is_end))
}

/// The body by RFC 9112 §6.3. `to_close` is there for a response: whether the connection has ended.
fn take_body<'a>(
    mut message: Message,
    bytes: &'a [u8],
    to_close: Option<bool>,
) -> Option<Taken<'a>> {
    let (lengths, codings) = (message.all("content-length"), message.all("transfer-encoding"));
    assert!(lengths.len() <= 1 && codings.len() <= 1, "{message:?}");
    assert!(lengths.is_empty() || codings.is_empty(), "{message:?}");
    if let Some(coding) = codings.first() {
        assert_eq!(*coding, b"chunked");
        let (body, rest) = take_chunks(bytes)?;
        message.body = body;
        return Some(Taken { message, rest });
    }
    let length = match lengths.first() {
        Some(length) => {
            assert!(length.iter().all(u8::is_ascii_digit), "{message:?}");
            str::from_utf8(length).ok()?.parse().expect("a length is a number")
        }
        None if to_close.is_some() => {
            message.body = bytes.to_vec();
            return to_close.filter(|is_end| *is_end).map(|_| Taken { message, rest: &[] });
        }
        None => 0,
    };
    let (body, rest) = bytes.split_at_checked(length)?;
    message.body = body.to_vec();
    Some(Taken { message, rest })
}

fn take_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|end| end == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

fn take_chunks(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (size, rest) = take_line(bytes)?;
        let size = str::from_utf8(size).expect("a size is ASCII");
        assert!(size.bytes().all(|b| b.is_ascii_hexdigit()), "{size:?}");
        let size = usize::from_str_radix(size, 16).expect("a size is a number");
        if size == 0 {
            bytes = rest;
            break;
        }
        let (chunk, rest) = rest.split_at_checked(size)?;
        body.extend_from_slice(chunk);
        let (end, rest) = rest.split_at_checked(2)?;
        assert_eq!(end, b"\r\n");
        bytes = rest;
    }
    // Trailers, and the end of them.
    loop {
        let (line, rest) = take_line(bytes)?;
        bytes = rest;
        if line.is_empty() {
            return Some((body, bytes));
        }
    }
}

// --- The service -------------------------------------------------------------------------------------

/// Connects to a service that answers as it should, and keeps the requests that it is sent.
#[derive(Clone, Default)]
struct Honest {
    seen: Arc<Mutex<Vec<Message>>>,
}

impl Honest {
    fn seen(&self) -> Vec<Message> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, message: Message) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    }

    async fn serve(self, mut stream: DuplexStream) {
        let mut bytes = Vec::new();
        loop {
            while let Some(Taken { message, rest }) = take_request(&bytes) {
                bytes = rest.to_vec();
                let is_head = message.start.0 == "HEAD";
                self.keep(message);
                let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
                if is_head {
                    answer.truncate(answer.len() - 2);
                }
                if stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
            if !stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
                return;
            }
        }
    }
}

impl tower_service::Service<Uri> for Honest {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (ours, theirs) = duplex(ROOM);
        tokio::spawn(self.clone().serve(theirs));
        ready(Ok(TokioIo::new(ours)))
    }
}

const SECOND: &[u8] = b"HTTP/1.1 200 OK\r\nX-Second: 1\r\nContent-Length: 6\r\n\r\nsecond";

/// Connects to a service whose first answer is the fuzzer's, and whose others are good.
#[derive(Clone)]
struct Scripted {
    answer: Arc<[u8]>,
    /// Where the answer is cut in two.
    cut: usize,
    closes: bool,
    connections: Arc<AtomicUsize>,
}

impl Scripted {
    async fn serve(self, mut stream: DuplexStream, is_first: bool) {
        let mut bytes = Vec::new();
        let mut answered = !is_first;
        loop {
            while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
                if !stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
                    return;
                }
            }
            bytes.clear();
            if answered {
                let _ = stream.write_all(SECOND).await;
                continue;
            }
            answered = true;
            let (one, two) = self.answer.split_at(self.cut.min(self.answer.len()));
            for piece in [one, two] {
                let _ = stream.write_all(piece).await;
                yield_now().await;
            }
            if self.closes {
                let _ = stream.shutdown().await;
            }
        }
    }
}

impl tower_service::Service<Uri> for Scripted {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (ours, theirs) = duplex(ROOM);
        let is_first = self.connections.fetch_add(1, Ordering::Relaxed) == 0;
        tokio::spawn(self.clone().serve(theirs, is_first));
        ready(Ok(TokioIo::new(ours)))
    }
}

// --- Requests that reach the service -----------------------------------------------------------------

/// What must hold of every request that the service was sent.
fn check_requests(seen: &[Message], log: &Log) {
    let forwarded = log.entries().forwarded;
    assert!(seen.len() <= forwarded.len(), "{seen:?} of {forwarded:?}");
    let mut expected = BTreeMap::<(String, String), usize>::new();
    for (method, target) in forwarded {
        *expected.entry((method.to_string(), target)).or_default() += 1;
    }
    for request in seen {
        let left = expected.get_mut(&request.start).unwrap_or_else(|| panic!("{request:?}"));
        *left = left.checked_sub(1).unwrap_or_else(|| panic!("twice: {request:?}"));
        check_request(request);
    }
}

fn check_request(request: &Message) {
    assert_eq!(request.all("host"), [SERVICE.as_bytes()]);
    for (name, want) in [("x-forwarded-for", &b"192.0.2.7"[..]), ("x-forwarded-proto", b"https")] {
        assert_eq!(request.all(name), [want], "{name}");
    }
    for name in ["x-forwarded-port", "x-forwarded-prefix"] {
        assert_eq!(request.all(name).len(), 1, "{name}");
    }
    assert!(request.all("x-forwarded-host").len() <= 1);
    let open = request.start.1.starts_with("/open");
    let unchanged = request.start.1.starts_with("/same");
    for (name, value) in &request.headers {
        let read = name.replace('_', "-");
        assert!(!read.starts_with("x-certificate-") && !name.starts_with("$ws"), "{name}");
        assert!(
            !matches!(&*read, "oidc-token" | "x-saf-token" | "client-cert" | "forwarded"),
            "{name}"
        );
        assert!(*name == read || !read.starts_with("x-forwarded-"), "{name}");
        let hop_by_hop = ["te", "trailer", "upgrade", "keep-alive", "proxy-connection"];
        assert!(!hop_by_hop.contains(&&**name) && !name.starts_with("proxy-auth"), "{name}");
        // `same` gets them back when the authentication fails, and `open` asks for none.
        if open || unchanged {
            continue;
        }
        assert!(name != "private-token", "{request:?}");
        if name == "cookie" {
            let line = String::from_utf8_lossy(value).to_ascii_lowercase();
            for cookie in ["apimlauthenticationtoken=", "personalaccesstoken=", "ltpatoken2="] {
                let has = line.split(';').any(|pair| pair.trim().starts_with(cookie));
                assert!(!has, "{line}");
            }
        }
        if name == "authorization" {
            check_ticket(value);
            assert!(request.all("x-zowe-auth-failure").is_empty());
        }
    }
    assert!(request.all("authorization").len() <= 1 || open || unchanged, "{request:?}");
    if request.start.1.starts_with("/strict") {
        assert_eq!(request.all("authorization").len(), 1);
    }
}

/// `Basic user:ticket`, and the ticket is good.
fn check_ticket(value: &[u8]) {
    let encoded = value.strip_prefix(b"Basic ").expect("a PassTicket, and nothing of the client");
    let decoded = BASE64_STANDARD.decode(encoded).expect("is base64");
    let decoded = String::from_utf8(decoded).expect("is ASCII");
    let (name, ticket) = decoded.split_once(':').expect("user and ticket");
    assert!(matches!(name, "LOGINUSR" | "PATUSER" | "USER"), "{name}");
    let ticket = PassTicket::parse(ticket).expect("is a ticket");
    assert!(profile().evaluate(&user(name), &ticket, clock().now()).is_ok());
}

/// The target of a request in a line, then header lines.
pub(crate) fn forwarded(data: &[u8]) {
    let mut parts = data.splitn(2, |b| *b == b'\n');
    let target = parts.next().unwrap_or_default();
    let lines = with_tokens(parts.next().unwrap_or_default());
    let Ok(uri) = Uri::try_from(target) else { return };
    let mut request = Request::new(Full::<Bytes>::default());
    *request.uri_mut() = uri;
    *request.headers_mut() = header_lines(&lines);
    // The body that is there is empty, whatever a header says: a server has taken these out.
    for name in ["content-length", "transfer-encoding"] {
        request.headers_mut().remove(name);
    }
    request.extensions_mut().insert(connection());
    let (honest, log) = (Honest::default(), Log::default());
    block_on(async {
        let Ok(response) = gateway(honest.clone(), log.clone()).oneshot(request).await;
        let _ = response.into_body().collect().await;
    });
    check_requests(&honest.seen(), &log);
}

// --- Bytes of a client -------------------------------------------------------------------------------

/// What the gateway writes to a client that sends these bytes.
async fn serve<C>(version: Version, bytes: Vec<u8>, connector: C, log: Log) -> Vec<u8>
where
    C: tower_service::Service<Uri, Response = TokioIo<DuplexStream>, Error = io::Error>
        + Clone
        + Send
        + 'static,
    C::Future: Send,
{
    let (client, server) = duplex(ROOM);
    let gateway = gateway(connector, log);
    let serving = tokio::spawn(serve_io(TokioIo::new(server), version, connection(), gateway));
    let (mut read, mut write) = split(client);
    // The client does not hang up: the gateway ends a connection on which nothing comes.
    let writing = tokio::spawn(async move {
        let _ = write.write_all(&bytes).await;
        write
    });
    let mut output = Vec::new();
    let _ = timeout(PATIENCE, read.read_to_end(&mut output)).await;
    drop(writing.await);
    drop(read);
    let _ = timeout(PATIENCE, serving).await;
    output
}

/// A byte stream of an HTTP/1.1 client.
pub(crate) fn http1_client(data: &[u8]) {
    let (honest, log) = (Honest::default(), Log::default());
    let bytes = with_tokens(data);
    let output = block_on(serve(Version::HTTP_11, bytes, honest.clone(), log.clone()));
    check_requests(&honest.seen(), &log);
    let asked = log.entries().asked;
    let mut rest = &output[..];
    for method in &asked {
        let Some(taken) = take_response(rest, method, true) else { return };
        check_response(&taken.message);
        rest = taken.rest;
    }
    if !rest.is_empty() {
        // hyper answers what is no request.
        let taken = take_response(rest, &Method::GET, true).expect("the answer is whole");
        assert!(matches!(taken.message.status(), 400 | 408 | 414 | 431), "{:?}", taken.message);
        assert!(taken.rest.is_empty(), "{:?}", output.escape_ascii());
    }
}

/// What must hold of every response that the client gets.
fn check_response(response: &Message) {
    for name in ["keep-alive", "proxy-connection", "proxy-authenticate", "te", "trailer", "upgrade"]
    {
        assert!(response.all(name).is_empty(), "{name}: {response:?}");
    }
    assert!(!response.all("x-request-id").is_empty());
    let shown = String::from_utf8_lossy(&response.body);
    // `login` and `refresh` tell a new token in a header, `generate` in a body; none tells these.
    assert!(!shown.contains(&**LOGIN_TOKEN) && !shown.contains(&**PAT));
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("an input is small").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A string of HPACK without Huffman coding (RFC 7541 §5.2).
fn hpack_string(text: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    let mut length = text.len();
    if length < 127 {
        encoded.push(u8::try_from(length).expect("is below 127"));
    } else {
        encoded.push(127);
        length -= 127;
        while length >= 128 {
            encoded.push(u8::try_from(length % 128 + 128).expect("is below 256"));
            length /= 128;
        }
        encoded.push(u8::try_from(length).expect("is below 128"));
    }
    encoded.extend_from_slice(text);
    encoded
}

/// A request that leaves tokens in the dynamic table, as its entries 62 (a cookie) and 63.
fn request_with_tokens() -> Vec<u8> {
    let literal =
        |name: &[u8], value: &[u8]| [&[0x40], &*hpack_string(name), &*hpack_string(value)].concat();
    // `:method: GET`, `:scheme: https` (RFC 7541 appendix A).
    let block = [
        vec![0x82, 0x87],
        literal(b":path", b"/svc/api/v1/x"),
        literal(b":authority", b"gateway:10010"),
        literal(b"authorization", format!("Bearer {}", *PAT).as_bytes()),
        literal(b"cookie", format!("apimlAuthenticationToken={}", *LOGIN_TOKEN).as_bytes()),
    ];
    frame(1, 0x05, 1, &block.concat())
}

/// A digit that chooses, then frames of an HTTP/2 client: type, flags, stream and length, a byte each, and
/// the payload; or a byte stream.
pub(crate) fn http2_client(data: &[u8]) {
    let Some((choice, mut rest)) = data.split_first() else { return };
    let mut bytes = [PREFACE, &frame(4, 0, 0, &[])].concat();
    if choice & 1 > 0 {
        bytes.extend(request_with_tokens());
    }
    if choice & 2 > 0 {
        bytes.extend_from_slice(rest);
    } else {
        while let [kind, flags, stream, length, behind @ ..] = rest {
            let (payload, behind) = behind.split_at(usize::from(*length).min(behind.len()));
            bytes.extend(frame(*kind, *flags, u32::from(*stream), payload));
            rest = behind;
        }
    }
    let (honest, log) = (Honest::default(), Log::default());
    let output = block_on(serve(Version::HTTP_2, bytes, honest.clone(), log.clone()));
    check_requests(&honest.seen(), &log);
    check_frames(&output);
}

/// Whole frames of an HTTP/2 server, headers only on streams of the client (RFC 9113 §4.1, §5.1.1).
fn check_frames(mut output: &[u8]) {
    let mut is_first = true;
    while let Some((head, rest)) = output.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        assert!(length <= 16_384, "{length}");
        assert!(head[3] <= 9, "a frame of type {}", head[3]);
        assert!(!is_first || head[3] == 4, "the first frame is SETTINGS");
        match head[3] {
            0 | 1 | 9 => assert!(!stream.is_multiple_of(2), "stream {stream}"),
            4 | 6 | 7 => assert_eq!(stream, 0),
            5 => panic!("nothing is pushed"),
            _ => {}
        }
        is_first = false;
        let length = usize::try_from(length).expect("is small");
        // A connection that is dropped may end within a frame.
        output = rest.get(length..).unwrap_or_default();
    }
}

// --- Bytes of a service ------------------------------------------------------------------------------

/// A byte that chooses, one that says where the answer is cut in two, and the answer.
struct Script {
    method: Method,
    scripted: Scripted,
}

impl Script {
    fn new(data: &[u8]) -> Option<Self> {
        let [choice, cut, answer @ ..] = data else { return None };
        let method = match choice & 3 {
            0 => Method::HEAD,
            1 => Method::POST,
            _ => Method::GET,
        };
        let scripted = Scripted {
            answer: answer.into(),
            cut: usize::from(*cut) * 4,
            closes: choice & 4 > 0,
            connections: Arc::default(),
        };
        Some(Self { method, scripted })
    }
}

/// The answer of a service to an HTTP/1.1 client, which asks a second time behind it.
pub(crate) fn http1_service(data: &[u8]) {
    let Some(Script { method, scripted }) = Script::new(data) else { return };
    let head = "Host: gateway\r\nAuthorization: Bearer {JWT}\r\n";
    let (length, body) = if method == Method::POST { (3, "a=b") } else { (0, "") };
    let requests = format!(
        "{method} /svc/api/v1/x HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n{body}\
         GET /svc/api/v1/y HTTP/1.1\r\n{head}\r\n"
    );
    let log = Log::default();
    let bytes = with_tokens(requests.as_bytes());
    let output = block_on(serve(Version::HTTP_11, bytes, scripted, log.clone()));
    let asked = log.entries().asked;
    assert!((1..=2).contains(&asked.len()));
    let mut rest = &output[..];
    for method in &asked {
        // One that the service breaks off is broken off here as well.
        let Some(taken) = take_response(rest, method, false) else { return };
        check_response(&taken.message);
        rest = taken.rest;
    }
    assert!(rest.is_empty(), "more than was asked for: {:?}", output.escape_ascii());
}

/// The answer of a service to an HTTP/2 client, which asks a second time behind it.
pub(crate) fn http2_service(data: &[u8]) {
    let Some(Script { method, scripted }) = Script::new(data) else { return };
    let log = Log::default();
    block_on(async {
        let (client, server) = duplex(ROOM);
        let gateway = gateway(scripted, log);
        let serving = serve_io(TokioIo::new(server), Version::HTTP_2, connection(), gateway);
        let serving = tokio::spawn(serving);
        let client = TokioIo::new(client);
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), client).await.expect("it is ours");
        let driving = tokio::spawn(connection);
        for (method, path) in [(method, "x"), (Method::GET, "y")] {
            let body = if method == Method::POST { "a=b" } else { "" };
            let request = Request::builder()
                .method(method.clone())
                .uri(format!("https://gateway/svc/api/v1/{path}"))
                .header("authorization", format!("Bearer {}", *LOGIN_TOKEN))
                .body(Full::new(Bytes::from_static(body.as_bytes())))
                .expect("is a request");
            let answered = timeout(PATIENCE, sender.send_request(request)).await;
            let response = match answered.expect("every request is answered") {
                Ok(response) => response,
                // A body that breaks off takes the response with it, if that has not been written yet.
                Err(error) => {
                    let reset = std::error::Error::source(&error);
                    let reset = reset.and_then(|reset| reset.downcast_ref::<h2::Error>());
                    let reason = reset.and_then(h2::Error::reason);
                    assert_eq!(reason, Some(h2::Reason::INTERNAL_ERROR), "{error:?}");
                    continue;
                }
            };
            check_http2_headers(response.headers());
            let body = timeout(PATIENCE, response.into_body().collect()).await;
            if let Ok(Ok(body)) = body {
                assert!(method != Method::HEAD || body.to_bytes().is_empty());
            }
        }
        drop(sender);
        let _ = timeout(PATIENCE, driving).await;
        let _ = timeout(PATIENCE, serving).await;
    });
}

/// Nothing that is for one connection of HTTP/1.1 (RFC 9113 §8.2.2).
fn check_http2_headers(headers: &HeaderMap) {
    for name in
        ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te"]
    {
        assert!(!headers.contains_key(name), "{name}: {headers:?}");
    }
    assert!(headers.contains_key("x-request-id"));
}
