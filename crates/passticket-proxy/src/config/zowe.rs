//! The keys of a zowe.yaml that mean something here (zowe-dataplane §5.3).
//!
//! Zowe reads some `apiml.*` keys from `components.zaas` first; here all of them are those of
//! `components.gateway`.

use std::time::Duration;

use http::HeaderName;

use super::{
    Encryption,
    passticket_proxy::gateway_user_of_zowe,
    problem::quote,
    reader::{At, Field, Section},
    security_keys,
};
use tower_passticket::{
    api::GuardingResources,
    layer::{CookieNames, CustomHeaders},
    passticket::UserId,
    remote::Address,
    tls::Verification,
};

/// What a zowe.yaml says, with the files that it names still to be read.
pub(super) struct Zowe<'a> {
    pub(super) certificate: Option<Field<'a>>,
    pub(super) key: Option<Field<'a>>,
    pub(super) authorities: Option<Field<'a>>,
    pub(super) verify: Verification,
    pub(super) encryption: Encryption,
    /// Where AT-TLS is switched on.
    pub(super) attls: Option<At<'a>>,
    /// Where `verify` is written, if it is.
    pub(super) verify_at: Option<At<'a>>,
    pub(super) port: u16,
    pub(super) timeout: Duration,
    pub(super) pats: bool,
    pub(super) client_certificates: bool,
    pub(super) token_refresh: bool,
    pub(super) custom_headers: Option<CustomHeaders>,
    pub(super) strip_headers: Vec<HeaderName>,
    pub(super) cookies: CookieNames,
    pub(super) token_lifetime: Duration,
    /// Where `delegatePassticket` is switched on.
    pub(super) delegation: Option<At<'a>>,
    pub(super) registry: Option<Field<'a>>,
    pub(super) saf_endpoint: Option<Address>,
    pub(super) guards: GuardingResources,
    /// Where `useInternalMapper` is switched on.
    pub(super) internal_mapper: Option<At<'a>>,
    pub(super) certificate_mapper: Option<Mapper>,
    pub(super) identity_mapper: Option<Mapper>,
}

/// A service of ZSS that maps identities, and whom the gateway is to it.
#[derive(Clone, Debug)]
pub(super) struct Mapper {
    pub(super) address: Address,
    pub(super) user: UserId,
}

/// A value that is wrong was reported, and has its default here.
pub(super) fn read<'a>(root: &mut Section<'a>) -> Zowe<'a> {
    let mut zowe = root.section("zowe");
    let mut pem = zowe.section("certificate").section("pem");
    let mut gateway = root.section("components").section("gateway");
    let attls = attls(&mut zowe, &mut gateway);
    let port = gateway.optional("port").and_then(|f| f.number(0..=u64::from(u16::MAX)));
    let mut apiml = gateway.section("apiml");
    let timeout = apiml.section("connection").optional("timeout");
    let mut security = apiml.section("security");
    security_keys::check("", &security);
    let mut auth = security.section("auth");
    let (custom_headers, strip_headers) = custom_headers(&mut auth.section("passticket"));
    // Zowe's schema has the one, its start script the other (zowe-endpoints §1.4).
    let refresh = ["allowTokenRefresh", "allowtokenrefresh"]
        .map(|name| security.optional(name).and_then(|field| field.boolean()));
    let delegation = delegation(&mut security);
    let (saf_endpoint, guards) =
        authorization(&mut security.section("authorization"), &mut security.section("saf"));
    let mut oidc = security.section("oidc");
    let identity_mapper = mapper(&mut oidc, "identityMapperUrl", "identityMapperUser");
    let internal = security.optional("useInternalMapper");
    let internal = internal.and_then(|field| field.boolean()?.then_some(field.at));
    let external = mapper(&mut security.section("x509"), "externalMapperUrl", "externalMapperUser");
    let verify = zowe.optional("verifyCertificates");
    let verify_at = verify.as_ref().map(|field| field.at.clone());
    let mut switch = |name| security.section(name).optional("enabled").filter(is_on);
    let (pats, x509) = (switch("personalAccessToken"), switch("x509"));
    if let (Some(_), Some(field)) = (&attls, &x509) {
        field.at.warning(
            "has no effect with AT-TLS: it keeps the certificates of clients to itself; switch one \
             of the two off",
        );
    }
    Zowe {
        certificate: pem.required("certificate", "the path of a PEM file with the server's chain"),
        key: pem.required("key", "the path of a PEM file with the key of the certificate"),
        authorities: pem.required(
            "certificateAuthorities",
            "the paths of PEM files with the authorities of clients and services",
        ),
        verify: verify.and_then(verification).unwrap_or_default(),
        verify_at,
        encryption: if attls.is_some() { Encryption::AtTls } else { Encryption::Tls },
        // Nothing is lost: the range ends where the type does.
        port: port.and_then(|port| port.try_into().ok()).unwrap_or(7554),
        timeout: Duration::from_millis(
            timeout.and_then(|f| f.number(1..=u64::from(u32::MAX))).unwrap_or(60_000),
        ),
        pats: pats.is_some(),
        client_certificates: x509.is_some() && attls.is_none(),
        attls,
        token_refresh: refresh.contains(&Some(true)),
        custom_headers,
        strip_headers,
        cookies: cookies(&mut auth.section("cookieProperties")),
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
        internal_mapper: internal,
        certificate_mapper: external,
        identity_mapper,
    }
}

