//! Fetches the registry of Eureka, which is the list of all registered instances of services.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Request, StatusCode, Uri,
    header::{ACCEPT, ACCEPT_ENCODING},
};
use http_body_util::Full;
use tokio::{task::spawn_blocking, time::Instant};

use super::{
    body::{MAX_BODY, decode},
    delta::DeltaError,
    document::{Document, ParseError},
    registry::Registry,
};
use crate::{
    log_limit::log_limited,
    remote::{Address, Client, ClientLimits, Connect, RemoteError, Reply},
};

/// The maximum time of one request. A fetch sends up to two requests to each host: for the delta, and for the whole
/// registry.
const DEADLINE: Duration = Duration::from_secs(10);

/// After this time without a successful fetch, the next fetch gets the whole registry. The delta of Eureka contains
/// only the changes of the last three minutes. So after a longer time, the delta would lack changes.
const DELTA_FOR: Duration = Duration::from_secs(120);

/// If the client has fetched the whole registry this time ago or earlier, the next fetch gets the whole registry again.
/// The client compares the hash code of the registry after each delta, but this code only counts the instances of each
/// status. So it does not reveal every change that was missed.
const FULL_EVERY: Duration = Duration::from_secs(600);

/// Fetches the registry from one or more hosts.
///
/// The hosts are tried in turn, beginning with the host that answered last. After the first fetch, the client asks only
/// for the changes (`/apps/delta`) and applies them. It compares the hash code of the resulting registry with the hash
/// code in the answer. The client fetches the whole registry in these cases:
///
/// - The two hash codes differ, or there is no usable delta.
/// - The client asks another host than before.
/// - The last fetch has failed, or was two minutes ago or more.
/// - The last fetch of the whole registry was ten minutes ago or more.
///
/// If no host gives a usable answer, the client keeps the last registry.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use hyper_util::client::legacy::connect::HttpConnector;
/// use tower_passticket::eureka::EurekaClient;
///
/// // For TLS with a client certificate, which Zowe's discovery service needs, use `tls::Connector`.
/// let hosts = ["http://localhost:7553/eureka/".parse()?];
/// let mut eureka = EurekaClient::new(HttpConnector::new(), hosts);
/// loop {
///     if eureka.fetch().await?.has_changed {
///         for instance in eureka.registry().instances() {
///             println!("{} {}", instance.app, instance.host);
///         }
///     }
///     tokio::time::sleep(std::time::Duration::from_secs(30)).await;
/// }
/// # }
/// ```
pub struct EurekaClient<C> {
    hosts: Vec<Host<C>>,
    /// The host that answered last.
    current: usize,
    registry: Arc<Registry>,
    last: Option<Last>,
}

struct Host<C> {
    client: Client<C>,
    address: Address,
}

/// The times of the last fetches from the current host.
#[derive(Clone, Copy)]
struct Last {
    any: Instant,
    full: Instant,
}

/// The part of the registry that was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// The whole registry.
    Full,
    /// The changes since the last fetch.
    Delta,
}

/// The result of a successful fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetched {
    /// The part of the registry that was fetched.
    pub fetch: Fetch,
    /// Whether the registry differs from the previous one.
    pub has_changed: bool,
    /// The host that answered.
    pub address: Address,
    /// For each host that was tried before this host, the reason why it gave no usable answer.
    pub failed: Vec<EurekaError>,
}

impl<C: Connect> EurekaClient<C> {
    /// Creates a client that connects with `connector` to `hosts`. An address is the base of Eureka's paths, such as
    /// `https://zos1:7553/eureka/`.
    pub fn new(connector: C, hosts: impl IntoIterator<Item = Address>) -> Self {
        let limits = ClientLimits::default().with_deadline(DEADLINE).with_max_body(MAX_BODY);
        let host = |address| Host { client: Client::new(connector.clone(), limits), address };
        let hosts = hosts.into_iter().map(host).collect();
        Self { hosts, current: 0, registry: Arc::default(), last: None }
    }

    /// Sends the first fetch to the host with the index `host` modulo the number of hosts, counted from 0. If several
    /// gateways begin with different hosts, the hosts share the load.
    #[must_use]
    pub fn with_first_host(self, host: usize) -> Self {
        let current = host.checked_rem(self.hosts.len()).unwrap_or_default();
        Self { current, ..self }
    }

