//! A fake of API ML's gateway. API ML is the API gateway for z/OS of the project Zowe, and ZAAS is its authentication
//! service. The fake sends the same requests to ZAAS as API ML's gateway, and handles the answers in the same way
//! (docs/reference/zaas-endpoints.md#gateway). The requests are copies of requests that a gateway of API ML 3.0 sent in
//! a recording. In this file, "the gateway" means API ML's gateway.

use std::net::SocketAddr;

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{Body, Client, ClientBuilder, Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::{
    client,
    pki::{Authority, Identity},
};

/// The text that the gateway writes into `X-Zowe-Auth-Failure` if ZAAS makes no PassTicket, and sends no
/// `X-Zowe-Auth-Failure` of its own.
pub const NO_TICKET: &str =
    "ZWEAG141E The generation of the PassTicket failed. Reason: Invalid or missing authentication";

/// For all schemes except [`GatewayScheme::Ticket`], the text that the gateway uses in place of [`NO_TICKET`].
pub const NO_TOKEN: &str = "Invalid or missing authentication";

/// The paths below `/gateway/api/v1/auth/` that the gateway relays.
const RELAYED: [&str; 17] = [
    "login",
    "logout",
    "query",
    "refresh",
    "ticket",
    "access-token/revoke",
    "access-token/validate",
    "access-token/generate",
    "access-token/revoke/tokens/user",
    "access-token/revoke/tokens",
    "access-token/revoke/tokens/scope",
    "access-token/evict",
    "keys/public",
    "keys/public/all",
    "keys/public/current",
    "oidc-token/validate",
    "oidc/webfinger",
];

/// The headers that the gateway copies from an answer of ZAAS to its own answer.
const RETURNED: [&str; 3] = ["set-cookie", "content-type", "x-zowe-auth-failure"];

/// A fake gateway that sends requests to a ZAAS.
#[derive(Debug)]
pub struct ScriptedGateway {
    zaas: String,
    /// An HTTP client that presents the certificate of the gateway.
    named: Client,
    /// An HTTP client that presents no certificate.
    anonymous: Client,
}

/// The request of a client of the gateway.
#[derive(Clone, Debug, Default)]
pub struct ClientRequest {
    headers: Vec<(String, String)>,
    certificate: Option<Identity>,
}

impl ClientRequest {
    /// Creates a request without headers and without a client certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// Adds a token as `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Sets the client certificate of the TLS connection.
    #[must_use]
    pub fn certificate(self, certificate: Identity) -> Self {
        Self { certificate: Some(certificate), ..self }
    }

    fn values<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }
}

/// The scheme of the service for which the client has sent its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayScheme<'a> {
    /// `httpBasicPassTicket`, with the APPLID of the service.
    Ticket(&'a str),
    /// `zoweJwt`.
    ZoweJwt,
    /// `zosmf`.
    Zosmf,
    /// `safIdt`, with the APPLID of the service.
    SafIdt(&'a str),
}

/// What the gateway does after an answer of ZAAS. "The answer" means the answer of ZAAS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The answer is 200: the service receives this header in place of the credentials of the client.
    Replaced {
        /// The name of the header in lower case.
        name: String,
        /// The value of the header.
        value: String,
    },
    /// The answer is 401, or 200 without a credential: the service receives the credentials of the client unchanged.
    /// The service and the client receive this text in `X-Zowe-Auth-Failure`.
    Unchanged {
        /// The text.
        failure: String,
    },
    /// The answer is 401 with the header `OIDC-token`: the service receives this token in place of the credentials of
    /// the client, and the text in `X-Zowe-Auth-Failure`.
    PassedOn {
        /// The token.
        token: String,
        /// The text.
        failure: String,
    },
    /// The answer has any other status: the service receives no request. The client receives 200 with an empty body
    /// from API ML 3.0, and 500 or 503 from later releases.
    NotForwarded {
        /// The status of the answer of ZAAS.
        status: u16,
    },
}

