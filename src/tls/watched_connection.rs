//! Waits for the end of a client's connection, which hyper serves or which is parked.

use std::{
    net::SocketAddr,
    pin::Pin,
    task::{self, Context, Poll},
    time::Duration,
};

use hyper::{
    body::{Body, Incoming},
    server::conn::{http1, http2},
};
use tokio::{sync::watch, time::timeout};
use tower::BoxError;

use super::{
    client_connection::ClientConnection,
    close_reason::CloseReason,
    connection_counts::CountedConnection,
    connection_watch::{Action, Watch},
    http_version::HttpVersion,
    lent_stream::{ClientStream, LastResponse},
    streams::Streams,
    unless_ending::unless_ending,
};
use crate::log_limit::log_limited;

/// An HTTP/1.1 or HTTP/2 connection, with TLS or without TLS.
///
/// The connection and the handshake are boxed to keep the future of the task small. This future is moved several times
/// before it runs. Without the boxes, it would reserve space for the handshake and for the largest kind of connection
/// until the connection ends.
pub(super) type Served = Pin<Box<dyn GracefulConnection + Send>>;

pub(super) trait GracefulConnection: Future<Output = hyper::Result<()>> {
    /// Makes the connection close after its requests in flight. The caller must poll the connection until then.
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<I, S, B> GracefulConnection for http1::UpgradeableConnection<I, S>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, B> GracefulConnection for http2::Connection<I, S, Streams>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
    Streams: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Says why the wait for the end of a connection is over.
pub(super) enum Ended {
    /// hyper has finished with the connection.
    Served(hyper::Result<()>),
    /// The connection was closed for one of the reasons of [`Watch`], such as a time limit, or because the server shuts
    /// down. It is possible that hyper has not finished with it.
    Cut,
    /// The connection is idle and must be parked. hyper holds no data of it.
    Idle,
}

/// A connection that [`Watch`] may close, for example because its client exceeds a time limit, or because another
/// client needs its place.
pub(super) struct WatchedConnection<'a> {
    pub(super) connection: Served,
    pub(super) watch: &'a mut Watch,
    pub(super) end: WatchEnd<'a>,
}

impl WatchedConnection<'_> {
    fn graceful_shutdown(&mut self) {
        self.connection.as_mut().graceful_shutdown();
    }
}

#[derive(Clone, Copy)]
pub(super) struct WatchEnd<'a> {
    pub(super) peer: SocketAddr,
    pub(super) counted: &'a CountedConnection,
}

impl WatchEnd<'_> {
    fn closed(&self, reason: CloseReason) {
        self.counted.closed(reason);
        let peer = self.peer;
        match reason {
            CloseReason::Send => {
                log_limited!(warn, "send timeout", { %peer }, "connection closed: the client does not take the response");
            }
            _ => tracing::debug!(%peer, ?reason, "connection closed"),
        }
    }
}

impl Future for WatchedConnection<'_> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Poll::Ready(result) = self.connection.as_mut().poll(cx) {
                return Poll::Ready(Ended::Served(result));
            }
            match task::ready!(self.watch.poll(cx)) {
                Action::ShutDown(reason) => {
                    self.end.closed(reason);
                    self.graceful_shutdown();
                }
                Action::Close(reason) => {
                    self.end.closed(reason);
                    return Poll::Ready(Ended::Cut);
                }
                Action::Abort => return Poll::Ready(Ended::Cut),
                Action::Park => return Poll::Ready(Ended::Idle),
            }
        }
    }
}

/// An idle connection that is not lent to hyper, so that it needs no buffers. It waits for its client.
pub(super) struct ParkedConnection<'a> {
    pub(super) stream: &'a mut ClientStream,
    pub(super) watch: &'a mut Watch,
    pub(super) end: WatchEnd<'a>,
}

pub(super) enum Parked {
    /// The client has sent this data, or has closed the connection. Without TLS, the data was not read yet.
    Readable(Vec<u8>),
    /// The connection must be closed in stages.
    Closed(LastResponse),
    /// The connection must be closed immediately.
    Cut,
}

impl Future for ParkedConnection<'_> {
    type Output = Parked;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut ahead = Vec::new();
        if let Poll::Ready(result) = self.stream.poll_readable(cx, &mut ahead) {
            return Poll::Ready(match result {
                Ok(()) => Parked::Readable(ahead),
                Err(error) => {
                    tracing::debug!(peer = %self.end.peer, %error, "connection ended early");
                    Parked::Closed(LastResponse::BrokenOff)
                }
            });
        }
        let (parked, reason) = match task::ready!(self.watch.poll(cx)) {
            Action::ShutDown(reason) => (Parked::Closed(LastResponse::Complete), Some(reason)),
            Action::Close(reason) => (Parked::Cut, Some(reason)),
            Action::Abort => (Parked::Cut, None),
            // The watch does not park a connection that is already parked.
            Action::Park => return Poll::Ready(Parked::Readable(ahead)),
        };
        if let Some(reason) = reason {
            self.end.closed(reason);
        }
        Poll::Ready(parked)
    }
}

/// Serves a connection until it ends. When the server shuts down, requests in flight are answered, and then
/// the connection is closed.
///
/// A client may have sent a request just before the server shuts down, and expects an answer. So the server does not
/// close an idle connection immediately. It first waits for a request, and announces in the response that it closes the
/// connection. An HTTP/2 connection needs no wait after its first request, because a separate frame announces the close
/// (RFC 9113 §6.8).
pub(super) async fn until_ended(
    mut connection: WatchedConnection<'_>,
    client: &ClientConnection,
    ending: &watch::Receiver<bool>,
    shutdown_wait: Duration,
) -> Ended {
    if let Some(ended) = unless_ending(Pin::new(&mut connection), ending).await {
        return ended;
    }
    client.response().announce_close();
    let is_http2 = connection.watch.version() == HttpVersion::Http2;
    while !is_http2 || client.changes() == 0 {
        let before = client.changes();
        if let Ok(ended) = timeout(shutdown_wait, &mut connection).await {
            return ended;
        }
        if client.changes() == before && client.in_flight() == 0 {
            break;
        }
    }
    connection.graceful_shutdown();
    loop {
        let before = client.changes();
        if let Ok(ended) = timeout(shutdown_wait, &mut connection).await {
            return ended;
        }
        // All requests have been answered, but the connection did not end in time. Either the client keeps the
        // connection open, or it does not finish the head of a request.
        if client.changes() == before && client.is_idle() {
            return Ended::Cut;
        }
    }
}
