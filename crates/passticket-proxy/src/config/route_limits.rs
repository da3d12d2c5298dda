//! Reads the methods, paths and sizes that a service or a route allows, and the time limits of a route:
//! `components.passticket-proxy.services.ID`, and `routes` below it.

use std::time::Duration;

use http::Method;

use super::{
    configured_route::ConfiguredRoute,
    methods,
    problem::{shown_name, suggest},
    reader::{At, Field, Section},
};
use tower_passticket::{layer::RouteLimits, token::ServiceId};

const KILOBYTE: u64 = 1024;
const MEGABYTE: u64 = 1024 * 1024;

pub(super) struct ServiceLimits<'a> {
    of_service: Limits<'a>,
    /// The limits of single routes, each with the `gatewayUrl` of the route and the place of the setting.
    of_routes: Vec<(&'a str, At<'a>, Limits<'a>)>,
}

#[derive(Clone, Default)]
struct Limits<'a> {
    methods: Option<Vec<Method>>,
    paths: Option<Vec<Field<'a>>>,
    body: Option<u64>,
    headers: Option<u64>,
    response: Option<Duration>,
    service_body: Option<Duration>,
}

impl<'a> ServiceLimits<'a> {
    pub(super) fn gateway_urls(&self) -> impl Iterator<Item = &'a str> {
        self.of_routes.iter().map(|(url, ..)| *url)
    }
}

/// Reads the limits of a service and of its routes. Does not read the time limits of the service: the caller reads
/// them.
pub(super) fn read_service<'a>(service: &mut Section<'a>) -> ServiceLimits<'a> {
    let of_service = read(service);
    let routes = service.section("routes");
    let of_routes = routes.fields().into_iter().map(|(gateway_url, field)| {
        let mut section = field.section();
        let mut limits = read(&mut section);
        limits.response = seconds(&mut section, "responseSeconds");
        limits.service_body = seconds(&mut section, "serviceBodySeconds");
        section.finish();
        (gateway_url.trim_matches('/'), field.at, limits)
    });
    ServiceLimits { of_service, of_routes: of_routes.collect() }
}

fn read<'a>(section: &mut Section<'a>) -> Limits<'a> {
    let methods = list(section, "methods").map(|field| {
        let never = |method: &Method| matches!(*method, Method::TRACE | Method::CONNECT);
        let methods = methods::read(&field);
        if methods.iter().any(never) {
            field.at.error("must not contain TRACE or CONNECT, which the gateway never forwards");
        }
        methods
    });
    let paths = list(section, "paths").map(|field| field.one_or_more());
    let body = section.optional("bodyMegabytes").and_then(|field| field.number(1..=1_000_000));
    let headers = section.optional("headerKilobytes").and_then(|field| field.number(1..=64));
    Limits {
        methods,
        paths,
        body: body.map(|megabytes| megabytes * MEGABYTE),
        headers: headers.map(|kilobytes| kilobytes * KILOBYTE),
        response: None,
        service_body: None,
    }
}

/// Reads a list. An empty list is an error. The operator probably means that it allows nothing. But each blank value
/// counts as absent, so without the error, an empty list would allow everything.
fn list<'a>(section: &mut Section<'a>, name: &'static str) -> Option<Field<'a>> {
    let field = section.present(name)?;
    if field.is_list() && field.is_blank() {
        field.at.error("is an empty list; write the items that are allowed, or remove the key");
    }
    (!field.is_blank()).then_some(field)
}

fn seconds(section: &mut Section<'_>, name: &'static str) -> Option<Duration> {
    section.optional(name)?.number(1..=86_400).map(Duration::from_secs)
}