/// What the client receives for a request that the gateway has relayed to the auth API of ZAAS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// The status.
    pub status: u16,
    /// The headers that the gateway returns, with their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Relayed {
    /// Returns the first value of a header.
    pub fn header(&self, wanted: &str) -> Option<&str> {
        self.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    /// Returns the number of the message in the body, such as `ZWEAG120E`. Returns an empty text if there is none.
    pub fn message_number(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["messages"][0]["messageNumber"].as_str().unwrap_or_default().to_owned()
    }
}

impl ScriptedGateway {
    /// Creates a gateway that presents the certificate `identity` and uses the ZAAS at `zaas`. The certificate of ZAAS
    /// must be for `localhost`, and [`Authority::trusted`] must have issued it.
    pub fn new(zaas: SocketAddr, identity: Identity) -> Self {
        let builder = || -> ClientBuilder {
            client(Authority::trusted().pem().as_bytes()).http1_only().resolve("localhost", zaas)
        };
        let pem = identity.certificate.to_owned() + identity.key;
        let identity = reqwest::Identity::from_pem(pem.as_bytes()).unwrap();
        Self {
            zaas: format!("https://localhost:{}", zaas.port()),
            named: builder().identity(identity).build().unwrap(),
            anonymous: builder().build().unwrap(),
        }
    }

    /// Asks ZAAS for the credential of `service`, and returns the answer.
    pub async fn ask(
        &self,
        scheme: GatewayScheme<'_>,
        service: &str,
        client: &ClientRequest,
    ) -> Response {
        let (path, application) = match scheme {
            GatewayScheme::Ticket(applid) => ("ticket", Some(applid)),
            GatewayScheme::ZoweJwt => ("zoweJwt", None),
            GatewayScheme::Zosmf => ("zosmf", None),
            GatewayScheme::SafIdt(applid) => ("safIdt", Some(applid)),
        };
        let request = self.named.post(format!("{}/zaas/scheme/{path}", self.zaas));
        let request = request.header("user-agent", "ReactorNetty/1.1.23").header("accept", "*/*");
        let request = match application {
            Some(applid) => request
                .header("content-type", "application/json")
                .body(json!({ "applicationName": applid }).to_string()),
            // The gateway sends an empty body without `Content-Length`.
            None => request.body(no_bytes()),
        };
        // The gateway sends only these two headers of the client, and some cookies (below). For example, it does not
        // send `X-Service-Id` or `Client-Cert` of the client.
        let mut request =
            ["private-token", "authorization"].into_iter().fold(request, |it, name| {
                client.values(name).fold(it, |it, value| it.header(name, value))
            });
        request = request.header("x-service-id", service.to_ascii_lowercase());
        if let Some(certificate) = client.certificate {
            request = request.header("client-cert", encoded(certificate));
        }
        let cookies: Vec<_> = client
            .values("cookie")
            .flat_map(|line| line.split(';'))
            .map(str::trim)
            .filter(|cookie| is_credential(cookie))
            .collect();
        if !cookies.is_empty() {
            request = request.header("cookie", cookies.join("; "));
        }
        request.send().await.unwrap()
    }

