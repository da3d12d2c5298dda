//! Reads Zowe static definitions, also called api-defs: `api-defs/*.yml`
//! (docs/reference/data-plane.md#static-definitions). An example is
//! `crates/passticket-proxy/src/config/examples/api-def.yml`.
//!
//! A static definition lists services. For each service, it contains the URLs, the routes, and the scheme. The scheme
//! says which credential the service receives from the gateway. `additionalServiceMetadata` adds settings to services,
//! including services in other files.
//!
//! A PassTicket is a short-lived password of z/OS. API ML is Zowe's API Mediation Layer. z/OSMF is IBM's management
//! server on z/OS.

use std::net::IpAddr;

use super::{
    description::{self, Description},
    metadata::{APPLID, CERTIFICATE_HEADERS, Metadata, SCHEME},
    problem::{quote, suggest},
    reader::{At, Field, Section},
};
use tower_passticket::{layer::Upstream, token::ServiceId};

/// The definitions of one file, or of all files.
#[derive(Default)]
pub(super) struct Definitions<'a> {
    pub(super) services: Vec<Definition<'a>>,
    pub(super) additions: Vec<Addition<'a>>,
}

impl<'a> Definitions<'a> {
    pub(super) fn extend(&mut self, other: Self) {
        self.services.extend(other.services);
        self.additions.extend(other.additions);
    }

    /// Changes the metadata of the services as `additionalServiceMetadata` says. `is_complete` says whether the
    /// services of all files are known. If it is `true`, an entry for an unknown service causes a warning.
    pub(super) fn apply_additions(&mut self, is_complete: bool) {
        for (index, addition) in self.additions.iter().enumerate() {
            let later = &self.additions[index + 1..];
            if let Some(later) = later.iter().find(|later| later.id == addition.id) {
                addition
                    .at
                    .warning(format_args!("has no effect, because {} replaces it", later.at));
                continue;
            }
            let mut services =
                self.services.iter_mut().filter(|it| it.id == addition.id).peekable();
            if is_complete && services.peek().is_none() {
                addition.at.warning(format_args!(
                    "has no effect, because no api-def has the service {}",
                    addition.id
                ));
            }
            for service in services {
                match addition.mode {
                    Mode::Update => service.metadata.add_missing(&addition.metadata),
                    Mode::ForceUpdate => service.metadata.replace(&addition.metadata),
                }
            }
        }
    }
}

/// An entry of `services`. If several entries have the same service id, each of them describes other instances of this
/// service.
pub(super) struct Definition<'a> {
    pub(super) id: ServiceId,
    /// The URLs of the instances. The list is not empty, unless the definition is broken.
    pub(super) instances: Vec<Upstream>,
    pub(super) routes: Vec<DefinedPath<'a>>,
    pub(super) metadata: Metadata<'a>,
    /// The place of `authentication`, if the setting is present.
    pub(super) authentication: Option<At<'a>>,
    /// The texts and addresses that the list of services shows to clients.
    pub(super) description: Description,
    /// Whether a part of the definition was left out because of a problem.
    pub(super) is_broken: bool,
}

pub(super) struct DefinedPath<'a> {
    /// The `gatewayUrl`. An empty text matches all paths of the service.
    pub(super) gateway_url: &'a str,
    pub(super) at: At<'a>,
    pub(super) relative_url: Option<Field<'a>>,
}

pub(super) struct Addition<'a> {
    id: ServiceId,
    at: At<'a>,
    mode: Mode,
    metadata: Metadata<'a>,
}

#[derive(Clone, Copy)]
enum Mode {
    /// Adds only values that the service lacks.
    Update,
    /// Adds values, and replaces existing values of the service.
    ForceUpdate,
}

/// The settings that are accepted in `additionalServiceMetadata`, but have no effect in this gateway.
const FOR_OTHERS: [&str; 7] = [
    "title",
    "description",
    "catalogUiTileId",
    "homePageRelativeUrl",
    "statusPageRelativeUrl",
    "healthCheckRelativeUrl",
    "apiInfo",
];

/// The id of ZAAS. API ML's gateway sends no requests of clients to this service (`apiml.routing.ignoredServices`).
const ZAAS: &str = "zaas";

