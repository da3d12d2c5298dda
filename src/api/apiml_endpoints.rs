//! Some endpoints of API ML (Zowe's API Mediation Layer) that do not belong to the auth API: services, certificates,
//! version, information, health and access check (docs/reference/auth-endpoints.md#gateway-endpoints).

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::HOST, request::Parts};
use http_body::Body;
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    access_check,
    any_credential::{AnyCredential, Caller},
    authorize::Authorizer,
    compatibility::Compatibility,
    endpoint::check_method,
    error::ApiError,
    permission::GuardedTask,
    response::{Answer, json as json_response, json_document, typed},
    service_list::{HealthOf, ListedInstance, ListedService, SharedServices, set_version},
};
use crate::{
    apiml_path::{ApimlPath, service_id},
    audit::Event,
    connection::{ConnectionInfo, Protocol},
    health::Health,
    layer::OriginPolicy,
    token::ServiceId,
};

/// The clients that may read the health of the gateway at `/application/health`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthAccess {
    /// The endpoint needs no credential.
    #[default]
    Open,
    /// The endpoint needs a login token, a password or a client certificate.
    Protected,
}

/// The settings of some endpoints of API ML (Zowe's API Mediation Layer) that do not belong to the auth API. Pass this
/// value to [`AuthApi::with_apiml_endpoints`](super::AuthApi::with_apiml_endpoints).
///
/// | path | credential | success |
/// |---|---|---|
/// | `GET /gateway/api/v1/services` and `/gateway/services` | a client certificate that the listener trusts, or a user with `READ` on `APIML.SERVICES` | 200 and the services; with `?apiId=…` only those with this API |
/// | the same with `/{serviceId}` | the same | 200 and one service |
/// | `GET /gateway/certificates` and `/gateway/api/v1/certificates` | none | 200 and the certificate chain of the gateway in PEM |
/// | `GET /application/info` | none | 200, name and version of this crate |
/// | `GET /application/version`, `/gateway/version` and `/gateway/api/v1/version` | none | 200 and the version of this crate |
/// | `GET /application/health` | see [`HealthAccess`] | 200 if the gateway works, 503 if not |
/// | `POST /gateway/auth/check` | a login token, else Basic, else a client certificate | 204 if the caller has the access that the body describes |
#[derive(Clone)]
pub struct ApimlEndpoints {
    services: SharedServices,
    instance_health: HealthOf,
    /// The certificate chain of the gateway in PEM. It is empty unless `with_certificates` was called.
    certificates: Bytes,
    health: Arc<dyn Fn() -> Vec<(&'static str, Health)> + Send + Sync>,
    health_access: HealthAccess,
    /// Returns whether the registry of services is current. `None` if there is no registry.
    discovery: Option<Arc<dyn Fn() -> Health + Send + Sync>>,
}

impl ApimlEndpoints {
    /// Creates settings with this list of services. If several services have the same id, the response to a request for
    /// this id contains only the first of them.
    pub fn new(services: impl IntoIterator<Item = ListedService>) -> Self {
        Self {
            services: SharedServices::new(services),
            instance_health: Arc::new(|_, _| Health::Up),
            certificates: Bytes::new(),
            health: Arc::new(Vec::new),
            health_access: HealthAccess::default(),
            discovery: None,
        }
    }

    /// Uses the list `services`, which the program can replace while requests run.
    #[must_use]
    pub fn with_shared_services(self, services: SharedServices) -> Self {
        Self { services, ..self }
    }

    /// Sets the certificate chain of the gateway, in DER. The certificate of the gateway comes first.
    #[must_use]
    pub fn with_certificates<C: AsRef<[u8]>>(self, chain: impl IntoIterator<Item = C>) -> Self {
        let pem: String = chain.into_iter().map(|der| certificate_pem(der.as_ref())).collect();
        Self { certificates: pem.into(), ..self }
    }

    /// Sets the function that returns whether an instance of a service works. Without this function, the list shows all
    /// instances as UP. The function is called for each listed instance, so it must not block.
    #[must_use]
    pub fn with_instance_health(
        self,
        health: impl Fn(&ServiceId, &ListedInstance) -> Health + Send + Sync + 'static,
    ) -> Self {
        Self { instance_health: Arc::new(health), ..self }
    }

