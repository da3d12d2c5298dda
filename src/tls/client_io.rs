//! The socket of a client, which counts its bytes and records whether the client takes them.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::client_connection::ClientConnection;

/// The socket of a client with TLS. It is boxed, because it is moved often, and because the channel that returns it
/// reserves memory for it.
pub(super) type TlsSocket = Box<TlsStream<ClientIo<TcpStream>>>;

/// Reads up to 1024 bytes before hyper asks for them, and adds them to `ahead`. Returns the number of bytes, which is 0
/// at the end of the data.
pub(super) fn poll_read_ahead(
    stream: &mut TlsSocket,
    cx: &mut Context<'_>,
    ahead: &mut Vec<u8>,
) -> Poll<io::Result<usize>> {
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut read = ReadBuf::uninit(&mut buffer);
    let result = ready!(Pin::new(stream).poll_read(cx, &mut read));
    ahead.extend_from_slice(read.filled());
    Poll::Ready(result.map(|()| read.filled().len()))
}

/// Wraps the socket `T` below TLS. So the counts include the handshake and the overhead of TLS records.
#[derive(Debug)]
pub(super) struct ClientIo<T> {
    socket: T,
    connection: Arc<ClientConnection>,
}

impl<T> ClientIo<T> {
    pub(super) fn new(socket: T, connection: Arc<ClientConnection>) -> Self {
        Self { socket, connection }
    }

    /// Returns the socket. Do not read from it or write to it, because these bytes would not be recorded.
    pub(super) fn socket(&self) -> &T {
        &self.socket
    }

    fn record(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending => self.connection.add_written(Poll::Pending),
            Poll::Ready(Ok(bytes)) => self.connection.add_written(Poll::Ready(*bytes)),
            // The connection ends after an error.
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for ClientIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(cx, buffer);
        let read = buffer.filled().len() - before;
        if read > 0 {
            self.connection.add_read(read);
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ClientIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.record(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.record(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
