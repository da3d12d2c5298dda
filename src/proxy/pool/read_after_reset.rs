//! Reads what a service sent before it reset the connection.
//!
//! A service may send its response before it has read the whole upload, and close the connection immediately. The
//! network stack of the service then resets the connection (RFC 9112 §9.6). The next write fails, but the response can
//! still be read. hyper stops when a write fails, so it would not read the response. Therefore, a write that fails with
//! a reset returns `Pending` here, as if the service accepted no more bytes at the moment. When nothing is left to
//! read, or when the response is no longer read, the write fails.

use std::{
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

/// The maximum number of bytes per read after a reset.
const CHUNK: usize = 8192;

/// A connection `T` to a service. The function `A` returns whether the response is still read.
#[derive(Debug)]
pub(super) struct ReadAfterReset<T, A> {
    io: T,
    is_awaited: A,
    writing: WriteState,
}

#[derive(Clone, Copy, Debug)]
enum WriteState {
    Open,
    /// A write failed with a reset. Writes are pending until nothing is left to read.
    ResetPending(ErrorKind),
    /// Nothing is left to read. Writes fail.
    Reset(ErrorKind),
}

impl<T: Unpin, A: Fn() -> bool> ReadAfterReset<T, A> {
    /// Wraps `io`. While `is_awaited` returns true and something is left to read, a write that fails with a reset is
    /// pending.
    pub(super) fn new(io: T, is_awaited: A) -> Self {
        Self { io, is_awaited, writing: WriteState::Open }
    }

    /// Replaces the connection, and forgets a reset of the old connection.
    pub(super) fn replace(&mut self, io: T) {
        self.io = io;
        self.writing = WriteState::Open;
    }

    fn poll_written<R>(
        &mut self,
        write: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let reset = match self.writing {
            WriteState::Open => match write(Pin::new(&mut self.io)) {
                Poll::Ready(Err(error)) if is_reset(error.kind()) => error.kind(),
                written => return written,
            },
            WriteState::ResetPending(reset) => reset,
            WriteState::Reset(reset) => return Poll::Ready(Err(reset.into())),
        };
        self.writing = WriteState::ResetPending(reset);
        if (self.is_awaited)() {
            // The write need not register a waker. The remaining bytes and the end make the connection readable, so the
            // read wakes the task.
            Poll::Pending
        } else {
            Poll::Ready(Err(reset.into()))
        }
    }
}

pub(super) fn is_reset(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
    )
}

impl<T: Read + Unpin, A> ReadAfterReset<T, A> {
    #[cold]
    fn poll_read_rest(
        &mut self,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
        reset: ErrorKind,
    ) -> Poll<io::Result<()>> {
        let mut chunk = [0; CHUNK];
        let mut chunk = ReadBuf::new(&mut chunk[..buffer.remaining().min(CHUNK)]);
        let read = ready!(Pin::new(&mut self.io).poll_read(cx, chunk.unfilled()));
        if !chunk.filled().is_empty() {
            buffer.put_slice(chunk.filled());
            return Poll::Ready(Ok(()));
        }
        self.writing = WriteState::Reset(reset);
        Poll::Ready(match (reset, read) {
            // Linux reports `BrokenPipe` if the service had closed its side before the reset. This close may be the end
            // of the response (RFC 9112 §6.3), so it is not an error.
            (ErrorKind::BrokenPipe, Ok(())) => Ok(()),
            _ => Err(reset.into()),
        })
    }
}

