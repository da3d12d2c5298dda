//! An application runs a gateway with `axum::serve`, which does not add `ConnectionInfo` to requests. The application
//! adds `ConnectionInfoLayer`. Then audit records contain the client address, and the service receives it in
//! `X-Forwarded-For`.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tower::ServiceBuilder;
use tower_passticket::{
    audit::{Audit, AuditRecord, AuditSink},
    connection::{ConnectionInfo, Protocol},
    layer::{
        AuthenticateLayer, Authenticator, ConnectionInfoLayer, PassTicketScheme, Route, RouteLayer,
        Routes, SanitizeLayer, SchemeLayer, ScopeLayer,
    },
    passticket::{KeyProfiles, LocalGenerator},
    proxy::{Forward, ForwardTimeouts},
    test_util,
    tls::{Connector, Verification},
    token::ServiceId,
};

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Peers(Mutex<Vec<Option<SocketAddr>>>);

impl AuditSink for Peers {
    fn record(&self, record: AuditRecord) {
        self.0.lock().unwrap().push(record.peer);
    }
}

/// Starts a service that answers with the value of `X-Forwarded-For` in the request.
async fn service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(|request: Request| async move {
        let forwarded = request.headers().get("x-forwarded-for");
        forwarded.map_or("none".to_owned(), |value| value.to_str().unwrap().to_owned())
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

#[tokio::test]
async fn audit_records_and_service_get_the_client_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let local = listener.local_addr().unwrap();
    let peers = Arc::new(Peers::default());
    let audit = Audit::to(peers.clone());

    let profile = test_util::key_profile("ZOWEAPPL");
    let applid = *profile.applid();
    let generator = LocalGenerator::new(KeyProfiles::new([profile]).unwrap());
    let upstream = format!("http://{}", service().await).parse().unwrap();
    let scheme = PassTicketScheme::new(applid, generator);
    let route = Route::new(ServiceId::new("svc").unwrap(), "", upstream, scheme).unwrap();
    let connector = Connector::builder().with_verification(Verification::Disabled).build().unwrap();
    let stack = ServiceBuilder::new()
        .layer(ConnectionInfoLayer::new(move |extensions| {
            let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
            Some(ConnectionInfo::new(*peer, local, Protocol::Http))
        }))
        .layer(SanitizeLayer::new())
        .layer(RouteLayer::new(Routes::new([route]).unwrap()))
        .layer(
            AuthenticateLayer::new(Authenticator::new(test_util::verifier()))
                .with_audit(audit.clone()),
        )
        .layer(ScopeLayer::new().with_audit(audit.clone()))
        .layer(SchemeLayer::new().with_audit(audit))
        .service(Forward::new(connector, ForwardTimeouts::default()));
    let app = Router::new().fallback_service(stack);
    tokio::spawn(async move {
        axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
    });

    let mut client = TcpStream::connect(local).await.unwrap();
    let peer = client.local_addr().unwrap();
    let token = test_util::login_token("USER");
    let request = format!(
        "GET /svc/x HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    timeout(PATIENCE, client.read_to_string(&mut response)).await.unwrap().unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(response.contains("127.0.0.1"), "the service got no X-Forwarded-For: {response}");
    assert_eq!(*peers.0.lock().unwrap(), [Some(peer), Some(peer)]);
}
