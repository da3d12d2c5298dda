//! Makes the list of services that clients read at `/gateway/api/v1/services`
//! (docs/reference/auth-endpoints.md#gateway-endpoints).

use super::{
    api_defs::{Definition, Definitions},
    configured_route::ConfiguredRoute,
    description::{Api, Description},
};
use tower_passticket::{
    api::{ListedApi, ListedInstance, ListedService, ListedUrl},
    layer::{Route, Upstream},
    token::ServiceId,
};

/// Makes the list of services. If several definitions have the same service id, the list has one entry with the
/// instances and APIs of all of them.
pub(super) fn list(
    definitions: &Definitions<'_>,
    routes: &[ConfiguredRoute],
) -> Vec<ListedService> {
    let mut listed: Vec<ListedService> = Vec::new();
    for Definition { id, instances, description, metadata, .. } in &definitions.services {
        let Some(first) = instances.first() else { continue };
        let of_service = routes.iter().map(|route| &route.route).filter(|it| it.service() == id);
        let routes: Vec<_> = of_service.collect();
        let instances = instances.iter().map(|it| {
            let mut instance = description.instance(id, it);
            instance.custom_metadata = metadata.listed();
            instance
        });
        match listed.iter_mut().find(|service| service.id == *id) {
            Some(service) => {
                service.instances.extend(instances);
                service.apis.extend(description.apis(id, &routes));
            }
            None => {
                let mut service = ListedService::new(id.clone());
                service.title.clone_from(&description.title);
                service.description.clone_from(&description.description);
                let home_page = page(first, description.home_page.as_deref());
                service.home_page = home_page.map(|url| at_gateway(&url, Kind::Page, id, &routes));
                service.apis = description.apis(id, &routes);
                service.instances = instances.collect();
                listed.push(service);
            }
        }
    }
    listed
}

impl Description {
    fn instance(&self, id: &ServiceId, upstream: &Upstream) -> ListedInstance {
        let authority = upstream.authority();
        let (protocol, host) = (upstream.scheme().as_str(), authority.host());
        let default_port = if protocol == "http" { 80 } else { 443 };
        let port = authority.port_u16().unwrap_or(default_port);
        let mut instance = ListedInstance::fixed(id, protocol, host, port);
        instance.home_page_url = page(upstream, self.home_page.as_deref());
        instance.status_page_url = page(upstream, self.status_page.as_deref());
        instance.health_check_url = page(upstream, self.health_check.as_deref());
        instance
    }

    /// Returns the APIs. If a route of the gateway leads to the `swaggerUrl` of an API, the path at the gateway
    /// replaces the URL.
    fn apis(&self, id: &ServiceId, routes: &[&Route]) -> Vec<ListedApi> {
        let apis = self.apis.iter().map(|Api { api, swagger_url }| {
            let mut api = api.clone();
            let swagger_url = swagger_url.as_deref();
            api.swagger_url = swagger_url.map(|url| at_gateway(url, Kind::Api, id, routes));
            api
        });
        apis.collect()
    }
}

fn page(upstream: &Upstream, path: Option<&str>) -> Option<String> {
    path.map(|path| with_path(upstream, path))
}

fn with_path(upstream: &Upstream, path: &str) -> String {
    format!("{upstream}/{}", path.trim_start_matches('/'))
}

/// The kind of a page. Only routes of the same kind can lead to the page. The `gatewayUrl` of a route in the definition
/// begins with the kind of the route: `ui` or `api`.
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

/// Returns the path of the gateway that leads to `url`. If no route of this kind leads to `url`, returns `url` itself.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{api_defs, problem::Report, ptktdata::Entries, reader::Document, routes};
    use tower_passticket::layer::OnFailure;

    fn listed(yaml: &str) -> Vec<ListedService> {
        let report = Report::default();
        let document = Document::parse("d".into(), yaml.as_bytes(), &report);
        let mut definitions = api_defs::read(document.section(&report));
        definitions.apply_additions(true);
        let empty = Document::parse("z".into(), b"", &report);
        let ptktdata = empty.section(&report).child("ptktdata");
        let on_failure = OnFailure::default();
        let routes = routes::assemble(&definitions, &[], on_failure, &Entries::new(), &ptktdata);
        let services = list(&definitions, &routes);
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
    fn metadata_for_other_programs_is_listed() {
        let services = listed(
            "services:
  - serviceId: svc
    instanceBaseUrls: [https://zos]
    customMetadata: {zone: east, os: {name: z/OS}, blank: '', apiml: {catalog: {id: x}}, response-timeout: 5000}
additionalServiceMetadata:
  - {serviceId: svc, mode: FORCE_UPDATE, customMetadata: {zone: west}}
",
        );
        let listed = &services[0].instances[0].custom_metadata;
        let listed: Vec<_> =
            listed.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(listed, [("os.name", "z/OS"), ("response-timeout", "5000"), ("zone", "west")]);
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
