//! TLS with clients: which certificates are accepted, alerts, session resumption, and the signature cache.

use std::{convert::Infallible, future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

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
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_passticket::{
    identity::PeerCertificate,
    tls::{Drained, Server, ServerTls},
};

use crate::PATIENCE;

/// Whether the listener caches signatures of certificates.
#[derive(Clone, Copy, Debug)]
enum SignatureCache {
    Off,
    On,
}

const BOTH: [SignatureCache; 2] = [SignatureCache::Off, SignatureCache::On];

/// The listener's certificate is [`SERVER`]; it trusts clients of this authority.
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

/// A server that answers with the common name of the client.
async fn serve(clients: &Authority, cache: SignatureCache) -> SocketAddr {
    let (server, address) = server(clients, cache).await;
    tokio::spawn(server.run(tower::service_fn(whoami), pending()));
    address
}

fn connector(version: &'static SupportedProtocolVersion, shown: Option<Shown>) -> TlsConnector {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(Authority::trusted().roots());
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => builder.with_client_cert_resolver(Arc::new(shown)),
    };
    TlsConnector::from(Arc::new(config))
}

async fn whoami(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let certificate = request.extensions().get::<PeerCertificate>();
    let name = certificate.and_then(PeerCertificate::common_name).unwrap_or("nobody");
    Ok(Response::new(Full::from(name.to_owned())))
}

/// A client certificate with any key, its own or another.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl Shown {
    fn new(certificate: &str, key: &KeyPair) -> Self {
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        Self(Arc::new(CertifiedKey::new(vec![certificate], key)))
    }
}

impl ResolvesClientCert for Shown {
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
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap()?;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    Ok(body.to_owned())
}

/// The alert that the server sends to a client that it refuses.
async fn alert(connector: &TlsConnector, address: SocketAddr) -> AlertDescription {
    // In TLS 1.3 the client's handshake is complete before the server has verified the certificate.
    let refused = match connect(connector, address).await {
        Ok(mut stream) => ask(&mut stream).await.unwrap_err(),
        Err(refused) => refused,
    };
    alert_in(&refused)
}

fn alert_in(refused: &io::Error) -> AlertDescription {
    let error = refused.get_ref().unwrap_or_else(|| panic!("no alert, but {refused}"));
    match error.downcast_ref() {
        Some(Error::AlertReceived(alert)) => *alert,
        other => panic!("no alert, but {other:?}"),
    }
}

/// Handshakes with a valid certificate before change nothing, with or without the signature cache.
#[tokio::test]
async fn an_invalid_client_certificate_is_refused_with_an_alert() {
    for cache in BOTH {
        refuses_invalid_certificates(cache).await;
    }
}

