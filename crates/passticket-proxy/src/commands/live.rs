//! `check --live`: asks the servers that a configuration names, and prints what they answer. The command sends neither
//! passwords nor tokens of users.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{
    Request, Uri,
    header::{AGE, DATE},
};
use http_body_util::Full;
use passticket_proxy::config::{
    CertificateMapping, Config, DelegationSettings, ForwarderSettings, IdentityMapping, Logins,
    ServiceScheme, Zss,
};
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use tower::ServiceExt;
use tower_passticket::{
    apiml::Apiml,
    clock::{Clock, SystemClock},
    eureka::{EurekaClient, InstanceStatus, Registry},
    layer::TrustedForwarders,
    remote::{Address, Client, ClientLimits, Reply},
    revocation::CachingService,
    ticket_breaker::{SkewVerdict, clock_difference, clock_verdict, parse_date},
    tls::{Connector, TlsError, Verification},
    token::{IssuerKeys, JwkSetSource},
};

use super::{
    live_cluster,
    live_zaas::{self, Zaas},
};
use crate::{
    caching_service,
    connectors::{Connectors, to_authority, zowe_connector},
    discovery,
    exit::Exit,
    oidc, serve,
    terminal::print_line,
};

/// The maximum number of servers that are asked at the same time.
const MAX_CONCURRENT: usize = 16;

/// The maximum number of characters to print from a text of a server.
const MAX_SHOWN: usize = 60;

/// A server, and the question for it.
struct Peer {
    /// The role of the server, and its address, such as `z/OSMF https://zosmf.example.com/`.
    name: String,
    url: String,
    question: Question,
    connector: Connector,
    deadline: Duration,
    /// The window of the PassTicket key of the service. `None` if the clocks need not be compared.
    window: Option<Duration>,
}

#[derive(Clone)]
enum Question {
    /// Whether a connection can be opened. The [`Verification`] says how to verify the certificate of the server.
    Connect(Verification),
    /// Like `Connect`, and also whether the server answers an HTTP request. In TLS 1.3, the client completes the
    /// handshake before the server has checked the client's certificate. So a connection alone does not show that the
    /// server accepts the certificate.
    ConnectWithCertificate(Verification),
    /// Whether the server answers an HTTP request with a status other than 5xx.
    Http,
    /// Which version of z/OSMF (the management server of z/OS) answers.
    Zosmf,
    Keys,
    /// How many signing keys API ML (Zowe's API Mediation Layer) publishes.
    ApimlKeys(Address),
    /// How many certificates of trusted forwarders the server lists.
    Forwarders,
    /// Whether this gateway can use the Caching Service of API ML for revocations, and what the service contains.
    Revocations(CachingService),
    Registry(Address),
    /// Whether a discovery service lists this program as ZAAS, and whether the gateways in its list are trusted.
    Registration(Box<Registration>),
    /// Whether this program, as ZAAS, trusts a gateway of API ML to speak for its clients.
    GatewayCertificate(Zaas),
}

#[derive(Clone)]
struct Registration {
    address: Address,
    zaas: Zaas,
    to_gateways: Connector,
}

pub(crate) fn ask_all(config: &Config) -> Result<(), Exit> {
    let peers = peers(config).map_err(Exit::usage)?;
    let mut count = peers.len();
    let answers = serve::runtime()?.block_on(answers(peers));
    let mut answered = 0;
    for (name, answer) in answers {
        match answer {
            Ok(found) => {
                answered += 1;
                print_line(&format!("{name}: {found}"));
            }
            Err(problem) => print_line(&format!("{name}: FAILED: {problem}")),
        }
    }
    if config.zaas.is_some() && config.discovery.is_none() && config.zowe.is_none() {
        print_line(
            "zaas: not asked, because the addresses of the discovery service and of API ML's gateway are not known; set \
             components.passticket-proxy.discovery.eureka or components.passticket-proxy.zowe.url",
        );
    }
    if let Some(cluster) = &config.cluster {
        count += 1;
        answered += usize::from(live_cluster::ask(cluster)?);
    }
    // A server whose task panicked has no answer, so it counts as failed.
    match count - answered {
        0 => {
            print_line(&format!("all {count} servers answered"));
            Ok(())
        }
        failed => Err(Exit::Negative(format!("{failed} of {count} servers failed"))),
    }
}