/// The key of the component goes before that of all (zowe-dataplane §6.5).
fn attls<'a>(zowe: &mut Section<'a>, gateway: &mut Section<'a>) -> Option<At<'a>> {
    let key = |zowe: &mut Section<'a>| {
        zowe.section("network").section("server").section("tls").optional("attls")
    };
    let of_all = key(zowe);
    let field = key(&mut gateway.section("zowe")).or(of_all)?;
    is_on(&field).then_some(field.at)
}

fn is_on(field: &Field<'_>) -> bool {
    field.boolean().unwrap_or(false)
}

/// The document has the one spelling; code and older texts have the others (demand §1.2).
fn delegation<'a>(security: &mut Section<'a>) -> Option<At<'a>> {
    ["delegatePassticket", "delegatedPassticket"].into_iter().find_map(|name| {
        let field = security.optional(name)?;
        let switch = if field.is_mapping() { field.section().optional("enabled")? } else { field };
        switch.boolean()?.then_some(switch.at)
    })
}

/// Whom to ask for permissions (zowe-endpoints §6.1), and the names of the resources, which have two
/// spellings (zowe-endpoints §1.0).
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
        Some(field) => field.read(|text| match text.to_ascii_lowercase().as_str() {
            "endpoint" => Ok(true),
            "dummy" => Ok(false),
            "native" => {
                field.at.warning("asks RACF itself in Zowe; here passticketProxy.saf says who may");
                Ok(false)
            }
            _ => Err(format!("{} is unknown; write endpoint, or dummy for the file that passticketProxy.saf names", quote(text))),
        }).unwrap_or(false),
    };
    let endpoint = match url {
        Some(field) if is_endpoint => address(&field),
        None if is_endpoint => {
            section.section("endpoint").child("url").error("is missing; write where the endpoint is, https://host:7554/zss/api/v1/saf-auth say");
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
            "is {}, but the endpoint judges in class {ENDPOINT_CLASS} alone; write \
             {ENDPOINT_CLASS}, or authorization.provider: dummy for the file that \
             passticketProxy.saf names",
            quote(class)
        ));
    }
    let class = class.map_or(ENDPOINT_CLASS, |(class, _)| class);
    let prefix = prefix.map_or("APIML.", |(prefix, _)| prefix);
    (endpoint, GuardingResources::new(class, prefix))
}

/// The class that the endpoint judges in: it is not part of the question (zowe-endpoints §6.2).
const ENDPOINT_CLASS: &str = "ZOWE";

