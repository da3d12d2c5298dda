//! Makes the routes from the api-defs (Zowe static definitions) and from `components.passticket-proxy.services`.
//!
//! An APPLID is the name of a z/OS application in the security product. A PassTicket is a short-lived password of z/OS
//! for one application. Each APPLID of a route needs a PassTicket key, or `source: zowe`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use http::{HeaderName, StatusCode, uri::Scheme};

use super::{
    api_defs::{Definition, Definitions},
    client_basic,
    client_identity::{self, ClientIdentity},
    configured_route::{ConfiguredRoute, ServiceScheme},
    cors::{self, ServiceCors},
    defined_scheme::{SchemeOverride, scheme_of},
    metadata::{
        CONNECT_TIMEOUT, ENCODED_CHARACTERS, HEADERS_TO_IGNORE, LOAD_BALANCING, RESPONSE_TIMEOUT,
    },
    problem::{quote, shown_name, suggest},
    ptktdata::Entries,
    rate_limits::{self, ServiceRate},
    reader::{At, Field, Section},
    route_limits::{self, ServiceLimits},
};
use tower_passticket::{
    layer::{
        Balancing, ClientBasic, EncodedPaths, Mode, OnFailure, RequestHeaderError, RequestHeaders,
        SecurityHeaders, ServiceProtocol, Upstream,
    },
    passticket::Applid,
    ticket_breaker::RefusedStatuses,
    token::ServiceId,
};

/// The settings of one service in `components.passticket-proxy.services.ID`. Some of them replace settings of an
/// api-def. The others do not exist in api-defs.
pub(super) struct Override<'a> {
    id: ServiceId,
    at: At<'a>,
    scheme: SchemeOverride<'a>,
    client_basic: Option<(ClientBasic, At<'a>)>,
    on_failure: Option<OnFailure>,
    mode: Mode,
    response_timeout: Option<Duration>,
    connect_timeout: Option<Duration>,
    request_headers: RequestHeaders,
    security_headers: SecurityHeaders,
    body_timeout: Option<Duration>,
    protocol: Option<(ServiceProtocol, At<'a>)>,
    client_identity: Option<ClientIdentity>,
    cors: Option<ServiceCors<'a>>,
    rate: Option<ServiceRate>,
    limits: ServiceLimits<'a>,
    refused: Option<RefusedStatuses>,
    /// Paths of the service that have their own APPLID. Each item contains the path, the APPLID, and the place of the
    /// setting.
    applids: Vec<(String, Applid, At<'a>)>,
}

pub(super) fn read_overrides<'a>(services: &Section<'a>) -> Vec<Override<'a>> {
    let mut overrides: Vec<Override<'a>> = Vec::new();
    for (id, field) in services.fields() {
        let mut section = field.section();
        let scheme = SchemeOverride::read(&mut section);
        let client_basic = client_basic::read(&mut section);
        let on_failure = read_on_failure(&mut section);
        let mode = read_mode(&mut section, id);
        let response_timeout =
            section.optional("responseSeconds").and_then(|field| field.number(1..=86_400));
        let connect_timeout =
            section.optional("connectSeconds").and_then(|field| field.number(1..=10));
        let request_headers = read_request_headers(section.section("requestHeaders"));
        let security_headers = match section.optional("addSecurityHeaders") {
            Some(field) if field.boolean() == Some(false) => SecurityHeaders::Unchanged,
            _ => SecurityHeaders::AddMissing,
        };
        let body_timeout =
            section.optional("serviceBodySeconds").and_then(|field| field.number(1..=86_400));
        let protocol = read_protocol(&mut section);
        let client_identity =
            section.optional("clientCertificate").and_then(|field| client_identity::read(&field));
        let cors = cors::read_service(&mut section);
        let rate = rate_limits::read_service(&mut section);
        let limits = route_limits::read_service(&mut section);
        let refused =
            section.optional("refusedStatuses").and_then(|field| read_refused_statuses(&field));
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
            scheme,
            client_basic,
            on_failure,
            mode,
            response_timeout: response_timeout.map(Duration::from_secs),
            connect_timeout: connect_timeout.map(Duration::from_secs),
            request_headers,
            security_headers,
            body_timeout: body_timeout.map(Duration::from_secs),
            protocol,
            client_identity,
            cors,
            rate,
            limits,
            refused,
            applids,
        });
    }
    overrides
}

