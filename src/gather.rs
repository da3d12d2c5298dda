//! Small writes in one piece.
//!
//! hyper hands over the head of a message and its body as two pieces. For the kernel a list of pieces
//! costs more than one piece does (`benches/choices.md`), so what is small is put together first.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};

/// What is larger is cheaper to leave where it is.
const SMALL: usize = 4096;

/// Writes to `T`.
#[derive(Debug)]
pub(crate) struct Gather<T>(pub(crate) T);

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
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [piece] = pieces {
            return self.poll_write(cx, piece);
        }
        ROOM.with_borrow_mut(|room| {
            if gather(pieces, room) {
                self.poll_write(cx, room)
            } else {
                Pin::new(&mut self.0).poll_write_vectored(cx, pieces)
            }
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl<T: Read + Unpin> Read for Gather<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, room)
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
