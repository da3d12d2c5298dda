//! A fake Eureka. Eureka is the discovery service of Zowe's API Mediation Layer (docs/reference/zowe-site.md#eureka).

use std::{
    collections::BTreeMap,
    io::Write,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::fake::{Answer, Fake, Request};

/// The registration of an instance of a service.
#[derive(Clone, Debug)]
pub struct Registration {
    app: String,
    host: String,
    port: u16,
    is_secure: bool,
    status: &'static str,
    health_url: Option<String>,
    metadata: BTreeMap<String, String>,
}

impl Registration {
    /// Creates a registration of an instance of the service `app` with TLS.
    pub fn https(app: &str, host: &str, port: u16) -> Self {
        let (app, host) = (app.to_uppercase(), host.to_owned());
        let (is_secure, health_url, metadata) = (true, None, BTreeMap::new());
        Self { app, host, port, is_secure, status: "UP", health_url, metadata }
    }

    /// Creates a registration of an instance of the service `app` without TLS.
    pub fn http(app: &str, host: &str, port: u16) -> Self {
        Self { is_secure: false, ..Self::https(app, host, port) }
    }

    /// Sets the URL of the health check of the instance.
    #[must_use]
    pub fn with_health_url(self, url: String) -> Self {
        Self { health_url: Some(url), ..self }
    }

    /// Adds an entry of the metadata.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.metadata.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds a route. The gateway forwards requests below `/{app}/{gateway_url}` to `service_url`.
    #[must_use]
    pub fn with_route(self, gateway_url: &str, service_url: &str) -> Self {
        let id = gateway_url.replace('/', "-");
        self.with(&format!("apiml.routes.{id}.gatewayUrl"), gateway_url)
            .with(&format!("apiml.routes.{id}.serviceUrl"), service_url)
    }

    /// Adds the authentication scheme and, unless it is empty, the APPLID (name of a z/OS application).
    #[must_use]
    pub fn with_scheme(self, scheme: &str, applid: &str) -> Self {
        let this = self.with("apiml.authentication.scheme", scheme);
        match applid {
            "" => this,
            _ => this.with("apiml.authentication.applid", applid),
        }
    }

    /// Returns the id of the instance.
    pub fn id(&self) -> String {
        format!("{}:{}:{}", self.host, self.app.to_lowercase(), self.port)
    }

    fn json(&self, action: &str) -> Value {
        let Self { app, host, port, is_secure, status, health_url, metadata } = self;
        let metadata = match metadata.is_empty() {
            true => json!({"@class": "java.util.Collections$EmptyMap"}),
            false => json!(metadata),
        };
        let scheme = if *is_secure { "https" } else { "http" };
        json!({
            "instanceId": self.id(), "app": app, "hostName": host, "ipAddr": "127.0.0.1",
            "status": status, "overriddenStatus": "UNKNOWN",
            "port": {"$": port, "@enabled": (!is_secure).to_string()},
            "securePort": {"$": port, "@enabled": is_secure.to_string()},
            "countryId": 1, "dataCenterInfo": {"@class": "x.DefaultDataCenterInfo", "name": "MyOwn"},
            "leaseInfo": {"renewalIntervalInSecs": 30, "durationInSecs": 90, "evictionTimestamp": 0},
            "metadata": metadata, "vipAddress": app.to_lowercase(),
            "homePageUrl": format!("{scheme}://{host}:{port}/"),
            "healthCheckUrl": if *is_secure { &None } else { health_url },
            "secureHealthCheckUrl": if *is_secure { health_url } else { &None },
            "isCoordinatingDiscoveryServer": "false", "lastUpdatedTimestamp": "1698160000000",
            "actionType": action,
        })
    }
}

/// A fake Eureka. It answers in JSON if the client sends `Accept: application/json`. It compresses this answer if the
/// client also sends `Accept-Encoding: gzip`. `/eureka/apps/delta` returns all changes since the start or the last call
/// of [`forget_changes`](Self::forget_changes).
#[derive(Debug)]
pub struct FakeEureka {
    fake: Fake,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    instances: BTreeMap<String, Registration>,
    changes: Vec<(Registration, &'static str)>,
    needs_certificate: bool,
}

impl FakeEureka {
    /// Starts a fake Eureka without registered services.
    pub async fn https(acceptor: TlsAcceptor) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let handle = {
            let state = state.clone();
            move |request: &Request| state.lock().unwrap().answer(request)
        };
        Self { fake: Fake::https(acceptor, handle).await, state }
    }

    /// Answers 403 to clients without a certificate, as Zowe's discovery service does.
    pub fn require_certificate(&self) {
        self.state().needs_certificate = true;
    }

    /// Registers an instance, or replaces its registration.
    pub fn register(&self, registration: Registration) {
        let mut state = self.state();
        state.changes.push((registration.clone(), "ADDED"));
        state.instances.insert(registration.id(), registration);
    }

    /// Changes the status of an instance.
    pub fn set_status(&self, id: &str, status: &'static str) {
        let mut state = self.state();
        let instance = state.instances.get_mut(id).unwrap();
        instance.status = status;
        let instance = instance.clone();
        state.changes.push((instance, "MODIFIED"));
    }

    /// Ends a registration.
    pub fn cancel(&self, id: &str) {
        let mut state = self.state();
        let instance = state.instances.remove(id).unwrap();
        state.changes.push((instance, "DELETED"));
    }

    /// Removes all changes from `/eureka/apps/delta`. Eureka removes a change after three minutes.
    pub fn forget_changes(&self) {
        self.state().changes.clear();
    }

    /// Closes the port, so that new connections are refused.
    pub async fn stop(&mut self) {
        self.fake.stop().await;
    }

    /// Returns the base URL, `https://localhost:PORT/eureka/`.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/eureka/", self.fake.address.port())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Deref for FakeEureka {
    type Target = Fake;

    fn deref(&self) -> &Fake {
        &self.fake
    }
}

impl State {
    fn answer(&self, request: &Request) -> Answer {
        if self.needs_certificate && request.certificate.is_none() {
            return Answer::empty(403);
        }
        let instances: Vec<_> = match &*request.path {
            "/eureka/apps" => self.instances.values().map(|it| (it, "ADDED")).collect(),
            "/eureka/apps/delta" => self.changes.iter().map(|(it, action)| (it, *action)).collect(),
            _ => return Answer::empty(404),
        };
        if request.header("accept") != Some("application/json") {
            return Answer::text(200, "<applications/>");
        }
        let mut apps: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (instance, action) in instances {
            apps.entry(&instance.app).or_default().push(instance.json(action));
        }
        let apps: Vec<_> =
            apps.into_iter().map(|(name, all)| json!({"name": name, "instance": all})).collect();
        let document = json!({"applications": {
            "versions__delta": "1", "apps__hashcode": self.hash_code(), "application": apps,
        }});
        let answer = Answer::json(200, &document);
        match request.header("accept-encoding") {
            Some("gzip") => gzip(answer),
            _ => answer,
        }
    }

    fn hash_code(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for instance in self.instances.values() {
            *counts.entry(instance.status).or_default() += 1;
        }
        counts.into_iter().map(|(status, count)| format!("{status}_{count}_")).collect()
    }
}

/// Compresses the body with gzip.
pub fn gzip(mut answer: Answer) -> Answer {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&answer.body).unwrap();
    answer.body = encoder.finish().unwrap();
    answer.headers.push(("Content-Encoding", "gzip".to_owned()));
    answer
}