/// Warns about services with `clientBasic: verify`. Call this only if no user has a password.
pub(super) fn warn_without_logins(overrides: &[Override<'_>]) {
    for (client_basic, at) in overrides.iter().filter_map(|it| it.client_basic.as_ref()) {
        client_basic::warn_without_logins(*client_basic, at);
    }
}

pub(super) fn read_on_failure(section: &mut Section<'_>) -> Option<OnFailure> {
    section.optional("onFailure")?.read(|text| match text {
        "forward" => Ok(OnFailure::Forward),
        "forward-unchanged" => Ok(OnFailure::ForwardUnchanged),
        "reject" => Ok(OnFailure::Reject),
        _ => Err("is unknown; write forward, forward-unchanged or reject"),
    })
}

/// Reads the setting `mode` of a service. Warns about the mode `observe`, because the service then gets the credentials
/// of clients.
fn read_mode(section: &mut Section<'_>, id: &str) -> Mode {
    let Some(field) = section.optional("mode") else { return Mode::default() };
    let mode = field.read(|text| match text {
        "enforce" => Ok(Mode::Enforce),
        "observe" => Ok(Mode::Observe),
        _ => Err("is unknown; write enforce or observe"),
    });
    if mode == Some(Mode::Observe) {
        field.at.warning(format_args!(
            "is observe: the gateway refuses no request to {} and adds no PassTicket, and the service gets the \
             credentials of the clients; set enforce when the decisions in the audit log are as expected",
            shown_name(id)
        ));
    }
    mode.unwrap_or_default()
}

/// Reads the setting `refusedStatuses` of a service. Its value is `none`, or a list of the statuses by which the
/// service refuses a PassTicket. An empty list counts as absent, like each blank value.
fn read_refused_statuses(field: &Field<'_>) -> Option<RefusedStatuses> {
    let statuses = field.one_or_more();
    if let [only] = &statuses[..]
        && only.text()? == "none"
    {
        return Some(RefusedStatuses::NONE);
    }
    let status = |field: &Field<'_>| {
        field.read(|text| {
            let status = text.parse().ok().filter(|status| (400..=599).contains(status));
            status.and_then(|status: u16| StatusCode::from_u16(status).ok()).ok_or_else(|| {
                format!("{} is not a status from 400 to 599; write none, or a list", quote(text))
            })
        })
    };
    let statuses = statuses.iter().map(status).collect::<Option<Vec<_>>>()?;
    Some(statuses.into_iter().fold(RefusedStatuses::NONE, RefusedStatuses::with))
}

fn read_protocol<'a>(section: &mut Section<'a>) -> Option<(ServiceProtocol, At<'a>)> {
    let field = section.optional("http")?;
    let protocol = field.read(|text| match text {
        "auto" => Ok(ServiceProtocol::Auto),
        "http1" => Ok(ServiceProtocol::Http1),
        "h2c" => Ok(ServiceProtocol::H2c),
        _ => Err(format!("{} is unknown; write auto, http1 or h2c", quote(text))),
    });
    Some((protocol?, field.at))
}

/// Reports an error if a service has `http: h2c` and an instance with TLS. `h2c` is HTTP/2 without TLS.
fn check_protocol<'r>(
    protocol: ServiceProtocol,
    at: &At<'_>,
    mut instances: impl Iterator<Item = &'r Upstream>,
) {
    if protocol == ServiceProtocol::H2c
        && let Some(instance) = instances.find(|instance| instance.scheme() != &Scheme::HTTP)
    {
        at.error(format_args!(
            "is only for services without TLS, but the service has the instance {instance}; write auto, which uses HTTP/2 if the service offers it"
        ));
    }
}

/// Does the same as [`check_protocol`] for a service that is found in a registry. Reports `http: h2c` if the instances
/// of the service must have TLS.
fn check_found_protocol<'r>(
    protocol: ServiceProtocol,
    at: &At<'_>,
    mut templates: impl Iterator<Item = &'r ConfiguredRoute>,
) {
    let has_tls =
        |route: &&ConfiguredRoute| route.instances().any(|it| it.scheme() == &Scheme::HTTPS);
    if protocol == ServiceProtocol::H2c
        && let Some(template) = templates.find(has_tls)
    {
        at.error(format_args!(
            "is only for services without TLS; set plainHttp to true in \
             components.passticket-proxy.discovery.services.{}, or write auto, which uses HTTP/2 if the service offers it",
            template.service()
        ));
    }
}

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

