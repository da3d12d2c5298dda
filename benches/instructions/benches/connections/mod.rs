//! TLS connections on loopback. The warm-up calls include the handshake, so no count includes it.

use std::{convert::Infallible, future::pending, net::Ipv4Addr, sync::Arc};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, server::TlsStream};
use tower::Service;
use tower_passticket::{
    hyper::body::Incoming,
    tls::{Connector, Server, ServerTls},
};

use super::world::requests::Body;

/// The host name of the server. The certificate of the server is valid for this name.
pub(super) const HOST: &str = "localhost";

pub(super) async fn listen() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// A server certificate and its authority, in PEM.
pub(super) struct Identity {
    authority: String,
    certificate: String,
    key: String,
}

impl Identity {
    pub(super) fn new() -> Self {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let authority_certificate = authority.self_signed(&authority_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([HOST.to_owned()]).unwrap();
        let issuer = Issuer::new(authority, authority_key);
        let certificate = params.signed_by(&key, &issuer).unwrap().pem();
        Self { authority: authority_certificate, certificate, key: key.serialize_pem() }
    }

    /// Returns a connector of the gateway that trusts this certificate.
    pub(super) fn connector(&self) -> Connector {
        Connector::builder().with_authorities(self.authority.as_bytes()).build().unwrap()
    }

    /// Runs the listener of the gateway in front of `service`. Returns an HTTP/2 client that is connected to this
    /// listener.
    pub(super) async fn http2_client<S>(&self, service: S) -> SendRequest<Bytes>
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
    {
        let listener = listen().await;
        let address = listener.local_addr().unwrap();
        let (certificate, key) = (self.certificate.as_bytes(), self.key.as_bytes());
        let server = Server::https(listener, ServerTls::from_pem(certificate, key, None).unwrap());
        tokio::spawn(server.run(service, pending()));

        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.as_bytes()).unwrap()).unwrap();
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from(HOST).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Accepts one TLS connection, as a service does.
    pub(super) async fn accept(&self, listener: TcpListener) -> TlsStream<TcpStream> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap()
    }
}
