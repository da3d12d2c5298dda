//! Answers the requests to the endpoints of the admin port: metrics, health, reload, and `POST /tickets/resume`.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{
        ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HOST, ORIGIN, RETRY_AFTER,
        X_CONTENT_TYPE_OPTIONS,
    },
    uri::Authority,
};
use serde_json::{Value, json};
use tower_passticket::{
    messages::{self, ApiMessage},
    metrics::{self, MetricRegistry},
    proxy::InstanceStates,
};

use super::{status::Components, stopped_tickets::Resume};
use crate::reloads::Outcome;

pub(super) struct Endpoints {
    registry: MetricRegistry,
    components: Components,
    instances: Arc<InstanceStates>,
}

impl Endpoints {
    pub(super) fn new(
        registry: MetricRegistry,
        components: Components,
        instances: Arc<InstanceStates>,
    ) -> Self {
        Self { registry, components, instances }
    }

    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Response<Bytes> {
        let mut response = match find(request) {
            Ok(Endpoint::Metrics) => {
                typed(StatusCode::OK, metrics::CONTENT_TYPE, self.registry.expose().into())
            }
            Ok(Endpoint::Live) => health(true, &json!({"status": "UP"})),
            Ok(Endpoint::Ready) => {
                let status = self.components.status();
                health(status.is_ready(), &status.readiness())
            }
            Ok(Endpoint::Health) => {
                let (is_up, document) = self.components.document(&self.instances);
                health(is_up, &document)
            }
            Ok(Endpoint::ResumeTickets) => self.resume_tickets(request.uri()),
            Ok(Endpoint::Reload) => self.reload().await,
            Err(refusal) => refusal.into_response(),
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // If this header were missing, a client could keep a connection open forever by sending one request after
        // another.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }

    /// Reloads the configuration, and waits for the result. Only one reload runs at a time, and at most one other
    /// request for a reload waits.
    async fn reload(&self) -> Response<Bytes> {
        let outcome = match self.components.reloads().request() {
            None => return busy("another reload is running; try again"),
            Some(outcome) => outcome.await,
        };
        let (status, document) = match outcome {
            Ok(Outcome::Reloaded { files, changes, warnings }) => {
                let document = json!({
                    "result": "reloaded", "files": files, "changes": changes, "warnings": warnings,
                });
                (StatusCode::OK, document)
            }
            Ok(Outcome::Unchanged) => (StatusCode::OK, json!({"result": "unchanged"})),
            Ok(Outcome::Failed(problems)) => {
                let document = json!({"result": "failed", "problems": problems});
                (StatusCode::UNPROCESSABLE_ENTITY, document)
            }
            Ok(Outcome::Changing) => {
                return busy("a file changed while it was read; try again");
            }
            Err(_) => {
                let problem = "the program is stopping, or reloads have ended; the log says why";
                let document = json!({"result": "failed", "problems": [problem]});
                (StatusCode::SERVICE_UNAVAILABLE, document)
            }
        };
        typed(status, "application/json", document.to_string().into())
    }

    /// Lets the gateway make PassTickets again for users and APPLIDs for which the `TicketBreaker` has stopped this.
    /// The operator first removes the cause, and then calls this endpoint.
    fn resume_tickets(&self, uri: &Uri) -> Response<Bytes> {
        match Resume::parse(uri.query().unwrap_or_default()) {
            Ok(Resume { applid, user }) => {
                let resumed = self.components.breaker().resume(applid, user);
                let document = json!({"result": "resumed", "resumed": resumed});
                typed(StatusCode::OK, "application/json", document.to_string().into())
            }
            Err(problem) => {
                let message = ApiMessage::with(&messages::BAD_REQUEST, &[&problem]);
                message.into_response(StatusCode::BAD_REQUEST)
            }
        }
    }
}

/// Returns the answer to a request for a reload that is not possible at this moment: another reload is running, or a
/// file changed while it was read.
fn busy(problem: &str) -> Response<Bytes> {
    let document = json!({"result": "busy", "problems": [problem]});
    let mut response = typed(StatusCode::CONFLICT, "application/json", document.to_string().into());
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Metrics,
    Live,
    Ready,
    Health,
    Reload,
    ResumeTickets,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    ForeignHost,
    /// The request has the header `Origin`, so a web page in a browser has caused it.
    WebPage,
    NotFound,
    /// The methods that are allowed.
    Method(&'static str),
}

fn find<B>(request: &Request<B>) -> Result<Endpoint, Refusal> {
    if !is_own_host(request.uri(), request.headers()) {
        return Err(Refusal::ForeignHost);
    }
    let endpoint = match request.uri().path() {
        "/metrics" => Endpoint::Metrics,
        "/health/live" => Endpoint::Live,
        "/health/ready" => Endpoint::Ready,
        "/health" => Endpoint::Health,
        "/reload" => Endpoint::Reload,
        "/tickets/resume" => Endpoint::ResumeTickets,
        _ => return Err(Refusal::NotFound),
    };
    match (endpoint, request.method()) {
        // A web page can make the browser send a POST request to the loopback address, although the page cannot read
        // the answer. The browser adds `Origin` to this request.
        (Endpoint::Reload | Endpoint::ResumeTickets, &Method::POST)
            if request.headers().contains_key(ORIGIN) =>
        {
            Err(Refusal::WebPage)
        }
        (Endpoint::Reload | Endpoint::ResumeTickets, &Method::POST) => Ok(endpoint),
        (Endpoint::Reload | Endpoint::ResumeTickets, _) => Err(Refusal::Method("POST")),
        (_, &Method::GET | &Method::HEAD) => Ok(endpoint),
        _ => Err(Refusal::Method("GET, HEAD")),
    }
}

/// Returns whether each host that the request names is an IP address or `localhost`. Also returns `true` if the request
/// names no host.
///
/// This check prevents DNS rebinding. In this attack, the domain of a web page resolves to the loopback address. The
/// browser then sends requests of the page to this port, and the page can read the responses. Such requests name the
/// domain of the page.
fn is_own_host(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter().map(HeaderValue::as_bytes).chain(
        // A request target in absolute form also names a host.
        uri.authority().map(|authority| authority.as_str().as_bytes()),
    );
    hosts.all(|host| {
        let Ok(host) = Authority::try_from(host) else { return false };
        let name = host.host();
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        name.eq_ignore_ascii_case("localhost")
            || address.unwrap_or(name).parse::<std::net::IpAddr>().is_ok()
    })
}

impl Refusal {
    fn into_response(self) -> Response<Bytes> {
        match self {
            Self::ForeignHost => {
                let text =
                    "the admin port serves only requests whose host is an IP address or localhost";
                let message = ApiMessage::with(&messages::BAD_REQUEST, &[text]);
                message.into_response(StatusCode::MISDIRECTED_REQUEST)
            }
            Self::NotFound => {
                ApiMessage::new(&messages::NOT_FOUND).into_response(StatusCode::NOT_FOUND)
            }
            Self::WebPage => {
                let text = "a web page cannot use this endpoint";
                let message = ApiMessage::with(&messages::BAD_REQUEST, &[text]);
                message.into_response(StatusCode::FORBIDDEN)
            }
            Self::Method(methods) => {
                let message = ApiMessage::new(&messages::METHOD_NOT_ALLOWED);
                let mut response = message.into_response(StatusCode::METHOD_NOT_ALLOWED);
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
                response
            }
        }
    }
}

fn health(is_up: bool, document: &Value) -> Response<Bytes> {
    let status = if is_up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    typed(status, "application/json", document.to_string().into())
}

fn typed(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_and_method_has_its_endpoint() {
        for (method, path, want) in [
            ("GET", "/metrics", Ok(Endpoint::Metrics)),
            ("HEAD", "/metrics", Ok(Endpoint::Metrics)),
            ("GET", "/metrics?name=x", Ok(Endpoint::Metrics)),
            ("GET", "/health", Ok(Endpoint::Health)),
            ("GET", "/health/live", Ok(Endpoint::Live)),
            ("GET", "/health/ready", Ok(Endpoint::Ready)),
            ("POST", "/metrics", Err(Refusal::Method("GET, HEAD"))),
            ("OPTIONS", "/health", Err(Refusal::Method("GET, HEAD"))),
            ("get", "/health", Err(Refusal::Method("GET, HEAD"))),
            ("POST", "/reload", Ok(Endpoint::Reload)),
            ("POST", "/tickets/resume?applid=A", Ok(Endpoint::ResumeTickets)),
            ("GET", "/tickets/resume", Err(Refusal::Method("POST"))),
            ("GET", "/reload", Err(Refusal::Method("POST"))),
            ("GET", "/", Err(Refusal::NotFound)),
            ("GET", "/health/", Err(Refusal::NotFound)),
            ("GET", "/application/health", Err(Refusal::NotFound)),
            ("POST", "/reload/", Err(Refusal::NotFound)),
        ] {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            assert_eq!(find(&request), want, "{method} {path}");
        }
        let of_web_page = Request::post("/reload").header("origin", "null").body(()).unwrap();
        assert_eq!(find(&of_web_page), Err(Refusal::WebPage));
    }

    #[test]
    fn only_ip_addresses_and_localhost_are_hosts_of_the_admin_port() {
        for (host, is_own) in [
            ("127.0.0.1:9000", true),
            ("127.0.0.1", true),
            ("10.1.2.3:80", true),
            ("localhost:9000", true),
            ("LOCALHOST", true),
            ("[::1]:9000", true),
            ("attacker.example:9000", false),
            ("localhost.attacker.example", false),
            ("127.0.0.1.attacker.example", false),
            ("", false),
            ("a b", false),
        ] {
            let request = Request::get("/health").header(HOST, host).body(()).unwrap();
            let want = if is_own { Ok(Endpoint::Health) } else { Err(Refusal::ForeignHost) };
            assert_eq!(find(&request), want, "{host}");
        }
        let request = Request::get("http://attacker.example/health").header(HOST, "localhost");
        assert_eq!(find(&request.body(()).unwrap()), Err(Refusal::ForeignHost));
    }
}