pub(super) fn read(mut root: Section<'_>) -> Definitions<'_> {
    let services = root.optional("services");
    let additions = root.optional("additionalServiceMetadata");
    if services.is_none() && additions.is_none() && !root.is_broken() {
        root.at.warning("has no services, so this file defines no route");
    }
    root.accept(&["catalogUiTiles"]);
    root.finish();
    let [services, additions] =
        [services, additions].map(|field| field.map(|field| field.items()).unwrap_or_default());
    Definitions {
        services: services.iter().filter_map(definition).collect(),
        additions: additions.iter().filter_map(addition).collect(),
    }
}

fn definition<'a>(field: &Field<'a>) -> Option<Definition<'a>> {
    let mut section = field.section();
    let id = section.required("serviceId", "the id of the service, the first segment of its paths");
    let id_at = id.as_ref().map(|field| field.at.clone());
    let id = id.and_then(|field| field.read(service_id));
    let instances = instances(&mut section);
    let metadata = metadata(&mut section);
    let entries = routes(&mut section);
    let description = description::read(&mut section);
    section.accept(&["catalogUiTileId"]);
    section.finish();
    let routes: Vec<_> = entries.iter().filter_map(path).collect();
    let is_broken = instances.is_none() || metadata.is_none() || routes.len() < entries.len();
    // If the metadata is broken, the definition gets no instances, and so no routes.
    let instances = instances.filter(|_| metadata.is_some()).unwrap_or_default();
    let (metadata, authentication) = metadata.unwrap_or_default();
    if let (Some(id), Some(at)) = (&id, id_at)
        && id.as_str() == ZAAS
    {
        // This is only a warning, because `init --zaas` writes such a definition for Zowe's discovery service.
        at.warning(
            "is ZAAS, to which neither API ML's gateway nor this gateway forwards requests, so this entry has no effect",
        );
        return None;
    }
    Some(Definition {
        id: id?,
        instances,
        routes,
        metadata,
        authentication,
        description,
        is_broken,
    })
}

fn addition<'a>(field: &Field<'a>) -> Option<Addition<'a>> {
    let mut section = field.section();
    let id = section.required("serviceId", "the id of the service");
    let id = id.and_then(|field| Some((field.read(service_id)?, field.at)));
    let mode = section.optional("mode").and_then(|field| field.read(mode));
    let metadata = metadata(&mut section);
    for name in ["instanceBaseUrls", "routes", "routedServices"] {
        if let Some(field) = section.optional(name) {
            field.at.warning("has no effect here; move it to an entry of services");
        }
    }
    section.accept(&FOR_OTHERS);
    section.finish();
    let ((id, at), (metadata, _)) = (id?, metadata?);
    Some(Addition { id, at, mode: mode.unwrap_or(Mode::Update), metadata })
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "UPDATE" => Ok(Mode::Update),
        "FORCE_UPDATE" => Ok(Mode::ForceUpdate),
        other => {
            let hint = suggest(other, ["UPDATE", "FORCE_UPDATE"]);
            Err(format!("{} is not a mode{hint}", quote(other)))
        }
    }
}

fn service_id(text: &str) -> Result<ServiceId, String> {
    let id = ServiceId::new(text).map_err(|error| error.to_string())?;
    if id.as_str() == "gateway" {
        // The paths below /gateway belong to the auth API.
        return Err("\"gateway\" is the gateway itself; write another id".to_owned());
    }
    Ok(id)
}

/// Reads the URLs of the instances. If the setting is missing or a URL is wrong, reports this and returns `None`.
fn instances(section: &mut Section<'_>) -> Option<Vec<Upstream>> {
    let urls = section.required("instanceBaseUrls", "a list with the URL of the service")?.items();
    let instances = urls.into_iter().map(|field| {
        let upstream = field.read(|text| {
            if text.contains('@') {
                // The URL may contain a password, so the error does not show it.
                return Err(
                    "contains a user name; write http:// or https://, host, port and path".into()
                );
            }
            // Zowe installs a definition of z/OSMF with a superfluous quotation mark after the URL.
            Upstream::parse(text.trim_end_matches('"')).map_err(|error| error.to_string())
        })?;
        if upstream.to_string().starts_with("http://") && !is_loopback(upstream.authority().host())
        {
            field.at.warning(
                "is plain HTTP, so PassTickets and responses cross the network in clear text; write https://, \
                 unless AT-TLS encrypts the connection",
            );
        }
        Some(upstream)
    });
    // All URLs are read, so that all problems are reported.
    let instances: Vec<_> = instances.collect();
    instances.into_iter().collect()
}