impl<T: Write + Unpin, A: Fn() -> bool + Unpin> Write for ReadAfterReset<T, A> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(|io| io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(|io| io.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_written(|io| io.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<T: Read + Unpin, A: Unpin> Read for ReadAfterReset<T, A> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.writing {
            WriteState::ResetPending(reset) => self.poll_read_rest(cx, buffer, reset),
            WriteState::Open | WriteState::Reset(_) => Pin::new(&mut self.io).poll_read(cx, buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, task::Waker};

    use hyper_util::rt::TokioIo;
    use tokio_test::io::Builder;

    use super::*;

    fn poll_read(
        io: &mut (impl Read + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<u8>, ErrorKind>> {
        let mut bytes = [0; 4];
        let mut read = ReadBuf::new(&mut bytes);
        let result = ready!(Pin::new(io).poll_read(cx, read.unfilled()));
        Poll::Ready(result.map(|()| read.filled().to_vec()).map_err(|error| error.kind()))
    }

    fn poll_write(
        io: &mut (impl Write + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, ErrorKind>> {
        Pin::new(io).poll_write(cx, b"more").map_err(|error| error.kind())
    }

    #[test]
    fn a_reset_is_reported_when_nothing_is_left_to_read() {
        use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        for (reset, read_error, want) in [
            (ConnectionReset, None, Err(ConnectionReset)),
            (ConnectionAborted, None, Err(ConnectionAborted)),
            (BrokenPipe, None, Ok(Vec::new())),
            // TLS reports a missing close_notify with this error.
            (ConnectionReset, Some(UnexpectedEof), Err(ConnectionReset)),
            (BrokenPipe, Some(UnexpectedEof), Err(BrokenPipe)),
        ] {
            let mut script = Builder::new();
            script.write(b"more").write_error(reset.into()).read(b"answer");
            if let Some(read_error) = read_error {
                script.read_error(read_error.into());
            }
            let io = script.build();
            drop(script);
            let mut io = ReadAfterReset::new(TokioIo::new(io), || true);
            let cx = &mut Context::from_waker(Waker::noop());
            assert_eq!(poll_write(&mut io, cx), Poll::Ready(Ok(4)));
            assert_eq!(poll_write(&mut io, cx), Poll::Pending, "{reset:?}");
            assert!(Pin::new(&mut io).poll_flush(cx).is_pending());
            assert_eq!(poll_read(&mut io, cx), Poll::Ready(Ok(b"answ".to_vec())));
            assert_eq!(poll_write(&mut io, cx), Poll::Pending);
            assert_eq!(poll_read(&mut io, cx), Poll::Ready(Ok(b"er".to_vec())));
            assert_eq!(poll_read(&mut io, cx), Poll::Ready(want), "{reset:?}, {read_error:?}");
            assert_eq!(poll_write(&mut io, cx), Poll::Ready(Err(reset)));
            assert_eq!(poll_read(&mut io, cx), Poll::Ready(Ok(Vec::new())));
        }
    }

    #[test]
    fn a_write_error_is_reported_immediately_unless_it_is_a_reset_and_a_response_is_awaited() {
        use ErrorKind::{ConnectionReset, OutOfMemory};
        for (is_awaited, failure) in
            [(true, OutOfMemory), (false, OutOfMemory), (false, ConnectionReset)]
        {
            let script = Builder::new().write_error(failure.into()).build();
            let mut io = ReadAfterReset::new(TokioIo::new(script), || is_awaited);
            let cx = &mut Context::from_waker(Waker::noop());
            assert_eq!(poll_write(&mut io, cx), Poll::Ready(Err(failure)));
        }
    }

    #[test]
    fn a_pending_write_fails_when_the_response_is_no_longer_awaited() {
        let is_awaited = Cell::new(true);
        let script = Builder::new().write_error(ErrorKind::ConnectionReset.into()).build();
        let mut io = ReadAfterReset::new(TokioIo::new(script), || is_awaited.get());
        let cx = &mut Context::from_waker(Waker::noop());
        assert_eq!(poll_write(&mut io, cx), Poll::Pending);
        is_awaited.set(false);
        let failed = Poll::Ready(Err(ErrorKind::ConnectionReset));
        assert_eq!(poll_write(&mut io, cx), failed);
        assert_eq!(poll_write(&mut io, cx), failed);
    }
}
