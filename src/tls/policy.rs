//! The TLS versions, cipher suites and key exchange groups that are used.

use rustls::{
    ALL_VERSIONS, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, SupportedKxGroup},
};

/// The TLS versions, the cipher suites and the key exchange groups of a [`Server`](super::Server) or of a
/// [`Connector`](super::Connector). The default is the default of [`rustls`](crate::rustls) with aws-lc-rs. A connector
/// whose policy sets no groups also offers [`SECP521R1`](super::SECP521R1).
///
/// ```
/// use tower_passticket::{
///     rustls::{crypto::aws_lc_rs::{cipher_suite, kx_group}, version::TLS13},
///     tls::TlsPolicy,
/// };
///
/// let policy = TlsPolicy::default()
///     .with_versions(vec![&TLS13])
///     .with_cipher_suites(vec![cipher_suite::TLS13_AES_256_GCM_SHA384])
///     .with_groups(vec![kx_group::SECP384R1]);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct TlsPolicy {
    versions: Option<Vec<&'static SupportedProtocolVersion>>,
    cipher_suites: Option<Vec<SupportedCipherSuite>>,
    groups: Option<Vec<&'static dyn SupportedKxGroup>>,
}

impl PartialEq for TlsPolicy {
    fn eq(&self, other: &Self) -> bool {
        let versions = |policy: &Self| {
            policy.versions.as_ref().map(|all| all.iter().map(|it| it.version).collect::<Vec<_>>())
        };
        let groups = |policy: &Self| {
            policy.groups.as_ref().map(|all| all.iter().map(|it| it.name()).collect::<Vec<_>>())
        };
        versions(self) == versions(other)
            && self.cipher_suites == other.cipher_suites
            && groups(self) == groups(other)
    }
}

impl Eq for TlsPolicy {}

impl TlsPolicy {
    /// Permits only these versions.
    pub fn with_versions(self, versions: Vec<&'static SupportedProtocolVersion>) -> Self {
        Self { versions: Some(versions), ..self }
    }

    /// Permits only these cipher suites, the preferred one first.
    pub fn with_cipher_suites(self, cipher_suites: Vec<SupportedCipherSuite>) -> Self {
        Self { cipher_suites: Some(cipher_suites), ..self }
    }

    /// Permits only these groups, the preferred one first.
    pub fn with_groups(self, groups: Vec<&'static dyn SupportedKxGroup>) -> Self {
        Self { groups: Some(groups), ..self }
    }

    pub(super) fn versions(&self) -> &[&'static SupportedProtocolVersion] {
        self.versions.as_deref().unwrap_or(ALL_VERSIONS)
    }

    /// Returns the provider with the permitted cipher suites and groups.
    pub(super) fn restrict(&self, mut provider: CryptoProvider) -> CryptoProvider {
        if let Some(cipher_suites) = &self.cipher_suites {
            provider.cipher_suites.clone_from(cipher_suites);
        }
        if let Some(groups) = &self.groups {
            provider.kx_groups.clone_from(groups);
        }
        provider
    }
}

#[cfg(test)]
mod tests {
    use http::Uri;
    use rustls::{
        crypto::aws_lc_rs::{cipher_suite, kx_group},
        version::{TLS12, TLS13},
    };
    use test_support::pki::{Authority, SERVER};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tower::ServiceExt;

    use super::*;
    use crate::tls::{Connector, ServerTls};

    async fn handshake(server: TlsPolicy, client: TlsPolicy) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let uri: Uri = format!("https://localhost:{port}").parse().unwrap();
        let tls = ServerTls::builder(SERVER.certificate.as_bytes(), SERVER.key.as_bytes());
        let acceptor = TlsAcceptor::from(tls.with_policy(server).build().unwrap().config());
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = acceptor.accept(stream).await;
        });
        let connector = Connector::builder()
            .with_authorities(Authority::trusted().pem().as_bytes())
            .with_policy(client)
            .build()
            .unwrap();
        connector.oneshot(uri).await.is_ok()
    }

    #[tokio::test]
    async fn a_handshake_needs_a_version_a_cipher_suite_and_a_group_of_both_policies() {
        let all = TlsPolicy::default;
        let version = |version| all().with_versions(vec![version]);
        let suite = |suite| version(&TLS13).with_cipher_suites(vec![suite]);
        let group = |group| all().with_groups(vec![group]);
        let (aes_128, aes_256) =
            (cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384);
        for (name, server, client, want) in [
            ("defaults", all(), all(), true),
            ("version of the server", version(&TLS12), all(), true),
            ("version of the client", all(), version(&TLS12), true),
            ("other versions", version(&TLS13), version(&TLS12), false),
            ("same suite", suite(aes_256), suite(aes_256), true),
            ("suite of the server", suite(aes_128), all(), true),
            ("other suites", suite(aes_128), suite(aes_256), false),
            ("same group", group(kx_group::SECP384R1), group(kx_group::SECP384R1), true),
            ("group of the server", group(kx_group::SECP384R1), all(), true),
            ("other groups", group(kx_group::SECP384R1), group(kx_group::X25519), false),
        ] {
            assert_eq!(handshake(server, client).await, want, "{name}");
        }
    }
}
