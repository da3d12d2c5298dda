//! The relay of the old process. It sends requests that arrive after a takeover to the new process. From the new
//! process, it also gets the PassTickets for the last requests of the old process, and the revocations. The new process
//! answers in [`relayed`](super::relayed).
//!
//! The Unix socket of the takeover becomes an HTTP/2 connection. The old process is its client. The new process answers
//! a relayed request as if a client had sent it to the new process. A header tells the new process from which client
//! connection the request came.
//!
//! A PassTicket is a short-lived password of z/OS.

use std::{net::SocketAddr, str::FromStr, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{HOST, RETRY_AFTER, UPGRADE},
    uri::{Authority, Scheme},
};
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body, Frame, Incoming},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{net::UnixStream, sync::Semaphore};
use tower::BoxError;
use tower_passticket::{
    connection::{ConnectionInfo, Protocol},
    identity::PeerCertificate,
    messages::{self, ApiMessage},
    passticket::{Applid, GenerateError, PassTicket, UserId},
    proxy::ResponseBody,
    revocation::DurableStore,
};

/// The header with the [`Origin`] of a relayed request. A client cannot set it: the old process overwrites it.
pub(super) const ORIGIN: HeaderName = HeaderName::from_static("passticket-takeover");

/// The flow-control windows of HTTP/2. All streams share the window of the connection. The window of the connection is
/// larger than the windows of all streams together. So clients that do not read their responses cannot block tickets
/// and revocations.
pub(super) const STREAM_WINDOW: u32 = 64 * 1024 - 1;
pub(super) const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
const _: () = assert!(MAX_STREAMS < CONNECTION_WINDOW / STREAM_WINDOW);

/// The maximum number of streams that the new process accepts.
pub(super) const MAX_STREAMS: u32 = 32_000;

/// The maximum number of requests that are relayed at the same time. The other streams are for tickets and revocations.
const MAX_REQUESTS: usize = 16_000;

/// The maximum length of a ticket and of an error text, in bytes.
const MAX_TICKET_ANSWER: usize = 4096;

const MAX_REVOCATION: usize = 4096;

type RelayedBody = UnsyncBoxBody<Bytes, BoxError>;

#[derive(Clone)]
pub(super) struct Relay {
    sender: SendRequest<RelayedBody>,
    /// Each relayed request has a permit until the end of its response.
    requests: Arc<Semaphore>,
}

