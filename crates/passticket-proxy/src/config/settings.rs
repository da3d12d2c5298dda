//! What a [`Config`](super::Config) is made of.

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

/// Who encrypts what goes between the clients and the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// The gateway: it serves HTTPS.
    Tls,
    /// AT-TLS of z/OS, in front of it: the gateway serves plain HTTP, and does not see the
    /// certificates of clients (zowe-dataplane §6.5).
    AtTls,
}

/// How a client certificate becomes a user.
#[derive(Clone, Debug)]
pub enum CertificateMapping {
    /// By its common name.
    CommonName,
    /// By what `passticketProxy.identities` says.
    File(CertificateMap),
    /// By asking ZSS: `…security.x509.externalMapperUrl` and `externalMapperUser`.
    Zss(Zss),
}

/// How an e-mail address becomes a user.
#[derive(Clone, Debug)]
pub enum IdentityMapping {
    /// By what `passticketProxy.identities` says.
    File(DistributedMap),
    /// By asking ZSS: `…security.oidc.identityMapperUrl` and `identityMapperUser`.
    Zss(Zss),
}

/// A mapper of ZSS.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Zss {
    /// Where it is.
    pub address: Address,
    /// Whom the gateway is to it.
    pub user: UserId,
}

/// PassTickets for others.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DelegationSettings {
    /// The registry that knows the addresses: `…security.oidc.registry`.
    pub registry: Registry,
    /// Whose an address is.
    pub mapping: IdentityMapping,
    /// `passticketProxy.delegation.callers`. `None`, where the key is not there: all whom SAF permits;
    /// empty: nobody.
    pub grants: Option<Vec<Grant>>,
    /// `passticketProxy.delegation.protectedUsers`, and the gateway's own user.
    pub protected: Vec<UserId>,
    /// `passticketProxy.delegation.callsPerMinute`, if it is there.
    pub calls_per_minute: Option<NonZeroU32>,
}

/// The audit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditSettings {
    /// `passticketProxy.audit.file`: `audit.jsonl` beside the zowe.yaml unless told otherwise.
    pub file: PathBuf,
    /// The rest of `passticketProxy.audit`.
    pub options: AuditFileOptions,
}

/// How long to wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// For a connection to a service: `components.gateway.apiml.connection.timeout`.
    pub connect: Duration,
    /// For a service to begin its response: the same key, as in Zowe.
    pub response: Duration,
    /// For a client to complete the TLS handshake: `passticketProxy.timeouts.handshakeSeconds`.
    pub handshake: Duration,
    /// For requests that are under way when the proxy stops: `passticketProxy.timeouts.drainSeconds`.
    pub drain: Duration,
    /// For the SAF endpoint or a mapper to answer: `passticketProxy.timeouts.providerSeconds`.
    pub provider: Duration,
}

/// How much there may be of what grows with users and connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Verified tokens that are remembered, of [400 bytes](tower_passticket::token::Rs256Verifier::with_cache)
    /// each: `passticketProxy.limits.cachedTokens`, 100 to 1,000,000.
    pub cached_tokens: NonZeroUsize,
    /// Pairs of user and APPLID whose ticket of the second is remembered, of 100 bytes each:
    /// `passticketProxy.limits.rememberedTickets`, 100 to 1,000,000.
    pub remembered_tickets: NonZeroUsize,
    /// Connections of clients that are open at the same time, rounded up to as many for each thread;
    /// more wait to be accepted: `passticketProxy.limits.connections`, 1 to 1,000,000.
    pub connections: NonZeroUsize,
}

impl Default for Limits {
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
