//! Groups of settings that are fields of [`Config`](super::Config).
//!
//! A PassTicket is a short-lived password of z/OS for one application. An APPLID is the name of such an
//! application in the security product. SAF is the z/OS interface for permissions. ZSS is a server of
//! Zowe on z/OS that maps certificates and e-mail addresses to user ids.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::{NonZeroU16, NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use tower_passticket::{
    api::{Grant, PasswordHash},
    audit::AuditFileOptions,
    identity::{CertificateMap, DistributedMap, Registry},
    passticket::{Applid, UserId},
    remote::Address,
    token::ServiceId,
};

/// The component that encrypts the connections between clients and the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// The gateway encrypts the connections. It serves HTTPS.
    Tls,
    /// AT-TLS (the TLS of the z/OS TCP/IP stack) encrypts the connections in front of the gateway. The gateway serves
    /// plain HTTP and does not see client certificates (docs/reference/data-plane.md#at-tls).
    AtTls,
}

/// The mapping of client certificates to user ids: `components.passticket-proxy.certificateMapping`.
#[derive(Clone, Debug)]
pub enum CertificateMapping {
    /// The common name of the certificate is the user id.
    CommonName,
    /// The file of `components.passticket-proxy.identities` contains the mapping.
    File(CertificateMap),
    /// The gateway asks ZSS: `components.gateway.apiml.security.x509.externalMapperUrl` and `externalMapperUser`.
    Zss(Zss),
}

/// The mapping of distributed identities, such as e-mail addresses, to user ids.
#[derive(Clone, Debug)]
pub enum IdentityMapping {
    /// The file of `components.passticket-proxy.identities` contains the mapping.
    File(DistributedMap),
    /// The gateway asks ZSS: `components.gateway.apiml.security.oidc.identityMapperUrl` and `identityMapperUser`.
    Zss(Zss),
}

/// An endpoint of ZSS that maps identities to user ids.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Zss {
    /// The URL of the endpoint.
    pub address: Address,
    /// The user id with which the gateway authenticates to ZSS.
    pub user: UserId,
}

/// The file or the server that checks the passwords of users (docs/decisions.md#d20).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Logins {
    /// The users of the file `components.passticket-proxy.users`, with their password hashes. Each user occurs once.
    Users(Vec<(UserId, PasswordHash)>),
    /// z/OSMF: `auth.provider: zosmf`.
    Zosmf(ZosmfSettings),
    /// ZSS at this address: `auth.provider: saf` and `components.passticket-proxy.zss.url`.
    Zss(Address),
}

impl Logins {
    /// Returns the users of the file. The list is empty if a server checks passwords.
    pub fn users(&self) -> &[(UserId, PasswordHash)] {
        match self {
            Self::Users(users) => users,
            Self::Zosmf(_) | Self::Zss(_) => &[],
        }
    }
}

/// z/OSMF, IBM's management server on z/OS: the section `zOSMF`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZosmfSettings {
    /// `zOSMF.scheme`, `host` and `port`.
    pub address: Address,
    /// `zOSMF.applId`.
    pub applid: Applid,
}

/// Settings of delegated PassTickets. A delegated PassTicket is for another user than the caller. The caller names this
/// user by an e-mail address.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DelegationSettings {
    /// The registry that the e-mail addresses belong to: `components.gateway.apiml.security.oidc.registry`.
    pub registry: Registry,
    /// The mapping of e-mail addresses to user ids.
    pub mapping: IdentityMapping,
    /// The PassTickets that each caller may obtain: `components.passticket-proxy.delegation.callers`. `None` means that
    /// the setting is absent. In this case, SAF and [`protected`](Self::protected) decide. An empty list permits no
    /// caller.
    pub grants: Option<Vec<Grant>>,
    /// The users for whom no caller obtains a PassTicket:
    /// `components.passticket-proxy.delegation.protectedUsers`, and the gateway's own user.
    pub protected: Vec<UserId>,
    /// The limit of calls of each caller in a minute: `components.passticket-proxy.delegation.callsPerMinute`. `None`
    /// if the setting is absent; the limit is then 60.
    pub calls_per_minute: Option<NonZeroU32>,
}

