//! Small writes in one piece.
//!
//! hyper hands over the head of a message and its body as two pieces. For the kernel a list of pieces
//! costs more than one piece does (`benches/choices.md`), so what is small is put together first.

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

/// What is larger is cheaper to leave where it is.
const SMALL: usize = 4096;

/// Writes to `T`.
#[derive(Debug)]
pub(crate) struct CoalesceWrites<T> {
    io: T,
    writing: Option<Arc<Writing>>,
}

/// How writing gets on: hyper does not say.
#[derive(Debug, Default)]
pub(crate) struct Writing {
    is_stuck: AtomicBool,
    taken: AtomicU64,
}

#[cfg(feature = "proxy")]
impl Writing {
    /// Whether something waits until the peer takes it.
    pub(crate) fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Relaxed)
    }

    /// Another number whenever something was taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl<T> CoalesceWrites<T> {
    #[cfg(feature = "tls")]
    pub(crate) fn new(io: T) -> Self {
        Self { io, writing: None }
    }

    /// Tells in `writing` how it gets on.
    #[cfg(feature = "proxy")]
    pub(crate) fn telling(io: T, writing: Arc<Writing>) -> Self {
        Self { io, writing: Some(writing) }
    }

    fn tell<R>(&self, written: Poll<R>) -> Poll<R> {
        if let Some(Writing { is_stuck, taken }) = self.writing.as_deref() {
            is_stuck.store(written.is_pending(), Ordering::Relaxed);
            if written.is_ready() {
                // Nobody else counts.
                taken.store(taken.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            }
        }
        written
    }
}

thread_local! {
    /// Where pieces are put together, for each write anew.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Puts all of `pieces` into `room`, unless they are too large.
fn gather(pieces: &[IoSlice<'_>], room: &mut Vec<u8>) -> bool {
    room.clear();
    pieces.iter().all(|piece| {
        let fits = piece.len() <= SMALL - room.len();
        if fits {
            room.extend_from_slice(piece);
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
        self.tell(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [piece] = pieces {
            return self.poll_write(cx, piece);
        }
        let mut room = ROOM.take();
        let written = if gather(pieces, &mut room) {
            self.poll_write(cx, &room)
        } else {
            let written = Pin::new(&mut self.io).poll_write_vectored(cx, pieces);
            self.tell(written)
        };
        ROOM.set(room);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.tell(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.io).poll_shutdown(cx);
        self.tell(shut_down)
    }
}

impl<T: Read + Unpin> Read for CoalesceWrites<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_become_one_and_large_ones_stay() {
        let large = vec![b'x'; SMALL];
        let small = &large[..SMALL - 4];
        let cases: [(&[&[u8]], Option<usize>); 7] = [
            (&[], Some(0)),
            (&[b"head"], Some(4)),
            (&[&large, b""], Some(SMALL)),
            (&[b"head", small], Some(SMALL)),
            (&[b"head", small, b"x"], None),
            (&[b"head", &large], None),
            (&[&large, &large], None),
        ];
        for (pieces, want) in cases {
            let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut room = b"left over".to_vec();
            let got = gather(&slices, &mut room).then_some(&room[..]);
            assert_eq!(got.map(<[u8]>::len), want);
            assert!(got.is_none_or(|got| *got == *pieces.concat()));
        }
    }
}
