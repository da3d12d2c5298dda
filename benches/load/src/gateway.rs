//! The connections to the gateway, and the requests on them.

use std::{
    error::Error,
    io::{self, ErrorKind as IoErrorKind},
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    sync::OnceCell,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    credential::{Credentials, Identity, User},
    load::Client,
    outcome::{Answer, ErrorKind, Outcome, Refusal},
    settings::{Protocol, Settings},
};

/// The program keeps at most this number of bytes of a refusal's body, and searches them for a message.
const LONGEST_MESSAGE: usize = 16 << 10;

/// A text of the gateway is shortened to this number of characters before it is shown.
const LONGEST_TEXT: usize = 200;

/// Why the load cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GatewayError {
    #[error("cannot resolve the host {0}: {1}")]
    Resolve(String, io::Error),
    #[error(
        "--ca {0}: the file cannot be read, or has no certificate in PEM format that can be used"
    )]
    Authority(String),
    #[error("a client certificate cannot be used: {0}; the key must belong to the certificate")]
    Identity(rustls::Error),
}

pub(crate) struct Gateway {
    addresses: Vec<SocketAddr>,
    tls: Vec<TlsConnector>,
    server_name: ServerName<'static>,
    protocol: Protocol,
    timeout: Duration,
    method: Method,
    uri: http::Uri,
    headers: HeaderMap,
    body: Bytes,
    users: Arc<[User]>,
    opened: AtomicU64,
}

impl Gateway {
    /// Resolves the host, and reads the certificate authorities.
    ///
    /// # Errors
    /// If the host has no address, or if a certificate cannot be read or used.
    pub(crate) async fn new(
        settings: &Settings,
        credentials: Credentials,
    ) -> Result<Self, GatewayError> {
        let target = &settings.target;
        let (host, _) = target.address();
        let addresses = lookup_host(target.address())
            .await
            .map_err(|error| GatewayError::Resolve(host.to_owned(), error))?
            .collect();
        let tls = match &settings.authorities {
            Some(path) => {
                let shown = path.display().to_string();
                let pem =
                    std::fs::read(path).map_err(|_| GatewayError::Authority(shown.clone()))?;
                connectors(&pem, credentials.identities, settings.protocol)?
                    .ok_or(GatewayError::Authority(shown))?
            }
            None => Vec::new(),
        };
        let mut headers = HeaderMap::new();
        let mut uri = target.uri().clone();
        if settings.protocol == Protocol::Http1 {
            let host =
                HeaderValue::from_str(target.authority()).expect("an authority is a valid header");
            headers.insert(header::HOST, host);
            let path = target.uri().path_and_query().map_or("/", |it| it.as_str());
            uri = path.parse().expect("the path of a URL is a URI");
        }
        headers.insert(header::USER_AGENT, HeaderValue::from_static("load-test"));
        if let Some((content_type, _)) = &settings.body {
            headers.insert(header::CONTENT_TYPE, content_type.clone());
        }
        Ok(Self {
            addresses,
            tls,
            server_name: target.server_name(),
            protocol: settings.protocol,
            timeout: settings.timeout,
            method: settings.method.clone(),
            uri,
            headers,
            body: settings.body.as_ref().map(|(_, body)| body.clone()).unwrap_or_default(),
            users: credentials.users,
            opened: AtomicU64::new(0),
        })
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Opens connection number `index`. The number chooses the client certificate.
    async fn connect(&self, index: usize) -> Result<Sender, Failure> {
        let connecting = TcpStream::connect(&self.addresses[..]);
        let stream = connecting.await.map_err(|error| Failure::new(ErrorKind::Connect, &error))?;
        stream.set_nodelay(true).map_err(|error| Failure::new(ErrorKind::Connect, &error))?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        if self.tls.is_empty() {
            return self.handshake(stream).await;
        }
        let connector = &self.tls[index % self.tls.len()];
        let handshake = connector.connect(self.server_name.clone(), stream).await;
        let stream = handshake.map_err(|error| Failure::new(ErrorKind::Tls, &error))?;
        if self.protocol == Protocol::Http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            let text = "the gateway does not offer HTTP/2".to_owned();
            return Err(Failure { kind: ErrorKind::Protocol, text });
        }
        self.handshake(stream).await
    }

    async fn handshake(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Sender, Failure> {
        // If a connection fails, the requests on it also fail. So the error of the connection itself is not needed.
        match self.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream))
                    .await
                    .map_err(|error| failure(&error))?;
                tokio::spawn(async move { _ = connection.await });
                Ok(Sender::Http1(sender))
            }
            Protocol::Http2 => {
                let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
                let (sender, connection) = handshake.map_err(|error| failure(&error))?;
                tokio::spawn(async move { _ = connection.await });
                Ok(Sender::Http2(sender))
            }
        }
    }

    fn user(&self, number: u64) -> &User {
        &self.users[(number % self.users.len() as u64) as usize]
    }

    fn request(&self, user: &User) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if self.protocol == Protocol::Http2 {
            *request.version_mut() = Version::HTTP_2;
        }
        if let Some((name, value)) = &user.header {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        request
    }
}

