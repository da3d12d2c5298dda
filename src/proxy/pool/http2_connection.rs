//! One HTTP/2 connection to a service. Many requests share it, each with a stream of its own.
//!
//! hyper drives the connection in tasks of the connection's runtime. The permitted number of streams is the smaller of
//! [`Http2Settings::max_streams`] and the service's `SETTINGS_MAX_CONCURRENT_STREAMS`. The pool opens a stream if the
//! connection has fewer streams than this number.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Uri;
use hyper::{
    body::Body,
    client::conn::http2::{Builder, SendRequest},
    rt::{Read, Write},
};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::{runtime::Handle, time::sleep};
use tower::BoxError;

use super::{
    http2_io::{Http2Io, IoControl},
    slot_io::SlotIo,
};
use crate::proxy::{counts::ForwardCounts, http2_settings::Http2Settings};

/// The maximum number of bytes of a response that the service may send before the client has taken them.
///
/// The window of the connection is this number times the permitted number of streams, but less than 2 GiB. So with up
/// to 16,383 permitted streams, a client that does not read its response cannot block the response of another client on
/// the same connection.
const STREAM_WINDOW: u32 = 128 * 1024;

/// The maximum number of bytes of a request body that wait in one stream until the service takes them.
const SEND_BUFFER: usize = 128 * 1024;

/// The maximum size of the head of a response, counted as in RFC 9113 §6.5.2.
const MAX_HEADER_LIST: u32 = 64 * 1024;

const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection, which the pool and the streams share. It is closed when the pool and all streams have dropped it.
pub(super) struct Http2Connection<B> {
    sender: SendRequest<Pin<Box<B>>>,
    uri: Uri,
    control: Arc<IoControl>,
    open: AtomicUsize,
    max: Arc<AtomicUsize>,
    is_retired: AtomicBool,
    /// The tick of the pool at which the last stream ended.
    idle_since: AtomicU64,
    counts: Arc<ForwardCounts>,
    runtime: Handle,
    /// The time that the connection may take to close. Also the time that the service may take to accept the next part
    /// of a request's body after the end of the response.
    max_stall: Duration,
}

impl<B> Http2Connection<B>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    /// Starts HTTP/2 on `io`, without waiting for the service. `slot` is dropped when `io` is closed.
    pub(super) async fn handshake<I>(
        io: I,
        uri: Uri,
        slot: impl Unpin + Send + 'static,
        settings: Http2Settings,
        counts: Arc<ForwardCounts>,
        max_stall: Duration,
    ) -> hyper::Result<Arc<Self>>
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let limit = settings.max_streams();
        let connection_window = STREAM_WINDOW.saturating_mul(u32::from(limit)).min(i32::MAX as u32);
        let control = Arc::<IoControl>::default();
        let io = Http2Io::new(SlotIo::new(io, slot), control.clone());
        let (sender, mut connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(connection_window)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEADER_LIST)
            .initial_max_send_streams(usize::from(limit))
            .keep_alive_interval(settings.ping_interval())
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake::<_, Pin<Box<B>>>(io)
            .await?;
        let max = Arc::new(AtomicUsize::new(usize::from(limit)));
        let permitted = max.clone();
        tokio::spawn(async move {
            let ended = poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                let theirs = connection.current_max_send_streams();
                permitted.store(theirs.min(usize::from(limit)), Ordering::Relaxed);
                polled
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "HTTP/2 connection to a service failed");
            }
        });
        counts.add_http2();
        Ok(Arc::new(Self {
            sender,
            uri,
            control,
            open: AtomicUsize::new(0),
            max,
            is_retired: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            counts,
            runtime: Handle::current(),
            max_stall,
        }))
    }
}

impl<B> Http2Connection<B> {
    /// Reserves a stream, if the connection can have another one.
    pub(super) fn try_open(&self) -> bool {
        let may_open = |open| (open < self.max.load(Ordering::Relaxed)).then_some(open + 1);
        let opened = self.is_usable()
            && self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, may_open).is_ok();
        if opened {
            self.counts.add_stream();
        }
        opened
    }

    /// Ends a stream that [`try_open`](Self::try_open) has reserved.
    pub(super) fn close_stream(&self, tick: u64) {
        self.idle_since.store(tick, Ordering::Relaxed);
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.counts.remove_stream();
    }

    /// Returns whether the connection takes new requests. After a GOAWAY, it takes none, but its open streams go on.
    pub(super) fn is_usable(&self) -> bool {
        !self.is_retired.load(Ordering::Relaxed) && !self.sender.is_closed()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0
    }

    pub(super) fn is_idle_since(&self, tick: u64, ticks: u64) -> bool {
        self.is_idle() && tick.saturating_sub(self.idle_since.load(Ordering::Relaxed)) > ticks
    }

    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
    }

    /// Returns a number that changes whenever bytes arrive from the service.
    pub(super) fn received(&self) -> u64 {
        self.control.received()
    }

    pub(super) fn sender(&self) -> SendRequest<Pin<Box<B>>> {
        self.sender.clone()
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) fn max_stall(&self) -> Duration {
        self.max_stall
    }
}

impl<B> Drop for Http2Connection<B> {
    fn drop(&mut self) {
        self.counts.remove_http2();
        // hyper sends GOAWAY and shuts TLS down. A service that takes no more bytes must not keep the slot, so the I/O
        // is closed after `max_stall`.
        let (control, max_stall) = (self.control.clone(), self.max_stall);
        self.runtime.spawn(async move {
            sleep(max_stall).await;
            control.close();
        });
    }
}

impl<B> fmt::Debug for Http2Connection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Connection").field("uri", &self.uri).finish_non_exhaustive()
    }
}