/// Returns the services whose settings change the list of request headers that the gateway removes. These settings are
/// `requestHeaders` in `components.passticket-proxy`, and `apiml.headersToIgnore` in an api-def.
pub(super) fn request_headers(
    overrides: &[Override<'_>],
    definitions: &Definitions<'_>,
) -> Vec<(ServiceId, RequestHeaders)> {
    let mut services: BTreeMap<ServiceId, RequestHeaders> = BTreeMap::new();
    for Override { id, request_headers, .. } in overrides {
        services.insert(id.clone(), request_headers.clone());
    }
    for Definition { id, metadata, .. } in &definitions.services {
        let Some(field) = metadata.get(HEADERS_TO_IGNORE) else { continue };
        let headers = services.entry(id.clone()).or_default();
        for name in field.text().unwrap_or_default().split(',').map(str::trim) {
            match name.parse().map(|name| headers.clone().with_removed(name)) {
                Ok(Ok(changed)) => *headers = changed,
                // `requestHeaders.keep` of the service names this header, and has precedence over the api-def.
                Ok(Err(RequestHeaderError::Contradictory(_))) => {}
                Ok(Err(error)) => field.at.warning(error),
                Err(_) => field.at.warning(format_args!(
                    "{} is not the name of a header; write one like X-Name",
                    quote(name)
                )),
            }
        }
    }
    services.into_iter().filter(|(_, headers)| *headers != RequestHeaders::default()).collect()
}

/// Returns the connect timeouts of the services that have one. A timeout in `components.passticket-proxy.services` has
/// precedence over the timeouts in the metadata. If several definitions of a service contain a timeout in their
/// metadata, the shortest one applies.
pub(super) fn connect_timeouts(
    overrides: &[Override<'_>],
    definitions: &Definitions<'_>,
) -> BTreeMap<ServiceId, Duration> {
    let mut timeouts = BTreeMap::new();
    for Definition { id, metadata, .. } in &definitions.services {
        let field = metadata.get(CONNECT_TIMEOUT);
        let Some(millis) = field.and_then(|field| field.number(1..=86_400_000)) else { continue };
        let timeout = Duration::from_millis(millis);
        let shortest = timeouts.entry(id.clone()).or_insert(timeout);
        *shortest = timeout.min(*shortest);
    }
    for Override { id, connect_timeout, .. } in overrides {
        if let Some(timeout) = connect_timeout {
            timeouts.insert(id.clone(), *timeout);
        }
    }
    timeouts
}

pub(super) fn client_identities(overrides: &[Override<'_>]) -> Vec<(ServiceId, ClientIdentity)> {
    let own = overrides
        .iter()
        .filter_map(|settings| Some((settings.id.clone(), settings.client_identity.clone()?)));
    own.collect()
}

/// Returns the services that have CORS settings in `components.passticket-proxy.services`, each with these settings.
pub(super) fn cors<'a>(
    overrides: &'a [Override<'a>],
) -> impl Iterator<Item = (&'a ServiceId, &'a ServiceCors<'a>)> {
    overrides.iter().filter_map(|settings| Some((&settings.id, settings.cors.as_ref()?)))
}

pub(super) fn rates<'a>(
    overrides: &'a [Override<'_>],
) -> impl Iterator<Item = (&'a ServiceId, ServiceRate)> {
    overrides.iter().filter_map(|settings| Some((&settings.id, settings.rate?)))
}

pub(super) fn limits<'a>(
    overrides: &'a [Override<'a>],
) -> impl Iterator<Item = (&'a ServiceId, &'a ServiceLimits<'a>)> {
    overrides.iter().map(|settings| (&settings.id, &settings.limits))
}

