//! Checks that the keys of `components.gateway.apiml.security` are known.

use super::reader::{Section, unknown_key};

/// The paths of all keys that Zowe has in this section (docs/reference/data-plane.md#zowe-yaml). A path such as `ssl`
/// also stands for all keys below it, if the list contains no longer path that begins with it.
const SECURITY: &[&str] = &[
    "allowTokenRefresh",
    "allowtokenrefresh",
    "auth.cookieProperties.cookieComment",
    "auth.cookieProperties.cookieMaxAge",
    "auth.cookieProperties.cookieName",
    "auth.cookieProperties.cookieNamePAT",
    "auth.cookieProperties.cookiePath",
    "auth.cookieProperties.cookieSameSite",
    "auth.cookieProperties.cookieSecure",
    "auth.jwt.customAuthHeader",
    "auth.passticket.customAuthHeader",
    "auth.passticket.customUserHeader",
    "auth.provider",
    "auth.tokenProperties.expirationInSeconds",
    "auth.tokenProperties.issuer",
    "auth.tokenProperties.shortTtlExpirationInSeconds",
    "auth.tokenProperties.shortTtlUsername",
    "auth.uniqueCookie",
    "auth.zosmf.jwtAutoconfiguration",
    "auth.zosmf.jwtEndpoint",
    "auth.zosmf.serviceId",
    "authorization.endpoint.enabled",
    "authorization.endpoint.url",
    "authorization.provider",
    "authorization.resourceClass",
    "authorization.resourceNamePrefix",
    "delegatePassticket",
    "delegatePassticket.enabled",
    "delegatedPassticket",
    "delegatedPassticket.enabled",
    "forwardHeader.trustedProxies",
    "headersToBeCleared",
    "nonStrictVerifySslCertificatesOfServices",
    "oidc.clientId",
    "oidc.clientSecret",
    "oidc.enabled",
    "oidc.identityMapperUrl",
    "oidc.identityMapperUser",
    "oidc.jwks.refreshInternalHours",
    "oidc.jwks.uri",
    "oidc.registry",
    "oidc.userInfo.uri",
    "oidc.validationType",
    "personalAccessToken.enabled",
    "saf.provider",
    "saf.serviceResourceClass",
    "saf.serviceResourceNamePrefix",
    "saf.urls.authenticate",
    "saf.urls.verify",
    "ssl",
    "useInternalMapper",
    "verifySslCertificatesOfServices",
    "webfinger",
    "x509.acceptForwardedCert",
    "x509.certificatesUrl",
    "x509.certificatesUrls",
    "x509.enabled",
    "x509.externalMapperUrl",
    "x509.externalMapperUser",
    "x509.registry.allowedUsers",
    "zosmf.applid",
];

/// Keys that turn on a feature of Zowe that this gateway does not have.
const SWITCHES: &[&str] = &["auth.uniqueCookie", "oidc.enabled", "x509.acceptForwardedCert"];

/// Keys with a setting of a feature of Zowe that this gateway does not have.
const SETTINGS: &[&str] = &["auth.jwt.customAuthHeader"];

/// Reports unknown keys. Warns of keys in [`SWITCHES`] that are on, and of keys in [`SETTINGS`] that have a value.
/// `prefix` is the path of `section` with a dot at the end. For the whole section `components.gateway.apiml.security`,
/// `prefix` is empty.
pub(super) fn check(prefix: &str, section: &Section<'_>) {
    let known: Vec<&str> = SECURITY.iter().filter_map(|path| path.strip_prefix(prefix)).collect();
    for (key, field) in section.fields() {
        let path = format!("{prefix}{key}");
        let switched_on = SWITCHES.contains(&path.as_str()) && field.is_true();
        if switched_on || SETTINGS.contains(&path.as_str()) && !field.is_blank() {
            field.at.warning("has an effect in Zowe, but not in this gateway yet");
        }
        let has_subkeys = known
            .iter()
            .any(|rest| rest.strip_prefix(key).is_some_and(|deeper| deeper.starts_with('.')));
        let is_known = known.contains(&key);
        if has_subkeys && (field.is_mapping() || !is_known) {
            check(&format!("{path}."), &field.section());
        } else if !is_known {
            let names = known.iter().filter_map(|rest| rest.split('.').next());
            unknown_key(key, &field.at, names);
        }
    }
}
