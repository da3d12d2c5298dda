//! The settings of a server that can change while the server runs.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::pki_types::{CertificateDer, UnixTime};

use super::{
    connection_watch::ClientTimeouts,
    inbound_proxies::InboundProxies,
    open_certificates::OpenCertificates,
    server_tls::{ClientVerifier, ServerTls},
};
use crate::{access_log::AccessLog, connection::TrustedProxies, identity::PeerCertificate};

/// Default of [`Server::with_send_timeout`](super::Server::with_send_timeout).
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// The settings of a [`Server`](super::Server) that can change while it runs. A [`SettingsHandle`] changes them.
///
/// Most functions `with_…` are also functions of [`Server`](super::Server), with the same defaults.
#[derive(Clone, Debug)]
#[must_use]
pub struct ServerSettings {
    pub(super) tls: Option<ServerTls>,
    pub(super) proxies: InboundProxies,
    pub(super) handshake_timeout: Duration,
    pub(super) timeouts: ClientTimeouts,
    pub(super) access_log: Option<AccessLog>,
}

impl ServerSettings {
    /// Creates the settings. If `tls` is `None`, connections do not use TLS.
    pub fn new(tls: Option<ServerTls>) -> Self {
        Self {
            tls,
            proxies: InboundProxies::default(),
            handshake_timeout: Duration::from_secs(10),
            timeouts: ClientTimeouts {
                idle: Duration::from_secs(75),
                head: Duration::from_secs(30),
                send: SEND_TIMEOUT,
            },
            access_log: None,
        }
    }

    /// See [`Server::with_trusted_proxies`](super::Server::with_trusted_proxies).
    pub fn with_trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies.http = Some(proxies);
        self
    }

    /// See [`Server::with_proxy_protocol`](super::Server::with_proxy_protocol).
    pub fn with_proxy_protocol(mut self, proxies: TrustedProxies) -> Self {
        self.proxies.proxy_protocol = Some(proxies);
        self
    }

    /// See [`Server::with_handshake_timeout`](super::Server::with_handshake_timeout).
    pub fn with_handshake_timeout(self, handshake_timeout: Duration) -> Self {
        Self { handshake_timeout, ..self }
    }

    /// See [`Server::with_header_timeout`](super::Server::with_header_timeout).
    pub fn with_header_timeout(mut self, head: Duration) -> Self {
        self.timeouts.head = head;
        self
    }

    /// See [`Server::with_idle_timeout`](super::Server::with_idle_timeout).
    pub fn with_idle_timeout(mut self, idle: Duration) -> Self {
        self.timeouts.idle = idle;
        self
    }

    /// See [`Server::with_send_timeout`](super::Server::with_send_timeout).
    pub fn with_send_timeout(mut self, send: Duration) -> Self {
        self.timeouts.send = send;
        self
    }

    /// Writes the requests that the listener refuses at a limit to `log`. The service does not get these requests, so
    /// an [`AccessLogLayer`](crate::access_log::AccessLogLayer) does not see them. Default: no log.
    pub fn with_access_log(self, log: AccessLog) -> Self {
        Self { access_log: Some(log), ..self }
    }

    pub(super) fn clients(&self) -> ClientVerifier {
        self.tls.as_ref().map_or(ClientVerifier::None, |tls| tls.clients().clone())
    }
}

/// Changes the settings of all servers that use this handle ([`Server::with_settings`](super::Server::with_settings)).
/// Clones change the settings of the same servers.
#[derive(Clone)]
pub struct SettingsHandle(Arc<Shared>);

struct Shared {
    /// Increases with each change. A server keeps the number at its last read of the settings, and compares both
    /// numbers for each connection. So it locks `current` only after a change.
    generation: AtomicU64,
    current: Mutex<ServerSettings>,
    /// Locked during a change, so that the last settings that a thread sets are also the last ones with which
    /// certificates are verified.
    changing: Mutex<()>,
    open: Arc<OpenCertificates>,
}

impl SettingsHandle {
    /// Creates a handle with the first settings of its servers.
    pub fn new(settings: ServerSettings) -> Self {
        let open = Arc::new(OpenCertificates::new(settings.clients()));
        let (generation, current) = (AtomicU64::new(1), Mutex::new(settings));
        Self(Arc::new(Shared { generation, current, changing: Mutex::default(), open }))
    }

    /// Changes the settings. They apply to connections that are accepted from now on. Open connections stay as they
    /// are, with one exception: the client certificates of all open connections are verified with the new settings. A
    /// connection whose certificate is no longer accepted is closed after its requests in flight, at the latest after
    /// 30 s. A new request on such a connection has no [`PeerCertificate`](crate::identity::PeerCertificate). If the
    /// new TLS configuration is one of your own ([`ServerTls::from_config`]), no certificate is verified again.
    ///
    /// TLS sessions are resumed only with the same [`ServerTls`], because each `ServerTls` has its own session tickets.
    ///
    /// Returns the number of connections that are closed. This function verifies each certificate in use, so call it in
    /// a thread for blocking work.
    pub fn replace(&self, settings: ServerSettings) -> usize {
        let clients = settings.clients();
        let _changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // The old settings are dropped at the end of the function, without the lock of `current`.
        let _before = std::mem::replace(&mut *self.current(), settings);
        self.0.generation.fetch_add(1, Ordering::AcqRel);
        self.0.open.replace(&clients)
    }

    /// Returns whether a handshake would now accept `certificate`, with its intermediate certificates. Use this
    /// function for a connection of another process. Always returns true for a TLS configuration of your own
    /// ([`ServerTls::from_config`]).
    ///
    /// The call takes about a tenth of a millisecond. It does not verify that a client holds the private key.
    pub fn accepts_client(&self, certificate: &PeerCertificate) -> bool {
        let chain = std::iter::once(certificate.der()).chain(certificate.intermediates());
        let chain: Vec<_> = chain.map(CertificateDer::from).collect();
        let clients = self.current().clients();
        clients.accepts(&chain, UnixTime::now())
    }

    pub(super) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    pub(super) fn read(&self) -> ServerSettings {
        self.current().clone()
    }

    pub(super) fn open(&self) -> &Arc<OpenCertificates> {
        &self.0.open
    }

    fn current(&self) -> MutexGuard<'_, ServerSettings> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SettingsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettingsHandle").finish_non_exhaustive()
    }
}
