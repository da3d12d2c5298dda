//! An application wraps `Forward` in layers of `tower-http`, and uses its own TLS configurations.

use std::{
    convert::Infallible,
    future::pending,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::{net::TcpListener, time::sleep};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::{
    cors::{AllowOrigin, CorsLayer},
    timeout::{RequestBodyTimeoutLayer, TimeoutLayer},
    trace::TraceLayer,
};
use tower_passticket::{
    gateway::Gateway,
    hyper::body::Incoming,
    identity::PeerCertificate,
    layer::{Bypass, Route, RouteLayer, Routes, Upstream},
    proxy::{Forward, ForwardTimeouts, ResponseBody},
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        crypto::{CryptoProvider, aws_lc_rs},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
    tls::{Connector, Server, ServerTls, Verification},
    token::ServiceId,
};

const ORIGIN: HeaderValue = HeaderValue::from_static("https://portal.example");

/// A time that is longer than the limit of `TimeoutLayer` in the stack, but shorter than the limits of `Forward`.
const SLOW: Duration = Duration::from_secs(5);

/// Forwards requests below `/files` to the service at `upstream`, without authentication (`Bypass`).
fn stack<B>(
    upstream: &str,
    connector: Connector,
) -> impl Service<Request<B>, Response = Response<ResponseBody>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static
where
    B: tower_passticket::hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let upstream = Upstream::parse(upstream).unwrap();
    let route = Route::new(ServiceId::new("files").unwrap(), "", upstream, Bypass).unwrap();
    ServiceBuilder::new()
        // The layers of `tower-http` change the type of the response body. This line converts it to a `ResponseBody`
        // again.
        .map_response(|response: Response<_>| response.map(ResponseBody::new))
        .layer(TraceLayer::new_for_http())
        .layer(CorsLayer::new().allow_origin(AllowOrigin::exact(ORIGIN)))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            Duration::from_millis(500),
        ))
        .layer(RequestBodyTimeoutLayer::new(SLOW))
        .layer(RouteLayer::new(Routes::new([route]).unwrap()))
        .service(Forward::new(connector, ForwardTimeouts::default()))
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn body(response: Response<ResponseBody>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test]
async fn forward_works_under_cors_timeout_and_trace_layers() {
    let (listener, address) = listener().await;
    let service = service_fn(async |request: Request<Incoming>| {
        if request.uri().path() == "/slow" {
            sleep(SLOW).await;
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(body)))
    });
    tokio::spawn(Server::http(listener).run(service, pending()));

    let connector = Connector::builder().with_verification(Verification::Disabled);
    let stack = stack(&format!("http://{address}"), connector.build().unwrap());
    // `Gateway` accepts any service as the auth API. This service answers "api".
    let api = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("api"))));
    let gateway = Gateway::new(api, stack);

    let request = |path: &str| {
        let request = Request::post(path).header("host", "gw").header("origin", ORIGIN);
        request.body(Full::new(Bytes::from_static(b"hello"))).unwrap()
    };
    let response = gateway.clone().oneshot(request("/files/x")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["access-control-allow-origin"], ORIGIN);
    assert_eq!(body(response).await, "hello");

    let response = gateway.clone().oneshot(request("/files/slow")).await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    assert_eq!(body(response).await, "");

    let preflight = Request::options("/files/x").header("host", "gw").header("origin", ORIGIN);
    let preflight = preflight.header("access-control-request-method", "POST");
    let response = gateway.clone().oneshot(preflight.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["access-control-allow-origin"], ORIGIN);

    let response = gateway.oneshot(request("/gateway/api/v1/auth/login")).await.unwrap();
    assert_eq!(body(response).await, "api");
}

struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        Arc::new(roots)
    }

    fn certify(&self, common_name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        (vec![certificate], key)
    }
}

#[tokio::test]
async fn a_client_certificate_verified_by_a_custom_tls_config_is_in_the_request() {
    let authority = Authority::new();
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());

    // The listener requires a client certificate.
    let clients = WebPkiClientVerifier::builder_with_provider(authority.roots(), provider.clone());
    let (chain, key) = authority.certify("gateway");
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    let tls = ServerTls::from_config(config).unwrap();
    let whoami = service_fn(async |request: Request<Incoming>| {
        let certificate = request.extensions().get::<PeerCertificate>();
        let name = certificate.and_then(PeerCertificate::common_name).unwrap_or("no certificate");
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(name.to_owned())))
    });
    let (listener, address) = listener().await;
    tokio::spawn(Server::https(listener, tls).run(whoami, pending()));

    // The client of this listener is a gateway with or without a client certificate.
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots());
    let (chain, key) = authority.certify("IBMUSER");
    let with_certificate = config.clone().with_client_auth_cert(chain, key).unwrap();
    let without_certificate = config.with_no_client_auth();
    let url = format!("https://localhost:{}", address.port());
    for (config, status, name) in [
        (with_certificate, StatusCode::OK, "IBMUSER"),
        (without_certificate, StatusCode::BAD_GATEWAY, ""),
    ] {
        let stack = stack(&url, Connector::from_config(config, SLOW));
        let request = Request::get("/files/x").body(Full::<Bytes>::default()).unwrap();
        let response = stack.oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
        if status == StatusCode::OK {
            assert_eq!(body(response).await, name);
        }
    }
}