/// What two spellings of a key say, which must be the same, and where.
fn either<'a>(first: Option<Field<'a>>, second: Option<Field<'a>>) -> Option<(&'a str, At<'a>)> {
    let [first, second] = [first, second].map(|field| field.and_then(|f| Some((f.text()?, f.at))));
    if let (Some((text, at)), Some((other, other_at))) = (&first, &second)
        && text != other
    {
        other_at.error(format_args!(
            "is {}, but {} is {}; they are two names of one setting: remove one of them",
            quote(other),
            at.key,
            quote(text)
        ));
    }
    first.or(second)
}

fn mapper(section: &mut Section<'_>, url: &'static str, user: &'static str) -> Option<Mapper> {
    let user = section.optional(user).and_then(|field| field.parse());
    let address = section.optional(url).and_then(|field| address(&field))?;
    Some(Mapper { address, user: user.unwrap_or_else(gateway_user_of_zowe) })
}

/// Where tokens of users are sent to.
fn address(field: &Field<'_>) -> Option<Address> {
    let address = field.read(Address::parse)?;
    if !address.is_protected() {
        field.at.error(
            "is http, and whoever is between here and there could read the tokens of users; write \
             https",
        );
        return None;
    }
    Some(address)
}

/// As Zowe's start script, which folds it to upper case (zowe-dataplane §6.3). There an unknown
/// mode is `STRICT`; here it is an error.
fn verification(field: Field<'_>) -> Option<Verification> {
    field.read(|text| match text.to_ascii_uppercase().as_str() {
        "STRICT" => Ok(Verification::Strict),
        "NONSTRICT" => Ok(Verification::NonStrict),
        "DISABLED" => Ok(Verification::Disabled),
        _ => Err(format!(
            "{} is no way to verify certificates; write STRICT, NONSTRICT or DISABLED",
            quote(text)
        )),
    })
}

/// The pair, if both are there; and whichever are there.
fn custom_headers(section: &mut Section<'_>) -> (Option<CustomHeaders>, Vec<HeaderName>) {
    let fields = [section.optional("customUserHeader"), section.optional("customAuthHeader")];
    let [user, ticket] = fields.each_ref().map(|field| {
        let field = field.as_ref()?;
        field.read(|text| {
            HeaderName::try_from(text).map_err(|_| {
                format!("{} is no name of a header; write one like X-User", quote(text))
            })
        })
    });
    match &fields {
        [Some(alone), None] | [None, Some(alone)] => alone.at.warning(
            "has no effect alone; write both customUserHeader and customAuthHeader, or none",
        ),
        [Some(_), Some(ticket_field)] if user.is_some() && user == ticket => {
            ticket_field.at.error("is the same header as customUserHeader; write another one");
        }
        _ => {}
    }
    let strip = user.iter().chain(&ticket).cloned().collect();
    (user.zip(ticket).map(|(user, ticket)| CustomHeaders::new(user, ticket)), strip)
}

