//! Fuzz targets for whole exchanges between a client, the gateway and a service. The input contains either the bytes of
//! the client or the bytes of the service. All connections are in memory. Tokio's clock is paused: when all tasks wait,
//! the clock advances to the next timer.

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
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
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
    connection::{ConnectionInfo, Protocol, TrustedProxies},
    fuzzing::serve_io,
    passticket::PassTicket,
};

use crate::{
    gateway::{Log, SERVICE, gateway, profile, user},
    support::{LOGIN_TOKEN, PAT, clock, header_lines, with_tokens},
};

/// The buffer size of a connection in memory. With a much larger buffer, a run would spend most of its time on copies.
const BUFFER_SIZE: usize = 64 * 1024;

/// This time is longer than every timeout of the gateway.
const TIME_LIMIT: Duration = Duration::from_secs(600);

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

// --- A strict parser for HTTP/1.1 --------------------------------------------------------------------

/// A message, and the bytes after it.
struct Parsed<'a> {
    message: Message,
    rest: &'a [u8],
}

#[derive(Clone, Debug)]
struct Message {
    /// For a request, the method and the target. For a response, the status and an empty string.
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

/// Parses the first request in `bytes`. Returns `None` if it is incomplete, and panics if it is malformed.
fn parse_request(bytes: &[u8]) -> Option<Parsed<'_>> {
    let mut headers = [httparse::EMPTY_HEADER; 256];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes);
    let parsed = parsed.unwrap_or_else(|error| panic!("{error}: {:?}", bytes.escape_ascii()));
    let httparse::Status::Complete(length) = parsed else { return None };
    assert_eq!(request.version, Some(1));
    let start = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let start = (start.0.to_owned(), start.1.to_owned());
    let message = Message { start, headers: headers_of(request.headers), body: Vec::new() };
    parse_body(message, &bytes[length..], None)
}

/// Skips informational responses (1xx), and parses the final response. `method` is the method of its request.
/// Returns `None` if the response is incomplete, and panics if it is malformed.
///
/// A response without a length ends when the connection is closed. Such a response is incomplete unless
/// `connection_ended` is `true`.
fn parse_response<'a>(
    bytes: &'a [u8],
    method: &Method,
    connection_ended: bool,
) -> Option<Parsed<'a>> {
    let mut headers = [httparse::EMPTY_HEADER; 256];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes);
    let parsed = parsed.unwrap_or_else(|error| panic!("{error}: {:?}", bytes.escape_ascii()));
    let httparse::Status::Complete(length) = parsed else { return None };
    let status = response.code.expect("a parsed response has a status");
    assert!((100..1000).contains(&status), "{status}");
    let rest = &bytes[length..];
    if (100..200).contains(&status) {
        assert!(status != 101, "unexpected upgrade");
        return parse_response(rest, method, connection_ended);
    }
    let start = (status.to_string(), String::new());
    let message = Message { start, headers: headers_of(response.headers), body: Vec::new() };
    if *method == Method::HEAD || matches!(status, 204 | 304) {
        return Some(Parsed { message, rest });
    }
    parse_body(message, rest, Some(connection_ended))
}

/// Adds the body to the message (RFC 9112 §6.3). `connection_ended` is `None` for a request.
fn parse_body<'a>(
    mut message: Message,
    bytes: &'a [u8],
    connection_ended: Option<bool>,
) -> Option<Parsed<'a>> {
    let (lengths, codings) = (message.all("content-length"), message.all("transfer-encoding"));
    assert!(lengths.len() <= 1 && codings.len() <= 1, "{message:?}");
    assert!(lengths.is_empty() || codings.is_empty(), "{message:?}");
    if let Some(coding) = codings.first() {
        assert_eq!(*coding, b"chunked");
        let (body, rest) = parse_chunks(bytes)?;
        message.body = body;
        return Some(Parsed { message, rest });
    }
    let length = match lengths.first() {
        Some(length) => {
            assert!(length.iter().all(u8::is_ascii_digit), "{message:?}");
            str::from_utf8(length).ok()?.parse().expect("a length is a number")
        }
        None if connection_ended.is_some() => {
            message.body = bytes.to_vec();
            return connection_ended.filter(|ended| *ended).map(|_| Parsed { message, rest: &[] });
        }
        None => 0,
    };
    let (body, rest) = bytes.split_at_checked(length)?;
    message.body = body.to_vec();
    Some(Parsed { message, rest })
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|end| end == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

/// Decodes a chunked body. Returns the body and the bytes after it.
fn parse_chunks(mut bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let (size, rest) = split_line(bytes)?;
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
    // Trailers follow, up to an empty line.
    loop {
        let (line, rest) = split_line(bytes)?;
        bytes = rest;
        if line.is_empty() {
            return Some((body, bytes));
        }
    }
}

