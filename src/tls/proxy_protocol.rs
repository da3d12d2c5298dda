//! The header of the PROXY protocol, versions 1 and 2 (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//! A proxy sends the header as the first bytes of a connection, before TLS. The header contains the address of the
//! client.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use tokio::{io::AsyncReadExt, net::TcpStream};

/// The first bytes of version 1.
const V1_START: &[u8] = b"PROXY ";

/// The longest header of version 1, with its line end (section 2.1 of the specification).
const V1_MAX_LENGTH: usize = 107;

/// The first bytes of version 2.
const V2_START: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The length of the fixed part: signature, version and command, address family, and length of the rest.
const V2_FIXED_LENGTH: usize = 16;

/// The maximum length of a version 2 header after its fixed part: the addresses, and additional fields (TLV), which are
/// skipped.
const V2_MAX_REST: usize = 1024;

const MAX_LENGTH: usize = V2_FIXED_LENGTH + V2_MAX_REST;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyHeader {
    Forwarded {
        source: SocketAddr,
        /// The address to which the client connected.
        destination: SocketAddr,
    },
    /// Either the proxy itself is the client, for example in a health check, or the proxy does not know the addresses.
    Local,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Incomplete,
    /// The first `length` bytes are a header.
    Complete {
        header: ProxyHeader,
        length: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(super) enum Malformed {
    /// The bytes start neither as version 1 nor as version 2.
    #[error("the connection does not begin with a header of the PROXY protocol")]
    NoHeader,
    #[error("the header of the PROXY protocol is too long")]
    TooLong,
    #[error("the header of the PROXY protocol is malformed")]
    Line,
    /// A header of version 2 has an unknown version number, command or address family.
    #[error("the header of the PROXY protocol has an unknown version, command or address family")]
    Unsupported,
    /// The addresses of a header of version 2 are incomplete, or the address of the client in a header of either
    /// version is unspecified.
    #[error("the header of the PROXY protocol has no valid address of the client")]
    Address,
}

impl ProxyHeader {
    pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
        let begins_with = |start: &[u8]| bytes.iter().zip(start).all(|(byte, want)| byte == want);
        if begins_with(V2_START) {
            v2(bytes)
        } else if begins_with(V1_START) {
            v1(bytes)
        } else {
            Err(Malformed::NoHeader)
        }
    }

    fn forwarded(source: SocketAddr, destination: SocketAddr) -> Result<Self, Malformed> {
        if source.ip().to_canonical().is_unspecified() {
            return Err(Malformed::Address);
        }
        Ok(Self::Forwarded { source, destination })
    }

    /// Reads a header from a connection. The bytes after the header stay unread, because they belong to TLS
    /// or HTTP. The caller limits the time.
    pub(super) async fn read(stream: &mut TcpStream) -> Result<Self, ReadError> {
        let mut buffer = [0; MAX_LENGTH];
        let mut filled = 0;
        loop {
            // If the header is incomplete, all peeked bytes belong to it, so they can be consumed.
            let peeked = stream.peek(&mut buffer[filled..]).await?;
            if peeked == 0 {
                return Err(ReadError::Closed);
            }
            let (end, header) = match Self::parse(&buffer[..filled + peeked])? {
                Parsed::Complete { header, length } => (length, Some(header)),
                Parsed::Incomplete => (filled + peeked, None),
            };
            stream.read_exact(&mut buffer[filled..end]).await?;
            filled = end;
            if let Some(header) = header {
                return Ok(header);
            }
        }
    }
}

/// Parses the first bytes of a connection, for the fuzz targets. Returns the length of the header, and the addresses of
/// the client and the server if the header contains addresses. Returns `None` if the header is incomplete.
///
/// # Errors
/// The reason if the bytes are not a valid header.
#[cfg(feature = "fuzzing")]
pub fn proxy_header(bytes: &[u8]) -> Result<Option<(usize, Option<[SocketAddr; 2]>)>, String> {
    match ProxyHeader::parse(bytes) {
        Ok(Parsed::Incomplete) => Ok(None),
        Ok(Parsed::Complete { header: ProxyHeader::Local, length }) => Ok(Some((length, None))),
        Ok(Parsed::Complete { header: ProxyHeader::Forwarded { source, destination }, length }) => {
            Ok(Some((length, Some([source, destination]))))
        }
        Err(error) => Err(error.to_string()),
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the connection was closed before the end of the header of the PROXY protocol")]
    Closed,
    #[error("the header of the PROXY protocol could not be read: {0}")]
    Io(#[from] io::Error),
}

/// Parses a header of version 1: one line, such as `PROXY TCP4 192.0.2.7 192.0.2.1 50000 443`.
fn v1(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let head = &bytes[..bytes.len().min(V1_MAX_LENGTH)];
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        let is_incomplete = bytes.len() < V1_MAX_LENGTH;
        return if is_incomplete { Ok(Parsed::Incomplete) } else { Err(Malformed::TooLong) };
    };
    let line = str::from_utf8(&head[..end]).map_err(|_| Malformed::Line)?;
    let mut fields = line.split(' ').skip(1);
    let header = match fields.next() {
        // After `UNKNOWN`, the rest of the line is ignored.
        Some("UNKNOWN") => ProxyHeader::Local,
        Some("TCP4") => v1_addresses::<Ipv4Addr>(fields)?,
        Some("TCP6") => v1_addresses::<Ipv6Addr>(fields)?,
        _ => return Err(Malformed::Line),
    };
    Ok(Parsed::Complete { header, length: end + 2 })
}

fn v1_addresses<'a, Ip: FromStr + Into<std::net::IpAddr>>(
    mut fields: impl Iterator<Item = &'a str>,
) -> Result<ProxyHeader, Malformed> {
    let mut next = || fields.next().ok_or(Malformed::Line);
    let [source, destination] = [next()?, next()?];
    let [source_port, destination_port] = [next()?, next()?];
    if fields.next().is_some() {
        return Err(Malformed::Line);
    }
    let address = |ip: &str, port_text: &str| {
        let ip = ip.parse::<Ip>().map_err(|_| Malformed::Line)?;
        Ok(SocketAddr::new(ip.into(), port(port_text)?))
    };
    ProxyHeader::forwarded(address(source, source_port)?, address(destination, destination_port)?)
}

/// Returns a port of version 1. Leading zeros are not permitted.
fn port(text: &str) -> Result<u16, Malformed> {
    let is_decimal = text.bytes().all(|b| b.is_ascii_digit());
    let has_leading_zero = text.len() > 1 && text.starts_with('0');
    let port = text.parse().ok().filter(|_| is_decimal && !has_leading_zero);
    port.ok_or(Malformed::Line)
}

/// Parses a header of version 2, which is binary.
fn v2(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED_LENGTH>() else {
        return Ok(Parsed::Incomplete);
    };
    let [.., version_and_command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > V2_MAX_REST {
        return Err(Malformed::TooLong);
    }
    let Some(rest) = rest.get(..length) else { return Ok(Parsed::Incomplete) };
    let header = match (version_and_command, family) {
        // The command LOCAL, or the command PROXY with an unspecified address family or UNIX sockets.
        (0x20, _) | (0x21, 0x00 | 0x31) => ProxyHeader::Local,
        // The command PROXY with TCP over IPv4 or IPv6.
        (0x21, 0x11) => v2_addresses::<4, Ipv4Addr>(rest)?,
        (0x21, 0x21) => v2_addresses::<16, Ipv6Addr>(rest)?,
        _ => return Err(Malformed::Unsupported),
    };
    Ok(Parsed::Complete { header, length: V2_FIXED_LENGTH + length })
}

fn v2_addresses<const N: usize, Ip>(bytes: &[u8]) -> Result<ProxyHeader, Malformed>
where
    Ip: From<[u8; N]> + Into<std::net::IpAddr>,
{
    fn split<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Malformed> {
        let (first, rest) = bytes.split_first_chunk().ok_or(Malformed::Address)?;
        Ok((*first, rest))
    }
    let (source, rest) = split::<N>(bytes)?;
    let (destination, rest) = split::<N>(rest)?;
    let (source_port, rest) = split(rest)?;
    let (destination_port, _further_fields) = split(rest)?;
    let address = |ip, port| SocketAddr::new(Ip::from(ip).into(), u16::from_be_bytes(port));
    ProxyHeader::forwarded(address(source, source_port), address(destination, destination_port))
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    fn binary(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        let mut header = V2_START.to_vec();
        header.extend([version_and_command, family, length[0], length[1]]);
        header.extend(rest);
        header
    }

    fn forwarded(source: &str, destination: &str) -> ProxyHeader {
        let [source, destination] = [source, destination].map(|text| text.parse().unwrap());
        ProxyHeader::Forwarded { source, destination }
    }

    const V4: [u8; 12] = [192, 0, 2, 7, 192, 0, 2, 1, 0xc3, 0x50, 0x01, 0xbb];

    fn v6() -> Vec<u8> {
        let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        let mut rest = [address("2001:db8::7"), address("2001:db8::1")].concat();
        rest.extend([0xc3, 0x50, 0x01, 0xbb]);
        rest
    }

    fn valid() -> Vec<(Vec<u8>, ProxyHeader)> {
        let v4 = forwarded("192.0.2.7:50000", "192.0.2.1:443");
        let with_tlv = |mut rest: Vec<u8>| {
            rest.extend([0x04, 0x00, 0x01, 0xff]);
            rest
        };
        vec![
            (b"PROXY TCP4 192.0.2.7 192.0.2.1 50000 443\r\n".to_vec(), v4),
            (
                b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 443\r\n".to_vec(),
                forwarded("[2001:db8::7]:50000", "[2001:db8::1]:443"),
            ),
            (
                b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 0 65535\r\n".to_vec(),
                forwarded("[::ffff:192.0.2.7]:0", "[::ffff:192.0.2.1]:65535"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), ProxyHeader::Local),
            (b"PROXY UNKNOWN ffff::1 anything 1 2 3\r\n".to_vec(), ProxyHeader::Local),
            (binary(0x21, 0x11, &V4), v4),
            (binary(0x21, 0x11, &with_tlv(V4.to_vec())), v4),
            (binary(0x21, 0x21, &v6()), forwarded("[2001:db8::7]:50000", "[2001:db8::1]:443")),
            (binary(0x20, 0x00, &[]), ProxyHeader::Local),
            (binary(0x20, 0x11, &V4), ProxyHeader::Local),
            (binary(0x21, 0x00, b"skipped"), ProxyHeader::Local),
            (binary(0x21, 0x31, &[0; 216]), ProxyHeader::Local),
            (binary(0x20, 0x00, &[0; V2_MAX_REST]), ProxyHeader::Local),
        ]
    }

    #[test]
    fn valid_headers_are_parsed_and_their_beginnings_are_incomplete() {
        for (bytes, header) in valid() {
            for end in 0..bytes.len() {
                assert_eq!(ProxyHeader::parse(&bytes[..end]), Ok(Parsed::Incomplete), "{end}");
            }
            let complete = Ok(Parsed::Complete { header, length: bytes.len() });
            assert_eq!(ProxyHeader::parse(&bytes), complete);
            assert_eq!(ProxyHeader::parse(&[&bytes[..], b"\x16\x03\x01"].concat()), complete);
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        use Malformed::{Address, Line, NoHeader, TooLong, Unsupported};
        let line = |fields: &str| format!("PROXY {fields}\r\n").into_bytes();
        let cases: Vec<(Vec<u8>, Malformed)> = vec![
            (b"\x16\x03\x01\x02".to_vec(), NoHeader),
            (b"GET / HTTP/1.1\r\n".to_vec(), NoHeader),
            (b"PROXYTCP4".to_vec(), NoHeader),
            (b"proxy TCP4".to_vec(), NoHeader),
            (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), NoHeader),
            (line(""), Line),
            (line("TCP5 192.0.2.7 192.0.2.1 1 2"), Line),
            (line("TCP4 192.0.2.7 192.0.2.1 1"), Line),
            (line("TCP4 192.0.2.7 192.0.2.1 1 2 3"), Line),
            (line("TCP4 192.0.2.7 192.0.2.1 1 2 "), Line),
            (line("TCP4  192.0.2.7 192.0.2.1 1 2"), Line),
            (line("TCP4 192.0.2.7\t192.0.2.1 1 2"), Line),
            (line("TCP4 192.0.2.07 192.0.2.1 1 2"), Line),
            (line("TCP4 192.0.2.7 192.0.2.1 01 2"), Line),
            (line("TCP4 192.0.2.7 192.0.2.1 1 65536"), Line),
            (line("TCP4 192.0.2.7 192.0.2.1 +1 2"), Line),
            (line("TCP4 2001:db8::7 2001:db8::1 1 2"), Line),
            (line("TCP6 192.0.2.7 192.0.2.1 1 2"), Line),
            (line("TCP6 fe80::1%1 fe80::2 1 2"), Line),
            (line("TCP4 \u{e9} 192.0.2.1 1 2"), Line),
            (b"PROXY \xff\r\n".to_vec(), Line),
            (line("TCP4 0.0.0.0 192.0.2.1 1 2"), Address),
            (line("TCP6 :: ::1 1 2"), Address),
            (line(&format!("UNKNOWN {}", "x".repeat(V1_MAX_LENGTH))), TooLong),
            ([b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 93]].concat(), TooLong),
            (binary(0x11, 0x11, &V4), Unsupported),
            (binary(0x22, 0x11, &V4), Unsupported),
            (binary(0x21, 0x12, &V4), Unsupported),
            (binary(0x21, 0x41, &V4), Unsupported),
            (binary(0x21, 0x11, &V4[..11]), Address),
            (binary(0x21, 0x21, &v6()[..35]), Address),
            (binary(0x21, 0x11, &[0; 12]), Address),
            (binary(0x21, 0x11, &[1; V2_MAX_REST + 1]), TooLong),
        ];
        for (bytes, want) in cases {
            assert_eq!(ProxyHeader::parse(&bytes), Err(want), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_longest_line_is_accepted() {
        let address = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let line = format!("PROXY TCP6 {address} {address} 65535 65535\r\n");
        assert!(matches!(ProxyHeader::parse(line.as_bytes()), Ok(Parsed::Complete { .. })));
        let unknown = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
        assert_eq!(unknown.len(), V1_MAX_LENGTH);
        assert!(matches!(ProxyHeader::parse(unknown.as_bytes()), Ok(Parsed::Complete { .. })));
    }

    #[tokio::test]
    async fn the_bytes_after_the_header_stay_unread() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (bytes, header) in valid() {
            for cut in [1, 7, bytes.len()] {
                let connecting = TcpStream::connect(listener.local_addr().unwrap());
                let (client, accepted) = tokio::join!(connecting, listener.accept());
                let (mut client, mut server) = (client.unwrap(), accepted.unwrap().0);
                client.set_nodelay(true).unwrap();
                let sending = async {
                    for part in bytes.chunks(cut).take(20) {
                        client.write_all(part).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    let sent = bytes.len().min(20 * cut);
                    client.write_all(&[&bytes[sent..], b"rest"].concat()).await.unwrap();
                    client.shutdown().await.unwrap();
                };
                let (read, ()) = tokio::join!(ProxyHeader::read(&mut server), sending);
                assert_eq!(read.unwrap(), header);
                let mut rest = Vec::new();
                server.read_to_end(&mut rest).await.unwrap();
                assert_eq!(rest, b"rest");
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_within_the_header_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for bytes in [&b""[..], b"PROXY TCP4"] {
            let connecting = TcpStream::connect(listener.local_addr().unwrap());
            let (client, accepted) = tokio::join!(connecting, listener.accept());
            let (mut client, mut server) = (client.unwrap(), accepted.unwrap().0);
            client.write_all(bytes).await.unwrap();
            drop(client);
            let error = ProxyHeader::read(&mut server).await.unwrap_err();
            assert!(matches!(error, ReadError::Closed), "{error}");
        }
    }
}
