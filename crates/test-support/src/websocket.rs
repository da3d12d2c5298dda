//! WebSocket frames (RFC 6455 §5), a handshake with a fixed key, and a service that echoes frames.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::raw;

/// The first byte of a text message in one frame.
pub const TEXT: u8 = 0x81;
/// The first byte of a binary message in one frame.
pub const BINARY: u8 = 0x82;
/// The first byte of a frame that closes the WebSocket.
pub const CLOSE: u8 = 0x88;
/// The first byte of a ping.
pub const PING: u8 = 0x89;

/// The headers of a handshake, with the key of RFC 6455 §1.3.
pub const HANDSHAKE: &str = "connection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// The answer to [`HANDSHAKE`], without the empty line at its end.
pub const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
     upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

/// A frame. In memory, the payload is not masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The first byte: flags and opcode.
    pub first: u8,
    /// Whether the payload is masked on the connection.
    pub is_masked: bool,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Creates a frame of a client.
    pub fn masked(first: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { first, is_masked: true, payload: payload.into() }
    }

    /// Creates a frame of a service.
    pub fn plain(first: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { first, is_masked: false, payload: payload.into() }
    }

    /// Returns the status code of a close frame.
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk().copied().map(u16::from_be_bytes);
        code.filter(|_| self.first == CLOSE)
    }

    /// Returns the bytes of the frame.
    pub fn to_bytes(&self) -> Vec<u8> {
        const MASK: [u8; 4] = [0x12, 0x88, 0xff, 0x07];
        let bit = if self.is_masked { 0x80 } else { 0 };
        let length = self.payload.len();
        let mut bytes = vec![self.first];
        match u16::try_from(length) {
            Ok(short @ ..=125) => bytes.push(bit | short as u8),
            Ok(middle) => {
                bytes.push(bit | 126);
                bytes.extend(middle.to_be_bytes());
            }
            Err(_) => {
                bytes.push(bit | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if self.is_masked {
            bytes.extend(MASK);
            bytes.extend(
                self.payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask),
            );
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }

    /// Reads a frame. Returns `None` if the stream ends before its first byte.
    ///
    /// # Errors
    /// Returns the error of the stream, or `UnexpectedEof` if the stream ends inside of a frame.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut first = [0];
        if stream.read(&mut first).await? == 0 {
            return Ok(None);
        }
        let length = stream.read_u8().await?;
        let is_masked = length & 0x80 != 0;
        let length = match length & 0x7f {
            126 => stream.read_u16().await?.into(),
            127 => stream.read_u64().await?,
            short => short.into(),
        };
        let mut mask = [0; 4];
        if is_masked {
            stream.read_exact(&mut mask).await?;
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        Ok(Some(Self { first: first[0], is_masked, payload }))
    }

    /// Writes the frame.
    ///
    /// # Errors
    /// Returns the error of the stream.
    pub async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        stream.write_all(&self.to_bytes()).await?;
        stream.flush().await
    }
}

/// Accepts a handshake, and then sends each received frame back. After a close frame, or when the client closes the
/// connection, returns the head of the handshake and the received frames.
///
/// # Panics
/// This function panics if there is no handshake.
pub async fn echo(stream: TcpStream) -> (String, Vec<Frame>) {
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    let head = raw::head(&mut stream).await;
    stream.get_mut().write_all(format!("{ACCEPTED}\r\n").as_bytes()).await.unwrap();
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = Frame::read(&mut stream).await {
        let echo = Frame::plain(frame.first, frame.payload.clone());
        let is_close = frame.first == CLOSE;
        frames.push(frame);
        if echo.write(stream.get_mut()).await.is_err() || is_close {
            break;
        }
    }
    (head, frames)
}
