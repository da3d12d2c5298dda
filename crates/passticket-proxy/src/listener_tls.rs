//! The TLS settings of the listeners: the certificate of the gateway, the certificate authorities (CAs) of clients, and
//! their revocation lists.

use passticket_proxy::config::{Config, Encryption, TlsFiles};
use tower_passticket::tls::{ClientCertificates, ServerTls, TlsError, TlsPolicy};

use crate::part::Part;

/// The TLS of the listener of the gateway, with its settings. `None` if AT-TLS (TLS by the TCP/IP stack of z/OS)
/// decrypts connections for the gateway.
pub(crate) type GatewayTls = Part<ListenerSettings, Option<ServerTls>>;

/// The TLS of the listener for gateways of API ML, with its settings.
pub(crate) type ZaasTls = Part<ListenerSettings, ServerTls>;

#[derive(Clone, PartialEq)]
pub(crate) struct ListenerSettings {
    encryption: Encryption,
    files: TlsFiles,
    client_certificates: bool,
    policy: TlsPolicy,
}

impl ListenerSettings {
    fn new(config: &Config, encryption: Encryption, client_certificates: bool) -> Self {
        let (files, policy) = (config.tls.clone(), config.server_tls.clone());
        Self { encryption, files, client_certificates, policy }
    }
}

/// Makes the TLS of the listener of the gateway. Keeps `previous` if its settings have not changed.
pub(crate) fn of_gateway(
    config: &Config,
    previous: Option<&GatewayTls>,
) -> Result<GatewayTls, TlsError> {
    let settings = ListenerSettings::new(config, config.encryption, config.client_certificates);
    Part::keep_or_make(previous, settings, |_| {
        Ok(match config.encryption {
            Encryption::Tls => Some(server_tls(config)?),
            Encryption::AtTls => None,
        })
    })
}

/// Makes the TLS of the listener for gateways of API ML. The listener asks its peers for a certificate, even if the
/// port of the gateway does not ask its clients for one. Keeps `previous` if its settings have not changed.
pub(crate) fn of_zaas(config: &Config, previous: Option<&ZaasTls>) -> Result<ZaasTls, TlsError> {
    let settings = ListenerSettings::new(config, Encryption::Tls, true);
    Part::keep_or_make(previous, settings, |_| make(config, true))
}

pub(crate) fn server_tls(config: &Config) -> Result<ServerTls, TlsError> {
    make(config, config.client_certificates)
}

/// Makes the verifier of client certificates that a proxy or a gateway of API ML sends in `Client-Cert`. The verifier
/// has the same certificate authorities and revocation lists as the listeners.
pub(crate) fn client_certificates(config: &Config) -> Result<ClientCertificates, TlsError> {
    let authorities = &config.tls.authorities;
    match &config.tls.revocation_lists {
        None => ClientCertificates::new(authorities),
        Some(lists) => ClientCertificates::with_revocation_lists(authorities, lists),
    }
}

fn make(config: &Config, client_certificates: bool) -> Result<ServerTls, TlsError> {
    let files = &config.tls;
    let authorities = (!files.authorities.is_empty()).then_some(files.authorities.as_slice());
    let authorities = authorities.filter(|_| client_certificates);
    let tls = ServerTls::builder(&files.certificate, &files.key)
        .with_signature_cache()
        .with_policy(config.server_tls.clone());
    let tls = match authorities {
        None => tls,
        Some(authorities) => match &files.revocation_lists {
            None => tls.with_client_authorities(authorities),
            Some(lists) => tls.with_client_authorities(authorities).with_revocation_lists(lists),
        },
    };
    tls.build()
}
