//! The services that `GET /gateway/api/v1/services` lists
//! (docs/reference/auth-endpoints.md#gateway-endpoints).

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use crate::{health::Health, layer::CertificateHeader, passticket::Applid, token::ServiceId};

static CONTENT_VERSION: HeaderName = HeaderName::from_static("content-version");

/// Adds the header with the version of the format of the list.
pub(super) fn set_version(headers: &mut HeaderMap) {
    headers.insert(&CONTENT_VERSION, HeaderValue::from_static("1"));
}

/// A service in the list of `GET /gateway/api/v1/services`.
///
/// ```
/// use tower_passticket::{api::{ListedApi, ListedService}, token::ServiceId};
///
/// let mut service = ListedService::new(ServiceId::new("ibmzosmf")?);
/// service.title = Some("IBM z/OSMF".to_owned());
/// service.apis.push(ListedApi::new("ibm.zosmf", "api/v1"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedService {
    /// The id, which is the first segment of the paths of the service.
    pub id: ServiceId,
    /// The title, for users.
    pub title: Option<String>,
    /// The description, for users.
    pub description: Option<String>,
    /// The home page of the service.
    pub home_page: Option<ListedUrl>,
    /// The APIs of the service. Clients can find a service by the id of an API.
    pub apis: Vec<ListedApi>,
    /// How the gateway authenticates users to the service.
    pub authentication: Option<ListedAuthentication>,
    /// The addresses of the service.
    pub instances: Vec<ListedInstance>,
}

impl ListedService {
    /// Creates a service with this id. All other fields are empty.
    pub fn new(id: ServiceId) -> Self {
        Self {
            id,
            title: None,
            description: None,
            home_page: None,
            apis: Vec::new(),
            authentication: None,
            instances: Vec::new(),
        }
    }
}

/// The URL of a document or a page of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListedUrl {
    /// A path of the gateway. In the list, the address of the gateway precedes it.
    Gateway(String),
    /// The URL of another server.
    Direct(String),
}

/// An API of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedApi {
    /// The id of the API, such as `ibm.zosmf`. Several services can have the same API.
    pub api_id: String,
    /// The part of the paths of the API after the id of the service, such as `api/v1`.
    pub gateway_url: String,
    /// The version of the API.
    pub version: Option<String>,
    /// The OpenAPI description of the API.
    pub swagger_url: Option<ListedUrl>,
    /// The documentation of the API.
    pub documentation_url: Option<String>,
    /// Whether clients should prefer this API to the other APIs of the service.
    pub is_default: bool,
}

impl ListedApi {
    /// Creates an API whose paths begin with `/{service}/{gateway_url}`. Slashes at the start and end of `gateway_url`
    /// are ignored.
    pub fn new(api_id: impl Into<String>, gateway_url: &str) -> Self {
        Self {
            api_id: api_id.into(),
            gateway_url: gateway_url.trim_matches('/').to_owned(),
            version: None,
            swagger_url: None,
            documentation_url: None,
            is_default: false,
        }
    }
}

/// How the gateway authenticates a user to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedAuthentication {
    /// The name of the scheme, such as `httpBasicPassTicket`.
    pub scheme: String,
    /// The APPLID (the name of an application on z/OS) of the PassTickets.
    pub applid: Option<Applid>,
    /// The headers of the scheme `x509`. The list is empty for other schemes.
    pub headers: Vec<CertificateHeader>,
    /// Whether the service supports single sign-on. If so, a user who is logged in at the gateway needs no other
    /// credential. Zowe's command line creates connection profiles only for services with single sign-on.
    pub supports_sso: bool,
}

impl ListedAuthentication {
    /// Creates the scheme with this name. `supports_sso` is true, except for `bypass`, which does not authenticate
    /// users.
    pub fn new(scheme: impl Into<String>) -> Self {
        let scheme = scheme.into();
        let supports_sso = scheme != "bypass";
        Self { scheme, applid: None, headers: Vec::new(), supports_sso }
    }
}

/// An address of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedInstance {
    /// The id of the instance, such as `STATIC-zos.example.com:ibmzosmf:443`.
    pub id: String,
    /// `http` or `https`.
    pub protocol: String,
    /// The host name or IP address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The home page of the instance.
    pub home_page_url: Option<String>,
    /// The health check of the instance.
    pub health_check_url: Option<String>,
    /// The status page of the instance.
    pub status_page_url: Option<String>,
    /// The metadata of the instance, without the entries whose keys begin with `apiml.`.
    pub custom_metadata: BTreeMap<String, String>,
}

