//! Keys and certificates for the listener.

use std::{fmt, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::signature_cache::provider;

/// What the listener shows and what it accepts: a certificate chain with its key, and the
/// authorities of client certificates. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls(Arc<ServerConfig>);

impl ServerTls {
    /// Reads PEM documents: the certificate chain, leaf first; its private key (PKCS #8, PKCS #1
    /// or SEC 1); the authorities whose client certificates are accepted. Without authorities no
    /// client is asked for a certificate; with them a client may still show none.
    ///
    /// # Errors
    /// [`TlsError`] says which document is wrong.
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        client_authorities: Option<&[u8]>,
    ) -> Result<Self, TlsError> {
        let chain = certificates(chain).ok_or(TlsError::Chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
        let provider = Arc::new(provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Config)?;
        let builder = match client_authorities {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let roots = roots(pem).ok_or(TlsError::Authorities)?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .allow_unauthenticated()
                        .build()
                        .map_err(|_| TlsError::Authorities)?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Mismatch)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Config)?;
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.0.clone()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls(..)")
    }
}

/// Why key material cannot be used. Never carries a part of it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No certificate in the chain.
    #[error("the certificate chain is no PEM document with certificates")]
    Chain,
    /// No private key.
    #[error("the private key is no PEM document with a private key")]
    Key,
    /// The key is not the one of the certificate, or of a kind that TLS has no use for.
    #[error("certificate and private key cannot be used together: {0}")]
    Mismatch(#[source] rustls::Error),
    /// No certificate among the authorities.
    #[error("the authorities are no PEM document with CA certificates")]
    Authorities,
    /// The TLS library refuses.
    #[error("TLS cannot be set up: {0}")]
    Config(#[source] rustls::Error),
}

pub(super) fn roots(pem: &[u8]) -> Option<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).ok()?;
    }
    Some(roots)
}

/// All certificates of a document; `None` if there is none or one of them cannot be read.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!all.is_empty()).then_some(all)
}