/// Reports each service in `components.passticket-proxy.services` that is neither in an api-def nor in `found`. `found`
/// are the services that are found in Eureka. Also reports settings that have no effect on a found service.
pub(super) fn check_names(
    definitions: &Definitions<'_>,
    found: &[&ServiceId],
    overrides: &[Override<'_>],
) {
    let services = &definitions.services;
    for Override { id, at, scheme, applids, .. } in overrides {
        let is_defined = services.iter().any(|service| service.id == *id);
        if !is_defined && found.contains(&id) {
            let places = scheme.places().chain(applids.iter().map(|(.., at)| at));
            for at in places {
                at.error(format_args!(
                    "has no effect on a service that is found in Eureka; set schemes, applid and headers in \
                     components.passticket-proxy.discovery.services.{id}"
                ));
            }
        } else if !is_defined {
            let names = services.iter().map(|service| service.id.as_str());
            let found = found.iter().map(|id| id.as_str());
            let hint = suggest(id.as_str(), names.chain(found));
            let id = shown_name(id.as_str());
            at.error(format_args!("service {id} has no api-def{hint}"));
        }
    }
}

pub(super) struct DefinedRoute<'a> {
    route: ConfiguredRoute,
    /// The place of the `gatewayUrl`, or of the setting in `components.passticket-proxy.services` that makes the route.
    at: At<'a>,
    /// The place of the APPLID, if the route has one.
    applid_at: Option<At<'a>>,
    /// The number of the definition that the route comes from. `None` if the route comes from
    /// `components.passticket-proxy`.
    definition: Option<usize>,
}

impl<'a> DefinedRoute<'a> {
    /// Returns a route of a service that is found in a registry. `at` is the place of the scheme in the configuration.
    pub(super) fn template(route: ConfiguredRoute, at: At<'a>, applid_at: Option<At<'a>>) -> Self {
        Self { route, at, applid_at, definition: None }
    }

    pub(super) fn route(&self) -> &ConfiguredRoute {
        &self.route
    }
}

/// The routes of the definitions, and the routes of `applids` in `components.passticket-proxy.services`.
#[derive(Default)]
struct Table<'a> {
    routes: BTreeMap<String, DefinedRoute<'a>>,
    /// The services of which a route was left out because of a problem.
    broken: Vec<ServiceId>,
}

pub(super) struct Assembled {
    /// The routes of the definitions and of `applids`, sorted by prefix.
    pub(super) routes: Vec<ConfiguredRoute>,
    /// The routes of services that are found in a registry, with the settings of their services.
    pub(super) templates: Vec<ConfiguredRoute>,
}

/// Makes all routes, and reports their problems. `templates` are the routes of services that are found in a registry.
pub(super) fn assemble_all<'a>(
    definitions: &Definitions<'a>,
    overrides: &[Override<'a>],
    on_failure: OnFailure,
    entries: &Entries<'a>,
    ptktdata: &At<'a>,
    templates: Vec<DefinedRoute<'a>>,
) -> Assembled {
    let mut table = Table::default();
    for (number, definition) in definitions.services.iter().enumerate() {
        let ours = overrides.iter().find(|settings| settings.id == definition.id);
        table.add(number, definition, ours);
    }
    let extra =
        overrides.iter().flat_map(|settings| override_routes(settings, definitions, &table));
    for defined in extra.collect::<Vec<_>>() {
        table.insert(defined);
    }
    check_applids(table.routes.values().chain(&templates), entries, ptktdata);
    for settings in overrides {
        let is_of_service = |it: &&DefinedRoute<'_>| *it.route.route.service() == settings.id;
        let routes = table.routes.values().filter(is_of_service);
        let of_service = templates.iter().filter(is_of_service);
        if let Some((protocol, at)) = &settings.protocol {
            check_protocol(*protocol, at, routes.clone().flat_map(|it| it.route.instances()));
            check_found_protocol(*protocol, at, of_service.clone().map(|it| &it.route));
        }
        let schemes: Vec<_> = routes.chain(of_service).map(|it| it.route.scheme).collect();
        if let Some((client_basic, at)) = &settings.client_basic
            && !schemes.is_empty()
        {
            let on_failure = settings.on_failure.unwrap_or(on_failure);
            client_basic::check(*client_basic, at, on_failure, &schemes);
        }
    }
    let with_settings = |DefinedRoute { route, .. }: DefinedRoute<'_>| {
        let settings = overrides.iter().find(|settings| settings.id == *route.route.service());
        let own = settings.and_then(|settings| settings.on_failure);
        let security = settings.map(|settings| settings.security_headers).unwrap_or_default();
        let basic = settings.and_then(|settings| settings.client_basic.as_ref());
        let mut route = route
            .with_on_failure(own.unwrap_or(on_failure))
            .with_security_headers(security)
            .with_client_basic(basic.map(|(basic, _)| *basic).unwrap_or_default());
        let mode = settings.map(|settings| settings.mode).unwrap_or_default();
        route = route.with_mode(mode);
        if let Some(body_timeout) = settings.and_then(|settings| settings.body_timeout) {
            route = route.with_body_timeout(body_timeout);
        }
        if let Some(refused) = settings.and_then(|settings| settings.refused) {
            route = route.with_refused_statuses(refused);
        }
        if let Some((protocol, _)) = settings.and_then(|settings| settings.protocol.as_ref()) {
            route = route.with_protocol(*protocol);
        }
        match settings.and_then(|settings| settings.response_timeout) {
            Some(response_timeout) => route.with_response_timeout(response_timeout),
            None => route,
        }
    };
    Assembled {
        routes: table.routes.into_values().map(with_settings).collect(),
        templates: templates.into_iter().map(with_settings).collect(),
    }
}

