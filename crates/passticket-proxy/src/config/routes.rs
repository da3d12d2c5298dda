//! Makes the routes from the api-defs (Zowe static definitions) and from `components.passticket-proxy.services`.
//!
//! An APPLID is the name of a z/OS application in the security product. A PassTicket is a short-lived
//! password of z/OS for one application. Each APPLID of a route needs a PassTicket key.

use std::{collections::BTreeMap, time::Duration};

use http::HeaderName;

use super::{
    api_defs::{DefinedRoute, Service},
    configured_route::{ConfiguredRoute, ServiceScheme},
    problem::{quote, shown_name, suggest},
    ptktdata::Entries,
    reader::{At, Field, Section},
};
use tower_passticket::{
    layer::{OnFailure, RequestHeaderError, RequestHeaders, SecurityHeaders},
    passticket::Applid,
    token::ServiceId,
};

/// The settings of one service in `components.passticket-proxy.services.<id>`. Api-defs have no keys for these
/// settings.
pub(super) struct Override<'a> {
    id: ServiceId,
    at: At<'a>,
    on_failure: Option<OnFailure>,
    request_headers: RequestHeaders,
    security_headers: SecurityHeaders,
    body_timeout: Option<Duration>,
    /// The paths of the service that have their own APPLID. Each item contains the path, the APPLID, and the place of
    /// the entry in `applids`.
    applids: Vec<(String, Applid, At<'a>)>,
}

/// Reads `components.passticket-proxy.services`.
pub(super) fn read_overrides<'a>(services: &Section<'a>) -> Vec<Override<'a>> {
    let mut overrides: Vec<Override<'a>> = Vec::new();
    for (id, field) in services.fields() {
        let mut section = field.section();
        let on_failure = read_on_failure(&mut section);
        let request_headers = read_request_headers(section.section("requestHeaders"));
        let security_headers = match section.optional("addSecurityHeaders") {
            Some(field) if field.boolean() == Some(false) => SecurityHeaders::Unchanged,
            _ => SecurityHeaders::AddMissing,
        };
        let body_timeout =
            section.optional("serviceBodySeconds").and_then(|field| field.number(1..=86_400));
        let applids =
            section.section("applids").fields().into_iter().filter_map(|(path, field)| {
                let applid = field.parse()?;
                Some((path.trim_matches('/').to_owned(), applid, field.at))
            });
        let applids = applids.collect();
        section.finish();
        let id = match ServiceId::new(id) {
            Ok(id) => id,
            Err(error) => {
                field.at.wrong_name(id, error);
                continue;
            }
        };
        if let Some(first) = overrides.iter().find(|other| other.id == id) {
            field.at.error(format_args!(
                "service {} already has settings in {}; write all its settings there",
                shown_name(id.as_str()),
                first.at
            ));
            continue;
        }
        overrides.push(Override {
            id,
            at: field.at,
            on_failure,
            request_headers,
            security_headers,
            body_timeout: body_timeout.map(Duration::from_secs),
            applids,
        });
    }
    overrides
}

/// Reads the key `onFailure`.
pub(super) fn read_on_failure(section: &mut Section<'_>) -> Option<OnFailure> {
    section.optional("onFailure")?.read(|text| match text {
        "forward" => Ok(OnFailure::Forward),
        "forward-unchanged" => Ok(OnFailure::ForwardUnchanged),
        "reject" => Ok(OnFailure::Reject),
        _ => Err("is unknown; write forward, forward-unchanged or reject"),
    })
}

/// Reads the key `requestHeaders` of a service.
fn read_request_headers(mut section: Section<'_>) -> RequestHeaders {
    type Change = fn(RequestHeaders, HeaderName) -> Result<RequestHeaders, RequestHeaderError>;
    let changes: [(_, Change); 2] =
        [("remove", RequestHeaders::with_removed), ("keep", RequestHeaders::with_kept)];
    let mut headers = RequestHeaders::default();
    for (key, change) in changes {
        for field in section.optional(key).iter().flat_map(Field::one_or_more) {
            let changed = field.read(|text| {
                let name: HeaderName = text.parse().map_err(|_| {
                    format!("{} is not the name of a header; write one like X-Name", quote(text))
                })?;
                change(headers.clone(), name).map_err(|error| error.to_string())
            });
            headers = changed.unwrap_or(headers);
        }
    }
    section.finish();
    headers
}