/// Adds the limits to the routes. Reports limits of routes that do not exist, and paths to which no route leads. A
/// template stands for the routes that are found in Eureka and have no limits of their own. So it gets only the limits
/// of its service.
pub(super) fn apply<'a>(
    routes: &mut [ConfiguredRoute],
    templates: &mut [ConfiguredRoute],
    services: impl Iterator<Item = (&'a ServiceId, &'a ServiceLimits<'a>)>,
) {
    for (id, limits) in services {
        check(id, limits, routes, templates);
        for template in templates.iter_mut().filter(|template| template.service() == id) {
            *template = with_limits(template.clone(), &Limits::default(), &limits.of_service);
        }
        for route in routes.iter_mut().filter(|route| route.service() == id) {
            let url = gateway_url(id, route).to_owned();
            let own = limits.of_routes.iter().find(|(other, ..)| *other == url);
            let own = own.map(|(.., limits)| limits.clone()).unwrap_or_default();
            *route = with_limits(route.clone(), &own, &limits.of_service);
        }
    }
}

/// Returns the `gatewayUrl` of a route: the part of its prefix after the id of the service.
fn gateway_url<'r>(id: &ServiceId, route: &'r ConfiguredRoute) -> &'r str {
    let rest = route.prefix().trim_start_matches('/').strip_prefix(id.as_str());
    rest.unwrap_or_default().trim_start_matches('/')
}

fn below(id: &ServiceId, path: &str) -> String {
    format!("{id}/{}", path.trim_start_matches('/'))
}

