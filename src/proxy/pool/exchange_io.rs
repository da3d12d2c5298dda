//! Reads and writes the bytes of a connection, and tracks where each exchange begins.
//!
//! 1. **Sent again**: a service may close an idle connection while the gateway is sending the next request. If the
//!    connection ends before the first byte of the response, this module opens a new connection, and writes the bytes
//!    of the request to the new connection. A request is sent again at most once ([D29](crate::decisions#d29)).
//!    [`Resend`] says which requests may be sent again. If the service accepts a credential only once, the request
//!    gets a new credential before it is sent again ([`NewHeaders`]).
//! 2. **Informational responses** are limited ([`InformationalLimit`]).
//!
//! hyper does not notice that the connection was replaced. Only the head of a response, and the bytes that arrive
//! together with it, pass through a buffer of this module. Later bytes are read directly into hyper's buffer.

use std::{
    error::Error as StdError,
    fmt,
    io::{self, ErrorKind, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
};

use http::HeaderMap;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use tower::BoxError;

use super::{
    informational_limit::{Head, InformationalLimit},
    lock::lock,
    read_after_reset::{ReadAfterReset, is_reset},
    sent_request::{Sent, replace_headers},
};

/// The maximum number of bytes per read of a head.
const CHUNK: usize = 8192;

/// The maximum number of bytes of a request that may be sent again. These bytes are kept until the response begins.
const MAX_KEPT: usize = 16 * 1024;

/// Maximum size of a buffer that an idle connection keeps for the next request, in bytes.
const KEPT_CAPACITY: usize = 4 * 1024;

/// Says whether the pool may send a request again, if the connection ends before the response begins. Over HTTP/2, the
/// pool also gives back each request that the service has not processed. This holds for each value of `Resend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Resend {
    /// The pool does not send the request again, for example because the connection was made for this request.
    Never,
    /// The caller may send the request again. If an HTTP/1.1 connection ends before a byte of the response, the error
    /// is [`Unanswered`].
    ByCaller,
    /// The request is sent again if the connection accepted no byte of the request.
    IfUnsent,
    /// The request is sent again if the connection accepted no byte of the body. Use this only if the method is
    /// idempotent (RFC 9110 §9.2.2) and the service accepts the credential more than once.
    BeforeBody,
    /// Like `BeforeBody`, but the service accepts the credential only once. If the connection accepted the whole head,
    /// the request needs a new credential.
    WithNewHeaders,
}

/// Signals between the I/O and the task that polls it.
#[derive(Debug, Default)]
pub(super) struct ExchangeSignals {
    /// `resend as u8 + 1` for the [`Resend`] of the exchange that has begun since the last [`take`](Self::take).
    /// [`NONE`](Self::NONE) if no exchange has begun since then.
    begun: AtomicU8,
    wants_headers: AtomicBool,
    new_headers: Mutex<Option<NewHeaders>>,
}

/// The headers with the new credential for a request that is sent again. They replace all headers with the same names.
/// `None` means that there is no new credential. The request is then not sent again.
pub(in crate::proxy) type NewHeaders = Option<HeaderMap>;

impl ExchangeSignals {
    const NONE: u8 = 0;

    pub(super) fn begin(&self, resend: Resend) {
        self.begun.store(resend as u8 + 1, Ordering::Relaxed);
    }

    /// Returns whether the I/O waits for [`set_new_headers`](Self::set_new_headers).
    pub(super) fn wants_headers(&self) -> bool {
        self.wants_headers.load(Ordering::Relaxed)
    }

    /// Answers [`wants_headers`](Self::wants_headers). The connection must be polled afterwards.
    #[cold]
    pub(super) fn set_new_headers(&self, headers: NewHeaders) {
        self.wants_headers.store(false, Ordering::Relaxed);
        *lock(&self.new_headers) = Some(headers);
    }