/// Returns the services with settings in `requestHeaders`. These settings change which headers the gateway removes from
/// requests.
pub(super) fn request_headers(overrides: &[Override<'_>]) -> Vec<(ServiceId, RequestHeaders)> {
    let changes = overrides.iter().filter(|changes| changes.request_headers != <_>::default());
    changes.map(|changes| (changes.id.clone(), changes.request_headers.clone())).collect()
}

/// Reports an error for each override whose service is not in an api-def.
pub(super) fn check_names(services: &[Service<'_>], overrides: &[Override<'_>]) {
    for Override { id, at, .. } in overrides {
        if !services.iter().any(|service| service.id == *id) {
            let hint = suggest(id.as_str(), services.iter().map(|service| service.id.as_str()));
            let id = shown_name(id.as_str());
            at.error(format_args!("service {id} has no api-def{hint}"));
        }
    }
}

/// Makes all routes, sorted by prefix, and reports their problems.
pub(super) fn assemble<'a>(
    services: Vec<Service<'a>>,
    overrides: &[Override<'a>],
    on_failure: OnFailure,
    entries: &Entries<'a>,
    ptktdata: &At<'a>,
) -> Vec<ConfiguredRoute> {
    let mut table: BTreeMap<String, DefinedRoute<'a>> = BTreeMap::new();
    let extra = overrides.iter().flat_map(|settings| override_routes(settings, &services));
    let extra: Vec<_> = extra.collect();
    for defined in services.into_iter().flat_map(|service| service.routes).chain(extra) {
        let prefix = defined.route.prefix();
        if let Some(first) = table.get(prefix) {
            defined.at.error(format_args!(
                "{} already has a route, in {}; remove one of them",
                shown_name(prefix),
                first.at
            ));
        } else {
            table.insert(prefix.to_owned(), defined);
        }
    }
    check_applids(table.values(), entries, ptktdata);
    let routes = table.into_values().map(|DefinedRoute { route, .. }| {
        let settings = overrides.iter().find(|settings| settings.id == *route.route.service());
        let own = settings.and_then(|settings| settings.on_failure);
        let security = settings.map(|settings| settings.security_headers).unwrap_or_default();
        let route =
            route.with_on_failure(own.unwrap_or(on_failure)).with_security_headers(security);
        match settings.and_then(|settings| settings.body_timeout) {
            Some(body_timeout) => route.with_body_timeout(body_timeout),
            None => route,
        }
    });
    routes.collect()
}

/// Makes a route for each path in `settings.applids`. The path must be below an existing route of the
/// service. The new route gets the upstream of the existing route, with the rest of the path appended.
fn override_routes<'a>(settings: &Override<'a>, services: &[Service<'a>]) -> Vec<DefinedRoute<'a>> {
    let same_service = || services.iter().filter(|service| service.id == settings.id);
    let mut routes = Vec::new();
    for (path, applid, at) in &settings.applids {
        let full = format!("/{}/{path}", settings.id);
        let parent = same_service()
            .flat_map(|service| &service.routes)
            .filter_map(|DefinedRoute { route, .. }| {
                let rest = full.strip_prefix(route.prefix())?.strip_prefix('/')?;
                let upstream = route.route.upstream()?;
                (!rest.is_empty()).then_some((upstream, rest))
            })
            // The existing route with the longest prefix has the shortest rest.
            .min_by_key(|(_, rest)| rest.len());
        let Some((upstream, rest)) = parent else {
            // In two cases, nothing is reported here, because the cause is reported elsewhere. First, the service has
            // no api-def: `check_names` reports it. Second, a route of the service was left out because of a problem,
            // which was already reported. The path may be below that route.
            if same_service().next().is_some() && same_service().all(|service| !service.broken) {
                at.error(format_args!(
                    "is not below a route of service {}; write a path that begins with one of its \
                     gatewayUrls",
                    shown_name(settings.id.as_str())
                ));
            }
            continue;
        };
        let scheme = ServiceScheme::HttpBasicPassTicket { applid: *applid };
        match ConfiguredRoute::new(settings.id.clone(), path, upstream.join(rest), scheme) {
            Ok(route) => {
                let applid_at = Some(at.clone());
                routes.push(DefinedRoute { route, at: at.clone(), applid_at });
            }
            Err(error) => at.wrong_name(path, error),
        }
    }
    routes
}

/// Reports an error for each route whose APPLID has no entry in `ptktdata`. Reports a warning for each entry in
/// `ptktdata` whose APPLID no route uses.
fn check_applids<'t, 'a: 't>(
    routes: impl Iterator<Item = &'t DefinedRoute<'a>>,
    entries: &Entries<'a>,
    ptktdata: &At<'a>,
) {
    let mut unused = entries.clone();
    for DefinedRoute { route, applid_at, .. } in routes {
        let (Some(applid), Some(at)) = (route.scheme.applid(), applid_at) else {
            continue;
        };
        unused.remove(&applid);
        if !entries.contains_key(&applid) {
            at.error(format_args!(
                "service {} needs a PassTicket key for {applid}; in {}, add this item to {}: - {{ applid: \
                 {applid}, algorithm: legacy, key: {{ file: ptktdata/{applid}.key }} }}",
                route.route.service(),
                ptktdata.file.display(),
                ptktdata.key,
            ));
        }
    }
    for (applid, at) in unused {
        at.warning(format_args!(
            "no service has APPLID {applid}; remove this entry, or set this APPLID in the definition of a service"
        ));
    }
}
