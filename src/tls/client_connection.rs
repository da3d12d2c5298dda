//! What is known about one connection of a client: its requests, its bytes, and since when it is idle.
//!
//! All values are atomics, because [`ClientLimits`](super::ClientLimits) reads them from other threads. A
//! request changes only the values of its own connection, and takes no lock.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use atomic_waker::AtomicWaker;
use tokio::time::Instant;

/// One connection of a client.
#[derive(Debug)]
pub(super) struct ClientConnection {
    /// The zero of `idle_since`.
    epoch: Instant,
    /// Milliseconds since `epoch`.
    idle_since: AtomicU64,
    in_flight: AtomicU32,
    /// Changes when a request begins and when it ends.
    changes: AtomicU32,
    /// The bytes that were read from the socket, and written to it.
    read: AtomicU64,
    written: AtomicU64,
    /// Whether bytes wait because the client does not take them.
    is_blocked: AtomicBool,
    has_no_send_limit: AtomicBool,
    is_evicted: AtomicBool,
    waker: AtomicWaker,
}

impl ClientConnection {
    /// A new connection. It is idle. `epoch` is the same for all connections that are compared.
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            idle_since: AtomicU64::new(millis_since(epoch)),
            in_flight: AtomicU32::new(0),
            changes: AtomicU32::new(0),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            is_blocked: AtomicBool::new(false),
            has_no_send_limit: AtomicBool::new(false),
            is_evicted: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// The number of requests that have begun and have not ended.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// A number that changes when a request begins and when it ends. It is 0 before the first request.
    pub(super) fn changes(&self) -> u32 {
        self.changes.load(Ordering::Relaxed)
    }

    /// When the last request ended, or when the connection was accepted. In milliseconds, comparable between
    /// connections.
    pub(super) fn idle_since_millis(&self) -> u64 {
        self.idle_since.load(Ordering::Relaxed)
    }

    /// When the last request ended, or when the connection was accepted.
    pub(super) fn idle_since(&self) -> Instant {
        self.epoch + Duration::from_millis(self.idle_since_millis())
    }

    /// The bytes that were read so far.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Records that `bytes` were read.
    pub(super) fn add_read(&self, bytes: usize) {
        add(&self.read, bytes);
    }

    /// The bytes that were written so far.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether bytes wait because the client does not take them.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.load(Ordering::Relaxed)
    }

    /// Records a write: how many bytes were written, or that the client takes none now.
    pub(super) fn add_written(&self, written: Poll<usize>) {
        self.is_blocked.store(written.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(bytes) = written {
            add(&self.written, bytes);
        }
    }

    /// Whether the client may take the current response as slowly as it likes. Only for HTTP/1.1, because an
    /// HTTP/2 connection has several responses.
    pub(super) fn has_no_send_limit(&self) -> bool {
        self.has_no_send_limit.load(Ordering::Relaxed)
    }

    /// Whether the connection must be closed because another client needs its place.
    pub(super) fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Relaxed)
    }

    /// Makes the task of the connection close it. A request that begins at this moment is still answered.
    pub(super) fn evict(&self) {
        self.is_evicted.store(true, Ordering::Relaxed);
        self.waker.wake();
    }

    /// Wakes `waker` when the connection is evicted. Call this before [`is_evicted`](Self::is_evicted).
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Waits until the connection is evicted.
    pub(super) async fn evicted(&self) {
        poll_fn(|cx| {
            self.register(cx.waker());
            if self.is_evicted() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Only one task at a time changes such a counter, so no atomic read-modify-write is needed.
fn add(counter: &AtomicU64, bytes: usize) {
    let count = counter.load(Ordering::Relaxed);
    counter.store(count.wrapping_add(bytes as u64), Ordering::Relaxed);
}

fn millis_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A request in flight. It ends when this value is dropped, together with the body of the response.
#[derive(Debug)]
pub(super) struct InFlight(Arc<ClientConnection>);

impl InFlight {
    /// A request on `connection` begins.
    pub(super) fn begin(connection: &Arc<ClientConnection>) -> Self {
        connection.in_flight.fetch_add(1, Ordering::AcqRel);
        connection.changes.fetch_add(1, Ordering::Relaxed);
        connection.has_no_send_limit.store(false, Ordering::Relaxed);
        Self(connection.clone())
    }

    /// The client may take the response as slowly as it likes.
    pub(super) fn set_has_no_send_limit(&self) {
        self.0.has_no_send_limit.store(true, Ordering::Relaxed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let connection = &self.0;
        // The time is stored before the connection becomes idle, so that no idle connection has an old time.
        if connection.in_flight.load(Ordering::Relaxed) == 1 {
            connection.idle_since.store(millis_since(connection.epoch), Ordering::Relaxed);
        }
        connection.changes.fetch_add(1, Ordering::Relaxed);
        connection.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}
