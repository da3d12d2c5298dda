//! Makes the connectors to services and other servers. A connector decides how the gateway verifies a server, and which
//! client certificate the gateway presents.
//!
//! A PassTicket is a short-lived password of z/OS. API ML is Zowe's API Mediation Layer.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use passticket_proxy::config::{ClientIdentities, ClientIdentity, Config, ServiceClients};
use tower_passticket::{
    tls::{Connector, TlsError, TlsPolicy, Verification},
    token::ServiceId,
};

use crate::part::Part;

/// The maximum connect timeout. If the configured value is longer, this value replaces it. A service that does not
/// accept a connection in this time is considered down. Responses have a separate timeout, which may be longer.
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Outbound {
    pub(crate) connectors: Connectors,
    /// The connector to z/OSMF and ZSS, to which the gateway itself sends passwords and PassTickets.
    pub(crate) logins: Connector,
    /// The connector to a running Zowe that makes PassTickets. `None` if the gateway has no client certificate for
    /// Zowe.
    pub(crate) zowe: Option<Connector>,
}

#[derive(Clone, PartialEq)]
pub(crate) struct OutboundSettings {
    verify: Verification,
    authorities: Vec<u8>,
    timeouts: (Duration, Duration),
    policy: TlsPolicy,
    identities: ClientIdentities,
    timed: Vec<(ServiceId, Duration)>,
    zowe_identity: Option<ClientIdentity>,
    strict: Vec<ServiceId>,
}

/// Makes the connectors. If the settings have not changed, returns the previous connectors instead.
pub(crate) fn outbound(
    config: &Config,
    previous: Option<&Part<OutboundSettings, Arc<Outbound>>>,
) -> Result<Part<OutboundSettings, Arc<Outbound>>, TlsError> {
    let timed = timed_services(config).map(|(service, timeout)| (service.clone(), timeout));
    let settings = OutboundSettings {
        verify: config.verify,
        authorities: config.tls.service_authorities.clone(),
        timeouts: (config.timeouts.connect, config.timeouts.provider),
        policy: config.client_tls.clone(),
        identities: config.client_identities.clone(),
        timed: timed.collect(),
        zowe_identity: config.zowe.as_ref().and_then(|zowe| zowe.client_identity.clone()),
        strict: strict_services(config).cloned().collect(),
    };
    Part::keep_or_make(previous, settings, |_| {
        let connectors = Connectors::new(config)?;
        let logins = connectors.to_logins(config)?;
        Ok(Arc::new(Outbound { connectors, logins, zowe: zowe_connector(config)? }))
    })
}

/// Returns the services with a connect timeout of their own, except services that cannot have their own connector.
///
/// If a service has its own connector, all its routes use it. On routes with the scheme bypass, a connector must not
/// present the certificate of the gateway, but on other routes it must. So this function leaves out services with
/// routes of both kinds. It does not leave out such a service if the service has its own client certificate, or if the
/// gateway has no client certificate. A service that is left out has the timeout of the gateway.
fn timed_services(config: &Config) -> impl Iterator<Item = (&ServiceId, Duration)> {
    let identities = &config.client_identities;
    let timed = config.connect_timeouts.iter().map(|(service, timeout)| (service, *timeout));
    timed.filter(|(service, _)| {
        let is_mixed = identities.clients_of(service) == ServiceClients::Mixed;
        let has_own = identities.own_of(service).is_some();
        has_own || identities.default.is_none() || !is_mixed
    })
}

/// Returns the services that are found in Eureka (the registry of Zowe's API Mediation Layer) and may receive
/// credentials. Returns no services if all services are verified strictly anyway. Any program with a trusted
/// certificate can register an instance. So an instance must present a certificate for its registered host, also with
/// `verifyCertificates: NONSTRICT` or `DISABLED` (docs/decisions.md#d35).
fn strict_services(config: &Config) -> impl Iterator<Item = &ServiceId> {
    let found = config.discovery.iter().flat_map(|discovery| &discovery.services);
    found.map(|service| &service.id).filter(|_| config.verify != Verification::Strict)
}

/// The connectors to services and other servers. Each connector verifies the server as `verifyCertificates` says. Only
/// the connectors of [`strict_services`] always verify strictly. Each connector presents one client certificate or
/// none.
#[derive(Clone)]
pub(crate) struct Connectors {
    pub(crate) anonymous: Connector,
    /// The connector to services that are not in `own`.
    pub(crate) default: Connector,
    /// The connectors to services with a client certificate, a verification or a connect timeout of their own.
    pub(crate) own: Vec<(ServiceId, Connector)>,
}