    #[cold]
    fn clear_new_headers(&self) {
        *lock(&self.new_headers) = None;
    }

    #[cold]
    fn poll_new_headers(&self) -> Poll<NewHeaders> {
        let headers = lock(&self.new_headers).take();
        self.wants_headers.store(headers.is_none(), Ordering::Relaxed);
        headers.map_or(Poll::Pending, Poll::Ready)
    }

    /// Returns the [`Resend`] of the exchange that has begun since the last call, if there is one.
    fn take(&self) -> Option<Resend> {
        let resend = match self.begun.load(Ordering::Relaxed) {
            Self::NONE => return None,
            1 => Resend::Never,
            2 => Resend::ByCaller,
            3 => Resend::IfUnsent,
            4 => Resend::BeforeBody,
            _ => Resend::WithNewHeaders,
        };
        self.begun.store(Self::NONE, Ordering::Relaxed);
        Some(resend)
    }
}

/// Makes a connection that replaces a connection that the service has closed.
pub(super) type Reconnect<T> = Box<dyn FnMut() -> Reconnecting<T> + Send>;

type Reconnecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

#[derive(Debug, thiserror::Error)]
#[error("cannot connect again after the service has closed an idle connection")]
pub(in crate::proxy) struct ReconnectError(#[source] BoxError);

#[derive(Debug, thiserror::Error)]
#[error("the service closed the connection before its response began")]
pub(in crate::proxy) struct Unanswered;

/// Returns true if the I/O of the connection failed with an error of type `E`.
pub(in crate::proxy) fn is_caused_by<E: StdError + 'static>(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    io.and_then(io::Error::get_ref).is_some_and(|cause| cause.is::<E>())
}

/// A connection `T` to a service. `A` is an argument of [`ReadAfterReset`].
pub(super) struct ExchangeIo<T, A> {
    io: ReadAfterReset<T, A>,
    signals: Arc<ExchangeSignals>,
    reconnect: Reconnect<T>,
    phase: Phase<T>,
    resend: Resend,
    /// The bytes of the request, if it may be sent again.
    sent: Vec<u8>,
    informational: InformationalLimit,
}

enum Phase<T> {
    /// Bytes are not inspected: the status of the response has arrived, no request was sent yet, or the connection
    /// could not be replaced.
    Passing,
    /// The status of the response has not arrived.
    Awaited,
    /// The service has closed the connection, and the request needs new headers.
    WantsHeaders,
    Reconnecting(Reconnecting<T>),
    /// The request is being written to the new connection `io`. `written` is the number of bytes that `io` has already
    /// accepted.
    Resending {
        io: T,
        written: usize,
    },
}

impl<T: Unpin, A: Fn() -> bool + Unpin> ExchangeIo<T, A> {
    /// Wraps `io`. [`ExchangeSignals::begin`] must be called before each request is written.
    pub(super) fn new(
        io: T,
        is_awaited: A,
        signals: Arc<ExchangeSignals>,
        reconnect: Reconnect<T>,
    ) -> Self {
        Self {
            io: ReadAfterReset::new(io, is_awaited),
            signals,
            reconnect,
            phase: Phase::Passing,
            resend: Resend::Never,
            sent: Vec::new(),
            informational: InformationalLimit::default(),
        }
    }

