//! Reads the settings for finding services in Eureka, the registry of Zowe's API Mediation Layer (API ML):
//! `components.passticket-proxy.discovery`.
//!
//! Any program whose certificate Eureka trusts can register any service. So the settings name the hosts, the APPLIDs
//! and the schemes of the services that may receive credentials (docs/decisions.md#d35).
//!
//! An APPLID is the name of an application on z/OS.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use super::{
    api_defs::{Definition, Definitions},
    client_identity::{self, ClientIdentities, ClientIdentity, ServiceClients},
    configured_route::{ConfiguredRoute, ServiceScheme},
    defined_scheme::{SchemeName, certificate_headers},
    problem::{Problems, Report, quote, shown_name},
    reader::{At, Document, Field, Section},
    routes::DefinedRoute,
};
use tower_passticket::{
    layer::OnFailure, passticket::Applid, remote::Address, tls::Verification, token::ServiceId,
};

/// The default of `intervalSeconds`. API ML's gateway has the same interval.
const INTERVAL: u64 = 30;

/// The first segments of paths that belong to API ML and to this gateway. A service with one of these ids could receive
/// requests for the gateway itself.
const RESERVED: [&str; 6] = ["apicatalog", "application", "discovery", "eureka", "gateway", "zaas"];

/// Returns whether this id is reserved: a service that is found in Eureka cannot have it.
pub fn is_reserved(id: &ServiceId) -> bool {
    RESERVED.contains(&id.as_str())
}

/// The settings with which the gateway finds services in Eureka: `components.passticket-proxy.discovery`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiscoverySettings {
    /// The hosts of Eureka: `eureka`.
    pub eureka: Vec<Address>,
    /// The time between two fetches from Eureka: `intervalSeconds`.
    pub interval: Duration,
    /// The client certificate for Eureka: `clientCertificate`. `None` means the certificate of the gateway.
    pub client_identity: Option<ClientIdentity>,
    /// The services that may receive credentials: `services`.
    pub services: Vec<TrustedService>,
    /// The treatment of services that `services` does not name: `others`.
    pub others: OtherServices,
    /// The limits for services, instances and routes.
    pub limits: DiscoveryLimits,
}

impl DiscoverySettings {
    /// Reads the section from a YAML text alone, without the rest of a configuration. For tests.
    ///
    /// # Errors
    /// [`Problems`] contains the problems of the section.
    #[doc(hidden)]
    pub fn parse(yaml: &str) -> Result<Self, Problems> {
        let report = Report::default();
        let document = Document::parse("discovery".into(), yaml.as_bytes(), &report);
        let settings = read(document.section(&report)).map(|section| {
            let templates = section.templates();
            let templates: Vec<_> = templates.iter().map(|it| it.route().clone()).collect();
            section.settings(&templates, &[])
        });
        report.finish(settings).map(|(settings, _)| settings)
    }
}

/// The limits for the services, instances and routes that the gateway takes from a registry: `limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiscoveryLimits {
    /// The maximum number of services that `services` does not name: `otherServices`.
    pub other_services: usize,
    /// The maximum number of instances of a service: `instancesPerService`.
    pub instances: usize,
    /// The maximum number of routes of a service: `routesPerService`.
    pub routes: usize,
    /// The maximum number of routes of all services: `routes`. Routes of static definitions are not counted.
    pub all_routes: usize,
}

/// A service that may receive credentials: `services.ID`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrustedService {
    /// The id of the service.
    pub id: ServiceId,
    /// The hosts of its instances: `hosts`.
    pub hosts: Vec<HostPattern>,
    /// The ports of its instances: `ports`. If the list is empty, every port is allowed.
    pub ports: Vec<u16>,
    /// Its APPLID: `applid`.
    pub applid: Option<Applid>,
    /// Its schemes: `schemes`. For each scheme, the list has a route with the settings of the service. The paths and
    /// the addresses of these routes are placeholders.
    pub schemes: Vec<ConfiguredRoute>,
    /// The routes that have their own settings in `components.passticket-proxy.services.ID.routes`. For each scheme of
    /// the service, the list contains each of these routes once. The addresses of these routes are placeholders.
    pub routes: Vec<ConfiguredRoute>,
    /// Whether an instance may have no TLS: `plainHttp`.
    pub plain_http: bool,
}

