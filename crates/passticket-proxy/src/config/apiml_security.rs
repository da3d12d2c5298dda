//! Reads the settings of `components.gateway.apiml.security` that this gateway supports
//! (docs/reference/data-plane.md#zowe-yaml).
//!
//! SAF is the z/OS interface for permissions. ZSS is a server of Zowe on z/OS that maps certificates
//! and e-mail addresses to user ids. AT-TLS is the TLS of the z/OS TCP/IP stack.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use regex::bytes::Regex;

use super::{
    forwarders::{self, ForwardedKeys},
    problem::quote,
    reader::{At, Field, Section},
    settings::{Zss, default_gateway_user},
    trusted_proxies,
};
use tower_passticket::{
    api::GuardingResources,
    layer::{CookieNames, CustomHeaders, RequestHeaders, strip_hop_by_hop},
    remote::Address,
};

pub(super) struct ApimlSecurity<'a> {
    pub(super) pats: bool,
    pub(super) client_certificates: bool,
    pub(super) token_refresh: bool,
    pub(super) custom_headers: Option<CustomHeaders>,
    /// The headers that the gateway removes from the requests of clients: `customUserHeader`, `customAuthHeader`, the
    /// names in `headersToBeCleared`, and `jwt_header`. If only one of `customUserHeader` and `customAuthHeader` is
    /// set, the gateway removes this one, too.
    pub(super) strip_headers: Vec<HeaderName>,
    /// `auth.jwt.customAuthHeader`: one more header with the token, for the scheme `zoweJwt`.
    pub(super) jwt_header: Option<HeaderName>,
    /// `saf.urls.authenticate`: the endpoint that makes SAF identity tokens, for the scheme `safIdt`.
    pub(super) saf_tokens: Option<Address>,
    pub(super) cookies: CookieNames,
    pub(super) token_lifetime: Duration,
    /// The place of `delegatePassticket`, if it is `true`.
    pub(super) delegation: Option<At<'a>>,
    pub(super) registry: Option<Field<'a>>,
    pub(super) saf_endpoint: Option<Address>,
    pub(super) guards: GuardingResources,
    /// The place of `useInternalMapper`, if it is `true`.
    pub(super) internal_mapper: Option<At<'a>>,
    pub(super) certificate_mapper: Option<Zss>,
    pub(super) forwarded: Option<ForwardedKeys<'a>>,
    pub(super) identity_mapper: Option<Zss>,
    /// `forwardHeader.trustedProxies`. The expression must match the whole address.
    pub(super) trusted_proxies: Option<Regex>,
}