// --- Services ----------------------------------------------------------------------------------------

/// A connector to a service that answers correctly and stores the requests that it receives.
#[derive(Clone, Default)]
struct CorrectService {
    received: Arc<Mutex<Vec<Message>>>,
}

impl CorrectService {
    fn received(&self) -> Vec<Message> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn store(&self, message: Message) {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).push(message);
    }

    async fn serve(self, mut stream: DuplexStream) {
        let mut bytes = Vec::new();
        loop {
            while let Some(Parsed { message, rest }) = parse_request(&bytes) {
                bytes = rest.to_vec();
                let is_head = message.start.0 == "HEAD";
                self.store(message);
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

impl tower_service::Service<Uri> for CorrectService {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (ours, theirs) = duplex(BUFFER_SIZE);
        tokio::spawn(self.clone().serve(theirs));
        ready(Ok(TokioIo::new(ours)))
    }
}

const SECOND: &[u8] = b"HTTP/1.1 200 OK\r\nX-Second: 1\r\nContent-Length: 6\r\n\r\nsecond";

/// A connector to a service that sends the input as its first answer, and [`SECOND`] as each later answer.
#[derive(Clone)]
struct ScriptedService {
    answer: Arc<[u8]>,
    /// The service sends the answer in two parts. The second part starts at this offset.
    split_at: usize,
    /// Whether the service closes the connection after its first answer.
    closes: bool,
    connections: Arc<AtomicUsize>,
}

impl ScriptedService {
    async fn serve(self, mut stream: DuplexStream, is_first_connection: bool) {
        let mut bytes = Vec::new();
        let mut answered = !is_first_connection;
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
            let (first, second) = self.answer.split_at(self.split_at.min(self.answer.len()));
            for part in [first, second] {
                let _ = stream.write_all(part).await;
                yield_now().await;
            }
            if self.closes {
                let _ = stream.shutdown().await;
            }
        }
    }
}

impl tower_service::Service<Uri> for ScriptedService {
    type Response = TokioIo<DuplexStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (ours, theirs) = duplex(BUFFER_SIZE);
        let is_first = self.connections.fetch_add(1, Ordering::Relaxed) == 0;
        tokio::spawn(self.clone().serve(theirs, is_first));
        ready(Ok(TokioIo::new(ours)))
    }
}

// --- Requests that reach the service -----------------------------------------------------------------

/// Asserts that the service received only requests that the gateway forwarded, and each of them at most once.
fn check_requests(received: &[Message], log: &Log) {
    check_requests_from(Peer::Client, received, log);
}

fn check_requests_from(peer: Peer, received: &[Message], log: &Log) {
    let forwarded = log.entries().forwarded;
    assert!(received.len() <= forwarded.len(), "{received:?} of {forwarded:?}");
    let mut expected = BTreeMap::<(String, String), usize>::new();
    for (method, target) in forwarded {
        *expected.entry((method.to_string(), target)).or_default() += 1;
    }
    for request in received {
        let left = expected
            .get_mut(&request.start)
            .unwrap_or_else(|| panic!("not forwarded: {request:?}"));
        *left = left.checked_sub(1).unwrap_or_else(|| panic!("received twice: {request:?}"));
        check_request(request, peer);
    }
}

/// The peer that sent a request to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Client,
    TrustedProxy,
}

