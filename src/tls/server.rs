//! The HTTP server: the loop that accepts connections, and the shutdown. The module `accepted_connection` serves each
//! connection.

use std::{convert::Infallible, error::Error, io, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
    time::{Instant, sleep, timeout, timeout_at},
};
use tower_service::Service;

use super::{
    accepted_connection::{Accepted, ConnectionSettings, FixedSettings, OpenTunnel, Serving},
    client_limits::ClientLimits,
    connection_counts::ConnectionCounts,
    open_certificates::OpenCertificates,
    server_settings::{ServerSettings, SettingsHandle},
    server_tls::ServerTls,
    streams::Streams,
};
use crate::{
    connection::{Protocol, TrustedProxies},
    log_limit::log_limited,
};

/// At its shutdown, the server waits at most this long for a last request on each idle connection. The client may
/// already have sent this request.
const REQUEST_GRACE: Duration = Duration::from_secs(1);

/// When the server shuts down, it first accepts up to this many connections that the kernel has already established,
/// for up to [`MAX_BACKLOG_TIME`]. Without these limits, clients that connect all the time would prevent the shutdown.
const MAX_BACKLOG: usize = 4096;

const MAX_BACKLOG_TIME: Duration = Duration::from_millis(200);

/// The server waits at most this long until the futures of aborted requests have been dropped.
const DROP_TIME: Duration = Duration::from_secs(1);

/// After the tunnel drain timeout, the server waits at most this long until all tunnels have ended. A tunnel needs up
/// to five seconds to end. Then its connection needs up to [`REQUEST_GRACE`] to close.
const CLOSE_TUNNELS: Duration = Duration::from_secs(7);

/// The kernel buffers at most about this many bytes that it cannot send yet. With a larger buffer, the server would
/// notice later that a slow client takes bytes. The receive buffer of the client's kernel has the same effect, but the
/// server cannot limit that buffer.
#[cfg(target_os = "linux")]
const MAX_UNSENT: u32 = 128 * 1024;

/// The times after which the kernel probes a silent connection. An accepted connection inherits these settings from the
/// listener.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(20));

/// After an error of `accept`, the server waits this long before it accepts the next connection. It does not wait if
/// the error only says that a client closed its connection before the server accepted it.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Accepts connections and serves HTTP/1.1 and HTTP/2 requests on them. HTTP/2 needs TLS.
///
/// Each request has a [`ConnectionInfo`](crate::connection::ConnectionInfo) extension. If the client has presented a
/// valid certificate, the request also has a [`PeerCertificate`](crate::identity::PeerCertificate) extension.
///
/// ```
/// use std::{convert::Infallible, future::ready, time::Duration};
///
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tokio::net::TcpListener;
/// use tower::service_fn;
/// use tower_passticket::{connection::ConnectionInfo, hyper::body::Incoming, tls::{Drained, Server}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let service = service_fn(|request: Request<Incoming>| {
///     let peer = request.extensions().get::<ConnectionInfo>().map(|info| info.peer.to_string());
///     ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(peer.unwrap_or_default()))))
/// });
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let server = Server::http(listener).with_drain_timeout(Duration::from_secs(5));
/// // The second argument is the shutdown signal. In this example, the server shuts down immediately.
/// let drained = server.run(service, ready(())).await;
/// assert_eq!(drained, Drained::Completely);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    settings: ServerSettings,
    /// Changes `settings` while the server runs.
    handle: Option<SettingsHandle>,
    /// The protocol that the clients use. If this is HTTPS, TLS may end in a program in front of the listener.
    protocol: Protocol,
    drain_timeout: Duration,
    tunnel_drain_timeout: Duration,
    limits: Arc<ClientLimits>,
    counts: Option<Arc<ConnectionCounts>>,
}

/// Says how the shutdown of a [`Server`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Drained {
    /// At the drain timeout, no connection was open, apart from WebSockets, and from connections that the server was
    /// already closing after their last response.
    Completely,
    /// Some connections were still open at the drain timeout, and were closed then.
    CutOff {
        /// The number of these connections.
        connections: usize,
    },
}

impl Drained {
    /// The number of connections that were closed at the drain timeout.
    pub fn cut_off(self) -> usize {
        match self {
            Self::Completely => 0,
            Self::CutOff { connections } => connections,
        }
    }
}

impl Server {
    /// Serves plain HTTP.
    pub fn http(listener: TcpListener) -> Self {
        Self {
            listener,
            settings: ServerSettings::new(None),
            handle: None,
            protocol: Protocol::Http,
            drain_timeout: Duration::from_secs(30),
            tunnel_drain_timeout: Duration::ZERO,
            limits: Arc::default(),
            counts: None,
        }
    }

