//! TLS towards the clients: whose certificate is believed, and what a handshake leaves behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    convert::Infallible,
    future::pending,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::{
    AlertDescription, ClientConfig, Error, HandshakeKind, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
    client::ResolvesClientCert,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tower_passticket::{
    identity::PeerCertificate,
    tls::{Drained, Server, ServerTls},
};

const PATIENCE: Duration = Duration::from_secs(20);

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }

    fn certify(&self, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "USER");
        change(&mut params);
        params.signed_by(key, &self.issuer).unwrap().pem()
    }

    /// A server, and where it is.
    async fn server(&self) -> (Server, SocketAddr) {
        let key = KeyPair::generate().unwrap();
        let chain = self.certify(&key, |_| {});
        let authorities = Some(self.pem.as_bytes());
        let tls =
            ServerTls::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes(), authorities);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (Server::https(listener, tls.unwrap()), address)
    }

    /// A server that says who has come.
    async fn serve(&self) -> SocketAddr {
        let (server, address) = self.server().await;
        tokio::spawn(server.run(tower::service_fn(whoami), pending()));
        address
    }

    fn connector(
        &self,
        version: &'static SupportedProtocolVersion,
        shown: Option<Shown>,
    ) -> TlsConnector {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.roots());
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => builder.with_client_cert_resolver(Arc::new(shown)),
        };
        TlsConnector::from(Arc::new(config))
    }
}

async fn whoami(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let certificate = request.extensions().get::<PeerCertificate>();
    let name = certificate.and_then(PeerCertificate::common_name).unwrap_or("nobody");
    Ok(Response::new(Full::from(name.to_owned())))
}

/// A certificate, whether the key is its own or not.
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

/// What the server says to a client that it does not believe.
async fn alert(connector: &TlsConnector, address: SocketAddr) -> AlertDescription {
    // In TLS 1.3 the client is through before the server has looked.
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

/// That a signature was valid before changes nothing for those who come after.
#[tokio::test]
async fn who_does_not_verify_is_told_and_refused() {
    let [authority, namesake, stranger] = ["CA", "CA", "another"].map(Authority::new);
    let address = authority.serve().await;
    let [own, another] = [(); 2].map(|()| KeyPair::generate().unwrap());
    let certificate = authority.certify(&own, |_| {});
    let [forged, foreign] = [namesake, stranger].map(|other| other.certify(&own, |_| {}));
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
            let connector = authority.connector(version, Some(Shown::new(&certificate, &own)));
            let mut stream = connect(&connector, address).await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(ask(&mut stream).await.unwrap(), "USER", "{version:?}");
        }
        for (certificate, key, want) in &refused {
            for _ in 0..2 {
                let connector = authority.connector(version, Some(Shown::new(certificate, key)));
                assert_eq!(alert(&connector, address).await, *want, "{version:?}");
            }
        }
        let mut nobody = connect(&authority.connector(version, None), address).await.unwrap();
        assert_eq!(ask(&mut nobody).await.unwrap(), "nobody", "{version:?}");
    }
}

/// In TLS 1.3 the request is on its way before the server has looked at the certificate. A reset
/// would make sending the rest of it fail, and nobody would read the alert.
#[tokio::test]
async fn who_is_refused_while_it_still_sends_is_told() {
    let [authority, stranger] = ["CA", "another"].map(Authority::new);
    let address = authority.serve().await;
    let key = KeyPair::generate().unwrap();
    let foreign = stranger.certify(&key, |_| {});
    let expired = authority.certify(&key, |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    for (certificate, want) in
        [(&foreign, AlertDescription::UnknownCA), (&expired, AlertDescription::CertificateExpired)]
    {
        let connector = authority.connector(&TLS13, Some(Shown::new(certificate, &key)));
        for round in 0..30 {
            let mut stream = connect(&connector, address).await.unwrap();
            let asked = async {
                stream.write_all(b"POST / HTTP/1.0\r\nContent-Length: 40960\r\n\r\n").await?;
                stream.write_all(&[b' '; 20 * 1024]).await?;
                // Once the server has looked.
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

/// It gets an alert, and the others its place, whether it goes or not.
#[tokio::test]
async fn who_speaks_no_tls_is_told_and_keeps_no_place() {
    let authority = Authority::new("CA");
    let (server, address) = authority.server().await;
    let server = server.with_max_connections(1);
    tokio::spawn(server.run(tower::service_fn(whoami), pending()));
    let (_stays, answer) = ask_without_tls(address).await;
    assert!(is_fatal_alert(&answer), "{answer:?}");
    let connector = authority.connector(&TLS13, None);
    let served = timeout(PATIENCE, connect(&connector, address)).await;
    assert_eq!(ask(&mut served.unwrap().unwrap()).await.unwrap(), "nobody");
}

#[tokio::test]
async fn the_end_does_not_wait_for_who_was_refused() {
    let authority = Authority::new("CA");
    let (server, address) = authority.server().await;
    // Less than a client that was refused would be given.
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

/// Plain HTTP, all that the server has to say to that, and the connection, still open.
async fn ask_without_tls(address: SocketAddr) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    (stream, answer)
}

/// A record with an alert, and the level "fatal" (RFC 8446 §5.1, §6).
fn is_fatal_alert(record: &[u8]) -> bool {
    matches!(record, [21, 3, _, 0, 2, 2, _])
}

/// Authorities are those of the listener, whatever another one of the process has verified.
#[tokio::test]
async fn what_one_listener_believes_another_does_not() {
    let [authority, another] = ["CA", "another"].map(Authority::new);
    let (address, of_another) = (authority.serve().await, another.serve().await);
    let key = KeyPair::generate().unwrap();
    let certificate = authority.certify(&key, |_| {});
    let show = |to: &Authority| to.connector(&TLS13, Some(Shown::new(&certificate, &key)));
    let mut stream = connect(&show(&authority), address).await.unwrap();
    assert_eq!(ask(&mut stream).await.unwrap(), "USER");
    assert_eq!(alert(&show(&another), of_another).await, AlertDescription::UnknownCA);
}

/// Each connection is given a ticket, with which the next one needs no full handshake.
#[tokio::test]
async fn a_client_that_comes_back_resumes_its_session() {
    let authority = Authority::new("CA");
    let address = authority.serve().await;
    let key = KeyPair::generate().unwrap();
    let certificate = authority.certify(&key, |_| {});
    for version in [&TLS12, &TLS13] {
        for (shown, who) in [(None, "nobody"), (Some(Shown::new(&certificate, &key)), "USER")] {
            let connector = authority.connector(version, shown);
            for want in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
                let mut stream = connect(&connector, address).await.unwrap();
                assert_eq!(stream.get_ref().1.handshake_kind(), Some(want), "{version:?}");
                assert_eq!(ask(&mut stream).await.unwrap(), who, "{version:?}");
            }
        }
    }
}
