//! Reads the settings of Zowe that this gateway supports (docs/reference/data-plane.md#zowe-yaml). The module
//! `apiml_security` reads the settings below `components.gateway.apiml.security`.
//!
//! The gateway of Zowe is the component `gateway`, or in newer installations a part of the component `apiml`. Settings
//! below `apiml.security` can also be in the component `zaas`, Zowe's authentication service. If several components
//! contain a setting, the value of the first of them is used, in the order `zaas`, `apiml`, `gateway`
//! (docs/decisions.md#d47). A component that is switched off comes last in this order.

use std::time::Duration;

use super::{
    apiml_security::{self, ApimlSecurity},
    cors::{self, ZoweCors},
    key_material::{self, AuthoritiesSource, IdentitySource},
    logins::{self, LoginKeys},
    own_origins,
    problem::{Place, quote},
    rate_limits::{self, ZoweRates},
    reader::{At, Field, Section},
    tls_policy, zowe_keys,
};
use tower_passticket::{
    layer::Origin,
    tls::{TlsPolicy, Verification},
};

/// The values of a zowe.yaml. The files that the zowe.yaml names are read later.
pub(super) struct Zowe<'a> {
    pub(super) identity: IdentitySource<'a>,
    pub(super) authorities: AuthoritiesSource<'a>,
    pub(super) verify: Verification,
    /// The place of `verifyCertificates`, if the setting is present.
    pub(super) verify_at: Option<At<'a>>,
    /// The place of `attls`, if its value is `true`. z/OS then terminates TLS in front of the gateway.
    pub(super) attls: Option<At<'a>>,
    /// The TLS versions, cipher suites and groups of the listener.
    pub(super) server_tls: TlsPolicy,
    /// The TLS versions, cipher suites and groups of connections to services and other servers.
    pub(super) client_tls: TlsPolicy,
    pub(super) port: u16,
    pub(super) port_at: Place,
    /// The address of `listenAddresses`. If this setting is absent, the address of `vipaIp`.
    pub(super) addresses: Option<Field<'a>>,
    /// The origins of the gateway. Empty if `externalDomains` is absent.
    pub(super) own_origins: Vec<Origin>,
    /// `apiml.service.corsEnabled` and `corsAllowedMethods`.
    pub(super) cors: ZoweCors,
    pub(super) rates: ZoweRates<'a>,
    /// `apiml.health.protected`. As in Zowe, the default is `true`.
    pub(super) health_protected: bool,
    /// The time limit for connecting to a service, and also for the service to begin its response.
    pub(super) timeout: Duration,
    pub(super) web_socket: WebSocketTimeouts,
    pub(super) security: ApimlSecurity<'a>,
    pub(super) logins: LoginKeys<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct WebSocketTimeouts {
    pub(super) connect: Duration,
    pub(super) idle: Duration,
    pub(super) write: Duration,
}

fn web_socket_timeouts(mut section: Section<'_>) -> WebSocketTimeouts {
    let mut millis = |name, default| {
        let number = section.optional(name).and_then(|f| f.number(1..=u64::from(u32::MAX)));
        Duration::from_millis(number.unwrap_or(default))
    };
    WebSocketTimeouts {
        connect: millis("connectTimeout", 45_000),
        idle: millis("maxIdleTimeout", 3_600_000),
        write: millis("asyncWriteTimeout", 60_000),
    }
}

