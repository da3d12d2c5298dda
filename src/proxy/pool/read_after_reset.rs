//! What a service has said before it hung up.
//!
//! A service may answer an upload before it has read it, and hang up at once. Then the connection is
//! reset (RFC 9112 §9.6), and to write to it fails, but what the service has said can still be read.
//! hyper gives up as soon as a write fails. So here a write that finds a reset waits, as it does where
//! a service takes nothing more, and the reset is told when nothing is left to read.

use std::{
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

/// Read at once after a reset.
const PIECE: usize = 8192;

/// A connection to a service, on `T`.
#[derive(Debug)]
pub(super) struct ReadAfterReset<T, L> {
    io: T,
    listens: L,
    writing: Writing,
}

#[derive(Clone, Copy, Debug)]
enum Writing {
    Open,
    /// For the end of what can be read.
    Waits(ErrorKind),
    /// That has come.
    Fails(ErrorKind),
}

impl<T: Unpin, L: Fn() -> bool> ReadAfterReset<T, L> {
    /// Where nobody `listens` to the service any more, a write does not wait.
    pub(super) fn new(io: T, listens: L) -> Self {
        Self { io, listens, writing: Writing::Open }
    }

    fn poll_written<R>(
        &mut self,
        write: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let reset = match self.writing {
            Writing::Open => match write(Pin::new(&mut self.io)) {
                Poll::Ready(Err(error)) if is_reset(error.kind()) => error.kind(),
                written => return written,
            },
            Writing::Waits(reset) => reset,
            Writing::Fails(reset) => return Poll::Ready(Err(reset.into())),
        };
        self.writing = Writing::Waits(reset);
        if (self.listens)() {
            // Whoever reads is called: to them too a reset is the end.
            Poll::Pending
        } else {
            Poll::Ready(Err(reset.into()))
        }
    }
}

/// Whether nothing goes either way any more.
fn is_reset(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
    )
}

impl<T: Read + Unpin, L> ReadAfterReset<T, L> {
    #[cold]
    fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        mut room: ReadBufCursor<'_>,
        reset: ErrorKind,
    ) -> Poll<io::Result<()>> {
        let mut piece = [0; PIECE];
        let mut piece = ReadBuf::new(&mut piece[..room.remaining().min(PIECE)]);
        let end = ready!(Pin::new(&mut self.io).poll_read(cx, piece.unfilled()));
        if !piece.filled().is_empty() {
            room.put_slice(piece.filled());
            return Poll::Ready(Ok(()));
        }
        self.writing = Writing::Fails(reset);
        Poll::Ready(match (reset, end) {
            // The service had said that this is the end, and was reset after that: Linux tells it by
            // this error. An answer may have no other end (RFC 9112 §6.3).
            (ErrorKind::BrokenPipe, Ok(())) => Ok(()),
            _ => Err(reset.into()),
        })
    }
}

impl<T: Write + Unpin, L: Fn() -> bool + Unpin> Write for ReadAfterReset<T, L> {
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
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_written(|io| io.poll_write_vectored(cx, pieces))
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

impl<T: Read + Unpin, L: Unpin> Read for ReadAfterReset<T, L> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.writing {
            Writing::Waits(reset) => self.poll_rest(cx, room, reset),
            Writing::Open | Writing::Fails(_) => Pin::new(&mut self.io).poll_read(cx, room),
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
    fn a_reset_is_told_when_nothing_is_left_to_read() {
        use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        for (reset, found, want) in [
            (ConnectionReset, None, Err(ConnectionReset)),
            (ConnectionAborted, None, Err(ConnectionAborted)),
            (BrokenPipe, None, Ok(Vec::new())),
            // As of TLS that has not ended as it should.
            (ConnectionReset, Some(UnexpectedEof), Err(ConnectionReset)),
            (BrokenPipe, Some(UnexpectedEof), Err(BrokenPipe)),
        ] {
            let mut script = Builder::new();
            script.write(b"more").write_error(reset.into()).read(b"answer");
            if let Some(found) = found {
                script.read_error(found.into());
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
            assert_eq!(poll_read(&mut io, cx), Poll::Ready(want), "{reset:?}, {found:?}");
            assert_eq!(poll_write(&mut io, cx), Poll::Ready(Err(reset)));
            assert_eq!(poll_read(&mut io, cx), Poll::Ready(Ok(Vec::new())));
        }
    }

    #[test]
    fn what_is_not_a_reset_or_is_not_listened_to_is_told_at_once() {
        use ErrorKind::{ConnectionReset, OutOfMemory};
        for (listens, failure) in
            [(true, OutOfMemory), (false, OutOfMemory), (false, ConnectionReset)]
        {
            let script = Builder::new().write_error(failure.into()).build();
            let mut io = ReadAfterReset::new(TokioIo::new(script), || listens);
            let cx = &mut Context::from_waker(Waker::noop());
            assert_eq!(poll_write(&mut io, cx), Poll::Ready(Err(failure)));
        }
    }

    #[test]
    fn who_stops_listening_is_told_as_well() {
        let listens = Cell::new(true);
        let script = Builder::new().write_error(ErrorKind::ConnectionReset.into()).build();
        let mut io = ReadAfterReset::new(TokioIo::new(script), || listens.get());
        let cx = &mut Context::from_waker(Waker::noop());
        assert_eq!(poll_write(&mut io, cx), Poll::Pending);
        listens.set(false);
        let told = Poll::Ready(Err(ErrorKind::ConnectionReset));
        assert_eq!(poll_write(&mut io, cx), told);
        assert_eq!(poll_write(&mut io, cx), told);
    }
}