/// Reads the settings. A wrong value is reported, and the default is used instead. `attls` is the place of the setting
/// that turns AT-TLS on, or `None` if AT-TLS is off. `identifier` is `zowe.cookieIdentifier`.
pub(super) fn read<'a>(
    mut section: Section<'a>,
    attls: Option<&At<'a>>,
    identifier: Option<&Field<'a>>,
) -> ApimlSecurity<'a> {
    let mut auth = section.section("auth");
    let (custom_headers, mut strip_headers) = custom_headers(&mut auth.section("passticket"));
    let cleared = section.optional("headersToBeCleared").map(|field| field.one_or_more());
    strip_headers.extend(cleared.iter().flatten().filter_map(header_names).flatten());
    let jwt_header = auth
        .section("jwt")
        .optional("customAuthHeader")
        .and_then(|field| field.read(|text| header_name(text, "X-Token")));
    strip_headers.extend(jwt_header.clone());
    let unique = auth.optional("uniqueCookie").filter(Field::is_on);
    // Zowe's schema and its start script spell this setting differently (docs/reference/auth-endpoints.md#refresh).
    let refresh = ["allowTokenRefresh", "allowtokenrefresh"].map(|name| section.optional(name));
    let refresh = same_switch(refresh);
    let delegation = delegation(&mut section);
    let mut saf = section.section("saf");
    let saf_tokens = saf.section("urls").optional("authenticate");
    let saf_tokens = saf_tokens.and_then(|field| address(&field));
    let (saf_endpoint, guards) = authorization(&mut section.section("authorization"), &mut saf);
    let mut oidc = section.section("oidc");
    let identity_mapper = mapper(&mut oidc, "identityMapperUrl", "identityMapperUser");
    let internal = section.optional("useInternalMapper");
    let internal_mapper = internal.and_then(|field| field.boolean()?.then_some(field.at));
    let mut x509 = section.section("x509");
    let certificate_mapper = mapper(&mut x509, "externalMapperUrl", "externalMapperUser");
    let forwarded = forwarders::read_zowe(&mut x509);
    let mut switch = |name| section.section(name).optional("enabled").filter(Field::is_on);
    let (pats, x509) = (switch("personalAccessToken"), switch("x509"));
    if let (Some(attls), Some(field)) = (attls, &x509) {
        field.at.warning(format_args!(
            "has no effect with AT-TLS, which does not forward client certificates; set this setting or {} to false",
            attls.key
        ));
    }
    ApimlSecurity {
        pats: pats.is_some(),
        client_certificates: x509.is_some() && attls.is_none(),
        token_refresh: refresh.is_some_and(|(is_on, _)| is_on),
        custom_headers,
        strip_headers,
        jwt_header,
        saf_tokens,
        cookies: cookies(&mut auth.section("cookieProperties"), unique.as_ref(), identifier),
        token_lifetime: Duration::from_secs(
            auth.section("tokenProperties")
                .optional("expirationInSeconds")
                .and_then(|f| f.number(1..=u64::from(u32::MAX)))
                .unwrap_or(28_800),
        ),
        delegation,
        registry: oidc.optional("registry"),
        saf_endpoint,
        guards,
        internal_mapper,
        certificate_mapper,
        forwarded,
        identity_mapper,
        trusted_proxies: section
            .section("forwardHeader")
            .optional("trustedProxies")
            .and_then(|field| trusted_proxies::expression(&field)),
    }
}

/// Returns the place of the setting that switches delegated PassTickets on. `None` if they are off. Zowe's
/// documentation, Zowe's code and older texts spell this setting differently
/// (docs/reference/auth-endpoints.md#delegation-switch).
fn delegation<'a>(security: &mut Section<'a>) -> Option<At<'a>> {
    let switches = ["delegatePassticket", "delegatedPassticket"].map(|name| {
        let field = security.optional(name)?;
        if field.is_mapping() {
            let mut section = field.section();
            let enabled = section.optional("enabled");
            section.finish();
            enabled
        } else {
            Some(field)
        }
    });
    same_switch(switches).and_then(|(is_on, at)| is_on.then_some(at))
}

/// Returns the value of a switch that has two names, and the place of the name that is present. If both names are
/// present, their values must be equal, because the gateway cannot know which one the operator means.
fn same_switch<'a>(keys: [Option<Field<'a>>; 2]) -> Option<(bool, At<'a>)> {
    let [first, second] = keys.map(|field| field.and_then(|f| Some((f.boolean()?, f.at))));
    if let (Some((value, at)), Some((other, other_at))) = (&first, &second)
        && value != other
    {
        other_at.error(format_args!(
            "is {other}, but {} is {value}; both names mean the same setting; remove one of them",
            at.key
        ));
    }
    first.or(second)
}

