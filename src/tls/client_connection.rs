//! The state of one connection of a client: its requests, its bytes, and the time since which it is idle.
//!
//! The values that requests change are atomics, because [`ClientLimits`](super::ClientLimits) reads them from other
//! threads. A request takes a lock only if a trusted proxy announces its client, or if it becomes a tunnel.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use atomic_waker::AtomicWaker;
use http::Request;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::{
    address_requests::{CountedAddress, RequestsByAddress},
    connection_counts::ConnectionCounts,
    header_budget::{HeaderBudget, HeaderUse},
    http_version::HttpVersion,
    refusal::Refusal,
    response_state::ResponseState,
};
use crate::{
    connection::{ClientAddress, SourceNetwork},
    tunnel::BoxTunnel,
};

/// The memory that a header field of a request needs in addition to its name and value.
const FIELD_MEMORY: usize = 128;

/// The maximum size of the headers of a request, in bytes. This is enough for a token of 16 KiB.
pub(super) const MAX_HEADERS: usize = 64 * 1024;

/// The data that the connections of one [`ClientLimits`](super::ClientLimits) share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    /// [`ClientConnection::idle_since_millis`] counts from this time.
    pub(super) epoch: Instant,
    pub(super) headers: Arc<HeaderBudget>,
    pub(super) requests: Arc<RequestsByAddress>,
    pub(super) counts: Option<Arc<ConnectionCounts>>,
}

/// Each request in flight adds this value to [`ClientConnection::requests`].
const IN_FLIGHT: u64 = 1;

/// Each request that waits for the service adds this value to [`ClientConnection::requests`]. A connection has at most
/// 100 requests at a time (HTTP/2), so 16 bits are enough for the count of [`IN_FLIGHT`] and for the count of
/// `AT_SERVICE`.
const AT_SERVICE: u64 = 1 << 16;

/// Each begin and each end of a request adds this value to [`ClientConnection::requests`].
const CHANGE: u64 = 1 << 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitsFor {
    Service,
    /// The client must send the body, or take the response.
    Client,
}

/// The state of a connection when it is evicted. To evict a connection means to close it because another client needs
/// its place, or because too many files are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eviction {
    /// The connection is idle. If a request begins just before the close, the server still answers this request.
    Idle,
    /// The connection waits for its client, but the client sends and reads almost nothing.
    Stalled,
}

#[derive(Debug)]
pub(super) struct ClientConnection {
    shared: Shared,
    /// The client's address. It is empty before the header of the PROXY protocol was read. If the peer is a trusted
    /// proxy, it stays empty, and each request counts for the client that the proxy announces.
    address: OnceLock<CountedAddress>,
    /// Milliseconds since [`Shared::epoch`].
    idle_since: AtomicU64,
    headers: HeaderUse,
    /// The value of `read` when the most recent request began.
    read_at_request: AtomicU64,
    /// Bits 0 to 15 are the number of requests in flight. Bits 16 to 31 are the number of these requests that wait for
    /// the service. Bits 32 to 63 change when a request begins and when it ends.
    requests: AtomicU64,
    /// The numbers of bytes that were read from the socket, and written to it.
    read: AtomicU64,
    written: AtomicU64,
    /// Whether bytes wait because the client does not take them.
    is_blocked: AtomicBool,
    has_no_send_limit: AtomicBool,
    response: ResponseState,
    eviction: OnceLock<Eviction>,
    /// Whether the client certificate of the connection is no longer accepted.
    is_revoked: AtomicBool,
    waker: AtomicWaker,
    /// The tunnel that takes the connection over when hyper has finished with it.
    tunnel: Mutex<Option<Box<PendingTunnel>>>,
}

impl ClientConnection {
    pub(super) fn new(shared: Shared) -> Self {
        Self {
            idle_since: AtomicU64::new(millis_since(shared.epoch)),
            shared,
            headers: HeaderUse::default(),
            read_at_request: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            address: OnceLock::new(),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            is_blocked: AtomicBool::new(false),
            has_no_send_limit: AtomicBool::new(false),
            response: ResponseState::default(),
            eviction: OnceLock::new(),
            is_revoked: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            tunnel: Mutex::default(),
        }
    }