/// Returns a connector for each client certificate, or a single connector if there is no client certificate. Returns
/// `None` if `authorities` contains no certificate that can be used.
fn connectors(
    authorities: &[u8],
    identities: Vec<Identity>,
    protocol: Protocol,
) -> Result<Option<Vec<TlsConnector>>, GatewayError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(
        CertificateDer::pem_slice_iter(authorities).filter_map(Result::ok),
    );
    if roots.is_empty() {
        return Ok(None);
    }
    let roots = Arc::new(roots);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let connector = |identity: Option<Identity>| {
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(GatewayError::Identity)?
            .with_root_certificates(roots.clone());
        let mut config = match identity {
            Some(Identity { chain, key }) => {
                builder.with_client_auth_cert(chain, key).map_err(GatewayError::Identity)?
            }
            None => builder.with_no_client_auth(),
        };
        if protocol == Protocol::Http2 {
            config.alpn_protocols = vec![b"h2".to_vec()];
        }
        Ok(TlsConnector::from(Arc::new(config)))
    };
    let connectors: Result<Vec<_>, _> = match identities.is_empty() {
        true => [None].into_iter().map(connector).collect(),
        false => identities.into_iter().map(Some).map(connector).collect(),
    };
    connectors.map(Some)
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Why a request has no answer.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    kind: ErrorKind,
    text: String,
}

impl Failure {
    fn new(kind: ErrorKind, error: &dyn Error) -> Self {
        Self { kind, text: chain(error) }
    }

    /// Returns what failed, such as `connect: Connection refused`.
    pub(crate) fn describe(&self) -> String {
        format!("{}: {}", self.kind.as_str(), self.text)
    }
}

impl From<Failure> for Outcome {
    fn from(Failure { kind, text }: Failure) -> Self {
        Self::Failed { kind, text }
    }
}

fn failure(error: &hyper::Error) -> Failure {
    let mut source: Option<&dyn Error> = Some(error);
    let mut closed = error.is_closed() || error.is_canceled() || error.is_incomplete_message();
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            // The peer can send a TLS alert after the handshake, for example if it refuses the client certificate.
            if io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
                return Failure::new(ErrorKind::Tls, io);
            }
            closed |= matches!(
                io.kind(),
                IoErrorKind::ConnectionReset
                    | IoErrorKind::ConnectionAborted
                    | IoErrorKind::BrokenPipe
                    | IoErrorKind::UnexpectedEof
            );
        }
        source = error.source();
    }
    Failure::new(if closed { ErrorKind::Closed } else { ErrorKind::Protocol }, error)
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// A connection that several clients share. The first client that needs the connection opens it.
type Shared = Mutex<Arc<OnceCell<http2::SendRequest<Full<Bytes>>>>>;

/// One client: it sends one request at a time.
pub(crate) struct GatewayClient {
    gateway: Arc<Gateway>,
    index: usize,
    connection: Connection,
}

enum Connection {
    Own(Option<http1::SendRequest<Full<Bytes>>>),
    Shared(Arc<Shared>),
}

impl GatewayClient {
    /// Returns one client for each request that can be in flight at the same time.
    pub(crate) fn all(gateway: &Arc<Gateway>, connections: usize, streams: usize) -> Vec<Self> {
        let client = |index, connection| Self { gateway: gateway.clone(), index, connection };
        match gateway.protocol {
            Protocol::Http1 => {
                (0..connections).map(|index| client(index, Connection::Own(None))).collect()
            }
            Protocol::Http2 => {
                let shared: Vec<_> = (0..connections).map(|_| Arc::<Shared>::default()).collect();
                // The list contains the first client of each connection, then the second client of each connection, and
                // so on. `Load` starts the clients in this order, and they wait for requests in a queue. So the
                // requests are spread over the connections.
                let streams = (0..streams).flat_map(|_| shared.iter().enumerate());
                streams
                    .map(|(index, shared)| client(index, Connection::Shared(shared.clone())))
                    .collect()
            }
        }
    }

    /// # Errors
    /// If the connection cannot be opened within the time limit.
    pub(crate) async fn open(&mut self) -> Result<(), Failure> {
        let gateway = self.gateway.clone();
        let sender =
            timeout(gateway.timeout, self.sender()).await.unwrap_or_else(|_| Err(too_slow()))?;
        if let (Connection::Own(own), Sender::Http1(sender)) = (&mut self.connection, sender) {
            *own = Some(sender);
        }
        Ok(())
    }

