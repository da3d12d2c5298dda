//! Reads how many requests each client may send to a service: the settings of Zowe below `components.gateway.apiml`,
//! the metadata of the service, and `components.passticket-proxy.services.ID.rateLimit`.

use std::{num::NonZeroU32, time::Duration};

use super::{
    api_defs::Definitions,
    configured_route::ConfiguredRoute,
    metadata::RATE_LIMIT,
    problem::{shown_name, suggest},
    reader::{Field, Section},
};
use tower_passticket::{layer::RateLimit, token::ServiceId};

/// The rate limit of Zowe, and the services to which it applies.
pub(super) struct ZoweRates<'a> {
    limit: RateLimit,
    /// The ids of services, each with the value that contains the id.
    services: Vec<(&'a str, Field<'a>)>,
}

/// Reads the settings below `components.gateway.apiml`. Zowe's code reads the list of services from `routing`, and the
/// numbers from `gateway`. Zowe's documentation puts all of these settings into `gateway.routing`. This function reads
/// all of these places.
pub(super) fn read_zowe<'a>(apiml: &mut Section<'a>) -> ZoweRates<'a> {
    const LIST: &str = "servicesToLimitRequestRate";
    let mut routing = apiml.section("routing");
    let mut gateway = apiml.section("gateway");
    let mut documented = gateway.section("routing");
    let lists = [routing.optional(LIST), gateway.optional(LIST), documented.optional(LIST)];
    let mut services = Vec::new();
    for list in lists.into_iter().flatten() {
        for item in list.one_or_more() {
            let ids = item.text().unwrap_or_default().split(',').map(str::trim);
            services.extend(ids.filter(|id| !id.is_empty()).map(|id| (id, item.clone())));
        }
    }
    let mut number = |name, maximum, default| {
        let field = gateway.optional(name).or_else(|| documented.optional(name));
        let number = field.and_then(|field| field.number(1..=maximum));
        number
            .and_then(|number| u32::try_from(number).ok())
            .and_then(NonZeroU32::new)
            .unwrap_or(default)
    };
    const TWENTY: NonZeroU32 = NonZeroU32::new(20).expect("should not be zero");
    let capacity = number("rateLimiterCapacity", 1_000_000, TWENTY);
    // The default is 20, as in Zowe's documentation. Zowe's code uses 1, which permits one request in a minute.
    let tokens = number("rateLimiterTokens", 1_000_000, TWENTY);
    let minutes = number("rateLimiterRefillDuration", 1_440, NonZeroU32::MIN);
    let period = Duration::from_secs(60) * minutes.get();
    ZoweRates { limit: RateLimit::new(tokens, period).with_burst(capacity), services }
}

/// `components.passticket-proxy.services.ID.rateLimit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServiceRate {
    /// The service has no rate limit, whatever the settings of Zowe say.
    Off,
    Limit(RateLimit),
}

/// Reads the setting `rateLimit` of a service. Returns `None` if it is absent or blank, or after reporting a problem.
pub(super) fn read_service(service: &mut Section<'_>) -> Option<ServiceRate> {
    let mut section = service.optional("rateLimit")?.section();
    let enabled = section.optional("enabled").and_then(|field| field.boolean()).unwrap_or(true);
    let number = |section: &mut Section<'_>, name, maximum| {
        let number = section.optional(name)?.number(1..=maximum)?;
        NonZeroU32::new(u32::try_from(number).ok()?)
    };
    let period = number(&mut section, "seconds", 86_400);
    let burst = number(&mut section, "burst", 1_000_000);
    let requests = match enabled {
        true => section.required("requests", "the number of requests in each period of seconds"),
        false => section.optional("requests"),
    };
    section.finish();
    if !enabled {
        return Some(ServiceRate::Off);
    }
    let requests =
        u32::try_from(requests?.number(1..=1_000_000)?).ok().and_then(NonZeroU32::new)?;
    let seconds = period.map_or(1, NonZeroU32::get);
    let limit = RateLimit::new(requests, Duration::from_secs(seconds.into()));
    Some(ServiceRate::Limit(burst.map_or(limit, |burst| limit.with_burst(burst))))
}