impl Relay {
    /// Starts the connection. It ends when the last clone of this [`Relay`] is dropped, or when the new process ends.
    pub(super) async fn start(stream: UnixStream) -> hyper::Result<Self> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(async {
            if let Err(error) = connection.await {
                tracing::warn!(%error, "the connection to the new process has ended");
            }
        });
        Ok(Self { sender, requests: Arc::new(Semaphore::new(MAX_REQUESTS)) })
    }

    /// Lets the new process answer a request that arrived at `listener`. If the new process cannot answer, returns a
    /// response with the status 503.
    pub(super) async fn forward<B>(
        mut self,
        listener: Listener,
        request: Request<B>,
    ) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let Some(request) = relayed(listener, request) else {
            return unavailable();
        };
        let Ok(permit) = self.requests.clone().try_acquire_owned() else {
            tracing::debug!(
                "too many requests are relayed to the new process; a request was refused"
            );
            return unavailable();
        };
        match self.send(request).await {
            Ok(response) => {
                let (mut parts, body) = response.into_parts();
                parts.version = Version::HTTP_11;
                let body = body.map_frame(move |frame| {
                    // The permit is given back when the body is dropped.
                    let _ = &permit;
                    frame
                });
                Response::from_parts(parts, ResponseBody::new(body))
            }
            Err(error) => {
                tracing::warn!(%error, "a request could not be relayed to the new process");
                unavailable()
            }
        }
    }

    /// Applies the revocations of the new process to `store`. Returns when the new process has ended, when this process
    /// is too far behind, or when it cannot read a revocation.
    pub(super) async fn follow_revocations(mut self, store: Arc<DurableStore>) {
        let mut body = match self.ask(&Wanted::Revocations).await {
            Ok(response) if response.status() == StatusCode::OK => response.into_body(),
            Ok(response) => {
                let status = response.status();
                return tracing::warn!(%status, "cannot follow the revocations of the new process");
            }
            Err(error) => {
                return tracing::warn!(%error, "cannot follow the revocations of the new process");
            }
        };
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            let data = match frame.map(Frame::into_data) {
                Ok(data) => data.unwrap_or_default(),
                Err(error) => {
                    return tracing::debug!(%error, "the new process sends no more revocations");
                }
            };
            text.extend(&*data);
            let complete = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let lines: Vec<u8> = text.drain(..complete).collect();
            for line in String::from_utf8_lossy(&lines).lines() {
                match line.parse() {
                    Ok(revocation) => store.apply_followed(&revocation),
                    Err(error) => {
                        return tracing::error!(%error, "cannot follow a revocation of the new process");
                    }
                }
            }
            if text.len() > MAX_REVOCATION {
                return tracing::error!(
                    "cannot follow a revocation of the new process: it is too long"
                );
            }
        }
    }

    /// Lets the new process make a PassTicket. This process has already checked the permission.
    pub(super) async fn ticket(
        mut self,
        user: UserId,
        applid: Applid,
    ) -> Result<PassTicket, GenerateError> {
        let failed = |reason: &str| {
            GenerateError::unavailable(user, applid, None).with_reason(reason.to_owned())
        };
        let answered = self.ask(&Wanted::Ticket { user, applid }).await;
        let response = answered.map_err(|error| failed(&error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_TICKET_ANSWER).collect().await;
        let body = body.map_err(|error| failed(&error.to_string()))?.to_bytes();
        let text = String::from_utf8_lossy(&body);
        match status {
            StatusCode::OK => PassTicket::parse(&text).map_err(|_| failed("malformed answer")),
            _ => Err(failed(&text)),
        }
    }

    /// Sends a request that does not come from a client.
    async fn ask(&mut self, wanted: &Wanted) -> hyper::Result<Response<Incoming>> {
        let mut request = Request::new(empty());
        *request.uri_mut() = Uri::from_static("https://localhost/");
        request.headers_mut().insert(ORIGIN, wanted.to_header());
        self.send(request).await
    }

    async fn send(&mut self, request: Request<RelayedBody>) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }
}

/// Converts a request of a client to a request of HTTP/2 to the new process. Returns `None` if the request cannot be
/// relayed: it changes the protocol of its connection (method CONNECT, or WebSocket in `Upgrade`), it has no
/// [`ConnectionInfo`], or HTTP/2 does not permit its URI.
///
/// Other protocols in `Upgrade` are ignored, as without a takeover. For example, Java's HTTP client offers `h2c`.
fn relayed<B>(listener: Listener, request: Request<B>) -> Option<Request<RelayedBody>>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::CONNECT || offers_websocket(&parts.headers) {
        return None;
    }
    let wanted = Wanted::Answer(Origin {
        listener,
        connection: *parts.extensions.get::<ConnectionInfo>()?,
        certificate: parts.extensions.get::<PeerCertificate>().cloned(),
    });
    if parts.uri.authority().is_none() {
        let host = parts.headers.remove(HOST);
        let host = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let mut uri = parts.uri.into_parts();
        uri.authority = Some(host.unwrap_or_else(|| Authority::from_static("localhost")));
        uri.scheme = Some(Scheme::HTTPS);
        parts.uri = Uri::from_parts(uri).ok()?;
    }
    parts.version = Version::HTTP_2;
    parts.extensions.clear();
    parts.headers.insert(ORIGIN, wanted.to_header());
    for name in HOP_BY_HOP {
        parts.headers.remove(name);
    }
    Some(Request::from_parts(parts, body.map_err(Into::into).boxed_unsync()))
}

/// Headers that concern only one HTTP/1.1 connection, so they are not sent in HTTP/2 (RFC 9113 §8.2.2).
const HOP_BY_HOP: [&str; 6] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

fn offers_websocket(headers: &HeaderMap) -> bool {
    let offered = headers.get_all(UPGRADE).into_iter();
    let mut offered = offered.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    offered.any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"websocket"))
}

