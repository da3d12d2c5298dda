//! Reads Zowe static definitions, also called api-defs: `api-defs/*.yml`
//! (docs/reference/data-plane.md#static-definitions). An example is
//! `crates/passticket-proxy/src/config/examples/api-def.yml`.
//!
//! A static definition lists services. For each service, it contains the URLs, the routes, and the scheme. The scheme
//! says which credential the service receives from the gateway.

use std::net::IpAddr;

use super::{
    configured_route::{ConfiguredRoute, ServiceScheme},
    problem::{quote, suggest},
    reader::{At, Field, Section},
};
use tower_passticket::{layer::Upstream, token::ServiceId};

/// A service of a definition.
pub(super) struct Service<'a> {
    pub(super) id: ServiceId,
    pub(super) routes: Vec<DefinedRoute<'a>>,
    /// Whether a route was left out because of a problem.
    pub(super) broken: bool,
}

/// A route, and the places of its keys.
pub(super) struct DefinedRoute<'a> {
    pub(super) route: ConfiguredRoute,
    /// The place of the `gatewayUrl`, or of the key in `components.passticket-proxy.services` that makes the route.
    pub(super) at: At<'a>,
    /// The place of the APPLID, if the route has one.
    pub(super) applid_at: Option<At<'a>>,
}

/// Reads the services of one file.
pub(super) fn read(mut root: Section<'_>) -> Vec<Service<'_>> {
    let services = root.optional("services").map(|field| field.items()).unwrap_or_default();
    if let Some(field) = root.optional("additionalServiceMetadata") {
        field.at.warning("is not supported yet; move its values to the entries in services");
    }
    root.accept(&["catalogUiTiles"]);
    root.finish();
    services.iter().filter_map(service).collect()
}

fn service<'a>(field: &Field<'a>) -> Option<Service<'a>> {
    let mut section = field.section();
    let id = section.required("serviceId", "the id of the service, the first segment of its paths");
    let id = id.and_then(|field| field.read(service_id));
    let upstream = upstream(&mut section);
    let scheme = scheme(&mut section);
    let routes = routes(&mut section);
    section.accept(&[
        "title",
        "description",
        "catalogUiTileId",
        "homePageRelativeUrl",
        "statusPageRelativeUrl",
        "healthCheckRelativeUrl",
        "apiInfo",
        "customMetadata",
    ]);
    section.finish();

    let id = id?;
    let is_valid = upstream.is_some() && scheme.is_some();
    // If the service is not valid, the end of this function removes its routes. The placeholders make it possible to
    // check the routes before, so that the problems of the routes are also reported.
    let upstream = upstream.or_else(|| Upstream::parse("http://localhost").ok())?;
    let (scheme, applid_at) = scheme.unwrap_or((ServiceScheme::Bypass, None));
    let defined = routes.iter().filter_map(|field| {
        let (route, at) = define(field, &id, &upstream, scheme)?;
        Some(DefinedRoute { route, at, applid_at: applid_at.clone() })
    });
    let mut defined: Vec<_> = defined.collect();
    let broken = !is_valid || defined.len() < routes.len();
    if !is_valid {
        defined.clear();
    }
    Some(Service { id, routes: defined, broken })
}

fn service_id(text: &str) -> Result<ServiceId, String> {
    let id = ServiceId::new(text).map_err(|error| error.to_string())?;
    if id.as_str() == "gateway" {
        // The paths below /gateway belong to the auth API.
        return Err("\"gateway\" is the gateway itself; write another id".to_owned());
    }
    Ok(id)
}

fn upstream(section: &mut Section<'_>) -> Option<Upstream> {
    let urls = section.required("instanceBaseUrls", "a list with the URL of the service")?.items();
    if let Some(second) = urls.get(1) {
        second.at.warning("is not used, because this gateway uses only the first URL");
    }
    let first = urls.first()?;
    let upstream = first.read(|text| {
        if text.contains('@') {
            // The URL may contain a password, so the error does not show it.
            return Err(
                "contains a user name; write http:// or https://, host, port and path".into()
            );
        }
        Upstream::parse(text).map_err(|error| error.to_string())
    })?;
    if upstream.to_string().starts_with("http://") && !is_loopback(upstream.authority().host()) {
        first.at.warning(
            "is plain HTTP, so PassTickets and responses cross the network in clear text; write https://, \
             unless AT-TLS encrypts the connection",
        );
    }
    Some(upstream)
}

/// Whether a host name or address always leads to this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

