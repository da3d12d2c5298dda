//! Connections to the services, with TLS or without TLS.

use std::{
    fmt,
    future::ready,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{net::TcpStream, time::timeout};
use tower::BoxError;
use tower_service::Service;

#[cfg(feature = "proxy")]
use crate::http2_negotiation::NegotiateHttp2;

use super::{
    error::TlsError,
    pem::{certificates, private_key, roots},
    policy::TlsPolicy,
    secp521r1::with_secp521r1,
    signature_cache::SignatureCache,
    tcp::TcpConnector,
};

/// Default of the time limit for opening a TCP connection, including the name resolution.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Says how strictly the certificates of services are verified. The variants are the values of the setting
/// `zowe.verifyCertificates` in Zowe's configuration file (`docs/reference/data-plane.md#verify-certificates`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verification {
    /// Verifies the certificate chain and the host name.
    #[default]
    Strict,
    /// Verifies the certificate chain only.
    NonStrict,
    /// Accepts any certificate. Use this variant for tests only.
    Disabled,
}

/// Connects to services with `http` and `https` URIs. [`Forward`](crate::proxy::Forward) and
/// [`remote::Client`](crate::remote::Client) accept this type as their connector.
///
/// The connections carry HTTP/1.1. With `Forward::with_http2`, they carry HTTP/2 if the service chooses it.
///
/// ```
/// use std::time::Duration;
///
/// use tower_passticket::tls::{Connector, Verification};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let key = rcgen::KeyPair::generate()?;
/// # let pem = rcgen::CertificateParams::new(vec![])?.self_signed(&key)?.pem();
/// // `pem` contains the CA certificates with which services are verified.
/// let connector = Connector::builder()
///     .with_authorities(pem.as_bytes())
///     .with_connect_timeout(Duration::from_secs(3))
///     .build()?;
///
/// // For tests: any certificate is accepted.
/// let trusting = Connector::builder().with_verification(Verification::Disabled).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Connector {
    connector: HttpsConnector<TcpConnector>,
    /// Offers HTTP/2 and HTTP/1.1.
    #[cfg_attr(not(feature = "proxy"), expect(dead_code, reason = "only `Forward` speaks HTTP/2"))]
    http2: HttpsConnector<TcpConnector>,
    /// The time limit for the TCP connection and the TLS handshake together.
    limit: Duration,
    /// `None` if the connector opens connections.
    refused: Option<OnRefused>,
}

/// The function of [`Connector::without_connections`]. It gets the URI of each connection that is not opened.
type OnRefused = Arc<dyn Fn(&Uri) + Send + Sync>;

impl Connector {
    /// Returns a builder. By default, chain and host name are verified, so CA certificates are needed
    /// ([`with_authorities`](ConnectorBuilder::with_authorities)). No client certificate is sent. The time limit for
    /// opening a TCP connection is 10 s.
    pub fn builder() -> ConnectorBuilder<'static> {
        ConnectorBuilder {
            verification: Verification::Strict,
            authorities: b"",
            connect_timeout: CONNECT_TIMEOUT,
            signature_cache: SignatureCache::Off,
            policy: TlsPolicy::default(),
            identity: None,
        }
    }

    /// Uses a configuration of your own. The ALPN protocols of the configuration are ignored, because
    /// [`Forward`](crate::proxy::Forward) decides which versions of HTTP are offered.
    pub fn from_config(config: impl Into<Arc<ClientConfig>>, connect_timeout: Duration) -> Self {
        let mut config = Arc::unwrap_or_clone(config.into());
        let tcp = TcpConnector::new(connect_timeout);
        config.alpn_protocols.clear();
        let connector = HttpsConnector::from((tcp, config.clone()));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let limit = connect_timeout.saturating_mul(2);
        Self { connector, http2: HttpsConnector::from((tcp, config)), limit, refused: None }
    }

    /// Returns a connector that opens no connection. Each attempt fails with a [`ConnectError`] at once, after
    /// `refused` was called with the URI. So a program can find out which server a call would connect to, without a
    /// connection to this server. `refused` must not block.
    #[must_use]
    pub fn without_connections(self, refused: impl Fn(&Uri) + Send + Sync + 'static) -> Self {
        Self { refused: Some(Arc::new(refused)), ..self }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector(..)")
    }
}

/// Makes a [`Connector`].
#[derive(Clone)]
#[must_use]
pub struct ConnectorBuilder<'a> {
    verification: Verification,
    authorities: &'a [u8],
    connect_timeout: Duration,
    signature_cache: SignatureCache,
    policy: TlsPolicy,
    identity: Option<Identity<'a>>,
}

/// The certificate chain and the private key of the gateway, in PEM.
#[derive(Clone, Copy)]
struct Identity<'a> {
    certificate: &'a [u8],
    key: &'a [u8],
}

impl<'a> ConnectorBuilder<'a> {
    /// Sets how strictly services are verified. Default: [`Verification::Strict`].
    pub fn with_verification(self, verification: Verification) -> Self {
        Self { verification, ..self }
    }

