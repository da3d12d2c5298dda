//! Reads the keys of a service definition that only describe the service: its title, APIs and pages. The gateway shows
//! them to clients at `/gateway/api/v1/services` (docs/reference/auth-endpoints.md#gateway-endpoints).

use super::reader::{Field, Section};
use tower_passticket::{
    api::{ListedApi, ListedInstance, ListedService, ListedUrl},
    layer::{Route, Upstream},
    token::ServiceId,
};

/// The description of a service, as its definition has it.
pub(super) struct Description {
    title: Option<String>,
    description: Option<String>,
    home_page: Option<String>,
    status_page: Option<String>,
    health_check: Option<String>,
    apis: Vec<Api>,
}

struct Api {
    api: ListedApi,
    swagger_url: Option<String>,
}

/// Reads the keys. No value is checked, because none of them changes how the gateway handles requests.
pub(super) fn read(section: &mut Section<'_>) -> Description {
    let apis = section.optional("apiInfo").map(|field| field.items()).unwrap_or_default();
    let mut text = |name| section.optional(name).and_then(|field| text_of(&field));
    Description {
        title: text("title"),
        description: text("description"),
        home_page: text("homePageRelativeUrl"),
        status_page: text("statusPageRelativeUrl"),
        health_check: text("healthCheckRelativeUrl"),
        apis: apis.iter().filter_map(api).collect(),
    }
}

/// Zowe's definitions may have an API without an id, such as one for documentation only. Clients cannot find such an
/// API, so it is not listed.
fn api(field: &Field<'_>) -> Option<Api> {
    let mut section = field.section();
    let mut text = |name| section.optional(name).and_then(|field| text_of(&field));
    let (id, gateway_url) = (text("apiId"), text("gatewayUrl"));
    let mut api = ListedApi::new(id.unwrap_or_default(), &gateway_url.unwrap_or_default());
    api.version = text("version");
    api.documentation_url = text("documentationUrl");
    let swagger_url = text("swaggerUrl");
    api.is_default = section.optional("defaultApi").is_some_and(|field| field.is_word("true"));
    (!api.api_id.is_empty()).then_some(Api { api, swagger_url })
}

fn text_of(field: &Field<'_>) -> Option<String> {
    field.unchecked_text().map(str::to_owned)
}

impl Description {
    /// The entry of the service in the list, with the instance at `upstream`. Pages that a route leads to have their
    /// address at the gateway.
    pub(super) fn into_service(
        self,
        id: &ServiceId,
        upstream: &Upstream,
        routes: &[&Route],
    ) -> ListedService {
        let Self { title, description, home_page, status_page, health_check, apis } = self;
        let page = |path: Option<String>| path.map(|path| with_path(upstream, &path));
        let authority = upstream.authority();
        let (protocol, host) = (upstream.scheme().as_str(), authority.host());
        let default_port = if protocol == "http" { 80 } else { 443 };
        let port = authority.port_u16().unwrap_or(default_port);
        let mut instance = ListedInstance::fixed(id, protocol, host, port);
        instance.home_page_url = page(home_page);
        instance.status_page_url = page(status_page);
        instance.health_check_url = page(health_check);
        let mut service = ListedService::new(id.clone());
        (service.title, service.description) = (title, description);
        service.home_page =
            instance.home_page_url.as_ref().map(|url| at_gateway(url, Kind::Page, id, routes));
        service.apis = apis
            .into_iter()
            .map(|Api { mut api, swagger_url }| {
                let swagger_url = swagger_url.map(|url| at_gateway(&url, Kind::Api, id, routes));
                api.swagger_url = swagger_url;
                api
            })
            .collect();
        service.instances = vec![instance];
        service
    }
}

/// `path` below the URL of the service.
fn with_path(upstream: &Upstream, path: &str) -> String {
    format!("{upstream}/{}", path.trim_start_matches('/'))
}

/// The kind of a page. Zowe distinguishes routes by the beginning of their `gatewayUrl`.
#[derive(Clone, Copy)]
enum Kind {
    /// For people: `ui/…`.
    Page,
    /// For programs: `api/…`.
    Api,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Page => "ui",
            Self::Api => "api",
        }
    }
}