/// Returns whether a host name or address always leads to this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

/// Reads `authentication`, and then `customMetadata`. As in Zowe API ML, values of `customMetadata` replace values of
/// `authentication`. Also returns the place of `authentication`. The result is `None` if `authentication` is not a
/// mapping.
fn metadata<'a>(section: &mut Section<'a>) -> Option<(Metadata<'a>, Option<At<'a>>)> {
    let mut metadata = Metadata::default();
    let mut is_broken = false;
    let authentication = section.optional("authentication").map(|field| {
        let mut section = field.section();
        is_broken = section.is_broken();
        for (key, name) in
            [("scheme", SCHEME), ("applid", APPLID), ("headers", CERTIFICATE_HEADERS)]
        {
            if let Some(field) = section.optional(key) {
                metadata.set(name, field);
            }
        }
        // Zowe accepts `sso` and `supportsSso`, and ignores them in static definitions.
        section.accept(&["sso", "supportsSso"]);
        section.finish();
        field.at
    });
    if let Some(custom) = section.optional("customMetadata") {
        metadata.set_all(&custom);
    }
    (!is_broken).then_some((metadata, authentication))
}

/// Reads the list of routes. As in Zowe, the list may have the name `routes` or `routedServices`.
fn routes<'a>(section: &mut Section<'a>) -> Vec<Field<'a>> {
    let (routes, alias) = (section.optional("routes"), section.optional("routedServices"));
    if let (Some(_), Some(alias)) = (&routes, &alias) {
        alias.at.error("is another name of routes, and both are present; remove one of them");
    }
    routes.or(alias).map(|field| field.items()).unwrap_or_default()
}

fn path<'a>(field: &Field<'a>) -> Option<DefinedPath<'a>> {
    let mut section = field.section();
    let gateway_url = section.present("gatewayUrl");
    if gateway_url.is_none() && field.is_mapping() {
        field.at.error("has no gatewayUrl; write one like api/v1");
    }
    let relative_url = section.optional("serviceRelativeUrl");
    section.finish();
    let gateway_url = gateway_url?;
    // A blank gatewayUrl means all paths of the service.
    let path = if gateway_url.is_blank() { "" } else { gateway_url.text()? };
    Some(DefinedPath { gateway_url: without_pattern(path), at: gateway_url.at, relative_url })
}

/// Returns the prefix of a path pattern. `api/v1/**` is a pattern of the Spring framework, and means the same as the
/// prefix `api/v1`.
fn without_pattern(path: &str) -> &str {
    let path = path.trim_matches('/');
    path.strip_suffix("**").map_or(path, |prefix| match prefix.strip_suffix('/') {
        Some(prefix) => prefix,
        None if prefix.is_empty() => prefix,
        // A pattern such as `api/v1**` is no prefix of whole segments, so it stays as it is.
        None => path,
    })
}