impl TrustedService {
    /// Returns the route with the settings for this scheme and this `gatewayUrl`. `None` if the service cannot have the
    /// scheme.
    pub fn template(&self, scheme: ServiceScheme, gateway_url: &str) -> Option<&ConfiguredRoute> {
        let prefix = format!("/{}/{gateway_url}", self.id);
        let has_scheme = |route: &&ConfiguredRoute| route.scheme() == scheme;
        let mut own = self.routes.iter().filter(has_scheme);
        let own = own.find(|route| route.prefix() == prefix.trim_end_matches('/'));
        own.or_else(|| self.schemes.iter().find(has_scheme))
    }
}

/// The treatment of services that `services` does not name. They never receive credentials.
#[derive(Clone, Debug, Default)]
pub enum OtherServices {
    /// They have no routes.
    #[default]
    Ignore,
    /// They have routes without authentication, if their hosts match.
    Bypass {
        /// The hosts: `otherHosts`.
        hosts: Vec<HostPattern>,
    },
}

/// A host name, an IP address, or a pattern of the form `*.DOMAIN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(Pattern);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Name(String),
    /// The domain with the dot before it.
    Below(String),
    Address(IpAddr),
}

impl HostPattern {
    /// Returns whether the pattern covers this host. `*.DOMAIN` covers all names below the domain, but not the domain
    /// itself.
    pub fn covers(&self, host: &str) -> bool {
        match &self.0 {
            Pattern::Name(name) => host.eq_ignore_ascii_case(name),
            Pattern::Below(domain) => {
                let (host, domain) = (host.as_bytes(), domain.as_bytes());
                host.len() > domain.len()
                    && host[host.len() - domain.len()..].eq_ignore_ascii_case(domain)
                    && is_host_name(host)
            }
            Pattern::Address(address) => parse_address(host) == Some(*address),
        }
    }
}

/// Reads an IP address. An IPv6 address may be in brackets.
fn parse_address(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host).parse().ok()
}

/// Returns whether the text is a host name: letters, digits, `-` and `_` in parts between dots (RFC 1123 §2.1). No part
/// is empty.
fn is_host_name(host: &[u8]) -> bool {
    let is_part = |part: &[u8]| {
        !part.is_empty()
            && part.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    host.len() <= 253 && host.split(|b| *b == b'.').all(is_part)
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = |remedy: &str| Err(format!("{} is not a host; {remedy}", quote(text)));
        if let Some(address) = parse_address(text) {
            return Ok(Self(Pattern::Address(address)));
        }
        let (name, is_wildcard) = match text.strip_prefix("*.") {
            Some(domain) => (domain, true),
            None => (text, false),
        };
        if !is_host_name(name.as_bytes()) {
            return error("write a host name, an IP address, or *. and a domain, without a port");
        }
        if is_wildcard && !name.contains('.') {
            return error("a pattern needs a domain of at least two parts, like *.example.com");
        }
        let name = name.to_ascii_lowercase();
        Ok(Self(if is_wildcard { Pattern::Below(format!(".{name}")) } else { Pattern::Name(name) }))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Name(name) => f.write_str(name),
            Pattern::Below(domain) => write!(f, "*{domain}"),
            Pattern::Address(address) => address.fmt(f),
        }
    }
}

pub(super) struct DiscoverySection<'a> {
    eureka: Vec<Address>,
    interval: Duration,
    client_identity: Option<ClientIdentity>,
    services: Vec<Service<'a>>,
    others: OtherServices,
    limits: DiscoveryLimits,
}