fn check_request(request: &Message, peer: Peer) {
    assert_eq!(request.all("host"), [SERVICE.as_bytes()]);
    for (name, want) in [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https")] {
        match (peer, &request.all(name)[..]) {
            (Peer::Client, [value]) => assert_eq!(*value, want.as_bytes(), "{name}"),
            (Peer::TrustedProxy, [value]) => assert!(value.ends_with(want.as_bytes()), "{name}"),
            (_, values) => panic!("{name} {values:?}"),
        }
    }
    for name in ["x-forwarded-port", "x-forwarded-prefix"] {
        assert_eq!(request.all(name).len(), 1, "{name}");
    }
    assert!(request.all("x-forwarded-host").len() <= 1);
    let [forwarded] = request.all("forwarded")[..] else { panic!("{request:?}") };
    let own =
        forwarded.windows(14).rposition(|part| part == b"for=192.0.2.7;").expect("an element");
    assert!(forwarded.ends_with(b";proto=https"));
    assert!(own == 0 || (peer == Peer::TrustedProxy && forwarded[..own].ends_with(b", ")));
    let is_open = request.start.1.starts_with("/open");
    let is_same = request.start.1.starts_with("/same");
    for (name, value) in &request.headers {
        let dashed = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        assert!(!dashed.starts_with("x-certificate-") && !dashed.starts_with("-ws"), "{name}");
        assert!(!matches!(&*dashed, "oidc-token" | "x-saf-token" | "client-cert"), "{name}");
        let forwarded = ["for", "proto", "host", "port", "prefix"];
        let of_gateway = dashed == "forwarded"
            || dashed.strip_prefix("x-forwarded-").is_some_and(|rest| forwarded.contains(&rest));
        assert!(*name == dashed || !of_gateway, "{name}");
        if name == "te" {
            assert_eq!(value, b"trailers");
            continue;
        }
        let hop_by_hop = ["trailer", "upgrade", "keep-alive", "proxy-connection"];
        assert!(!hop_by_hop.contains(&&**name) && !name.starts_with("proxy-auth"), "{name}");
        // Two routes may forward credentials of the client. The route `open` always forwards them. The route
        // `same` forwards them only if the authentication failed.
        if is_open || is_same {
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
    assert!(request.all("authorization").len() <= 1 || is_open || is_same, "{request:?}");
    if request.start.1.starts_with("/strict") {
        assert_eq!(request.all("authorization").len(), 1);
    }
}

/// Asserts that the value is `Basic user:PassTicket`, and that the PassTicket is valid.
fn check_ticket(value: &[u8]) {
    let encoded = value.strip_prefix(b"Basic ").expect("expected Basic with a PassTicket");
    let decoded = BASE64_STANDARD.decode(encoded).expect("expected Base64");
    let decoded = String::from_utf8(decoded).expect("expected UTF-8");
    let (name, ticket) = decoded.split_once(':').expect("expected user and PassTicket");
    assert!(matches!(name, "LOGINUSR" | "PATUSER" | "USER"), "{name}");
    let ticket = PassTicket::parse(ticket).expect("expected a PassTicket");
    assert!(profile().evaluate(&user(name), &ticket, clock().now()).is_ok());
}

/// The input is a line with the target of a request, followed by header lines.
pub(crate) fn forwarded(data: &[u8]) {
    let mut parts = data.splitn(2, |b| *b == b'\n');
    let target = parts.next().unwrap_or_default();
    let lines = with_tokens(parts.next().unwrap_or_default());
    let Ok(uri) = Uri::try_from(target) else { return };
    let mut request = Request::new(Full::<Bytes>::default());
    *request.uri_mut() = uri;
    *request.headers_mut() = header_lines(&lines);
    // The body is empty, so remove the headers that announce a body.
    for name in ["content-length", "transfer-encoding"] {
        request.headers_mut().remove(name);
    }
    // Without `Host`, the gateway would refuse the request.
    request.headers_mut().insert("host", HeaderValue::from_static("gateway"));
    let proxies = TrustedProxies::new(|ip| ip == connection().peer.ip());
    for peer in [Peer::Client, Peer::TrustedProxy] {
        let mut request = request.clone();
        let connection = match peer {
            Peer::Client => connection(),
            Peer::TrustedProxy => connection().with_trusted_proxies(&proxies, request.headers()),
        };
        request.extensions_mut().insert(connection);
        let (service, log) = (CorrectService::default(), Log::default());
        block_on(async {
            let Ok(response) = gateway(service.clone(), log.clone()).oneshot(request).await;
            let _ = response.into_body().collect().await;
        });
        check_requests_from(peer, &service.received(), &log);
    }
}

// --- Bytes of a client -------------------------------------------------------------------------------

/// Sends `bytes` to the gateway as a client. Returns the bytes that the gateway writes to the client.
async fn serve<C>(version: Version, bytes: Vec<u8>, connector: C, log: Log) -> Vec<u8>
where
    C: tower_service::Service<Uri, Response = TokioIo<DuplexStream>, Error = io::Error>
        + Clone
        + Send
        + 'static,
    C::Future: Send,
{
    let (client, server) = duplex(BUFFER_SIZE);
    let gateway = gateway(connector, log);
    let serving = tokio::spawn(serve_io(TokioIo::new(server), version, connection(), gateway));
    let (mut read, mut write) = split(client);
    // The client does not close the connection, so the gateway closes it after a timeout.
    let writing = tokio::spawn(async move {
        let _ = write.write_all(&bytes).await;
        write
    });
    let mut output = Vec::new();
    let _ = timeout(TIME_LIMIT, read.read_to_end(&mut output)).await;
    drop(writing.await);
    drop(read);
    let _ = timeout(TIME_LIMIT, serving).await;
    output
}

/// The input consists of all bytes of an HTTP/1.1 client, with placeholders for tokens (see [`with_tokens`]).
pub(crate) fn http1_client(data: &[u8]) {
    let (service, log) = (CorrectService::default(), Log::default());
    let bytes = with_tokens(data);
    let output = block_on(serve(Version::HTTP_11, bytes, service.clone(), log.clone()));
    check_requests(&service.received(), &log);
    let mut rest = &output[..];
    for method in &log.entries().received {
        let Some(parsed) = parse_response(rest, method, true) else { return };
        check_response(&parsed.message);
        rest = parsed.rest;
    }
    if !rest.is_empty() {
        // If the bytes are not a valid request, the response comes from hyper, and not from the gateway.
        let parsed = parse_response(rest, &Method::GET, true).expect("the response is complete");
        assert!(matches!(parsed.message.status(), 400 | 408 | 414 | 431), "{:?}", parsed.message);
        assert!(parsed.rest.is_empty(), "{:?}", output.escape_ascii());
    }
}

fn check_response(response: &Message) {
    // The list does not contain `trailer`, because clients that accept trailers get this header.
    for name in ["keep-alive", "proxy-connection", "proxy-authenticate", "te", "upgrade"] {
        assert!(response.all(name).is_empty(), "{name}: {response:?}");
    }
    assert!(!response.all("x-request-id").is_empty());
    let body = String::from_utf8_lossy(&response.body);
    // Some endpoints issue new tokens, but no response may contain a token that the client sent.
    assert!(!body.contains(&**LOGIN_TOKEN) && !body.contains(&**PAT));
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("an input is small").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Encodes an HPACK string without Huffman coding (RFC 7541 §5.2).
fn hpack_string(text: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::new();
    let mut length = text.len();
    if length < 127 {
        encoded.push(u8::try_from(length).expect("the value is below 127"));
    } else {
        encoded.push(127);
        length -= 127;
        while length >= 128 {
            encoded.push(u8::try_from(length % 128 + 128).expect("the value is below 256"));
            length /= 128;
        }
        encoded.push(u8::try_from(length).expect("the value is below 128"));
    }
    encoded.extend_from_slice(text);
    encoded
}

/// Encodes a request that adds tokens to the dynamic table of HPACK: the cookie as entry 62, `authorization` as
/// entry 63. Later frames of the input can refer to these entries.
fn request_with_tokens() -> Vec<u8> {
    let literal =
        |name: &[u8], value: &[u8]| [&[0x40], &*hpack_string(name), &*hpack_string(value)].concat();
    // 0x82 encodes `:method: GET`, and 0x87 encodes `:scheme: https` (RFC 7541 appendix A).
    let block = [
        vec![0x82, 0x87],
        literal(b":path", b"/svc/api/v1/x"),
        literal(b":authority", b"gateway:10010"),
        literal(b"authorization", format!("Bearer {}", *PAT).as_bytes()),
        literal(b"cookie", format!("apimlAuthenticationToken={}", *LOGIN_TOKEN).as_bytes()),
    ];
    frame(1, 0x05, 1, &block.concat())
}

/// If bit 0 of the first byte is set, the client first sends [`request_with_tokens`]. If bit 1 is set, the client then
/// sends the rest of the input unchanged. If bit 1 is not set, the rest of the input describes HTTP/2 frames. The
/// description of a frame has one byte each for type, flags, stream and length, and then the payload.
pub(crate) fn http2_client(data: &[u8]) {
    let Some((choice, mut rest)) = data.split_first() else { return };
    let mut bytes = [PREFACE, &frame(4, 0, 0, &[])].concat();
    if choice & 1 > 0 {
        bytes.extend(request_with_tokens());
    }
    if choice & 2 > 0 {
        bytes.extend_from_slice(rest);
    } else {
        while let [kind, flags, stream, length, after @ ..] = rest {
            let (payload, after) = after.split_at(usize::from(*length).min(after.len()));
            bytes.extend(frame(*kind, *flags, u32::from(*stream), payload));
            rest = after;
        }
    }
    let (service, log) = (CorrectService::default(), Log::default());
    let output = block_on(serve(Version::HTTP_2, bytes, service.clone(), log.clone()));
    check_requests(&service.received(), &log);
    check_frames(&output);
}

/// Asserts that the output consists of frames of an HTTP/2 server (RFC 9113 §4.1). Headers and data must be on streams
/// that the client has opened, which have odd numbers (RFC 9113 §5.1.1).
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
            5 => panic!("unexpected PUSH_PROMISE"),
            _ => {}
        }
        is_first = false;
        let length = usize::try_from(length).expect("the length is at most 16,384");
        // If the connection is dropped, the output may end within a frame.
        output = rest.get(length..).unwrap_or_default();
    }
}

