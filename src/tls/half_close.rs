//! A client may close its sending side after its request, and wait for the response. Another client may close the
//! whole connection, because it no longer wants the response. In both cases, the server receives the same TCP
//! segment (FIN).
//!
//! The request of a client that has disconnected must be cancelled. So the server must distinguish the cases:
//!
//! | The client … | The server sees … | The request is cancelled … |
//! |---|---|---|
//! | resets the connection, or ends TLS without `close_notify` | an error | immediately |
//! | closes before the response | the end of its data, then a reset as the answer to the probe | after about a second |
//! | closes during the response | a reset as the answer to the next bytes of the response, or to TCP keep-alive | at the next bytes; if there are none, within two minutes of the close |
//! | closes its sending side only | the end of its data, and no reset | never |
//!
//! The probe is an interim response, `100 Continue`. A client ignores the probe if its request did not ask for a `100`
//! response (RFC 9110 §15.2.1). If the client has closed the connection, its operating system answers the probe with a
//! reset. The gateway sends no probe to an HTTP/1.0 client. It also sends no probe if the response is ready before the
//! time of the probe.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use super::{
    client_connection::ClientConnection,
    client_io::{ClientIo, TlsSocket, poll_read_ahead},
};

/// The probe. HTTP/1.0 has no interim responses (RFC 9110 §15.2).
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The gateway sends the probe this long after the client has closed its sending side.
const PROBE_AFTER: Duration = Duration::from_secs(1);

/// The time between the probe and the first check for a reset.
const FIRST_CHECK: Duration = Duration::from_millis(100);

const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The last bytes of a head: the end of its last line, and the empty line after it (RFC 9112 §2.1).
const EMPTY_LINE: &[u8; 4] = b"\r\n\r\n";

/// The settings of TCP keep-alive. About a minute after a client has closed a connection, most operating systems forget
/// the connection. From then on, they answer a keep-alive probe with a reset.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(20)).with_interval(Duration::from_secs(20));

/// A connection whose end can be detected before all its data is read.
pub(super) trait ClientSocket {
    fn tcp(&self) -> &TcpStream;

    /// Waits until the client has closed its sending side. If the function must read data to see the end, it adds this
    /// data to `ahead`. Fails if the connection has failed.
    fn poll_end(&mut self, cx: &mut Context<'_>, ahead: &mut Vec<u8>) -> Poll<io::Result<()>>;
}

impl ClientSocket for ClientIo<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.socket()
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, _: &mut Vec<u8>) -> Poll<io::Result<()>> {
        let mut byte = [0];
        match ready!(self.socket().poll_peek(cx, &mut ReadBuf::new(&mut byte)))? {
            0 => Poll::Ready(Ok(())),
            // There are bytes before the end. No waker is registered for the end, because the task polls the connection
            // again when it can use these bytes.
            _ => Poll::Pending,
        }
    }
}

impl ClientSocket for TlsSocket {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0.socket()
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, ahead: &mut Vec<u8>) -> Poll<io::Result<()>> {
        if ready!(poll_read_ahead(self, cx, ahead))? == 0 {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }
}

/// Wraps the connection `S` for hyper. Set the option `half_close` of hyper's builder, so that hyper does not read
/// while it waits for a response.
pub(super) struct HalfCloseStream<S> {
    stream: S,
    client: Arc<ClientConnection>,
    /// Data that was read before hyper asked for it.
    ahead: Vec<u8>,
    /// The last bytes that hyper has read. At the beginning of the connection, these are the bytes of an empty line.
    last_read: [u8; EMPTY_LINE.len()],
    /// Whether hyper waits for data. If so, hyper itself sees the end of the data.
    is_reading: bool,
    /// The part of the probe that is not written yet.
    unsent: &'static [u8],
    half_closed: Option<HalfClosed>,
}

/// The state after the client has closed its sending side during a request.
struct HalfClosed {
    next_check: Pin<Box<Sleep>>,
    is_probed: bool,
}

impl<S> HalfCloseStream<S> {
    /// `ahead` is data that was already read from `stream`. hyper gets it first.
    pub(super) fn new(stream: S, client: Arc<ClientConnection>, ahead: Vec<u8>) -> Self {
        Self {
            stream,
            client,
            ahead,
            last_read: *EMPTY_LINE,
            is_reading: false,
            unsent: &[],
            half_closed: None,
        }
    }

    fn record_read(&mut self, bytes: &[u8]) {
        self.client.response().set_awaits_head(false);
        if let Some(last) = bytes.last_chunk() {
            self.last_read = *last;
        } else {
            self.last_read.rotate_left(bytes.len());
            let start = self.last_read.len() - bytes.len();
            self.last_read[start..].copy_from_slice(bytes);
        }
    }
}

impl<S: ClientSocket + AsyncWrite + Unpin> HalfCloseStream<S> {
    /// Returns whether the client waits for a response: a request is counted as in flight, or hyper does not have the
    /// response to the last request yet. The second condition covers a request that the gateway refuses. Such a request
    /// leaves the count of requests in flight before hyper gets its response. Returns `false` while a tunnel is open, because the tunnel itself reads to the end of the data.
    fn is_response_pending(&self) -> bool {
        let response = self.client.response();
        (self.client.in_flight() > 0 || response.is_awaited()) && !response.is_upgraded()
    }

    /// If the client has closed its sending side, sends the probe and checks for a reset. Fails if the client has
    /// disconnected.
    fn watch(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let half_closed = match &mut self.half_closed {
            Some(half_closed) => half_closed,
            None if !self.ahead.is_empty() => return Ok(()),
            None => match self.stream.poll_end(cx, &mut self.ahead) {
                Poll::Pending => return Ok(()),
                Poll::Ready(ended) => {
                    ended?;
                    // The result is ignored: without keep-alive probes, the next bytes of the response show whether the
                    // client has disconnected.
                    let _ = SockRef::from(self.stream.tcp()).set_tcp_keepalive(&KEEPALIVE);
                    let next_check = Box::pin(sleep(PROBE_AFTER));
                    self.half_closed.insert(HalfClosed { next_check, is_probed: false })
                }
            },
        };
        while half_closed.next_check.as_mut().poll(cx).is_ready() {
            if let Some(error) = self.stream.tcp().take_error()? {
                return Err(error);
            }
            let mut interval = CHECK_EVERY;
            if !half_closed.is_probed && self.client.response().accepts_interim() {
                half_closed.is_probed = true;
                self.unsent = PROBE;
                interval = FIRST_CHECK;
            }
            half_closed.next_check.as_mut().reset(Instant::now() + interval);
        }
        match self.poll_unsent(cx) {
            Poll::Ready(sent) => sent,
            Poll::Pending => Ok(()),
        }
    }

    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, self.unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent = &self.unsent[sent..];
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HalfCloseStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..length]);
            self.ahead.drain(..length);
            self.record_read(&buffer.filled()[before..]);
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.is_reading = read.is_pending();
        match read {
            Poll::Pending => {
                self.client.response().set_awaits_head(self.last_read == *EMPTY_LINE);
            }
            Poll::Ready(_) => self.record_read(&buffer.filled()[before..]),
        }
        read
    }
}

impl<S: ClientSocket + AsyncWrite + Unpin> AsyncWrite for HalfCloseStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Flushes, and watches the client. hyper calls this function at each poll of the connection, even when nothing is
    /// left to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.is_response_pending() && !self.is_reading {
            self.watch(cx)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
