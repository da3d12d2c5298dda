//! `check --live` with `components.passticket-proxy.zaas`: whether Zowe's discovery service lists this program as
//! ZAAS, and whether the certificates of API ML's gateways are trusted.

use passticket_proxy::config::Config;
use rustls::{
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    server::ParsedCertificate,
};
use tower_passticket::{
    eureka::{Instance, InstanceStatus, Registry},
    identity::{Fingerprint, PeerCertificate},
    layer::ForwarderName,
    tls::{ServerTls, TlsError},
};

use crate::listener_tls;

/// The path at which API ML's gateway serves its certificate and the certificates of its authorities.
pub(super) const CERTIFICATES: &str = "/gateway/certificates";

const MAX_GATEWAYS: usize = 16;

/// The certificate and the port of this program as ZAAS, and the gateways that it trusts.
#[derive(Clone)]
pub(super) struct Zaas {
    gateways: Vec<ForwarderName>,
    /// Verifies the certificates of gateways, as in a TLS handshake.
    tls: ServerTls,
    port: u16,
    certificate: Option<CertificateDer<'static>>,
}

impl Zaas {
    /// `None` if the configuration has no listener for gateways of API ML.
    pub(super) fn new(config: &Config) -> Result<Option<Self>, TlsError> {
        let Some(settings) = &config.zaas else { return Ok(None) };
        let tls = listener_tls::of_zaas(config, None)?.value;
        let certificate = CertificateDer::pem_slice_iter(&config.tls.certificate).next();
        Ok(Some(Self {
            gateways: settings.gateways.clone(),
            tls,
            port: settings.address.port(),
            certificate: certificate.and_then(Result::ok),
        }))
    }

    /// Says whether the registry has this program as an instance of `zaas`. An instance is this program if it has the
    /// port of this program, and a host name that is in the certificate of this program.
    pub(super) fn registration(&self, registry: &Registry) -> Result<String, String> {
        let (own, others): (Vec<_>, Vec<_>) =
            up(registry, "zaas").partition(|instance| self.is_own(instance));
        let urls = |instances: &[&Instance]| {
            let urls: Vec<_> = instances.iter().filter_map(|instance| url(instance)).collect();
            urls.join(", ")
        };
        let others = match others.is_empty() {
            true => String::new(),
            false => format!("; WARNING: it also lists other instances of zaas: {}", urls(&others)),
        };
        match own.is_empty() {
            true => Err(format!(
                "lists no instance of zaas with port {} and a host of the certificate in zowe.certificate; add the static \
                 definition that init --zaas writes{others}",
                self.port
            )),
            false => Ok(format!("lists this program as zaas: {}{others}", urls(&own))),
        }
    }

    fn is_own(&self, instance: &Instance) -> bool {
        let certificate = self.certificate.as_ref();
        let certificate = certificate.and_then(|der| ParsedCertificate::try_from(der).ok());
        let host = ServerName::try_from(instance.host.as_str());
        instance.secure_port == Some(self.port)
            && certificate
                .zip(host.ok())
                .is_some_and(|(certificate, host)| verify_server_name(&certificate, &host).is_ok())
    }

    /// Says whether the gateway that has answered with the PEM document `certificates` may speak for its clients. The
    /// first certificate in the document is the certificate of the gateway.
    pub(super) fn trust(&self, certificates: &[u8]) -> Result<String, String> {
        let chain = CertificateDer::pem_slice_iter(certificates).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| format!("sends no certificates: {error}"))?;
        let Some(leaf) = chain.first() else { return Err("sends no certificates".to_owned()) };
        let certificate = PeerCertificate::from_der(&**leaf).map_err(|error| error.to_string())?;
        let fingerprint = Fingerprint::from(*certificate.sha256());
        let subject: String =
            certificate.subject().chars().filter(|c| !c.is_control()).take(200).collect();
        if let Err(reason) = self.tls.verify_client_certificate(&chain) {
            return Err(format!(
                "has the certificate {subject}, which no authority of clients has issued or which is not valid: {reason}"
            ));
        }
        match self.gateways.iter().any(|name| name.names(&certificate)) {
            true => Ok(format!("has the certificate {subject}, which zaas.gateways names")),
            false => Err(format!(
                "has the certificate {subject}, which components.passticket-proxy.zaas.gateways does not name, so it \
                 cannot speak for clients with a certificate; add - sha256: {fingerprint}"
            )),
        }
    }
}

/// Returns the URLs of gateways in the registry that are up, at most [`MAX_GATEWAYS`].
pub(super) fn gateways(registry: &Registry) -> Vec<String> {
    up(registry, "gateway").filter_map(url).take(MAX_GATEWAYS).collect()
}

fn up<'r>(registry: &'r Registry, app: &'r str) -> impl Iterator<Item = &'r Instance> {
    let is_up = move |instance: &&Instance| instance.status == InstanceStatus::Up;
    registry.instances().filter(move |instance| instance.app == app).filter(is_up)
}

/// Returns the `https://` URL of an instance. Returns `None` if the instance has no port with TLS.
fn url(instance: &Instance) -> Option<String> {
    Some(format!("https://{}:{}", instance.host, instance.secure_port?))
}
