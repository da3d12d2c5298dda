//! Opens TCP connections to services. The addresses of a name are tried 250 ms apart, with alternating address families
//! (RFC 8305). So if an address does not answer, the attempt for the next address does not wait for the connect
//! timeout.

use std::{
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Uri, uri::Scheme};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tower_service::Service;

/// The time between two attempts (RFC 8305 §5: "Connection Attempt Delay").
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to the host and port of a URI. `timeout` is the limit for the name resolution and all attempts together.
#[derive(Clone, Copy, Debug)]
pub(super) struct TcpConnector {
    timeout: Duration,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum TcpError {
    #[error("the address has no host")]
    NoHost,
    #[error("cannot find the addresses of {host}")]
    Resolve {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("{host} has no address")]
    NoAddress { host: String },
    #[error("cannot connect to {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("no TCP connection to {host} within {} s", timeout.as_secs_f32())]
    TimedOut { host: String, timeout: Duration },
}

impl TcpConnector {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout }
    }
}

impl Service<Uri> for TcpConnector {
    type Response = TokioIo<TcpStream>;
    type Error = TcpError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, TcpError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TcpError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let limit = self.timeout;
        Box::pin(async move {
            let (host, port) = host_and_port(&uri).ok_or(TcpError::NoHost)?;
            let connected = timeout(limit, connect(host, port)).await;
            connected.unwrap_or_else(|_| {
                Err(TcpError::TimedOut { host: host.to_owned(), timeout: limit })
            })
        })
    }
}

/// Returns the host (without the brackets of an IPv6 address) and the port.
fn host_and_port(uri: &Uri) -> Option<(&str, u16)> {
    let host = uri.host()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let default = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    (!host.is_empty()).then(|| (host, uri.port_u16().unwrap_or(default)))
}

async fn connect(host: &str, port: u16) -> Result<TokioIo<TcpStream>, TcpError> {
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => {
            let found = lookup_host((host, port)).await;
            alternating(
                found.map_err(|source| TcpError::Resolve { host: host.to_owned(), source })?,
            )
        }
    };
    let stream = first_connected(addresses, async |address| {
        let connected = TcpStream::connect(address).await;
        connected.map_err(|source| TcpError::Connect { address, source })
    });
    let stream =
        stream.await.unwrap_or_else(|| Err(TcpError::NoAddress { host: host.to_owned() }))?;
    // An error means that the connection has ended. It is ignored, because the first write then fails, too.
    let _ = stream.set_nodelay(true);
    Ok(TokioIo::new(stream))
}

/// Orders addresses so that the families alternate (RFC 8305 §4). The family of the first address comes first. The
/// order within a family does not change.
fn alternating(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let addresses: Vec<_> = addresses.collect();
    let is_first_family = |address: &SocketAddr| {
        addresses.first().map(SocketAddr::is_ipv6) == Some(address.is_ipv6())
    };
    let mut first = addresses.iter().filter(|it| is_first_family(it));
    let mut second = addresses.iter().filter(|it| !is_first_family(it));
    let mut ordered = Vec::with_capacity(addresses.len());
    while ordered.len() < addresses.len() {
        ordered.extend(first.next());
        ordered.extend(second.next());
    }
    ordered
}

/// Begins one attempt per address, in the given order. The next attempt begins [`ATTEMPT_DELAY`] after the previous
/// attempt, or as soon as an attempt fails. The first connection is returned, and the other attempts are dropped. If
/// all attempts fail, the last error is returned. `None` means that there are no addresses.
async fn first_connected<T, E, F: Future<Output = Result<T, E>>>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> Option<Result<T, E>> {
    let mut addresses = addresses.into_iter();
    let mut attempts: Vec<Pin<Box<F>>> = Vec::new();
    let mut last = None;
    loop {
        match addresses.next() {
            Some(address) => attempts.push(Box::pin(connect(address))),
            None if attempts.is_empty() => return last,
            None => {}
        }
        let ended = poll_fn(|cx| poll_any(&mut attempts, cx));
        let ended = match addresses.len() {
            0 => Ok(ended.await),
            _ => timeout(ATTEMPT_DELAY, ended).await,
        };
        match ended {
            Ok(connected @ Ok(_)) => return Some(connected),
            Ok(failed) => last = Some(failed),
            Err(_) => {}
        }
    }
}

/// Waits until an attempt has ended, and removes it from `attempts`.
fn poll_any<F: Future>(attempts: &mut Vec<Pin<Box<F>>>, cx: &mut Context<'_>) -> Poll<F::Output> {
    for at in 0..attempts.len() {
        if let Poll::Ready(ended) = attempts[at].as_mut().poll(cx) {
            drop(attempts.swap_remove(at));
            return Poll::Ready(ended);
        }
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, future::pending};

    use tokio::time::{Instant, sleep};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_families_of_addresses_alternate() {
        for (addresses, want) in [
            (&[][..], &[][..]),
            (&["1.1.1.1:1"], &["1.1.1.1:1"]),
            (
                &["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"],
                &["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"],
            ),
            (&["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"], &["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"]),
        ] {
            let addresses = addresses.iter().copied().map(address);
            let want: Vec<_> = want.iter().copied().map(address).collect();
            assert_eq!(alternating(addresses), want);
        }
    }

    #[test]
    fn the_host_has_no_brackets_and_the_port_has_a_default() {
        for (uri, want) in [
            ("https://zos.example", Some(("zos.example", 443))),
            ("http://zos.example", Some(("zos.example", 80))),
            ("https://[::1]:7554/x", Some(("::1", 7554))),
            ("/x", None),
        ] {
            assert_eq!(host_and_port(&uri.parse().unwrap()), want);
        }
    }

    /// Simulates a connection attempt. The last digit of the port determines the result. 0: no answer. 1: refused after
    /// 10 ms. 2: accepted after 10 ms. 3: accepted after 400 ms.
    async fn outcome(address: SocketAddr) -> Result<u16, u16> {
        let port = address.port();
        match port % 10 {
            0 => pending().await,
            1 => {
                sleep(Duration::from_millis(10)).await;
                Err(port)
            }
            2 => {
                sleep(Duration::from_millis(10)).await;
                Ok(port)
            }
            _ => {
                sleep(Duration::from_millis(400)).await;
                Ok(port)
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_tried_250_ms_apart_or_when_one_fails() {
        for (ports, want, after_ms, tried) in [
            (&[][..], None, 0, 0),
            (&[12, 22], Some(Ok(12)), 10, 1),
            (&[10, 22], Some(Ok(22)), 260, 2),
            (&[10, 20, 30, 42], Some(Ok(42)), 760, 4),
            (&[11, 21, 32], Some(Ok(32)), 30, 3),
            (&[11, 21], Some(Err(21)), 20, 2),
            // The first attempt continues when the second attempt begins.
            (&[13, 20, 30], Some(Ok(13)), 400, 2),
            (&[10, 21, 32], Some(Ok(32)), 270, 3),
        ] {
            let (start, attempts) = (Instant::now(), RefCell::new(0));
            let addresses = ports.iter().map(|port| SocketAddr::new([127, 0, 0, 1].into(), *port));
            let got = first_connected(addresses.collect(), |address| {
                *attempts.borrow_mut() += 1;
                outcome(address)
            });
            assert_eq!(got.await, want, "{ports:?}");
            // The timer of tokio has a resolution of 1 ms.
            let after = i128::try_from(start.elapsed().as_millis()).unwrap();
            assert!((after - after_ms).abs() <= 5, "{ports:?} took {after} ms");
            assert_eq!(attempts.into_inner(), tried, "{ports:?}");
        }
    }
}
