//! A connector that opens no connection. A server in this process takes the request in place of the service.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io::Cursor,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, Uri, request::Parts};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, DuplexStream, duplex, join, split};
use tower::Service;

/// The size of the buffer between the proxy and the server.
const BUFFER: usize = 64 * 1024;

/// The first bytes of HTTP/2 (RFC 9113 §3.4). No method of HTTP/1.1 begins with them.
const HTTP2: &[u8; 4] = b"PRI ";

/// The request that the service would receive.
pub(super) struct Captured {
    /// The address of the instance that the proxy has chosen.
    pub(super) instance: Uri,
    pub(super) head: Parts,
}

#[derive(Clone, Default)]
pub(super) struct Capture(Arc<Mutex<Option<Captured>>>);

impl Capture {
    /// Returns the request, if the proxy has sent one.
    pub(super) fn take(&self) -> Option<Captured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn service(
        &self,
        instance: Uri,
    ) -> impl Fn(Request<Incoming>) -> Ready<Result<Response<Full<Bytes>>, Infallible>> + use<>
    {
        let slot = self.0.clone();
        move |request| {
            let captured = Captured { instance: instance.clone(), head: request.into_parts().0 };
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(captured);
            ready(Ok(Response::new(Full::default())))
        }
    }
}

impl Service<Uri> for Capture {
    type Response = TokioIo<DuplexStream>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, instance: Uri) -> Self::Future {
        let (proxy, server) = duplex(BUFFER);
        let service = service_fn(self.service(instance));
        tokio::spawn(async move {
            let (mut read, write) = split(server);
            let mut first = [0; HTTP2.len()];
            if read.read_exact(&mut first).await.is_err() {
                return;
            }
            let io = TokioIo::new(join(Cursor::new(first).chain(read), write));
            // The proxy reports an error of the connection, so it is ignored here.
            if first == *HTTP2 {
                let server = conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(io, service).await;
            } else {
                let _ = conn::http1::Builder::new().serve_connection(io, service).await;
            }
        });
        ready(Ok(TokioIo::new(proxy)))
    }
}
