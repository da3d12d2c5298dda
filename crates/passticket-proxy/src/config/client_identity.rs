//! Reads the client certificates of the gateway: each setting `clientCertificate` in the section
//! `components.passticket-proxy` and in its subsections, and the certificate for Redis. [`ClientIdentities`] chooses
//! the certificate for each service.

use std::{collections::BTreeMap, fmt};

use rustls::{
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use tower_passticket::token::ServiceId;
use zeroize::Zeroizing;

use super::{
    configured_route::{ConfiguredRoute, ServiceScheme},
    passwords::PasswordSetting,
    reader::Field,
    secret_file::read_public_file,
    tls_files::{self, TlsFiles},
};

/// A certificate chain and its private key, in PEM. The key belongs to the first certificate. `Debug` shows no content.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate, followed by its intermediate certificates.
    pub certificate: Vec<u8>,
    /// The private key.
    pub key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").finish_non_exhaustive()
    }
}

/// The client certificates towards services. For requests of clients, the gateway presents
///
/// - `default` only for requests with an authorized user,
/// - a certificate of `services` for requests with an authorized user, and for all requests on `bypass` routes.
///
/// Health checks can also present these certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientIdentities {
    /// The certificate for services that have none of their own: `components.passticket-proxy.clientCertificate`.
    pub default: Option<ClientIdentity>,
    /// The certificates of single services: `components.passticket-proxy.services.ID.clientCertificate`. If `default`
    /// is `None`, a service with the scheme `x509` but without this setting gets the gateway's own certificate
    /// (`zowe.certificate`), as in API ML. If such a service also has the scheme `bypass`, it gets no certificate.
    pub services: Vec<(ServiceId, ClientIdentity)>,
    /// The services that have the scheme `bypass`, or may have it when they are found in Eureka (the registry of API
    /// ML). The value says whose requests a service can receive.
    open: BTreeMap<ServiceId, ServiceClients>,
}

/// The clients whose requests a service can receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceClients {
    /// No route has the scheme `bypass`. The service receives a request without an authorized user only if `onFailure`
    /// lets the gateway forward it. The gateway sends such requests on separate connections without a client
    /// certificate.
    Authorized,
    /// Any client, because each scheme of the service is `bypass`.
    Any,
    /// Any client through the scheme `bypass`, and clients with an authorized user through another scheme.
    Mixed,
}

impl ClientIdentities {
    /// Returns whether the gateway has a client certificate for any service.
    pub fn are_present(&self) -> bool {
        self.default.is_some() || !self.services.is_empty()
    }

    pub(super) fn new(
        default: Option<ClientIdentity>,
        mut services: Vec<(ServiceId, ClientIdentity)>,
        routes: &[ConfiguredRoute],
        own: Option<&TlsFiles>,
    ) -> Self {
        let is_bypass = |route: &&ConfiguredRoute| route.scheme() == ServiceScheme::Bypass;
        let mut open = BTreeMap::new();
        for service in routes.iter().filter(is_bypass).map(ConfiguredRoute::service) {
            let mut own = routes.iter().filter(|route| route.service() == service);
            let is_any = own.all(|route| is_bypass(&route));
            let clients = if is_any { ServiceClients::Any } else { ServiceClients::Mixed };
            open.insert(service.clone(), clients);
        }
        if let (None, Some(own)) = (&default, own) {
            for route in routes {
                let service = route.route.service();
                if matches!(route.scheme(), ServiceScheme::X509 { .. })
                    && !open.contains_key(service)
                    && services.iter().all(|(id, _)| id != service)
                {
                    let (certificate, key) = (own.certificate.clone(), own.key.clone());
                    services.push((service.clone(), ClientIdentity { certificate, key }));
                }
            }
        }
        Self { default, services, open }
    }

    /// Returns the clients whose requests a service can receive.
    pub fn clients_of(&self, service: &ServiceId) -> ServiceClients {
        self.open.get(service).copied().unwrap_or(ServiceClients::Authorized)
    }

    /// Returns the certificate that `services` has for this service.
    pub fn own_of(&self, service: &ServiceId) -> Option<&ClientIdentity> {
        self.services.iter().find(|(id, _)| id == service).map(|(_, identity)| identity)
    }

    /// Returns the client certificate for all connections to a service. This is the certificate in `services`. If there
    /// is none, it is `default`, except for a service with the scheme `bypass`: with this scheme, any client could use
    /// the certificate.
    pub fn of(&self, service: &ServiceId) -> Option<&ClientIdentity> {
        let is_authorized = self.clients_of(service) == ServiceClients::Authorized;
        self.own_of(service).or(self.default.as_ref().filter(|_| is_authorized))
    }

    /// Returns the client certificate that the gateway presents on a route. On a route with the scheme `bypass`, the
    /// gateway presents it for all requests. On other routes, it presents it only for authorized requests.
    pub fn on(&self, route: &ConfiguredRoute) -> Option<&ClientIdentity> {
        let is_bypass = route.scheme() == ServiceScheme::Bypass;
        self.own_of(route.service()).or(self.default.as_ref().filter(|_| !is_bypass))
    }
}

/// Reads `{certificate: PATH, key: PATH}`. On a problem, reports it and returns `None`.
pub(super) fn read(field: &Field<'_>) -> Option<ClientIdentity> {
    let mut section = field.section();
    let certificate =
        section.required("certificate", "the path of a PEM file with the certificate");
    let key = section.required("key", "the path of a PEM file with the key of the certificate");
    section.finish();
    of_files(certificate.as_ref(), key.as_ref())
}

/// Reads the files whose paths the two values contain. On a problem, reports it and returns `None`. If a value is
/// missing, the caller must already have reported this.
pub(super) fn of_files(
    certificate: Option<&Field<'_>>,
    key: Option<&Field<'_>>,
) -> Option<ClientIdentity> {
    let chain = certificate
        .and_then(|field| tls_files::certificates(field, field.text()?, read_public_file));
    let pem = key.and_then(|field| tls_files::private_key(field, &PasswordSetting::Absent));
    let ((certificate, chain), pem) = (chain?, pem?);
    let der = PrivateKeyDer::from_pem_slice(&pem).ok()?;
    if let Err(error) = CertifiedKey::from_der(chain, der, &aws_lc_rs::default_provider()) {
        key?.at.error(match error {
            rustls::Error::InconsistentKeys(_) => {
                "is not the key of the certificate beside it; write the path of the file with the key of that certificate"
            }
            _ => "cannot be used with the certificate beside it; write the paths of a certificate and its RSA or ECDSA key",
        });
        return None;
    }
    Some(ClientIdentity { certificate, key: pem })
}