    /// Sets the function that returns the health of the gateway: the name and the health of each part that the gateway
    /// needs to serve requests. The gateway is UP if all parts are UP. `access` sets which clients may read the health.
    /// Each request to `/application/health` calls the function, so it must not block.
    #[must_use]
    pub fn with_health(
        self,
        health: impl Fn() -> Vec<(&'static str, Health)> + Send + Sync + 'static,
        access: HealthAccess,
    ) -> Self {
        Self { health: Arc::new(health), health_access: access, ..self }
    }

    /// Sets the function that returns whether the registry of services is current. If the registry is not current, the
    /// gateway stays UP, because it keeps the services that it fetched last. Each request to `/application/health`
    /// calls the function, so it must not block.
    #[must_use]
    pub fn with_discovery(self, health: impl Fn() -> Health + Send + Sync + 'static) -> Self {
        Self { discovery: Some(Arc::new(health)), ..self }
    }

    /// Returns the audit event of a request, or `None` if the endpoint evaluates no credential.
    pub(super) fn event(&self, path: ApimlPath) -> Option<Event> {
        match path {
            ApimlPath::Health if self.health_access == HealthAccess::Open => None,
            ApimlPath::Info | ApimlPath::Version | ApimlPath::Certificates => None,
            ApimlPath::Health
            | ApimlPath::Services
            | ApimlPath::Service
            | ApimlPath::AccessCheck => Some(Event::Authentication),
        }
    }
}

impl fmt::Debug for ApimlEndpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApimlEndpoints")
            .field("services", &self.services)
            .field("health_access", &self.health_access)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
pub(super) struct ApimlGateway<'a> {
    pub(super) endpoints: &'a ApimlEndpoints,
    pub(super) credentials: AnyCredential<'a>,
    pub(super) authorizer: Authorizer<'a>,
    pub(super) origins: &'a OriginPolicy,
    pub(super) compatibility: Compatibility,
}

impl ApimlGateway<'_> {
    pub(super) async fn answer<B: Body>(self, path: ApimlPath, request: &Parts, body: B) -> Answer {
        check_method(&request.method, &path.method())?;
        match path {
            ApimlPath::Health => self.health(request).await,
            ApimlPath::Info => Ok(info()),
            ApimlPath::Version => Ok(version()),
            ApimlPath::Certificates => self.certificates(),
            ApimlPath::Services => self.services(request).await,
            ApimlPath::Service => self.service(request).await,
            ApimlPath::AccessCheck => {
                access_check::check(request, body, self.credentials, self.authorizer).await
            }
        }
    }

    async fn services(self, request: &Parts) -> Answer {
        self.permit_list(request).await?;
        let base = self.base_url(request);
        let api_id = request.uri.query().and_then(api_id);
        let list = self.endpoints.services.current(&self.endpoints.instance_health);
        let services = list.document(&base, api_id);
        if services.is_empty() {
            return Err(ApiError::NoSuchService);
        }
        listed(&services)
    }

    async fn service(self, request: &Parts) -> Answer {
        self.permit_list(request).await?;
        let (base, path) = (self.base_url(request), request.uri.path());
        let id = service_id(path).ok_or(ApiError::NotFound)?;
        let list = self.endpoints.services.current(&self.endpoints.instance_health);
        let service = list.service(id, &base);
        listed(&service.ok_or(ApiError::NoSuchService)?)
    }

    /// Checks that the caller may list the services. As in API ML, each program with a client certificate that the
    /// listener trusts may do so.
    async fn permit_list(self, request: &Parts) -> Result<(), ApiError> {
        match self.credentials.caller(request).await? {
            Caller::Program => Ok(()),
            Caller::User(user) => {
                self.authorizer.permit(request, &user, GuardedTask::ListServices).await
            }
        }
    }

    /// Returns the URL of the gateway for clients: the first configured origin. If no origin is configured, the URL has
    /// the address in the request. If the request has no address, the URL is empty.
    fn base_url(self, request: &Parts) -> String {
        if let Some(origin) = self.origins.own_origins().first() {
            return origin.to_string();
        }
        let protocol = request.extensions.get::<ConnectionInfo>().map(|info| info.protocol);
        let protocol = protocol.unwrap_or(Protocol::Https).as_str();
        let in_target = request.uri.authority().map(|authority| authority.as_str());
        let host = request.headers.get(HOST).and_then(|host| host.to_str().ok());
        match in_target.or(host) {
            Some(authority) => format!("{protocol}://{authority}"),
            // The list then contains paths instead of URLs.
            None => String::new(),
        }
    }

