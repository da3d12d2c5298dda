//! The parts of a [`Config`](super::Config).

use std::{
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use tower_passticket::{
    api::Grant,
    audit::AuditFileOptions,
    identity::{CertificateMap, DistributedMap, Registry},
    passticket::UserId,
    remote::Address,
};

/// Which side encrypts the connections between clients and the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// The gateway: it serves HTTPS.
    Tls,
    /// AT-TLS of z/OS, in front of the gateway. The gateway serves plain HTTP and does not see
    /// client certificates (docs/reference/data-plane.md#at-tls).
    AtTls,
}

/// How a client certificate is mapped to a user id: `passticketProxy.certificateMapping`.
#[derive(Clone, Debug)]
pub enum CertificateMapping {
    /// By its common name.
    CommonName,
    /// By the file of `passticketProxy.identities`.
    File(CertificateMap),
    /// By a request to ZSS: `...security.x509.externalMapperUrl` and `externalMapperUser`.
    Zss(Zss),
}

/// How an e-mail address is mapped to a user id.
#[derive(Clone, Debug)]
pub enum IdentityMapping {
    /// By the file of `passticketProxy.identities`.
    File(DistributedMap),
    /// By a request to ZSS: `...security.oidc.identityMapperUrl` and `identityMapperUser`.
    Zss(Zss),
}

/// An identity mapper of ZSS.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Zss {
    /// Its URL.
    pub address: Address,
    /// The user id that the gateway has there.
    pub user: UserId,
}

/// Delegated PassTickets.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DelegationSettings {
    /// The registry of the e-mail addresses: `...security.oidc.registry`.
    pub registry: Registry,
    /// How an address is mapped.
    pub mapping: IdentityMapping,
    /// `passticketProxy.delegation.callers`. Without the key (`None`) SAF alone decides; an empty
    /// list permits no caller.
    pub grants: Option<Vec<Grant>>,
    /// `passticketProxy.delegation.protectedUsers`, and the gateway's own user.
    pub protected: Vec<UserId>,
    /// `passticketProxy.delegation.callsPerMinute`, if present.
    pub calls_per_minute: Option<NonZeroU32>,
}

/// The audit file.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditSettings {
    /// `passticketProxy.audit.file`; default: `audit.jsonl` beside the zowe.yaml.
    pub file: PathBuf,
    /// The other keys of `passticketProxy.audit`.
    pub options: AuditFileOptions,
}

/// Time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimeoutSettings {
    /// Until a connection to a service is open: `components.gateway.apiml.connection.timeout`.
    pub connect: Duration,
    /// Until a service begins its response: the same key, as in Zowe.
    pub response: Duration,
    /// Until a client has completed the TLS handshake: `passticketProxy.timeouts.handshakeSeconds`.
    pub handshake: Duration,
    /// Until the requests in flight are finished when the gateway stops:
    /// `passticketProxy.timeouts.drainSeconds`.
    pub drain: Duration,
    /// Until the SAF endpoint or an identity mapper answers:
    /// `passticketProxy.timeouts.providerSeconds`.
    pub provider: Duration,
}

/// Limits of what grows with users and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitSettings {
    /// Verified tokens in the cache, [400 bytes](tower_passticket::token::Rs256Verifier::with_cache)
    /// each: `passticketProxy.limits.cachedTokens`, 100 to 1,000,000.
    pub cached_tokens: NonZeroUsize,
    /// Pairs of user and APPLID whose PassTicket of the current second is cached, 100 bytes each:
    /// `passticketProxy.limits.rememberedTickets`, 100 to 1,000,000.
    pub remembered_tickets: NonZeroUsize,
    /// Open connections of clients, divided among the threads and rounded up. Further clients wait
    /// to be accepted: `passticketProxy.limits.connections`, 1 to 1,000,000.
    pub connections: NonZeroUsize,
}

impl Default for LimitSettings {
    /// 10,000 tokens, 4,096 tickets, 10,000 connections.
    fn default() -> Self {
        const {
            Self {
                cached_tokens: NonZeroUsize::new(10_000).expect("is not zero"),
                remembered_tickets: NonZeroUsize::new(4_096).expect("is not zero"),
                connections: NonZeroUsize::new(10_000).expect("is not zero"),
            }
        }
    }
}

/// The user id of Zowe's started task, as Zowe's installation jobs define it.
pub(super) fn default_gateway_user() -> UserId {
    UserId::new("ZWESVUSR").expect("is a user id")
}