    /// Serves HTTPS.
    pub fn https(listener: TcpListener, tls: ServerTls) -> Self {
        let settings = ServerSettings::new(Some(tls));
        Self { settings, protocol: Protocol::Https, ..Self::http(listener) }
    }

    /// Serves plain HTTP to AT-TLS (TLS in the network stack of z/OS), or to another program on this machine that does
    /// TLS with the clients. [`ConnectionInfo::protocol`](crate::connection::ConnectionInfo::protocol) is HTTPS,
    /// because the clients use HTTPS.
    pub fn behind_tls(listener: TcpListener) -> Self {
        Self { protocol: Protocol::Https, ..Self::http(listener) }
    }

    /// Uses the settings of `handle`, including its later changes. The clients use HTTPS, as with
    /// [`https`](Self::https) or [`behind_tls`](Self::behind_tls). Several servers can share one handle. This function
    /// replaces each setting that [`ServerSettings`] contains, even if another function `with_…` has set it.
    #[must_use]
    pub fn with_settings(self, handle: &SettingsHandle) -> Self {
        let (settings, handle) = (handle.read(), Some(handle.clone()));
        Self { settings, handle, protocol: Protocol::Https, ..self }
    }

    /// Sets the proxies that are trusted to announce the addresses of their clients in `X-Forwarded-For` or
    /// `Forwarded`: see
    /// [`ConnectionInfo::with_trusted_proxies`](crate::connection::ConnectionInfo::with_trusted_proxies). Default:
    /// none.
    #[must_use]
    pub fn with_trusted_proxies(self, proxies: TrustedProxies) -> Self {
        Self { settings: self.settings.with_trusted_proxies(proxies), ..self }
    }

    /// Requires a header of the PROXY protocol, version 1 or 2, at the beginning of each connection, before TLS.
    /// [`ConnectionInfo::peer`](crate::connection::ConnectionInfo::peer) and
    /// [`ConnectionInfo::local`](crate::connection::ConnectionInfo::local) then contain the addresses of this header. A
    /// connection is closed if it has no valid header, or if its peer is not one of `proxies`. Default: no header.
    ///
    /// In two cases, the peer is the proxy: the header says that the proxy itself is the client (`LOCAL`), or that the
    /// proxy does not know the addresses (`UNKNOWN`).
    #[must_use]
    pub fn with_proxy_protocol(self, proxies: TrustedProxies) -> Self {
        Self { settings: self.settings.with_proxy_protocol(proxies), ..self }
    }

    /// Sets how long a TLS handshake may take. This time includes reading the header of the PROXY protocol. If the
    /// handshake fails, it also includes closing the connection. Default: 10 s.
    #[must_use]
    pub fn with_handshake_timeout(self, handshake_timeout: Duration) -> Self {
        Self { settings: self.settings.with_handshake_timeout(handshake_timeout), ..self }
    }

    /// Sets how long an HTTP/1.1 client may take to send the headers of a request. The idle time before the
    /// request is not included. Default: 30 s.
    #[must_use]
    pub fn with_header_timeout(self, header_timeout: Duration) -> Self {
        Self { settings: self.settings.with_header_timeout(header_timeout), ..self }
    }

    /// Sets how long a connection may stay open without a request. Pings of HTTP/2 do not extend this time. Default: 75
    /// s.
    #[must_use]
    pub fn with_idle_timeout(self, idle_timeout: Duration) -> Self {
        Self { settings: self.settings.with_idle_timeout(idle_timeout), ..self }
    }

    /// Sets how long the requests in flight may continue after the shutdown signal. Default: 30 s.
    #[must_use]
    pub fn with_drain_timeout(self, drain_timeout: Duration) -> Self {
        Self { drain_timeout, ..self }
    }

    /// Sets how long WebSockets may continue after the shutdown signal. After this time, the gateway closes each of
    /// them with code 1001 (RFC 6455 §7.4.1). Both ends then have five seconds to close the WebSocket. The tunnel drain
    /// timeout may be longer than the drain timeout. Default: 0.
    #[must_use]
    pub fn with_tunnel_drain_timeout(self, tunnel_drain_timeout: Duration) -> Self {
        Self { tunnel_drain_timeout, ..self }
    }