impl ListedInstance {
    /// Creates an instance of `service` from a static definition.
    pub fn fixed(service: &ServiceId, protocol: &str, host: &str, port: u16) -> Self {
        Self {
            id: format!("STATIC-{host}:{service}:{port}"),
            protocol: protocol.to_owned(),
            host: host.to_owned(),
            port,
            home_page_url: None,
            health_check_url: None,
            status_page_url: None,
            custom_metadata: BTreeMap::new(),
        }
    }
}

pub(super) type HealthOf = Arc<dyn Fn(&ServiceId, &ListedInstance) -> Health + Send + Sync>;

/// A handle to a list of services, which can be replaced while requests run. Clones are handles to the same list. Each
/// service id should occur once in the list.
#[derive(Clone)]
pub struct SharedServices(Arc<ArcSwap<Vec<ListedService>>>);

impl SharedServices {
    /// Creates a list.
    pub fn new(services: impl IntoIterator<Item = ListedService>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(services.into_iter().collect())))
    }

    /// Replaces the list.
    pub fn replace(&self, services: impl IntoIterator<Item = ListedService>) {
        self.0.store(Arc::new(services.into_iter().collect()));
    }

    /// Returns the current list.
    pub fn get(&self) -> Arc<Vec<ListedService>> {
        self.0.load_full()
    }

    /// Returns the current list as the endpoints show it. `health` returns whether an instance works.
    pub(super) fn current<'h>(&self, health: &'h HealthOf) -> ServiceList<'h> {
        ServiceList { services: self.0.load_full(), health }
    }
}

impl Default for SharedServices {
    fn default() -> Self {
        Self::new([])
    }
}

impl fmt::Debug for SharedServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedServices").field(&self.0.load()).finish()
    }
}

pub(super) struct ServiceList<'h> {
    services: Arc<Vec<ListedService>>,
    health: &'h HealthOf,
}

impl ServiceList<'_> {
    /// Returns the services as JSON. `base` is the URL of the gateway. With an `api_id`, lists only the services with
    /// this API.
    pub(super) fn document<'a>(
        &'a self,
        base: &'a str,
        api_id: Option<&str>,
    ) -> Vec<impl Serialize + use<'a>> {
        let has_api = |service: &&ListedService| {
            api_id.is_none_or(|wanted| service.apis.iter().any(|api| api.api_id == wanted))
        };
        let listed = self.services.iter().filter(has_api);
        listed.map(|service| self.view(service, base)).collect()
    }

    /// Returns the first service with this id as JSON, or `None` if there is none. The id is not case-sensitive.
    pub(super) fn service<'a>(
        &'a self,
        id: &str,
        base: &'a str,
    ) -> Option<impl Serialize + use<'a>> {
        let mut services = self.services.iter();
        let found = services.find(|service| service.id.as_str().eq_ignore_ascii_case(id));
        found.map(|service| self.view(service, base))
    }

    fn view<'a>(&self, service: &'a ListedService, base: &str) -> ServiceView<'a> {
        let mut is_up = service.instances.is_empty();
        let instances = service.instances.iter().map(|instance| {
            let health = (self.health)(&service.id, instance);
            is_up |= health.is_up();
            (instance.id.as_str(), instance_view(instance, &health))
        });
        let instances = instances.collect();
        let health = if is_up { Health::Up } else { Health::down("no instance works") };
        service_view(service, base, &health, instances)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceView<'a> {
    service_id: &'a str,
    status: &'static str,
    apiml: ApimlView<'a>,
    instances: BTreeMap<&'a str, InstanceView<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApimlView<'a> {
    api_info: Vec<ApiView<'a>>,
    service: TextView<'a>,
    authentication: Vec<AuthenticationView<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TextView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    home_page_url: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiView<'a> {
    api_id: &'a str,
    gateway_url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swagger_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    documentation_url: Option<&'a str>,
    /// Always empty. Clients expect a list.
    code_snippet: [(); 0],
    base_url: String,
    base_path: String,
    default_api: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthenticationView<'a> {
    scheme: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    applid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<String>,
    supports_sso: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InstanceView<'a> {
    status: &'static str,
    hostname: &'a str,
    /// `null` if the host is a name, because the gateway does not resolve names for this response.
    ip_addr: Option<IpAddr>,
    protocol: &'a str,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    home_page_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health_check_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_page_url: Option<&'a str>,
    custom_metadata: &'a BTreeMap<String, String>,
}

