//! The end of a connection that is refused.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};

/// How long the client has at the most to take what it was told, and to close.
const LONGEST: Duration = Duration::from_secs(1);

/// How much of what the client still sends is read, in bytes, up to a piece more: a request, and the
/// beginning of its body.
const MOST: usize = 64 * 1024;

/// Closes a connection so that what was written last arrives: nothing more is written, and what the
/// client still sends is read and thrown away until it closes too, for `time_left` at the most.
///
/// Who closes with something unread sends a reset (RFC 1122 §4.2.2.13). It ends what the client is
/// still writing, and may take from it what it has not read yet. Therefore these stages (RFC 9112
/// §9.6).
pub(super) async fn lingering_close<T>(mut connection: T, time_left: Duration)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let closed = async {
        poll_fn(|cx| Pin::new(&mut connection).poll_shutdown(cx)).await?;
        let mut discarded = 0;
        while discarded < MOST {
            match discard(&mut connection).await? {
                0 => break,
                read => discarded += read,
            }
        }
        io::Result::Ok(())
    };
    // More cannot be done for it, whether it took what it was told or not.
    let _ = timeout(time_left.min(LONGEST), closed).await;
}

/// Reads a piece and says how long it was. As long as there is nothing to read, no room is held.
async fn discard<T: AsyncRead + Unpin>(connection: &mut T) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut room = [0; 4096];
        let mut piece = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut *connection).poll_read(cx, &mut piece))?;
        Poll::Ready(Ok(piece.filled().len()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::Instant,
    };

    use super::*;

    /// How long the lingering_close takes from a client that sends so many bytes, and then closes or not.
    async fn lasts(sent: usize, closes: bool, time_left: Duration) -> Duration {
        let (mut server, mut client) = duplex(2 * MOST);
        server.write_all(b"alert").await.unwrap();
        client.write_all(&vec![0; sent]).await.unwrap();
        let began = Instant::now();
        let client = async {
            let mut told = String::new();
            client.read_to_string(&mut told).await.unwrap();
            assert_eq!(told, "alert");
            (!closes).then_some(client)
        };
        let (_stays, took) = tokio::join!(client, async {
            lingering_close(server, time_left).await;
            began.elapsed()
        });
        took
    }

    #[tokio::test(start_paused = true)]
    async fn it_lasts_until_the_client_closes_or_takes_too_much() {
        const LONG: Duration = Duration::from_secs(10);
        const SHORT: Duration = Duration::from_millis(300);
        for (sent, closes, time_left, want) in [
            (0, true, LONG, Duration::ZERO),
            (MOST - 1, true, LONG, Duration::ZERO),
            (0, false, LONG, LONGEST),
            (0, false, SHORT, SHORT),
            (MOST - 1, false, LONG, LONGEST),
            (MOST, false, LONG, Duration::ZERO),
        ] {
            let took = lasts(sent, closes, time_left).await;
            // A timer of tokio has whole milliseconds.
            let want = want..=want + Duration::from_millis(1);
            assert!(want.contains(&took), "{sent}, {closes}, {time_left:?}: {took:?}");
        }
    }
}
