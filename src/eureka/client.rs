//! Fetches the registry of Eureka: the list of all registered instances of services.

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

/// The time limit of one request. A fetch sends one or two requests to a host: for the delta, for the whole registry,
/// or for both.
const DEADLINE: Duration = Duration::from_secs(10);

/// A delta is used only if the last fetch was less than this time ago. The delta of Eureka contains only the changes of
/// the last three minutes.
const DELTA_FOR: Duration = Duration::from_secs(120);

/// After this time, the client fetches the whole registry again. The client compares the hash code of the registry
/// after each delta. But this code contains only the number of instances with each status. So equal codes do not prove
/// that no change was missed.
const FULL_EVERY: Duration = Duration::from_secs(600);

/// A client that fetches the registry from one or more hosts.
///
/// The client tries the hosts in turn, beginning with the host that answered last. The first fetch gets the whole
/// registry. A later fetch gets only the changes (`/apps/delta`), and the client applies them. Then it compares the
/// hash code of the resulting registry with the hash code in the answer. A later fetch gets the whole registry in these
/// cases:
///
/// - The two hash codes differ, or the delta cannot be used.
/// - The client asks a host other than the last one.
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

/// When the client last fetched from the current host.
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
    /// The errors of the hosts that the client tried before this host.
    pub failed: Vec<EurekaError>,
}

impl<C: Connect> EurekaClient<C> {
    /// Creates a client that connects with `connector` to `hosts`. Eureka's paths are appended to each address, such as
    /// `https://zos1:7553/eureka/`.
    pub fn new(connector: C, hosts: impl IntoIterator<Item = Address>) -> Self {
        let limits = ClientLimits::default().with_deadline(DEADLINE).with_max_body(MAX_BODY);
        let host = |address| Host { client: Client::new(connector.clone(), limits), address };
        let hosts = hosts.into_iter().map(host).collect();
        Self { hosts, current: 0, registry: Arc::default(), last: None }
    }

    /// Begins with the host at the index `host` (counted from 0) modulo the number of hosts. If several gateways begin
    /// with different hosts, the hosts share the load.
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
    /// If no host gave a usable answer, the error of the host that was tried last. If there are no hosts, also an
    /// error. In both cases, the registry does not change.
    pub async fn fetch(&mut self) -> Result<Fetched, EurekaError> {
        let mut failed = Vec::new();
        for turn in 0..self.hosts.len() {
            let at = (self.current + turn) % self.hosts.len();
            if at != self.current {
                // The delta of another host can begin at another time. So the client fetches the whole registry.
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
                // If the delta cannot be used, the client asks the same host for the whole registry. It tries the next
                // host only if this fails, too.
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
        // Parsing 16 MB takes some hundred milliseconds, which would block the other tasks of this thread.
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
    // Without `Accept`, Eureka answers in XML.
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

/// Why a host gave no usable answer. The error contains the address of the host. Of the answer, it contains at most the
/// status, the hash code, and the position of a problem.
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

    /// Returns `true` if the host has answered, but the answer cannot be used, and if no path can be appended to the
    /// address of the host. Returns `false` if the host has not answered, or with a status 5xx.
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