/// Reads the scheme of a service, and the place of its APPLID. If `authentication` is absent, the scheme is `bypass`.
/// If the scheme is wrong, reports an error and returns `None`.
fn scheme<'a>(section: &mut Section<'a>) -> Option<(ServiceScheme, Option<At<'a>>)> {
    let Some(field) = section.optional("authentication") else {
        return Some((ServiceScheme::Bypass, None));
    };
    let mut section = field.section();
    // Zowe accepts `headers`, `sso` and `supportsSso`, and ignores them in static definitions. Not every scheme below
    // reads `applid`. It is accepted here, so that `finish` does not report it as an unknown key.
    section.accept(&["headers", "sso", "supportsSso", "applid"]);
    let field = section.required("scheme", "httpBasicPassTicket or bypass");
    let scheme = match field.and_then(|field| Some((field.text()?, field))) {
        Some(("httpBasicPassTicket", _)) => section
            .required("applid", "the APPLID that the service checks PassTickets against")
            .and_then(|applid| {
                Some((
                    ServiceScheme::HttpBasicPassTicket { applid: applid.parse()? },
                    Some(applid.at),
                ))
            }),
        Some(("bypass", _)) => {
            if let Some(applid) = section.optional("applid") {
                applid.at.warning("has no effect with scheme bypass");
            }
            Some((ServiceScheme::Bypass, None))
        }
        Some((known @ ("zoweJwt" | "zosmf" | "x509" | "safIdt"), field)) => {
            field.at.error(format_args!(
                "{known} is not supported yet; write httpBasicPassTicket or bypass"
            ));
            None
        }
        Some((other, field)) => {
            let hint = suggest(other, ["httpBasicPassTicket", "bypass"]);
            field.at.error(format_args!("{} is not a scheme{hint}", quote(other)));
            None
        }
        None => None,
    };
    section.finish();
    scheme
}

/// Reads the list of routes. As in Zowe, the list may have the name `routes` or `routedServices`.
fn routes<'a>(section: &mut Section<'a>) -> Vec<Field<'a>> {
    let (routes, alias) = (section.optional("routes"), section.optional("routedServices"));
    if let (Some(_), Some(alias)) = (&routes, &alias) {
        alias.at.error("is another name of routes, and both are present; remove one of them");
    }
    routes.or(alias).map(|field| field.items()).unwrap_or_default()
}

/// Reads one route.
fn define<'a>(
    field: &Field<'a>,
    id: &ServiceId,
    upstream: &Upstream,
    scheme: ServiceScheme,
) -> Option<(ConfiguredRoute, At<'a>)> {
    let mut section = field.section();
    let gateway_url = section.present("gatewayUrl");
    if gateway_url.is_none() && field.is_mapping() {
        field.at.error("has no gatewayUrl; write one like api/v1");
    }
    let relative_url = section.optional("serviceRelativeUrl");
    section.finish();

    let upstream = match relative_url {
        Some(relative) => relative.read(|text| join(upstream, text)),
        None => Some(upstream.clone()),
    };
    let gateway_url = gateway_url?;
    // A blank gatewayUrl means all paths of the service.
    let path = if gateway_url.is_blank() { "" } else { gateway_url.text()? };
    match ConfiguredRoute::new(id.clone(), path, upstream?, scheme) {
        Ok(route) => Some((route, gateway_url.at)),
        Err(error) => {
            gateway_url.at.error(error);
            None
        }
    }
}