    /// Sends one request of each user, one after the other. Stops at the first request that is refused or
    /// fails, and returns the index of its user and the outcome.
    pub(crate) async fn first_refusal(&mut self) -> Option<(usize, Outcome)> {
        for number in 0..self.gateway.users.len() {
            match self.send(number as u64).await {
                Outcome::Answered(Answer { refusal: None, .. }) => {}
                outcome => return Some((number, outcome)),
            }
        }
        None
    }

    /// Returns an open connection. With HTTP/1.1, takes the connection out of this client, because it cannot be used
    /// again after an error or a timeout.
    async fn sender(&mut self) -> Result<Sender, Failure> {
        match &mut self.connection {
            Connection::Own(own) => {
                // The gateway may have closed the connection after the last answer.
                if let Some(mut sender) = own.take()
                    && sender.ready().await.is_ok()
                {
                    return Ok(Sender::Http1(sender));
                }
                self.gateway.connect(self.index).await
            }
            Connection::Shared(shared) => {
                let cell = current(shared);
                let open = || async {
                    match self.gateway.connect(self.index).await? {
                        Sender::Http2(sender) => Ok(sender),
                        Sender::Http1(_) => {
                            unreachable!("`connect` opens connections of the protocol")
                        }
                    }
                };
                let mut sender = cell.get_or_try_init(open).await?.clone();
                if sender.ready().await.is_ok() {
                    return Ok(Sender::Http2(sender));
                }
                let new = replace(shared, &cell);
                Ok(Sender::Http2(new.get_or_try_init(open).await?.clone()))
            }
        }
    }

    async fn exchange(&mut self, user: &User) -> Result<Answer, Failure> {
        let request = self.gateway.request(user);
        match self.sender().await? {
            Sender::Http1(mut sender) => {
                let response =
                    sender.send_request(request).await.map_err(|error| failure(&error))?;
                let answer = answer(response, user).await?;
                if let Connection::Own(own) = &mut self.connection {
                    *own = Some(sender);
                }
                Ok(answer)
            }
            Sender::Http2(mut sender) => {
                let response =
                    sender.send_request(request).await.map_err(|error| failure(&error))?;
                answer(response, user).await
            }
        }
    }
}

impl Client for GatewayClient {
    async fn send(&mut self, number: u64) -> Outcome {
        let gateway = self.gateway.clone();
        let exchange = self.exchange(gateway.user(number));
        match timeout(gateway.timeout, exchange).await {
            Ok(Ok(answer)) => Outcome::Answered(answer),
            Ok(Err(failure)) => failure.into(),
            Err(_) => too_slow().into(),
        }
    }
}

fn too_slow() -> Failure {
    Failure {
        kind: ErrorKind::Timeout,
        text: "no complete answer within the time limit".to_owned(),
    }
}

fn current(shared: &Shared) -> Arc<OnceCell<http2::SendRequest<Full<Bytes>>>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Replaces a connection that was closed, unless another client has replaced it already.
fn replace(
    shared: &Shared,
    closed: &Arc<OnceCell<http2::SendRequest<Full<Bytes>>>>,
) -> Arc<OnceCell<http2::SendRequest<Full<Bytes>>>> {
    let mut cell = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if Arc::ptr_eq(&cell, closed) {
        *cell = Arc::default();
    }
    cell.clone()
}

/// Reads the response to its end.
async fn answer(response: Response<Incoming>, user: &User) -> Result<Answer, Failure> {
    let (head, mut body) = response.into_parts();
    let auth_failure = head.headers.get("x-zowe-auth-failure");
    let is_refused = !head.status.is_success() || auth_failure.is_some();
    let (mut length, mut message) = (0, BytesMut::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failure(&error))?;
        if let Some(data) = frame.data_ref() {
            length += data.len() as u64;
            if is_refused && message.len() + data.len() <= LONGEST_MESSAGE {
                message.extend_from_slice(data);
            }
        }
    }
    let refusal = is_refused.then(|| Refusal {
        status: head.status.as_u16(),
        auth_failure: auth_failure
            .map(|text| shown(&String::from_utf8_lossy(text.as_bytes()), user)),
        message_number: message_number(&message).map(|text| shown(&text, user)),
    });
    Ok(Answer { status: head.status.as_u16(), length, refusal })
}

/// Returns the `messageNumber` of the first message in the body, if the body is an `ApiMessage` of Zowe.
fn message_number(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    Some(body["messages"][0]["messageNumber"].as_str()?.to_owned())
}

/// Returns a text of the gateway in a form that can be printed: without the credential and control characters, and not
/// too long.
fn shown(text: &str, user: &User) -> String {
    let printable = |char: char| if char.is_control() { '?' } else { char };
    user.without_secrets(text).chars().map(printable).take(LONGEST_TEXT).collect()
}
