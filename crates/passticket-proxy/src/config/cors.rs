//! Reads the settings for CORS. These settings say from which origins web pages may use the auth API and the
//! services. The settings are `apiml.service.corsEnabled` and `corsAllowedMethods` of Zowe,
//! `components.passticket-proxy.cors`, `components.passticket-proxy.services.ID.cors`, and the metadata of the
//! services.

use std::time::Duration;

use http::Method;

use super::{
    api_defs::Definitions,
    metadata::{CORS_ENABLED, CORS_METHODS, CORS_ORIGINS},
    methods,
    reader::{At, Field, Section},
};
use tower_passticket::{
    layer::{CorsRules, Origin, OriginPolicy},
    token::ServiceId,
};

/// `cors.allowedOrigins` applies to the gateway's own paths that begin with one of these segments.
const OF_GATEWAY: [&str; 2] = ["gateway", "application"];

/// The CORS settings of Zowe: `components.gateway.apiml.service`.
pub(super) struct ZoweCors {
    /// `corsEnabled`. The zowe.yaml that Zowe ships turns CORS off.
    pub(super) is_enabled: bool,
    /// `corsAllowedMethods`, or its default.
    methods: Vec<Method>,
}

pub(super) fn read_zowe(mut section: Section<'_>) -> ZoweCors {
    let is_enabled = section.optional("corsEnabled").is_some_and(|field| field.is_on());
    let methods = section.optional("corsAllowedMethods").map(|field| methods::read(&field));
    // If Zowe's setting is absent, the methods are the default of the CORS layer.
    let methods = methods.unwrap_or_else(|| CorsRules::for_any_origin().methods().to_vec());
    ZoweCors { is_enabled, methods }
}

/// The CORS settings of the site: `components.passticket-proxy.cors`.
pub(super) struct SiteCors<'a> {
    at: Option<At<'a>>,
    /// The origins of the pages that may use the auth API. If the metadata of a service turns CORS on, but neither the
    /// metadata nor `services.ID.cors` has a list of origins, these pages may also use this service.
    origins: Vec<Origin>,
    max_age: Option<Duration>,
}

pub(super) fn read_site<'a>(mut section: Section<'a>) -> SiteCors<'a> {
    let field = section.optional("allowedOrigins");
    let origins = field.iter().flat_map(Field::one_or_more).filter_map(|item| {
        if item.is_text("*") {
            item.at.error(
                "must not contain \"*\", because any page in the world could then act for the user; list the \
                 origins, such as https://app.example.com",
            );
            return None;
        }
        item.parse()
    });
    let origins = origins.collect();
    let max_age = section.optional("maxAgeSeconds").and_then(|field| field.number(0..=86_400));
    section.finish();
    SiteCors { at: field.map(|field| field.at), origins, max_age: max_age.map(Duration::from_secs) }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Origins {
    Any,
    Listed(Vec<Origin>),
}

impl Origins {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Any, other) | (other, Self::Any) => other,
            (Self::Listed(first), Self::Listed(second)) => {
                Self::Listed(first.into_iter().filter(|origin| second.contains(origin)).collect())
            }
        }
    }
}

/// The CORS settings of a service: `components.passticket-proxy.services.ID.cors`.
pub(super) struct ServiceCors<'a> {
    at: At<'a>,
    origins: Option<Origins>,
    methods: Option<Vec<Method>>,
}

/// Reads the setting `cors` of a service. Returns `None` if it is absent or blank.
pub(super) fn read_service<'a>(service: &mut Section<'a>) -> Option<ServiceCors<'a>> {
    let field = service.optional("cors")?;
    let mut section = field.section();
    // An empty list allows no page, whatever the metadata says.
    let origins = section.present("allowedOrigins").filter(|it| it.is_list() || !it.is_blank());
    let origins = origins.map(|field| {
        let items = field.one_or_more();
        match &items[..] {
            [only] if only.is_text("*") => Origins::Any,
            items => Origins::Listed(items.iter().filter_map(Field::parse).collect()),
        }
    });
    let methods = section.optional("allowedMethods").map(|field| methods::read(&field));
    section.finish();
    Some(ServiceCors { at: field.at, origins, methods })
}

