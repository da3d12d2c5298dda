//! Why TLS cannot be set up.

/// Why key material or a TLS configuration cannot be used. Never carries a part of a key.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate chain has no certificate.
    #[error(
        "the certificate chain has no certificate, or a malformed one; write PEM (-----BEGIN CERTIFICATE-----), leaf first"
    )]
    Chain,
    /// The private key cannot be read.
    #[error(
        "the private key cannot be read; write it unencrypted as PEM: PKCS #8, PKCS #1 or SEC 1"
    )]
    Key,
    /// The key does not belong to the certificate, or TLS does not support its kind.
    #[error("the private key does not fit the certificate, or TLS does not support its kind: {0}")]
    Mismatch(#[source] rustls::Error),
    /// There is no CA certificate.
    #[error(
        "the authorities have no CA certificate, or a malformed one; write PEM (-----BEGIN CERTIFICATE-----)"
    )]
    Authorities,
    /// The configuration offers an ALPN protocol that the server does not speak.
    #[error(
        "the server speaks h2 and http/1.1, not {0:?}; remove that from alpn_protocols, or leave the list empty"
    )]
    Alpn(String),
    /// rustls refuses the configuration.
    #[error("TLS cannot be set up: {0}")]
    Config(#[source] rustls::Error),
}