/// Adds the rate limits to the routes. `ours` are the settings in `components.passticket-proxy`. `found` are the
/// services that are found in a registry. Warns about each service that Zowe's settings name, but that does not exist.
/// If a file of definitions is not valid YAML, not all services are known. In this case, `found` is `None`, and there
/// is no such warning.
pub(super) fn apply<'s>(
    routes: &mut [ConfiguredRoute],
    zowe: &ZoweRates<'_>,
    ours: impl Iterator<Item = (&'s ServiceId, ServiceRate)>,
    definitions: &Definitions<'_>,
    found: Option<&[&ServiceId]>,
) {
    let ours: Vec<_> = ours.collect();
    let services = &definitions.services;
    if let Some(found) = found {
        let known = services.iter().map(|service| &service.id).chain(found.iter().copied());
        let known: Vec<_> = known.map(ServiceId::as_str).collect();
        let is_unknown = |(id, _): &&(&str, _)| !known.iter().any(|it| it.eq_ignore_ascii_case(id));
        for (id, field) in zowe.services.iter().filter(is_unknown) {
            let hint = suggest(id, known.iter().copied());
            let id = shown_name(id);
            field
                .at
                .warning(format_args!("has no effect, because service {id} has no api-def{hint}"));
        }
    }
    let is_limited_by_zowe = |id: &ServiceId| {
        let of_service = services.iter().filter(|service| service.id == *id);
        let mut fields = of_service.filter_map(|service| service.metadata.get(RATE_LIMIT));
        fields.any(|field| field.is_word("true"))
            || zowe.services.iter().any(|(listed, _)| listed.eq_ignore_ascii_case(id.as_str()))
    };
    let limit = |id: &ServiceId| match ours.iter().find(|(other, _)| *other == id) {
        Some((_, ServiceRate::Limit(limit))) => Some(*limit),
        Some((_, ServiceRate::Off)) => None,
        None => is_limited_by_zowe(id).then_some(zowe.limit),
    };
    for route in routes {
        if let Some(limit) = limit(route.service()) {
            *route = route.clone().with_rate_limit(limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        api_defs, configured_route::ServiceScheme, problem::Report, reader::Document,
    };

    /// Returns the rate limit of the service `svc` and the warnings, or the errors. `zowe` is
    /// `components.gateway.apiml`, `ours` is `services`, and `metadata` is the `customMetadata` of the definition.
    fn limit(
        zowe: &str,
        ours: &str,
        metadata: &str,
    ) -> Result<(Option<RateLimit>, Vec<String>), Vec<String>> {
        let report = Report::default();
        let document =
            |name: &str, text: &str| Document::parse(name.into(), text.as_bytes(), &report);
        let (zowe, ours) = (document("z", zowe), document("o", ours));
        let definition = format!(
            "services: [{{serviceId: svc, instanceBaseUrls: [https://a], routes: [{{gatewayUrl: api, \
             serviceRelativeUrl: /}}], customMetadata: {{{metadata}}}}}]"
        );
        let definition = document("d", &definition);
        let definitions = api_defs::read(definition.section(&report));
        let zowe = read_zowe(&mut zowe.section(&report));
        let ours = read_service(&mut ours.section(&report).section("svc"));
        let id = ServiceId::new("svc").unwrap();
        let url = "https://a".parse().unwrap();
        let mut routes =
            [ConfiguredRoute::new(id.clone(), "api", url, ServiceScheme::Bypass).unwrap()];
        let ours = ours.map(|rate| (&id, rate));
        let found = ServiceId::new("found").unwrap();
        apply(&mut routes, &zowe, ours.into_iter(), &definitions, Some(&[&found]));
        match report.finish(Some(routes[0].rate_limit())) {
            Ok((limit, warnings)) => {
                Ok((limit, warnings.iter().map(ToString::to_string).collect()))
            }
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
        }
    }

    fn rate(requests: u32, seconds: u64, burst: u32) -> Option<RateLimit> {
        let number = |number| NonZeroU32::new(number).unwrap();
        let limit = RateLimit::new(number(requests), Duration::from_secs(seconds));
        Some(limit.with_burst(number(burst)))
    }

    #[test]
    fn limits_come_from_both_places_of_zowe_from_metadata_and_from_passticket_proxy() {
        let listed = "routing: {servicesToLimitRequestRate: 'a, SVC, Found'}";
        for (zowe, ours, metadata, want) in [
            ("{}", "{}", "", None),
            ("{routing: {servicesToLimitRequestRate: svc}}", "{}", "", rate(20, 60, 20)),
            ("{gateway: {servicesToLimitRequestRate: [svc]}}", "{}", "", rate(20, 60, 20)),
            (
                "{routing: {servicesToLimitRequestRate: svc}, gateway: {rateLimiterCapacity: 5, rateLimiterTokens: 2, \
                 rateLimiterRefillDuration: 3}}",
                "{}",
                "",
                rate(2, 180, 5),
            ),
            (
                "{gateway: {routing: {servicesToLimitRequestRate: svc, rateLimiterCapacity: 5, rateLimiterTokens: 2, \
                 rateLimiterRefillDuration: 3}}}",
                "{}",
                "",
                rate(2, 180, 5),
            ),
            ("{gateway: {rateLimiterCapacity: 5}}", "{}", "", None),
            (
                "{gateway: {rateLimiterCapacity: 5}}",
                "{}",
                "apiml.gateway.applyRateLimiterFilter: true",
                rate(20, 60, 5),
            ),
            ("{}", "{}", "apiml.gateway.applyRateLimiterFilter: false", None),
            ("{}", "svc: {rateLimit: {requests: 3}}", "", rate(3, 1, 3)),
            ("{}", "svc: {rateLimit: {requests: 3, seconds: 10, burst: 4}}", "", rate(3, 10, 4)),
            (
                "{routing: {servicesToLimitRequestRate: svc}}",
                "svc: {rateLimit: {requests: 3, seconds: 10}}",
                "",
                rate(3, 10, 3),
            ),
            (
                "{routing: {servicesToLimitRequestRate: svc}}",
                "svc: {rateLimit: {enabled: false}}",
                "apiml.gateway.applyRateLimiterFilter: true",
                None,
            ),
        ] {
            assert_eq!(limit(zowe, ours, metadata), Ok((want, Vec::new())), "{zowe} {ours}");
        }
        let warning = "z:1: routing.servicesToLimitRequestRate: has no effect, because service a has no api-def; \
             known here: found, svc";
        let (got, warnings) = limit(&format!("{{{listed}}}"), "{}", "").unwrap();
        assert_eq!((got, warnings), (rate(20, 60, 20), vec![warning.to_owned()]));
    }

    #[test]
    fn wrong_values_are_errors() {
        for (zowe, ours, want) in [
            (
                "{gateway: {rateLimiterTokens: 0}}",
                "{}",
                "z:1: gateway.rateLimiterTokens: \"0\" is not valid",
            ),
            ("{}", "svc: {rateLimit: {seconds: 1}}", "o:1: svc.rateLimit.requests: is missing"),
            (
                "{}",
                "svc: {rateLimit: {requests: 0}}",
                "o:1: svc.rateLimit.requests: \"0\" is not valid",
            ),
            ("{}", "svc: {rateLimit: 5}", "o:1: svc.rateLimit: must be a mapping"),
            (
                "{}",
                "svc: {rateLimit: {requests: 5, second: 1}}",
                "o:1: svc.rateLimit.second: is an unknown key",
            ),
        ] {
            let errors = limit(zowe, ours, "").unwrap_err();
            assert!(errors.iter().any(|error| error.starts_with(want)), "{ours}: {errors:?}");
        }
    }
}
