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

/// The connectors to services. Each has one client certificate, or none.
pub(crate) struct ServiceConnectors {
    pub(crate) default: Connector,
    /// For services with a client certificate of their own.
    pub(crate) own: Vec<(ServiceId, Connector)>,
    /// For requests without an authorized user. `None` if the gateway has no client certificate.
    pub(crate) unauthorized: Option<Connector>,
}

impl ServiceConnectors {
    pub(crate) fn new(config: &Config) -> Result<Self, TlsError> {
        let identities = &config.client_identities;
        let own = identities.services.iter().map(|(service, identity)| {
            let connector = connector_as(config, config.verify, Some(identity));
            connector.map(|connector| (service.clone(), connector))
        });
        let has_identity = identities.default.is_some() || !identities.services.is_empty();
        let unauthorized = has_identity.then(|| connector(config, config.verify));
        Ok(Self {
            own: own.collect::<Result<_, TlsError>>()?,
            default: connector_as(config, config.verify, identities.default.as_ref())?,
            unauthorized: unauthorized.transpose()?,
        })
    }

    /// The connector to a service.
    pub(crate) fn of(&self, service: &ServiceId) -> &Connector {
        let own = self.own.iter().find(|(id, _)| id == service).map(|(_, connector)| connector);
        own.unwrap_or(&self.default)
    }
}

/// The connector to servers to which the gateway presents no client certificate.
pub(crate) fn connector(
    config: &Config,
    verification: Verification,
) -> Result<Connector, TlsError> {
    connector_as(config, verification, None)
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

/// How the server that checks passwords is verified. A server that can answer in place of z/OSMF or ZSS can log in any
/// user, so it is verified even if the verification of services is off.
pub(crate) fn login_verification(config: &Config) -> Verification {
    match config.verify {
        Verification::Disabled => Verification::Strict,
        verification => verification,
    }
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