    fn certificates(self) -> Answer {
        if self.endpoints.certificates.is_empty() {
            return Err(ApiError::NotFound);
        }
        let content_type = HeaderValue::from_static("text/plain;charset=UTF-8");
        Ok(typed(self.endpoints.certificates.clone(), content_type))
    }

    async fn health(self, request: &Parts) -> Answer {
        if self.endpoints.health_access == HealthAccess::Protected {
            self.credentials.caller(request).await?;
        }
        let parts = (self.endpoints.health)();
        let is_up = parts.iter().all(|(_, health)| health.is_up());
        let discovery = self.endpoints.discovery.as_ref().map(|discovery| discovery());
        let discovery = discovery.as_ref();
        let mut response = match self.compatibility {
            Compatibility::ZoweV3 => actuator_document(&zowe_v3_health(is_up, &parts, discovery)),
            Compatibility::Documented => {
                let mut document = json!({ "status": status(is_up) });
                if let Some(discovery) = discovery {
                    document["discovery"] = registry_status(discovery).into();
                }
                json_document(&document)
            }
        };
        if !is_up {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        Ok(response)
    }
}

/// Returns a response with status 200 and this document. The content type is that of the Java framework Spring, as in
/// API ML.
fn actuator_document(document: &Value) -> Response<Full<Bytes>> {
    let content_type = HeaderValue::from_static("application/vnd.spring-boot.actuator.v3+json");
    typed(document.to_string().into(), content_type)
}

/// Returns the status of the registry. `STALE` means that the gateway uses services that it fetched earlier.
fn registry_status(discovery: &Health) -> &'static str {
    if discovery.is_up() { "UP" } else { "STALE" }
}

fn status(is_up: bool) -> &'static str {
    if is_up { "UP" } else { "DOWN" }
}

/// Returns the health in the form of API ML. The reasons are omitted, because they may contain names of files.
/// `passticket-proxy` shows the reasons at its admin port and in its log.
fn zowe_v3_health(
    is_up: bool,
    parts: &[(&'static str, Health)],
    discovery: Option<&Health>,
) -> Value {
    // This gateway does the work of three components of API ML: API ML's gateway, ZAAS (the authentication service) and
    // the discovery service. So the document also has a status for ZAAS and for the discovery service.
    let details = json!({
        "discovery": discovery.map_or(status(is_up), registry_status), "zaas": status(is_up), "gatewayCount": 1, "zaasCount": 1,
    });
    let mut components = Map::new();
    components.insert("gateway".to_owned(), json!({ "status": status(is_up), "details": details }));
    for (name, health) in parts {
        components.insert((*name).to_owned(), json!({ "status": health.as_str() }));
    }
    json!({ "status": status(is_up), "components": components })
}

fn listed(document: &impl Serialize) -> Answer {
    let mut response = json_response(document)?;
    set_version(response.headers_mut());
    Ok(response)
}

const NAME: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn info() -> Response<Full<Bytes>> {
    let document = json!({ "build": { "artifact": NAME, "name": NAME, "version": VERSION } });
    actuator_document(&document)
}

/// Clients of API ML expect all three members. The version is that of this crate, not of API ML.
fn version() -> Response<Full<Bytes>> {
    let version = json!({ "version": VERSION, "buildNumber": "unknown", "commitHash": "unknown" });
    json_document(&json!({ "apiml": version }))
}

/// Returns the first value of the parameter `apiId`. The value is not decoded, because ids of APIs need no encoding.
fn api_id(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("apiId="))
}

fn certificate_pem(der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", der), config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_has_lines_of_64_characters() {
        let text = certificate_pem(&[0; 60]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!((lines[1].len(), lines[2].len()), (64, 16));
        assert_eq!(
            certificate_pem(b""),
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"
        );
    }

    #[test]
    fn the_api_id_is_the_first_parameter_with_this_name() {
        for (query, want) in [
            ("apiId=ibm.zosmf", Some("ibm.zosmf")),
            ("a=b&apiId=x.y&apiId=w", Some("x.y")),
            ("apiId=", Some("")),
            ("apiID=x", None),
            ("", None),
        ] {
            assert_eq!(api_id(query), want, "{query}");
        }
    }
}
