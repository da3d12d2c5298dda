//! Checks the keys of a zowe.yaml that concern a gateway. Tables say what this gateway does with each key
//! (docs/decisions.md#d18). The page docs/reference/zowe-yaml-keys.md shows these tables.

use super::{
    key_effect::{
        Effect::{Detail, Elsewhere, Error, Honoured, Warning},
        Key,
        Values::{Any, Is, IsNot},
        key,
    },
    problem::suggest,
    reader::{Field, Section},
};

const OIDC: &str = "components.gateway.apiml.security.oidc.enabled";
const REGISTRY: &str = "components.gateway.apiml.gateway.registry.enabled";

/// The keys below `zowe`. They can also be below `components.gateway.zowe`, which has precedence.
const ZOWE: &[Key] = &[
    key(
        "certificate.keystore.alias",
        Honoured("alias of the key; needed if the key store has several keys"),
    ),
    key(
        "certificate.keystore.clientCertificateAlias",
        Warning(
            Any,
            "components.passticket-proxy.clientCertificate sets the certificate that the gateway presents to services",
        ),
    ),
    key(
        "certificate.keystore.file",
        Honoured(
            "PKCS12 file with the certificate chain and the key of the listener; the PEM files of \
             `zowe.certificate.pem` take precedence",
        ),
    ),
    key(
        "certificate.keystore.password",
        Honoured(
            "password of this file; `components.passticket-proxy.passwords.keystore` takes precedence",
        ),
    ),
    key(
        "certificate.keystore.type",
        Honoured(
            "`PKCS12`; for another type, the error names the command that exports its content",
        ),
    ),
    key("certificate.pem.certificate", Honoured("certificate chain of the listener")),
    key(
        "certificate.pem.certificateAuthorities",
        Honoured(
            "authorities of clients; without `components.passticket-proxy.serviceAuthorities`, also of services",
        ),
    ),
    key(
        "certificate.pem.clientCertificate",
        Warning(
            Any,
            "components.passticket-proxy.clientCertificate sets the certificate that the gateway presents to services",
        ),
    ),
    key("certificate.pem.clientKey", Detail("zowe.certificate.pem.clientCertificate")),
    key("certificate.pem.key", Honoured("private key of the listener")),
    key(
        "certificate.truststore.file",
        Honoured(
            "PKCS12 file with the authorities of clients and services; `zowe.certificate.pem.certificateAuthorities` \
             takes precedence",
        ),
    ),
    key(
        "certificate.truststore.password",
        Honoured(
            "password of this file; `components.passticket-proxy.passwords.truststore` takes precedence",
        ),
    ),
    key("certificate.truststore.type", Honoured("like `keystore.type`")),
    key("configmgr", Elsewhere("Zowe's tools")),
    key("cookieIdentifier", Honoured("end of the cookie's name, if `auth.uniqueCookie` is true")),
    key("environments", Warning(Any, "environment variables from the zowe.yaml are not set")),
    key("extensionDirectory", Elsewhere("Zowe's extensions")),
    key("extensionRegistry", Elsewhere("Zowe's extensions")),
    key("externalDomains", Honoured("hosts of the gateway for browsers")),
    key("externalPort", Honoured("port of the gateway for browsers")),
    key("job", Elsewhere("Zowe's started task")),
    key("launchScript", Elsewhere("Zowe's launcher")),
    key("launcher", Elsewhere("Zowe's launcher")),
    key("logDirectory", Elsewhere("the gateway logs to standard error")),
    key(
        "network.allowedDomains",
        Elsewhere(
            "limits where services of API ML register themselves; the gateway asks only configured services",
        ),
    ),
    key(
        "network.client.tls.attls",
        Warning(
            Is("true"),
            "the gateway encrypts its connections to services itself; only z/OSMF and ZSS may be called with http",
        ),
    ),
    key(
        "network.client.tls.ciphers",
        Honoured("cipher suites towards services; without it those of the listener"),
    ),
    key("network.client.tls.curves", Honoured("key exchange groups towards services")),
    key("network.client.tls.maxTls", Honoured("highest TLS version towards services")),
    key("network.client.tls.minTls", Honoured("lowest TLS version towards services")),
    key("network.server.listenAddresses", Honoured("exactly one address; more are an error")),
    key("network.server.tls.attls", Honoured("plain HTTP behind AT-TLS")),
    key("network.server.tls.ciphers", Honoured("cipher suites of the listener")),
    key("network.server.tls.curves", Honoured("key exchange groups of the listener")),
    key("network.server.tls.maxTls", Honoured("highest TLS version of the listener")),
    key(
        "network.server.tls.minTls",
        Honoured("lowest TLS version of the listener; without it TLS 1.2"),
    ),
    key("network.server.validatePortFree", Elsewhere("Zowe's launcher")),
    key("network.server.vipaIp", Honoured("like `listenAddresses` with one address")),
    key("rbacProfileIdentifier", Elsewhere("Zowe's desktop")),
    key("runtimeDirectory", Elsewhere("Zowe's programs")),
    key("setup", Elsewhere("Zowe's installation")),
    key("sysMessages", Warning(Any, "messages are not written to the system log")),
    key("useConfigmgr", Elsewhere("Zowe's tools")),
    key("verifyCertificates", Honoured("verification of services")),
    key("workspaceDirectory", Elsewhere("Zowe's programs")),
];

