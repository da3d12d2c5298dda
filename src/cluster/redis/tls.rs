//! TLS to Redis.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::settings_error::RedisSettingsError;

/// The certificates for the connections to Redis and Sentinel.
///
/// The connections trust only the CAs (certificate authorities) of this value, and not the CAs of the operating system.
/// They do not use the default cryptography provider of the process.
#[derive(Clone)]
pub struct RedisTls {
    pub(super) config: Arc<ClientConfig>,
}

impl RedisTls {
    /// Trusts servers whose certificate was issued by one of the CAs in `authorities` (PEM).
    ///
    /// # Errors
    /// [`RedisSettingsError::Pem`] if the document has no certificate, or if a certificate is malformed.
    pub fn new(authorities: &[u8]) -> Result<Self, RedisSettingsError> {
        let config = builder(authorities)?.with_no_client_auth();
        Ok(Self { config: Arc::new(config) })
    }

    /// Trusts servers whose certificate was issued by one of the CAs in `authorities`, and presents a client
    /// certificate. All documents are in PEM.
    ///
    /// # Errors
    /// [`RedisSettingsError`] if a document is malformed, or if the key does not belong to the certificate.
    pub fn with_client_certificate(
        authorities: &[u8],
        certificate: &[u8],
        key: &[u8],
    ) -> Result<Self, RedisSettingsError> {
        let chain = certificates(certificate)
            .ok_or(RedisSettingsError::Pem("client certificate (certificate)"))?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| RedisSettingsError::Pem("key of the client certificate (key)"))?;
        let config = builder(authorities)?
            .with_client_auth_cert(chain, key)
            .map_err(|error| RedisSettingsError::ClientCertificate(error.to_string()))?;
        Ok(Self { config: Arc::new(config) })
    }
}

impl fmt::Debug for RedisTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_client_certificate = self.config.client_auth_cert_resolver.has_certs();
        f.debug_struct("RedisTls")
            .field("has_client_certificate", &has_client_certificate)
            .finish_non_exhaustive()
    }
}

type Builder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn builder(authorities: &[u8]) -> Result<Builder, RedisSettingsError> {
    const ERROR: RedisSettingsError =
        RedisSettingsError::Pem("certificate authorities (certificateAuthorities)");
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authorities).ok_or(ERROR)? {
        roots.add(certificate).map_err(|_| ERROR)?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RedisSettingsError::ClientCertificate(error.to_string()))?;
    Ok(builder.with_root_certificates(roots))
}

/// Returns all certificates of a document. `None` if the document has no certificate, or if a certificate is malformed.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!all.is_empty()).then_some(all)
}
