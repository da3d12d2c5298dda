//! The connectors to services and other servers. A connector decides how the gateway verifies a server, and which client
//! certificate it presents.

use std::{sync::Arc, time::Duration};

use passticket_proxy::config::{ClientIdentities, ClientIdentity, Config, ServiceClients};
use tower_passticket::{
    tls::{Connector, TlsError, TlsPolicy, Verification},
    token::ServiceId,
};

use crate::part::Part;

/// The configured connect timeout is limited to this value. A service that does not accept a connection in this time is
/// considered down. Responses have a separate timeout, which may be longer.
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// All connectors.
pub(crate) struct Outbound {
    pub(crate) connectors: Connectors,
    /// To servers that receive passwords or PassTickets.
    pub(crate) logins: Connector,
    /// To a running Zowe that makes PassTickets.
    pub(crate) zowe: Option<Connector>,
}

/// What the connectors are made from.
#[derive(Clone, PartialEq)]
pub(crate) struct OutboundSettings {
    verify: Verification,
    authorities: Vec<u8>,
    timeouts: (Duration, Duration),
    policy: TlsPolicy,
    identities: ClientIdentities,
    timed: Vec<TimedService>,
    zowe_identity: Option<ClientIdentity>,
    /// The services that are found in Eureka and may receive credentials.
    found: Vec<ServiceId>,
}

/// A service with a connect timeout of its own.
#[derive(Clone, PartialEq)]
struct TimedService {
    service: ServiceId,
    timeout: Duration,
}

/// The services with a connect timeout of their own.
///
/// The connector of a service is also used on its routes with the scheme bypass. There it must present no certificate of
/// the gateway. So a service with routes of both kinds keeps the timeout of the gateway, if the gateway has a
/// certificate.
fn timed_services(config: &Config) -> Vec<TimedService> {
    let identities = &config.client_identities;
    let timed = config.connect_timeouts.iter().filter_map(|(service, timeout)| {
        let is_mixed = identities.clients_of(service) == ServiceClients::Mixed;
        let has_own = identities.own_of(service).is_some();
        let is_possible = has_own || identities.default.is_none() || !is_mixed;
        is_possible.then(|| TimedService { service: service.clone(), timeout: *timeout })
    });
    timed.collect()
}

/// Makes the connectors, or keeps the previous ones.
pub(crate) fn outbound(
    config: &Config,
    previous: Option<&Part<OutboundSettings, Arc<Outbound>>>,
) -> Result<Part<OutboundSettings, Arc<Outbound>>, TlsError> {
    let settings = OutboundSettings {
        verify: config.verify,
        authorities: config.tls.service_authorities.clone(),
        timeouts: (config.timeouts.connect, config.timeouts.provider),
        policy: config.client_tls.clone(),
        identities: config.client_identities.clone(),
        timed: timed_services(config),
        zowe_identity: config.zowe.as_ref().and_then(|zowe| zowe.client_identity.clone()),
        found: found_services(config).cloned().collect(),
    };
    Part::keep_or_make(previous, settings, |_| {
        let connectors = Connectors::new(config)?;
        let logins = connectors.to_logins(config)?;
        Ok(Arc::new(Outbound { connectors, logins, zowe: zowe_connector(config)? }))
    })
}

/// The connectors to services and other servers that are verified as `verifyCertificates` says. Each connector presents
/// one client certificate or none.
#[derive(Clone)]
pub(crate) struct Connectors {
    /// Without a client certificate.
    pub(crate) anonymous: Connector,
    /// For services without a client certificate of their own.
    pub(crate) default: Connector,
    /// For services with a client certificate or a connect timeout of their own.
    pub(crate) own: Vec<(ServiceId, Connector)>,
}

impl Connectors {
    pub(crate) fn new(config: &Config) -> Result<Self, TlsError> {
        let identities = &config.client_identities;
        // Services with the same certificate and the same timeout share a connector.
        let mut built: Vec<(Option<&ClientIdentity>, Duration, Connector)> = Vec::new();
        let mut connector_of = |identity, timeout: Duration| {
            let timeout = timeout.min(MAX_CONNECT_TIMEOUT);
            let same = built.iter().find(|(i, t, _)| *i == identity && *t == timeout);
            if let Some((.., connector)) = same {
                return Ok(connector.clone());
            }
            let connector = connector_within(timeout, config, config.verify, identity)?;
            built.push((identity, timeout, connector.clone()));
            Ok::<_, TlsError>(connector)
        };
        let timeout = config.timeouts.connect;
        let anonymous = connector_of(None, timeout)?;
        let default = connector_of(identities.default.as_ref(), timeout)?;
        let mut own = Vec::new();
        for (service, identity) in &identities.services {
            let timeout = config.connect_timeouts.get(service).copied().unwrap_or(timeout);
            own.push((service.clone(), connector_of(Some(identity), timeout)?));
        }
        for TimedService { service, timeout } in timed_services(config) {
            if identities.own_of(&service).is_some() {
                continue;
            }
            let connector = connector_of(identities.of(&service), timeout)?;
            own.push((service, connector));
        }
        let own = with_found_services(config, own)?;
        Ok(Self { anonymous, default, own })
    }