/// The keys below `components.gateway` and below `components.apiml`. The keys that begin with `apiml.security` can also
/// be below `components.zaas`.
const GATEWAY: &[Key] = &[
    key("apiml.cache", Elsewhere("Zowe's Caching Service")),
    key("apiml.catalog", Elsewhere("Zowe's API Catalog")),
    key("apiml.connection.idleConnectionTimeoutSeconds", Elsewhere("API ML's own calls")),
    key("apiml.connection.timeToLive", Elsewhere("API ML's own calls")),
    key(
        "apiml.connection.timeout",
        Honoured("time to connect to a service, and for the head of its answer"),
    ),
    key("apiml.discovery", Elsewhere("Zowe's Discovery Service")),
    key(
        "apiml.gateway.cookieNameForRateLimit",
        Elsewhere("the rate limit counts users and addresses, not cookies"),
    ),
    key(
        "apiml.gateway.rateLimiterCapacity",
        Honoured("requests that a client may send immediately one after the other; default 20"),
    ),
    key("apiml.gateway.rateLimiterRefillDuration", Honoured("minutes; default 1")),
    key(
        "apiml.gateway.rateLimiterTokens",
        Honoured("requests in this number of minutes; default 20"),
    ),
    key("apiml.gateway.registry.cachePeriodSec", Detail(REGISTRY)),
    key("apiml.gateway.registry.enabled", Warning(Is("true"), "`/gateway/api/v1/registry` is 404")),
    key("apiml.gateway.registry.maxSimultaneousRequests", Detail(REGISTRY)),
    key("apiml.gateway.registry.metadataKeyAllowList", Detail(REGISTRY)),
    key("apiml.gateway.registry.refreshIntervalMs", Detail(REGISTRY)),
    key(
        "apiml.gateway.routing.rateLimiterCapacity",
        Honoured("like `apiml.gateway.rateLimiterCapacity`"),
    ),
    key(
        "apiml.gateway.routing.rateLimiterRefillDuration",
        Honoured("like `apiml.gateway.rateLimiterRefillDuration`"),
    ),
    key(
        "apiml.gateway.routing.rateLimiterTokens",
        Honoured("like `apiml.gateway.rateLimiterTokens`"),
    ),
    key(
        "apiml.gateway.routing.servicesToLimitRequestRate",
        Honoured("like `apiml.gateway.servicesToLimitRequestRate`"),
    ),
    key(
        "apiml.gateway.servicesToDisableRetry",
        Warning(Any, "the gateway may send an idempotent request to a service twice"),
    ),
    key(
        "apiml.gateway.servicesToLimitRequestRate",
        Honoured("services with a [rate limit](../operating/limits.md#rate), separated by commas"),
    ),
    key(
        "apiml.health.protected",
        Honoured(
            "with `compatibility: zowe-v3`, `/application/health` needs a credential; in the other \
             profile, its answer is only a status",
        ),
    ),
    key(
        "apiml.loadBalancer",
        Warning(Any, "this key does not change how requests are distributed over instances"),
    ),
    key("apiml.routing.ignoredServices", Warning(Any, "each configured service has its routes")),
    key("apiml.routing.instanceIdHeader", Warning(Is("true"), "answers have no `X-InstanceId`")),
    key(
        "apiml.routing.servicesToLimitRequestRate",
        Honoured("like `apiml.gateway.servicesToLimitRequestRate`"),
    ),
    key("apiml.security.allowTokenRefresh", Honoured("exchange of a login token for a new one")),
    key("apiml.security.allowtokenrefresh", Honoured("like `allowTokenRefresh`")),
    key(
        "apiml.security.auth.cookieProperties.cookieComment",
        Warning(Any, "the cookie has no comment"),
    ),
    key(
        "apiml.security.auth.cookieProperties.cookieMaxAge",
        Warning(Any, "the cookie has no `Max-Age`, so it lasts as long as the browser runs"),
    ),
    key(
        "apiml.security.auth.cookieProperties.cookieName",
        Honoured("name of the cookie with the login token"),
    ),
    key(
        "apiml.security.auth.cookieProperties.cookieNamePAT",
        Honoured("name of the cookie with a Personal Access Token"),
    ),
    key(
        "apiml.security.auth.cookieProperties.cookiePath",
        Warning(IsNot("/"), "the path of the cookie is /"),
    ),
    key(
        "apiml.security.auth.cookieProperties.cookieSameSite",
        Warning(IsNot("strict"), "the cookie has `SameSite=Strict`"),
    ),
    key(
        "apiml.security.auth.cookieProperties.cookieSecure",
        Warning(IsNot("true"), "the cookie has `Secure`"),
    ),
    key(
        "apiml.security.auth.jwt.customAuthHeader",
        Honoured("one more header with the token, for the scheme `zoweJwt`"),
    ),
    key(
        "apiml.security.auth.passticket.customAuthHeader",
        Honoured("one more header with the PassTicket"),
    ),
    key(
        "apiml.security.auth.passticket.customUserHeader",
        Honoured("one more header with the user id"),
    ),
    key(
        "apiml.security.auth.provider",
        Honoured(
            "server that checks passwords: `zosmf`, or `saf` with `components.passticket-proxy.zss.url`",
        ),
    ),
    key(
        "apiml.security.auth.tokenProperties.expirationInSeconds",
        Honoured("validity of a login token"),
    ),
    key(
        "apiml.security.auth.tokenProperties.issuer",
        Warning(IsNot("APIML"), "the issuer of login tokens is APIML"),
    ),
    key(
        "apiml.security.auth.tokenProperties.shortTtlExpirationInSeconds",
        Detail("components.gateway.apiml.security.auth.tokenProperties.shortTtlUsername"),
    ),
    key(
        "apiml.security.auth.tokenProperties.shortTtlUsername",
        Warning(Any, "tokens of this user are valid as long as tokens of other users"),
    ),
    key(
        "apiml.security.auth.uniqueCookie",
        Honoured("the name of the login cookie ends with `zowe.cookieIdentifier`"),
    ),
    key(
        "apiml.security.auth.zosmf.jwtAutoconfiguration",
        Elsewhere("the gateway keeps any kind of token that z/OSMF issues"),
    ),
    key(
        "apiml.security.auth.zosmf.jwtEndpoint",
        Elsewhere("the gateway fetches the keys of z/OSMF from `/jwt/ibm/api/zOSMFBuilder/jwk`"),
    ),
    key(
        "apiml.security.auth.zosmf.serviceId",
        Elsewhere("the gateway finds z/OSMF by `zOSMF.host`"),
    ),
    key(
        "apiml.security.authorization.endpoint.enabled",
        Honoured("permissions are checked by the endpoint"),
    ),
    key("apiml.security.authorization.endpoint.url", Honoured("address of the endpoint")),
    key(
        "apiml.security.authorization.provider",
        Honoured(
            "`endpoint`, or the file of `components.passticket-proxy.saf`; `native` causes a warning",
        ),
    ),
    key(
        "apiml.security.authorization.resourceClass",
        Honoured("class of the resources that guard the auth API"),
    ),
    key(
        "apiml.security.authorization.resourceNamePrefix",
        Honoured("prefix of the names of these resources"),
    ),
    key("apiml.security.delegatePassticket", Honoured("delegated PassTickets")),
    key("apiml.security.delegatedPassticket", Honoured("like `delegatePassticket`")),
    key(
        "apiml.security.enableStrictUrlValidation",
        Warning(
            Is("true"),
            "encoded slashes, backslashes and semicolons in paths are forwarded; services must check them",
        ),
    ),
    key(
        "apiml.security.forwardHeader.trustedProxies",
        Honoured("proxies whose `X-Forwarded-For` is trusted"),
    ),
    key("apiml.security.headersToBeCleared", Honoured("headers that are removed from requests")),
    key("apiml.security.jwtInitializerTimeout", Elsewhere("API ML's start")),
    key(
        "apiml.security.nonStrictVerifySslCertificatesOfServices",
        Detail("zowe.verifyCertificates"),
    ),
    key("apiml.security.oidc.clientId", Detail(OIDC)),
    key("apiml.security.oidc.clientSecret", Detail(OIDC)),
    key("apiml.security.oidc.cookie", Detail(OIDC)),
    key(
        "apiml.security.oidc.enabled",
        Warning(
            Is("true"),
            "only tokens of the providers in `components.passticket-proxy.oidc` are accepted",
        ),
    ),
    key(
        "apiml.security.oidc.identityMapperUrl",
        Honoured("server that maps e-mail addresses to user ids"),
    ),
    key(
        "apiml.security.oidc.identityMapperUser",
        Honoured("user id of the gateway in requests to this server"),
    ),
    key("apiml.security.oidc.jwks", Detail(OIDC)),
    key("apiml.security.oidc.registry", Honoured("registry of the e-mail addresses")),
    key("apiml.security.oidc.userIdField", Detail(OIDC)),
    key("apiml.security.oidc.userInfo", Detail(OIDC)),
    key("apiml.security.oidc.validationType", Detail(OIDC)),
    key("apiml.security.personalAccessToken.enabled", Honoured("Personal Access Tokens")),
    key("apiml.security.rauditx", Detail(OIDC)),
    key(
        "apiml.security.saf.provider",
        Elsewhere("the gateway always asks ZSS for SAF identity tokens"),
    ),
    key("apiml.security.saf.serviceResourceClass", Honoured("like `authorization.resourceClass`")),
    key(
        "apiml.security.saf.serviceResourceNamePrefix",
        Honoured("like `authorization.resourceNamePrefix`"),
    ),
    key(
        "apiml.security.saf.urls.authenticate",
        Honoured("endpoint that makes SAF identity tokens, for the scheme `safIdt`"),
    ),
    key("apiml.security.saf.urls.verify", Elsewhere("the gateway verifies no SAF identity tokens")),
    key("apiml.security.ssl", Detail("zowe.verifyCertificates")),
    key(
        "apiml.security.useInternalMapper",
        Honoured(
            "certificates are mapped as `components.passticket-proxy.certificateMapping` says",
        ),
    ),
    key("apiml.security.verifySslCertificatesOfServices", Detail("zowe.verifyCertificates")),
    key("apiml.security.webfinger", Warning(Any, "`/gateway/api/v1/auth/oidc/webfinger` is 404")),
    key(
        "apiml.security.x509.acceptForwardedCert",
        Honoured("certificates in the header `Client-Cert`, from trusted forwarders"),
    ),
    key(
        "apiml.security.x509.certificatesUrl",
        Honoured("list of the certificates of trusted forwarders"),
    ),
    key("apiml.security.x509.certificatesUrls", Honoured("several such lists")),
    key("apiml.security.x509.enabled", Honoured("client certificates")),
    key(
        "apiml.security.x509.externalMapperUrl",
        Honoured("server that maps certificates to user ids"),
    ),
    key(
        "apiml.security.x509.externalMapperUser",
        Honoured("user id of the gateway in requests to this server"),
    ),
    key(
        "apiml.security.x509.registry.allowedUsers",
        Warning(Any, "no user can read `/gateway/api/v1/registry`, which is 404"),
    ),
    key("apiml.security.zosmf.applid", Detail("zOSMF.applId")),
    key(
        "apiml.service.additionalRegistration",
        Warning(Any, "the gateway registers at no Discovery Service"),
    ),
    key(
        "apiml.service.allowEncodedSlashes",
        Error(
            Is("false"),
            "forbids encoded slashes, which this gateway would forward; set it to true if the services may get them",
        ),
    ),
    key(
        "apiml.service.corsAllowedMethods",
        Honoured("methods for web pages of other origins, unless a service has its own list"),
    ),
    key(
        "apiml.service.corsEnabled",
        Honoured(
            "web pages of other origins may use the services that list these origins, see \
             [CORS](../operating/cors.md)",
        ),
    ),
    key(
        "apiml.service.forwardClientCertEnabled",
        Warning(Is("true"), "client certificates are not forwarded in `Client-Cert`"),
    ),
    key(
        "apiml.service.ignoredHeadersWhenCorsEnabled",
        Warning(Any, "`Origin` and `Access-Control-*` are removed unless a service keeps them"),
    ),
    key("apimlId", Warning(Any, "requests with this id in the path find no route")),
    key("certificate", Honoured("like `zowe.certificate`, and takes precedence over it")),
    key(
        "debug",
        Elsewhere(
            "`components.passticket-proxy.logLevel`, or the environment variable `RUST_LOG`, sets the log level",
        ),
    ),
    key("enabled", Elsewhere("Zowe's launcher")),
    key("heap", Elsewhere("Java")),
    key("launcher", Elsewhere("Zowe's launcher")),
    key("logging", Elsewhere("Java")),
    key("port", Honoured("port of the listener")),
    key("server.maxConnectionsPerRoute", Elsewhere("API ML's own calls")),
    key("server.maxTotalConnections", Elsewhere("API ML's own calls")),
    key(
        "server.ssl.enabled",
        Warning(Is("false"), "the gateway serves HTTPS; plain HTTP is possible only behind AT-TLS"),
    ),
    key(
        "server.webSocket.asyncWriteTimeout",
        Honoured("longest time in which one end of a WebSocket takes no bytes; milliseconds"),
    ),
    key(
        "server.webSocket.connectTimeout",
        Honoured("longest time until a service answers a WebSocket handshake; milliseconds"),
    ),
    key(
        "server.webSocket.maxIdleTimeout",
        Honoured("longest time without a byte on a WebSocket; milliseconds"),
    ),
    key(
        "server.webSocket.requestBufferSize",
        Elsewhere("API ML's buffer; the gateway keeps at most 16 KiB per direction"),
    ),
    key("spring.profiles", Elsewhere("Java")),
    key("spring.security", Warning(Any, "there is no login page of an OIDC provider")),
    key("sslDebug", Elsewhere("Java")),
    key("storage", Elsewhere("Zowe's Caching Service")),
    key("telemetry", Warning(Any, "no traces are sent to OpenTelemetry")),
    key("zowe", Honoured("like `zowe`, and takes precedence over it")),
];

