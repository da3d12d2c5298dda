//! One direction of a tunnel: reads the bytes of one side and writes them to the other side.
//!
//! While the other side accepts all bytes, they are written directly from the buffer into which they were read. All
//! tunnels of a thread share this buffer, so an idle tunnel has no buffer. Only bytes that the other side does not
//! accept are copied, and nothing is read until they are written. So a tunnel holds at most [`CHUNK`] bytes per
//! direction.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::{
    rt::{Read, ReadBuf, Write},
    upgrade::Upgraded,
};
use tokio::time::Instant;

use super::frames::FrameTracker;

/// The maximum number of bytes per read. A TLS record has at most this many bytes (RFC 8446 §5.1).
const CHUNK: usize = 16 * 1024;

thread_local! {
    /// The buffer for reads. [`with_buffer`] takes it out during a read.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The side of a tunnel whose connection has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// The side that sends the bytes of this direction.
    Source,
    /// The side that receives the bytes of this direction.
    Destination,
}

#[derive(Debug, Default)]
pub(super) struct Flow {
    /// The position in the frames of this direction. It is after the last byte that was written to the destination, or
    /// that [`poll_close`](Self::poll_close) has discarded.
    frames: FrameTracker,
    unwritten: Vec<u8>,
    must_flush: bool,
    /// Whether the source has closed its side.
    has_ended: bool,
    /// Whether the gateway has closed its side towards the destination.
    is_shut_down: bool,
    /// The time when the destination stopped accepting bytes. `None` while it accepts bytes.
    blocked_since: Option<Instant>,
    moved: u64,
    /// The close frame of the gateway, and the number of its bytes that were written. `None` if the gateway has no
    /// close frame to send.
    close: Option<(Vec<u8>, usize)>,
}

impl Flow {
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    pub(super) fn blocked_since(&self) -> Option<Instant> {
        self.blocked_since
    }

    pub(super) fn has_closed(&self) -> bool {
        self.frames.has_closed()
    }