fn cookies(section: &mut Section<'_>) -> CookieNames {
    let usual = CookieNames::default();
    let mut name = |key| {
        section.optional(key)?.read(|text| {
            // RFC 6265 §4.1.1: a token, of the same characters as the name of a header.
            match HeaderName::try_from(text) {
                Ok(_) => Ok(text.to_owned()),
                Err(_) => {
                    Err(format!("{} is no name of a cookie; write letters and digits", quote(text)))
                }
            }
        })
    };
    let (jwt, pat) = (name("cookieName"), name("cookieNamePAT"));
    usual
        .clone()
        .with_jwt(jwt.as_deref().unwrap_or(usual.jwt()))
        .with_pat(pat.as_deref().unwrap_or(usual.pat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};
    use tower_passticket::api::GuardedTask;

    const PEM: &str =
        "zowe: {certificate: {pem: {certificate: c, key: k, certificateAuthorities: a}}}\n";

    /// Reads the PEM paths and `text`; `security` goes to `components.gateway.apiml.security`.
    fn read_text<T>(text: &str, see: impl FnOnce(Zowe<'_>) -> T) -> (Option<T>, Vec<String>) {
        let report = Report::default();
        let document = Document::parse("z".into(), text.as_bytes(), &report);
        let seen = see(read(&mut document.section(&report)));
        let (seen, problems) = match report.conclude(Some(seen)) {
            Ok((seen, warnings)) => (Some(seen), warnings),
            Err(problems) => (None, problems.iter().cloned().collect()),
        };
        (seen, problems.iter().map(ToString::to_string).collect())
    }

    fn security(yaml: &str) -> String {
        format!("{PEM}components: {{gateway: {{apiml: {{security: {yaml}}}}}}}\n")
    }

    #[test]
    fn nothing_but_the_certificate_must_be_there() {
        let (seen, problems) = read_text(PEM, |zowe| {
            assert_eq!((zowe.port, zowe.timeout.as_secs()), (7554, 60));
            assert_eq!((zowe.pats, zowe.client_certificates), (false, false));
            assert_eq!(zowe.verify, Verification::Strict);
            assert_eq!(zowe.token_lifetime.as_secs(), 28_800);
            assert_eq!(zowe.cookies.jwt(), "apimlAuthenticationToken");
            assert!(zowe.custom_headers.is_none() && zowe.strip_headers.is_empty());
        });
        assert_eq!((seen, problems), (Some(()), Vec::new()));

        let (_, problems) = read_text("", |_| ());
        let keys: Vec<_> = problems.iter().map(|p| p.split(": ").nth(1).unwrap()).collect();
        let pem = ["certificate", "key", "certificateAuthorities"];
        assert_eq!(keys, pem.map(|name| format!("zowe.certificate.pem.{name}")));
    }

    #[test]
    fn known_keys_are_read() {
        let text = format!(
            "{PEM}components:
  discovery: {{anything: goes}}
  gateway:
    port: 0
    unknown: ignored
    apiml:
      connection: {{timeout: 250}}
      security:
        personalAccessToken: {{enabled: true}}
        x509: {{enabled: 'true', registry: {{allowedUsers: USER}}}}
        ssl: {{any: [thing]}}
        auth:
          provider: saf
          passticket: {{customUserHeader: X-User, customAuthHeader: X-Ticket}}
          cookieProperties: {{cookieName: mine, cookieNamePAT: ''}}
          tokenProperties: {{expirationInSeconds: 60}}
"
        )
        .replacen("zowe: {", "zowe: {verifyCertificates: nonStrict, ", 1);
        let (seen, problems) = read_text(&text, |zowe| {
            assert_eq!((zowe.port, zowe.timeout.as_millis()), (0, 250));
            assert_eq!((zowe.pats, zowe.client_certificates), (true, true));
            assert_eq!(zowe.verify, Verification::NonStrict);
            assert_eq!(zowe.token_lifetime.as_secs(), 60);
            assert_eq!((zowe.cookies.jwt(), zowe.cookies.pat()), ("mine", "personalAccessToken"));
            assert_eq!(zowe.custom_headers.unwrap().ticket(), "x-ticket");
            assert_eq!(zowe.strip_headers, ["x-user", "x-ticket"]);
        });
        assert_eq!((seen, problems), (Some(()), Vec::new()));
    }

    #[test]
    fn at_tls_is_switched_on_for_all_or_for_the_gateway() {
        let tls = |value: &str| format!("network: {{server: {{tls: {{attls: {value}}}}}}}");
        for (all, gateway, want) in [
            ("", "", Encryption::Tls),
            ("true", "", Encryption::AtTls),
            ("", "true", Encryption::AtTls),
            ("true", "false", Encryption::Tls),
            ("false", "true", Encryption::AtTls),
            ("true", "''", Encryption::AtTls),
        ] {
            let mut text = PEM.to_owned();
            if !all.is_empty() {
                text = text.replacen("zowe: {", &format!("zowe: {{{}, ", tls(all)), 1);
            }
            if !gateway.is_empty() {
                text += &format!("components: {{gateway: {{zowe: {{{}}}}}}}\n", tls(gateway));
            }
            let (seen, problems) = read_text(&text, |zowe| {
                assert_eq!(zowe.attls.is_some(), want == Encryption::AtTls, "{text}");
                zowe.encryption
            });
            assert_eq!((seen, problems), (Some(want), Vec::new()), "{text}");
        }
        let text = PEM.replacen("zowe: {", &format!("zowe: {{{}, ", tls("perhaps")), 1);
        let (_, problems) = read_text(&text, |_| ());
        assert_eq!(
            problems,
            [
                "z:1: zowe.network.server.tls.attls: \"perhaps\" is neither true nor false; write one \
              of them"
            ]
        );
    }

    #[test]
    fn at_tls_keeps_client_certificates_to_itself() {
        let yaml = security("{x509: {enabled: true}}");
        let tls = "zowe: {network: {server: {tls: {attls: true}}}, ";
        let (seen, problems) =
            read_text(&yaml.replacen("zowe: {", tls, 1), |zowe| zowe.client_certificates);
        assert_eq!(seen, Some(false));
        assert_eq!(
            problems,
            ["z:2: components.gateway.apiml.security.x509.enabled: has no effect with AT-TLS: it \
              keeps the certificates of clients to itself; switch one of the two off"]
        );
    }

    #[test]
    fn one_custom_header_is_stripped_and_not_set() {
        let yaml = security("{auth: {passticket: {customAuthHeader: X-T, customUserHeader: ''}}}");
        let (seen, problems) =
            read_text(&yaml, |zowe| (zowe.custom_headers.is_none(), zowe.strip_headers));
        assert_eq!(seen.unwrap(), (true, vec![HeaderName::from_static("x-t")]));
        assert_eq!(
            problems,
            ["z:2: components.gateway.apiml.security.auth.passticket.customAuthHeader: has no \
              effect alone; write both customUserHeader and customAuthHeader, or none"]
        );
    }

    #[test]
    fn refresh_has_two_names() {
        for (yaml, want) in [
            ("{}", false),
            ("{allowTokenRefresh: true}", true),
            ("{allowtokenrefresh: true}", true),
            ("{allowtokenrefresh: false}", false),
        ] {
            let (seen, problems) = read_text(&security(yaml), |zowe| zowe.token_refresh);
            assert_eq!((seen, problems), (Some(want), Vec::new()), "{yaml}");
        }
    }

    #[test]
    fn delegation_has_four_spellings() {
        for (yaml, want) in [
            ("{delegatePassticket: true}", true),
            ("{delegatePassticket: {enabled: true}}", true),
            ("{delegatedPassticket: true}", true),
            ("{delegatedPassticket: {enabled: true}}", true),
            ("{delegatePassticket: false}", false),
            ("{delegatePassticket: {enabled: false}}", false),
            ("{delegatePassticket: {}}", false),
            ("{}", false),
        ] {
            let (on, problems) = read_text(&security(yaml), |zowe| zowe.delegation.is_some());
            assert_eq!((on, problems), (Some(want), Vec::new()), "{yaml}");
        }
    }

    #[test]
    fn whom_to_ask_is_read_as_zowe_reads_it() {
        let url = "https://gw:7554/zss";
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
            let yaml = security(&yaml.replace("URL", url));
            let (seen, problems) = read_text(&yaml, |zowe| {
                let user = zowe.identity_mapper.as_ref().map(|mapper| mapper.user.to_string());
                assert!(user.is_none_or(|user| user == "ME"));
                let certificates = zowe.certificate_mapper.is_some();
                (zowe.saf_endpoint.is_some(), certificates, zowe.identity_mapper.is_some())
            });
            assert_eq!(seen, Some((saf, certificates, identities)), "{yaml}");
            assert_eq!(problems, Vec::<String>::new(), "{yaml}");
        }
    }

    #[test]
    fn the_guarding_resources_have_two_names() {
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
            let (seen, problems) = read_text(&security(&yaml), |zowe| {
                zowe.guards.permission(GuardedTask::Revoke).to_string()
            });
            let want = format!("READ on {want}");
            assert_eq!((seen, problems), (Some(want), Vec::new()), "{yaml}");
        }
    }

    #[test]
    fn what_is_wrong_in_security_is_told() {
        let no_effect = "has no effect here yet";
        for (yaml, key, text) in [
            ("{oidc: {enabled: true}}", ".oidc.enabled", no_effect),
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
                "\"rest\" is unknown; write endpoint, or dummy for the file that \
                 passticketProxy.saf names",
            ),
            (
                "{authorization: {provider: Native}}",
                ".authorization.provider",
                "asks RACF itself in Zowe; here passticketProxy.saf says who may",
            ),
            (
                "{authorization: {provider: endpoint}}",
                ".authorization.endpoint.url",
                "is missing; write where the endpoint is, https://host:7554/zss/api/v1/saf-auth say",
            ),
            (
                "{x509: {externalMapperUrl: 'http://zss.example/map'}}",
                ".x509.externalMapperUrl",
                "is http, and whoever is between here and there could read the tokens of users; \
                 write https",
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
                "is \"FACILITY\", but the endpoint judges in class ZOWE alone; write ZOWE, or \
                 authorization.provider: dummy for the file that passticketProxy.saf names",
            ),
            (
                "{saf: {serviceResourceClass: A}, authorization: {resourceClass: B}}",
                ".saf.serviceResourceClass",
                "is \"A\", but components.gateway.apiml.security.authorization.resourceClass is \
                 \"B\"; they are two names of one setting: remove one of them",
            ),
            (
                "{saf: {serviceResourceNamePrefix: A.}, authorization: {resourceNamePrefix: B.}}",
                ".saf.serviceResourceNamePrefix",
                "is \"A.\", but \
                 components.gateway.apiml.security.authorization.resourceNamePrefix is \"B.\"; \
                 they are two names of one setting: remove one of them",
            ),
            (
                "{x509: {externalMapperUrl: zss}}",
                ".x509.externalMapperUrl",
                "\"zss\" is no address of a service; write https://host:port/path, without user, ? \
                 and #",
            ),
            ("{auth: {jwt: {customAuthHeader: X}}}", ".auth.jwt.customAuthHeader", no_effect),
            ("{auth: {uniqueCookie: true}}", ".auth.uniqueCookie", no_effect),
            ("{x509: {acceptForwardedCert: true}}", ".x509.acceptForwardedCert", no_effect),
            (
                "{personalAccesToken: {enabled: true}}",
                ".personalAccesToken",
                "is no key that can stand here; did you mean personalAccessToken?",
            ),
            (
                "{x509: {enable: true}}",
                ".x509.enable",
                "is no key that can stand here; did you mean enabled?",
            ),
            (
                "{auth: {zosmf: {x: 1}}}",
                ".auth.zosmf.x",
                "is no key that can stand here; known here: jwtAutoconfiguration, jwtEndpoint, \
                 serviceId",
            ),
            ("{x509: true}", ".x509", "must be a mapping; write keys with their values below it"),
            (
                "{auth: {cookieProperties: {cookieName: a=b}}}",
                ".auth.cookieProperties.cookieName",
                "\"a=b\" is no name of a cookie; write letters and digits",
            ),
            (
                "{auth: {passticket: {customAuthHeader: a b, customUserHeader: X}}}",
                ".auth.passticket.customAuthHeader",
                "\"a b\" is no name of a header; write one like X-User",
            ),
            (
                "{auth: {passticket: {customUserHeader: X, customAuthHeader: x}}}",
                ".auth.passticket.customAuthHeader",
                "is the same header as customUserHeader; write another one",
            ),
        ] {
            let (_, problems) = read_text(&security(yaml), |_| ());
            let want = format!("z:2: components.gateway.apiml.security{key}: {text}");
            assert_eq!(problems, [want], "{yaml}");
        }
        let off = security(
            "{oidc: {enabled: false}, allowTokenRefresh: false, delegatePassticket: false,
              auth: {jwt: {customAuthHeader: ''}, uniqueCookie: false}}",
        );
        assert_eq!(read_text(&off, |_| ()).1, Vec::<String>::new());
        let (_, problems) = read_text("zowe: {verifyCertificates: LAX}", |_| ());
        let want = "\"LAX\" is no way to verify certificates; write STRICT, NONSTRICT or DISABLED";
        assert!(problems.iter().any(|p| p.ends_with(want)), "{problems:?}");
    }
}