fn empty() -> RelayedBody {
    Full::default().map_err(|never| match never {}).boxed_unsync()
}

/// The purpose of a request of the old process.
pub(super) enum Wanted {
    Answer(Origin),
    Ticket {
        user: UserId,
        applid: Applid,
    },
    /// The revocations from now on, one on each line.
    Revocations,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    /// The port of the gateway.
    Gateway,
    /// The port for gateways of API ML.
    Zaas,
}

impl Listener {
    const ALL: [Self; 2] = [Self::Gateway, Self::Zaas];

    fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Zaas => "zaas",
        }
    }
}

/// The connection on which a relayed request arrived.
pub(super) struct Origin {
    pub(super) listener: Listener,
    pub(super) connection: ConnectionInfo,
    pub(super) certificate: Option<PeerCertificate>,
}

impl Wanted {
    fn to_header(&self) -> HeaderValue {
        let document = match self {
            Self::Answer(Origin { listener, connection, certificate }) => json!({
                "listener": listener.name(),
                "peer": connection.peer.to_string(),
                "local": connection.local.to_string(),
                "https": connection.protocol == Protocol::Https,
                "certificate": certificate.as_ref().map(|it| BASE64_STANDARD.encode(it.der())),
                "intermediates": certificate.as_ref().map(|it| {
                    it.intermediates().map(|it| BASE64_STANDARD.encode(it)).collect::<Vec<_>>()
                }),
            }),
            Self::Ticket { user, applid } => {
                json!({"user": user.as_str(), "applid": applid.as_str()})
            }
            Self::Revocations => json!({"revocations": true}),
        };
        let header = HeaderValue::try_from(BASE64_STANDARD.encode(document.to_string()));
        header.expect("base64 has only characters that a header may have")
    }

    pub(super) fn from_header(header: &HeaderValue) -> Option<Self> {
        let document = BASE64_STANDARD.decode(header.as_bytes()).ok()?;
        let document: Value = serde_json::from_slice(&document).ok()?;
        let text = |key: &str| document.get(key)?.as_str();
        if let Some(user) = text("user") {
            let (user, applid) = (UserId::new(user).ok()?, Applid::new(text("applid")?).ok()?);
            return Some(Self::Ticket { user, applid });
        }
        if document.get("revocations").is_some() {
            return Some(Self::Revocations);
        }
        let listener = match text("listener") {
            // A process of an earlier version has only this listener.
            None => Listener::Gateway,
            Some(name) => Listener::ALL.into_iter().find(|listener| listener.name() == name)?,
        };
        let address = |key| SocketAddr::from_str(text(key)?).ok();
        let protocol = match document.get("https")?.as_bool()? {
            true => Protocol::Https,
            false => Protocol::Http,
        };
        let certificate = match text("certificate") {
            None => None,
            Some(der) => {
                let intermediates = document.get("intermediates").and_then(Value::as_array);
                let intermediates = intermediates.into_iter().flatten();
                let intermediates = intermediates
                    .map(|it| BASE64_STANDARD.decode(it.as_str()?).ok())
                    .collect::<Option<Vec<_>>>()?;
                let der = BASE64_STANDARD.decode(der).ok()?;
                Some(PeerCertificate::from_chain(der, intermediates).ok()?)
            }
        };
        let connection = ConnectionInfo::new(address("peer")?, address("local")?, protocol);
        Some(Self::Answer(Origin { listener, connection, certificate }))
    }
}