    /// Moves bytes until the source has no more bytes at present, or the destination accepts no more. Ready when the
    /// source has closed its side and the destination has got all bytes.
    ///
    /// # Errors
    /// The side whose connection has failed.
    pub(super) fn poll_forward(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Upgraded,
        to: &mut Upgraded,
    ) -> Poll<Result<(), Failed>> {
        loop {
            ready!(self.poll_write_rest(cx, to))?;
            if self.has_ended {
                if !self.is_shut_down {
                    let shut_down = ready!(Pin::new(to).poll_shutdown(cx));
                    self.is_shut_down = true;
                    shut_down.map_err(|_| Failed::Destination)?;
                }
                return Poll::Ready(Ok(()));
            }
            let read = with_buffer(|buffer| match poll_read(cx, from, buffer) {
                Poll::Ready(Ok(0)) => {
                    self.has_ended = true;
                    Poll::Ready(Ok(()))
                }
                Poll::Ready(Ok(length)) => self.write_or_keep(cx, to, &buffer[..length]),
                Poll::Ready(Err(_)) => Poll::Ready(Err(Failed::Source)),
                Poll::Pending => Poll::Pending,
            });
            match read {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    // The destination must get these bytes now, because the source may wait for a reaction before it
                    // sends more.
                    if self.must_flush && Pin::new(to).poll_flush(cx).is_ready() {
                        self.must_flush = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Writes `bytes`, and keeps those that the destination does not accept.
    fn write_or_keep(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Upgraded,
        bytes: &[u8],
    ) -> Poll<Result<(), Failed>> {
        let mut at = 0;
        while at < bytes.len() {
            match self.poll_write(cx, to, &bytes[at..]) {
                Poll::Ready(written) => at += written?,
                Poll::Pending => {
                    self.unwritten = bytes[at..].to_vec();
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes some of `bytes`. They must directly follow the bytes that were written before.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Upgraded,
        bytes: &[u8],
    ) -> Poll<Result<usize, Failed>> {
        match Pin::new(to).poll_write(cx, bytes) {
            Poll::Ready(Ok(written)) if written > 0 => {
                self.frames.advance(&bytes[..written]);
                self.moved += written as u64;
                self.must_flush = true;
                self.blocked_since = None;
                Poll::Ready(Ok(written))
            }
            Poll::Ready(_) => Poll::Ready(Err(Failed::Destination)),
            Poll::Pending => {
                self.blocked_since.get_or_insert_with(Instant::now);
                Poll::Pending
            }
        }
    }

    fn poll_write_rest(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Upgraded,
    ) -> Poll<Result<(), Failed>> {
        while !self.unwritten.is_empty() {
            let mut rest = std::mem::take(&mut self.unwritten);
            let written = self.poll_write(cx, to, &rest);
            if let Poll::Ready(Ok(written)) = written {
                rest.drain(..written);
            }
            self.unwritten = rest;
            ready!(written)?;
        }
        // An empty vector may still own its memory.
        self.unwritten = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Sets the close frame with which [`poll_close`](Self::poll_close) ends this direction.
    pub(super) fn close_with(&mut self, frame: Vec<u8>) {
        self.close.get_or_insert((frame, 0));
    }

    /// Sends the rest of the current frame and then the close frame, unless the source has sent a close frame itself.
    /// Then reads and discards the bytes of the source until the source sends a close frame or closes its side. Ready
    /// when all of this is done, or when a connection has failed.
    pub(super) fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Upgraded,
        to: &mut Upgraded,
    ) -> Poll<()> {
        while let Some((frame, written)) = &mut self.close {
            // Before the close frame begins, the current frame must end. If `written` is not 0, the close frame has
            // begun.
            if *written == 0 && !self.frames.is_at_boundary() {
                if ready!(self.poll_finish_frame(cx, from, to)).is_err() {
                    return Poll::Ready(());
                }
            } else if *written == 0 && self.frames.has_closed() {
                // The source has closed the WebSocket itself. No frame may follow its close frame.
                self.close = None;
            } else if *written < frame.len() {
                match ready!(Pin::new(&mut *to).poll_write(cx, &frame[*written..])) {
                    Ok(more) if more > 0 => *written += more,
                    _ => return Poll::Ready(()),
                }
            } else if ready!(Pin::new(&mut *to).poll_flush(cx)).is_err() {
                return Poll::Ready(());
            } else {
                self.close = None;
            }
        }
        let unwritten = std::mem::take(&mut self.unwritten);
        self.frames.advance(&unwritten);
        while !self.has_ended && !self.frames.has_closed() {
            let read = with_buffer(|buffer| match poll_read(cx, from, buffer) {
                Poll::Ready(Ok(length)) if length > 0 => {
                    self.frames.advance(&buffer[..length]);
                    Poll::Ready(true)
                }
                Poll::Ready(_) => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            });
            self.has_ended = !ready!(read);
        }
        Poll::Ready(())
    }

    fn poll_finish_frame(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Upgraded,
        to: &mut Upgraded,
    ) -> Poll<Result<(), Failed>> {
        if self.unwritten.is_empty() {
            if self.has_ended {
                return Poll::Ready(Err(Failed::Source));
            }
            let read = with_buffer(|buffer| {
                let read = poll_read(cx, from, buffer);
                read.map(|read| {
                    read.ok().filter(|length| *length > 0).map(|length| buffer[..length].to_vec())
                })
            });
            self.unwritten = ready!(read).ok_or(Failed::Source)?;
        }
        let mut rest = std::mem::take(&mut self.unwritten);
        let length = self.frames.clone().advance_to_boundary(&rest);
        let written = self.poll_write(cx, to, &rest[..length]);
        if let Poll::Ready(Ok(written)) = written {
            rest.drain(..written);
        }
        self.unwritten = rest;
        written.map_ok(drop)
    }
}

fn with_buffer<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = BUFFER.take();
    buffer.resize(CHUNK, 0);
    let result = read(&mut buffer);
    BUFFER.set(buffer);
    result
}

/// Reads into `buffer`. Returns the number of bytes. 0 means that the source has closed its side.
fn poll_read(
    cx: &mut Context<'_>,
    from: &mut Upgraded,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(buffer);
    ready!(Pin::new(from).poll_read(cx, buffer.unfilled()))?;
    Poll::Ready(Ok(buffer.filled().len()))
}