/// Reads the provider of permissions (docs/reference/identity-and-saf.md#saf-providers), and the class and the name
/// prefix of the SAF resources that guard the auth API. The setting for the class has two names, and so has the setting
/// for the prefix (docs/reference/auth-endpoints.md#saf-resources).
fn authorization(
    section: &mut Section<'_>,
    saf: &mut Section<'_>,
) -> (Option<Address>, GuardingResources) {
    let url = section.section("endpoint").optional("url");
    let enabled = section.section("endpoint").optional("enabled");
    let enabled = enabled.and_then(|field| field.boolean()).unwrap_or(false);
    let provider = section.optional("provider");
    let is_endpoint = match &provider {
        None => enabled,
        Some(field) => field
            .read(|text| match text.to_ascii_lowercase().as_str() {
                "endpoint" => Ok(true),
                "dummy" => Ok(false),
                "native" => {
                    field.at.warning(
                    "makes Zowe check permissions in RACF, but this gateway checks them in the file of \
                     components.passticket-proxy.saf; write the same permissions in that file",
                );
                    Ok(false)
                }
                _ => Err(format!(
                    "{} is unknown; write endpoint, or dummy to use the file of components.passticket-proxy.saf",
                    quote(text)
                )),
            })
            .unwrap_or(false),
    };
    let endpoint = match url {
        Some(field) if is_endpoint => address(&field),
        None if is_endpoint => {
            section.section("endpoint").child("url").error(
                "is missing; write the URL of the endpoint, like \
                 https://host:7554/zss/api/v1/saf-auth",
            );
            None
        }
        _ => None,
    };
    let class = either(section.optional("resourceClass"), saf.optional("serviceResourceClass"));
    let prefix =
        either(section.optional("resourceNamePrefix"), saf.optional("serviceResourceNamePrefix"));
    if let Some((class, at)) = &class
        && is_endpoint
        && !class.eq_ignore_ascii_case(ENDPOINT_CLASS)
    {
        at.error(format_args!(
            "is {}, but the endpoint only checks class {ENDPOINT_CLASS}; write {ENDPOINT_CLASS}, or \
             set components.gateway.apiml.security.authorization.provider to dummy to use the file of \
             components.passticket-proxy.saf",
            quote(class)
        ));
    }
    let class = class.map_or(ENDPOINT_CLASS, |(class, _)| class);
    let prefix = prefix.map_or("APIML.", |(prefix, _)| prefix);
    (endpoint, GuardingResources::new(class, prefix))
}

/// The class in which the endpoint checks permissions. A request to the endpoint cannot name a class
/// (docs/reference/identity-and-saf.md#saf-endpoint).
const ENDPOINT_CLASS: &str = "ZOWE";

/// Reads a setting that has two names in Zowe. Returns the value and its place. If both names are present, their values
/// must be equal.
fn either<'a>(first: Option<Field<'a>>, second: Option<Field<'a>>) -> Option<(&'a str, At<'a>)> {
    let [first, second] = [first, second].map(|field| field.and_then(|f| Some((f.text()?, f.at))));
    if let (Some((text, at)), Some((other, other_at))) = (&first, &second)
        && text != other
    {
        other_at.error(format_args!(
            "is {}, but {} is {}; both names mean the same setting; remove one of them",
            quote(other),
            at.key,
            quote(text)
        ));
    }
    first.or(second)
}

/// Reads the URL of an identity mapper, and the user id for its requests.
fn mapper(section: &mut Section<'_>, url: &'static str, user: &'static str) -> Option<Zss> {
    let user = section.optional(user).and_then(|field| field.parse());
    let address = section.optional(url).and_then(|field| address(&field))?;
    Some(Zss { address, user: user.unwrap_or_else(default_gateway_user) })
}

/// Reads the URL of a server to which the gateway sends tokens of users. The URL must use `https`, except on the
/// loopback interface.
fn address(field: &Field<'_>) -> Option<Address> {
    let address = field.read(Address::parse)?;
    if !address.is_protected() {
        field.at.error("uses http, so tokens of users would be sent unencrypted; write https");
        return None;
    }
    Some(address)
}

/// Reads the two custom headers. Returns two values: the pair of headers, if both are present, and the list of those
/// that are present.
fn custom_headers(section: &mut Section<'_>) -> (Option<CustomHeaders>, Vec<HeaderName>) {
    let fields = [section.optional("customUserHeader"), section.optional("customAuthHeader")];
    let [user, ticket] = fields.each_ref().map(|field| {
        let field = field.as_ref()?;
        field.read(|text| header_name(text, "X-User"))
    });
    match &fields {
        [Some(field), None] | [None, Some(field)] => field.at.warning(
            "has no effect alone; set both customUserHeader and customAuthHeader, or neither",
        ),
        [Some(_), Some(ticket_field)] if user.is_some() && user == ticket => {
            ticket_field.at.error("is the same header as customUserHeader; write another one");
        }
        _ => {}
    }
    let strip = user.iter().chain(&ticket).cloned().collect();
    (user.zip(ticket).map(|(user, ticket)| CustomHeaders::new(user, ticket)), strip)
}