/// Does the same as [`assemble_all`], without services that are found in a registry.
#[cfg(test)]
pub(super) fn assemble<'a>(
    definitions: &Definitions<'a>,
    overrides: &[Override<'a>],
    on_failure: OnFailure,
    entries: &Entries<'a>,
    ptktdata: &At<'a>,
) -> Vec<ConfiguredRoute> {
    let none = Vec::new();
    assemble_all(definitions, overrides, on_failure, entries, ptktdata, none).routes
}

impl<'a> Table<'a> {
    fn add(&mut self, number: usize, definition: &Definition<'a>, ours: Option<&Override<'a>>) {
        let Definition { id, instances, routes, metadata, authentication, is_broken, .. } =
            definition;
        metadata.check();
        let none = SchemeOverride::default();
        let scheme = ours.map_or(&none, |ours| &ours.scheme);
        let placed = scheme_of(id.as_str(), metadata, scheme, authentication.as_ref());
        let (Some(placed), Some((first, others))) = (placed, instances.split_first()) else {
            self.broken.push(id.clone());
            return;
        };
        if *is_broken {
            self.broken.push(id.clone());
        }
        let timeout = metadata.get(RESPONSE_TIMEOUT).and_then(|field| field.number(1..=86_400_000));
        let encoded_paths = match metadata.get(ENCODED_CHARACTERS) {
            Some(field) if !field.is_word("true") => EncodedPaths::Refuse,
            _ => EncodedPaths::Forward,
        };
        let balancing = match metadata.get(LOAD_BALANCING) {
            Some(field) if field.is_word("authentication") => Balancing::StickyUser,
            _ => Balancing::LeastInFlight,
        };
        for path in routes {
            let Some(upstream) = path.at_instance(first) else {
                self.broken.push(id.clone());
                continue;
            };
            let others = others.iter().filter_map(|other| path.at_instance(other));
            match ConfiguredRoute::new(id.clone(), path.gateway_url, upstream, placed.scheme) {
                Ok(mut route) => {
                    route.add_instances(others);
                    route.set_balancing(balancing);
                    route = route.with_encoded_paths(encoded_paths);
                    if let Some(timeout) = timeout {
                        route = route.with_response_timeout(Duration::from_millis(timeout));
                    }
                    self.insert(DefinedRoute {
                        route,
                        at: path.at.clone(),
                        applid_at: placed.applid_at.clone(),
                        definition: Some(number),
                    });
                }
                Err(error) => {
                    path.at.error(error);
                    self.broken.push(id.clone());
                }
            }
        }
    }

    /// Adds a route. If another definition of the same service already has a route with this prefix and scheme, the
    /// instances are added to that route. Any other second route with this prefix is an error.
    fn insert(&mut self, defined: DefinedRoute<'a>) {
        let prefix = defined.route.prefix().to_owned();
        let Some(first) = self.routes.get_mut(&prefix) else {
            self.routes.insert(prefix, defined);
            return;
        };
        let of_two_definitions = match (first.definition, defined.definition) {
            (Some(first), Some(second)) => first != second,
            _ => false,
        };
        let is_instance =
            of_two_definitions && first.route.route.service() == defined.route.route.service();
        let prefix = shown_name(&prefix);
        if !is_instance {
            let first = &first.at;
            defined.at.error(format_args!(
                "{prefix} already has a route, in {first}; remove one of them"
            ));
        } else if first.route.scheme != defined.route.scheme {
            defined.at.error(format_args!(
                "{prefix} has another scheme or APPLID in {}; set the same ones in both api-defs, or set scheme \
                 and applid in components.passticket-proxy.services.{}",
                first.at,
                defined.route.route.service(),
            ));
        } else {
            first.route.add_instances(defined.route.instances().cloned());
            // The restrictions of all definitions apply, so that the order of the files does not matter.
            first.route = first.route.clone().with_restrictions_of(&defined.route);
            let timeouts = [first.route.response_timeout(), defined.route.response_timeout()];
            if let Some(shortest) = timeouts.into_iter().flatten().min() {
                first.route = first.route.clone().with_response_timeout(shortest);
            }
        }
    }
}