/// Appends a path to the URL of a service. [`Upstream::join`] accepts any text, so this function checks the result.
fn join(upstream: &Upstream, path: &str) -> Result<Upstream, String> {
    let joined = upstream.join(path);
    match Upstream::parse(&joined.to_string()) {
        Ok(parsed) if parsed == joined => Ok(joined),
        _ => Err(format!("{} cannot be part of a path; write segments like api/v1", quote(path))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};

    /// Reads a service with the id `Svc` and the keys in `lines`. Returns its routes as `prefix -> upstream
    /// applid`, and the problems.
    fn read_service(lines: &str) -> (Vec<String>, Vec<String>) {
        let yaml =
            format!("services:\n  - serviceId: Svc\n    {}\n", lines.replace('\n', "\n    "));
        read_text(&yaml)
    }

    fn read_text(yaml: &str) -> (Vec<String>, Vec<String>) {
        let report = Report::default();
        let document = Document::parse("d".into(), yaml.as_bytes(), &report);
        let services = read(document.section(&report));
        let routes = services.iter().flat_map(|service| &service.routes).map(|defined| {
            let applid = defined.route.scheme.applid().map(|applid| applid.to_string());
            let (route, applid) = (&defined.route.route, applid.unwrap_or_default());
            let upstream = route.upstream().unwrap();
            format!("{} -> {upstream} {applid}", route.prefix()).trim_end().to_owned()
        });
        let routes = routes.collect();
        drop(services);
        let problems = match report.finish(Some(())) {
            Ok(((), warnings)) => warnings,
            Err(problems) => problems.iter().cloned().collect(),
        };
        (routes, problems.iter().map(ToString::to_string).collect())
    }

    const URL: &str = "instanceBaseUrls: [https://zos:1/base/]\n";
    const ROUTE: &str = "routes: [{gatewayUrl: api/v1, serviceRelativeUrl: /api}]\n";

    #[test]
    fn a_full_definition_is_read() {
        let (routes, problems) = read_text(
            "services:
  - serviceId: dcpassticket
    title: A title
    description: |
      Text
    catalogUiTileId: static
    instanceBaseUrls:
      - https://localhost:10012/discoverableclient
    homePageRelativeUrl: /api/v1
    statusPageRelativeUrl: /application/info
    healthCheckRelativeUrl: /application/health
    routes:
      - gatewayUrl: /api/v1/
        serviceRelativeUrl: /api/v1
      - gatewayUrl: ui/v1
        serviceRelativeUrl: /
      - gatewayUrl: ''
    authentication: {scheme: httpBasicPassTicket, applid: zoweappl, headers: X-A}
    apiInfo: [{apiId: any, gatewayUrl: api/v1}]
    customMetadata: {apiml: {corsEnabled: true}}
  - serviceId: nothing
    instanceBaseUrls: [https://zos]
    routedServices: [{gatewayUrl: api, serviceRelativeUrl: }]
  - serviceId: dcbypass
    instanceBaseUrls: [https://zos]
    authentication: {scheme: bypass}
    routes: [{gatewayUrl: api}]
catalogUiTiles: {static: {title: T}}
additionalServiceMetadata: []
",
        );
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(
            routes,
            [
                "/dcpassticket/api/v1 -> https://localhost:10012/discoverableclient/api/v1 ZOWEAPPL",
                "/dcpassticket/ui/v1 -> https://localhost:10012/discoverableclient ZOWEAPPL",
                "/dcpassticket -> https://localhost:10012/discoverableclient ZOWEAPPL",
                "/nothing/api -> https://zos",
                "/dcbypass/api -> https://zos",
            ]
        );
    }

    #[test]
    fn a_wrong_definition_makes_no_route() {
        let applid = "d:5: services[0].authentication.applid: ";
        let scheme = "d:5: services[0].authentication.scheme: ";
        let mut cases = Vec::new();
        for (authentication, want) in [
            (
                "{scheme: httpBasicPassTicket}",
                format!(
                    "{applid}is missing; write the APPLID that the service checks PassTickets \
                         against"
                ),
            ),
            (
                "{scheme: httpBasicPassTicket, applid: ' '}",
                format!(
                    "{applid}is empty; write the APPLID that the service checks PassTickets \
                         against"
                ),
            ),
            (
                "{scheme: httpBasicPassTicket, applid: NINECHARS}",
                format!(
                    "{applid}APPLID \"NINECHARS\" is longer than 8 characters; write 1 to 8 \
                         characters of A-Z 0-9 # @ $"
                ),
            ),
            (
                "{scheme: httpbasicpassticket, applid: A}",
                format!(
                    "{scheme}\"httpbasicpassticket\" is not a scheme; did you mean \
                         httpBasicPassTicket?"
                ),
            ),
            (
                "{scheme: none}",
                format!(
                    "{scheme}\"none\" is not a scheme; known here: bypass, httpBasicPassTicket"
                ),
            ),
            (
                "{scheme: zoweJwt}",
                format!(
                    "{scheme}zoweJwt is not supported yet; write httpBasicPassTicket or bypass"
                ),
            ),
            ("{applid: A}", format!("{scheme}is missing; write httpBasicPassTicket or bypass")),
            (
                "bypass",
                "d:5: services[0].authentication: must be a mapping; write keys with their values \
                 below it"
                    .to_owned(),
            ),
        ] {
            cases.push((format!("{URL}{ROUTE}authentication: {authentication}"), want));
        }
        let lines = |lines: &str, want: &str| (lines.to_owned(), want.to_owned());
        cases.extend([
            lines(
                ROUTE,
                "d:2: services[0].instanceBaseUrls: is missing; write a list with the URL of the \
                 service",
            ),
            lines(
                &format!("{ROUTE}instanceBaseUrls: ['https://u:secret@zos']"),
                "d:4: services[0].instanceBaseUrls[0]: contains a user name; write http:// or \
                 https://, host, port and path",
            ),
            lines(
                &format!("{ROUTE}instanceBaseUrls: [zos:443]"),
                "d:4: services[0].instanceBaseUrls[0]: \"zos:443\" is not the URL of a service; write \
                 http:// or https://, host, port and path, without user, query or dot segments",
            ),
            lines(
                &format!("{URL}routes:\n  - gatewayUrl: a b"),
                "d:5: services[0].routes[0].gatewayUrl: \"a b\" cannot be part of a path; write \
                 segments like api/v1",
            ),
            lines(
                &format!("{URL}routes:\n  - gatewayUrl: a\n    serviceRelativeUrl: /../x"),
                "d:6: services[0].routes[0].serviceRelativeUrl: \"/../x\" cannot be part of a path; \
                 write segments like api/v1",
            ),
            lines(
                &format!("{URL}routes:\n  - gatewayUrl: a\n    serviceRelativeUrl: 'x#y'"),
                "d:6: services[0].routes[0].serviceRelativeUrl: \"x#y\" cannot be part of a path; \
                 write segments like api/v1",
            ),
            lines(
                &format!("{URL}routes:\n  - serviceRelativeUrl: a"),
                "d:5: services[0].routes[0]: has no gatewayUrl; write one like api/v1",
            ),
            lines(
                &format!("{URL}route: []"),
                "d:4: services[0].route: is an unknown key; did you mean routes?",
            ),
        ]);
        for (lines, want) in cases {
            let (routes, problems) = read_service(&lines);
            assert_eq!((routes, problems), (Vec::new(), vec![want]), "{lines}");
        }
        // An unknown key of `authentication` is also an error.
        let (_, problems) =
            read_service(&format!("{URL}{ROUTE}authentication: {{aplid: A, scheme: bypass}}"));
        assert_eq!(
            problems,
            ["d:5: services[0].authentication.aplid: is an unknown key; did you mean applid?"]
        );
        // There are two problems: the id is wrong, and instanceBaseUrls is missing.
        for id in ["gateway", "a/b"] {
            let (_, problems) = read_text(&format!("services: [{{serviceId: {id}}}]"));
            assert_eq!(problems.len(), 2, "{id}: {problems:?}");
        }
    }

    #[test]
    fn plain_http_to_another_machine_causes_a_warning() {
        for (url, is_warned) in [
            ("http://zos", true),
            ("HTTP://10.0.0.1:80", true),
            ("http://[2001:db8::1]", true),
            ("http://localhost.example", true),
            ("http://localhost:8080", false),
            ("http://LOCALHOST", false),
            ("http://127.0.0.2", false),
            ("http://[::1]:80", false),
            ("https://zos", false),
        ] {
            let (routes, problems) = read_service(&format!("{ROUTE}instanceBaseUrls: ['{url}']"));
            let want = "d:4: services[0].instanceBaseUrls[0]: is plain HTTP, so PassTickets";
            assert_eq!((routes.len(), problems.len()), (1, usize::from(is_warned)), "{url}");
            assert!(
                problems.iter().all(|problem| problem.starts_with(want)),
                "{url}: {problems:?}"
            );
        }
    }

    #[test]
    fn keys_without_effect_cause_warnings() {
        for (yaml, want) in [
            (
                format!("{ROUTE}instanceBaseUrls: [https://a, https://b]"),
                "d:4: services[0].instanceBaseUrls[1]: is not used, because this gateway uses only the \
                 first URL",
            ),
            (
                format!("{URL}{ROUTE}authentication: {{scheme: bypass, applid: A}}"),
                "d:5: services[0].authentication.applid: has no effect with scheme bypass",
            ),
        ] {
            let (routes, problems) = read_service(&yaml);
            assert_eq!((routes.len(), problems), (1, vec![want.to_owned()]));
        }
        let (_, problems) = read_text("additionalServiceMetadata: [{serviceId: a}]");
        assert_eq!(
            problems,
            [
                "d:1: additionalServiceMetadata: is not supported yet; move its values to the entries in services"
            ]
        );
    }
}