    /// Asks ZAAS for the credential of `service`, and returns what the gateway does after the answer.
    pub async fn route(
        &self,
        scheme: GatewayScheme<'_>,
        service: &str,
        client: &ClientRequest,
    ) -> Reaction {
        let response = self.ask(scheme, service, client).await;
        let status = response.status().as_u16();
        let text = |name: &str| {
            response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let default = match scheme {
            GatewayScheme::Ticket(_) => NO_TICKET,
            _ => NO_TOKEN,
        };
        let failure = text("x-zowe-auth-failure").unwrap_or_else(|| default.to_owned());
        match (status, text("oidc-token")) {
            (200, _) => replaced(&response.json().await.unwrap(), default),
            (401, Some(token)) => Reaction::PassedOn { token, failure },
            (401, None) => Reaction::Unchanged { failure },
            (status, _) => Reaction::NotForwarded { status },
        }
    }

    /// Relays a request of a client to the auth API of ZAAS. `path` is the path at the gateway. If the gateway does not
    /// relay this path, the answer is 404, and ZAAS gets no request. The gateway does not send the query string to
    /// ZAAS.
    pub async fn relay(
        &self,
        method: Method,
        path: &str,
        client: &ClientRequest,
        body: &str,
    ) -> Relayed {
        let path = path.split('?').next().unwrap_or_default();
        let is_check = path == "/gateway/auth/check";
        let endpoint = path.strip_prefix("/gateway/api/v1/auth/").unwrap_or_default();
        if !is_check && !RELAYED.contains(&endpoint) {
            return Relayed { status: 404, headers: Vec::new(), body: String::new() };
        }
        let (http, url) = (
            if client.certificate.is_some() { &self.named } else { &self.anonymous },
            format!("{}/zaas/{}", self.zaas, path.trim_start_matches("/gateway/")),
        );
        let mut request: RequestBuilder = http.request(method.clone(), url);
        // The gateway copies `Host` from the request of the client, so it contains the address of the gateway.
        if client.values("host").next().is_none() {
            request = request.header("host", "gateway.example.com:7554");
        }
        for (name, value) in client.headers.iter().filter(|(name, _)| name != "client-cert") {
            request = request.header(name, value);
        }
        if let Some(certificate) = client.certificate {
            request = request.header("client-cert", encoded(certificate));
        }
        request = match (body, method) {
            ("", Method::GET | Method::HEAD | Method::DELETE) => request,
            ("", _) => request.body(no_bytes()),
            (body, _) => request.body(body.to_owned()),
        };
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let headers = response.headers().iter();
        let headers = headers.filter(|(name, _)| RETURNED.contains(&name.as_str()));
        let headers = headers
            .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()))
            .collect();
        Relayed { status, headers, body: response.text().await.unwrap() }
    }

    /// Checks a login token of a client, as the gateway does for its own endpoints such as `/gateway/services`. Returns
    /// the status.
    pub async fn query(&self, token: &str) -> u16 {
        let request = self.named.get(format!("{}/zaas/api/v1/auth/query", self.zaas));
        let request = request.header("user-agent", "ReactorNetty/1.1.23").header("accept", "*/*");
        let request = request.header("cookie", format!("apimlAuthenticationToken={token}"));
        request.send().await.unwrap().status().as_u16()
    }
}

/// Returns the reaction to an answer with status 200. If its body has no credential, the failure is `default`.
fn replaced(body: &Value, default: &str) -> Reaction {
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    let token = text("token").unwrap_or_default();
    match (text("ticket"), text("cookieName"), text("headerName")) {
        (Some(ticket), _, _) => {
            let basic = format!("{}:{ticket}", text("userId").unwrap_or_default());
            let value = format!("Basic {}", BASE64_STANDARD.encode(basic));
            Reaction::Replaced { name: "authorization".to_owned(), value }
        }
        (_, Some(name), _) => {
            Reaction::Replaced { name: "cookie".to_owned(), value: format!("{name}={token}") }
        }
        (_, _, Some(name)) => Reaction::Replaced { name: name.to_ascii_lowercase(), value: token },
        _ => Reaction::Unchanged { failure: default.to_owned() },
    }
}

/// Returns whether the gateway sends this cookie of its client to ZAAS.
fn is_credential(cookie: &str) -> bool {
    let name = cookie.split('=').next().unwrap_or_default().to_ascii_lowercase();
    name == "personalaccesstoken"
        || name == "apimlauthenticationtoken"
        || name.starts_with("apimlauthenticationtoken.")
}

/// Returns the value of `Client-Cert`: the DER of the certificate in Base64, in one line.
fn encoded(certificate: Identity) -> String {
    BASE64_STANDARD.encode(certificate.certificate_der())
}

/// Returns an empty body of unknown length, which `reqwest` sends with `Transfer-Encoding: chunked`.
fn no_bytes() -> Body {
    Body::wrap_stream(NoBytes)
}

struct NoBytes;

impl futures_core::Stream for NoBytes {
    type Item = Result<Vec<u8>, std::convert::Infallible>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(None)
    }
}
