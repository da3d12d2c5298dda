//! The connector of a [`Client`](super::Client).

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tower::BoxError;
use tower_service::Service;

/// A connector: a Tower service that takes a URI and returns a connection. Examples are
/// [`tls::Connector`](crate::tls::Connector) and hyper-util's `HttpConnector`.
///
/// Every Tower service that fulfils the bounds of this trait implements it. Do not implement it yourself.
///
/// ```
/// use hyper_util::rt::TokioIo;
/// use tokio::net::TcpStream;
/// use tower::service_fn;
/// use tower_passticket::remote::{Client, ClientLimits};
///
/// // A function that connects without TLS.
/// let connector = service_fn(|uri: http::Uri| async move {
///     let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80));
///     TcpStream::connect((host, port)).await.map(TokioIo::new)
/// });
/// let client = Client::new(connector, ClientLimits::default());
/// ```
pub trait Connect:
    Service<
        Uri,
        Response: Read + Write + Unpin + Send + 'static,
        Error: Into<BoxError>,
        Future: Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<C> Connect for C where
    C: Service<
            Uri,
            Response: Read + Write + Unpin + Send + 'static,
            Error: Into<BoxError>,
            Future: Send + 'static,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// Adapts a [`Connect`] to the client of hyper-util.
#[derive(Clone)]
pub(super) struct HyperConnector<C>(pub(super) C);

impl<C: Connect> Service<Uri> for HyperConnector<C> {
    type Response = HyperConnection<C::Response>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async { connecting.await.map(HyperConnection).map_err(Into::into) })
    }
}

/// Adapts a connection to the client of hyper-util. hyper-util gets no further information about the
/// connection, such as whether HTTP/2 was negotiated.
pub(super) struct HyperConnection<T>(T);

impl<T> Connection for HyperConnection<T> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl<T: Read + Unpin> Read for HyperConnection<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<T: Write + Unpin> Write for HyperConnection<T> {
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
