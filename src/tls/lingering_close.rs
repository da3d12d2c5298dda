//! Closes a connection after a failed TLS handshake, so that the client can still read the TLS alert.

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

/// The client must read the last bytes and close its side within this time.
const MAX_TIME: Duration = Duration::from_secs(1);

/// The server closes the connection after it has discarded this many bytes of the client. This is enough for
/// the head of a request and the beginning of its body.
const MAX_DISCARD: usize = 64 * 1024;

/// Closes a connection so that the client can still read the last bytes.
///
/// First the write side is shut down. Then everything that the client still sends is read and discarded.
/// The connection is closed when the client closes its side, when the client has sent too much, or when
/// `time_left` or one second is over.
///
/// Closing a connection with unread bytes would send a reset (RFC 1122 §4.2.2.13). A reset may delete bytes
/// that the client has not read yet. Therefore the connection is closed in stages (RFC 9112 §9.6).
pub(super) async fn lingering_close<T>(mut connection: T, time_left: Duration)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let closed = async {
        poll_fn(|cx| Pin::new(&mut connection).poll_shutdown(cx)).await?;
        let mut discarded = 0;
        while discarded < MAX_DISCARD {
            match discard(&mut connection).await? {
                0 => break,
                read => discarded += read,
            }
        }
        io::Result::Ok(())
    };
    // The result does not matter, because the connection is closed in any case.
    let _ = timeout(time_left.min(MAX_TIME), closed).await;
}

/// Reads a chunk and returns its length. The buffer exists only during a poll, and not while the connection
/// waits.
async fn discard<T: AsyncRead + Unpin>(connection: &mut T) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut buffer = [0; 4096];
        let mut chunk = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut *connection).poll_read(cx, &mut chunk))?;
        Poll::Ready(Ok(chunk.filled().len()))
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

    /// Returns how long the close takes. The client sends `sent` bytes. If `closes` is true, the client then
    /// closes the connection.
    async fn duration(sent: usize, closes: bool, time_left: Duration) -> Duration {
        let (mut server, mut client) = duplex(2 * MAX_DISCARD);
        server.write_all(b"alert").await.unwrap();
        client.write_all(&vec![0; sent]).await.unwrap();
        let began = Instant::now();
        let client = async {
            let mut received = String::new();
            client.read_to_string(&mut received).await.unwrap();
            assert_eq!(received, "alert");
            (!closes).then_some(client)
        };
        let (_stays_open, took) = tokio::join!(client, async {
            lingering_close(server, time_left).await;
            began.elapsed()
        });
        took
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_is_closed_when_the_client_closes_or_sends_too_much_or_at_a_timeout() {
        const LONG: Duration = Duration::from_secs(10);
        const SHORT: Duration = Duration::from_millis(300);
        for (sent, closes, time_left, want) in [
            (0, true, LONG, Duration::ZERO),
            (MAX_DISCARD - 1, true, LONG, Duration::ZERO),
            (0, false, LONG, MAX_TIME),
            (0, false, SHORT, SHORT),
            (MAX_DISCARD - 1, false, LONG, MAX_TIME),
            (MAX_DISCARD, false, LONG, Duration::ZERO),
        ] {
            let took = duration(sent, closes, time_left).await;
            // tokio's timer has a resolution of one millisecond.
            let want = want..=want + Duration::from_millis(1);
            assert!(
                want.contains(&took),
                "sent {sent}, closes {closes}, {time_left:?} left: {took:?}"
            );
        }
    }
}