/// Asks the servers concurrently. Returns the answers in the order of `peers`.
async fn answers(peers: Vec<Peer>) -> Vec<(String, Result<String, String>)> {
    let permits = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut tasks = JoinSet::new();
    for (index, peer) in peers.into_iter().enumerate() {
        let permits = permits.clone();
        tasks.spawn(async move {
            let _permit = permits.acquire().await;
            let answer = match (peer.ask().await, peer.window) {
                (Ok(found), Some(window)) => peer.compare_clocks(found, window).await,
                (answer, _) => answer,
            };
            (index, peer.name, answer)
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = tasks.join_next().await {
        // A task that panicked has printed the panic.
        answers.extend(answer.ok());
    }
    answers.sort_by_key(|(index, ..)| *index);
    answers.into_iter().map(|(_, name, answer)| (name, answer)).collect()
}

impl Peer {
    async fn ask(&self) -> Result<String, String> {
        match &self.question {
            Question::Connect(verification) => self.connect(*verification).await,
            Question::ConnectWithCertificate(verification) => {
                let found = self.connect(*verification).await?;
                let status = self.get(&self.url).await?.status();
                Ok(format!(
                    "{found}; it answers with HTTP {status} to a request with the client certificate of the gateway"
                ))
            }
            Question::Http => {
                let reply = self.get(&self.url).await?;
                match reply.status() {
                    status if status.is_server_error() => {
                        Err(format!("answers with HTTP {status}"))
                    }
                    status => {
                        Ok(format!("answers with HTTP {status} to a request without credentials"))
                    }
                }
            }
            Question::Zosmf => {
                let reply =
                    self.get(&format!("{}/zosmf/info", self.url.trim_end_matches('/'))).await?;
                zosmf_version(&reply)
            }
            Question::Keys => {
                let reply = self.get(&self.url).await?;
                let reply = reply.successful().map_err(|error| error.to_string())?;
                listed_keys(reply.body())
            }
            Question::ApimlKeys(address) => {
                let apiml = Apiml::new(self.client(), address.clone());
                listed_keys(&apiml.fetch().await.map_err(|error| chain(&error))?)
            }
            Question::Forwarders => {
                let reply = self.get(&self.url).await?;
                let reply = reply.successful().map_err(|error| error.to_string())?;
                let certificates = TrustedForwarders::fingerprints(reply.body());
                let certificates = certificates.map_err(|error| error.to_string())?;
                Ok(format!("lists {} certificates", certificates.len()))
            }
            Question::Revocations(service) => {
                let found = service.prepare().await.map_err(|error| error.to_string())?;
                Ok(format!("{found}"))
            }
            Question::Registry(address) => {
                let mut eureka = EurekaClient::new(self.connector.clone(), [address.clone()]);
                eureka.fetch().await.map_err(|error| error.to_string())?;
                Ok(listed_services(eureka.registry()))
            }
            Question::Registration(registration) => {
                let Registration { address, zaas, to_gateways } = &**registration;
                let mut eureka = EurekaClient::new(self.connector.clone(), [address.clone()]);
                eureka.fetch().await.map_err(|error| error.to_string())?;
                let mut found = zaas.registration(eureka.registry())?;
                for gateway in live_zaas::gateways(eureka.registry()) {
                    let asked = Self::gateway(gateway.clone(), zaas, to_gateways, self.deadline);
                    let trusted = Box::pin(asked.ask()).await;
                    let trusted = trusted.map_err(|error| format!("{found}; {gateway} {error}"))?;
                    found = format!("{found}; {gateway} {trusted}");
                }
                Ok(found)
            }
            Question::GatewayCertificate(zaas) => {
                let url = self.url.trim_end_matches('/');
                let reply = self.get(&format!("{url}{}", live_zaas::CERTIFICATES)).await?;
                let reply = reply.successful().map_err(|error| error.to_string())?;
                zaas.trust(reply.body())
            }
        }
    }

    fn gateway(url: String, zaas: &Zaas, connector: &Connector, deadline: Duration) -> Self {
        Self {
            name: format!("API ML gateway {url}"),
            url,
            question: Question::GatewayCertificate(zaas.clone()),
            connector: connector.clone(),
            deadline,
            window: None,
        }
    }

    /// Compares the clock of the server with the clock of this machine. z/OS accepts a PassTicket only if the two
    /// clocks differ by less than the window of the key.
    async fn compare_clocks(&self, found: String, window: Duration) -> Result<String, String> {
        let Ok(reply) = self.get(&self.url).await else {
            return Ok(format!(
                "{found}; it does not answer HTTP, so the clocks were not compared"
            ));
        };
        let date = reply.headers().get(DATE).filter(|_| !reply.headers().contains_key(AGE));
        let date = date.and_then(|date| parse_date(date.as_bytes()));
        let Some(date) = date else {
            return Ok(format!("{found}; it sends no Date, so the clocks were not compared"));
        };
        let secs = clock_difference(date, SystemClock.now());
        let direction = if secs < 0 { "behind" } else { "ahead" };
        let differs = format!("its clock is {} s {direction}", secs.unsigned_abs());
        let window_secs = window.as_secs();
        match clock_verdict(secs, window) {
            SkewVerdict::Agree => Ok(format!("{found}; the clocks agree")),
            SkewVerdict::Warn => Ok(format!(
                "{found}; WARNING: {differs}, more than a quarter of windowSeconds ({window_secs}); set the clocks"
            )),
            _ => Err(format!(
                "{differs}, more than half of windowSeconds ({window_secs}), so the gateway would stop its PassTickets; \
                 set the clocks"
            )),
        }
    }

    async fn connect(&self, verification: Verification) -> Result<String, String> {
        let uri: Uri = self.url.parse().map_err(|_| "is not a URL".to_owned())?;
        let has_tls = uri.scheme_str() == Some("https");
        let deadline = self.deadline;
        let connected = timeout(deadline, self.connector.clone().oneshot(uri)).await;
        let connected = connected.map_err(|_| format!("no connection within {deadline:?}"))?;
        connected.map_err(|error| chain(&error))?;
        Ok(match (has_tls, verification) {
            (false, _) => "accepts connections, without TLS".to_owned(),
            (true, Verification::Disabled) => {
                "accepts TLS connections; its certificate is not verified".to_owned()
            }
            (true, Verification::NonStrict) => {
                "accepts TLS connections; its certificate is valid, its name is not verified"
                    .to_owned()
            }
            (true, _) => "accepts TLS connections; its certificate is valid".to_owned(),
        })
    }

    async fn get(&self, url: &str) -> Result<Reply, String> {
        let request = Request::get(url)
            // z/OSMF refuses requests without this header.
            .header("x-csrf-zosmf-header", "")
            .body(Full::<Bytes>::default());
        let request = request.map_err(|_| "is not a URL".to_owned())?;
        self.client().call_once(request).await.map_err(|error| chain(&error))
    }

    fn client(&self) -> Client<Connector> {
        let limits = ClientLimits::default().with_deadline(self.deadline);
        Client::new(self.connector.clone(), limits)
    }
}

/// Returns a text with the numbers of services and instances that are UP.
fn listed_services(registry: &Registry) -> String {
    let up: Vec<_> = registry.instances().filter(|it| it.status == InstanceStatus::Up).collect();
    let services: BTreeSet<_> = up.iter().map(|instance| &instance.app).collect();
    format!("lists {} services with {} instances that are UP", services.len(), up.len())
}

/// Returns a text with the number of keys in a JWK set. A set without a usable key is an error.
fn listed_keys(set: &[u8]) -> Result<String, String> {
    IssuerKeys::from_jwk_set(set).map_err(|error| error.to_string())?;
    let document: Option<Value> = serde_json::from_slice(set).ok();
    let keys = document.as_ref().and_then(|document| document["keys"].as_array());
    Ok(format!("lists {} keys", keys.map_or(0, Vec::len)))
}

/// Returns a text with the versions in the answer of `/zosmf/info`.
fn zosmf_version(reply: &Reply) -> Result<String, String> {
    let status = reply.status();
    let document: Option<Value> =
        serde_json::from_slice(reply.body()).ok().filter(|_| status.is_success());
    let text = |key: &str| {
        let text = document.as_ref()?[key].as_str()?;
        text.chars().all(|c| c.is_ascii_graphic() || c == ' ').then(|| shortened(text))
    };
    match (text("zosmf_version"), text("zos_version")) {
        (Some(zosmf), Some(zos)) => Ok(format!("is z/OSMF {zosmf} on z/OS {zos}")),
        (Some(zosmf), None) => Ok(format!("is z/OSMF {zosmf}")),
        _ => Err(format!("answers with HTTP {status}, but not as z/OSMF does")),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // Some errors contain the text of their cause.
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

/// Returns for each instance of a service with the scheme `httpBasicPassTicket` the window of its PassTicket key. The
/// key of the map is [`Peer::name`]. If there are several PassTicket keys, the shortest window counts.
fn windows(config: &Config) -> BTreeMap<String, Duration> {
    let mut windows = BTreeMap::new();
    let now = SystemClock.now();
    for route in &config.routes {
        let ServiceScheme::HttpBasicPassTicket { applid } = route.scheme() else { continue };
        let keys = config.profiles.iter().filter(|profile| *profile.applid() == applid);
        let Some(window) = keys.map(|profile| profile.at(now).window()).min() else { continue };
        for upstream in route.instances() {
            let url = format!("{}://{}", upstream.scheme(), upstream.authority());
            let shortest = windows.entry(format!("service {} {url}", route.service()));
            let shortest: &mut Duration = shortest.or_insert(window);
            *shortest = window.min(*shortest);
        }
    }
    windows
}

/// Returns the servers of a configuration, except Redis. A server with several roles is listed once for each role. Each
/// entry has the connector that the gateway itself uses in this role. There is one exception: the gateway does not
/// connect to the gateways of API ML that use it as their ZAAS. For these, the connector verifies strictly.
fn peers(config: &Config) -> Result<Vec<Peer>, TlsError> {
    let mut peers: Vec<Peer> = Vec::new();
    let windows: BTreeMap<String, Duration> = windows(config);
    let mut add = |role: &str, url: String, question, connector: Connector, deadline| {
        let name = format!("{role} {url}");
        if peers.iter().all(|known| known.name != name) {
            let window = windows.get(&name).copied();
            peers.push(Peer { name, url, question, connector, deadline, window });
        }
    };
    let connectors = Connectors::new(config)?;
    let provider = config.timeouts.provider;
    for route in &config.routes {
        let role = format!("service {}", route.service());
        let question = match config.client_identities.on(route) {
            None => Question::Connect(config.verify),
            Some(_) => Question::ConnectWithCertificate(config.verify),
        };
        for upstream in route.instances() {
            let url = format!("{}://{}", upstream.scheme(), upstream.authority());
            let (connector, question) = (connectors.of(route.service()).clone(), question.clone());
            add(&role, url, question, connector, config.timeouts.connect.min(provider));
        }
    }
    let for_logins = connectors.to_logins(config)?;
    match &config.logins {
        Logins::Zosmf(zosmf) => {
            let connector = for_logins.clone();
            add("z/OSMF", zosmf.address.to_string(), Question::Zosmf, connector, provider);
        }
        Logins::Zss(address) => {
            add("ZSS", address.to_string(), Question::Http, for_logins.clone(), provider);
        }
        _ => {}
    }
    if let Some(zosmf) = &config.scheme_peers.zosmf {
        let connector = for_logins.clone();
        add("z/OSMF", zosmf.address.to_string(), Question::Zosmf, connector, provider);
    }
    if let Some(address) = &config.scheme_peers.saf_tokens {
        add("SAF identity tokens", address.to_string(), Question::Http, for_logins, provider);
    }
    if let Some(peer) = &config.zowe {
        let url = peer.url.to_string();
        let connector = to_authority(config, &config.tls.service_authorities)?;
        add("API ML", url.clone(), Question::ApimlKeys(peer.url.clone()), connector, provider);
        if let Some(connector) = zowe_connector(config)? {
            add("PassTickets of API ML", url.clone(), Question::Http, connector, provider);
        }
        if let Some(settings) = caching_service::settings_to_read(config)
            && let (Some(service), Some(connector)) =
                (caching_service::with_settings(config, settings)?, zowe_connector(config)?)
        {
            let question = Question::Revocations(service);
            add("revocations of API ML", url, question, connector, provider);
        }
    }
    if let (Some(discovery), Some(part)) = (&config.discovery, discovery::finding(config, None)?) {
        let connector = part.value.connector;
        for address in &discovery.eureka {
            let (url, question) = (address.to_string(), Question::Registry(address.clone()));
            add("discovery service", url, question, connector.clone(), provider);
        }
    }
    if let Some(zaas) = Zaas::new(config)? {
        let to_gateways = to_authority(config, &config.tls.service_authorities)?;
        if let Some(peer) = &config.zowe {
            let (url, question) =
                (peer.url.to_string(), Question::GatewayCertificate(zaas.clone()));
            add("API ML gateway", url, question, to_gateways.clone(), provider);
        }
        if let (Some(discovery), Some(part)) =
            (&config.discovery, discovery::finding(config, None)?)
        {
            let connector = part.value.connector;
            for address in &discovery.eureka {
                let (url, to_gateways) = (address.to_string(), to_gateways.clone());
                let (address, zaas) = (address.clone(), zaas.clone());
                let registration = Box::new(Registration { address, zaas, to_gateways });
                let question = Question::Registration(registration);
                add("registration as ZAAS", url, question, connector.clone(), provider);
            }
        }
    }
    if let Some(ForwarderSettings { urls, .. }) = &config.forwarders {
        let connector = to_authority(config, &config.tls.service_authorities)?;
        for url in urls {
            let connector = connector.clone();
            add("forwarders", url.to_string(), Question::Forwarders, connector, provider);
        }
    }
    let mut http = |role: &str, address: &Address| {
        add(role, address.to_string(), Question::Http, connectors.anonymous.clone(), provider);
    };
    if let Some(address) = &config.saf_endpoint {
        http("SAF endpoint", address);
    }
    if let CertificateMapping::Zss(Zss { address, .. }) = &config.certificate_mapping {
        http("certificate mapper", address);
    }
    let delegation = config.delegation.as_ref().map(|DelegationSettings { mapping, .. }| mapping);
    for mapping in config.identity_mapping.iter().chain(delegation) {
        if let IdentityMapping::Zss(Zss { address, .. }) = mapping {
            http("identity mapper", address);
        }
    }
    for settings in &config.oidc {
        let connector = oidc::connector(settings, config)?;
        add("identity provider", settings.jwks.to_string(), Question::Keys, connector, provider);
    }
    Ok(peers)
}