struct Service<'a> {
    id: ServiceId,
    at: At<'a>,
    hosts: Vec<HostPattern>,
    ports: Vec<u16>,
    applid: Option<(Applid, At<'a>)>,
    schemes: Vec<(ServiceScheme, At<'a>)>,
    plain_http: bool,
}

/// Reads the section. Returns `None` if the section is absent or empty.
pub(super) fn read<'a>(mut section: Section<'a>) -> Option<DiscoverySection<'a>> {
    if section.fields().is_empty() {
        return None;
    }
    let hosts = section.required("eureka", "the URLs of Eureka, like https://zos1:7553/eureka/");
    let eureka: Vec<_> =
        hosts.iter().flat_map(Field::one_or_more).filter_map(|field| address(&field)).collect();
    let interval = section.optional("intervalSeconds").and_then(|field| field.number(1..=3600));
    let client_identity =
        section.optional("clientCertificate").and_then(|field| client_identity::read(&field));
    let services: Vec<_> = section
        .section("services")
        .fields()
        .iter()
        .filter_map(|(id, it)| service(id, it))
        .collect();
    let others_field = section.optional("others");
    let other_hosts_field = section.optional("otherHosts");
    let limits = limits(section.section("limits"));
    let at = section.at.clone();
    section.finish();
    let is_bypass = others_field.as_ref().and_then(|field| {
        field.read(|text| match text {
            "bypass" => Ok(true),
            "ignore" => Ok(false),
            _ => Err("is unknown; write ignore or bypass"),
        })
    });
    let other_hosts: Vec<HostPattern> = patterns(other_hosts_field.as_ref());
    let others = match (is_bypass.unwrap_or_default(), &others_field, &other_hosts_field) {
        (true, Some(field), None) => {
            field.at.error(
                "needs otherHosts, the hosts of such services, because a registration can name any host; add otherHosts: \
                 [\"*.example.com\"]",
            );
            OtherServices::Ignore
        }
        (true, ..) => OtherServices::Bypass { hosts: other_hosts },
        (false, _, Some(field)) => {
            field.at.warning(
                "has no effect without components.passticket-proxy.discovery.others: bypass; set that setting, or remove \
                 this one",
            );
            OtherServices::Ignore
        }
        (false, ..) => OtherServices::Ignore,
    };
    if services.is_empty() && matches!(others, OtherServices::Ignore) {
        at.warning(
            "names no services, so no service that is found in Eureka has routes; add services",
        );
    }
    Some(DiscoverySection {
        eureka,
        interval: Duration::from_secs(interval.unwrap_or(INTERVAL)),
        client_identity,
        services,
        others,
        limits,
    })
}

fn address(field: &Field<'_>) -> Option<Address> {
    let address: Address = field.read(Address::parse)?;
    if !address.is_protected() {
        field
            .at
            .error("is http, so a stranger could answer with instances of their own; write https");
        return None;
    }
    Some(address)
}

fn patterns(field: Option<&Field<'_>>) -> Vec<HostPattern> {
    field.iter().flat_map(|field| field.one_or_more()).filter_map(|item| item.parse()).collect()
}

fn limits(mut section: Section<'_>) -> DiscoveryLimits {
    let mut number = |name, default| {
        let number = section.optional(name).and_then(|field| field.number(1..=10_000));
        number.and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
    };
    let limits = DiscoveryLimits {
        other_services: number("otherServices", 200),
        instances: number("instancesPerService", 32),
        routes: number("routesPerService", 64),
        all_routes: number("routes", 2_000),
    };
    section.finish();
    limits
}

