//! The TLS configuration of the listener.

use std::{fmt, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, UnixTime},
    server::{NoServerSessionStorage, danger::ClientCertVerifier},
};

use super::{
    client_certificates::client_verifier,
    error::TlsError,
    pem::{certificates, private_key},
    policy::TlsPolicy,
    signature_cache::SignatureCache,
};

/// The ALPN protocols that the server supports, in the order of preference.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The TLS configuration of a [`Server`](super::Server): certificate chain, private key, and the CA certificates with
/// which client certificates are verified. Cloning is cheap.
///
/// In most cases, use [`from_pem`](Self::from_pem). Use [`builder`](Self::builder) for more options. Use
/// [`from_config`](Self::from_config) if you have your own `rustls::ServerConfig`.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    clients: ClientVerifier,
}

/// Verifies client certificates in handshakes. A new verifier also verifies the client certificates of the connections
/// that are already open.
#[derive(Clone)]
pub(super) enum ClientVerifier {
    /// The server does not ask for client certificates, and accepts none.
    None,
    Verifier(Arc<dyn ClientCertVerifier>),
    /// The configuration comes from [`ServerTls::from_config`], and rustls does not reveal its verifier.
    Unknown,
}

impl ServerTls {
    /// Reads PEM documents: the certificate chain (leaf first), its private key (PKCS #8, PKCS #1 or SEC 1), and the CA
    /// certificates with which client certificates are verified. With CA certificates, the server asks clients for a
    /// certificate, but accepts clients that send none. Without CA certificates, it does not ask.
    ///
    /// # Errors
    /// [`TlsError`] names the document that cannot be used, or says why rustls rejects the configuration.
    pub fn from_pem(
        chain: &[u8],
        key: &[u8],
        client_authorities: Option<&[u8]>,
    ) -> Result<Self, TlsError> {
        let builder = Self::builder(chain, key);
        match client_authorities {
            None => builder.build(),
            Some(authorities) => builder.with_client_authorities(authorities).build(),
        }
    }

    /// Returns a builder with two PEM documents: the certificate chain (leaf first), and its private key.
    pub fn builder<'a>(chain: &'a [u8], key: &'a [u8]) -> ServerTlsBuilder<'a> {
        ServerTlsBuilder {
            chain,
            key,
            client_authorities: None,
            revocation_lists: None,
            signature_cache: SignatureCache::Off,
            policy: TlsPolicy::default(),
        }
    }

    /// Uses your own configuration. Make it with the [`rustls`](crate::rustls) that this crate re-exports.
    ///
    /// - **Client certificates**: only the client verifier of `config` decides which certificates are trusted. If the
    ///   verifier accepts a chain, the requests of the connection get the leaf of this chain as the extension
    ///   [`PeerCertificate`](crate::identity::PeerCertificate). [`AuthenticateLayer`](crate::layer::AuthenticateLayer)
    ///   trusts the leaf, and checks only whether it has expired. If `config` was built with `with_no_client_auth`,
    ///   there are no client certificates.
    /// - **ALPN**: an empty list becomes `h2`, `http/1.1`. Any protocol except these two is an error.
    /// - **Early data** is turned off, because an attacker can replay it (RFC 8446 §8).
    ///
    /// The certificate resolver, the session tickets, the TLS versions and the crypto provider stay as in `config`.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use tower_passticket::{
    ///     rustls::{
    ///         self, RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    ///         server::WebPkiClientVerifier,
    ///     },
    ///     tls::ServerTls,
    /// };
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let key = rcgen::KeyPair::generate()?;
    /// # let (cert_pem, key_pem) = (
    /// #     rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?.pem(),
    /// #     key.serialize_pem(),
    /// # );
    /// let certificate = CertificateDer::from_pem_slice(cert_pem.as_bytes())?;
    /// let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())?;
    /// let mut roots = RootCertStore::empty();
    /// roots.add(certificate.clone())?;
    ///
    /// let provider = Arc::new(aws_lc_rs::default_provider());
    /// let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
    ///     .allow_unauthenticated()
    ///     .build()?;
    /// let config = ServerConfig::builder_with_provider(provider)
    ///     .with_protocol_versions(&[&rustls::version::TLS13])?
    ///     .with_client_cert_verifier(clients)
    ///     .with_single_cert(vec![certificate], key)?;
    /// let tls = ServerTls::from_config(config)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`TlsError::Alpn`] names an ALPN protocol that the server does not support.
    pub fn from_config(config: impl Into<Arc<ServerConfig>>) -> Result<Self, TlsError> {
        let mut config = Arc::unwrap_or_clone(config.into());
        if config.alpn_protocols.is_empty() {
            config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
        }
        let is_unknown = |name: &&Vec<u8>| !ALPN.contains(&&name[..]);
        if let Some(unknown) = config.alpn_protocols.iter().find(is_unknown) {
            return Err(TlsError::Alpn(String::from_utf8_lossy(unknown).into_owned()));
        }
        config.max_early_data_size = 0;
        Ok(Self { config: Arc::new(config), clients: ClientVerifier::Unknown })
    }

