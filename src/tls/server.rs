//! The accept loop.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use super::material::ServerTls;
use crate::{
    connection::{Connection, Protocol},
    identity::PeerCertificate,
};

/// The longest header block that a request may have on HTTP/2. A token of 16 KiB fits; HTTP/1.1
/// has a limit of its own that is larger.
const MAX_HEADER_LIST: u32 = 64 * 1024;

/// Accepts connections and serves requests on them, HTTP/1.1 and HTTP/2.
///
/// The service gets each request with its [`Connection`] and, if the client has shown a certificate
/// that verifies, its [`PeerCertificate`] as extensions.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    tls: Option<ServerTls>,
    handshake_timeout: Duration,
    header_timeout: Duration,
    drain_timeout: Duration,
}

/// How a [`Server`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every request was answered.
    Completely,
    /// The time was up, and these connections were cut.
    CutOff {
        /// How many.
        connections: usize,
    },
}

impl Server {
    /// Serves plain HTTP.
    pub fn http(listener: TcpListener) -> Self {
        Self {
            listener,
            tls: None,
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
        }
    }

    /// Serves HTTPS.
    pub fn https(listener: TcpListener, tls: ServerTls) -> Self {
        Self { tls: Some(tls), ..Self::http(listener) }
    }

    /// How long a TLS handshake may take; 10 s unless told otherwise.
    #[must_use]
    pub fn handshake_timeout(self, handshake_timeout: Duration) -> Self {
        Self { handshake_timeout, ..self }
    }

    /// How long the headers of a request may take on HTTP/1.1, idle time before them included;
    /// 30 s unless told otherwise.
    #[must_use]
    pub fn header_timeout(self, header_timeout: Duration) -> Self {
        Self { header_timeout, ..self }
    }

    /// How long requests in flight have once the server is to end; 30 s unless told otherwise.
    #[must_use]
    pub fn drain_timeout(self, drain_timeout: Duration) -> Self {
        Self { drain_timeout, ..self }
    }

    /// Serves until `shutdown` is ready, then stops accepting, lets the requests in flight finish,
    /// and returns.
    pub async fn run<S, B>(self, service: S, shutdown: impl Future<Output = ()>) -> Drained
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.header_timeout);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEADER_LIST)
            .keep_alive_interval(Duration::from_secs(30));
        let acceptor = self.tls.as_ref().map(|tls| TlsAcceptor::from(tls.config()));
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_ended) = connections.join_next() => continue,
                () = &mut shutdown => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    accept_failed(&error).await;
                    continue;
                }
            };
            let connection = Accepted {
                stream,
                peer,
                acceptor: acceptor.clone(),
                handshake_timeout: self.handshake_timeout,
                builder: builder.clone(),
                watcher: graceful.watcher(),
            };
            connections.spawn(connection.serve(service.clone()));
        }
        drop(self.listener);
        match timeout(self.drain_timeout, graceful.shutdown()).await {
            Ok(()) => Drained::Completely,
            Err(_) => {
                while connections.try_join_next().is_some() {}
                Drained::CutOff { connections: connections.len() }
            }
        }
    }
}

/// The listener works on: what failed is one connection that was gone again, or there are too many
/// open files, and then others have to end first.
async fn accept_failed(error: &io::Error) {
    let of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    );
    if !of_one_connection {
        tracing::error!(%error, "cannot accept connections; trying again in a second");
        sleep(Duration::from_secs(1)).await;
    }
}

/// One accepted connection.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    handshake_timeout: Duration,
    builder: auto::Builder<TokioExecutor>,
    watcher: Watcher,
}

impl Accepted {
    async fn serve<S, B>(self, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Self { stream, peer, acceptor, handshake_timeout, builder, watcher } = self;
        // A small answer must not wait for the acknowledgement of the one before it.
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else { return };
        let result = match acceptor {
            None => {
                let connection = Connection { peer, local, protocol: Protocol::Http };
                let service = ConnectionService { inner: service, connection, certificate: None };
                let service = TowerToHyperService::new(service);
                watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await
            }
            Some(acceptor) => {
                let stream = match timeout(handshake_timeout, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => {
                        tracing::debug!(%peer, %error, "TLS handshake failed");
                        return;
                    }
                    Err(_) => {
                        tracing::debug!(%peer, "TLS handshake took too long");
                        return;
                    }
                };
                let certificate = peer_certificate(stream.get_ref().1, peer);
                let connection = Connection { peer, local, protocol: Protocol::Https };
                let service = ConnectionService { inner: service, connection, certificate };
                let service = TowerToHyperService::new(service);
                watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%peer, error, "connection ended early");
        }
    }
}

fn peer_certificate(tls: &rustls::ServerConnection, peer: SocketAddr) -> Option<PeerCertificate> {
    let leaf = tls.peer_certificates()?.first()?;
    PeerCertificate::from_der(leaf.to_vec())
        .inspect_err(|error| tracing::warn!(%peer, %error, "client certificate ignored"))
        .ok()
}

/// Tells each request of a connection what is known about it.
#[derive(Clone)]
struct ConnectionService<S> {
    inner: S,
    connection: Connection,
    certificate: Option<PeerCertificate>,
}

impl<S, B> Service<Request<B>> for ConnectionService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let extensions = request.extensions_mut();
        extensions.insert(self.connection);
        if let Some(certificate) = &self.certificate {
            extensions.insert(certificate.clone());
        }
        self.inner.call(request)
    }
}