impl DefinedPath<'_> {
    /// Returns the URL of the route at an instance. On a problem, reports it and returns `None`.
    pub(super) fn at_instance(&self, instance: &Upstream) -> Option<Upstream> {
        match &self.relative_url {
            Some(relative) => {
                relative.read(|text| join(instance, text.strip_suffix("/**").unwrap_or(text)))
            }
            None => Some(instance.clone()),
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
    use tower_passticket::layer::{CertificateHeader, EncodedPaths, OnFailure};

    use super::*;
    use crate::config::{
        ServiceScheme, problem::Report, ptktdata::Entries, reader::Document, routes,
    };

    /// Reads a service with the id `Svc` and the settings in `lines`. Returns its routes as `prefix -> upstream
    /// applid`, and the problems.
    fn read_service(lines: &str) -> (Vec<String>, Vec<String>) {
        read_text(&service(lines))
    }

    fn service(lines: &str) -> String {
        format!("services:\n  - serviceId: Svc\n    {}\n", lines.replace('\n', "\n    "))
    }

    fn read_text(yaml: &str) -> (Vec<String>, Vec<String>) {
        read_files(&[yaml], "")
    }

    /// Reads the files with the names `d`, `e` and `f`. `services` is the YAML of `components.passticket-proxy`. The
    /// routes show all instances. Problems with missing PassTicket keys are left out.
    fn read_files(files: &[&str], services: &str) -> (Vec<String>, Vec<String>) {
        let report = Report::default();
        let ours = Document::parse("z".into(), services.as_bytes(), &report);
        let mut ours = ours.section(&report);
        let ptktdata = ours.child("ptktdata");
        let overrides = routes::read_overrides(&ours.section("services"));
        let names = ["d", "e", "f"].map(std::path::PathBuf::from);
        let documents: Vec<_> = names
            .into_iter()
            .zip(files)
            .map(|(name, yaml)| Document::parse(name, yaml.as_bytes(), &report))
            .collect();
        let mut definitions = Definitions::default();
        for document in &documents {
            definitions.extend(read(document.section(&report)));
        }
        routes::check_names(&definitions, &[], &overrides);
        definitions.apply_additions(true);
        let routes = routes::assemble(
            &definitions,
            &overrides,
            OnFailure::Forward,
            &Entries::new(),
            &ptktdata,
        );
        let routes = routes.iter().map(|route| {
            let applid = route.scheme.applid().map(|applid| applid.to_string());
            let instances: Vec<_> = route.instances().map(ToString::to_string).collect();
            let (instances, applid) = (instances.join(" + "), applid.unwrap_or_default());
            let encoded = match route.encoded_paths() {
                EncodedPaths::Refuse => "not encoded",
                _ => "",
            };
            format!("{} -> {instances} {applid} {encoded}", route.prefix()).trim_end().to_owned()
        });
        let routes = routes.collect();
        let problems = match report.finish(Some(())) {
            Ok(((), warnings)) => warnings,
            Err(problems) => problems.iter().cloned().collect(),
        };
        let problems = problems.iter().map(ToString::to_string);
        (routes, problems.filter(|problem| !problem.contains("needs a PassTicket key")).collect())
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
    customMetadata: {apiml: {okToRetryOnAllOperations: true}}
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
                "/dcbypass/api -> https://zos",
                "/dcpassticket -> https://localhost:10012/discoverableclient ZOWEAPPL",
                "/dcpassticket/api/v1 -> https://localhost:10012/discoverableclient/api/v1 ZOWEAPPL",
                "/dcpassticket/ui/v1 -> https://localhost:10012/discoverableclient ZOWEAPPL",
                "/nothing/api -> https://zos",
            ]
        );
    }

    #[test]
    fn each_scheme_is_read() {
        let (public, name) = (CertificateHeader::Public, CertificateHeader::CommonName);
        let x509 = |headers: &[CertificateHeader]| ServiceScheme::X509 {
            headers: headers.iter().copied().collect(),
        };
        let applid = "A".parse().unwrap();
        for (authentication, want) in [
            (
                "{scheme: httpBasicPassTicket, applid: a}",
                ServiceScheme::HttpBasicPassTicket { applid },
            ),
            ("{scheme: safIdt, applid: A}", ServiceScheme::SafIdt { applid }),
            ("{scheme: zoweJwt}", ServiceScheme::ZoweJwt),
            ("{scheme: zosmf, sso: true}", ServiceScheme::Zosmf),
            ("{scheme: x509, headers: x-certificate-public}", x509(&[public])),
            (
                "{scheme: x509, headers: 'X-Certificate-CommonName, X-Certificate-Public'}",
                x509(&[public, name]),
            ),
            ("{scheme: x509, headers: [X-Certificate-CommonName]}", x509(&[name])),
            ("{scheme: bypass}", ServiceScheme::Bypass),
        ] {
            let report = Report::default();
            let yaml = format!(
                "services: [{{serviceId: a, instanceBaseUrls: [https://zos], routes: [{{gatewayUrl: api}}], \
                 authentication: {authentication}}}]"
            );
            let document = Document::parse("d".into(), yaml.as_bytes(), &report);
            let definitions = read(document.section(&report));
            let ptktdata = document.section(&report).child("ptktdata");
            let on_failure = OnFailure::Forward;
            let routes =
                routes::assemble(&definitions, &[], on_failure, &Entries::new(), &ptktdata);
            assert_eq!(routes[0].scheme(), want, "{authentication}");
        }
    }

    #[test]
    fn a_wrong_definition_makes_no_route() {
        let applid = "d:5: services[0].authentication.applid: ";
        let scheme = "d:5: services[0].authentication.scheme: ";
        let missing = format!(
            "{scheme}needs an APPLID, so the service has no routes; add applid, the APPLID that the service checks \
             PassTickets against, beside the scheme or to components.passticket-proxy.services.svc"
        );
        let mut cases = Vec::new();
        for (authentication, want) in [
            ("{scheme: httpBasicPassTicket}", missing.clone()),
            ("{scheme: httpBasicPassTicket, applid: ' '}", missing.clone()),
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
                    "{scheme}\"none\" is not a scheme; known here: bypass, httpBasicPassTicket, \
                     safIdt, x509, zosmf, zoweJwt"
                ),
            ),
            ("{scheme: safIdt}", missing),
            (
                "{scheme: x509}",
                format!(
                    "{scheme}needs headers; add headers: X-Certificate-Public, X-Certificate-DistinguishedName or \
                     X-Certificate-CommonName to authentication of the api-def, or to \
                     components.passticket-proxy.services.svc"
                ),
            ),
            (
                "{applid: A}",
                format!(
                    "{scheme}is missing; write httpBasicPassTicket, zoweJwt, zosmf, x509, safIdt or bypass"
                ),
            ),
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
        let yaml = format!("{URL}{ROUTE}authentication: {{scheme: bypass, applid: A}}");
        let want = "d:5: services[0].authentication.applid: has no effect with scheme bypass; remove this setting";
        let (routes, problems) = read_service(&yaml);
        assert_eq!((routes.len(), problems), (1, vec![want.to_owned()]));
        let (_, problems) = read_text("additionalServiceMetadata: [{serviceId: a}]");
        assert_eq!(
            problems,
            [
                "d:1: additionalServiceMetadata[0].serviceId: has no effect, because no api-def has the service a"
            ]
        );
        for yaml in ["", "catalogUiTiles: {static: {title: T}}"] {
            let (_, problems) = read_text(yaml);
            assert_eq!(problems, ["d:1: has no services, so this file defines no route"], "{yaml}");
        }
        let (_, problems) = read_text("- a list");
        assert_eq!(problems, ["d:1: must be a mapping; write keys with their values below it"]);
    }

    #[test]
    fn path_patterns_and_a_superfluous_quotation_mark_are_accepted() {
        for (gateway_url, want) in [
            ("api/v1/**", "/svc/api/v1 -> https://zos:1/base"),
            ("/api/v1/**", "/svc/api/v1 -> https://zos:1/base"),
            ("'**'", "/svc -> https://zos:1/base"),
            ("/**", "/svc -> https://zos:1/base"),
            ("", "/svc -> https://zos:1/base"),
            ("/api/v1/", "/svc/api/v1 -> https://zos:1/base"),
            ("api**", "/svc/api** -> https://zos:1/base"),
        ] {
            let routes = format!("{URL}routes: [{{gatewayUrl: {gateway_url}}}]\n");
            assert_eq!(read_service(&routes), (vec![want.to_owned()], Vec::new()), "{gateway_url}");
        }
        let lines = format!("instanceBaseUrls:\n  - https://zos:1/base/\"\n{ROUTE}");
        let (routes, problems) = read_service(&lines);
        assert_eq!(
            (routes, problems),
            (vec!["/svc/api/v1 -> https://zos:1/base/api".into()], vec![])
        );
    }

    #[test]
    fn encoded_paths_are_refused_if_the_metadata_of_one_instance_forbids_them() {
        let forbidden = |value: &str| {
            let custom =
                format!("customMetadata: {{apiml: {{enableUrlEncodedCharacters: {value}}}}}");
            service(&format!("{URL}{ROUTE}{custom}"))
        };
        let allowed = service(&format!("{URL}{ROUTE}"));
        for (files, is_refused) in [
            ([&forbidden("false"), ""], true),
            ([&forbidden("off"), ""], true),
            ([&forbidden("true"), ""], false),
            ([&forbidden("''"), ""], false),
            ([&forbidden("false"), &allowed], true),
            ([&allowed, &forbidden("false")], true),
            ([&allowed, &allowed], false),
        ] {
            let (routes, _) = read_files(&files, "");
            assert_eq!(routes.len(), 1);
            assert_eq!(routes[0].ends_with("not encoded"), is_refused, "{files:?}");
        }
    }

    /// Uses the setting `enableUrlEncodedCharacters` as an example of a setting that restricts a service.
    #[test]
    fn a_blank_value_neither_blocks_nor_erases_a_restriction() {
        let custom = |value: &str| {
            format!("customMetadata: {{apiml: {{enableUrlEncodedCharacters: {value}}}}}")
        };
        let own = |value: &str| service(&format!("{URL}{ROUTE}{}", custom(value)));
        let addition = |mode: &str, value: &str| {
            let custom = custom(value);
            format!("additionalServiceMetadata: [{{serviceId: svc, mode: {mode}, {custom}}}]")
        };
        for (own, addition, is_refused) in [
            (own("''"), addition("UPDATE", "false"), true),
            (own(""), addition("UPDATE", "false"), true),
            (own("false"), addition("FORCE_UPDATE", "''"), true),
            (own("false"), addition("FORCE_UPDATE", ""), true),
            (own("false"), addition("FORCE_UPDATE", "true"), false),
            (own("true"), addition("UPDATE", "false"), false),
        ] {
            for files in [[own.as_str(), &addition], [&addition, &own]] {
                let (routes, problems) = read_files(&files, "");
                assert_eq!((routes.len(), problems.len()), (1, 0), "{files:?} {problems:?}");
                assert_eq!(routes[0].ends_with("not encoded"), is_refused, "{files:?}");
            }
        }
        // A blank value of `customMetadata` does not erase `authentication`.
        let lines = format!(
            "{URL}{ROUTE}authentication: {{scheme: httpBasicPassTicket, applid: OLD}}\n\
             customMetadata: {{apiml.authentication.applid: '', apiml: {{authentication: {{scheme: }}}}}}"
        );
        let want = "/svc/api/v1 -> https://zos:1/base/api OLD".to_owned();
        assert_eq!(read_service(&lines), (vec![want], Vec::new()));
    }

    #[test]
    fn definitions_with_the_same_id_add_instances_and_routes() {
        let other = "services:
  - serviceId: svc
    instanceBaseUrls: [https://two]
    routes: [{gatewayUrl: /api/v1/, serviceRelativeUrl: /api}, {gatewayUrl: ui}]
  - serviceId: SVC
    instanceBaseUrls: [https://zos:1/base]
    routes: [{gatewayUrl: api/v1, serviceRelativeUrl: /api}]
";
        let first = service(&format!("{URL}{ROUTE}"));
        let (routes, problems) = read_files(&[&first, other], "");
        assert_eq!(
            routes,
            ["/svc/api/v1 -> https://zos:1/base/api + https://two/api", "/svc/ui -> https://two",]
        );
        assert_eq!(problems, Vec::<String>::new());
        // As in Zowe API ML, a later instance replaces an earlier one with the same host and port.
        let same =
            "instanceBaseUrls: [https://a/1, https://b/1, https://a/2]\nroutes: [{gatewayUrl: x}]";
        assert_eq!(read_service(same).0, ["/svc/x -> https://a/2 + https://b/1"]);
        // The order of the files must not decide which scheme is used.
        let schemed = service(&format!(
            "{URL}{ROUTE}authentication: {{scheme: httpBasicPassTicket, applid: A}}"
        ));
        let (_, problems) = read_files(&[&first, &schemed], "");
        let want = "e:4: services[0].routes[0].gatewayUrl: /svc/api/v1 has another scheme or APPLID in d:4; set the \
                    same ones in both api-defs, or set scheme and applid in \
                    components.passticket-proxy.services.svc";
        assert_eq!(problems, [want]);
        let (routes, problems) =
            read_files(&[&first, &schemed], "services: {svc: {scheme: bypass}}");
        assert_eq!((routes.len(), problems.len()), (1, 0), "{problems:?}");
        // The same prefix twice in one definition is a mistake.
        let twice = format!("{URL}routes: [{{gatewayUrl: a}}, {{gatewayUrl: /a/**}}]");
        let (_, problems) = read_service(&twice);
        assert_eq!(
            problems,
            [
                "d:4: services[0].routes[1].gatewayUrl: /svc/a already has a route, in d:4; remove one of them"
            ]
        );
    }

    #[test]
    fn the_shortest_response_timeout_of_the_instances_is_used_in_any_order_of_the_files() {
        let with = |timeout: Option<u32>| {
            let custom =
                timeout.map(|timeout| format!("customMetadata: {{response-timeout: {timeout}}}"));
            service(&format!("{URL}{ROUTE}{}", custom.unwrap_or_default()))
        };
        for (one, other, want) in
            [(Some(5000), Some(90_000), Some(5)), (Some(5000), None, Some(5)), (None, None, None)]
        {
            for files in [[with(one), with(other)], [with(other), with(one)]] {
                let report = Report::default();
                let documents = files
                    .each_ref()
                    .map(|yaml| Document::parse("d".into(), yaml.as_bytes(), &report));
                let mut definitions = Definitions::default();
                for document in &documents {
                    definitions.extend(read(document.section(&report)));
                }
                let ptktdata = documents[0].section(&report).child("ptktdata");
                let none = Entries::new();
                let on_failure = OnFailure::Forward;
                let routes = routes::assemble(&definitions, &[], on_failure, &none, &ptktdata);
                let seen: Vec<_> = routes.iter().map(|route| route.response_timeout()).collect();
                assert_eq!(seen, [want.map(std::time::Duration::from_secs)], "{files:?}");
            }
        }
    }

    #[test]
    fn metadata_of_any_file_completes_or_replaces_the_scheme() {
        let metadata = "additionalServiceMetadata:
  - serviceId: svc
    MODE
    authentication: {scheme: httpBasicPassTicket, applid: NEW}
    title: ignored
";
        for (own, mode, want) in [
            ("", "", "NEW"),
            ("", "mode: UPDATE", "NEW"),
            ("authentication: {scheme: httpBasicPassTicket, applid: OLD}", "mode: UPDATE", "OLD"),
            ("authentication: {scheme: httpBasicPassTicket}", "mode: UPDATE", "NEW"),
            (
                "authentication: {scheme: httpBasicPassTicket, applid: OLD}",
                "mode: FORCE_UPDATE",
                "NEW",
            ),
            // `customMetadata` replaces `authentication`.
            (
                "authentication: {scheme: zosmf}\ncustomMetadata: {apiml: {authentication: {scheme: \
                 httpBasicPassTicket, applid: OLD}}}",
                "",
                "OLD",
            ),
        ] {
            let own = service(&format!("{URL}{ROUTE}{own}"));
            let metadata = metadata.replace("MODE", mode);
            for files in [[own.as_str(), &metadata], [&metadata, &own]] {
                let (routes, problems) = read_files(&files, "");
                let want = format!("/svc/api/v1 -> https://zos:1/base/api {want}");
                assert_eq!((routes, problems), (vec![want], Vec::new()), "{files:?}");
            }
        }
        let twice =
            format!("{metadata}  - {{serviceId: svc, mode: REPLACE}}\n").replace("    MODE\n", "");
        let (_, problems) = read_files(&[&service(&format!("{URL}{ROUTE}")), &twice], "");
        assert_eq!(
            problems,
            [
                "e:5: additionalServiceMetadata[1].mode: \"REPLACE\" is not a mode; known here: FORCE_UPDATE, UPDATE"
            ]
        );
    }

    #[test]
    fn settings_of_passticket_proxy_replace_scheme_and_applid() {
        let authentication = |text: &str| service(&format!("{URL}{ROUTE}authentication: {text}"));
        let zosmf = service(&format!("{URL}{ROUTE}")).replace("Svc", "ibmzosmf");
        let ticket = authentication("{scheme: httpBasicPassTicket, applid: OLD}");
        let bypass = authentication("{scheme: bypass}");
        let no_applid = authentication("{scheme: httpBasicPassTicket}");
        let x509 = authentication("{scheme: x509, headers: X-Certificate-CommonName}");
        for (file, ours, want, problem) in [
            (
                &zosmf,
                "ibmzosmf: {scheme: httpBasicPassTicket, applid: izudflt}",
                Some("IZUDFLT"),
                None,
            ),
            (&zosmf, "", Some(""), None),
            (&ticket, "svc: {applid: NEW}", Some("NEW"), None),
            (&ticket, "svc: {scheme: bypass}", Some(""), None),
            (&no_applid, "svc: {applid: NEW}", Some("NEW"), None),
            (
                &bypass,
                "svc: {scheme: httpBasicPassTicket}",
                None,
                Some(
                    "z:1: services.svc.scheme: needs an APPLID; add applid beside it: the APPLID that the service \
                      checks PassTickets against",
                ),
            ),
            (
                &bypass,
                "svc: {applid: NEW}",
                Some(""),
                Some(
                    "z:1: services.svc.applid: has no effect with scheme bypass; remove this setting",
                ),
            ),
            (
                &bypass,
                "svc: {scheme: httpBasicPassTickets}",
                Some(""),
                Some(
                    "z:1: services.svc.scheme: \"httpBasicPassTickets\" is not a scheme; did you mean \
                      httpBasicPassTicket?",
                ),
            ),
            (
                &bypass,
                "svc: {clientBasic: forward}",
                Some(""),
                Some(
                    "z:1: services.svc.clientBasic: has no effect with scheme bypass, which forwards each header; remove \
                     this setting",
                ),
            ),
            (
                &ticket,
                "svc: {clientBasic: forward, onFailure: reject}",
                Some("OLD"),
                Some(
                    "z:1: services.svc.clientBasic: contradicts onFailure: reject, which refuses a request that has \
                      only Basic; set onFailure: forward for this service",
                ),
            ),
            (
                &ticket,
                "svc: {clientBasic: check}",
                Some("OLD"),
                Some("z:1: services.svc.clientBasic: is unknown; write strip, verify or forward"),
            ),
            (&ticket, "svc: {clientBasic: verify, responseSeconds: 5}", Some("OLD"), None),
            (&ticket, "svc: {scheme: x509, headers: X-Certificate-Public}", Some(""), None),
            (&x509, "svc: {scheme: x509}", Some(""), None),
            (
                &ticket,
                "svc: {scheme: x509}",
                None,
                Some(
                    "z:1: services.svc.scheme: needs headers; add headers: X-Certificate-Public, \
                     X-Certificate-DistinguishedName or X-Certificate-CommonName to authentication of the api-def, or to \
                     components.passticket-proxy.services.svc",
                ),
            ),
            (
                &bypass,
                "svc: {headers: X-Certificate-Public}",
                Some(""),
                Some(
                    "z:1: services.svc.headers: has no effect with scheme bypass; remove this setting",
                ),
            ),
            (
                &x509,
                "svc: {clientBasic: verify}",
                Some(""),
                Some(
                    "z:1: services.svc.clientBasic: has no effect with scheme x509, because only the client certificate \
                     counts; remove this key, or write another scheme",
                ),
            ),
            (&x509, "svc: {clientBasic: forward}", Some(""), None),
            (&x509, "svc: {refusedStatuses: none}", Some(""), None),
            (&x509, "svc: {refusedStatuses: [401, 403]}", Some(""), None),
            (
                &x509,
                "svc: {refusedStatuses: 302}",
                Some(""),
                Some(
                    "z:1: services.svc.refusedStatuses: \"302\" is not a status from 400 to 599; write none, or a list",
                ),
            ),
        ] {
            let (routes, problems) = read_files(&[file], &format!("services: {{{ours}}}"));
            let applids: Vec<_> =
                routes.iter().map(|route| route.split(' ').nth(3).unwrap_or("")).collect();
            assert_eq!(applids, Vec::from_iter(want), "{ours}");
            assert_eq!(problems, Vec::from_iter(problem), "{ours}");
        }
    }
}