/// Makes a route for each path in `settings.applids`. The path must be below an existing route of the
/// service. The new route gets the upstream of the existing route, with the rest of the path appended.
fn override_routes<'a>(
    settings: &Override<'a>,
    definitions: &Definitions<'a>,
    table: &Table<'a>,
) -> Vec<DefinedRoute<'a>> {
    let mut routes = Vec::new();
    for (path, applid, at) in &settings.applids {
        let full = format!("/{}/{path}", settings.id);
        let parent = table
            .routes
            .values()
            .filter(|DefinedRoute { route, .. }| *route.route.service() == settings.id)
            .filter_map(|DefinedRoute { route, .. }| {
                let rest = full.strip_prefix(route.prefix())?.strip_prefix('/')?;
                (!rest.is_empty()).then_some((route, rest))
            })
            // The existing route with the longest prefix has the shortest rest.
            .min_by_key(|(_, rest)| rest.len());
        let Some((parent, rest)) = parent else {
            // Nothing is reported here in two cases. If the service has no api-def, `check_names` reports this. If a
            // route of the service was left out because of a problem, the path may be below that route, and the problem
            // was already reported.
            if definitions.services.iter().any(|service| service.id == settings.id)
                && !table.broken.contains(&settings.id)
            {
                at.error(format_args!(
                    "is not below a route of service {}; write a path that begins with one of its \
                     gatewayUrls",
                    shown_name(settings.id.as_str())
                ));
            }
            continue;
        };
        let mut instances = parent.instances().map(|instance| instance.join(rest));
        let Some(upstream): Option<Upstream> = instances.next() else { continue };
        match parent.moved(path, upstream) {
            Ok(mut route) => {
                route.scheme = ServiceScheme::HttpBasicPassTicket { applid: *applid };
                route.add_instances(instances);
                routes.push(DefinedRoute {
                    route,
                    at: at.clone(),
                    applid_at: Some(at.clone()),
                    definition: None,
                });
            }
            Err(error) => at.wrong_name(path, error),
        }
    }
    routes
}

/// Reports an error for each route whose APPLID has no entry in `ptktdata`.
fn check_applids<'t, 'a: 't>(
    routes: impl Iterator<Item = &'t DefinedRoute<'a>>,
    entries: &Entries<'a>,
    ptktdata: &At<'a>,
) {
    for DefinedRoute { route, applid_at, .. } in routes {
        let (Some(applid), Some(at)) = (route.scheme.applid(), applid_at) else {
            continue;
        };
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
}

/// For each APPLID, the services that use it.
pub(super) type ServicesByApplid = BTreeMap<Applid, BTreeSet<ServiceId>>;

/// Returns for each APPLID the services of `routes` that use it. `zosmf` is the APPLID of services with the scheme
/// `zosmf`.
pub(super) fn services_by_applid(
    routes: &[ConfiguredRoute],
    zosmf: Option<Applid>,
) -> ServicesByApplid {
    let mut services = ServicesByApplid::new();
    for route in routes {
        let applid = match route.scheme() {
            ServiceScheme::Zosmf => zosmf,
            scheme => scheme.applid(),
        };
        if let Some(applid) = applid {
            services.entry(applid).or_default().insert(route.service().clone());
        }
    }
    services
}

/// Warns about each entry in `ptktdata` whose APPLID nothing uses: no service, no token exchange, and no gateway of API
/// ML. `is_exchanged` returns whether the token exchange or a gateway of API ML can use an APPLID.
pub(super) fn warn_unused_keys(
    entries: &Entries<'_>,
    services: &ServicesByApplid,
    is_exchanged: impl Fn(&Applid) -> bool,
) {
    for (applid, at) in entries {
        if !services.contains_key(applid) && !is_exchanged(applid) {
            at.warning(format_args!(
                "no service has APPLID {applid}; remove this entry, or set this APPLID in the definition of a service"
            ));
        }
    }
}