    /// Writes to the connection. While the connection is being replaced, the write is pending.
    /// [`poll_read`](Read::poll_read) replaces the connection, and then wakes the task.
    fn poll_written(
        &mut self,
        write: impl FnOnce(Pin<&mut ReadAfterReset<T, A>>) -> Poll<io::Result<usize>>,
        keep: impl FnOnce(&mut Vec<u8>, usize),
    ) -> Poll<io::Result<usize>> {
        if let Some(resend) = self.signals.take() {
            self.resend = resend;
            self.sent.clear();
            self.informational = InformationalLimit::default();
            self.phase = Phase::Awaited;
        }
        if let Phase::WantsHeaders | Phase::Reconnecting(_) | Phase::Resending { .. } = self.phase {
            return Poll::Pending;
        }
        let written = ready!(write(Pin::new(&mut self.io)))?;
        match self.resend {
            Resend::Never | Resend::ByCaller => {}
            Resend::BeforeBody | Resend::WithNewHeaders
                if self.sent.len() + written <= MAX_KEPT =>
            {
                keep(&mut self.sent, written);
            }
            Resend::IfUnsent | Resend::BeforeBody | Resend::WithNewHeaders => {
                self.resend = Resend::Never;
                self.sent = Vec::new();
            }
        }
        Poll::Ready(Ok(written))
    }
}

impl<T: Read + Write + Unpin, A: Fn() -> bool + Unpin> ExchangeIo<T, A> {
    fn poll_read_head(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut chunk = [const { MaybeUninit::uninit() }; CHUNK];
        let length = buffer.remaining().min(CHUNK);
        let mut chunk = ReadBuf::uninit(&mut chunk[..length]);
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, chunk.unfilled()));
        let bytes = chunk.filled();
        if bytes.is_empty() {
            if is_end(&read) {
                if self.resend == Resend::ByCaller {
                    self.resend = Resend::Never;
                    return Poll::Ready(Err(io::Error::other(Unanswered)));
                }
                self.replace_if_allowed();
            }
            return Poll::Ready(read);
        }
        self.resend = Resend::Never;
        self.forget_sent();
        buffer.put_slice(bytes);
        let head = self.informational.see(bytes);
        if head.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))? == Head::Final {
            self.phase = Phase::Passing;
        }
        Poll::Ready(Ok(()))
    }

    /// Discards the bytes of a request that will not be sent again. Keeps a small buffer for the next request.
    fn forget_sent(&mut self) {
        self.sent.clear();
        if self.sent.capacity() > KEPT_CAPACITY {
            self.sent = Vec::new();
        }
    }

    /// If the request may be sent again, begins to replace the connection that the service has closed.
    #[cold]
    fn replace_if_allowed(&mut self) {
        let sent = Sent::of(&self.sent);
        self.phase = match self.resend {
            // The first byte that the connection accepts changes `IfUnsent` to `Never`.
            Resend::Never | Resend::ByCaller => return,
            Resend::BeforeBody | Resend::WithNewHeaders if sent == Sent::PartOfBody => return,
            Resend::WithNewHeaders if sent == Sent::Head => {
                self.signals.clear_new_headers();
                Phase::WantsHeaders
            }
            // A service does not evaluate the credential of an incomplete head. So the same credential can be sent
            // again.
            Resend::IfUnsent | Resend::BeforeBody | Resend::WithNewHeaders => {
                Phase::Reconnecting((self.reconnect)())
            }
        };
        self.resend = Resend::Never;
    }

    #[cold]
    fn poll_replace(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Phase::WantsHeaders = self.phase {
            let headers = ready!(self.signals.poll_new_headers());
            if !headers.is_some_and(|headers| replace_headers(&mut self.sent, &headers)) {
                self.phase = Phase::Passing;
                return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
            }
            self.phase = Phase::Reconnecting((self.reconnect)());
        }
        if let Phase::Reconnecting(reconnecting) = &mut self.phase {
            let io = match ready!(reconnecting.as_mut().poll(cx)) {
                Ok(io) => io,
                Err(error) => {
                    self.phase = Phase::Passing;
                    return Poll::Ready(Err(io::Error::other(ReconnectError(error))));
                }
            };
            self.phase = Phase::Resending { io, written: 0 };
        }
        if let Phase::Resending { io, written } = &mut self.phase {
            while *written < self.sent.len() {
                match ready!(Pin::new(&mut *io).poll_write(cx, &self.sent[*written..]))? {
                    0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                    more => *written += more,
                }
            }
            ready!(Pin::new(io).poll_flush(cx))?;
        }
        if let Phase::Resending { io, .. } = std::mem::replace(&mut self.phase, Phase::Awaited) {
            self.io.replace(io);
        }
        // Wake the task, because hyper may still have to write the request or the rest of it.
        cx.waker().wake_by_ref();
        Poll::Ready(Ok(()))
    }
}