    /// Creates a connection without a limit of requests and of the memory for headers.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn unlimited() -> Self {
        let headers = Arc::new(HeaderBudget::new(usize::MAX));
        let requests = Arc::new(RequestsByAddress::new(std::num::NonZeroUsize::MAX));
        Self::new(Shared { epoch: Instant::now(), headers, requests, counts: None })
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.requests.load(Ordering::Acquire) % AT_SERVICE
    }

    /// Returns whether the connection has no request in flight, and the client has taken all responses.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight() == 0 && !self.is_blocked()
    }

    /// Returns whether the connection waits for the client. This is so if the client does not take written bytes. It is
    /// also so if there are requests in flight, and the client must take the response or send the body of each of them.
    pub(super) fn waits_for_client(&self) -> bool {
        let requests = self.requests.load(Ordering::Acquire) % CHANGE;
        self.is_blocked() || requests != 0 && requests < AT_SERVICE
    }

    /// Sets the address for which the requests count. Call this before the first request.
    pub(super) fn set_address(&self, address: CountedAddress) {
        // `set` never fails, because a connection gets its address only once.
        let _ = self.address.set(address);
    }

    /// Returns a number that changes when a request begins and when it ends. It is 0 before the first request.
    pub(super) fn changes(&self) -> u64 {
        self.requests.load(Ordering::Acquire) / CHANGE
    }

    /// Returns the same time as [`idle_since`](Self::idle_since), in milliseconds since [`Shared::epoch`].
    pub(super) fn idle_since_millis(&self) -> u64 {
        self.idle_since.load(Ordering::Relaxed)
    }

    /// Returns the time when the last request ended, or when the client has taken the rest of its response. Before the
    /// first request, returns the time when the connection was accepted.
    pub(super) fn idle_since(&self) -> Instant {
        self.shared.epoch + Duration::from_millis(self.idle_since_millis())
    }

    /// Records that a request has ended, or that the client has taken the rest of its response. The idle time begins
    /// now.
    pub(super) fn restart_idle_time(&self) {
        self.idle_since.store(millis_since(self.shared.epoch), Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(super) fn add_read(&self, bytes: usize) {
        add(&self.read, bytes);
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }

    /// Records the result of a write. `Pending` means that the client takes no bytes at present.
    pub(super) fn add_written(&self, written: Poll<usize>) {
        self.is_blocked.store(written.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(bytes) = written {
            add(&self.written, bytes);
        }
    }

    /// Returns whether the client may take the current response at any speed. This value applies only to HTTP/1.1,
    /// because an HTTP/2 connection has several responses at a time.
    pub(super) fn has_no_send_limit(&self) -> bool {
        self.has_no_send_limit.load(Ordering::Relaxed)
    }

    /// Returns the state of the current response. It is used only for HTTP/1.1.
    pub(super) fn response(&self) -> &ResponseState {
        &self.response
    }

    /// Removes and returns the tunnel of the connection, if there is one. The tunnel and this value own each other. So
    /// they are freed only if this function was called before the connection ends.
    pub(super) fn take_tunnel(&self) -> Option<Box<PendingTunnel>> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn is_evicted(&self) -> bool {
        self.eviction.get().is_some()
    }

    pub(super) fn was_stalled(&self) -> bool {
        self.eviction.get() == Some(&Eviction::Stalled)
    }

    /// Evicts the connection: its task wakes and closes it.
    pub(super) fn evict(&self, why: Eviction) {
        // `set` never fails, because `ClientLimits` evicts a connection only once.
        let _ = self.eviction.set(why);
        self.waker.wake();
    }

    /// Returns whether the client certificate of the connection is no longer accepted. The connection is then closed
    /// after its requests in flight.
    pub(super) fn is_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::Acquire)
    }

    /// Records that the client certificate is no longer accepted. The task of the connection wakes and closes it.
    pub(super) fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Wakes `waker` when the connection is evicted or revoked. Call this before [`is_evicted`](Self::is_evicted), so
    /// that no eviction is missed.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Waits for `future`. Returns `None` if the connection is evicted before `future` is ready.
    pub(super) fn unless_evicted<F: Future>(&self, future: F) -> UnlessEvicted<'_, F> {
        UnlessEvicted { future, connection: self }
    }
}

pin_project! {
    /// The future of [`ClientConnection::unless_evicted`]. It is not an async function, because its future could then
    /// store `future` twice.
    pub(super) struct UnlessEvicted<'a, F> {
        #[pin]
        future: F,
        connection: &'a ClientConnection,
    }
}

impl<F: Future> Future for UnlessEvicted<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        this.connection.register(cx.waker());
        if this.connection.is_evicted() { Poll::Ready(None) } else { Poll::Pending }
    }
}

/// Adds to a counter. Only one task at a time changes such a counter, so no atomic read-modify-write is needed.
fn add(counter: &AtomicU64, bytes: usize) {
    let count = counter.load(Ordering::Relaxed);
    counter.store(count.wrapping_add(bytes as u64), Ordering::Relaxed);
}

pub(super) fn millis_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The address for which a request in flight counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CountsFor {
    /// The request counts for no address: it was refused before it was counted, or a trusted proxy announces no client.
    Nobody,
    Connection,
    /// The client that a trusted proxy announces.
    Announced(SourceNetwork),
}

/// A tunnel, and the request that has asked for it. The request stays in flight as long as the tunnel is open.
pub(super) struct PendingTunnel {
    pub(super) tunnel: BoxTunnel,
    pub(super) request: InFlight,
}

impl fmt::Debug for PendingTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingTunnel")
    }
}

/// A request in flight. The request ends when this value is dropped. The future of the response owns this value first.
/// Then the body of the response or the tunnel owns it.
#[derive(Debug)]
pub(super) struct InFlight {
    connection: Arc<ClientConnection>,
    waits_for: WaitsFor,
    counts_for: CountsFor,
    header_bytes: usize,
}