fn service_view<'a>(
    service: &'a ListedService,
    base: &str,
    health: &Health,
    instances: BTreeMap<&'a str, InstanceView<'a>>,
) -> ServiceView<'a> {
    ServiceView {
        service_id: service.id.as_str(),
        status: health.as_str(),
        apiml: ApimlView {
            api_info: distinct(&service.apis).map(|api| api_view(api, &service.id, base)).collect(),
            service: TextView {
                title: service.title.as_deref(),
                description: service.description.as_deref(),
                home_page_url: service.home_page.as_ref().map(|url| absolute(url, base)),
            },
            authentication: service.authentication.iter().map(authentication_view).collect(),
        },
        instances,
    }
}

/// Returns the APIs to list. If several APIs have the same id and major version, returns only the first. API ML (Zowe's
/// API Mediation Layer) also lists only one of them.
fn distinct(apis: &[ListedApi]) -> impl Iterator<Item = &ListedApi> {
    let key = |api: &ListedApi| {
        let version = api.version.as_deref().unwrap_or_default();
        (api.api_id.clone(), version.split('.').next().unwrap_or_default().to_owned())
    };
    let is_first = move |(at, api): &(usize, &ListedApi)| {
        apis[..*at].iter().all(|earlier| key(earlier) != key(api))
    };
    apis.iter().enumerate().filter(is_first).map(|(_, api)| api)
}

fn api_view<'a>(api: &'a ListedApi, service: &ServiceId, base: &str) -> ApiView<'a> {
    let base_path = format!("/{service}/{}", api.gateway_url);
    ApiView {
        api_id: &api.api_id,
        gateway_url: &api.gateway_url,
        version: api.version.as_deref(),
        swagger_url: api.swagger_url.as_ref().map(|url| absolute(url, base)),
        documentation_url: api.documentation_url.as_deref(),
        code_snippet: [],
        base_url: format!("{base}{base_path}"),
        base_path,
        default_api: api.is_default,
    }
}

fn authentication_view(authentication: &ListedAuthentication) -> AuthenticationView<'_> {
    let headers: Vec<_> = authentication.headers.iter().map(|header| header.as_str()).collect();
    AuthenticationView {
        scheme: &authentication.scheme,
        applid: authentication.applid.as_ref().map(Applid::as_str),
        headers: (!headers.is_empty()).then(|| headers.join(",")),
        supports_sso: authentication.supports_sso,
    }
}

fn instance_view<'a>(instance: &'a ListedInstance, health: &Health) -> InstanceView<'a> {
    let host = instance.host.trim_start_matches('[').trim_end_matches(']');
    InstanceView {
        status: health.as_str(),
        hostname: &instance.host,
        ip_addr: host.parse().ok(),
        protocol: &instance.protocol,
        port: instance.port,
        home_page_url: instance.home_page_url.as_deref(),
        health_check_url: instance.health_check_url.as_deref(),
        status_page_url: instance.status_page_url.as_deref(),
        custom_metadata: &instance.custom_metadata,
    }
}