const TOP: &[Key] = &[
    key("components", Honoured("see below")),
    key("haInstances", Warning(Any, "settings of single instances of Zowe are not read")),
    key("java", Elsewhere("Java")),
    key("node", Elsewhere("Node.js")),
    key("passticketProxy", Honoured("old place of `components.passticket-proxy`")),
    key("zOSMF.applId", Honoured("APPLID of z/OSMF, for the PassTickets of the scheme `zosmf`")),
    key("zOSMF.host", Honoured("host of z/OSMF, which checks passwords; see `auth.provider`")),
    key("zOSMF.port", Honoured("port of z/OSMF; without it 443")),
    key("zOSMF.scheme", Honoured("`https`; `http` only for localhost, or with AT-TLS")),
    key("zowe", Honoured("see below")),
];

/// Checks all keys of a zowe.yaml that concern a gateway.
pub(super) fn check(root: &Section<'_>) {
    check_table(TOP, "", root);
    for (name, field) in root.fields() {
        match name {
            "zowe" => check_table(ZOWE, "", &field.section()),
            "components" => {
                for (name, component) in field.section().fields() {
                    check_component(name, &component);
                }
            }
            _ => {}
        }
    }
}

/// Checks the keys of a component. In the component `zaas`, only the keys below `apiml.security` concern a gateway.
/// Components other than `gateway`, `apiml` and `zaas` are other programs.
fn check_component(name: &str, component: &Field<'_>) {
    if !matches!(name, "gateway" | "apiml" | "zaas") || component.is_blank() {
        return;
    }
    let mut section = component.section();
    if name == "zaas" {
        check_table(GATEWAY, "apiml.security.", &section.section("apiml").section("security"));
        return;
    }
    check_table(GATEWAY, "", &section);
    check_table(ZOWE, "", &section.section("zowe"));
    check_table(ZOWE, "certificate.", &section.section("certificate"));
}