/// Settings of the token exchange (RFC 8693): `components.passticket-proxy.tokenExchange`. A client exchanges the token
/// of a user for a PassTicket. An actor is a client program that has proved who it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExchangeSettings {
    /// The PassTickets that each actor may obtain: `callers`.
    pub grants: Vec<Grant>,
    /// The APPLIDs for which a token is exchanged without an actor: `bearerApplids`.
    pub bearer_applids: Vec<Applid>,
    /// For each APPLID, the services that accept its PassTickets. The services come from the api-defs, from `services`
    /// and from `discovery`.
    pub services: BTreeMap<Applid, BTreeSet<ServiceId>>,
    /// The limit of exchanges of each actor in a minute: `callsPerMinute`. Without an actor, the limit is for the user
    /// of the token. `None` if the setting is absent; the limit is then 60.
    pub calls_per_minute: Option<NonZeroU32>,
}

/// Settings of the audit file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditSettings {
    /// `components.passticket-proxy.audit.file`. The default is `audit.jsonl` in the directory of the zowe.yaml, or
    /// `audit.cef` with `format: cef`.
    pub file: PathBuf,
    /// `components.passticket-proxy.audit.unauthenticatedFile`: the file for requests that were not authenticated. The
    /// default is [`file`](Self::file) with `.unauthenticated` before the extension, such as
    /// `audit.unauthenticated.jsonl`.
    pub unauthenticated: PathBuf,
    /// The other settings of `components.passticket-proxy.audit`.
    pub options: AuditFileOptions,
}

/// Time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimeoutSettings {
    /// The limit for opening a connection to a service:
    /// `components.gateway.apiml.connection.timeout`.
    pub connect: Duration,
    /// The limit for a service to begin its response. As in Zowe, this limit comes from the same setting as
    /// [`connect`](Self::connect).
    pub response: Duration,
    /// The limit for the TLS handshake of a client: `components.passticket-proxy.timeouts.handshakeSeconds`.
    pub handshake: Duration,
    /// The maximum time that a client connection stays open without a request:
    /// `components.passticket-proxy.timeouts.idleSeconds`.
    pub idle: Duration,
    /// A client must take 4 KiB of a response in this time: `components.passticket-proxy.timeouts.sendSeconds`.
    pub send: Duration,
    /// A client must send 4 KiB of a request's body in this time:
    /// `components.passticket-proxy.timeouts.receiveSeconds`.
    pub receive: Duration,
    /// When the gateway stops, it waits for requests in flight for at most this time:
    /// `components.passticket-proxy.timeouts.drainSeconds`.
    pub drain: Duration,
    /// The limit for an answer of a server that the gateway itself asks, such as z/OSMF, ZSS or an identity provider:
    /// `components.passticket-proxy.timeouts.providerSeconds`.
    pub provider: Duration,
    /// The maximum time that a request waits for a connection. A request waits if the instance already has as many
    /// connections as [`connections_per_instance`](LimitSettings::connections_per_instance) permits, and all of them
    /// are in use. The setting is `components.passticket-proxy.timeouts.queueSeconds`.
    pub queue: Duration,
    /// The maximum time between two parts of a response body that a service sends:
    /// `components.passticket-proxy.timeouts.serviceBodySeconds`. `services.ID.serviceBodySeconds` sets another value
    /// for the service `ID`.
    pub service_body: Duration,
    /// The maximum time without a frame from the service on an HTTP/2 connection with open requests. After this time,
    /// the gateway sends a ping to the service. `None` disables pings. The setting is
    /// `components.passticket-proxy.timeouts.http2PingSeconds`.
    pub http2_ping: Option<Duration>,
    /// When the gateway stops, open WebSockets may continue for this time:
    /// `components.passticket-proxy.timeouts.tunnelDrainSeconds`.
    pub tunnel_drain: Duration,
    /// The limit for a service to answer a WebSocket handshake:
    /// `components.gateway.server.webSocket.connectTimeout`.
    pub web_socket_connect: Duration,
    /// The maximum time that a WebSocket stays open while neither end sends a byte:
    /// `components.gateway.server.webSocket.maxIdleTimeout`.
    pub web_socket_idle: Duration,
    /// The maximum time that the gateway waits while one end of a WebSocket takes no bytes:
    /// `components.gateway.server.webSocket.asyncWriteTimeout`.
    pub web_socket_write: Duration,
}