// --- Bytes of a service ------------------------------------------------------------------------------

/// A parsed input. The first byte selects the method, and whether the service closes the connection. The answer is
/// split in two parts. The second byte, multiplied by 4, is the offset of the second part. The rest is the answer.
struct Script {
    method: Method,
    service: ScriptedService,
}

impl Script {
    fn new(data: &[u8]) -> Option<Self> {
        let [choice, split_at, answer @ ..] = data else { return None };
        let method = match choice & 3 {
            0 => Method::HEAD,
            1 => Method::POST,
            _ => Method::GET,
        };
        let service = ScriptedService {
            answer: answer.into(),
            split_at: usize::from(*split_at) * 4,
            closes: choice & 4 > 0,
            connections: Arc::default(),
        };
        Some(Self { method, service })
    }
}

/// The input is the answer of a service to the first of two requests of an HTTP/1.1 client, in the form of [`Script`].
pub(crate) fn http1_service(data: &[u8]) {
    let Some(Script { method, service }) = Script::new(data) else { return };
    let head = "Host: gateway\r\nAuthorization: Bearer {JWT}\r\n";
    let (length, body) = if method == Method::POST { (3, "a=b") } else { (0, "") };
    let requests = format!(
        "{method} /svc/api/v1/x HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n{body}\
         GET /svc/api/v1/y HTTP/1.1\r\n{head}\r\n"
    );
    let log = Log::default();
    let bytes = with_tokens(requests.as_bytes());
    let output = block_on(serve(Version::HTTP_11, bytes, service, log.clone()));
    let received = log.entries().received;
    assert!((1..=2).contains(&received.len()));
    let mut rest = &output[..];
    for method in &received {
        // If the answer of the service is incomplete, the response to the client may also be incomplete.
        let Some(parsed) = parse_response(rest, method, false) else { return };
        check_response(&parsed.message);
        rest = parsed.rest;
    }
    assert!(rest.is_empty(), "more responses than requests: {:?}", output.escape_ascii());
}

