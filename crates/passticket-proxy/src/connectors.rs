//! The connectors to services and other servers. A connector decides how the gateway verifies a server, and which client
//! certificate it presents.

use std::{sync::Arc, time::Duration};

use passticket_proxy::config::{ClientIdentities, ClientIdentity, Config};
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
    zowe_identity: Option<ClientIdentity>,
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
        zowe_identity: config.zowe.as_ref().and_then(|zowe| zowe.client_identity.clone()),
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

/// Returns the connector to servers to which the gateway presents the client certificate `identity`.
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