/// Reads the settings. A wrong value is reported, and the default is used instead.
pub(super) fn read<'a>(root: &mut Section<'a>) -> Zowe<'a> {
    zowe_keys::check(root);
    let mut components = root.section("components");
    let (apiml, gateway) = (components.section("apiml"), components.section("gateway"));
    let mut gateway = precede(apiml, gateway);
    let mut zowe = gateway.section("zowe").over(root.section("zowe"));
    let certificate = gateway.section("certificate").over(zowe.section("certificate"));
    let (identity, authorities) = key_material::read(certificate);
    let mut network = zowe.section("network");
    let mut server = network.section("server");
    let (mut tls, mut client) = (server.section("tls"), network.section("client").section("tls"));
    let attls = tls.optional("attls").filter(Field::is_on).map(|field| field.at);
    let [server_tls, client_tls] = tls_policy::read(&mut tls, &mut client);
    let port = gateway.optional("port");
    let port_at = gateway.place_of("port", port.as_ref());
    let port = port.and_then(|f| f.number(0..=u64::from(u16::MAX)));
    // The conversion cannot fail: `number` accepts only the range of a u16.
    let port = port.and_then(|port| port.try_into().ok()).unwrap_or(7554);
    let own_origins = own_origins::read(&mut zowe, port);
    let mut apiml = gateway.section("apiml");
    let cors = cors::read_zowe(apiml.section("service"));
    let rates = rate_limits::read_zowe(&mut apiml);
    let health_protected = apiml.section("health").optional("protected");
    let health_protected = health_protected.and_then(|field| field.boolean()).unwrap_or(true);
    let timeout = apiml.section("connection").optional("timeout");
    let web_socket = web_socket_timeouts(gateway.section("server").section("webSocket"));
    let identifier = zowe.optional("cookieIdentifier");
    let mut zaas = components.section("zaas");
    let is_zaas_off = is_off(&mut zaas);
    let zaas = zaas.section("apiml").section("security");
    let mut security = match is_zaas_off {
        true => apiml.section("security").over(zaas),
        false => zaas.over(apiml.section("security")),
    };
    let logins = logins::read(&mut security, &mut client, root.section("zOSMF"));
    let security = apiml_security::read(security, attls.as_ref(), identifier.as_ref());
    let verify = zowe.optional("verifyCertificates");
    let verify_at = verify.as_ref().map(|field| field.at.clone());
    Zowe {
        identity,
        authorities,
        verify: verify.and_then(verification).unwrap_or_default(),
        verify_at,
        attls,
        server_tls,
        client_tls,
        port,
        port_at,
        addresses: addresses(&mut server),
        own_origins,
        cors,
        rates,
        health_protected,
        timeout: Duration::from_millis(
            timeout.and_then(|f| f.number(1..=u64::from(u32::MAX))).unwrap_or(60_000),
        ),
        web_socket,
        security,
        logins,
    }
}

/// Merges two sections. The settings of `component` have precedence over those of `other`. If `component` is switched
/// off, `other` has precedence: Zowe does not run a component that is switched off, so the settings of that component
/// have no effect in Zowe.
fn precede<'a>(mut component: Section<'a>, other: Section<'a>) -> Section<'a> {
    match is_off(&mut component) {
        true => other.over(component),
        false => component.over(other),
    }
}

fn is_off(component: &mut Section<'_>) -> bool {
    component.optional("enabled").is_some_and(|field| field.is_word("false"))
}

/// Returns the address on which the gateway listens. Several addresses are an error, because the gateway has only one
/// listener.
fn addresses<'a>(server: &mut Section<'a>) -> Option<Field<'a>> {
    let vipa = server.optional("vipaIp");
    let Some(field) = server.optional("listenAddresses") else { return vipa };
    let addresses = field.one_or_more();
    if let [_, second, ..] = &addresses[..] {
        second.at.error(
            "is a second address, but the gateway listens on one address only; write one address, or 0.0.0.0 for all",
        );
    }
    addresses.into_iter().next()
}

