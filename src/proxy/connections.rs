//! Connections to the services: each carries one request at a time, and is kept for the next.
//!
//! A pool of its own, and not the one of `hyper-util`, which does more for each request than a proxy
//! needs (`benches/compare` has a minimal proxy on that one). Here the connection that was used last
//! is used next, and giving one back is to put it on a stack.

use std::{
    collections::HashMap,
    error::Error as StdError,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    thread::{self, ThreadId},
    time::Duration,
};

use http::{HeaderValue, Uri, uri};
use hyper::{
    body::Body,
    client::conn::http1::{self, SendRequest},
    rt::{Read, Write},
};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    time::{Sleep, interval, sleep},
};
use tower::{Service, ServiceExt};

use crate::layer::Upstream;

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// So many connections to one service are kept while nobody uses them.
const KEPT: usize = 256;

/// So many that have not ended their last exchange yet are passed over before a new one is made.
const PASSED_OVER: usize = 4;

/// The connections to all services.
pub(super) struct Connections<C, B> {
    connector: C,
    idle: Duration,
    services: Arc<Mutex<HashMap<Target, Arc<Kept<B>>>>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Target {
    scheme: uri::Scheme,
    authority: uri::Authority,
    /// A runtime of one thread drives its connections itself, and keeps them for itself: to wake
    /// another thread for each request costs more than to have a connection more.
    thread: Option<ThreadId>,
}

/// The connections to one service that nobody uses.
pub(super) struct Kept<B> {
    host: HeaderValue,
    uri: Uri,
    /// Counts how often what is unused was looked at: cheaper to note than the time.
    turn: AtomicU64,
    /// The one that was used last is at the end.
    stack: Mutex<Vec<Unused<B>>>,
}

struct Unused<B> {
    wire: Wire<B>,
    /// The turn in which it was given back.
    since: u64,
}

/// A connection, and the timer of its exchanges.
pub(super) struct Wire<B> {
    pub(super) sender: SendRequest<B>,
    /// For who waits for an answer. It is not set for each exchange anew, which would cost more than
    /// to look, when it goes off, whether the time of the present one is up.
    pub(super) timer: Pin<Box<Sleep>>,
}

/// A connection that somebody uses, to be given back when the exchange is over. Dropped before, it
/// is closed.
pub(super) struct Lease<B> {
    pub(super) wire: Wire<B>,
    kept: Arc<Kept<B>>,
}

impl<B> Lease<B> {
    /// The exchange is over, as far as we are concerned.
    pub(super) fn give_back(self) {
        let Self { wire, kept } = self;
        if !wire.sender.is_closed() {
            let since = kept.turn.load(Ordering::Relaxed);
            let mut stack = lock(&kept.stack);
            if stack.len() < KEPT {
                stack.push(Unused { wire, since });
            }
        }
    }
}

impl<B> fmt::Debug for Lease<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("service", &self.kept.uri).finish_non_exhaustive()
    }
}

impl<B> Kept<B> {
    /// What the header `Host` of requests is (RFC 9110 §7.2).
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// A connection that can carry a request at once, if there is one.
    pub(super) fn take(self: &Arc<Self>) -> Option<Lease<B>> {
        let mut stack = lock(&self.stack);
        let mut passed = 0;
        let mut at = stack.len();
        while at > 0 && passed < PASSED_OVER {
            at -= 1;
            let sender = &stack[at].wire.sender;
            if sender.is_closed() {
                stack.remove(at);
            } else if sender.is_ready() {
                let Unused { wire, .. } = stack.remove(at);
                return Some(Lease { wire, kept: self.clone() });
            } else {
                passed += 1;
            }
        }
        None
    }

    /// Closes what nobody has used for `turns` of these.
    fn forget_unused_for(&self, turns: u64) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) + 1;
        // The oldest are at the beginning.
        let mut stack = lock(&self.stack);
        let old = stack.iter().take_while(|unused| turn - unused.since > turns).count();
        stack.drain(..old);
    }
}

impl<C: Clone, B> Clone for Connections<C, B> {
    fn clone(&self) -> Self {
        let (connector, services) = (self.connector.clone(), self.services.clone());
        Self { connector, idle: self.idle, services }
    }
}

impl<C, B> Connections<C, B> {
    /// Connects with `connector`, and keeps a connection that nobody uses for `idle`.
    pub(super) fn new(connector: C, idle: Duration) -> Self {
        Self { connector, idle, services: Arc::default() }
    }
}

