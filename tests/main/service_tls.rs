//! Tests of TLS with services: client certificates of the gateway, and services that accept only P-384 or P-521.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use rcgen::KeyPair;
use test_support::pki::{APIMTST, Authority, SERVER, SIGNING_KEY, USER};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_passticket::{
    identity::PeerCertificate,
    layer::{
        AuthenticateLayer, Authenticator, Bypass, CookieNames, Route, RouteLayer, Routes,
        SchemeLayer, ScopeLayer, Upstream, ZoweJwtScheme,
    },
    passticket::UserId,
    proxy::{Forward, ForwardTimeouts, ResponseBody},
    rustls::{
        ServerConfig, SupportedProtocolVersion,
        crypto::{SupportedKxGroup, aws_lc_rs},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
        version::{TLS12, TLS13},
    },
    tls::{Connector, SECP521R1},
    token::{Rs256Verifier, ServiceId, SigningKey, TokenIssuer},
};

/// The server requires a client certificate of the trusted CA.
fn server(
    groups: &[&'static dyn SupportedKxGroup],
    certificate: &str,
    key: &str,
    version: &'static SupportedProtocolVersion,
) -> TlsAcceptor {
    let mut provider = aws_lc_rs::default_provider();
    if !groups.is_empty() {
        provider.kx_groups = groups.to_vec();
    }
    let provider = Arc::new(provider);
    let roots = Arc::new(Authority::trusted().roots());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Starts a service that answers each request with the common name of the client certificate. It keeps its connections
/// open. Returns the URL of the service.
async fn service(acceptor: TlsAcceptor) -> String {
    let address = test_support::raw::service(move |stream: TcpStream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
            let certificate = PeerCertificate::from_der(certificate).unwrap();
            let name = certificate.common_name().unwrap();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
            let mut stream = BufReader::new(stream);
            loop {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                if stream.get_mut().write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    format!("https://localhost:{}", address.port())
}

fn connector(identity: Option<(&str, &str)>) -> Connector {
    let builder = Connector::builder().with_authorities(Authority::trusted().pem().as_bytes());
    match identity {
        None => builder.build().unwrap(),
        Some((certificate, key)) => {
            builder.with_identity(certificate.as_bytes(), key.as_bytes()).build().unwrap()
        }
    }
}

fn id(service: &str) -> ServiceId {
    ServiceId::new(service).unwrap()
}

/// Returns a stack with one route for each service id in `services`. All routes lead to `url`.
fn stack(
    forward: Forward<Connector, Full<Bytes>>,
    url: &str,
    services: &[&str],
) -> impl Service<
    Request<Full<Bytes>>,
    Response = http::Response<ResponseBody>,
    Error = Infallible,
    Future: Send,
> + Clone {
    let upstream = Upstream::parse(url).unwrap();
    let routes = services
        .iter()
        .map(|service| Route::new(id(service), "", upstream.clone(), Bypass).unwrap());
    ServiceBuilder::new().layer(RouteLayer::new(Routes::new(routes).unwrap())).service(forward)
}

/// Sends `GET /{service}/x`. Returns the status and the body of the response.
async fn get<S>(stack: &S, service: &str) -> (StatusCode, Bytes)
where
    S: Service<
            Request<Full<Bytes>>,
            Response = http::Response<ResponseBody>,
            Error = Infallible,
            Future: Send,
        > + Clone,
{
    let request = Request::get(format!("/{service}/x")).body(Full::default()).unwrap();
    let response = stack.clone().oneshot(request).await.unwrap();
    let status = response.status();
    (status, response.into_body().collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn a_connection_with_one_client_certificate_is_never_used_for_another() {
    for version in [&TLS12, &TLS13] {
        let url = service(server(&[], SERVER.certificate, SERVER.key, version)).await;
        let user = connector(Some((USER.certificate, USER.key)));
        let other = connector(Some((APIMTST.certificate, APIMTST.key)));
        let forward = Forward::new(user, ForwardTimeouts::default())
            .with_connector_of(id("other"), other)
            .with_connector_of(id("nobody"), connector(None))
            // These settings apply to the connections of all connectors.
            .with_max_connections(2.try_into().unwrap());
        let stack = stack(forward, &url, &["one", "two", "other", "nobody"]);
        for _ in 0..3 {
            for (service, want) in [("one", "USER"), ("other", "APIMTST"), ("two", "USER")] {
                let (status, body) = get(&stack, service).await;
                assert_eq!((status.as_u16(), &*body), (200, want.as_bytes()), "{service}");
            }
            let (status, _) = get(&stack, "nobody").await;
            assert!(status.is_server_error(), "{status}");
        }
    }
}

#[tokio::test]
async fn a_request_without_a_user_does_not_use_the_client_certificate_of_the_gateway() {
    let url = service(server(&[], SERVER.certificate, SERVER.key, &TLS13)).await;
    let key = SigningKey::from_pem(SIGNING_KEY.as_bytes()).unwrap();
    let verifier = Rs256Verifier::new(key.verifying_key());
    let issuer = TokenIssuer::new(key);
    let token = issuer.login_token(&UserId::new("JANE").unwrap(), "x").unwrap();
    let scheme = ZoweJwtScheme::new(issuer, "x", CookieNames::default());
    let upstream = Upstream::parse(&url).unwrap();
    let route = |service| Route::new(id(service), "", upstream.clone(), scheme.clone()).unwrap();
    let routes = Routes::new([
        route("default"),
        route("own"),
        route("bypass").with_scheme(Bypass),
        route("bypassown").with_scheme(Bypass),
    ]);
    let user = || connector(Some((USER.certificate, USER.key)));
    let other = || connector(Some((APIMTST.certificate, APIMTST.key)));
    let forward = Forward::new(user(), ForwardTimeouts::default())
        .with_unauthorized_connector(connector(None))
        .with_connector_of(id("own"), other())
        .with_connector_of(id("bypassown"), other())
        .with_max_connections(2.try_into().unwrap());
    // One stack handles all requests. It must not use its idle connections of the previous route.
    let mut stack = ServiceBuilder::new()
        .layer(RouteLayer::new(routes.unwrap()))
        .layer(AuthenticateLayer::new(Authenticator::new(verifier)))
        .layer(ScopeLayer::new())
        .layer(SchemeLayer::new())
        .service(forward);
    for _ in 0..2 {
        for (service, has_user, want) in [
            ("default", true, Some("USER")),
            ("default", false, None),
            ("default", true, Some("USER")),
            ("own", false, None),
            ("own", true, Some("APIMTST")),
            ("own", false, None),
            ("bypass", false, None),
            ("bypass", true, None),
            ("bypassown", false, Some("APIMTST")),
        ] {
            let mut request = Request::get(format!("/{service}/x"));
            if has_user {
                request = request.header("authorization", format!("Bearer {}", token.expose()));
            }
            let request = request.body(Full::<Bytes>::default()).unwrap();
            let response = stack.ready().await.unwrap().call(request).await.unwrap();
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            match want {
                Some(name) => assert_eq!((status.as_u16(), &*body), (200, name.as_bytes())),
                // The service refuses the connection, because the gateway presents no certificate.
                None => assert!(status.is_server_error(), "{service} {has_user} {status}"),
            }
        }
    }
}

#[tokio::test]
async fn services_and_client_certificates_may_use_only_p384_or_p521() {
    let authority = Authority::trusted();
    for (name, algorithm, group) in [
        ("P-384", &rcgen::PKCS_ECDSA_P384_SHA384, aws_lc_rs::kx_group::SECP384R1),
        ("P-521", &rcgen::PKCS_ECDSA_P521_SHA512, SECP521R1),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = authority.certify(&key, |_| {});
        let key = key.serialize_pem();
        for version in [&TLS12, &TLS13] {
            let url = service(server(&[group], &certificate, &key, version)).await;
            let identity = connector(Some((&certificate, &key)));
            let stack = stack(Forward::new(identity, ForwardTimeouts::default()), &url, &["svc"]);
            let (status, body) = get(&stack, "svc").await;
            assert_eq!((status.as_u16(), &*body), (200, &b"USER"[..]), "{name} {version:?}");
        }
    }
}

#[test]
fn an_unusable_client_certificate_or_key_is_an_error() {
    let build = |certificate: &str, key: &str| {
        let builder = Connector::builder().with_authorities(Authority::trusted().pem().as_bytes());
        let built = builder.with_identity(certificate.as_bytes(), key.as_bytes()).build();
        built.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(build(USER.certificate, USER.key), "");
    assert!(build("", USER.key).contains("the certificate chain has no certificate"));
    assert!(build(USER.certificate, "").contains("the private key cannot be read"));
    assert!(build(USER.certificate, APIMTST.key).contains("does not match the certificate"));
}
