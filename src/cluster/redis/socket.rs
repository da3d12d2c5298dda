//! The byte stream to a server of Redis: TCP, with or without TLS.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{settings::Endpoint, tls::RedisTls};

/// The maximum number of bytes that the client reads from one completed answer to the next.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// A stream that fails if an answer is too large. The client keeps an answer in memory until the answer is complete, so
/// the size needs a limit.
pub(super) struct Socket {
    stream: Stream,
    read: AnswerBytes,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The number of bytes since the last completed answer.
#[derive(Clone, Debug, Default)]
pub(super) struct AnswerBytes(Arc<AtomicUsize>);

impl AnswerBytes {
    pub(super) fn answer_is_complete(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn add(&self, read: usize) -> io::Result<()> {
        if self.0.fetch_add(read, Ordering::Relaxed).saturating_add(read) > MAX_ANSWER {
            return Err(io::Error::other("the answer is too large"));
        }
        Ok(())
    }
}

impl Socket {
    /// Opens a connection without a time limit. The caller must limit the time.
    pub(super) async fn connect(
        endpoint: &Endpoint,
        tls: Option<&RedisTls>,
    ) -> io::Result<(Self, AnswerBytes)> {
        let tcp = TcpStream::connect((&*endpoint.host, endpoint.port)).await?;
        tcp.set_nodelay(true)?;
        let stream = match tls.filter(|_| endpoint.is_encrypted) {
            Some(tls) => {
                let name = ServerName::try_from(endpoint.host.to_string())
                    .map_err(|_| io::Error::other("the host is not a name or an address"))?;
                let connector = TlsConnector::from(tls.config.clone());
                Stream::Tls(Box::new(connector.connect(name, tcp).await?))
            }
            None if endpoint.is_encrypted => return Err(io::Error::other("TLS is not set up")),
            None => Stream::Plain(tcp),
        };
        let read = AnswerBytes::default();
        Ok((Self { stream, read: read.clone() }, read))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        })?;
        Poll::Ready(self.read.add(buffer.filled().len() - before))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