/// The input is the answer of a service to the first of two requests of an HTTP/2 client, in the form of [`Script`].
pub(crate) fn http2_service(data: &[u8]) {
    let Some(Script { method, service }) = Script::new(data) else { return };
    let log = Log::default();
    block_on(async {
        let (client, server) = duplex(BUFFER_SIZE);
        let gateway = gateway(service, log);
        let serving = serve_io(TokioIo::new(server), Version::HTTP_2, connection(), gateway);
        let serving = tokio::spawn(serving);
        let client = TokioIo::new(client);
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), client)
            .await
            .expect("the handshake needs no answer");
        let driving = tokio::spawn(connection);
        for (method, path) in [(method, "x"), (Method::GET, "y")] {
            let body = if method == Method::POST { "a=b" } else { "" };
            let request = Request::builder()
                .method(method.clone())
                .uri(format!("https://gateway/svc/api/v1/{path}"))
                .header("authorization", format!("Bearer {}", *LOGIN_TOKEN))
                .body(Full::new(Bytes::from_static(body.as_bytes())))
                .expect("a valid request");
            let answered = timeout(TIME_LIMIT, sender.send_request(request)).await;
            let response = match answered.expect("the gateway answers every request") {
                Ok(response) => response,
                // The body in the answer of the service may be incomplete. If the gateway notices this before it has
                // sent the head of the response, it resets the stream.
                Err(error) => {
                    let reset = std::error::Error::source(&error);
                    let reset = reset.and_then(|reset| reset.downcast_ref::<h2::Error>());
                    let reason = reset.and_then(h2::Error::reason);
                    assert_eq!(reason, Some(h2::Reason::INTERNAL_ERROR), "{error:?}");
                    continue;
                }
            };
            check_http2_headers(response.headers());
            let body = timeout(TIME_LIMIT, response.into_body().collect()).await;
            if let Ok(Ok(body)) = body {
                assert!(method != Method::HEAD || body.to_bytes().is_empty());
            }
        }
        drop(sender);
        let _ = timeout(TIME_LIMIT, driving).await;
        let _ = timeout(TIME_LIMIT, serving).await;
    });
}

/// Asserts that there are no connection-specific headers of HTTP/1.1 (RFC 9113 §8.2.2).
fn check_http2_headers(headers: &HeaderMap) {
    for name in
        ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te"]
    {
        assert!(!headers.contains_key(name), "{name}: {headers:?}");
    }
    assert!(headers.contains_key("x-request-id"));
}