fn header_names(field: &Field<'_>) -> Option<Vec<HeaderName>> {
    field.read(|text| {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(|name| header_name(name, "X-User")).collect::<Result<_, _>>()
    })
}

/// Parses the name of a header that the gateway removes from the requests of clients. The gateway must not remove a
/// header that requests need, so the name of such a header is an error. An example is `Authorization`: without it, no
/// token would arrive.
fn header_name(text: &str, example: &str) -> Result<HeaderName, String> {
    let wrong = || format!("{} is not the name of a header; write one like {example}", quote(text));
    let name = HeaderName::try_from(text).map_err(|_| wrong())?;
    if RequestHeaders::default().with_removed(name.clone()).is_err() || is_hop_by_hop(&name) {
        return Err(format!(
            "{} is a header that requests need; write another one, like {example}",
            quote(text)
        ));
    }
    Ok(name)
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    let mut headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static(""))]);
    strip_hop_by_hop(&mut headers);
    headers.is_empty()
}

/// Reads the names of the cookies. With `unique`, `identifier` is appended to the name of the login cookie. So a
/// browser can keep the cookies of several Zowe installations on one host (docs/reference/auth-endpoints.md#cookies).
fn cookies(
    section: &mut Section<'_>,
    unique: Option<&Field<'_>>,
    identifier: Option<&Field<'_>>,
) -> CookieNames {
    let defaults = CookieNames::default();
    let mut name = |key| {
        section.optional(key)?.read(|text| {
            // The name of a cookie has the same syntax as the name of a header (RFC 6265 §4.1.1).
            match HeaderName::try_from(text) {
                Ok(_) => Ok(text.to_owned()),
                Err(_) => Err(format!(
                    "{} is not the name of a cookie; write letters and digits",
                    quote(text)
                )),
            }
        })
    };
    let (mut jwt, pat) = (name("cookieName"), name("cookieNamePAT"));
    if let Some(unique) = unique {
        match identifier.map(|field| (field, field.text())) {
            Some((field, Some(text))) if HeaderName::try_from(text).is_err() => field.at.error(format_args!(
                "{} cannot be a part of a cookie's name; write letters and digits",
                quote(text)
            )),
            Some((_, text)) => {
                let name = jwt.unwrap_or_else(|| defaults.jwt().to_owned());
                jwt = text.map(|text| format!("{name}.{text}"));
            }
            None => unique.at.error(
                "needs zowe.cookieIdentifier, the end of the cookie's name; set it, or set uniqueCookie to false",
            ),
        }
    }
    defaults
        .clone()
        .with_jwt(jwt.as_deref().unwrap_or(defaults.jwt()))
        .with_pat(pat.as_deref().unwrap_or(defaults.pat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};
    use tower_passticket::api::GuardedTask;

    /// Reads `yaml` as the section. Returns two values: the result of `inspect` (`None` if there are errors), and the
    /// problems. The problems are the errors, or the warnings if there are no errors.
    fn read_text<T>(
        yaml: &str,
        inspect: impl FnOnce(ApimlSecurity<'_>) -> T,
    ) -> (Option<T>, Vec<String>) {
        let text =
            format!("# zowe.yaml\ncomponents: {{gateway: {{apiml: {{security: {yaml}}}}}}}\n");
        let report = Report::default();
        let document = Document::parse("z".into(), text.as_bytes(), &report);
        let mut root = document.section(&report);
        let mut apiml = root.section("components").section("gateway").section("apiml");
        let seen = inspect(read(apiml.section("security"), None, None));
        let (seen, problems) = match report.finish(Some(seen)) {
            Ok((seen, warnings)) => (Some(seen), warnings),
            Err(problems) => (None, problems.iter().cloned().collect()),
        };
        (seen, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn one_custom_header_without_the_other_is_removed_from_requests_but_not_sent() {
        let yaml = "{auth: {passticket: {customAuthHeader: X-T, customUserHeader: ''}}}";
        let (seen, problems) =
            read_text(yaml, |security| (security.custom_headers.is_none(), security.strip_headers));
        assert_eq!(seen.unwrap(), (true, vec![HeaderName::from_static("x-t")]));
        assert_eq!(
            problems,
            ["z:2: components.gateway.apiml.security.auth.passticket.customAuthHeader: has no \
              effect alone; set both customUserHeader and customAuthHeader, or neither"]
        );
    }

    #[test]
    fn headers_to_be_cleared_are_removed_from_requests() {
        for yaml in ["{headersToBeCleared: 'X-A, x-b,'}", "{headersToBeCleared: [X-A, X-B]}"] {
            let (names, problems) = read_text(yaml, |security| security.strip_headers);
            let want = ["x-a", "x-b"].map(HeaderName::from_static).to_vec();
            assert_eq!((names, problems), (Some(want), Vec::new()), "{yaml}");
        }
    }

    #[test]
    fn headers_that_requests_need_are_refused_under_each_spelling() {
        for name in [
            "Authorization",
            "cookie",
            "Host",
            "Content-Length",
            "content_type",
            "Transfer-Encoding",
            "PRIVATE-TOKEN",
            "Connection",
            "Upgrade",
            "TE",
        ] {
            for (yaml, key, example) in [
                (
                    format!("{{auth: {{jwt: {{customAuthHeader: {name}}}}}}}"),
                    "auth.jwt.customAuthHeader",
                    "X-Token",
                ),
                (
                    format!(
                        "{{auth: {{passticket: {{customAuthHeader: {name}, customUserHeader: X-U}}}}}}"
                    ),
                    "auth.passticket.customAuthHeader",
                    "X-User",
                ),
                (
                    format!(
                        "{{auth: {{passticket: {{customUserHeader: {name}, customAuthHeader: X-T}}}}}}"
                    ),
                    "auth.passticket.customUserHeader",
                    "X-User",
                ),
                (format!("{{headersToBeCleared: 'X-A, {name}'}}"), "headersToBeCleared", "X-User"),
            ] {
                let (seen, problems) = read_text(&yaml, |_| ());
                let want = format!(
                    "z:2: components.gateway.apiml.security.{key}: \"{name}\" is a header that requests need; write \
                     another one, like {example}"
                );
                assert_eq!((seen, problems), (None, vec![want]), "{yaml}");
            }
        }
    }

    #[test]
    fn the_refresh_key_has_two_spellings() {
        for (yaml, want) in [
            ("{}", false),
            ("{allowTokenRefresh: true}", true),
            ("{allowtokenrefresh: true}", true),
            ("{allowtokenrefresh: false}", false),
            ("{allowTokenRefresh: true, allowtokenrefresh: true}", true),
        ] {
            let (seen, problems) = read_text(yaml, |security| security.token_refresh);
            assert_eq!((seen, problems), (Some(want), Vec::new()), "{yaml}");
        }
    }

    #[test]
    fn the_delegation_key_has_four_spellings() {
        for (yaml, want) in [
            ("{delegatePassticket: true}", true),
            ("{delegatePassticket: {enabled: true}}", true),
            ("{delegatedPassticket: true}", true),
            ("{delegatedPassticket: {enabled: true}}", true),
            ("{delegatePassticket: false}", false),
            ("{delegatePassticket: {enabled: false}}", false),
            ("{delegatePassticket: {}}", false),
            ("{delegatePassticket: true, delegatedPassticket: {enabled: true}}", true),
            ("{}", false),
        ] {
            let (on, problems) = read_text(yaml, |security| security.delegation.is_some());
            assert_eq!((on, problems), (Some(want), Vec::new()), "{yaml}");
        }
    }

    #[test]
    fn providers_are_chosen_as_in_zowe() {
        let url = "https://gw:7554/zss";
        // Each case: the section, and whether it configures a SAF endpoint, a certificate mapper and an
        // identity mapper.
        for (yaml, saf, certificates, identities) in [
            ("{authorization: {endpoint: {url: 'URL'}}}", false, false, false),
            ("{authorization: {endpoint: {url: 'URL', enabled: true}}}", true, false, false),
            ("{authorization: {provider: ENDPOINT, endpoint: {url: 'URL'}}}", true, false, false),
            (
                "{authorization: {provider: dummy, endpoint: {url: 'URL', enabled: true}}}",
                false,
                false,
                false,
            ),
            ("{x509: {externalMapperUrl: 'URL'}}", false, true, false),
            ("{useInternalMapper: false, x509: {externalMapperUrl: 'URL'}}", false, true, false),
            ("{oidc: {identityMapperUrl: 'URL', identityMapperUser: ME}}", false, false, true),
        ] {
            let yaml = yaml.replace("URL", url);
            let (seen, problems) = read_text(&yaml, |security| {
                let user = security.identity_mapper.as_ref().map(|mapper| mapper.user.to_string());
                assert!(user.is_none_or(|user| user == "ME"));
                let certificates = security.certificate_mapper.is_some();
                (security.saf_endpoint.is_some(), certificates, security.identity_mapper.is_some())
            });
            assert_eq!(seen, Some((saf, certificates, identities)), "{yaml}");
            assert_eq!(problems, Vec::<String>::new(), "{yaml}");
        }
    }

    #[test]
    fn class_and_prefix_of_guarding_resources_have_two_keys_each() {
        let endpoint = "provider: endpoint, endpoint: {url: 'https://zss/saf'}";
        for (yaml, want) in [
            ("{}".to_owned(), "APIML.SERVICES in class ZOWE"),
            (
                "{authorization: {resourceClass: XFACILIT, resourceNamePrefix: A.}}".to_owned(),
                "A.SERVICES in class XFACILIT",
            ),
            (
                "{saf: {serviceResourceClass: XFACILIT, serviceResourceNamePrefix: A.}}".to_owned(),
                "A.SERVICES in class XFACILIT",
            ),
            (
                "{saf: {serviceResourceClass: X}, authorization: {resourceClass: X}}".to_owned(),
                "APIML.SERVICES in class X",
            ),
            (format!("{{authorization: {{{endpoint}}}}}"), "APIML.SERVICES in class ZOWE"),
            (
                format!("{{authorization: {{{endpoint}, resourceClass: Zowe}}}}"),
                "APIML.SERVICES in class Zowe",
            ),
        ] {
            let (seen, problems) = read_text(&yaml, |security| {
                security.guards.permission(GuardedTask::Revoke).to_string()
            });
            let want = format!("READ on {want}");
            assert_eq!((seen, problems), (Some(want), Vec::new()), "{yaml}");
        }
    }

    #[test]
    fn problems_are_reported_at_their_keys() {
        for (yaml, key, text) in [
            (
                "{allowTokenRefresh: false, allowtokenrefresh: true}",
                ".allowtokenrefresh",
                "is true, but components.gateway.apiml.security.allowTokenRefresh is false; both names mean \
                 the same setting; remove one of them",
            ),
            (
                "{delegatePassticket: false, delegatedPassticket: {enabled: true}}",
                ".delegatedPassticket.enabled",
                "is true, but components.gateway.apiml.security.delegatePassticket is false; both names mean \
                 the same setting; remove one of them",
            ),
            (
                "{allowTokenRefresh: maybe}",
                ".allowTokenRefresh",
                "\"maybe\" is neither true nor false; write one of them",
            ),
            (
                "{delegatePassticket: {enabled: perhaps}}",
                ".delegatePassticket.enabled",
                "\"perhaps\" is neither true nor false; write one of them",
            ),
            (
                "{authorization: {provider: rest}}",
                ".authorization.provider",
                "\"rest\" is unknown; write endpoint, or dummy to use the file of \
                 components.passticket-proxy.saf",
            ),
            (
                "{authorization: {provider: Native}}",
                ".authorization.provider",
                "makes Zowe check permissions in RACF, but this gateway checks them in the file of \
                 components.passticket-proxy.saf; write the same permissions in that file",
            ),
            (
                "{authorization: {provider: endpoint}}",
                ".authorization.endpoint.url",
                "is missing; write the URL of the endpoint, like \
                 https://host:7554/zss/api/v1/saf-auth",
            ),
            (
                "{x509: {externalMapperUrl: 'http://zss.example/map'}}",
                ".x509.externalMapperUrl",
                "uses http, so tokens of users would be sent unencrypted; write https",
            ),
            (
                "{useInternalMapper: yes}",
                ".useInternalMapper",
                "\"yes\" is neither true nor false; write one of them",
            ),
            (
                "{authorization: {endpoint: {enabled: yes, url: 'https://zss/saf'}}}",
                ".authorization.endpoint.enabled",
                "\"yes\" is neither true nor false; write one of them",
            ),
            (
                "{authorization: {provider: endpoint, endpoint: {url: 'https://zss/saf'}, \
                 resourceClass: FACILITY}}",
                ".authorization.resourceClass",
                "is \"FACILITY\", but the endpoint only checks class ZOWE; write ZOWE, or set \
                 components.gateway.apiml.security.authorization.provider to dummy to use the file of \
                 components.passticket-proxy.saf",
            ),
            (
                "{saf: {serviceResourceClass: A}, authorization: {resourceClass: B}}",
                ".saf.serviceResourceClass",
                "is \"A\", but components.gateway.apiml.security.authorization.resourceClass is \
                 \"B\"; both names mean the same setting; remove one of them",
            ),
            (
                "{saf: {serviceResourceNamePrefix: A.}, authorization: {resourceNamePrefix: B.}}",
                ".saf.serviceResourceNamePrefix",
                "is \"A.\", but \
                 components.gateway.apiml.security.authorization.resourceNamePrefix is \"B.\"; \
                 both names mean the same setting; remove one of them",
            ),
            (
                "{x509: {externalMapperUrl: zss}}",
                ".x509.externalMapperUrl",
                "\"zss\" is not the address of a service; use https://host:port/path, without \
                 user, ? and #",
            ),
            (
                "{auth: {uniqueCookie: true}}",
                ".auth.uniqueCookie",
                "needs zowe.cookieIdentifier, the end of the cookie's name; set it, or set uniqueCookie to false",
            ),
            (
                "{delegatePassticket: {enable: true}}",
                ".delegatePassticket.enable",
                "is an unknown key; did you mean enabled?",
            ),
            (
                "{headersToBeCleared: 'X-A, X B'}",
                ".headersToBeCleared",
                "\"X B\" is not the name of a header; write one like X-User",
            ),
            ("{x509: true}", ".x509", "must be a mapping; write keys with their values below it"),
            (
                "{auth: {cookieProperties: {cookieName: a=b}}}",
                ".auth.cookieProperties.cookieName",
                "\"a=b\" is not the name of a cookie; write letters and digits",
            ),
            (
                "{auth: {passticket: {customAuthHeader: a b, customUserHeader: X}}}",
                ".auth.passticket.customAuthHeader",
                "\"a b\" is not the name of a header; write one like X-User",
            ),
            (
                "{auth: {passticket: {customUserHeader: X, customAuthHeader: x}}}",
                ".auth.passticket.customAuthHeader",
                "is the same header as customUserHeader; write another one",
            ),
        ] {
            let (_, problems) = read_text(yaml, |_| ());
            let want = format!("z:2: components.gateway.apiml.security{key}: {text}");
            assert_eq!(problems, [want], "{yaml}");
        }
        let off = "{oidc: {enabled: false}, allowTokenRefresh: false, delegatePassticket: false,
              auth: {jwt: {customAuthHeader: ''}, uniqueCookie: false}}";
        assert_eq!(read_text(off, |_| ()).1, Vec::<String>::new());
    }
}