    /// Sets the send timeout. Within this time, a client must take at least 4 KiB of the data that waits for it. If an
    /// HTTP/1.1 client takes less, its connection is closed. An HTTP/2 client must take a whole piece of up to 16 KiB
    /// in this time. If it takes less, the stream is reset. There is no limit for event streams (`text/event-stream`)
    /// and gRPC if the length of the response is not known. The server only sees when the client's kernel takes bytes,
    /// and a kernel may take up to a megabyte at a time. With such a kernel and a send timeout of 60 s, the server may
    /// also close the connection of a client that reads less than about 16 KiB per second. Default: 60 s.
    #[must_use]
    pub fn with_send_timeout(self, send_timeout: Duration) -> Self {
        Self { settings: self.settings.with_send_timeout(send_timeout), ..self }
    }

    /// Sets the limits of connections. Several servers can share one value. By default, each server has its own
    /// [`ClientLimits::default`].
    #[must_use]
    pub fn with_client_limits(self, limits: Arc<ClientLimits>) -> Self {
        Self { limits, ..self }
    }

    /// Counts the connections in `counts`. Several servers can share one value.
    #[must_use]
    pub fn with_connection_counts(self, counts: Arc<ConnectionCounts>) -> Self {
        Self { counts: Some(counts), ..self }
    }

    /// Serves until `shutdown` is ready. Then the server accepts no more connections, waits until the requests in
    /// flight have finished, and returns. A client may already have sent a request on an idle HTTP/1.1 connection. So
    /// idle connections stay open for up to one second or a quarter of the drain timeout, whichever is shorter.
    /// Requests that have not finished at the drain timeout are aborted. WebSockets may continue for the [tunnel drain
    /// timeout](Self::with_tunnel_drain_timeout). The server then waits up to one second until the futures of the
    /// aborted requests have been dropped.
    pub async fn run<S, B>(self, service: S, shutdown: impl Future<Output = ()>) -> Drained
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (running, mut all_dropped) = mpsc::channel(1);
        let (end, ending) = watch::channel(false);
        keep_little_unsent(&self.listener);
        keep_alive(&self.listener);
        let streams = Streams::new(running, self.settings.timeouts.send, self.counts.clone());
        let serving = Arc::new(Serving::new(self.connection_settings(), streams, ending));
        let mut current = CurrentServing::new(serving, self.handle.clone());
        let (mut connections, mut tunnels) = (JoinSet::new(), JoinSet::new());
        let mut shutdown = pin!(shutdown);
        loop {
            let result = tokio::select! {
                result = self.listener.accept() => result,
                Some(ended) = connections.join_next() => {
                    run_tunnel(ended, &mut tunnels);
                    continue;
                }
                Some(_ended) = tunnels.join_next() => continue,
                () = &mut shutdown => break,
            };
            match result {
                Ok((stream, peer)) => {
                    let accepted = Accepted::new(stream, peer, current.get());
                    connections.spawn(accepted.serve(service.clone()));
                }
                Err(error) => {
                    if let Some(counts) = &self.counts {
                        counts.add_accept_error();
                    }
                    accept_failed(&error, &self.limits).await;
                }
            }
        }
        // The connections that the kernel has already established are also accepted, because their clients expect an
        // answer.
        let deadline = Instant::now() + MAX_BACKLOG_TIME;
        for _ in 0..MAX_BACKLOG {
            match timeout(Duration::ZERO, self.listener.accept()).await {
                Ok(Ok((stream, peer))) => {
                    let accepted = Accepted::new(stream, peer, current.get());
                    connections.spawn(accepted.serve(service.clone()));
                }
                Ok(Err(error)) if is_closed_by_client(&error) => {}
                Ok(Err(_)) | Err(_) => break,
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        drop(self.listener);
        // `send` does not fail, because `current` still has a receiver.
        let _ = end.send(true);
        let all_tunnels_end = Instant::now() + self.tunnel_drain_timeout + CLOSE_TUNNELS;
        let all_ended = async {
            while let Some(ended) = connections.join_next().await {
                run_tunnel(ended, &mut tunnels);
            }
        };
        let drained = match timeout(self.drain_timeout, all_ended).await {
            Ok(()) => Drained::Completely,
            // A connection that is being closed does not count, because its requests have been answered.
            Err(_) => match connections.len().saturating_sub(current.get().closing()) {
                0 => Drained::Completely,
                connections => Drained::CutOff { connections },
            },
        };
        connections.shutdown().await;
        let all_ended = async { while tunnels.join_next().await.is_some() {} };
        // The tunnels end by themselves before this time.
        let _ = timeout_at(all_tunnels_end, all_ended).await;
        tunnels.shutdown().await;
        // HTTP/2 requests run in separate tasks, which end after their connection.
        drop(current);
        let _ = timeout(DROP_TIME, all_dropped.recv()).await;
        drained
    }

    fn connection_settings(&self) -> ConnectionSettings {
        let open_certificates = match &self.handle {
            Some(handle) => handle.open().clone(),
            None => Arc::new(OpenCertificates::new(self.settings.clients())),
        };
        let fixed = FixedSettings {
            limits: self.limits.clone(),
            counts: self.counts.clone(),
            tunnel_drain: self.tunnel_drain_timeout,
            shutdown_wait: REQUEST_GRACE.min(self.drain_timeout / 4),
            open_certificates,
        };
        ConnectionSettings::new(&self.settings, self.protocol, fixed)
    }
}

struct CurrentServing {
    serving: Arc<Serving>,
    handle: Option<SettingsHandle>,
    generation: u64,
}

impl CurrentServing {
    fn new(serving: Arc<Serving>, handle: Option<SettingsHandle>) -> Self {
        // The first connection reads the settings again, because they may have changed.
        Self { serving, handle, generation: 0 }
    }

