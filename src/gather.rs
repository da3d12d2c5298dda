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
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};

/// What is larger is cheaper to leave where it is.
const SMALL: usize = 4096;

/// Writes to `T`.
#[derive(Debug)]
pub(crate) struct Gather<T> {
    io: T,
    /// Whether something waits until `T` takes it.
    is_stuck: Option<Arc<AtomicBool>>,
}

impl<T> Gather<T> {
    #[cfg(feature = "tls")]
    pub(crate) fn new(io: T) -> Self {
        Self { io, is_stuck: None }
    }

    /// Tells in `is_stuck` whether something waits until `io` takes it: hyper does not say.
    #[cfg(feature = "proxy")]
    pub(crate) fn telling(io: T, is_stuck: Arc<AtomicBool>) -> Self {
        Self { io, is_stuck: Some(is_stuck) }
    }

    fn tell<R>(&self, written: Poll<R>) -> Poll<R> {
        if let Some(is_stuck) = &self.is_stuck {
            is_stuck.store(written.is_pending(), Ordering::Relaxed);
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

impl<T: Write + Unpin> Write for Gather<T> {
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
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<T: Read + Unpin> Read for Gather<T> {
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