fn service<'a>(id: &'a str, field: &Field<'a>) -> Option<Service<'a>> {
    let mut section = field.section();
    let hosts = section.required(
        "hosts",
        "the hosts on which instances of the service may run, like [\"*.example.com\"]",
    );
    let schemes = section
        .required("schemes", "the schemes that the service may have, like [httpBasicPassTicket]");
    let applid = section.optional("applid").and_then(|field| Some((field.parse()?, field.at)));
    let headers = section.optional("headers");
    let ports = section.optional("ports");
    let plain_http = section.optional("plainHttp").is_some_and(|field| field.is_on());
    section.finish();
    let id = match ServiceId::new(id) {
        Ok(id) => id,
        Err(error) => {
            field.at.wrong_name(id, error);
            return None;
        }
    };
    if is_reserved(&id) {
        field.at.error(format_args!(
            "{} is the id of a part of API ML, which cannot be a service of this gateway; remove it",
            shown_name(id.as_str())
        ));
        return None;
    }
    let mut read: Vec<(ServiceScheme, At<'a>)> = Vec::new();
    for item in schemes.iter().flat_map(Field::one_or_more) {
        let Some(name) = item.parse::<SchemeName>() else { continue };
        let scheme = match (name, &applid) {
            (SchemeName::HttpBasicPassTicket, Some((applid, _))) => {
                ServiceScheme::HttpBasicPassTicket { applid: *applid }
            }
            (SchemeName::SafIdt, Some((applid, _))) => ServiceScheme::SafIdt { applid: *applid },
            (SchemeName::HttpBasicPassTicket | SchemeName::SafIdt, None) => {
                item.at.error("needs an APPLID; add applid to the service");
                continue;
            }
            (SchemeName::X509, _) => {
                let headers = headers.as_ref().map(certificate_headers).unwrap_or_default();
                if headers.iter().next().is_none() {
                    item.at
                        .error("needs headers; add headers: [X-Certificate-Public] to the service");
                    continue;
                }
                ServiceScheme::X509 { headers }
            }
            (SchemeName::Zosmf, _) => ServiceScheme::Zosmf,
            (SchemeName::ZoweJwt, _) => ServiceScheme::ZoweJwt,
            (SchemeName::Bypass, _) => ServiceScheme::Bypass,
        };
        if read.iter().all(|(known, _)| *known != scheme) {
            read.push((scheme, item.at));
        }
    }
    let hosts = patterns(hosts.as_ref());
    let ports = ports.iter().flat_map(Field::one_or_more);
    let ports = ports.filter_map(|item| u16::try_from(item.number(1..=65535)?).ok()).collect();
    Some(Service { id, at: field.at.clone(), hosts, ports, applid, schemes: read, plain_http })
}

impl<'a> DiscoverySection<'a> {
    pub(super) fn ids(&self) -> impl Iterator<Item = &ServiceId> {
        self.services.iter().map(|service| &service.id)
    }

    /// Returns a route for each scheme of each service. The path and the address of these routes are placeholders.
    pub(super) fn templates(&self) -> Vec<DefinedRoute<'a>> {
        self.templates_at(|_| vec![""])
    }

    /// Returns a route for each scheme of each service and each `gatewayUrl` of `gateway_urls`. The address of these
    /// routes is a placeholder.
    pub(super) fn templates_at<'u>(
        &self,
        gateway_urls: impl Fn(&ServiceId) -> Vec<&'u str>,
    ) -> Vec<DefinedRoute<'a>> {
        let mut templates = Vec::new();
        for service in &self.services {
            let gateway_urls = gateway_urls(&service.id);
            let of_scheme = |it| gateway_urls.iter().map(move |url| (it, url));
            for ((scheme, at), url) in service.schemes.iter().flat_map(of_scheme) {
                let address = match service.plain_http {
                    true => "http://discovery.invalid",
                    false => "https://discovery.invalid",
                };
                let upstream = address.parse().ok();
                let route = upstream.and_then(|upstream| {
                    ConfiguredRoute::new(service.id.clone(), url, upstream, *scheme).ok()
                });
                let applid_at = service.applid.as_ref().map(|(_, at)| at.clone());
                templates.extend(
                    route.map(|route| DefinedRoute::template(route, at.clone(), applid_at)),
                );
            }
        }
        templates
    }

    /// Reports the contradictions between the section and the definitions of services. `routes` are the routes of the
    /// definitions.
    pub(super) fn check(&self, definitions: &Definitions<'_>, routes: &[ConfiguredRoute]) {
        for service in &self.services {
            let is_defined =
                definitions.services.iter().any(|Definition { id, .. }| *id == service.id);
            if !is_defined {
                continue;
            }
            for route in routes.iter().filter(|route| *route.service() == service.id) {
                if let (Some((applid, at)), Some(defined)) =
                    (&service.applid, route.scheme().applid())
                    && *applid != defined
                {
                    at.error(format_args!(
                        "is not {defined}, the APPLID in the api-def of the service; set the same APPLID in both"
                    ));
                    break;
                }
                if service.schemes.iter().all(|(scheme, _)| *scheme != route.scheme()) {
                    service.at.error(format_args!(
                        "does not name {}, the scheme in the api-def of the service; add it to schemes",
                        route.scheme().name()
                    ));
                    break;
                }
            }
        }
    }

    /// Reports each service for which the gateway has no suitable client certificate for requests of users. If a
    /// service also has the scheme bypass, any client can send requests to it. The gateway then presents only a
    /// certificate that is configured for this service.
    pub(super) fn check_identities(&self, identities: &ClientIdentities, verify: Verification) {
        for Service { id, at, schemes, .. } in &self.services {
            let is_mixed = identities.clients_of(id) == ServiceClients::Mixed;
            if !is_mixed || identities.own_of(id).is_some() {
                continue;
            }
            let is_x509 = |(scheme, _): &_| matches!(scheme, ServiceScheme::X509 { .. });
            let is_lost = match &identities.default {
                // With `STRICT`, the service uses the common connector, which presents `default` for requests of users.
                // Otherwise, the service gets a connector of its own. Clients without authentication also use this
                // connector, so it must not present `default`.
                Some(_) => verify != Verification::Strict,
                None => schemes.iter().any(is_x509),
            };
            if is_lost {
                at.error(format_args!(
                    "has the scheme bypass and another one, so any client could use the certificate of the gateway; \
                     remove bypass from schemes, or set components.passticket-proxy.services.{id}.clientCertificate to \
                     a certificate that any client may use"
                ));
            }
        }
    }

    /// Reports each service that could receive a credential on a connection that is not verified. With
    /// `forward-unchanged`, a request without an authorized user keeps its credential. If the gateway has a client
    /// certificate, it sends such requests on separate connections. `verifyCertificates` decides how these connections
    /// are verified.
    pub(super) fn check_failures(
        &self,
        identities: &ClientIdentities,
        verify: Verification,
        routes: &[ConfiguredRoute],
    ) {
        if verify == Verification::Strict || !identities.are_present() {
            return;
        }
        for Service { id, at, .. } in &self.services {
            let is_unchanged = |route: &ConfiguredRoute| {
                route.service() == id
                    && route.on_failure() == OnFailure::ForwardUnchanged
                    && route.scheme() != ServiceScheme::Bypass
            };
            if routes.iter().any(is_unchanged) {
                at.error(format_args!(
                    "has onFailure: forward-unchanged, so an instance that was not verified could receive credentials; \
                     set components.passticket-proxy.services.{id}.onFailure to another value, or set \
                     zowe.verifyCertificates to STRICT"
                ));
            }
        }
    }

    /// Returns the settings. `templates` are the routes of [`Self::templates`], with the settings of their services.
    /// `routes` are the routes of [`Self::templates_at`], with the settings of their services and with their own
    /// settings.
    pub(super) fn settings(
        self,
        templates: &[ConfiguredRoute],
        routes: &[ConfiguredRoute],
    ) -> DiscoverySettings {
        let services = self.services.into_iter().map(|service| {
            let own = |routes: &[ConfiguredRoute]| {
                let own = routes.iter().filter(|route| *route.service() == service.id);
                own.cloned().collect::<Vec<_>>()
            };
            TrustedService {
                schemes: own(templates),
                routes: own(routes),
                id: service.id,
                hosts: service.hosts,
                ports: service.ports,
                applid: service.applid.map(|(applid, _)| applid),
                plain_http: service.plain_http,
            }
        });
        DiscoverySettings {
            eureka: self.eureka,
            interval: self.interval,
            client_identity: self.client_identity,
            services: services.collect(),
            others: self.others,
            limits: self.limits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::own_section;

    #[test]
    fn a_pattern_covers_a_name_or_all_names_below_a_domain() {
        for (pattern, host, want) in [
            ("zos1.example.com", "zos1.example.com", true),
            ("ZOS1.example.com", "zos1.EXAMPLE.com", true),
            ("zos1.example.com", "zos1.example.com.", false),
            ("zos1.example.com", "xzos1.example.com", false),
            ("localhost", "localhost", true),
            ("*.example.com", "zos1.example.com", true),
            ("*.example.com", "A.B.Example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "x..example.com", false),
            ("*.example.com", "evilexample.com", false),
            ("*.example.com", "zos1.example.com.evil.net", false),
            ("*.example.com", "evil.net/.example.com", false),
            ("*.example.com", "evil.net#.example.com", false),
            ("*.example.com", "evil.net@x.example.com", false),
            ("*.example.com", "evil.net:1.example.com", false),
            ("*.example.com", "evil.net\\.example.com", false),
            ("*.example.com", "\u{e9}.example.com", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.10", false),
            ("192.0.2.1", "0300.0.2.1", false),
            ("[2001:db8::1]", "2001:DB8:0::1", true),
            ("2001:db8::1", "[2001:db8::1]", true),
            ("2001:db8::1", "2001:db8::2", false),
        ] {
            let parsed: HostPattern = pattern.parse().unwrap();
            assert_eq!(parsed.covers(host), want, "{pattern} {host}");
        }
        for wrong in [
            "",
            "*",
            "*.",
            "*.com",
            "a.*.com",
            "*example.com",
            "a b",
            "zos1:7553",
            "a/b",
            ".a",
            "https://a",
        ] {
            assert!(wrong.parse::<HostPattern>().is_err(), "{wrong}");
        }
    }

    /// Returns the settings of the section, or its problems: errors, or warnings if there are no errors.
    fn read_text(yaml: &str) -> (Option<DiscoverySettings>, Vec<String>) {
        let report = Report::default();
        let text = format!("components: {{passticket-proxy: {{discovery: {yaml}}}}}\n");
        let document = Document::parse("z".into(), text.as_bytes(), &report);
        let mut section = own_section::find(&mut document.section(&report));
        let discovery = read(section.section("discovery"));
        let settings = discovery.map(|discovery| {
            let templates: Vec<_> =
                discovery.templates().iter().map(|it| it.route().clone()).collect();
            discovery.settings(&templates, &[])
        });
        match report.finish(Some(settings)) {
            Ok((settings, warnings)) => {
                (settings, warnings.iter().map(ToString::to_string).collect())
            }
            Err(problems) => (None, problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn the_section_names_hosts_applids_and_schemes() {
        let (settings, problems) = read_text(
            "{eureka: ['https://zos1:7553/eureka/', 'https://zos2:7553/eureka'], services: {\
             ibmzosmf: {hosts: '*.example.com', applid: izudflt, schemes: [zosmf, httpBasicPassTicket]}, \
             certs: {hosts: [zos1], schemes: x509, headers: X-Certificate-Public, plainHttp: true}}}",
        );
        assert_eq!(problems, Vec::<String>::new());
        let settings = settings.unwrap();
        assert_eq!((settings.eureka.len(), settings.interval.as_secs()), (2, 30));
        assert!(matches!(settings.others, OtherServices::Ignore));
        let [zosmf, certs] = &settings.services[..] else { panic!("{settings:?}") };
        assert_eq!(zosmf.applid.map(|it| it.to_string()).as_deref(), Some("IZUDFLT"));
        let names: Vec<_> = zosmf.schemes.iter().map(|route| route.scheme().name()).collect();
        assert_eq!((names, zosmf.plain_http), (vec!["zosmf", "httpBasicPassTicket"], false));
        assert_eq!((certs.schemes.len(), certs.plain_http), (1, true));
        assert!(read_text("{}").0.is_none());
    }

    #[test]
    fn problems_are_reported_at_their_keys() {
        let service = |text: &str| format!("{{eureka: 'https://e', services: {{svc: {text}}}}}");
        for (yaml, want) in [
            ("{services: {}}".to_owned(), "eureka: is missing"),
            ("{eureka: 'http://zos1/eureka', others: ignore}".to_owned(), "is http"),
            ("{eureka: zos1}".to_owned(), "not the address of a service"),
            ("{eureka: 'https://e'}".to_owned(), "names no services"),
            ("{eureka: 'https://e', others: bypass}".to_owned(), "needs otherHosts"),
            ("{eureka: 'https://e', others: all}".to_owned(), "write ignore or bypass"),
            ("{eureka: 'https://e', others: ignore, otherHosts: [a]}".to_owned(), "has no effect"),
            ("{eureka: 'https://e', others: bypass, otherHosts: ['*']}".to_owned(), "not a host"),
            (
                "{eureka: 'https://e', intervalSeconds: 0}".to_owned(),
                "write a number from 1 to 3600",
            ),
            (
                "{eureka: 'https://e', services: {gateway: {hosts: a, schemes: zoweJwt}}}"
                    .to_owned(),
                "part of API ML",
            ),
            (service("{schemes: zoweJwt}"), "services.svc.hosts: is missing"),
            (service("{hosts: a}"), "services.svc.schemes: is missing"),
            (service("{hosts: a, schemes: httpBasicPassTicket}"), "needs an APPLID"),
            (service("{hosts: a, schemes: x509}"), "needs headers"),
            (service("{hosts: a, schemes: basic}"), "is not a scheme"),
            (service("{hosts: '*.com', schemes: zoweJwt}"), "at least two parts"),
            (service("{hosts: a, schemes: zoweJwt, port: 1}"), "port"),
            (
                service("{hosts: a, schemes: zoweJwt, ports: [443, 0]}"),
                "write a number from 1 to 65535",
            ),
        ] {
            let (_, problems) = read_text(&yaml);
            assert!(problems.iter().any(|it| it.contains(want)), "{yaml}: {problems:?}");
        }
    }
}