/// Size limits of caches, and limits of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitSettings {
    /// The maximum number of verified tokens in the cache, 100 to 1,000,000. A token takes up to [400
    /// bytes](tower_passticket::token::Rs256Verifier::with_cache). The setting is
    /// `components.passticket-proxy.limits.cachedTokens`.
    pub cached_tokens: NonZeroUsize,
    /// The maximum number of cached PassTickets, 100 to 1,000,000. There is one PassTicket for each pair of user and
    /// APPLID. Each PassTicket takes 100 bytes, and is cached for the current second or for `reuseSeconds`. PassTickets
    /// of APPLIDs with replay protection are not cached. The setting is
    /// `components.passticket-proxy.limits.rememberedTickets`.
    pub remembered_tickets: NonZeroUsize,
    /// The maximum number of open client connections, 1 to 1,000,000. At the limit, the gateway closes the connection
    /// that has been idle longest. If no connection is idle, the gateway closes a stalled connection. If no connection
    /// is stalled either, the gateway closes the new connection after at most a second. The setting is
    /// `components.passticket-proxy.limits.connections`.
    pub connections: NonZeroUsize,
    /// The maximum number of open connections of one client address. An IPv6 network of 64 bits counts as one address.
    /// The limit does not apply to trusted proxies. The default is half of [`connections`](Self::connections), rounded
    /// up. The setting is `components.passticket-proxy.limits.connectionsPerAddress`.
    pub connections_per_address: NonZeroUsize,
    /// The maximum number of connections to one instance of a service, 1 to 1,000,000. All worker threads share this
    /// limit. The setting is `components.passticket-proxy.limits.connectionsPerInstance`.
    pub connections_per_instance: NonZeroUsize,
    /// The maximum number of requests that share an HTTP/2 connection to a service at a time, 1 to 1,000. The setting
    /// is `components.passticket-proxy.limits.http2StreamsPerConnection`.
    pub http2_streams_per_connection: NonZeroU16,
    /// The maximum number of requests in flight of one client address, 1 to 1,000,000. The setting is
    /// `components.passticket-proxy.limits.requestsPerAddress`.
    pub requests_per_address: NonZeroUsize,
    /// The maximum number of counters for the rate limits of services, 100 to 1,000,000. There is one counter for each
    /// client and service with a rate limit. The setting is `components.passticket-proxy.limits.rateLimitedClients`.
    pub rate_limited_clients: NonZeroUsize,
    /// The memory for the headers of all requests in flight, in MiB. The value is 1 to 1,000,000. The setting is
    /// `components.passticket-proxy.limits.headerMegabytes`.
    pub header_megabytes: NonZeroUsize,
    /// The maximum number of open WebSockets of one user, 1 to 1,000,000. A WebSocket without a user is counted for the
    /// address of its client. The setting is `components.passticket-proxy.limits.tunnelsPerUser`.
    pub tunnels_per_user: NonZeroUsize,
    /// The maximum size of all revocations of API ML in one answer of its Caching Service, in MiB. The value is 1 to
    /// 1,000,000. The setting is `components.passticket-proxy.limits.zoweRevocationMegabytes`.
    pub zowe_revocation_megabytes: NonZeroUsize,
}

impl Default for LimitSettings {
    /// Returns the default limits:
    ///
    /// - 10,000 tokens and 4,096 PassTickets in the caches
    /// - 10,000 client connections in total, and 5,000 per client address
    /// - 256 connections to an instance of a service, and 100 requests per HTTP/2 connection
    /// - 256 requests in flight per client address
    /// - 100,000 counters for rate limits
    /// - 256 MiB of headers
    /// - 100 WebSockets per user
    /// - 32 MiB of revocations of API ML
    fn default() -> Self {
        const {
            Self {
                cached_tokens: NonZeroUsize::new(10_000).expect("should not be zero"),
                remembered_tickets: NonZeroUsize::new(4_096).expect("should not be zero"),
                connections: NonZeroUsize::new(10_000).expect("should not be zero"),
                connections_per_instance: NonZeroUsize::new(256).expect("should not be zero"),
                http2_streams_per_connection: NonZeroU16::new(100).expect("should not be zero"),
                connections_per_address: NonZeroUsize::new(5_000).expect("should not be zero"),
                requests_per_address: NonZeroUsize::new(256).expect("should not be zero"),
                rate_limited_clients: NonZeroUsize::new(100_000).expect("should not be zero"),
                header_megabytes: NonZeroUsize::new(256).expect("should not be zero"),
                tunnels_per_user: NonZeroUsize::new(100).expect("should not be zero"),
                zowe_revocation_megabytes: NonZeroUsize::new(32).expect("should not be zero"),
            }
        }
    }
}

/// Returns the default of `gatewayUser`: the user id that Zowe's installation jobs define for the servers of Zowe.
pub(super) fn default_gateway_user() -> UserId {
    UserId::new("ZWESVUSR").expect("should be a user id")
}
