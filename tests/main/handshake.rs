//! Tests of TLS with clients: accepted and refused client certificates, alerts, session resumption, and the cache of
//! verified certificate signatures.

use std::{
    convert::Infallible, future::pending, io, net::SocketAddr, num::NonZeroUsize, sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use rustls::{
    AlertDescription, ClientConfig, Error, HandshakeKind, SignatureScheme,
    SupportedProtocolVersion,
    client::ResolvesClientCert,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use test_support::{
    pki::{APIMTST, Authority, SERVER, USER},
    raw::listener,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_passticket::{
    identity::PeerCertificate,
    metrics::MetricRegistry,
    tls::{
        ClientLimits, ConnectionCounts, Drained, Server, ServerSettings, ServerTls, SettingsHandle,
        TlsError,
    },
};

use crate::PATIENCE;

#[derive(Clone, Copy, Debug)]
enum SignatureCache {
    Off,
    On,
}

const OFF_AND_ON: [SignatureCache; 2] = [SignatureCache::Off, SignatureCache::On];

/// Returns a server with the certificate [`SERVER`]. The server trusts client certificates of the CA `clients`.
async fn server(clients: &Authority, cache: SignatureCache) -> (Server, SocketAddr) {
    let tls = ServerTls::builder(SERVER.certificate.as_bytes(), SERVER.key.as_bytes())
        .with_client_authorities(clients.pem().as_bytes());
    let tls = match cache {
        SignatureCache::Off => tls.build(),
        SignatureCache::On => tls.with_signature_cache().build(),
    };
    let (listener, address) = listener().await;
    (Server::https(listener, tls.unwrap()), address)
}

async fn serve(clients: &Authority, cache: SignatureCache) -> SocketAddr {
    let (server, address) = server(clients, cache).await;
    tokio::spawn(server.run(tower::service_fn(whoami), pending()));
    address
}

fn connector(
    version: &'static SupportedProtocolVersion,
    credential: Option<Credential>,
) -> TlsConnector {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(Authority::trusted().roots());
    let config = match credential {
        None => builder.with_no_client_auth(),
        Some(credential) => builder.with_client_cert_resolver(Arc::new(credential)),
    };
    TlsConnector::from(Arc::new(config))
}

async fn whoami(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let certificate = request.extensions().get::<PeerCertificate>();
    let name = certificate.and_then(PeerCertificate::common_name).unwrap_or("no certificate");
    Ok(Response::new(Full::from(name.to_owned())))
}

/// A client certificate and a private key. A test may combine a certificate with a key that does not match it.
#[derive(Debug)]
struct Credential(Arc<CertifiedKey>);

impl Credential {
    fn new(certificate: &str, key: &KeyPair) -> Self {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        Self(Arc::new(CertifiedKey::new(vec![certificate], key)))
    }
}

impl ResolvesClientCert for Credential {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

async fn connect(
    connector: &TlsConnector,
    address: SocketAddr,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

async fn ask(stream: &mut TlsStream<TcpStream>) -> io::Result<String> {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut response = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut response)).await.unwrap()?;
    let (_, body) = response.split_once("\r\n\r\n").unwrap();
    Ok(body.to_owned())
}

/// Connects to a server that refuses the client. Returns the alert that the server sends.
async fn alert(connector: &TlsConnector, address: SocketAddr) -> AlertDescription {
    // In TLS 1.3, the handshake of the client is complete before the server has verified the client certificate.
    let error = match connect(connector, address).await {
        Ok(mut stream) => ask(&mut stream).await.unwrap_err(),
        Err(error) => error,
    };
    alert_in(&error)
}

fn alert_in(error: &io::Error) -> AlertDescription {
    let source = error.get_ref().unwrap_or_else(|| panic!("expected an alert, got {error}"));
    match source.downcast_ref() {
        Some(Error::AlertReceived(alert)) => *alert,
        other => panic!("expected an alert, got {other:?}"),
    }
}

/// The alert must not depend on the signature cache, nor on earlier handshakes with a valid certificate.
#[tokio::test]
async fn an_invalid_client_certificate_is_refused_with_an_alert() {
    for cache in OFF_AND_ON {
        refuses_invalid_certificates(cache).await;
    }
}

async fn refuses_invalid_certificates(cache: SignatureCache) {
    let authority = Authority::trusted();
    let address = serve(&authority, cache).await;
    let [key, other_key] = [USER, APIMTST].map(|identity| identity.key_pair());
    let certificate = authority.certify(&key, |_| {});
    let [forged, foreign] = [Authority::namesake(), Authority::stranger()]
        .map(|authority| authority.certify(&key, |_| {}));
    let expired = authority.certify(&key, |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let server_only = authority.certify(&key, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let refused = [
        (&forged, &key, AlertDescription::DecryptError),
        (&foreign, &key, AlertDescription::UnknownCA),
        (&expired, &key, AlertDescription::CertificateExpired),
        (&server_only, &key, AlertDescription::UnsupportedCertificate),
        (&certificate, &other_key, AlertDescription::DecryptError),
    ];
    for version in [&TLS12, &TLS13] {
        for _ in 0..2 {
            let connector = connector(version, Some(Credential::new(&certificate, &key)));
            let mut stream = connect(&connector, address).await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(ask(&mut stream).await.unwrap(), "USER", "{version:?}");
        }
        for (certificate, key, want) in &refused {
            for _ in 0..2 {
                let connector = connector(version, Some(Credential::new(certificate, key)));
                assert_eq!(alert(&connector, address).await, *want, "{version:?}");
            }
        }
        let mut stream = connect(&connector(version, None), address).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), "no certificate", "{version:?}");
    }
}

/// Starts a server that trusts client certificates of the CA, and checks them against the revocation lists
/// `lists`.
async fn serve_with_lists(authority: &Authority, lists: &[&str]) -> SocketAddr {
    let tls = ServerTls::builder(SERVER.certificate.as_bytes(), SERVER.key.as_bytes())
        .with_client_authorities(authority.pem().as_bytes())
        .with_revocation_lists(lists.concat().as_bytes())
        .build();
    let (listener, address) = listener().await;
    let server = Server::https(listener, tls.unwrap());
    tokio::spawn(server.run(tower::service_fn(whoami), pending()));
    address
}

#[tokio::test]
async fn a_client_certificate_is_refused_if_it_is_revoked_or_has_no_current_revocation_list() {
    let authority = Authority::trusted();
    let key = USER.key_pair();
    let certificate = authority.certify(&key, |params| params.serial_number = Some(7_u64.into()));
    let credential = || Some(Credential::new(&certificate, &key));
    let current = authority.revoke(&[6, 8], |_| {});
    let revoked = authority.revoke(&[6, 7], |_| {});
    let expired = authority.revoke(&[], |list| list.next_update = date_time_ymd(2020, 1, 1));
    let foreign = Authority::stranger().revoke(&[], |_| {});
    let forged = Authority::namesake().revoke(&[], |_| {});
    for version in [&TLS12, &TLS13] {
        for (lists, want) in [
            (&[current.as_str()][..], None),
            (&[&foreign, &current], None),
            (&[&revoked], Some(AlertDescription::CertificateRevoked)),
            (&[&expired], Some(AlertDescription::UnknownCA)),
            (&[&foreign], Some(AlertDescription::UnknownCA)),
            (&[&forged], Some(AlertDescription::HandshakeFailure)),
        ] {
            let address = serve_with_lists(&authority, lists).await;
            let connector = connector(version, credential());
            match want {
                // Both handshakes must be full, because the certificate is not checked when a session is resumed.
                None => {
                    for _ in 0..2 {
                        let mut stream = connect(&connector, address).await.unwrap();
                        let kind = stream.get_ref().1.handshake_kind();
                        assert_eq!(kind, Some(HandshakeKind::Full), "{version:?}");
                        assert_eq!(ask(&mut stream).await.unwrap(), "USER", "{version:?}");
                    }
                }
                Some(want) => {
                    assert_eq!(alert(&connector, address).await, want, "{version:?} {lists:?}");
                }
            }
            let mut stream = connect(&self::connector(version, None), address).await.unwrap();
            assert_eq!(ask(&mut stream).await.unwrap(), "no certificate", "{version:?}");
        }
    }
}

#[test]
fn malformed_revocation_lists_are_refused() {
    let authority = Authority::trusted();
    let list = authority.revoke(&[], |_| {});
    let malformed = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    for lists in ["", "no list", malformed, &format!("{list}{malformed}")] {
        let tls = ServerTls::builder(SERVER.certificate.as_bytes(), SERVER.key.as_bytes())
            .with_client_authorities(authority.pem().as_bytes())
            .with_revocation_lists(lists.as_bytes())
            .build();
        assert!(matches!(tls, Err(TlsError::RevocationLists)), "{lists}");
    }
}

/// In TLS 1.3, a client can send its request before the server has verified the client certificate. If the server then
/// reset the connection, the next write of the client would fail before the client has read the alert.
#[tokio::test]
async fn a_client_that_is_refused_while_it_sends_can_read_the_alert() {
    let authority = Authority::trusted();
    let address = serve(&authority, SignatureCache::Off).await;
    let key = USER.key_pair();
    let foreign = Authority::stranger().certify(&key, |_| {});
    let expired = authority.certify(&key, |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    for (certificate, want) in
        [(&foreign, AlertDescription::UnknownCA), (&expired, AlertDescription::CertificateExpired)]
    {
        let connector = connector(&TLS13, Some(Credential::new(certificate, &key)));
        for round in 0..30 {
            let mut stream = connect(&connector, address).await.unwrap();
            let exchange = async {
                stream.write_all(b"POST / HTTP/1.0\r\nContent-Length: 40960\r\n\r\n").await?;
                stream.write_all(&[b' '; 20 * 1024]).await?;
                // Waits until the server has verified the certificate and sent the alert.
                stream.get_ref().0.readable().await?;
                for _ in 0..20 {
                    stream.write_all(&[b' '; 1024]).await?;
                }
                stream.read_u8().await
            };
            let error = timeout(PATIENCE, exchange).await.unwrap().unwrap_err();
            assert_eq!(alert_in(&error), want, "round {round}");
        }
    }
}

/// The server closes the connection within 1 s of the refusal, even if the client keeps its side open. Then another
/// client can connect.
#[tokio::test]
async fn a_client_without_tls_gets_400_or_an_alert_and_is_disconnected() {
    for (request, is_alert) in [
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", false),
        ("get", false),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false),
        ("\u{80}\u{16} neither HTTP nor TLS", true),
    ] {
        let (server, address) = server(&Authority::trusted(), SignatureCache::Off).await;
        let counts = Arc::<ConnectionCounts>::default();
        let server = server
            .with_client_limits(Arc::new(ClientLimits::new(NonZeroUsize::MIN)))
            .with_connection_counts(counts.clone());
        tokio::spawn(server.run(tower::service_fn(whoami), pending()));
        let (_open_stream, response) = ask_without_tls(address, request).await;
        if is_alert {
            assert!(is_fatal_alert(&response), "{response:?}");
        } else {
            let text = String::from_utf8(response).unwrap();
            assert!(text.starts_with("HTTP/1.1 400 ") && text.ends_with("https://\n"), "{text}");
        }
        let reason = if is_alert { "failed" } else { "plain-http" };
        let line = format!("passticket_tls_handshakes_failed_total{{reason=\"{reason}\"}} 1\n");
        let metrics = MetricRegistry::new().with(counts).expose();
        assert!(metrics.contains(&line), "{metrics}");
        let connector = connector(&TLS13, None);
        // The server allows only one connection. So it must close the first one before it serves a second one.
        let connected = async {
            loop {
                if let Ok(stream) = connect(&connector, address).await {
                    break stream;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let mut stream = timeout(PATIENCE, connected).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), "no certificate");
    }
}

#[tokio::test]
async fn a_client_that_sends_nothing_to_a_tls_port_times_out() {
    let (server, address) = server(&Authority::trusted(), SignatureCache::Off).await;
    let server = server.with_handshake_timeout(Duration::from_millis(100));
    tokio::spawn(server.run(tower::service_fn(whoami), pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let closed = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
    assert_eq!(closed.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_refused_clients() {
    let (server, address) = server(&Authority::trusted(), SignatureCache::Off).await;
    // The server gives a refused client 1 s to close its connection. The drain timeout is shorter.
    let server = server.with_drain_timeout(Duration::from_millis(500));
    let (shut_down, shutdown) = oneshot::channel::<()>();
    let run = server.run(tower::service_fn(whoami), async move { shutdown.await.unwrap() });
    let running = tokio::spawn(run);
    let (_open_stream, response) = ask_without_tls(address, "GET / HTTP/1.1\r\n\r\n").await;
    assert!(response.starts_with(b"HTTP/1.1 400 "), "{response:?}");
    shut_down.send(()).unwrap();
    let drained = timeout(PATIENCE, running).await.unwrap().unwrap();
    assert_eq!(drained, Drained::Completely);
}

/// Sends `request` without TLS to the TLS port. Returns all bytes that the server sent until it closed its side, and
/// the connection. The client side is still open.
async fn ask_without_tls(address: SocketAddr, request: &str) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut response)).await.unwrap().unwrap();
    (stream, response)
}

/// Returns whether `record` is one TLS record that contains a fatal alert (RFC 8446 §5.1, §6).
fn is_fatal_alert(record: &[u8]) -> bool {
    matches!(record, [21, 3, _, 0, 2, 2, _])
}

/// A listener trusts only its own CAs, even if another listener of the process has verified and cached a certificate of
/// another CA.
#[tokio::test]
async fn listeners_do_not_share_trust() {
    for cache in OFF_AND_ON {
        trusts_its_own_authorities_only(cache).await;
    }
}

async fn trusts_its_own_authorities_only(cache: SignatureCache) {
    let address = serve(&Authority::trusted(), cache).await;
    let address_of_other = serve(&Authority::stranger(), cache).await;
    let connector = connector(&TLS13, Some(Credential::new(USER.certificate, &USER.key_pair())));
    let mut stream = connect(&connector, address).await.unwrap();
    assert_eq!(ask(&mut stream).await.unwrap(), "USER");
    assert_eq!(alert(&connector, address_of_other).await, AlertDescription::UnknownCA);
}

/// Sends a request on an open connection, and keeps the connection open. Asserts that the response ends with `want`.
async fn ask_again(stream: &mut TlsStream<TcpStream>, want: &str) {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut response = Vec::new();
    while !response.ends_with(want.as_bytes()) {
        let read = timeout(PATIENCE, stream.read_buf(&mut response)).await.unwrap().unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&response));
    }
}

/// The server must refuse a client with a session ticket if the new settings do not trust the CA of its certificate.
#[tokio::test]
async fn new_settings_apply_to_new_handshakes_and_to_open_connections_with_a_client_certificate() {
    let settings = |clients: &Authority| {
        let (chain, key) = (SERVER.certificate.as_bytes(), SERVER.key.as_bytes());
        let tls = ServerTls::from_pem(chain, key, Some(clients.pem().as_bytes()));
        ServerSettings::new(Some(tls.unwrap()))
    };
    let (trusted, stranger) = (Authority::trusted(), Authority::stranger());
    let handle = SettingsHandle::new(settings(&trusted));
    let (listener, address) = listener().await;
    let server = Server::http(listener).with_settings(&handle);
    tokio::spawn(server.run(tower::service_fn(whoami), pending()));
    for version in [&TLS12, &TLS13] {
        let user = connector(version, Some(Credential::new(USER.certificate, &USER.key_pair())));
        let anonymous = connector(version, None);
        let mut open = connect(&user, address).await.unwrap();
        ask_again(&mut open, "USER").await;
        let mut resumed = connect(&user, address).await.unwrap();
        assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        ask_again(&mut resumed, "USER").await;
        let mut without = connect(&anonymous, address).await.unwrap();
        ask_again(&mut without, "no certificate").await;

        assert_eq!(handle.replace(settings(&stranger)), 2, "{version:?}");
        for stream in [&mut open, &mut resumed] {
            let closed = timeout(PATIENCE, stream.read(&mut [0])).await.unwrap();
            assert!(!closed.is_ok_and(|read| read > 0), "{version:?}");
        }
        ask_again(&mut without, "no certificate").await;
        assert_eq!(alert(&user, address).await, AlertDescription::UnknownCA);
        let again = connect(&anonymous, address).await.unwrap();
        assert_eq!(again.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(handle.replace(settings(&trusted)), 0, "{version:?}");
        let again = connect(&user, address).await.unwrap();
        assert_eq!(again.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
}

/// The server sends a session ticket on each connection.
#[tokio::test]
async fn a_returning_client_resumes_its_session() {
    let address = serve(&Authority::trusted(), SignatureCache::Off).await;
    for version in [&TLS12, &TLS13] {
        for (credential, name) in [
            (None, "no certificate"),
            (Some(Credential::new(USER.certificate, &USER.key_pair())), "USER"),
        ] {
            let connector = connector(version, credential);
            for want in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
                let mut stream = connect(&connector, address).await.unwrap();
                assert_eq!(stream.get_ref().1.handshake_kind(), Some(want), "{version:?}");
                assert_eq!(ask(&mut stream).await.unwrap(), name, "{version:?}");
            }
        }
    }
}
