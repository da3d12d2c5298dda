//! The connectors to services and other servers. A connector decides how the gateway verifies a server, and which client
//! certificate it presents.

use std::time::Duration;

use passticket_proxy::config::{ClientIdentity, Config};
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
    /// For services with a client certificate of their own.
    pub(crate) own: Vec<(ServiceId, Connector)>,
}

impl Connectors {
    pub(crate) fn new(config: &Config) -> Result<Self, TlsError> {
        let identities = &config.client_identities;
        let anonymous = connector_as(config, config.verify, None)?;
        // Services with the same certificate share a connector.
        let mut built: Vec<(&ClientIdentity, Connector)> = Vec::new();
        let mut connector_of = |identity| {
            if let Some((_, connector)) = built.iter().find(|(built, _)| *built == identity) {
                return Ok(connector.clone());
            }
            let connector = connector_as(config, config.verify, Some(identity))?;
            built.push((identity, connector.clone()));
            Ok(connector)
        };
        let default = match &identities.default {
            Some(identity) => connector_of(identity)?,
            None => anonymous.clone(),
        };
        let own = identities
            .services
            .iter()
            .map(|(service, identity)| Ok((service.clone(), connector_of(identity)?)))
            .collect::<Result<_, TlsError>>()?;
        let own = with_found_services(config, own)?;
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

/// Adds the connectors to the services that are found in Eureka and may receive credentials. Any program with a trusted
/// certificate can register an instance, so an instance must present a certificate for its registered host, also with
/// `verifyCertificates: NONSTRICT` or `DISABLED` (docs/decisions.md#d35).
fn with_found_services(
    config: &Config,
    mut own: Vec<(ServiceId, Connector)>,
) -> Result<Vec<(ServiceId, Connector)>, TlsError> {
    if config.verify == Verification::Strict {
        return Ok(own);
    }
    for service in config.discovery.iter().flat_map(|discovery| &discovery.services) {
        let identity = config.client_identities.of(&service.id);
        let connector = connector_as(config, Verification::Strict, identity)?;
        own.retain(|(id, _)| *id != service.id);
        own.push((service.id.clone(), connector));
    }
    Ok(own)
}

/// The connector to servers to which the gateway presents the client certificate `identity`.
fn connector_as(
    config: &Config,
    verification: Verification,
    identity: Option<&ClientIdentity>,
) -> Result<Connector, TlsError> {
    let builder = Connector::builder()
        .with_verification(verification)
        .with_authorities(&config.tls.service_authorities)
        .with_connect_timeout(config.timeouts.connect.min(MAX_CONNECT_TIMEOUT))
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