async fn refuses_invalid_certificates(cache: SignatureCache) {
    let authority = Authority::trusted();
    let address = serve(&authority, cache).await;
    let [own, another] = [USER, APIMTST].map(|identity| identity.key_pair());
    let certificate = authority.certify(&own, |_| {});
    let [forged, foreign] =
        [Authority::namesake(), Authority::stranger()].map(|other| other.certify(&own, |_| {}));
    let expired = authority.certify(&own, |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let of_a_server = authority.certify(&own, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let refused = [
        (&forged, &own, AlertDescription::DecryptError),
        (&foreign, &own, AlertDescription::UnknownCA),
        (&expired, &own, AlertDescription::CertificateExpired),
        (&of_a_server, &own, AlertDescription::UnsupportedCertificate),
        (&certificate, &another, AlertDescription::DecryptError),
    ];
    for version in [&TLS12, &TLS13] {
        for _ in 0..2 {
            let connector = connector(version, Some(Shown::new(&certificate, &own)));
            let mut stream = connect(&connector, address).await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(ask(&mut stream).await.unwrap(), "USER", "{version:?}");
        }
        for (certificate, key, want) in &refused {
            for _ in 0..2 {
                let connector = connector(version, Some(Shown::new(certificate, key)));
                assert_eq!(alert(&connector, address).await, *want, "{version:?}");
            }
        }
        let mut nobody = connect(&connector(version, None), address).await.unwrap();
        assert_eq!(ask(&mut nobody).await.unwrap(), "nobody", "{version:?}");
    }
}

/// In TLS 1.3 the request is on its way before the server has verified the certificate. A reset would make the
/// client's next write fail before it has read the alert.
#[tokio::test]
async fn a_client_that_is_refused_while_sending_reads_the_alert() {
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
        let connector = connector(&TLS13, Some(Shown::new(certificate, &key)));
        for round in 0..30 {
            let mut stream = connect(&connector, address).await.unwrap();
            let asked = async {
                stream.write_all(b"POST / HTTP/1.0\r\nContent-Length: 40960\r\n\r\n").await?;
                stream.write_all(&[b' '; 20 * 1024]).await?;
                // Once the server has verified the certificate.
                stream.get_ref().0.readable().await?;
                for _ in 0..20 {
                    stream.write_all(&[b' '; 1024]).await?;
                }
                stream.read_u8().await
            };
            let refused = timeout(PATIENCE, asked).await.unwrap().unwrap_err();
            assert_eq!(alert_in(&refused), want, "round {round}");
        }
    }
}

/// The client gets an alert, and its connection is free for others, whether it closes or not.
#[tokio::test]
async fn a_client_without_tls_gets_an_alert_and_occupies_no_connection() {
    let (server, address) = server(&Authority::trusted(), SignatureCache::Off).await;
    let server = server.with_max_connections(1);
    tokio::spawn(server.run(tower::service_fn(whoami), pending()));
    let (_stays, answer) = ask_without_tls(address).await;
    assert!(is_fatal_alert(&answer), "{answer:?}");
    let connector = connector(&TLS13, None);
    let served = timeout(PATIENCE, connect(&connector, address)).await;
    assert_eq!(ask(&mut served.unwrap().unwrap()).await.unwrap(), "nobody");
}

#[tokio::test]
async fn shutdown_does_not_wait_for_refused_clients() {
    let (server, address) = server(&Authority::trusted(), SignatureCache::Off).await;
    // Less than the time that a refused client has to close.
    let server = server.with_drain_timeout(Duration::from_millis(500));
    let (end, ending) = oneshot::channel::<()>();
    let run = server.run(tower::service_fn(whoami), async move { ending.await.unwrap() });
    let running = tokio::spawn(run);
    let (_stays, answer) = ask_without_tls(address).await;
    assert!(is_fatal_alert(&answer), "{answer:?}");
    end.send(()).unwrap();
    let drained = timeout(PATIENCE, running).await.unwrap().unwrap();
    assert_eq!(drained, Drained::Completely);
}

/// Sends plain HTTP. Returns everything that the server sends, and the connection, still open.
async fn ask_without_tls(address: SocketAddr) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    (stream, answer)
}

/// A record with an alert of the level "fatal" (RFC 8446 §5.1, §6).
fn is_fatal_alert(record: &[u8]) -> bool {
    matches!(record, [21, 3, _, 0, 2, 2, _])
}

/// A listener trusts its own authorities only, whatever another listener of the process has verified and cached.
#[tokio::test]
async fn listeners_do_not_share_trust() {
    for cache in BOTH {
        trusts_its_own_authorities_only(cache).await;
    }
}

async fn trusts_its_own_authorities_only(cache: SignatureCache) {
    let address = serve(&Authority::trusted(), cache).await;
    let of_another = serve(&Authority::stranger(), cache).await;
    let connector = connector(&TLS13, Some(Shown::new(USER.certificate, &USER.key_pair())));
    let mut stream = connect(&connector, address).await.unwrap();
    assert_eq!(ask(&mut stream).await.unwrap(), "USER");
    assert_eq!(alert(&connector, of_another).await, AlertDescription::UnknownCA);
}

/// Each connection gets a session ticket, so that the next one needs no full handshake.
#[tokio::test]
async fn a_returning_client_resumes_its_session() {
    let address = serve(&Authority::trusted(), SignatureCache::Off).await;
    for version in [&TLS12, &TLS13] {
        for (shown, who) in
            [(None, "nobody"), (Some(Shown::new(USER.certificate, &USER.key_pair())), "USER")]
        {
            let connector = connector(version, shown);
            for want in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
                let mut stream = connect(&connector, address).await.unwrap();
                assert_eq!(stream.get_ref().1.handshake_kind(), Some(want), "{version:?}");
                assert_eq!(ask(&mut stream).await.unwrap(), who, "{version:?}");
            }
        }
    }
}
