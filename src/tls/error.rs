//! The error of a TLS setup.

/// The reason why a certificate, a key or a TLS configuration cannot be used. The error never contains a part of a key.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate chain has no certificate, or one of its certificates is malformed.
    #[error(
        "the certificate chain has no certificate, or a malformed one; it must be PEM (-----BEGIN CERTIFICATE-----), leaf first"
    )]
    Chain,
    /// The private key cannot be read.
    #[error(
        "the private key cannot be read; it must be unencrypted PEM: PKCS #8, PKCS #1 or SEC 1"
    )]
    Key,
    /// The private key does not match the certificate, or TLS does not support this kind of key.
    #[error(
        "the private key does not match the certificate, or TLS does not support this kind of key: {0}"
    )]
    Mismatch(#[source] rustls::Error),
    /// There is no CA certificate, or one of the CA certificates is malformed.
    #[error(
        "the document of CA certificates has no certificate, or a malformed one; it must be PEM (-----BEGIN CERTIFICATE-----)"
    )]
    Authorities,
    /// There is no certificate revocation list, or one of the lists is malformed or of an unsupported kind.
    #[error(
        "the document of certificate revocation lists has no list, or one that TLS does not support; write version 2 \
         lists in PEM (-----BEGIN X509 CRL-----)"
    )]
    RevocationLists,
    /// The configuration has an ALPN protocol that the server does not support.
    #[error(
        "the server supports h2 and http/1.1, not {0:?}; remove {0:?} from alpn_protocols, or leave the list empty"
    )]
    Alpn(String),
    /// rustls rejects the configuration.
    #[error("TLS cannot be set up: {0}")]
    Config(#[source] rustls::Error),
}
