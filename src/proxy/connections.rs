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
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
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
    time::{Instant, interval},
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
    /// The one that was used last is at the end.
    stack: Mutex<Vec<Unused<B>>>,
}

struct Unused<B> {
    sender: SendRequest<B>,
    since: Instant,
}

/// A connection that somebody uses, to be given back when the exchange is over. Dropped before, it
/// is closed.
pub(super) struct Lease<B> {
    pub(super) sender: SendRequest<B>,
    kept: Arc<Kept<B>>,
}

impl<B> Lease<B> {
    /// The exchange is over, as far as we are concerned.
    pub(super) fn give_back(self) {
        let Self { sender, kept, .. } = self;
        if !sender.is_closed() {
            let mut stack = lock(&kept.stack);
            if stack.len() < KEPT {
                stack.push(Unused { sender, since: Instant::now() });
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
            let sender = &stack[at].sender;
            if sender.is_closed() {
                stack.remove(at);
            } else if sender.is_ready() {
                let Unused { sender, .. } = stack.remove(at);
                return Some(Lease { sender, kept: self.clone() });
            } else {
                passed += 1;
            }
        }
        None
    }

    fn forget_unused_since(&self, then: Instant) {
        // The oldest are at the beginning.
        let mut stack = lock(&self.stack);
        let old = stack.iter().take_while(|unused| unused.since < then).count();
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
            stack: Mutex::default(),
        });
        if services.is_empty() {
            tokio::spawn(forget(Arc::downgrade(&self.services), self.idle));
        }
        services.insert(target, kept.clone());
        Ok(kept)
    }

    /// Makes a new connection.
    pub(super) fn connect(&self, kept: &Arc<Kept<B>>) -> Connecting<B> {
        let (connector, kept) = (self.connector.clone(), kept.clone());
        Box::pin(async move {
            let io = connector.oneshot(kept.uri.clone()).await.map_err(Into::into)?;
            let (mut sender, connection) = http1::handshake(io).await?;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection to a service broke off");
                }
            });
            sender.ready().await?;
            Ok(Lease { sender, kept })
        })
    }
}

/// A connection that is being made.
pub(super) type Connecting<B> = Pin<Box<dyn Future<Output = Result<Lease<B>, BoxError>> + Send>>;

/// Closes what nobody has used for so long, until nobody can use it any more.
async fn forget<B>(services: Weak<Mutex<HashMap<Target, Arc<Kept<B>>>>>, idle: Duration) {
    let mut turns = interval((idle / 2).max(Duration::from_millis(1)));
    loop {
        turns.tick().await;
        let Some(services) = services.upgrade() else { return };
        let Some(then) = Instant::now().checked_sub(idle) else { continue };
        let all: Vec<_> = lock(&services).values().cloned().collect();
        all.iter().for_each(|kept| kept.forget_unused_since(then));
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