    /// Returns the registry of the last successful fetch. It is empty before the first successful fetch.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Fetches the registry, or its changes.
    ///
    /// # Errors
    /// The error of the host that was tried last, if no host gave a usable answer. Also an error if there are no hosts.
    /// In both cases, the registry stays as it was.
    pub async fn fetch(&mut self) -> Result<Fetched, EurekaError> {
        let mut failed = Vec::new();
        for turn in 0..self.hosts.len() {
            let at = (self.current + turn) % self.hosts.len();
            if at != self.current {
                // The delta of another host may begin at another time, so the whole registry is fetched.
                self.last = None;
            }
            match self.fetch_from(at).await {
                Ok((fetch, registry)) => {
                    let address = self.hosts[at].address.clone();
                    self.current = at;
                    let has_changed = *self.registry != registry;
                    if has_changed {
                        self.registry = Arc::new(registry);
                    }
                    return Ok(Fetched { fetch, has_changed, address, failed });
                }
                Err(error) => failed.push(error),
            }
        }
        self.last = None;
        Err(failed.pop().unwrap_or(EurekaError {
            address: "(no host)".to_owned(),
            cause: Cause::Remote(RemoteError::Unavailable("no host is configured".to_owned())),
        }))
    }

    async fn fetch_from(&mut self, at: usize) -> Result<(Fetch, Registry), EurekaError> {
        let host = &self.hosts[at];
        let now = Instant::now();
        let delta_since = self.last.filter(|last| {
            now.duration_since(last.any) < DELTA_FOR && now.duration_since(last.full) < FULL_EVERY
        });
        if let Some(last) = delta_since {
            match host.delta(&self.registry).await {
                Ok(registry) => {
                    self.last = Some(Last { any: now, ..last });
                    return Ok((Fetch::Delta, registry));
                }
                // A bad delta is no reason to try another host. The next host is tried only if the full fetch fails,
                // too.
                Err(error) => {
                    let address = &host.address;
                    log_limited!(debug, ("delta", address), { %address, %error }, "delta of the registry not used; fetching the whole registry");
                }
            }
        }
        let registry = host.full().await?;
        self.last = Some(Last { any: now, full: now });
        Ok((Fetch::Full, registry))
    }
}

impl<C: Connect> Host<C> {
    async fn full(&self) -> Result<Registry, EurekaError> {
        Ok(self.get(&["apps"]).await?.into_registry())
    }

    async fn delta(&self, registry: &Registry) -> Result<Registry, EurekaError> {
        let delta = self.get(&["apps", "delta"]).await?;
        registry.apply(delta).map_err(|error| self.error(Cause::Delta(error)))
    }

    async fn get(&self, path: &[&str]) -> Result<Document, EurekaError> {
        self.try_get(path).await.map_err(|cause| self.error(cause))
    }

    async fn try_get(&self, path: &[&str]) -> Result<Document, Cause> {
        let uri = self.address.join(path).ok_or(Cause::Address)?;
        let reply = self.client.call(request(uri)).await.map_err(Cause::Remote)?;
        if reply.status() == StatusCode::FORBIDDEN {
            return Err(Cause::Forbidden);
        }
        let reply = reply.successful().map_err(Cause::Remote)?;
        // Parsing 16 MB takes some hundred milliseconds. During this time, other tasks of this thread must be able to
        // run.
        let parsed = spawn_blocking(move || read(&reply)).await;
        parsed.unwrap_or_else(|error| Err(Cause::Body(error.to_string())))
    }

    fn error(&self, cause: Cause) -> EurekaError {
        EurekaError { address: self.address.to_string(), cause }
    }
}

fn request(uri: Uri) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    // Without this header, Eureka answers in XML.
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    request
}

fn read(reply: &Reply) -> Result<Document, Cause> {
    let json = decode(reply.headers(), reply.body()).map_err(|e| Cause::Body(e.to_string()))?;
    Document::parse(&json).map_err(Cause::Parse)
}

impl<C> fmt::Debug for EurekaClient<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.hosts.iter().map(|host| &host.address).collect();
        f.debug_struct("EurekaClient").field("hosts", &hosts).finish_non_exhaustive()
    }
}

/// The reason why a host gave no usable answer. The error contains the address of the host. Of the host's answer, the
/// error contains at most the status, the hash code, and the position of a problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address}: {cause}")]
pub struct EurekaError {
    address: String,
    cause: Cause,
}

impl EurekaError {
    /// Returns the address of the host.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns whether the host has answered, but its answer cannot be used. Returns `false` if the answer has a status
    /// 5xx. Also returns `true` if no path can be appended to the address of the host.
    pub fn is_answer(&self) -> bool {
        !matches!(self.cause, Cause::Remote(RemoteError::Unavailable(_)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Cause {
    #[error("{0}")]
    Remote(RemoteError),
    #[error(
        "not a usable response: status 403; the discovery service needs a client certificate that it trusts"
    )]
    Forbidden,
    #[error("not a usable response: {0}")]
    Body(String),
    #[error("not a usable response: {0}")]
    Parse(ParseError),
    #[error("{0}")]
    Delta(DeltaError),
    #[error("no path can be appended to the address")]
    Address,
}
