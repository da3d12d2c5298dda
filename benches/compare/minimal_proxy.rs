//! A minimal reverse proxy on hyper and hyper-util: no routes, no checks, no time limits. The difference
//! between the gateway and this proxy shows the cost of the gateway's own code.
//!
//! ```text
//! minimal_proxy LISTEN UPSTREAM      two addresses, such as 127.0.0.1:8080
//! ```
//!
//! Without two addresses the program does nothing, so that `cargo test --benches` can run it.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::net::SocketAddr;

use http::{
    HeaderName, Request, Uri,
    header::{CONNECTION, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;

/// Headers that a proxy removes (RFC 9110 §7.6.1). hyper itself writes `Content-Length` or `Transfer-Encoding` for the
/// forwarded message.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream] = &args[..] else { return };
    let (Ok(listen), Ok(upstream)) = (listen.parse(), upstream.parse()) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(serve(listen, upstream));
}

async fn serve(listen: SocketAddr, upstream: Authority) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    let listener = TcpListener::bind(listen).await.unwrap();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let (client, upstream) = (client.clone(), upstream.clone());
        let service = service_fn(move |request| client.request(prepare(request, &upstream)));
        tokio::spawn(async move {
            // An error only means that the client disconnected.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Makes the request for the upstream: sets the address of the upstream, and removes `Host` and the
/// hop-by-hop headers. hyper-util's client adds a new `Host`.
fn prepare(mut request: Request<Incoming>, upstream: &Authority) -> Request<Incoming> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(upstream.clone());
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).unwrap();
    let headers = request.headers_mut();
    headers.remove(HOST);
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    request
}
