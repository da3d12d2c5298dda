//! The I/O of an HTTP/2 connection: counts reads, and can be closed from outside.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use atomic_waker::AtomicWaker;
use hyper::rt::{Read, ReadBufCursor, Write};

/// The state that the I/O and the owner of the connection share.
#[derive(Debug, Default)]
pub(super) struct IoControl {
    received: AtomicU64,
    is_closed: AtomicBool,
    waker: AtomicWaker,
}

impl IoControl {
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Makes each later read and write fail. hyper then drops the connection, even if the service takes no more bytes.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.waker.register(cx.waker());
        if self.is_closed.load(Ordering::Acquire) {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the service did not close the connection in time",
            ));
        }
        Ok(())
    }
}

/// A connection `T` that its owner can close.
pub(super) struct Http2Io<T> {
    io: T,
    control: Arc<IoControl>,
}

impl<T> Http2Io<T> {
    pub(super) fn new(io: T, control: Arc<IoControl>) -> Self {
        Self { io, control }
    }
}

impl<T: Read + Unpin> Read for Http2Io<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.control.check(cx)?;
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if read.is_ready() {
            self.control.received.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}

impl<T: Write + Unpin> Write for Http2Io<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.control.check(cx)?;
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.control.check(cx)?;
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.control.check(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.control.check(cx)?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
