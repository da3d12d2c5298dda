//! Lends the connection of a client to hyper, and takes it back when hyper has finished.
//!
//! hyper closes a connection as soon as it has written the last response. If the client is still sending its request at
//! that time, the kernel resets the connection. The client may then lose a response that it has not read yet. So hyper
//! does not own the connection: [`LentStream`] returns it when hyper drops it, and [`ClientStream::close`] closes it in
//! stages (RFC 9112 §9.6).

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::oneshot,
    time::timeout,
};

use super::{
    client_connection::ClientConnection,
    client_io::{ClientIo, TlsSocket, poll_read_ahead},
    half_close::ClientSocket,
    lingering_close::{LingerLimits, lingering_close},
};

/// Limits for closing a connection after its last response. A client may need this time to send the rest of its request
/// and to read the response.
const AFTER_RESPONSE: LingerLimits = LingerLimits {
    total: Duration::from_secs(30),
    pause: Duration::from_secs(5),
    bytes: 64 * 1024 * 1024,
};

/// The connection of a client, with TLS or without.
pub(super) enum ClientStream {
    Tcp(ClientIo<TcpStream>),
    Tls(TlsSocket),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastResponse {
    Complete,
    BrokenOff,
    /// The response broke off, and it has no length. For the client, the end of the connection is the end of such a
    /// response.
    BrokenOffWithoutLength,
}

impl ClientStream {
    /// Waits until the client has sent data or closed the connection. With TLS, adds the beginning of this data to
    /// `ahead`. Without TLS, reads nothing.
    ///
    /// # Errors
    /// The error of the read. The next read may not return it again: after a violation of TLS, it can first return data
    /// that came before the violation.
    pub(super) fn poll_readable(
        &mut self,
        cx: &mut Context<'_>,
        ahead: &mut Vec<u8>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.socket().poll_read_ready(cx),
            Self::Tls(stream) => {
                if let Poll::Ready(read) = poll_read_ahead(stream, cx, ahead) {
                    return Poll::Ready(read.map(drop));
                }
                // rustls may have to answer a TLS message that contained no data of the client.
                match Pin::new(stream).poll_flush(cx) {
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    /// Closes the connection so that the client can still read the last response.
    ///
    /// After a response that broke off, the server sends no `close_notify`. So the client sees that the response is not
    /// complete, even if the response has no length (RFC 8446 §6.1). Without TLS and without a length, only a reset
    /// shows this. So the connection is then reset, although the client may lose the part of the response that was
    /// sent.
    pub(super) async fn close(self, last: LastResponse) {
        let closed = async {
            let stream = match self {
                Self::Tcp(stream) if last == LastResponse::BrokenOffWithoutLength => {
                    // An error means that the client has reset the connection, so nothing is left to do.
                    let _ = stream.socket().set_zero_linger();
                    return;
                }
                Self::Tcp(stream) => stream,
                Self::Tls(mut stream) => {
                    // An error means that the client has closed the connection, so nothing is left to do.
                    let _ = match last {
                        LastResponse::Complete => stream.shutdown().await,
                        LastResponse::BrokenOff | LastResponse::BrokenOffWithoutLength => {
                            stream.flush().await
                        }
                    };
                    (*stream).into_inner().0
                }
            };
            lingering_close(stream, AFTER_RESPONSE).await;
        };
        // `lingering_close` does not limit the time of the TLS shutdown, so this timeout limits it.
        let _ = timeout(AFTER_RESPONSE.total, closed).await;
    }
}

/// Takes back a connection that was lent to hyper.
///
/// For an HTTP/1.0 response without a length, the end of the connection is the end of the response. If such a response
/// is not complete, dropping this value resets the connection. Otherwise, the client would take the sent part for the
/// whole response.
pub(super) enum Lender {
    Tcp {
        stream: oneshot::Receiver<ClientIo<TcpStream>>,
        client: Arc<ClientConnection>,
    },
    /// With TLS, no reset is needed: without `close_notify`, the client sees that the response is not complete.
    Tls(oneshot::Receiver<TlsSocket>),
}

impl Lender {
    pub(super) fn take_back(mut self) -> Option<ClientStream> {
        match &mut self {
            Self::Tcp { stream, .. } => stream.try_recv().ok().map(ClientStream::Tcp),
            Self::Tls(stream) => stream.try_recv().ok().map(ClientStream::Tls),
        }
    }
}

impl Drop for Lender {
    fn drop(&mut self) {
        if let Self::Tcp { stream, client } = self
            && client.response().ends_with_connection()
            && let Ok(stream) = stream.try_recv()
        {
            // An error means that the client has reset the connection, so nothing is left to do.
            let _ = stream.socket().set_zero_linger();
        }
    }
}

/// The panic message if a [`LentStream`] has no stream.
const LENT: &str = "only `drop` takes the stream";

/// A connection that goes back to its owner when this value is dropped.
pub(super) struct LentStream<T> {
    /// `None` only in `drop`.
    lent: Option<(T, oneshot::Sender<T>)>,
    client: Arc<ClientConnection>,
}

impl<T> LentStream<T> {
    /// Lends `stream`. The returned receiver gets the stream back.
    pub(super) fn new(stream: T, client: Arc<ClientConnection>) -> (Self, oneshot::Receiver<T>) {
        let (owner, returned) = oneshot::channel();
        (Self { lent: Some((stream, owner)), client }, returned)
    }

    fn stream(&mut self) -> Pin<&mut T>
    where
        T: Unpin,
    {
        Pin::new(&mut self.lent.as_mut().expect(LENT).0)
    }
}

impl<T> Drop for LentStream<T> {
    fn drop(&mut self) {
        if let Some((stream, owner)) = self.lent.take() {
            // `send` fails if the task of the connection was aborted. This closes the connection immediately.
            let _ = owner.send(stream);
        }
    }
}

impl<T: ClientSocket> ClientSocket for LentStream<T> {
    fn tcp(&self) -> &TcpStream {
        self.lent.as_ref().expect(LENT).0.tcp()
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, ahead: &mut Vec<u8>) -> Poll<io::Result<()>> {
        self.lent.as_mut().expect(LENT).0.poll_end(cx, ahead)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for LentStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for LentStream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.client.response().set_flushed(false);
        self.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.client.response().set_flushed(false);
        self.stream().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.lent.as_ref().is_some_and(|(stream, _)| stream.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.stream().poll_flush(cx);
        if flushed.is_ready() {
            self.client.response().set_flushed(true);
        }
        flushed
    }

    /// Only flushes, because the owner closes the connection.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        // hyper shuts the connection down only after it has written the whole response.
        self.client.response().set_complete();
        self.client.response().set_ends_with_connection(false);
        Poll::Ready(Ok(()))
    }
}