impl InFlight {
    pub(super) fn begin(connection: &Arc<ClientConnection>) -> Self {
        connection.requests.fetch_add(CHANGE + AT_SERVICE + IN_FLIGHT, Ordering::AcqRel);
        connection.has_no_send_limit.store(false, Ordering::Relaxed);
        Self {
            connection: connection.clone(),
            waits_for: WaitsFor::Service,
            counts_for: CountsFor::Nobody,
            header_bytes: 0,
        }
    }

    pub(super) fn set_waits_for(&mut self, waits_for: WaitsFor) {
        if self.waits_for == waits_for {
            return;
        }
        self.waits_for = waits_for;
        let requests = &self.connection.requests;
        match waits_for {
            WaitsFor::Service => requests.fetch_add(AT_SERVICE, Ordering::AcqRel),
            WaitsFor::Client => requests.fetch_sub(AT_SERVICE, Ordering::AcqRel),
        };
    }

    /// Compares the request with the limits. `announced` is the client that a trusted proxy announces for the request.
    ///
    /// # Errors
    /// The reason why the request must be refused. A refused request stays in flight until hyper gets its answer.
    pub(super) fn check<B>(
        &mut self,
        request: &Request<B>,
        version: HttpVersion,
        announced: Option<ClientAddress>,
    ) -> Result<(), Refusal> {
        let connection = &*self.connection;
        let bytes = match version {
            // Normally, the bytes that were read since the last request are the head, and perhaps the rest of the
            // previous body. If they are at most `MAX_HEADERS`, the head is not too large. Otherwise, the lengths of
            // all header fields are added, which takes longer than this comparison.
            HttpVersion::Http1 => {
                let read = connection.read();
                let before = connection.read_at_request.load(Ordering::Relaxed);
                connection.read_at_request.store(read, Ordering::Relaxed);
                let bytes = usize::try_from(read.wrapping_sub(before)).unwrap_or(usize::MAX);
                if bytes > MAX_HEADERS { header_list_size(request) } else { bytes }
            }
            HttpVersion::Http2 => header_list_size(request),
        };
        if bytes > MAX_HEADERS {
            return Err(Refusal::HeadersTooLarge);
        }
        if let Some(address) = connection.address.get() {
            address.begin()?;
            self.counts_for = CountsFor::Connection;
        } else if let Some(client) = announced {
            let network = SourceNetwork::of(client.ip());
            connection.shared.requests.begin(network)?;
            self.counts_for = CountsFor::Announced(network);
        }
        let bytes = bytes + request.headers().len() * FIELD_MEMORY;
        if !connection.headers.add(&connection.shared.headers, bytes) {
            return Err(Refusal::HeaderMemory);
        }
        self.header_bytes = bytes;
        Ok(())
    }

    pub(super) fn counts(&self) -> Option<&ConnectionCounts> {
        self.connection.shared.counts.as_deref()
    }

    /// Keeps the request in flight until `tunnel` ends. The headers of the request no longer count for the limit of
    /// memory.
    #[cfg(feature = "proxy")]
    pub(super) fn begin_tunnel(mut self, tunnel: BoxTunnel) {
        let connection = self.connection.clone();
        connection.headers.remove(self.header_bytes);
        self.header_bytes = 0;
        connection.headers.give_back(&connection.shared.headers);
        self.set_waits_for(WaitsFor::Service);
        connection.response.set_upgraded();
        let pending = Box::new(PendingTunnel { tunnel, request: self });
        *connection.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(pending);
    }

    /// Records that the client may take the response at any speed.
    pub(super) fn set_has_no_send_limit(&self) {
        self.connection.has_no_send_limit.store(true, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let connection = &*self.connection;
        let shared = &connection.shared;
        match self.counts_for {
            CountsFor::Nobody => {}
            CountsFor::Connection => {
                if let Some(address) = connection.address.get() {
                    address.end();
                }
            }
            CountsFor::Announced(network) => shared.requests.end(network),
        }
        connection.headers.remove(self.header_bytes);
        if connection.in_flight() == 1 {
            connection.headers.give_back(&shared.headers);
        }
        // The idle time is restarted before the connection becomes idle, so that no idle connection has an old time.
        // Each request restarts it: if two requests end at the same moment, it can happen that neither of them sees
        // that it is the last one.
        connection.restart_idle_time();
        let ended = match self.waits_for {
            WaitsFor::Service => IN_FLIGHT + AT_SERVICE,
            WaitsFor::Client => IN_FLIGHT,
        };
        connection.requests.fetch_add(CHANGE - ended, Ordering::AcqRel);
    }
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        self.headers.give_back(&self.shared.headers);
    }
}

/// Returns the size of the request target and of the header fields (RFC 9113 §6.5.2).
fn header_list_size<B>(request: &Request<B>) -> usize {
    let fields = request.headers().iter();
    let fields: usize = fields.map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    let uri = request.uri();
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    fields + path + authority
}