fn absolute(url: &ListedUrl, base: &str) -> String {
    match url {
        ListedUrl::Gateway(path) => format!("{base}{path}"),
        ListedUrl::Direct(url) => url.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;

    fn zosmf() -> ListedService {
        let mut service = ListedService::new(ServiceId::new("ibmzosmf").unwrap());
        service.title = Some("IBM z/OSMF".to_owned());
        service.description = Some("REST API".to_owned());
        service.home_page = Some(ListedUrl::Gateway("/ibmzosmf/ui/v1/".to_owned()));
        let mut api = ListedApi::new("ibm.zosmf", "/api/v1/");
        api.version = Some("1.0.0".to_owned());
        api.swagger_url = Some(ListedUrl::Direct("https://zos:443/docs".to_owned()));
        api.documentation_url = Some("https://docs.example.com".to_owned());
        api.is_default = true;
        let mut same = ListedApi::new("ibm.zosmf", "api");
        same.version = Some("1.5".to_owned());
        service.apis = vec![api, same];
        let mut authentication = ListedAuthentication::new("httpBasicPassTicket");
        authentication.applid = Some(Applid::new("IZUDFLT").unwrap());
        service.authentication = Some(authentication);
        let mut instance = ListedInstance::fixed(&service.id, "https", "192.0.2.1", 443);
        instance.home_page_url = Some("https://192.0.2.1:443/zosmf/".to_owned());
        instance.custom_metadata = BTreeMap::from([("os.name".to_owned(), "z/OS".to_owned())]);
        service.instances = vec![instance];
        service
    }

    fn always_up() -> HealthOf {
        Arc::new(|_, _| Health::Up)
    }

    #[test]
    fn a_service_has_the_fields_of_api_ml() {
        let health = always_up();
        let list = SharedServices::new([zosmf()]).current(&health);
        let document = to_value(list.document("https://gw:7554", None)).unwrap();
        let want = json!([{
            "serviceId": "ibmzosmf",
            "status": "UP",
            "apiml": {
                "apiInfo": [{
                    "apiId": "ibm.zosmf",
                    "gatewayUrl": "api/v1",
                    "version": "1.0.0",
                    "swaggerUrl": "https://zos:443/docs",
                    "documentationUrl": "https://docs.example.com",
                    "codeSnippet": [],
                    "baseUrl": "https://gw:7554/ibmzosmf/api/v1",
                    "basePath": "/ibmzosmf/api/v1",
                    "defaultApi": true,
                }],
                "service": {
                    "title": "IBM z/OSMF",
                    "description": "REST API",
                    "homePageUrl": "https://gw:7554/ibmzosmf/ui/v1/",
                },
                "authentication": [
                    { "scheme": "httpBasicPassTicket", "applid": "IZUDFLT", "supportsSso": true },
                ],
            },
            "instances": { "STATIC-192.0.2.1:ibmzosmf:443": {
                "status": "UP",
                "hostname": "192.0.2.1",
                "ipAddr": "192.0.2.1",
                "protocol": "https",
                "port": 443,
                "homePageUrl": "https://192.0.2.1:443/zosmf/",
                "customMetadata": { "os.name": "z/OS" },
            }},
        }]);
        assert_eq!(document, want);
    }

    #[test]
    fn a_service_is_up_while_one_of_its_instances_is() {
        for (down, want) in [(&[][..], "UP"), (&[1], "UP"), (&[1, 2], "DOWN")] {
            let mut service = ListedService::new(ServiceId::new("svc").unwrap());
            let instance = |port| ListedInstance::fixed(&service.id, "http", "a", port);
            service.instances = vec![instance(1), instance(2)];
            let health: HealthOf =
                Arc::new(move |_, instance| match down.contains(&instance.port) {
                    true => Health::down("why"),
                    false => Health::Up,
                });
            let list = SharedServices::new([service]).current(&health);
            let document = to_value(list.service("svc", "").unwrap()).unwrap();
            assert_eq!(document["status"], want);
            for port in [1, 2] {
                let want = if down.contains(&port) { "DOWN" } else { "UP" };
                assert_eq!(document["instances"][format!("STATIC-a:svc:{port}")]["status"], want);
            }
        }
    }

    #[test]
    fn the_headers_of_the_scheme_x509_are_one_text() {
        let mut authentication = ListedAuthentication::new("x509");
        let want = json!({ "scheme": "x509", "supportsSso": true });
        assert_eq!(to_value(authentication_view(&authentication)).unwrap(), want);
        authentication.headers = vec![CertificateHeader::Public, CertificateHeader::CommonName];
        let want = json!({
            "scheme": "x509",
            "headers": "X-Certificate-Public,X-Certificate-CommonName",
            "supportsSso": true,
        });
        assert_eq!(to_value(authentication_view(&authentication)).unwrap(), want);
    }

    #[test]
    fn services_are_found_by_id_and_by_the_id_of_an_api() {
        let plain = ListedService::new(ServiceId::new("plain").unwrap());
        let health = always_up();
        let list = SharedServices::new([zosmf(), plain]).current(&health);
        let ids = |api: Option<&str>| -> Vec<String> {
            let document = to_value(list.document("", api)).unwrap();
            let services = document.as_array().unwrap().iter();
            services.map(|service| service["serviceId"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(ids(None), ["ibmzosmf", "plain"]);
        assert_eq!(ids(Some("ibm.zosmf")), ["ibmzosmf"]);
        assert_eq!(ids(Some("other")), [""; 0]);
        assert!(list.service("IBMZOSMF", "").is_some() && list.service("zosmf", "").is_none());
        let plain = to_value(list.service("plain", "").unwrap()).unwrap();
        let want = json!({ "apiInfo": [], "service": {}, "authentication": [] });
        assert_eq!(plain["apiml"], want);
        assert!(!ListedAuthentication::new("bypass").supports_sso);
    }
}