/// The path of the gateway that leads to `url`. If no route of this kind leads there, the result is `url` itself.
fn at_gateway(url: &str, kind: Kind, id: &ServiceId, routes: &[&Route]) -> ListedUrl {
    let is_of_kind = |prefix: &str| {
        let gateway_url = prefix.strip_prefix('/').and_then(|rest| rest.strip_prefix(id.as_str()));
        gateway_url.is_some_and(|it| it.trim_start_matches('/').starts_with(kind.prefix()))
    };
    let paths = routes.iter().filter_map(|route| {
        let length = route.upstream()?.to_string().len();
        let path = is_of_kind(route.prefix()).then(|| route.northbound_location(url))??;
        Some((length, path))
    });
    match paths.max_by_key(|(length, _)| *length) {
        Some((_, path)) => ListedUrl::Gateway(path),
        None => ListedUrl::Direct(url.to_owned()),
    }
}

/// Joins the entries of services that several definitions define: the instances and APIs of the later entries are added
/// to the first.
pub(super) fn join(services: impl IntoIterator<Item = ListedService>) -> Vec<ListedService> {
    let mut joined: Vec<ListedService> = Vec::new();
    for service in services {
        match joined.iter_mut().find(|first| first.id == service.id) {
            Some(first) => {
                first.instances.extend(service.instances);
                first.apis.extend(service.apis);
            }
            None => joined.push(service),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{api_defs, problem::Report, reader::Document};

    fn listed(yaml: &str) -> Vec<ListedService> {
        let report = Report::default();
        let document = Document::parse("d".into(), yaml.as_bytes(), &report);
        let services = api_defs::read(document.section(&report));
        let services = join(services.into_iter().filter_map(|service| service.listed));
        report.finish(Some(())).unwrap();
        services
    }

    #[test]
    fn a_definition_describes_its_service() {
        let services = listed(
            "services:
  - serviceId: ibmzosmf
    title: IBM z/OSMF
    description: REST API
    catalogUiTileId: zosmf
    instanceBaseUrls: [https://zos.example.com:1443/zosmf]
    homePageRelativeUrl: /web/
    statusPageRelativeUrl: info
    routes:
      - {gatewayUrl: api/v1, serviceRelativeUrl: /rest}
      - {gatewayUrl: ui/v1, serviceRelativeUrl: /web}
    authentication: {scheme: bypass}
    apiInfo:
      - apiId: ibm.zosmf
        gatewayUrl: /api/v1/
        version: 1.0
        defaultApi: true
        swaggerUrl: https://zos.example.com:1443/zosmf/rest/docs
        documentationUrl: https://docs.example.com
      - {gatewayUrl: api/v1, swaggerUrl: x, codeSnippet: [{endpoint: /x}]}
",
        );
        let [service] = &services[..] else { panic!("{services:?}") };
        assert_eq!(service.title.as_deref(), Some("IBM z/OSMF"));
        let home = ListedUrl::Gateway("/ibmzosmf/ui/v1/".to_owned());
        assert_eq!(service.home_page, Some(home));
        let [api] = &service.apis[..] else { panic!("{service:?}") };
        assert_eq!(
            (&*api.api_id, &*api.gateway_url, api.is_default),
            ("ibm.zosmf", "api/v1", true)
        );
        assert_eq!(api.version.as_deref(), Some("1.0"));
        let swagger = ListedUrl::Gateway("/ibmzosmf/api/v1/docs".to_owned());
        assert_eq!(api.swagger_url, Some(swagger));
        let [instance] = &service.instances[..] else { panic!("{service:?}") };
        assert_eq!(instance.id, "STATIC-zos.example.com:ibmzosmf:1443");
        assert_eq!((&*instance.protocol, instance.port), ("https", 1443));
        let urls = [&instance.home_page_url, &instance.status_page_url, &instance.health_check_url];
        let want =
            ["https://zos.example.com:1443/zosmf/web/", "https://zos.example.com:1443/zosmf/info"];
        assert_eq!(urls.map(Option::as_deref), [Some(want[0]), Some(want[1]), None]);
    }

    #[test]
    fn a_page_without_a_route_keeps_its_address() {
        let services = listed(
            "services:
  - serviceId: svc
    instanceBaseUrls: [https://zos]
    homePageRelativeUrl: /
    routes: [{gatewayUrl: api/v1, serviceRelativeUrl: /api}]
    apiInfo: [{apiId: a, gatewayUrl: api/v1, swaggerUrl: 'https://other/docs'}]
  - {serviceId: empty, instanceBaseUrls: [https://zos]}
",
        );
        let direct = |url: &str| Some(ListedUrl::Direct(url.to_owned()));
        assert_eq!(services[0].home_page, direct("https://zos/"));
        assert_eq!(services[0].apis[0].swagger_url, direct("https://other/docs"));
        assert_eq!((services[1].apis.len(), services[1].instances[0].port), (0, 443));
    }
}
