//! Upstreams of the comparison. `websocket` and `grpc` answer each message with the same message.
//!
//! ```text
//! echo websocket ADDRESS   binary messages of up to 125 bytes
//! echo grpc ADDRESS        unary calls, over HTTP/2 without TLS
//! echo upload ADDRESS      requests of HTTP/1.1 with a Content-Length. The answer is 200, after the whole body
//! ```
//!
//! Without arguments the program does nothing, so that `cargo test --benches` can run it.

use std::error::Error;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

type Failure = Box<dyn Error + Send + Sync>;

/// The answer to the key `dGhlIHNhbXBsZSBub25jZQ==`, which the load generator sends (RFC 6455 §1.3).
const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [kind, address] = &args[..] else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            match kind.as_str() {
                "websocket" => tokio::spawn(async { drop(websocket(stream).await) }),
                "grpc" => tokio::spawn(async { drop(grpc(stream).await) }),
                "upload" => tokio::spawn(async { drop(upload(stream).await) }),
                _ => return Err("unknown kind; write websocket, grpc or upload".into()),
            };
        }
    })
}

/// Accepts the handshake, then answers each frame with a frame without a mask.
async fn websocket(mut stream: TcpStream) -> Result<(), Failure> {
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    while !buffer.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
    buffer.clear();
    stream.write_all(SWITCH).await?;
    loop {
        while let [first, second, ..] = buffer[..] {
            let length = usize::from(second & 0x7f);
            if buffer.len() < 6 + length {
                break;
            }
            let frame = buffer.split_to(6 + length);
            let mut answer = vec![first, second & 0x7f];
            let mask = frame[2..6].iter().cycle();
            answer.extend(frame[6..].iter().zip(mask).map(|(byte, mask)| byte ^ mask));
            stream.write_all(&answer).await?;
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

async fn grpc(stream: TcpStream) -> Result<(), Failure> {
    let mut builder = h2::server::Builder::new();
    let mut connection = builder.max_concurrent_streams(1000).handshake(stream).await?;
    while let Some(call) = connection.accept().await {
        let (request, respond) = call?;
        tokio::spawn(async { drop(unary(request, respond).await) });
    }
    Ok(())
}

async fn unary(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), Failure> {
    let head = Response::builder().header("content-type", "application/grpc").body(())?;
    let mut body = request.into_body();
    let mut message = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        message.extend_from_slice(&data);
    }
    let mut stream = respond.send_response(head, false)?;
    stream.send_data(message.freeze(), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)?;
    Ok(())
}

/// Reads each request and discards its body, then answers it. A client must wait for the answer before it sends the
/// next request.
async fn upload(mut stream: TcpStream) -> Result<(), Failure> {
    let mut buffer = BytesMut::with_capacity(256 * 1024);
    loop {
        buffer.clear();
        let head_length = loop {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = str::from_utf8(&buffer[..head_length])?.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.ok_or("the request has no Content-Length")?.trim().parse()?;
        let mut missing = (head_length + length).checked_sub(buffer.len()).ok_or("too long")?;
        while missing > 0 {
            buffer.clear();
            match stream.read_buf(&mut buffer).await? {
                0 => return Ok(()),
                read => missing = missing.checked_sub(read).ok_or("too long")?,
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
    }
}
