//! Counts the connections of a server.

use std::sync::Arc;

use super::{close_reason::CloseReason, refusal::Refusal};
use crate::metrics::{
    Collect, Counter, CounterFamily, Description, Exposition, Gauge, Label, LabelName,
};

const OPEN: Description =
    Description::gauge("passticket_connections_open", "Connections of clients that are open.");
const ACCEPTED: Description = Description::counter(
    "passticket_connections_total",
    "Connections of clients that were accepted.",
);
const CLOSED: Description = Description::counter(
    "passticket_connections_closed_total",
    "Connections of clients that the gateway closed at a limit.",
);
const REFUSED: Description = Description::counter(
    "passticket_requests_refused_total",
    "Requests that were refused at a limit before the gateway evaluated them.",
);
const HANDSHAKES_FAILED: Description = Description::counter(
    "passticket_tls_handshakes_failed_total",
    "Connections that were closed because the TLS handshake failed or took too long.",
);
const PROXY_HEADERS_REFUSED: Description = Description::counter(
    "passticket_proxy_protocol_refused_total",
    "Connections that were closed because they had no valid header of the PROXY protocol.",
);
const ACCEPT_ERRORS: Description = Description::counter(
    "passticket_accept_errors_total",
    "Failed attempts to accept a connection, for example because too many files are open.",
);

/// Counts the connections of one or more [`Server`](super::Server)s.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    open: Gauge,
    accepted: Counter,
    closed: CounterFamily<(CloseReason,)>,
    refused: CounterFamily<(Refusal,)>,
    handshakes_failed: CounterFamily<(HandshakeFailure,)>,
    proxy_headers_refused: CounterFamily<(ProxyRefusal,)>,
    accept_errors: Counter,
}

impl ConnectionCounts {
    /// Returns the number of open connections.
    pub fn open(&self) -> i64 {
        self.open.get()
    }

    pub(super) fn add_closed(&self, why: CloseReason) {
        self.closed.increment((why,));
    }

    pub(super) fn add_refused(&self, why: Refusal) {
        self.refused.increment((why,));
    }

    pub(super) fn add_accept_error(&self) {
        self.accept_errors.increment();
    }
}

impl Collect for ConnectionCounts {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.value(&OPEN, self.open.get());
        exposition.value(&ACCEPTED, self.accepted.get());
        exposition.family(&CLOSED, &self.closed);
        exposition.family(&REFUSED, &self.refused);
        exposition.family(&HANDSHAKES_FAILED, &self.handshakes_failed);
        exposition.family(&PROXY_HEADERS_REFUSED, &self.proxy_headers_refused);
        exposition.value(&ACCEPT_ERRORS, self.accept_errors.get());
    }
}

/// The reason why a TLS handshake has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandshakeFailure {
    Failed,
    TimedOut,
    /// The client sent HTTP without TLS.
    PlainHttp,
}

impl Label for HandshakeFailure {
    const NAME: LabelName = LabelName::new("reason");
    const ALL: &'static [Self] = &[Self::Failed, Self::TimedOut, Self::PlainHttp];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::PlainHttp => "plain-http",
        }
    }
}

/// The reason why a connection was closed before the TLS handshake, when the PROXY protocol is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyRefusal {
    /// The peer is not a trusted proxy.
    Untrusted,
    /// The connection has no header, or its header is malformed.
    Malformed,
    /// The connection was closed before the end of the header.
    Closed,
    TimedOut,
}

impl Label for ProxyRefusal {
    const NAME: LabelName = LabelName::new("reason");
    const ALL: &'static [Self] = &[Self::Untrusted, Self::Malformed, Self::Closed, Self::TimedOut];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Malformed => "malformed",
            Self::Closed => "closed",
            Self::TimedOut => "timed-out",
        }
    }
}

/// An accepted connection. It is counted as open until this value is dropped.
#[derive(Debug)]
pub(super) struct CountedConnection(Option<Arc<ConnectionCounts>>);

impl CountedConnection {
    pub(super) fn accepted(counts: Option<&Arc<ConnectionCounts>>) -> Self {
        if let Some(counts) = counts {
            counts.accepted.increment();
            counts.open.increment();
        }
        Self(counts.cloned())
    }

    pub(super) fn closed(&self, why: CloseReason) {
        if let Some(counts) = &self.0 {
            counts.add_closed(why);
        }
    }

    pub(super) fn handshake_failed(&self, why: HandshakeFailure) {
        if let Some(counts) = &self.0 {
            counts.handshakes_failed.increment((why,));
        }
    }

    pub(super) fn proxy_header_refused(&self, why: ProxyRefusal) {
        if let Some(counts) = &self.0 {
            counts.proxy_headers_refused.increment((why,));
        }
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        if let Some(counts) = &self.0 {
            counts.open.decrement();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending, time::Duration};

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::body::Incoming;
    use tokio::{
        net::{TcpListener, TcpStream},
        time::{sleep, timeout},
    };
    use tower::service_fn;

    use super::*;
    use crate::tls::Server;

    async fn until(what: impl Fn() -> bool) {
        let reached = async {
            while !what() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), reached).await.unwrap();
    }

    #[tokio::test]
    async fn connections_are_open_until_they_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::<ConnectionCounts>::default();
        let server = Server::http(listener).with_connection_counts(counts.clone());
        let service = service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        });
        let server = tokio::spawn(server.run(service, pending()));

        let first = TcpStream::connect(address).await.unwrap();
        until(|| counts.open() == 1).await;
        let second = TcpStream::connect(address).await.unwrap();
        until(|| counts.open() == 2).await;
        drop((first, second));
        until(|| counts.open() == 0).await;
        // A connection that is closed early also counts as ended.
        let _third = TcpStream::connect(address).await.unwrap();
        until(|| counts.open() == 1).await;
        server.abort();
        until(|| counts.open() == 0).await;
        assert_eq!(counts.accepted.get(), 3);
    }
}