fn check(
    id: &ServiceId,
    limits: &ServiceLimits<'_>,
    routes: &[ConfiguredRoute],
    templates: &[ConfiguredRoute],
) {
    let is_own = |route: &&ConfiguredRoute| route.service() == id;
    let routes = || routes.iter().filter(is_own);
    let with_templates = || routes().chain(templates.iter().filter(is_own));
    if with_templates().next().is_none() {
        // The service has no route because of a problem that was reported.
        return;
    }
    for (url, at, _) in &limits.of_routes {
        if !routes().any(|route| gateway_url(id, route) == *url) {
            let hint = suggest(url, routes().map(|route| gateway_url(id, route)));
            let id = shown_name(id.as_str());
            at.error(format_args!("service {id} has no route with this gatewayUrl{hint}"));
        }
    }
    let of_routes = limits.of_routes.iter().map(|(url, _, limits)| (Some(*url), limits));
    for (url, limits) in of_routes.chain([(None, &limits.of_service)]) {
        for path in limits.paths.iter().flatten() {
            let Some(text) = path.text() else { continue };
            if let Err(error) = RouteLimits::default().with_paths([below(id, text)]) {
                path.at.error(error);
                continue;
            }
            let text = text.trim_matches('/');
            let is_in = |one: &str, other: &str| {
                other.is_empty()
                    || one
                        .strip_prefix(other)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let leads = |route: &ConfiguredRoute| {
                let prefix = gateway_url(id, route);
                url.is_none_or(|url| url == prefix) && (is_in(text, prefix) || is_in(prefix, text))
            };
            if !with_templates().any(leads) {
                path.at.error(
                    "is not below a route; write a path that begins with a gatewayUrl, like api/v1/jobs",
                );
            }
        }
    }
}

fn with_limits(
    mut route: ConfiguredRoute,
    own: &Limits<'_>,
    of_service: &Limits<'_>,
) -> ConfiguredRoute {
    let id = route.service().clone();
    let mut limits = RouteLimits::default();
    let mut is_limited = false;
    if let Some(methods) = own.methods.as_ref().or(of_service.methods.as_ref()) {
        (limits, is_limited) = (limits.with_methods(methods.iter().cloned()), true);
    }
    if let Some(paths) = own.paths.as_ref().or(of_service.paths.as_ref()) {
        // If a path is invalid, this was already reported.
        let paths = paths.iter().filter_map(|path| Some(below(&id, path.unchecked_text()?)));
        if let Ok(with_paths) = limits.clone().with_paths(paths) {
            (limits, is_limited) = (with_paths, true);
        }
    }
    if let Some(bytes) = own.body.or(of_service.body) {
        (limits, is_limited) = (limits.with_max_body(bytes), true);
    }
    if let Some(bytes) = own.headers.or(of_service.headers) {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        (limits, is_limited) = (limits.with_max_headers(bytes), true);
    }
    if is_limited {
        route = route.with_limits(limits);
    }
    if let Some(response) = own.response {
        route = route.with_response_timeout(response);
    }
    if let Some(service_body) = own.service_body {
        route = route.with_body_timeout(service_body);
    }
    route
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{configured_route::ServiceScheme, problem::Report, reader::Document};

    /// Returns the limits of the routes `api/v1` and `ui` of the service `svc`, or the errors. `ours` is
    /// `components.passticket-proxy.services.svc`.
    fn limits(ours: &str) -> Result<[String; 2], Vec<String>> {
        let report = Report::default();
        let document = Document::parse("z".into(), ours.as_bytes(), &report);
        let mut section = document.section(&report);
        let limits = read_service(&mut section);
        section.finish();
        let id = ServiceId::new("svc").unwrap();
        let route = |url: &str| {
            let upstream = "https://a".parse().unwrap();
            ConfiguredRoute::new(id.clone(), url, upstream, ServiceScheme::Bypass).unwrap()
        };
        let mut routes = [route("api/v1"), route("ui")];
        apply(&mut routes, &mut [], [(&id, &limits)].into_iter());
        let shown = |route: &ConfiguredRoute| {
            let limits = route.limits().map(|limits| format!("{limits:?}")).unwrap_or_default();
            format!("{:?} {:?} {limits}", route.response_timeout(), route.body_timeout())
        };
        report
            .finish(Some([shown(&routes[0]), shown(&routes[1])]))
            .map(|(shown, _)| shown)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_route_has_the_limits_of_its_service_unless_it_has_its_own() {
        let shown = |limits: RouteLimits| format!("None None {limits:?}");
        let get = || RouteLimits::default().with_methods([Method::GET]);
        let none = "None None ".to_owned();
        for (ours, api, ui) in [
            ("{}", none.clone(), none.clone()),
            ("methods: [GET]", shown(get()), shown(get())),
            (
                "{methods: GET, bodyMegabytes: 2, routes: {ui: {methods: [GET, POST], headerKilobytes: 4}}}",
                shown(get().with_max_body(2 * MEGABYTE)),
                shown(
                    RouteLimits::default()
                        .with_methods([Method::GET, Method::POST])
                        .with_max_body(2 * MEGABYTE)
                        .with_max_headers(4096),
                ),
            ),
            (
                "{paths: [api/v1/jobs, /ui/]}",
                shown(RouteLimits::default().with_paths(["svc/api/v1/jobs", "svc/ui"]).unwrap()),
                shown(RouteLimits::default().with_paths(["svc/api/v1/jobs", "svc/ui"]).unwrap()),
            ),
            (
                "routes: {/api/v1/: {responseSeconds: 5, serviceBodySeconds: 6}}",
                "Some(5s) Some(6s) ".to_owned(),
                none,
            ),
        ] {
            assert_eq!(limits(ours), Ok([api, ui]), "{ours}");
        }
    }

    #[test]
    fn wrong_limits_are_errors() {
        for (ours, want) in [
            ("methods: [get]", "z:1: methods[0]: \"get\" is not a method"),
            ("methods: TRACE", "z:1: methods: must not contain TRACE"),
            ("methods: []", "z:1: methods: is an empty list"),
            ("routes: {ui: {paths: []}}", "z:1: routes.ui.paths: is an empty list"),
            ("bodyMegabytes: 0", "z:1: bodyMegabytes: \"0\" is not valid"),
            ("headerKilobytes: 65", "z:1: headerKilobytes: \"65\" is not valid"),
            ("paths: [api/v1/../x]", "z:1: paths[0]: \"svc/api/v1/../x\" cannot be a path"),
            ("paths: [api/v2]", "z:1: paths[0]: is not below a route"),
            ("paths: [api/v11]", "z:1: paths[0]: is not below a route"),
            ("routes: {ui: {paths: [api/v1/x]}}", "z:1: routes.ui.paths[0]: is not below a route"),
            (
                "routes: {u: {methods: GET}}",
                "z:1: routes.u: service svc has no route with this gatewayUrl",
            ),
            ("routes: {ui: {method: GET}}", "z:1: routes.ui.method: is an unknown key"),
        ] {
            let errors = limits(ours).unwrap_err();
            assert!(errors.len() == 1 && errors[0].starts_with(want), "{ours}: {errors:?}");
        }
    }
}