impl<C, B> Connections<C, B>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    C::Response: Read + Write + Unpin + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    /// Those to `upstream`.
    pub(super) fn to(&self, upstream: &Upstream) -> Result<Arc<Kept<B>>, http::Error> {
        let scheme = upstream.scheme().clone();
        let is_alone = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
        let thread = is_alone.then(|| thread::current().id());
        let target = Target { scheme, authority: upstream.authority().clone(), thread };
        let mut services = lock(&self.services);
        if let Some(kept) = services.get(&target) {
            return Ok(kept.clone());
        }
        let kept = Arc::new(Kept {
            host: host(&target)?,
            uri: Uri::builder()
                .scheme(target.scheme.clone())
                .authority(target.authority.clone())
                .path_and_query("/")
                .build()?,
            turn: AtomicU64::new(0),
            stack: Mutex::default(),
        });
        if services.is_empty() {
            tokio::spawn(forget(Arc::downgrade(&self.services), self.idle));
        }
        services.insert(target, kept.clone());
        Ok(kept)
    }

    /// Makes a new connection, whose timer goes off after `timeout`.
    pub(super) fn connect(&self, kept: &Arc<Kept<B>>, timeout: Duration) -> Connecting<B> {
        let (connector, kept) = (self.connector.clone(), kept.clone());
        let made = Box::pin(async move {
            let io = connector.oneshot(kept.uri.clone()).await.map_err(Into::into)?;
            let (mut sender, connection) = http1::handshake(io).await?;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to a service broke off");
                }
            });
            sender.ready().await?;
            Ok((sender, kept))
        });
        Connecting { made, timer: Some(Box::pin(sleep(timeout))) }
    }
}

/// A connection that is being made.
pub(super) struct Connecting<B> {
    made: Pin<Box<dyn Future<Output = Result<Made<B>, BoxError>> + Send>>,
    // Taken when the connection is there.
    timer: Option<Pin<Box<Sleep>>>,
}

type Made<B> = (SendRequest<B>, Arc<Kept<B>>);

impl<B> Connecting<B> {
    pub(super) fn timer(&mut self) -> &mut Pin<Box<Sleep>> {
        self.timer.as_mut().expect("nobody waits for a connection that is there")
    }
}

impl<B> Future for Connecting<B> {
    type Output = Result<Lease<B>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (sender, kept) = ready!(self.made.as_mut().poll(cx))?;
        let timer = self.timer.take().expect("polled once to the end");
        Poll::Ready(Ok(Lease { wire: Wire { sender, timer }, kept }))
    }
}

/// Closes what nobody has used for so long, or half as long again, until nobody can use it any more.
async fn forget<B>(services: Weak<Mutex<HashMap<Target, Arc<Kept<B>>>>>, idle: Duration) {
    let mut turns = interval((idle / 2).max(Duration::from_millis(1)));
    loop {
        turns.tick().await;
        let Some(services) = services.upgrade() else { return };
        let all: Vec<_> = lock(&services).values().cloned().collect();
        all.iter().for_each(|kept| kept.forget_unused_for(2));
    }
}

/// Without the port where it is the one of the scheme (RFC 9110 §7.2), and never with a user.
fn host(target: &Target) -> Result<HeaderValue, http::Error> {
    let usual = if target.scheme == uri::Scheme::HTTPS { 443 } else { 80 };
    let name = target.authority.host();
    Ok(match target.authority.port_u16() {
        Some(port) if port != usual => HeaderValue::try_from(format!("{name}:{port}"))?,
        _ => HeaderValue::try_from(name)?,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds one of these locks can leave things half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_that_of_the_service() {
        for (scheme, authority, want) in [
            ("http", "zos.example", "zos.example"),
            ("http", "zos.example:80", "zos.example"),
            ("http", "zos.example:443", "zos.example:443"),
            ("https", "zos.example:443", "zos.example"),
            ("https", "zos.example:10012", "zos.example:10012"),
            ("https", "[::1]:10012", "[::1]:10012"),
        ] {
            let target = Target {
                scheme: scheme.parse().unwrap(),
                authority: authority.parse().unwrap(),
                thread: None,
            };
            assert_eq!(host(&target).unwrap(), want, "{scheme}://{authority}");
        }
    }
}