/// Returns the answer to a request that cannot be relayed. The client may repeat the request on a new connection.
pub(super) fn unavailable() -> Response<ResponseBody> {
    let message = ApiMessage::new(&messages::SERVICE_UNAVAILABLE);
    let mut response = message.into_response(StatusCode::SERVICE_UNAVAILABLE).map(Into::into);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("0"));
    response
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use rustls::pki_types::{CertificateDer, pem::PemObject};
    use test_support::{
        PATIENCE,
        pki::{self, Authority},
    };
    use tower_passticket::tls::{ServerSettings, ServerTls, SettingsHandle};

    use crate::gateway_service::GatewayService;

    use super::{
        super::{
            hand_over::HandOver,
            relayed::{self, RelayedService, RelayedServices},
        },
        *,
    };

    fn connection() -> ConnectionInfo {
        let address = "192.0.2.1:1000".parse().unwrap();
        ConnectionInfo::new(address, address, Protocol::Https)
    }

    /// Settings that accept client certificates of this authority.
    fn clients(authority: &Authority) -> SettingsHandle {
        let pem = |text: &'static str| text.as_bytes();
        let authorities = Some(authority.pem().as_bytes());
        let (certificate, key) = (pem(pki::SERVER.certificate), pem(pki::SERVER.key));
        let tls = ServerTls::from_pem(certificate, key, authorities).unwrap();
        SettingsHandle::new(ServerSettings::new(Some(tls)))
    }

    /// A service that accepts the clients of the trusted authority, and no service for gateways of API ML.
    fn only_gateway<S: GatewayService>(service: S) -> RelayedServices<S, S> {
        let settings = clients(&Authority::trusted());
        RelayedServices { gateway: RelayedService { service, proxies: None, settings }, zaas: None }
    }

    #[tokio::test]
    async fn a_relayed_certificate_is_verified_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = DurableStore::create(directory.path().join("revocations.redb")).unwrap();
        let (old, new) = UnixStream::pair().unwrap();
        let service = |name: &'static str| {
            tower::service_fn(move |request: Request<Incoming>| async move {
                let certificate = request.extensions().get::<PeerCertificate>();
                let text = if certificate.is_some() { "certificate" } else { "none" };
                let text = format!("{name}: {text}");
                Ok::<_, Infallible>(Response::new(ResponseBody::from(Bytes::from(text))))
            })
        };
        let of = |service, authority| RelayedService {
            service,
            proxies: None,
            settings: clients(authority),
        };
        let (trusted, stranger) = (Authority::trusted(), Authority::stranger());
        let services = RelayedServices {
            gateway: of(service("gateway"), &trusted),
            zaas: Some(of(service("zaas"), &stranger)),
        };
        tokio::spawn(relayed::serve(new, services, HandOver::default(), store.follow()));
        let relay = Relay::start(old).await.unwrap();
        let key = pki::USER.key_pair();
        for (listener, authority, want) in [
            (Listener::Gateway, &trusted, "gateway: certificate"),
            (Listener::Gateway, &stranger, "gateway: none"),
            (Listener::Zaas, &trusted, "zaas: none"),
            (Listener::Zaas, &stranger, "zaas: certificate"),
        ] {
            let pem = authority.certify(&key, |_| {});
            let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            let certificate = PeerCertificate::from_der(der.to_vec()).unwrap();
            let request = Request::get("https://localhost/").extension(connection());
            let request = request.extension(certificate).body(empty()).unwrap();
            let response = relay.clone().forward(listener, request).await;
            let body = response.into_body().collect().await.unwrap();
            assert_eq!(body.to_bytes(), want);
        }
    }

    #[tokio::test]
    async fn a_request_for_a_port_that_the_new_process_does_not_have_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = DurableStore::create(directory.path().join("revocations.redb")).unwrap();
        let (old, new) = UnixStream::pair().unwrap();
        let service = tower::service_fn(|_| async {
            Ok::<_, Infallible>(Response::new(ResponseBody::from(Bytes::new())))
        });
        let services = only_gateway(service);
        tokio::spawn(relayed::serve(new, services, HandOver::default(), store.follow()));
        let relay = Relay::start(old).await.unwrap();
        for (listener, want) in [(Listener::Gateway, 200), (Listener::Zaas, 503)] {
            let request = Request::get("https://localhost/").extension(connection());
            let request = request.body(empty()).unwrap();
            assert_eq!(relay.clone().forward(listener, request).await.status(), want);
        }
    }

    #[test]
    fn only_requests_that_change_the_protocol_are_not_relayed() {
        for (method, upgrade, want) in [
            ("GET", None, true),
            ("GET", Some("h2c"), true),
            ("POST", Some("h2c, TLS/1.2"), true),
            ("GET", Some("websocket"), false),
            ("GET", Some("h2c, WebSocket"), false),
            ("CONNECT", None, false),
        ] {
            let request = Request::builder().method(method).uri("localhost:1");
            let mut request = request.extension(connection());
            if let Some(upgrade) = upgrade {
                request = request.header("connection", "Upgrade, HTTP2-Settings");
                request = request.header("upgrade", upgrade).header("http2-settings", "AA");
            }
            let relayed = relayed(Listener::Gateway, request.body(empty()).unwrap());
            assert_eq!(relayed.is_some(), want, "{method} {upgrade:?}");
            if let Some(relayed) = relayed {
                assert_eq!(relayed.headers().keys().collect::<Vec<_>>(), [&ORIGIN]);
            }
        }
    }

    #[tokio::test]
    async fn responses_that_no_client_reads_do_not_stop_tickets() {
        let directory = tempfile::tempdir().unwrap();
        let store = DurableStore::create(directory.path().join("revocations.redb")).unwrap();
        let (old, new) = UnixStream::pair().unwrap();
        let service = tower::service_fn(|_| async {
            let body = vec![b'x'; 4 * 1024 * 1024];
            Ok::<_, Infallible>(Response::new(ResponseBody::from(Bytes::from(body))))
        });
        let hand_over = HandOver::default();
        tokio::spawn(relayed::serve(new, only_gateway(service), hand_over, store.follow()));
        let relay = Relay::start(old).await.unwrap();
        let mut unread = Vec::new();
        for _ in 0..80 {
            let request = Request::get("https://localhost/").extension(connection());
            let request = request.body(empty()).unwrap();
            let response = relay.clone().forward(Listener::Gateway, request).await;
            assert_eq!(response.status(), StatusCode::OK);
            unread.push(response);
        }
        // The responses use up their windows.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (user, applid) = (UserId::new("USER").unwrap(), Applid::new("APPL").unwrap());
        let answered = tokio::time::timeout(PATIENCE, relay.ticket(user, applid)).await;
        let error = answered.expect("the ticket should be answered").unwrap_err();
        assert!(error.to_string().contains("no PassTicket keys"), "{error}");
        drop(unread);
    }

    #[test]
    fn the_origin_of_a_request_is_read_back() {
        let (peer, local) = ("192.0.2.1:1000".parse().unwrap(), "[::1]:443".parse().unwrap());
        let connection = ConnectionInfo::new(peer, local, Protocol::Https);
        let der = pki::self_signed_with_name("USER");
        let certificate = PeerCertificate::from_chain(der, [vec![1, 2], vec![3]]).unwrap();
        let found = [(Listener::Gateway, None), (Listener::Zaas, Some(certificate))];
        for (listener, certificate) in found {
            let origin = Origin { listener, connection, certificate: certificate.clone() };
            match Wanted::from_header(&Wanted::Answer(origin).to_header()) {
                Some(Wanted::Answer(read)) => {
                    assert_eq!((read.listener, read.connection), (listener, connection));
                    let der =
                        |it: &Option<PeerCertificate>| it.as_ref().map(|it| it.der().to_owned());
                    assert_eq!(der(&read.certificate), der(&certificate));
                    let intermediates = |it: &Option<PeerCertificate>| {
                        let all = it.iter().flat_map(PeerCertificate::intermediates);
                        all.map(<[u8]>::to_vec).collect::<Vec<_>>()
                    };
                    assert_eq!(intermediates(&read.certificate), intermediates(&certificate));
                }
                _ => panic!("expected an origin"),
            }
        }
        // A process of an earlier version does not name the listener.
        let text = r#"{"peer":"192.0.2.1:1000","local":"192.0.2.1:443","https":true}"#;
        let header = HeaderValue::try_from(BASE64_STANDARD.encode(text)).unwrap();
        match Wanted::from_header(&header) {
            Some(Wanted::Answer(read)) => assert_eq!(read.listener, Listener::Gateway),
            _ => panic!("expected an origin"),
        }
        for wrong in ["", "x", "e30=", "bnVsbA=="] {
            assert!(Wanted::from_header(&HeaderValue::from_static(wrong)).is_none(), "{wrong}");
        }
    }
}