fn is_end(read: &io::Result<()>) -> bool {
    match read {
        Ok(()) => true,
        Err(error) => is_reset(error.kind()) || error.kind() == ErrorKind::UnexpectedEof,
    }
}

impl<T: Read + Write + Unpin, A: Fn() -> bool + Unpin> Read for ExchangeIo<T, A> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.phase {
                Phase::Passing => return Pin::new(&mut self.io).poll_read(cx, buffer),
                Phase::Awaited => {
                    let read = ready!(self.poll_read_head(cx, &mut buffer));
                    if let Phase::WantsHeaders | Phase::Reconnecting(_) = self.phase {
                        continue;
                    }
                    return Poll::Ready(read);
                }
                Phase::WantsHeaders | Phase::Reconnecting(_) | Phase::Resending { .. } => {
                    ready!(self.poll_replace(cx))?;
                }
            }
        }
    }
}

impl<T: Read + Write + Unpin, A: Fn() -> bool + Unpin> Write for ExchangeIo<T, A> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(
            |io| io.poll_write(cx, bytes),
            |kept, written| kept.extend_from_slice(&bytes[..written]),
        )
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(
            |io| io.poll_write_vectored(cx, slices),
            |kept, mut written| {
                for slice in slices {
                    let length = slice.len().min(written);
                    kept.extend_from_slice(&slice[..length]);
                    written -= length;
                }
            },
        )
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.phase {
            // Nothing has to be flushed here, because the new connection is flushed when the request is written to it.
            Phase::WantsHeaders | Phase::Reconnecting(_) | Phase::Resending { .. } => {
                Poll::Ready(Ok(()))
            }
            Phase::Passing | Phase::Awaited => Pin::new(&mut self.io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<T, A> fmt::Debug for ExchangeIo<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeIo").field("resend", &self.resend).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, task::Waker};

    use http::{HeaderName, HeaderValue};
    use hyper_util::rt::TokioIo;
    use tokio_test::io::{Builder, Mock};

    use super::*;

    type Io = ExchangeIo<TokioIo<Mock>, fn() -> bool>;

    /// Creates an `ExchangeIo` on a connection with the script `old`. A reconnect gives a connection with the script
    /// `new`. If `new` is `None`, the reconnect fails.
    fn io(mut old: Builder, new: Option<Builder>) -> Io {
        let mut new = new.map(|mut script| TokioIo::new(script.build()));
        let reconnect = move || -> Reconnecting<_> {
            let io = new.take().ok_or_else(|| BoxError::from("refused"));
            Box::pin(ready(io))
        };
        let old = TokioIo::new(old.build());
        ExchangeIo::new(old, || true, Arc::default(), Box::new(reconnect))
    }

    fn write(io: &mut Io, bytes: &[u8]) -> Poll<Result<usize, ErrorKind>> {
        let cx = &mut Context::from_waker(Waker::noop());
        Pin::new(io).poll_write(cx, bytes).map_err(|error| error.kind())
    }

    fn read(io: &mut Io) -> Result<String, io::Error> {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut all = String::new();
        loop {
            let mut buffer = [0; 64];
            let mut buffer = ReadBuf::new(&mut buffer);
            match Pin::new(&mut *io).poll_read(cx, buffer.unfilled()) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    all += str::from_utf8(buffer.filled()).unwrap();
                }
                Poll::Ready(Ok(())) | Poll::Pending => return Ok(all),
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
    }

    const OK: &str = "HTTP/1.1 200 OK\r\n\r\nok";

    #[test]
    fn a_request_is_sent_again_only_before_the_response_begins() {
        use Resend::{BeforeBody, IfUnsent, Never};
        let closings: [fn(&mut Builder) -> &mut Builder; 3] = [
            |script| script.read(b""),
            |script| script.read_error(ErrorKind::ConnectionReset.into()),
            |script| script.read_error(ErrorKind::UnexpectedEof.into()),
        ];
        for close in closings {
            for (resend, is_sent_again) in [(BeforeBody, true), (IfUnsent, false), (Never, false)] {
                let (mut old, mut new) = (Builder::new(), Builder::new());
                close(old.write(b"GET"));
                if is_sent_again {
                    new.write(b"GET").read(OK.as_bytes());
                }
                let mut io = io(old, Some(new));
                io.signals.begin(resend);
                assert_eq!(write(&mut io, b"GET"), Poll::Ready(Ok(3)));
                let want = if is_sent_again { OK } else { "" };
                assert_eq!(read(&mut io).unwrap_or_default(), want, "{resend:?}");
            }
            let (mut old, new) = (Builder::new(), Builder::new());
            close(old.write(b"GET").read(b"H"));
            let mut io = io(old, Some(new));
            io.signals.begin(BeforeBody);
            assert_eq!(write(&mut io, b"GET"), Poll::Ready(Ok(3)));
            assert!(matches!(read(&mut io).as_deref(), Ok("H") | Err(_)));
        }
    }

    #[test]
    fn the_caller_learns_that_no_byte_of_the_response_has_arrived() {
        for (answer, is_unanswered) in [("", true), ("HTTP/1.1 200", false)] {
            let mut old = Builder::new();
            old.write(b"GET").read(answer.as_bytes()).read(b"");
            let mut io = io(old, None);
            io.signals.begin(Resend::ByCaller);
            assert_eq!(write(&mut io, b"GET"), Poll::Ready(Ok(3)));
            let is = match read(&mut io) {
                Err(error) => error.get_ref().unwrap().is::<Unanswered>(),
                Ok(read) => !read.eq(answer),
            };
            assert_eq!(is, is_unanswered, "{answer:?}");
        }
    }

    #[test]
    fn a_request_with_a_complete_head_waits_for_new_headers() {
        const OLD: &str = "GET / HTTP/1.1\r\nx-once: 1\r\n\r\n";
        const NEW: &str = "GET / HTTP/1.1\r\nx-once: 2\r\n\r\n";
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("x-once"),
            HeaderValue::from_static("2"),
        )]);
        for (headers, want) in [(Some(headers), OK), (None, "")] {
            let (mut old, mut new) = (Builder::new(), Builder::new());
            old.write(OLD.as_bytes()).read(b"");
            if headers.is_some() {
                new.write(NEW.as_bytes()).read(OK.as_bytes());
            }
            let mut io = io(old, Some(new));
            io.signals.begin(Resend::WithNewHeaders);
            assert_eq!(write(&mut io, OLD.as_bytes()), Poll::Ready(Ok(OLD.len())));
            for _ in 0..2 {
                assert_eq!(read(&mut io).unwrap(), "");
                assert!(io.signals.wants_headers());
            }
            io.signals.set_new_headers(headers);
            assert!(!io.signals.wants_headers());
            assert_eq!(read(&mut io).unwrap_or_default(), want);
        }
    }

    #[test]
    fn a_request_with_an_incomplete_head_needs_no_new_headers() {
        let (mut old, mut new) = (Builder::new(), Builder::new());
        old.write(b"GET / HTTP/1.1\r\nx-on").read(b"");
        new.write(b"GET / HTTP/1.1\r\nx-on").write(b"ce: 1\r\n\r\n").read(OK.as_bytes());
        let mut io = io(old, Some(new));
        io.signals.begin(Resend::WithNewHeaders);
        assert_eq!(write(&mut io, b"GET / HTTP/1.1\r\nx-on"), Poll::Ready(Ok(20)));
        assert_eq!(read(&mut io).unwrap(), "");
        assert_eq!(write(&mut io, b"ce: 1\r\n\r\n"), Poll::Ready(Ok(9)));
        assert_eq!(read(&mut io).unwrap(), OK);
    }

    #[test]
    fn a_request_is_sent_on_a_new_connection_if_the_old_one_accepted_no_byte() {
        let (mut old, mut new) = (Builder::new(), Builder::new());
        old.write_error(ErrorKind::BrokenPipe.into()).read(b"");
        new.write(b"POST").read(OK.as_bytes());
        let mut io = io(old, Some(new));
        io.signals.begin(Resend::IfUnsent);
        assert_eq!(write(&mut io, b"POST"), Poll::Pending);
        assert_eq!(read(&mut io).unwrap(), "");
        assert_eq!(write(&mut io, b"POST"), Poll::Ready(Ok(4)));
        assert_eq!(read(&mut io).unwrap(), OK);
    }

    #[test]
    fn a_request_is_not_sent_again_after_its_body_has_begun() {
        for (writes, is_sent_again) in [
            (&["PUT /\r\n"][..], true),
            (&["PUT /\r\n\r\n"], true),
            (&["PUT /\r\n", "\r\n"], true),
            (&["PUT /\r\n\r\nx"], false),
            (&["PUT /\r\n\r\n", "x"], false),
            (&["PUT /\r\n\r\n", "1\r\nx\r\n0\r\n\r\n"], false),
        ] {
            let (mut old, mut new) = (Builder::new(), Builder::new());
            for bytes in writes {
                old.write(bytes.as_bytes());
            }
            if is_sent_again {
                new.write(writes.concat().as_bytes()).read(OK.as_bytes());
            }
            let mut io = io(old, Some(new));
            io.signals.begin(Resend::BeforeBody);
            for bytes in writes {
                assert_eq!(write(&mut io, bytes.as_bytes()), Poll::Ready(Ok(bytes.len())));
            }
            assert_eq!(read(&mut io).unwrap(), if is_sent_again { OK } else { "" }, "{writes:?}");
        }
    }

    #[test]
    fn a_request_is_sent_again_only_once_and_without_bytes_of_earlier_requests() {
        let (mut old, mut new) = (Builder::new(), Builder::new());
        old.write(b"GET 1").read(OK.as_bytes()).write(b"GET 2").read(b"");
        new.write(b"GET 2").read(b"");
        let mut io = io(old, Some(new));
        for (request, want) in [("GET 1", OK), ("GET 2", "")] {
            io.signals.begin(Resend::BeforeBody);
            assert_eq!(write(&mut io, request.as_bytes()), Poll::Ready(Ok(5)));
            assert_eq!(read(&mut io).unwrap(), want);
        }
    }

    #[test]
    fn a_failed_reconnect_is_reported() {
        let mut old = Builder::new();
        old.write(b"GET").read(b"");
        let mut io = io(old, None);
        io.signals.begin(Resend::BeforeBody);
        assert_eq!(write(&mut io, b"GET"), Poll::Ready(Ok(3)));
        let error = read(&mut io).unwrap_err();
        assert!(error.get_ref().unwrap().is::<ReconnectError>(), "{error}");
    }

    #[test]
    fn the_limit_of_informational_responses_is_per_exchange() {
        const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
        let mut script = Builder::new();
        for times in [10, 16, 17] {
            script.write(b"GET").read((CONTINUE.repeat(times) + OK).as_bytes());
        }
        let mut io = io(script, None);
        for is_ok in [true, true, false] {
            io.signals.begin(Resend::Never);
            assert_eq!(write(&mut io, b"GET"), Poll::Ready(Ok(3)));
            assert_eq!(read(&mut io).is_ok(), is_ok);
        }
    }
}