impl Connectors {
    pub(crate) fn new(config: &Config) -> Result<Self, TlsError> {
        let identities = &config.client_identities;
        // Services with the same certificate, verification and timeout share a connector.
        let mut built: Vec<(Option<&ClientIdentity>, Verification, Duration, Connector)> =
            Vec::new();
        let mut connector_of = |identity, verification, timeout: Duration| {
            let timeout = timeout.min(MAX_CONNECT_TIMEOUT);
            let is_same = |(i, v, t, _): &&_| (*i, *v, *t) == (identity, verification, timeout);
            if let Some((.., connector)) = built.iter().find(is_same) {
                return Ok(connector.clone());
            }
            let connector = connector_within(timeout, config, verification, identity)?;
            built.push((identity, verification, timeout, connector.clone()));
            Ok::<_, TlsError>(connector)
        };
        let timeout = config.timeouts.connect;
        let anonymous = connector_of(None, config.verify, timeout)?;
        let default = connector_of(identities.default.as_ref(), config.verify, timeout)?;
        let strict: BTreeSet<_> = strict_services(config).collect();
        let with_own = identities.services.iter().map(|(service, _)| service);
        let with_own = with_own.chain(timed_services(config).map(|(service, _)| service));
        let mut own = Vec::new();
        for service in with_own.chain(strict.iter().copied()).collect::<BTreeSet<_>>() {
            let is_strict = strict.contains(service);
            let verification = if is_strict { Verification::Strict } else { config.verify };
            let timeout = config.connect_timeouts.get(service).copied().unwrap_or(timeout);
            // If a route of the service has the scheme bypass, `identities.of` does not return the certificate that the
            // gateway has for all services. Otherwise, any client could use this certificate.
            let connector = connector_of(identities.of(service), verification, timeout)?;
            own.push((service.clone(), connector));
        }
        Ok(Self { anonymous, default, own })
    }

    pub(crate) fn of(&self, service: &ServiceId) -> &Connector {
        self.own_of(service).unwrap_or(&self.default)
    }

    /// Returns the connector for requests that the gateway itself makes to a service from Eureka, such as health
    /// checks. If the service has the scheme bypass (`is_bypass`), the connector does not present the certificate that
    /// the gateway has for all services.
    pub(crate) fn to_found(&self, service: &ServiceId, is_bypass: bool) -> &Connector {
        let own = self.own_of(service);
        own.unwrap_or(if is_bypass { &self.anonymous } else { &self.default })
    }

    fn own_of(&self, service: &ServiceId) -> Option<&Connector> {
        self.own.iter().find(|(id, _)| id == service).map(|(_, connector)| connector)
    }

    /// Returns the connector to servers that receive passwords: z/OSMF (IBM's management server) and ZSS (a server of
    /// Zowe). A server that answers in place of z/OSMF or ZSS could log in any user, because it decides which passwords
    /// are right. So these servers are verified even if the verification of services is off.
    pub(crate) fn to_logins(&self, config: &Config) -> Result<Connector, TlsError> {
        match config.verify {
            Verification::Disabled => connector_as(config, Verification::Strict, None),
            _ => Ok(self.anonymous.clone()),
        }
    }
}

/// Returns a connector that presents the client certificate `identity`, or none.
fn connector_as(
    config: &Config,
    verification: Verification,
    identity: Option<&ClientIdentity>,
) -> Result<Connector, TlsError> {
    let timeout = config.timeouts.connect.min(MAX_CONNECT_TIMEOUT);
    connector_within(timeout, config, verification, identity)
}

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
    let connector = match identity {
        None => builder.build(),
        Some(identity) => builder.with_identity(&identity.certificate, &identity.key).build(),
    };
    Ok(config.outbound.apply(connector?))
}

/// Returns the connector to a running Zowe that makes PassTickets. Returns `None` if the gateway has no client
/// certificate for Zowe.
pub(crate) fn zowe_connector(config: &Config) -> Result<Option<Connector>, TlsError> {
    let identity = config.zowe.as_ref().and_then(|zowe| zowe.client_identity.as_ref());
    // A server that answers in place of API ML gets tokens of users, and could act as these users. So
    // `verifyCertificates` has no effect here.
    let connector = |identity| connector_as(config, Verification::Strict, Some(identity));
    identity.map(connector).transpose()
}

/// Returns the connector to a server that decides which user a client is, such as a server with the keys of a token
/// issuer. An attacker who answers in place of this server could act as any user. So the server is always verified,
/// even with `verifyCertificates: DISABLED`.
pub(crate) fn to_authority(config: &Config, authorities: &[u8]) -> Result<Connector, TlsError> {
    let connector = Connector::builder()
        .with_verification(Verification::Strict)
        .with_authorities(authorities)
        .with_connect_timeout(config.timeouts.provider)
        .with_policy(config.client_tls.clone())
        .build()?;
    Ok(config.outbound.apply(connector))
}
