//! Closes a connection so that the client can still read the last bytes that were sent: a response, or the TLS alert
//! after a failed handshake.

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

/// Limits for a close: how long the server waits until the client closes its side, and how many bytes the server
/// discards meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct LingerLimits {
    pub(super) total: Duration,
    /// The maximum time between two pieces that the client sends.
    pub(super) pause: Duration,
    /// The server closes the connection after it has discarded this many bytes of the client.
    pub(super) bytes: usize,
}

/// First the server closes its sending side. Then it reads and discards everything that the client still sends. The
/// connection is closed when the client closes its side, or when the first of the `limits` is reached.
///
/// Closing a connection with unread bytes would send a reset (RFC 1122 §4.2.2.13). A reset may delete bytes
/// that the client has not read yet. Therefore the connection is closed in stages (RFC 9112 §9.6).
pub(super) async fn lingering_close<T>(mut connection: T, limits: LingerLimits)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let closed = async {
        poll_fn(|cx| Pin::new(&mut connection).poll_shutdown(cx)).await?;
        let mut discarded = 0;
        while discarded < limits.bytes {
            match timeout(limits.pause, discard(&mut connection)).await?? {
                0 => break,
                read => discarded += read,
            }
        }
        io::Result::Ok(())
    };
    let _ = timeout(limits.total, closed).await;
}

/// Reads a chunk and returns its length. The buffer exists only during a poll, and not while the connection
/// waits.
async fn discard<T: AsyncRead + Unpin>(connection: &mut T) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut buffer = [0; 16 * 1024];
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
        time::{Instant, sleep},
    };

    use super::*;

    const LIMITS: LingerLimits = LingerLimits {
        total: Duration::from_secs(9),
        pause: Duration::from_secs(2),
        bytes: 64 * 1024,
    };

    #[derive(Debug)]
    enum Client {
        /// Sends this many bytes, and closes the connection.
        Closes(usize),
        /// Sends this many bytes, and keeps the connection open.
        Stalls(usize),
        /// Sends one byte each second.
        Drips,
    }

    async fn duration(client: &Client) -> Duration {
        let (mut server, mut stream) = duplex(2 * LIMITS.bytes);
        server.write_all(b"alert").await.unwrap();
        if let Client::Closes(sent) | Client::Stalls(sent) = client {
            stream.write_all(&vec![0; *sent]).await.unwrap();
        }
        let began = Instant::now();
        let running = async {
            let mut received = String::new();
            stream.read_to_string(&mut received).await.unwrap();
            assert_eq!(received, "alert");
            match client {
                Client::Closes(_) => None,
                Client::Stalls(_) => Some(stream),
                Client::Drips => {
                    while stream.write_all(b"x").await.is_ok() {
                        sleep(Duration::from_secs(1)).await;
                    }
                    None
                }
            }
        };
        let (_stays_open, took) = tokio::join!(running, async {
            lingering_close(server, LIMITS).await;
            began.elapsed()
        });
        took
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_is_closed_when_the_client_closes_or_at_a_limit() {
        for (client, want) in [
            (Client::Closes(0), Duration::ZERO),
            (Client::Closes(LIMITS.bytes - 1), Duration::ZERO),
            (Client::Stalls(0), LIMITS.pause),
            (Client::Stalls(LIMITS.bytes - 1), LIMITS.pause),
            (Client::Stalls(LIMITS.bytes), Duration::ZERO),
            (Client::Drips, LIMITS.total),
        ] {
            let took = duration(&client).await;
            // tokio's timer has a resolution of one millisecond.
            let want = want..=want + Duration::from_millis(2);
            assert!(want.contains(&took), "{client:?}: {took:?}");
        }
    }
}
