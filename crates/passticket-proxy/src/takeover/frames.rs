//! Sends and receives the messages of a takeover. A message consists of its kind (one byte), the length of its text
//! (four bytes, big endian), and its text.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
    time::timeout,
};
use tower_passticket::revocation::StoreError;

/// The maximum length of a text. The used time slots need up to 6 MB, the failed logins up to 30 MB, and the
/// registry of services up to 16 MB.
const MAX_TEXT: u32 = 64 * 1024 * 1024;

/// The maximum number of listening sockets: the port of the gateway, the admin port, and the port for gateways of API
/// ML.
const MAX_SOCKETS: usize = 3;

/// The kind of a message, see the [module](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hello,
    Listeners,
    Prepared,
    State,
    Opened,
    Go,
    Serving,
    /// The sender aborts the takeover. The text says why.
    GivenUp,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Hello,
        Self::Listeners,
        Self::Prepared,
        Self::State,
        Self::Opened,
        Self::Go,
        Self::Serving,
        Self::GivenUp,
    ];
}

/// The reason why a step of a takeover failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error("the other process did not answer within {} s", .0.as_secs())]
    Deadline(Duration),
    #[error("the other process has ended the takeover: {0}")]
    Ended(io::Error),
    #[error("the other process aborted the takeover: {0}")]
    GivenUp(String),
    #[error(
        "the other process uses another takeover protocol; stop the running gateway, and start without --takeover"
    )]
    Protocol,
    /// The revocation file could not be closed for the new process. For example, some revocations could not be written,
    /// so the new process would not know them.
    #[error("the revocation file cannot be handed over: {0}")]
    Store(#[from] StoreError),
}

impl From<io::Error> for StepError {
    fn from(error: io::Error) -> Self {
        Self::Ended(error)
    }
}

pub(super) async fn send(
    stream: &mut UnixStream,
    kind: Kind,
    text: &str,
    deadline: Duration,
) -> Result<(), StepError> {
    let len = u32::try_from(text.len()).ok().filter(|len| *len <= MAX_TEXT);
    let len = len.ok_or(StepError::Protocol)?;
    let mut bytes = vec![kind as u8];
    bytes.extend(len.to_be_bytes());
    bytes.extend(text.as_bytes());
    within(deadline, stream.write_all(&bytes)).await
}

/// Receives a message of the kind `want`, and returns its text.
pub(super) async fn receive(
    stream: &mut UnixStream,
    want: Kind,
    deadline: Duration,
) -> Result<String, StepError> {
    within(deadline, read(stream, want)).await
}

async fn read(stream: &mut UnixStream, want: Kind) -> Result<String, StepError> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).await?;
    let [kind, len @ ..] = head;
    let len = u32::from_be_bytes(len);
    let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind);
    let Some(kind) = kind.filter(|_| len <= MAX_TEXT) else { return Err(StepError::Protocol) };
    // The buffer grows with the bytes that arrive, not with the length that the other process claims.
    let mut text = Vec::new();
    let read = stream.take(len.into()).read_to_end(&mut text).await?;
    if read < len as usize {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let text = String::from_utf8(text).map_err(|_| StepError::Protocol)?;
    match kind {
        Kind::GivenUp => Err(StepError::GivenUp(text)),
        kind if kind == want => Ok(text),
        _ => Err(StepError::Protocol),
    }
}

pub(super) async fn send_sockets(
    stream: &UnixStream,
    sockets: &[BorrowedFd<'_>],
    deadline: Duration,
) -> Result<(), StepError> {
    let sending = stream.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(stream.as_fd(), &[IoSlice::new(b"S")], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    });
    within(deadline, sending).await
}

/// Receives the sockets of [`send_sockets`]. Processes that this process starts do not inherit them.
pub(super) async fn receive_sockets(
    stream: &UnixStream,
    deadline: Duration,
) -> Result<Vec<OwnedFd>, StepError> {
    let receiving = stream.async_io(Interest::READABLE, || {
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            stream.as_fd(),
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                sockets.extend(received);
            }
        }
        Ok(sockets)
    });
    within(deadline, receiving).await
}

async fn within<T, E: Into<StepError>>(
    deadline: Duration,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, StepError> {
    let done = timeout(deadline, step).await.map_err(|_| StepError::Deadline(deadline))?;
    done.map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn messages_and_sockets_arrive() {
        let (mut one, mut two) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        send(&mut one, Kind::Listeners, "text", SECOND).await.unwrap();
        send_sockets(&one, &[listener.as_fd()], SECOND).await.unwrap();
        send(&mut one, Kind::State, "", SECOND).await.unwrap();
        drop(listener);
        assert_eq!(receive(&mut two, Kind::Listeners, SECOND).await.unwrap(), "text");
        let sockets = receive_sockets(&two, SECOND).await.unwrap();
        assert_eq!(receive(&mut two, Kind::State, SECOND).await.unwrap(), "");
        let [socket] = sockets.try_into().unwrap();
        let received = TcpListener::from(socket);
        assert_eq!(received.local_addr().unwrap(), address);
        let _client = TcpStream::connect(address).unwrap();
        received.accept().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn each_problem_of_the_other_process_has_its_error() {
        let (mut one, mut two) = UnixStream::pair().unwrap();
        let silent = receive(&mut two, Kind::Go, SECOND).await;
        assert!(matches!(silent, Err(StepError::Deadline(_))), "{silent:?}");
        send(&mut one, Kind::GivenUp, "why", SECOND).await.unwrap();
        let given_up = receive(&mut two, Kind::Go, SECOND).await;
        assert!(matches!(&given_up, Err(StepError::GivenUp(why)) if why == "why"), "{given_up:?}");
        send(&mut one, Kind::Hello, "", SECOND).await.unwrap();
        let other = receive(&mut two, Kind::Go, SECOND).await;
        assert!(matches!(other, Err(StepError::Protocol)), "{other:?}");
        for bytes in [&[99, 0, 0, 0, 0][..], &[0, 255, 0, 0, 0]] {
            one.write_all(bytes).await.unwrap();
            let malformed = receive(&mut two, Kind::Hello, SECOND).await;
            assert!(matches!(malformed, Err(StepError::Protocol)), "{malformed:?}");
        }
        one.write_all(&[0, 0, 0, 0, 9, b'x']).await.unwrap();
        drop(one);
        let ended = receive(&mut two, Kind::Hello, SECOND).await;
        assert!(matches!(ended, Err(StepError::Ended(_))), "{ended:?}");
    }
}