    /// Returns the connector to a service.
    pub(crate) fn of(&self, service: &ServiceId) -> &Connector {
        let own = self.own.iter().find(|(id, _)| id == service).map(|(_, connector)| connector);
        own.unwrap_or(&self.default)
    }

    /// Returns the connector to servers that receive passwords. A server that can answer in place of z/OSMF or ZSS can
    /// log in any user. So these servers are verified even if the verification of services is off.
    pub(crate) fn to_logins(&self, config: &Config) -> Result<Connector, TlsError> {
        match config.verify {
            Verification::Disabled => connector_as(config, Verification::Strict, None),
            _ => Ok(self.anonymous.clone()),
        }
    }
}

/// Returns the services that are found in Eureka and may receive credentials.
fn found_services(config: &Config) -> impl Iterator<Item = &ServiceId> {
    config.discovery.iter().flat_map(|discovery| &discovery.services).map(|service| &service.id)
}

/// Adds connectors to the services that are found in Eureka and may receive credentials. Any program with a trusted
/// certificate can register an instance, so an instance must present a certificate for its registered host, also with
/// `verifyCertificates: NONSTRICT` or `DISABLED` (docs/decisions.md#d35).
///
/// Such a connector is also used on routes with the scheme bypass. There it must present no certificate of the gateway
/// for all services.
fn with_found_services(
    config: &Config,
    mut own: Vec<(ServiceId, Connector)>,
) -> Result<Vec<(ServiceId, Connector)>, TlsError> {
    if config.verify == Verification::Strict {
        return Ok(own);
    }
    for service in found_services(config) {
        let identity = config.client_identities.of(service);
        let timeout = config.connect_timeouts.get(service).copied();
        let timeout = timeout.unwrap_or(config.timeouts.connect).min(MAX_CONNECT_TIMEOUT);
        let connector = connector_within(timeout, config, Verification::Strict, identity)?;
        own.retain(|(id, _)| id != service);
        own.push((service.clone(), connector));
    }
    Ok(own)
}

/// Returns the connector to servers to which the gateway presents the client certificate `identity`.
fn connector_as(
    config: &Config,
    verification: Verification,
    identity: Option<&ClientIdentity>,
) -> Result<Connector, TlsError> {
    let timeout = config.timeouts.connect.min(MAX_CONNECT_TIMEOUT);
    connector_within(timeout, config, verification, identity)
}

/// Does the same as [`connector_as`] with another connect timeout.
fn connector_within(
    timeout: Duration,
    config: &Config,
    verification: Verification,
    identity: Option<&ClientIdentity>,
) -> Result<Connector, TlsError> {
    let builder = Connector::builder()
        .with_verification(verification)
        .with_authorities(&config.tls.service_authorities)
        .with_connect_timeout(timeout)
        .with_policy(config.client_tls.clone())
        .with_signature_cache();
    match identity {
        None => builder.build(),
        Some(identity) => builder.with_identity(&identity.certificate, &identity.key).build(),
    }
}

/// Returns the connector to a running Zowe that makes PassTickets. Returns `None` if the gateway has no client
/// certificate for Zowe.
pub(crate) fn zowe_connector(config: &Config) -> Result<Option<Connector>, TlsError> {
    let identity = config.zowe.as_ref().and_then(|zowe| zowe.client_identity.as_ref());
    // A server that can answer in place of API ML would get tokens, with which it could act as their users. So
    // `verifyCertificates` has no effect here.
    let connector = |identity| connector_as(config, Verification::Strict, Some(identity));
    identity.map(connector).transpose()
}

/// Returns the connector to a server that decides which user a client is, such as a server with the keys of a token
/// issuer. An attacker who answers in place of this server could act as any user. So the server is always verified,
/// even with `verifyCertificates: DISABLED`.
pub(crate) fn to_authority(config: &Config, authorities: &[u8]) -> Result<Connector, TlsError> {
    Connector::builder()
        .with_verification(Verification::Strict)
        .with_authorities(authorities)
        .with_connect_timeout(config.timeouts.provider)
        .with_policy(config.client_tls.clone())
        .build()
}
