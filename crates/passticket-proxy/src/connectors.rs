//! The connectors to services and other servers. A connector decides how the gateway verifies a server, and which client
//! certificate it presents.

use std::time::Duration;

use passticket_proxy::config::{ClientIdentity, Config, ConfiguredRoute, ServiceScheme};
use tower_passticket::{
    tls::{Connector, TlsError, Verification},
    token::ServiceId,
};

/// The configured connect timeout is limited to this value. A service that does not accept a connection in this time is
/// considered down. Responses have a separate timeout, which may be longer.
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The connectors to services and other servers that are verified as `verifyCertificates` says. Each has one client
/// certificate, or none.
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
        for (service, timeout) in &config.connect_timeouts {
            if identities.services.iter().any(|(other, _)| other == service) {
                continue;
            }
            let mut routes = config.routes.iter().filter(|route| route.service() == service);
            let schemes: Vec<_> = routes.by_ref().map(ConfiguredRoute::scheme).collect();
            let is_bypass = |scheme: &ServiceScheme| *scheme == ServiceScheme::Bypass;
            // The connector of a service is also used on its routes with the scheme bypass. There it must present no
            // certificate of the gateway. A service with routes of both kinds keeps the timeout of the gateway.
            let identity = match &identities.default {
                Some(_) if schemes.iter().all(is_bypass) => None,
                Some(_) if schemes.iter().any(is_bypass) => continue,
                default => default.as_ref(),
            };
            own.push((service.clone(), connector_of(identity, *timeout)?));
        }
        Ok(Self { anonymous, default, own })
    }

    /// The connector to a service.
    pub(crate) fn of(&self, service: &ServiceId) -> &Connector {
        let own = self.own.iter().find(|(id, _)| id == service).map(|(_, connector)| connector);
        own.unwrap_or(&self.default)
    }

    /// The connector to servers that receive passwords. A server that can answer in place of z/OSMF or ZSS can log in any
    /// user, so it is verified even if the verification of services is off.
    pub(crate) fn to_logins(&self, config: &Config) -> Result<Connector, TlsError> {
        match config.verify {
            Verification::Disabled => connector_as(config, Verification::Strict, None),
            _ => Ok(self.anonymous.clone()),
        }
    }
}

/// The connector to servers to which the gateway presents the client certificate `identity`.
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

/// The connector to a running Zowe that makes PassTickets. `None` if the gateway has no client certificate for Zowe.
pub(crate) fn zowe_connector(config: &Config) -> Result<Option<Connector>, TlsError> {
    let identity = config.zowe.as_ref().and_then(|zowe| zowe.client_identity.as_ref());
    // A server that can answer in place of API ML would get tokens, with which it could act as their users. So
    // `verifyCertificates` has no effect here.
    let connector = |identity| connector_as(config, Verification::Strict, Some(identity));
    identity.map(connector).transpose()
}

/// The connector to a server that decides who somebody is, such as a server with the keys of an issuer of tokens. Another
/// server that could answer in its place could act as any user. So the server is always verified, also with
/// `verifyCertificates: DISABLED`.
pub(crate) fn to_authority(config: &Config, authorities: &[u8]) -> Result<Connector, TlsError> {
    Connector::builder()
        .with_verification(Verification::Strict)
        .with_authorities(authorities)
        .with_connect_timeout(config.timeouts.provider)
        .with_policy(config.client_tls.clone())
        .build()
}