    /// Verifies a client certificate as in a TLS handshake: its chain, its dates, its purpose and the revocation lists.
    /// `chain` is the certificate of the client in DER, followed by the intermediate certificates that the client
    /// sends. The function does not check whether the client has the private key.
    ///
    /// # Errors
    /// A text with the reason why a handshake with this certificate would fail. If this value comes from
    /// [`from_config`](Self::from_config), the function always fails, because the verifier is not known.
    pub fn verify_client_certificate(&self, chain: &[CertificateDer<'_>]) -> Result<(), String> {
        let (verifier, leaf, intermediates) = match (&self.clients, chain) {
            (_, []) => return Err("there is no certificate".to_owned()),
            (ClientVerifier::None, _) => {
                return Err("the server asks for no client certificate".to_owned());
            }
            (ClientVerifier::Unknown, _) => {
                return Err("the verifier of the server is not known".to_owned());
            }
            (ClientVerifier::Verifier(verifier), [leaf, intermediates @ ..]) => {
                (verifier, leaf, intermediates)
            }
        };
        let verified = verifier.verify_client_cert(leaf, intermediates, UnixTime::now());
        verified.map(drop).map_err(|error| error.to_string())
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    pub(super) fn clients(&self) -> &ClientVerifier {
        &self.clients
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls(..)")
    }
}

/// Makes a [`ServerTls`] from PEM documents.
#[derive(Clone)]
#[must_use]
pub struct ServerTlsBuilder<'a> {
    chain: &'a [u8],
    key: &'a [u8],
    client_authorities: Option<&'a [u8]>,
    revocation_lists: Option<&'a [u8]>,
    signature_cache: SignatureCache,
    policy: TlsPolicy,
}

impl<'a> ServerTlsBuilder<'a> {
    /// Asks clients for a certificate, and verifies it with the CA certificates of a PEM document. A client
    /// need not send a certificate.
    pub fn with_client_authorities(self, authorities: &'a [u8]) -> Self {
        Self { client_authorities: Some(authorities), ..self }
    }

    /// Checks client certificates with the certificate revocation lists (CRLs) of a PEM document.
    ///
    /// Two checks apply to each certificate of the client's chain, except the trusted CA certificate: its issuer must
    /// have a current list, and the certificate must not be in this list. So the connection is also refused if the
    /// issuer has no list, or if the list has expired (its `nextUpdate` has passed). A client without a certificate can
    /// still connect.
    ///
    /// TLS sessions are not resumed, because a resumed session does not check the certificate again. Without
    /// [client authorities](Self::with_client_authorities), the lists have no effect.
    pub fn with_revocation_lists(self, lists: &'a [u8]) -> Self {
        Self { revocation_lists: Some(lists), ..self }
    }

    /// Turns on the process-wide [signature cache](super#signature-cache).
    pub fn with_signature_cache(self) -> Self {
        Self { signature_cache: SignatureCache::On, ..self }
    }

    /// Sets the TLS versions, the cipher suites and the key exchange groups.
    pub fn with_policy(self, policy: TlsPolicy) -> Self {
        Self { policy, ..self }
    }

    /// Builds the configuration.
    ///
    /// # Errors
    /// [`TlsError`] names the document that cannot be used, or says why rustls rejects the configuration.
    pub fn build(self) -> Result<ServerTls, TlsError> {
        let chain = certificates(self.chain).ok_or(TlsError::Chain)?;
        let key = private_key(self.key).ok_or(TlsError::Key)?;
        let provider = Arc::new(self.policy.restrict(self.signature_cache.provider()));
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(self.policy.versions())
            .map_err(TlsError::Config)?;
        let (builder, clients) = match self.client_authorities {
            None => (builder.with_no_client_auth(), ClientVerifier::None),
            Some(pem) => {
                let verifier = client_verifier(pem, self.revocation_lists, provider)?;
                let builder = builder.with_client_cert_verifier(verifier.clone());
                (builder, ClientVerifier::Verifier(verifier))
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Mismatch)?;
        match (self.client_authorities, self.revocation_lists) {
            (Some(_), Some(_)) => {
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
            }
            _ => config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Config)?,
        }
        Ok(ServerTls { clients, ..ServerTls::from_config(config)? })
    }
}

impl fmt::Debug for ServerTlsBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTlsBuilder(..)")
    }
}

#[cfg(test)]
mod tests {
    use test_support::pki::SERVER;

    use super::*;

    fn config() -> ServerConfig {
        ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![SERVER.certificate_der()], SERVER.private_key())
            .unwrap()
    }

    #[test]
    fn from_config_checks_alpn_protocols_and_turns_early_data_off() {
        let cases: [(&[&[u8]], Option<&[&[u8]]>); 5] = [
            (&[], Some(&ALPN)),
            (&[b"http/1.1"], Some(&[b"http/1.1"])),
            (&[b"http/1.1", b"h2"], Some(&[b"http/1.1", b"h2"])),
            (&[b"h2", b"h3"], None),
            (&[b"acme-tls/1"], None),
        ];
        for (alpn, want) in cases {
            let mut config = config();
            config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
            config.max_early_data_size = 16_384;
            match (ServerTls::from_config(config), want) {
                (Ok(tls), Some(want)) => {
                    assert_eq!(tls.config().alpn_protocols, want);
                    assert_eq!(tls.config().max_early_data_size, 0);
                }
                (Err(TlsError::Alpn(name)), None) => {
                    assert_eq!(name.as_bytes(), *alpn.last().unwrap());
                }
                (got, _) => panic!("{got:?}"),
            }
        }
    }
}