/// Checks the keys of `section`. `prefix` is its path in the table, with a dot at the end, or empty.
fn check_table(table: &[Key], prefix: &str, section: &Section<'_>) {
    for (name, field) in section.fields() {
        let path = format!("{prefix}{name}");
        if let Some(key) = table.iter().find(|key| key.path == path) {
            key.report(&field);
            continue;
        }
        let deeper = format!("{path}.");
        if table.iter().any(|key| key.path.starts_with(&deeper)) {
            if !field.is_blank() {
                check_table(table, &deeper, &field.section());
            }
        } else {
            let known = table.iter().filter_map(|key| key.path.strip_prefix(prefix));
            let known = known.map(|rest| rest.split('.').next().unwrap_or(rest));
            field.at.warning(format_args!(
                "is not known here, so it has no effect; it may be a key of a newer Zowe{}",
                suggest(name, known)
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{key_effect::rows, own_section, problem::Report, reader::Document, zowe};

    /// The sections and their keys, in the order of the page.
    const TABLES: [(&str, &[Key]); 3] =
        [("", TOP), ("zowe", ZOWE), ("components.gateway", GATEWAY)];

    const PAGE: &str = include_str!("../../../../docs/reference/zowe-yaml-keys.md");

    #[test]
    fn the_page_shows_the_tables() {
        let shown: String =
            PAGE.lines().filter(|line| line.starts_with("| `")).map(|l| format!("{l}\n")).collect();
        let want: String = TABLES.iter().map(|(_, table)| rows(table)).collect();
        assert!(shown == want, "write these rows to the page:\n{want}");
    }

    #[test]
    fn the_tables_are_sorted_and_details_name_keys_of_the_tables() {
        for (section, table) in TABLES {
            assert!(table.is_sorted_by(|a, b| a.path < b.path), "{section}");
        }
        let all = all();
        for (_, key) in &all {
            if let Detail(other) = key.effect {
                assert!(all.iter().any(|(path, _)| path == other), "{other}");
            }
        }
    }

    fn all() -> Vec<(String, &'static Key)> {
        let paths = |(section, table): (&str, &'static [Key])| {
            let path =
                |key: &Key| format!("{section}.{}", key.path).trim_start_matches('.').to_owned();
            table.iter().map(|key| (path(key), key)).collect::<Vec<_>>()
        };
        TABLES.into_iter().flat_map(paths).collect()
    }

    fn yaml(path: &str, value: &str) -> String {
        let (open, close) = (path.replace('.', ": {"), "}".repeat(path.matches('.').count()));
        format!("{open}: {value}{close}")
    }

    fn problems(yaml: &str) -> [Vec<String>; 2] {
        let report = Report::default();
        let document = Document::parse("z".into(), yaml.as_bytes(), &report);
        check(&document.section(&report));
        let texts = |problems: &[crate::config::Problem]| {
            problems.iter().map(ToString::to_string).collect()
        };
        match report.finish(Some(())) {
            Ok(((), warnings)) => [Vec::new(), texts(&warnings)],
            Err(errors) => [errors.iter().map(ToString::to_string).collect(), Vec::new()],
        }
    }

    /// Tests each key with a value that causes a message, and with a value that does not.
    #[test]
    fn each_key_causes_the_message_of_its_row() {
        for (path, key) in all() {
            let with = |value: &str| problems(&yaml(&path, value));
            let none = [Vec::<String>::new(), Vec::new()];
            let (values, index, text) = match key.effect {
                Warning(values, missing) => {
                    (values, 1, format!("is not supported: {}", missing.replace('`', "")))
                }
                Error(values, text) => (values, 0, text.to_owned()),
                _ => {
                    assert_eq!(with("{}"), none, "{path}");
                    continue;
                }
            };
            let (bad, good) = match values {
                Any => ("x", "''"),
                Is(value) => (value, "something"),
                IsNot(value) => ("something", value),
            };
            let want = vec![format!("z:1: {path}: {text}")];
            assert_eq!(with(bad)[index], want, "{path}");
            assert_eq!(with("'${{ f() }}'")[index], want, "{path}");
            assert_eq!(with(good), none, "{path}");
            assert_eq!(with("''"), none, "{path}");
        }
    }

    #[test]
    fn the_keys_that_are_read_are_exactly_the_honoured_keys() {
        let report = Report::default();
        let document = Document::parse("z".into(), b"{}", &report);
        let mut root = document.section(&report);
        zowe::read(&mut root);
        own_section::find(&mut root);
        let read = report.keys();
        let keys: Vec<_> = all().into_iter().map(|(path, key)| (path, key.effect)).collect();
        for (path, effect) in &keys {
            if matches!(effect, Honoured(_)) {
                assert!(read.contains(path), "{path} is not read");
            }
        }
        // The components `zaas` and `apiml` have the keys of the gateway. `components.passticket-proxy` has its own
        // reference.
        let others = ["components.zaas", "components.apiml", "components.passticket-proxy"];
        for path in read.iter().filter(|path| !others.iter().any(|other| path.starts_with(other))) {
            let deeper = format!("{path}.");
            let row = keys.iter().find(|(key, _)| key == path);
            let known = match row {
                Some((_, effect)) => matches!(effect, Honoured(_) | Warning(Is(_), _)),
                None => keys.iter().any(|(key, _)| key.starts_with(&deeper)),
            };
            assert!(known, "{path} is read, but its row does not say so");
        }
    }

    #[test]
    fn the_components_have_the_keys_of_the_gateway_and_of_zowe() {
        let warned = |path: &str| {
            let [errors, warnings] = problems(&yaml(path, "true"));
            assert_eq!(errors, [""; 0], "{path}");
            !warnings.is_empty()
        };
        for (path, want) in [
            ("components.gateway.apiml.security.oidc.enabled", true),
            ("components.apiml.apiml.security.oidc.enabled", true),
            ("components.zaas.apiml.security.oidc.enabled", true),
            ("components.gateway.apiml.service.forwardClientCertEnabled", true),
            ("components.apiml.apiml.service.forwardClientCertEnabled", true),
            // Zowe's authentication service has no such key.
            ("components.zaas.apiml.service.forwardClientCertEnabled", false),
            ("components.gateway.zowe.network.client.tls.attls", true),
            ("components.gateway.certificate.pem.clientCertificate", true),
            ("components.discovery.apiml.security.oidc.enabled", false),
            ("components.gateway.server.maxConnectionsPerRoute", false),
            ("components.gateway.apiml.security.enableStrictUrlValidation", true),
        ] {
            assert_eq!(warned(path), want, "{path}");
        }
    }

    #[test]
    fn keys_of_newer_releases_cause_a_warning() {
        let new = "is not known here, so it has no effect; it may be a key of a newer Zowe";
        for (path, hint) in [
            (
                "zowe.network.server.tls.newKey",
                "; known here: attls, ciphers, curves, maxTls, minTls",
            ),
            ("zowe.verifyCertificate", "; did you mean verifyCertificates?"),
            ("components.gateway.apiml.security.x509.enable", "; did you mean enabled?"),
            (
                "components.zaas.apiml.security.personalAccesToken",
                "; did you mean personalAccessToken?",
            ),
            ("zwoe", "; did you mean zowe?"),
        ] {
            let want = vec![format!("z:1: {path}: {new}{hint}")];
            assert_eq!(problems(&yaml(path, "x")), [Vec::new(), want], "{path}");
        }
    }
}