/// Adds the rules of all services and of the auth API to `policy`. `services` are the settings in
/// `components.passticket-proxy`, and `found` are the services that are found in a registry. If Zowe's `corsEnabled` is
/// not `true`, adds no rules, and warns about the settings that have no effect.
pub(super) fn add_rules<'a>(
    policy: OriginPolicy,
    zowe: &ZoweCors,
    site: &SiteCors<'_>,
    services: impl Iterator<Item = (&'a ServiceId, &'a ServiceCors<'a>)>,
    definitions: &Definitions<'_>,
    found: &[&ServiceId],
) -> OriginPolicy {
    const OFF: &str =
        "has no effect, because components.gateway.apiml.service.corsEnabled is not true";
    let services: Vec<_> = services.collect();
    if !zowe.is_enabled {
        let ours = services.iter().map(|(_, cors)| &cors.at).chain(&site.at);
        ours.for_each(|at| at.warning(OFF));
        let metadata = definitions.services.iter().filter_map(|it| it.metadata.get(CORS_ENABLED));
        metadata.filter(|field| field.is_word("true")).for_each(|field| field.at.warning(OFF));
        return policy;
    }
    let rules = |origins: Origins, methods: Vec<Method>| {
        let rules = match origins {
            Origins::Any => CorsRules::for_any_origin(),
            Origins::Listed(origins) => CorsRules::for_origins(origins),
        };
        let mut rules = rules.with_methods(methods);
        if let Some(max_age) = site.max_age {
            rules = rules.with_max_age(max_age);
        }
        rules
    };
    let mut policy = policy;
    for id in OF_GATEWAY.iter().filter(|_| !site.origins.is_empty()) {
        let id = ServiceId::new(id).expect("these are valid ids of services");
        policy = policy
            .with_cors(id, rules(Origins::Listed(site.origins.clone()), zowe.methods.clone()));
    }
    let mut ids: Vec<_> = definitions.services.iter().map(|definition| &definition.id).collect();
    ids.extend(found);
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let ours = services.iter().find(|(other, _)| *other == id).map(|(_, cors)| cors);
        let has_list = ours.is_some_and(|ours| ours.origins.is_some());
        let defined = of_metadata(id, definitions, zowe, site, has_list);
        let (origins, methods) = match (ours, defined) {
            (Some(ours), defined) => {
                let (defined, defined_methods) = defined.unzip();
                let Some(origins) = ours.origins.clone().or(defined) else {
                    ours.at.missing("allowedOrigins", "the origins of the pages, or \"*\"");
                    continue;
                };
                let methods = ours.methods.clone().or(defined_methods);
                (origins, methods.unwrap_or_else(|| zowe.methods.clone()))
            }
            (None, Some(defined)) => defined,
            (None, None) => continue,
        };
        policy = policy.with_cors(id.clone(), rules(origins, methods));
    }
    policy
}

/// Returns the origins and methods that all definitions of a service allow. `None` if there is no definition, or if one
/// does not turn CORS on. A definition without a list of origins has the origins of `site`. A definition without a list
/// of methods has the methods of `zowe`. If `has_list` is true, `components.passticket-proxy` has a list of origins for
/// the service, so a definition without a list of origins causes no warning.
fn of_metadata(
    id: &ServiceId,
    definitions: &Definitions<'_>,
    zowe: &ZoweCors,
    site: &SiteCors<'_>,
    has_list: bool,
) -> Option<(Origins, Vec<Method>)> {
    let mut combined: Option<(Origins, Vec<Method>)> = None;
    for definition in definitions.services.iter().filter(|definition| definition.id == *id) {
        let metadata = &definition.metadata;
        let enabled = metadata.get(CORS_ENABLED).filter(|field| field.is_word("true"))?;
        let origins = match metadata.get(CORS_ORIGINS) {
            Some(field) => origins_of(field),
            None => {
                if site.origins.is_empty() && !has_list {
                    enabled.at.warning(format_args!(
                        "allows no page, because there is no list of origins; set {CORS_ORIGINS} or \
                         components.passticket-proxy.services.{id}.cors.allowedOrigins; \
                         components.passticket-proxy.cors.allowedOrigins also works, but applies to all such services \
                         and to the auth API"
                    ));
                }
                Origins::Listed(site.origins.clone())
            }
        };
        let own = metadata.get(CORS_METHODS).map(methods::read);
        let own = own.unwrap_or_else(|| zowe.methods.clone());
        combined = Some(match combined {
            None => (origins, own),
            Some((first, mut methods)) => {
                methods.retain(|method| own.contains(method));
                (first.and(origins), methods)
            }
        });
    }
    combined
}