/// Reads `verifyCertificates`. Upper and lower case do not matter, as in Zowe's start script. The
/// script treats an unknown mode as `STRICT`, but this gateway reports an error
/// (docs/reference/data-plane.md#verify-certificates).
fn verification(field: Field<'_>) -> Option<Verification> {
    let verification = field.read(|text| match text.to_ascii_uppercase().as_str() {
        "STRICT" => Ok(Verification::Strict),
        "NONSTRICT" => Ok(Verification::NonStrict),
        "DISABLED" => Ok(Verification::Disabled),
        _ => Err(format!(
            "{} is not a verification mode; write STRICT, NONSTRICT or DISABLED",
            quote(text)
        )),
    });
    if verification == Some(Verification::Disabled) {
        field.at.warning(
            "turns off the verification of services, so anybody on the network path can receive \
             PassTickets; write STRICT or NONSTRICT",
        );
    }
    verification
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};

    const PEM: &str =
        "zowe: {certificate: {pem: {certificate: c, key: k, certificateAuthorities: a}}}\n";

    /// Reads `text` as a zowe.yaml. Returns two values: the result of `inspect` (`None` if there are errors), and the
    /// problems. The problems are the errors, or the warnings if there are no errors.
    fn read_text<T>(text: &str, inspect: impl FnOnce(Zowe<'_>) -> T) -> (Option<T>, Vec<String>) {
        let report = Report::default();
        let document = Document::parse("z".into(), text.as_bytes(), &report);
        let seen = inspect(read(&mut document.section(&report)));
        let (seen, problems) = match report.finish(Some(seen)) {
            Ok((seen, warnings)) => (Some(seen), warnings),
            Err(problems) => (None, problems.iter().cloned().collect()),
        };
        (seen, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn only_the_pem_files_are_required() {
        let (seen, problems) = read_text(PEM, |zowe| {
            assert_eq!((zowe.port, zowe.timeout.as_secs()), (7554, 60));
            assert_eq!((zowe.own_origins, zowe.cors.is_enabled), (Vec::new(), false));
            assert_eq!((zowe.security.pats, zowe.security.client_certificates), (false, false));
            assert_eq!(zowe.verify, Verification::Strict);
            assert_eq!(zowe.security.token_lifetime.as_secs(), 28_800);
            assert_eq!(zowe.security.cookies.jwt(), "apimlAuthenticationToken");
            assert!(
                zowe.security.custom_headers.is_none() && zowe.security.strip_headers.is_empty()
            );
        });
        assert_eq!((seen, problems), (Some(()), Vec::new()));

        let (_, problems) = read_text("", |_| ());
        let keys: Vec<_> = problems.iter().map(|p| p.split(": ").nth(1).unwrap()).collect();
        let pem = ["certificate", "key", "certificateAuthorities"];
        assert_eq!(keys, pem.map(|name| format!("zowe.certificate.pem.{name}")));
    }

    #[test]
    fn supported_keys_are_read_and_other_keys_cause_a_warning() {
        let text = format!(
            "{PEM}components:
  discovery: {{anything: goes}}
  gateway:
    port: 0
    unknown: ignored
    apiml:
      connection: {{timeout: 250}}
      service: {{corsEnabled: true, other: ignored}}
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
        .replacen(
            "zowe: {",
            "zowe: {verifyCertificates: nonStrict, externalDomains: zowe.example, externalPort: 443, ",
            1,
        );
        let (seen, problems) = read_text(&text, |zowe| {
            assert_eq!((zowe.port, zowe.timeout.as_millis()), (0, 250));
            assert!(zowe.cors.is_enabled);
            assert_eq!(zowe.own_origins, ["https://zowe.example".parse().unwrap()]);
            assert_eq!((zowe.security.pats, zowe.security.client_certificates), (true, true));
            assert_eq!(zowe.verify, Verification::NonStrict);
            assert_eq!(zowe.security.token_lifetime.as_secs(), 60);
            assert_eq!(
                (zowe.security.cookies.jwt(), zowe.security.cookies.pat()),
                ("mine", "personalAccessToken")
            );
            assert_eq!(zowe.security.custom_headers.unwrap().ticket(), "x-ticket");
            assert_eq!(zowe.security.strip_headers, ["x-user", "x-ticket"]);
        });
        assert_eq!(seen, Some(()));
        let keys: Vec<_> = problems.iter().map(|p| p.split(": ").nth(1).unwrap()).collect();
        let want = ["unknown", "apiml.service.other", "apiml.security.x509.registry.allowedUsers"];
        assert_eq!(keys, want.map(|key| format!("components.gateway.{key}")));
    }

    #[test]
    fn a_setting_is_read_from_zaas_then_from_apiml_then_from_gateway() {
        let component = |name: &str, value: &str| {
            format!(
                "  {name}: {{port: {value}, apiml: {{connection: {{timeout: {value}}}, security: {{auth: \
                 {{tokenProperties: {{expirationInSeconds: {value}}}}}}}}}}}\n"
            )
        };
        // Each case: the values in zaas, apiml and gateway, then the lifetime of a token, the timeout and the port. An
        // empty text is a blank value. The port and the timeout of zaas concern only Zowe's authentication service.
        for (values, want) in [
            (["1", "2", "3"], [1, 2, 2]),
            (["''", "2", "3"], [2, 2, 2]),
            (["1", "''", "3"], [1, 3, 3]),
            (["''", "''", "3"], [3, 3, 3]),
        ] {
            let components = ["zaas", "apiml", "gateway"].into_iter().zip(values);
            let components: String =
                components.map(|(name, value)| component(name, value)).collect();
            let (seen, problems) = read_text(&format!("{PEM}components:\n{components}"), |zowe| {
                let timeout = u64::try_from(zowe.timeout.as_millis()).unwrap();
                [zowe.security.token_lifetime.as_secs(), timeout, zowe.port.into()]
            });
            assert_eq!((seen, problems), (Some(want), Vec::new()), "{components}");
        }
    }

    #[test]
    fn a_component_that_is_switched_off_has_the_lowest_precedence() {
        let read = |zaas: &str, apiml: &str| {
            let seconds = |value| {
                format!(
                    "apiml: {{security: {{auth: {{tokenProperties: {{expirationInSeconds: {value}}}}}}}}}"
                )
            };
            let text = format!(
                "{PEM}components:\n  zaas: {{{zaas}, {}}}\n  apiml: {{{apiml}, port: 2, {}}}\n  gateway: {{enabled: \
                 false, port: 3, {}}}\n",
                seconds(1),
                seconds(2),
                seconds(3)
            );
            read_text(&text, |zowe| (zowe.security.token_lifetime.as_secs(), zowe.port))
        };
        let (on, off) = ("enabled: true", "enabled: false");
        for (zaas, apiml, want) in
            [(on, on, (1, 2)), (off, on, (2, 2)), (off, off, (3, 3)), (on, off, (1, 3))]
        {
            assert_eq!(read(zaas, apiml), (Some(want), Vec::new()), "{zaas} {apiml}");
        }
        // If only a component that is switched off contains a setting, the setting still applies.
        let text = format!("{PEM}components: {{apiml: {{enabled: false, port: 2}}}}\n");
        assert_eq!(read_text(&text, |zowe| zowe.port), (Some(2), Vec::new()));
    }

    #[test]
    fn keys_of_the_gateway_precede_those_of_zowe() {
        let text = format!(
            "{PEM}components: {{gateway: {{certificate: {{pem: {{certificate: c2}}}}, zowe: {{verifyCertificates: \
             NONSTRICT, certificate: {{pem: {{certificate: c3, key: k3}}}}, network: {{server: {{listenAddresses: \
             [192.0.2.1]}}}}}}}}}}\n"
        );
        let text = text.replacen(
            "zowe: {",
            "zowe: {verifyCertificates: STRICT, network: {server: {vipaIp: 192.0.2.2}}, ",
            1,
        );
        let (seen, problems) = read_text(&text, |zowe| {
            assert_eq!(zowe.verify, Verification::NonStrict);
            let IdentitySource::Pem { certificate, key } = zowe.identity else { panic!() };
            let AuthoritiesSource::Pem(authorities) = zowe.authorities else { panic!() };
            let fields = [certificate, key, authorities, zowe.addresses];
            fields.map(|field| field.unwrap().text().unwrap().to_owned())
        });
        let want = ["c2", "k3", "a", "192.0.2.1"].map(str::to_owned);
        assert_eq!((seen, problems), (Some(want), Vec::new()));
    }

    #[test]
    fn the_gateway_listens_on_one_address_of_zowe() {
        let read = |server: &str| {
            let text =
                PEM.replacen("zowe: {", &format!("zowe: {{network: {{server: {{{server}}}}}, "), 1);
            read_text(&text, |zowe| zowe.addresses.map(|field| field.text().unwrap().to_owned()))
        };
        for (server, want) in [
            ("", None),
            ("listenAddresses: []", None),
            ("listenAddresses: [192.0.2.1]", Some("192.0.2.1")),
            ("listenAddresses: 192.0.2.1", Some("192.0.2.1")),
            ("vipaIp: 192.0.2.2", Some("192.0.2.2")),
            ("vipaIp: 192.0.2.2, listenAddresses: [192.0.2.1]", Some("192.0.2.1")),
        ] {
            assert_eq!(read(server), (Some(want.map(str::to_owned)), Vec::new()), "{server}");
        }
        let (_, problems) = read("listenAddresses: [192.0.2.1, 192.0.2.2]");
        let want = "z:1: zowe.network.server.listenAddresses[1]: is a second address, but the gateway listens on \
                    one address only; write one address, or 0.0.0.0 for all";
        assert_eq!(problems, [want]);
    }

    #[test]
    fn a_unique_cookie_ends_with_the_identifier_of_zowe() {
        let read = |identifier: &str| {
            let text =
                PEM.replacen("zowe: {", &format!("zowe: {{cookieIdentifier: {identifier}, "), 1);
            let components =
                "components: {gateway: {apiml: {security: {auth: {uniqueCookie: true}}}}}\n";
            let name = |zowe: Zowe<'_>| zowe.security.cookies.jwt().to_owned();
            read_text(&format!("{text}{components}"), name)
        };
        assert_eq!(read("'1'"), (Some("apimlAuthenticationToken.1".to_owned()), Vec::new()));
        let want = "z:1: zowe.cookieIdentifier: \"a b\" cannot be a part of a cookie's name; write letters and digits";
        assert_eq!(read("a b"), (None, vec![want.to_owned()]));
    }

    #[test]
    fn attls_of_the_gateway_overrides_attls_of_zowe() {
        let tls = |value: &str| format!("network: {{server: {{tls: {{attls: {value}}}}}}}");
        // Each case has three values: `attls` for all of Zowe, `attls` for the gateway, and whether AT-TLS is on. An
        // empty text means that the setting is absent.
        for (global, gateway, want) in [
            ("", "", false),
            ("true", "", true),
            ("", "true", true),
            ("true", "false", false),
            ("false", "true", true),
            ("true", "''", true),
        ] {
            let mut text = PEM.to_owned();
            if !global.is_empty() {
                text = text.replacen("zowe: {", &format!("zowe: {{{}, ", tls(global)), 1);
            }
            if !gateway.is_empty() {
                text += &format!("components: {{gateway: {{zowe: {{{}}}}}}}\n", tls(gateway));
            }
            let (seen, problems) = read_text(&text, |zowe| zowe.attls.is_some());
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
    fn at_tls_switches_client_certificates_off() {
        let security = "{x509: {enabled: true}}";
        let yaml = format!("{PEM}components: {{gateway: {{apiml: {{security: {security}}}}}}}\n");
        let tls = "zowe: {network: {server: {tls: {attls: true}}}, ";
        let (seen, problems) =
            read_text(&yaml.replacen("zowe: {", tls, 1), |zowe| zowe.security.client_certificates);
        assert_eq!(seen, Some(false));
        assert_eq!(
            problems,
            ["z:2: components.gateway.apiml.security.x509.enabled: has no effect with AT-TLS, \
              which does not forward client certificates; set this setting or \
              zowe.network.server.tls.attls to false"]
        );
    }

    #[test]
    fn an_unknown_verification_mode_is_an_error() {
        let (_, problems) = read_text("zowe: {verifyCertificates: LAX}", |_| ());
        let want = "\"LAX\" is not a verification mode; write STRICT, NONSTRICT or DISABLED";
        assert!(problems.iter().any(|p| p.ends_with(want)), "{problems:?}");
    }
}
