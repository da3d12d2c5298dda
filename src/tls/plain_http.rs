//! Recognizes a client that sends HTTP without TLS to a TLS port, and answers it.

use std::io;

use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::client_io::ClientIo;

/// The answer. A user may see its text, so the text says what to do.
const RESPONSE: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    content-length: 60\r\n\
    cache-control: no-store\r\n\
    x-content-type-options: nosniff\r\n\
    referrer-policy: no-referrer\r\n\
    connection: close\r\n\r\n\
    This port requires TLS. Use a URL that begins with https://\n";

/// The reason why a connection has no TLS session. The connection is still open.
#[derive(Debug)]
pub(super) enum NoTls {
    HandshakeFailed(io::Error, ClientIo<TcpStream>),
    /// The client sends HTTP without TLS.
    PlainHttp(ClientIo<TcpStream>),
}

pub(super) async fn accept(
    acceptor: &TlsAcceptor,
    stream: ClientIo<TcpStream>,
) -> Result<TlsStream<ClientIo<TcpStream>>, NoTls> {
    let mut first = [0];
    match stream.socket().peek(&mut first).await {
        Ok(_) if is_plain_http(first[0]) => Err(NoTls::PlainHttp(stream)),
        Ok(_) => {
            let handshake = acceptor.accept(stream).into_fallible();
            handshake.await.map_err(|(error, stream)| NoTls::HandshakeFailed(error, stream))
        }
        Err(error) => Err(NoTls::HandshakeFailed(error, stream)),
    }
}

/// An HTTP request begins with the name of a method, and the names of the usual methods begin with a letter. TLS begins
/// with the number of a content type (RFC 8446 §5.1). These numbers are not letters.
fn is_plain_http(first: u8) -> bool {
    first.is_ascii_alphabetic()
}

pub(super) async fn refuse(stream: &mut ClientIo<TcpStream>) {
    // An error means that the client has closed the connection.
    let _ = stream.write_all(RESPONSE).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_letters_begin_a_request_without_tls() {
        for first in *b"GPOHDTCapz" {
            assert!(is_plain_http(first));
        }
        // 22 is the first byte of a handshake, 21 of an alert, and 0x80 of an SSL 2.0 record. 0 stands for a connection
        // that was closed before it sent a byte.
        for first in [22, 21, 0x80, 0] {
            assert!(!is_plain_http(first));
        }
    }

    #[test]
    fn the_length_of_the_answer_is_right() {
        let response = str::from_utf8(RESPONSE).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
    }
}