/// Reads `apiml.corsAllowedOrigins`: origins with commas between them, or `*`.
fn origins_of(field: &Field<'_>) -> Origins {
    let text = field.text().unwrap_or_default();
    if text == "*" {
        return Origins::Any;
    }
    let origins = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    let origin = |text: &str| match text.parse::<Origin>() {
        Ok(origin) => Some(origin),
        Err(error) => {
            field.at.warning(format_args!("{error}; the gateway ignores this origin"));
            None
        }
    };
    Origins::Listed(origins.filter_map(origin).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{api_defs, problem::Report, reader::Document};

    /// Returns the policy of a configuration and its warnings, or its errors. `zowe` is `apiml.service`, `ours` is
    /// `components.passticket-proxy`, and `metadata` has the `customMetadata` of the definitions of the service `svc`.
    fn policy(
        zowe: &str,
        ours: &str,
        metadata: &[&str],
    ) -> Result<(OriginPolicy, Vec<String>), Vec<String>> {
        let report = Report::default();
        let document =
            |name: &str, text: &str| Document::parse(name.into(), text.as_bytes(), &report);
        let zowe = document("z", zowe);
        let ours = document("o", ours);
        let defs: Vec<_> = metadata
            .iter()
            .map(|metadata| {
                let text = format!(
                    "services: [{{serviceId: svc, instanceBaseUrls: [https://a], routes: [{{gatewayUrl: api, \
                     serviceRelativeUrl: /}}], customMetadata: {{{metadata}}}}}]"
                );
                document("d", &text)
            })
            .collect();
        let mut definitions = Definitions::default();
        for def in &defs {
            definitions.extend(api_defs::read(def.section(&report)));
        }
        let zowe = read_zowe(zowe.section(&report));
        let mut ours = ours.section(&report);
        let site = read_site(ours.section("cors"));
        let service = read_service(&mut ours.section("svc"));
        let id = ServiceId::new("svc").unwrap();
        let services = service.iter().map(|cors| (&id, cors));
        let policy = add_rules(OriginPolicy::default(), &zowe, &site, services, &definitions, &[]);
        let texts = |problems: &[crate::config::Problem]| -> Vec<String> {
            problems.iter().map(ToString::to_string).collect()
        };
        match report.finish(Some(policy)) {
            Ok((policy, warnings)) => Ok((policy, texts(&warnings))),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
        }
    }

    const ON: &str = "corsEnabled: true";

    fn listed(origins: &[&str]) -> CorsRules {
        CorsRules::for_origins(origins.iter().map(|origin| origin.parse().unwrap()))
    }

    /// Returns the policy with rules for the auth API and for `svc`.
    fn with_rules(gateway: &[&str], svc: Option<CorsRules>) -> OriginPolicy {
        let id = |id| ServiceId::new(id).unwrap();
        let ids = OF_GATEWAY.iter().filter(|_| !gateway.is_empty());
        let policy = ids.fold(OriginPolicy::default(), |policy, gateway_id| {
            policy.with_cors(id(gateway_id), listed(gateway))
        });
        svc.into_iter().fold(policy, |policy, rules| policy.with_cors(id("svc"), rules))
    }

    #[test]
    fn rules_come_from_passticket_proxy_and_from_the_metadata() {
        let (a, b) = ("https://a.example", "https://b.example:1");
        let enabled = "apiml.corsEnabled: true";
        let with_list = "apiml.corsEnabled: true, apiml.corsAllowedOrigins: 'https://a.example, https://b.example:1'";
        let with_a = "apiml.corsEnabled: true, apiml.corsAllowedOrigins: 'https://a.example'";
        let any = "apiml.corsEnabled: true, apiml.corsAllowedOrigins: '*'";
        let methods = "apiml.corsEnabled: true, apiml.corsAllowedOrigins: '*', apiml.service.corsAllowedMethods: 'GET,PATCH'";
        let get_patch = [Method::GET, Method::PATCH];
        let site = "cors: {allowedOrigins: [https://a.example]}";
        for (zowe, ours, metadata, want) in [
            (ON, "{}", &[""][..], with_rules(&[], None)),
            (ON, "{}", &["apiml.corsEnabled: false"], with_rules(&[], None)),
            (ON, "{}", &[with_list], with_rules(&[], Some(listed(&[a, b])))),
            (ON, site, &[enabled], with_rules(&[a], Some(listed(&[a])))),
            (ON, site, &[""], with_rules(&[a], None)),
            (ON, "{}", &[any], with_rules(&[], Some(CorsRules::for_any_origin()))),
            (
                ON,
                "{}",
                &[methods],
                with_rules(&[], Some(CorsRules::for_any_origin().with_methods(get_patch.clone()))),
            ),
            // A page may do only what all definitions of a service allow.
            (ON, "{}", &[with_list, any], with_rules(&[], Some(listed(&[a, b])))),
            (ON, "{}", &[with_list, with_a], with_rules(&[], Some(listed(&[a])))),
            (ON, "{}", &[with_list, ""], with_rules(&[], None)),
            // The second definition has no list of methods. So the default methods apply to it, and PATCH is not one of
            // them.
            (
                ON,
                "{}",
                &[methods, any],
                with_rules(&[], Some(CorsRules::for_any_origin().with_methods([Method::GET]))),
            ),
            (
                ON,
                "{}",
                &[any, methods],
                with_rules(&[], Some(CorsRules::for_any_origin().with_methods([Method::GET]))),
            ),
            // `components.passticket-proxy` replaces the metadata.
            (
                ON,
                "svc: {cors: {allowedOrigins: https://b.example:1}}",
                &[with_a],
                with_rules(&[], Some(listed(&[b]))),
            ),
            (
                ON,
                "svc: {cors: {allowedOrigins: []}}",
                &[with_a],
                with_rules(&[], Some(listed(&[]))),
            ),
            (
                ON,
                "svc: {cors: {allowedOrigins: https://b.example:1}}",
                &[enabled],
                with_rules(&[], Some(listed(&[b]))),
            ),
            (
                ON,
                "svc: {cors: {allowedMethods: [GET, PATCH]}}",
                &[with_a],
                with_rules(&[], Some(listed(&[a]).with_methods(get_patch))),
            ),
        ] {
            let (got, warnings) = policy(zowe, ours, metadata).unwrap();
            assert_eq!(format!("{got:?}"), format!("{want:?}"), "{ours} {metadata:?}");
            assert_eq!(warnings, [""; 0], "{ours} {metadata:?}");
        }
        let (got, _) =
            policy("{corsEnabled: true, corsAllowedMethods: 'GET,HEAD'}", "{}", &[with_a]).unwrap();
        assert!(format!("{got:?}").contains("methods: [GET, HEAD], max_age: 600s"), "{got:?}");
        let (got, _) = policy(ON, "cors: {maxAgeSeconds: 5}", &[with_a]).unwrap();
        assert!(format!("{got:?}").contains("max_age: 5s"), "{got:?}");
    }

    #[test]
    fn lists_without_an_effect_cause_a_warning() {
        let off = "has no effect, because components.gateway.apiml.service.corsEnabled is not true";
        for (zowe, ours, metadata, want) in [
            ("{}", "{}", "apiml.corsEnabled: true", format!("d:1: services[0].customMetadata.apiml.corsEnabled: {off}")),
            ("{}", "cors: {allowedOrigins: https://a}", "", format!("o:1: cors.allowedOrigins: {off}")),
            ("{}", "svc: {cors: {allowedOrigins: https://a}}", "", format!("o:1: svc.cors: {off}")),
            (
                ON,
                "{}",
                "apiml.corsEnabled: true",
                "d:1: services[0].customMetadata.apiml.corsEnabled: allows no page, because there is no list of \
                 origins; set apiml.corsAllowedOrigins or \
                 components.passticket-proxy.services.svc.cors.allowedOrigins; \
                 components.passticket-proxy.cors.allowedOrigins also works, but applies to all such services and to \
                 the auth API"
                    .to_owned(),
            ),
            (
                ON,
                "{}",
                "apiml.corsEnabled: true, apiml.corsAllowedOrigins: https://a/",
                "d:1: services[0].customMetadata.apiml.corsAllowedOrigins: \"https://a/\" is not an origin; write one \
                 like https://zowe.example.com:7554; the gateway ignores this origin"
                    .to_owned(),
            ),
        ] {
            let (_, warnings) = policy(zowe, ours, &[metadata]).unwrap();
            assert_eq!(warnings, [want], "{ours} {metadata}");
        }
    }

    #[test]
    fn wrong_values_are_errors() {
        for (zowe, ours, want) in [
            (ON, "cors: {allowedOrigins: '*'}", "o:1: cors.allowedOrigins: must not contain \"*\""),
            (
                ON,
                "cors: {allowedOrigins: [a]}",
                "o:1: cors.allowedOrigins[0]: \"a\" is not an origin",
            ),
            (
                ON,
                "svc: {cors: {allowedOrigins: ['*', https://a]}}",
                "o:1: svc.cors.allowedOrigins[0]: \"*\" is not an origin",
            ),
            (ON, "svc: {cors: {allowedMethods: GET}}", "o:1: svc.cors.allowedOrigins: is missing"),
            (
                ON,
                "svc: {cors: {allowedOrigins: https://a, allowedMethods: get}}",
                "o:1: svc.cors.allowedMethods: \"get\" is not a method",
            ),
            (
                "{corsEnabled: true, corsAllowedMethods: 'GET,,POST'}",
                "{}",
                "z:1: corsAllowedMethods: \"\" is not a method",
            ),
        ] {
            let errors = policy(zowe, ours, &[""]).unwrap_err();
            assert!(errors.len() == 1 && errors[0].starts_with(want), "{ours}: {errors:?}");
        }
    }
}