    /// Sets the trusted CA certificates, as one PEM document.
    pub fn with_authorities<'b>(self, authorities: &'b [u8]) -> ConnectorBuilder<'b>
    where
        'a: 'b,
    {
        ConnectorBuilder { authorities, ..self }
    }

    /// Presents a client certificate to services that ask for one. `certificate` is the certificate chain, which begins
    /// with the client certificate. `key` is the private key of the client certificate. Both are in PEM. The key may be
    /// RSA or ECDSA with P-256, P-384 or P-521.
    ///
    /// A connection presents the client certificate of its connector. If a service needs another client certificate,
    /// give it its own connector with
    /// [`Forward::with_connector_of`](../proxy/struct.Forward.html#method.with_connector_of).
    pub fn with_identity<'b>(self, certificate: &'b [u8], key: &'b [u8]) -> ConnectorBuilder<'b>
    where
        'a: 'b,
    {
        ConnectorBuilder { identity: Some(Identity { certificate, key }), ..self }
    }

    /// Sets how long to wait for a TCP connection. Default: 10 s. The addresses of a name are tried 250 ms apart, with
    /// alternating address families (RFC 8305). The limit includes the name resolution and the attempts for all
    /// addresses. The TCP connection and the TLS handshake together may take at most twice this time. The handshake
    /// needs a limit, too. If a server program hangs, its kernel still accepts TCP connections, but the program does
    /// not answer the handshake.
    pub fn with_connect_timeout(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// Turns on the process-wide [signature cache](super#signature-cache).
    pub fn with_signature_cache(self) -> Self {
        Self { signature_cache: SignatureCache::On, ..self }
    }

    /// Sets the TLS versions, the cipher suites and the key exchange groups.
    pub fn with_policy(self, policy: TlsPolicy) -> Self {
        Self { policy, ..self }
    }

    /// Builds the connector.
    ///
    /// # Errors
    /// [`TlsError::Authorities`] if the PEM document has no CA certificate or a malformed one. This error does not
    /// occur if verification is disabled. [`TlsError::Chain`], [`TlsError::Key`] or [`TlsError::Mismatch`] if the
    /// client certificate or its key cannot be used. [`TlsError::Config`] if rustls rejects the configuration.
    pub fn build(self) -> Result<Connector, TlsError> {
        let provider = self.signature_cache.provider();
        let provider = Arc::new(self.policy.restrict(with_secp521r1(provider)));
        let verifier: Arc<dyn ServerCertVerifier> = match self.verification {
            Verification::Strict => chain_verifier(self.authorities, &provider)?,
            Verification::NonStrict => Arc::new(LenientVerifier {
                chain: Some(chain_verifier(self.authorities, &provider)?),
                provider: provider.clone(),
            }),
            Verification::Disabled => {
                Arc::new(LenientVerifier { chain: None, provider: provider.clone() })
            }
        };
        let identity = match self.identity {
            None => None,
            Some(Identity { certificate, key }) => {
                let chain = certificates(certificate).ok_or(TlsError::Chain)?;
                let key = private_key(key).ok_or(TlsError::Key)?;
                Some(CertifiedKey::from_der(chain, key, &provider).map_err(TlsError::Mismatch)?)
            }
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.policy.versions())
            .map_err(TlsError::Config)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(key) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        };
        Ok(Connector::from_config(config, self.connect_timeout))
    }
}

impl fmt::Debug for ConnectorBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectorBuilder")
            .field("verification", &self.verification)
            .field("connect_timeout", &self.connect_timeout)
            .field("has_identity", &self.identity.is_some())
            .finish_non_exhaustive()
    }
}

impl Service<Uri> for Connector {
    type Response = ConnectorStream;
    type Error = ConnectError;
    type Future = ConnectorFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.connector.poll_ready(cx).map_err(ConnectError)
    }

    fn call(&mut self, uri: Uri) -> ConnectorFuture {
        if let Some(refused) = &self.refused {
            refused(&uri);
            return ConnectorFuture(Box::pin(ready(Err(NotAsked.into()))));
        }
        let limit = self.limit;
        let host = uri.host().unwrap_or_default().to_owned();
        let connecting = self.connector.call(uri);
        ConnectorFuture(Box::pin(async move {
            let connected = timeout(limit, connecting).await;
            connected.unwrap_or_else(|_| Err(NotOpen { host, limit }.into()))
        }))
    }
}

#[cfg(feature = "proxy")]
impl NegotiateHttp2 for Connector {
    fn offering_http2(&self) -> Self {
        Self { connector: self.http2.clone(), ..self.clone() }
    }

    fn is_http2(connection: &ConnectorStream) -> bool {
        match &connection.0 {
            MaybeHttpsStream::Http(_) => false,
            MaybeHttpsStream::Https(tls) => {
                let (_, session) = tls.inner().get_ref();
                session.alpn_protocol() == Some(b"h2")
            }
        }
    }
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// The future that a [`Connector`] returns. Its output is the connection.
pub struct ConnectorFuture(Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>);

impl Future for ConnectorFuture {
    type Output = Result<ConnectorStream, ConnectError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map_ok(ConnectorStream).map_err(ConnectError)
    }
}

impl fmt::Debug for ConnectorFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectorFuture(..)")
    }
}

/// The TCP connection and the TLS handshake have together taken too long.
#[derive(Debug, thiserror::Error)]
#[error("no TLS connection to {host} within {} s", limit.as_secs_f32())]
struct NotOpen {
    host: String,
    limit: Duration,
}

/// The connector opens no connections ([`Connector::without_connections`]).
#[derive(Debug, thiserror::Error)]
#[error("the server was not asked")]
struct NotAsked;

/// The reason why a [`Connector`] could not connect.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ConnectError(BoxError);

/// A connection to a service, over TCP or TLS.
#[derive(Debug)]
pub struct ConnectorStream(Stream);

impl Read for ConnectorStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for ConnectorStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

fn chain_verifier(
    authorities: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let roots: RootCertStore = roots(authorities).ok_or(TlsError::Authorities)?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|_| TlsError::Authorities)
}

/// Accepts any host name. If `chain` is `None`, also accepts any certificate. The peer must always prove that it holds
/// the private key of its certificate.
#[derive(Debug)]
struct LenientVerifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for LenientVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        let verified =
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // The library webpki checks the host name only after it has verified the chain. So after this error, the
            // chain is valid.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
