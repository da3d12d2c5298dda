//! Copies the small slices of a vectored write into one buffer, and writes this buffer. hyper passes the head of a
//! message and its body as two slices. For small slices, a vectored write takes longer than a copy and a plain write
//! (`benches/choices.md`).

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};

/// If the slices together have more bytes than this, they are not copied: a vectored write is then faster.
const MAX_COPY: usize = 4096;

/// Wraps the connection `T`.
#[derive(Debug)]
pub(crate) struct CoalesceWrites<T> {
    io: T,
    progress: Option<Arc<WriteProgress>>,
}

/// Records whether the peer accepts bytes. hyper does not report this.
#[derive(Debug, Default)]
pub(crate) struct WriteProgress {
    is_blocked: AtomicBool,
    completed: AtomicU64,
}

#[cfg(feature = "proxy")]
impl WriteProgress {
    /// Returns whether the last write, flush or shutdown is pending. The usual cause is a peer that does not accept
    /// bytes.
    pub(crate) fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }

    /// Returns the number of completed writes, flushes and shutdowns. If this number has not changed and `is_blocked`
    /// is true, no bytes were written in the meantime.
    pub(crate) fn completed(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }
}

impl<T> CoalesceWrites<T> {
    #[cfg(feature = "tls")]
    pub(crate) fn new(io: T) -> Self {
        Self { io, progress: None }
    }

    /// Records in `progress` whether writes complete or block.
    #[cfg(feature = "proxy")]
    pub(crate) fn with_progress(io: T, progress: Arc<WriteProgress>) -> Self {
        Self { io, progress: Some(progress) }
    }

    fn record<R>(&self, written: Poll<R>) -> Poll<R> {
        if let Some(WriteProgress { is_blocked, completed }) = self.progress.as_deref() {
            is_blocked.store(written.is_pending(), Ordering::Relaxed);
            if written.is_ready() {
                // Only this connection changes the counter, so it needs no atomic increment.
                let count = completed.load(Ordering::Relaxed);
                completed.store(count.wrapping_add(1), Ordering::Relaxed);
            }
        }
        written
    }
}

thread_local! {
    /// All connections of a thread use the same buffer.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Copies `slices` into `buffer`. Returns `false` if they have more than [`MAX_COPY`] bytes together.
fn coalesce(slices: &[IoSlice<'_>], buffer: &mut Vec<u8>) -> bool {
    buffer.clear();
    slices.iter().all(|slice| {
        let fits = slice.len() <= MAX_COPY - buffer.len();
        if fits {
            buffer.extend_from_slice(slice);
        }
        fits
    })
}

impl<T: Write + Unpin> Write for CoalesceWrites<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.record(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [slice] = slices {
            return self.poll_write(cx, slice);
        }
        let mut buffer = BUFFER.take();
        let written = if coalesce(slices, &mut buffer) {
            self.poll_write(cx, &buffer)
        } else {
            let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
            self.record(written)
        };
        BUFFER.set(buffer);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.record(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.io).poll_shutdown(cx);
        self.record(shut_down)
    }
}

impl<T: Read + Unpin> Read for CoalesceWrites<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_slices_are_joined_and_large_ones_are_not() {
        let large = vec![b'x'; MAX_COPY];
        let small = &large[..MAX_COPY - 4];
        let cases: [(&[&[u8]], Option<usize>); 7] = [
            (&[], Some(0)),
            (&[b"head"], Some(4)),
            (&[&large, b""], Some(MAX_COPY)),
            (&[b"head", small], Some(MAX_COPY)),
            (&[b"head", small, b"x"], None),
            (&[b"head", &large], None),
            (&[&large, &large], None),
        ];
        for (parts, want) in cases {
            let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
            let mut buffer = b"left over".to_vec();
            let got = coalesce(&slices, &mut buffer).then_some(&buffer[..]);
            assert_eq!(got.map(<[u8]>::len), want);
            assert!(got.is_none_or(|got| *got == *parts.concat()));
        }
    }
}
