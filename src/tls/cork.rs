//! Puts off what is written until the peer is waited for.
//!
//! A TLS handshake ends with session tickets that nobody waits for. Written by themselves they cost a
//! system call, a segment and often a wake-up of the peer, which is a good part of what a handshake
//! costs beside its cryptography (`benches/choices.md`); mostly the first request is already here, and
//! they can go with its answer.

use std::{
    io::{self, IoSlice},
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is put off at the most, in bytes.
const MOST: usize = 16 * 1024;

/// Writes to `S`.
///
/// While corked it writes when a read finds nothing, and not when it is flushed. So whoever writes,
/// flushes, and then waits for an answer may use it; whoever waits for something else may not.
#[derive(Debug)]
pub(super) struct Cork<S> {
    io: S,
    is_corked: bool,
    /// Written by our user and not by us.
    kept: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Cork<S> {
    /// Corked.
    pub(super) fn new(io: S) -> Self {
        Self { io, is_corked: true, kept: Vec::new() }
    }

    /// From now on a flush is one, and a read no more than that. What is kept goes with what is
    /// written next.
    pub(super) fn uncork(&mut self) {
        self.is_corked = false;
    }

    fn keep(&mut self, pieces: &[IoSlice<'_>]) -> Option<usize> {
        if !self.is_corked && self.kept.is_empty() {
            return None;
        }
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let fits = length <= MOST - self.kept.len();
        fits.then(|| {
            pieces.iter().for_each(|piece| self.kept.extend_from_slice(piece));
            length
        })
    }

    fn poll_write_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.kept))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.kept.drain(..written);
        }
        // A connection lasts longer than its handshake.
        mem::take(&mut self.kept);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Cork<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, room);
        if read.is_pending()
            && self.is_corked
            && let Poll::Ready(Err(error)) = self.poll_write_kept(cx)
        {
            return Poll::Ready(Err(error));
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Cork<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(length) = self.keep(pieces) {
            return Poll::Ready(Ok(length));
        }
        ready!(self.poll_write_kept(cx))?;
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_corked {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_write_kept(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_kept(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Finds nothing to read; takes so many bytes, and then no more.
    #[derive(Default)]
    struct Peer {
        room: usize,
        written: Vec<String>,
    }

    impl AsyncRead for Peer {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Peer {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Poll::Pending;
            }
            self.room -= taken;
            self.written.push(String::from_utf8(bytes[..taken].to_vec()).unwrap());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.written.push("the end".to_owned());
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Write(&'static str),
        WriteMuch,
        Flush,
        Read,
        Uncork,
        Room(usize),
        Shutdown,
    }

    #[test]
    fn what_is_written_when() {
        use Step::{Flush, Read, Room, Shutdown, Uncork, Write, WriteMuch};
        let cases: [(&[Step], &[&str]); 11] = [
            (&[Write("hello"), Flush], &[]),
            (&[Write("hel"), Write("lo"), Flush, Read], &["hello"]),
            (&[Write("hello"), Read, Write("again"), Flush, Read], &["hello", "again"]),
            (&[Write("tickets"), Flush, Uncork, Read], &[]),
            (&[Write("tickets"), Flush, Uncork, Flush], &["tickets"]),
            (
                &[Write("tickets, "), Flush, Uncork, Read, Write("answer"), Flush],
                &["tickets, answer"],
            ),
            (&[Write("tickets"), Uncork, Flush, Write("answer")], &["tickets", "answer"]),
            (&[Uncork, Write("answer")], &["answer"]),
            (&[Write("alert"), Shutdown], &["alert", "the end"]),
            (&[Write("hello"), Room(3), Read, Room(2), Read, Read], &["hel", "lo"]),
            (&[Write("hello"), WriteMuch, Read], &["hello", "much"]),
        ];
        let much = "x".repeat(MOST);
        for (steps, want) in cases {
            let mut cork = Cork::new(Peer { room: usize::MAX, ..Peer::default() });
            let cx = &mut Context::from_waker(Waker::noop());
            for step in steps {
                let mut cork = Pin::new(&mut cork);
                match step {
                    Write(text) => {
                        let written = cork.poll_write(cx, text.as_bytes());
                        assert!(matches!(written, Poll::Ready(Ok(n)) if n == text.len()));
                    }
                    WriteMuch => assert!(cork.poll_write(cx, much.as_bytes()).is_ready()),
                    Flush => assert!(cork.poll_flush(cx).is_ready()),
                    Read => assert!(cork.poll_read(cx, &mut ReadBuf::new(&mut [])).is_pending()),
                    Uncork => cork.uncork(),
                    Room(bytes) => cork.io.room = *bytes,
                    Shutdown => assert!(cork.poll_shutdown(cx).is_ready()),
                }
            }
            let written: Vec<_> =
                cork.io.written.iter().map(|w| if *w == much { "much" } else { w }).collect();
            assert_eq!(written, want, "{steps:?}");
        }
    }
}