    fn get(&mut self) -> Arc<Serving> {
        if let Some(handle) = &self.handle {
            let generation = handle.generation();
            if generation != self.generation {
                self.generation = generation;
                self.serving = Arc::new(self.serving.with_settings(&handle.read()));
            }
        }
        self.serving.clone()
    }
}

/// If the connection has become a tunnel, runs the tunnel in a new task. The task of the HTTP connection has ended,
/// which frees its memory. The drain timeout does not apply to the new task.
fn run_tunnel(ended: Result<Option<OpenTunnel>, JoinError>, tunnels: &mut JoinSet<()>) {
    if let Ok(Some(tunnel)) = ended {
        tunnels.spawn(tunnel.run());
    }
}

/// See `MAX_UNSENT`.
fn keep_little_unsent(listener: &TcpListener) {
    #[cfg(target_os = "linux")]
    if let Err(error) = SockRef::from(listener).set_tcp_notsent_lowat(MAX_UNSENT) {
        tracing::debug!(%error, "cannot set TCP_NOTSENT_LOWAT");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = listener;
}

/// Makes the kernel probe the silent connections of the listener. Without these probes, an event stream could stay open
/// forever if its client is no longer reachable, for example after a network failure.
fn keep_alive(listener: &TcpListener) {
    if let Err(error) = SockRef::from(listener).set_tcp_keepalive(&KEEPALIVE) {
        tracing::debug!(%error, "cannot set SO_KEEPALIVE");
    }
}

/// Handles an error of `accept`, after which the listener can still be used. If a client closed its connection before
/// the server accepted it, the server continues immediately. If there are too many open files or there is too little
/// memory, the server closes the longest idle connection. If no connection is idle, it closes a stalled one. Then the
/// server waits a moment, so that the closed connection can free its file.
async fn accept_failed(error: &io::Error, limits: &ClientLimits) {
    if is_closed_by_client(error) {
        return;
    }
    if lacks_resources(error) {
        log_limited!(error, "accept", { %error }, "cannot accept connections; an idle or stalled connection is closed, if there is one");
        limits.evict_for_open_files();
    } else {
        log_limited!(error, "accept", { %error }, "cannot accept connections");
    }
    sleep(ACCEPT_AGAIN_AFTER).await;
}

fn is_closed_by_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Returns whether the process or the system has too many open files or too little memory. Then it helps to close
/// another connection.
fn lacks_resources(error: &io::Error) -> bool {
    // `ENFILE` and `EMFILE` have these numbers on all Unix systems since Version 7.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    const ENOBUFS: i32 = if cfg!(target_os = "linux") { 105 } else { 55 };
    error.kind() == io::ErrorKind::OutOfMemory
        || matches!(error.raw_os_error(), Some(ENFILE | EMFILE | ENOBUFS))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn accepted_connections_inherit_the_limit_of_unsent_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        keep_little_unsent(&listener);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert_eq!(SockRef::from(&accepted).tcp_notsent_lowat().unwrap(), MAX_UNSENT);
    }

    #[tokio::test]
    async fn accepted_connections_are_probed_by_the_kernel() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        keep_alive(&listener);
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let accepted = SockRef::from(&accepted);
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), Duration::from_secs(20));
    }

    #[test]
    fn only_an_error_for_lack_of_resources_evicts_a_connection() {
        for (errno, want) in [(24, true), (23, true), (12, true), (103, false), (13, false)] {
            assert_eq!(lacks_resources(&io::Error::from_raw_os_error(errno)), want, "{errno}");
        }
    }
}
