//! Finds the servers and settings that schemes of services need. `zosmf` needs z/OSMF, and `safIdt` needs ZSS.
//! `zoweJwt` can have an additional header. z/OSMF is IBM's management server on z/OS, and ZSS is a server of Zowe on
//! z/OS.

use http::HeaderName;
use tower_passticket::remote::Address;

use super::{
    apiml_security::ApimlSecurity,
    configured_route::{ConfiguredRoute, ServiceScheme},
    logins::{ZosmfPeer, ZssUrl},
    passticket_proxy::PassticketProxy,
    settings::{Logins, ZosmfSettings},
    zowe::Zowe,
};

/// The servers and settings that schemes need.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SchemePeers {
    /// z/OSMF. Present if a route has the scheme `zosmf`, or if `components.passticket-proxy.zaas` is on and the
    /// configuration names z/OSMF.
    pub zosmf: Option<ZosmfSettings>,
    /// The endpoint of ZSS that makes SAF identity tokens: `components.gateway.apiml.security.saf.urls.authenticate`,
    /// or `components.passticket-proxy.zss.url` with the path `/saf/authenticate`. Present if a route has the scheme
    /// `safIdt`, or if `components.passticket-proxy.zaas` is on and the configuration names the endpoint.
    pub saf_tokens: Option<Address>,
    /// The name of an additional header in which the scheme `zoweJwt` sends the token:
    /// `components.gateway.apiml.security.auth.jwt.customAuthHeader`.
    pub jwt_header: Option<HeaderName>,
}

/// What the configuration says about the endpoint that makes SAF identity tokens.
pub(super) enum SafTokens {
    /// The configuration does not name an endpoint.
    Unknown,
    At(Address),
    /// The value of the setting is wrong. The problem was already reported.
    Wrong,
}

/// Finds the endpoint. Reports a wrong value of `zss.url`, but only if `saf.urls.authenticate` is absent.
pub(super) fn saf_tokens(zowe: &Zowe<'_>, zss: &ZssUrl<'_>) -> SafTokens {
    match (&zowe.security.saf_tokens, &zss.field) {
        (Some(address), _) => SafTokens::At(address.clone()),
        (None, None) => SafTokens::Unknown,
        (None, Some(field)) => {
            let base = field.text().unwrap_or_default().trim_end_matches('/');
            match zowe.logins.protected_address(field) {
                Some(_) => Address::parse(&format!("{base}/saf/authenticate"))
                    .map_or(SafTokens::Wrong, SafTokens::At),
                None => SafTokens::Wrong,
            }
        }
    }
}

/// Finds the servers and settings that the schemes of `routes` need, and reports those that are missing.
pub(super) fn read(
    routes: &[ConfiguredRoute],
    logins: Option<&Logins>,
    zosmf: &ZosmfPeer<'_>,
    saf_tokens: SafTokens,
    security: &ApimlSecurity<'_>,
    ours: &PassticketProxy<'_>,
) -> SchemePeers {
    let first = |is_wanted: fn(ServiceScheme) -> bool| {
        let route = routes.iter().find(|route| is_wanted(route.scheme()))?;
        Some(route.route.service().as_str())
    };
    let mut peers = SchemePeers { jwt_header: security.jwt_header.clone(), ..<_>::default() };
    let with_zosmf = first(|scheme| scheme == ServiceScheme::Zosmf);
    if with_zosmf.is_some() || ours.zaas.is_on() {
        peers.zosmf = match logins {
            Some(Logins::Zosmf(settings)) => Some(settings.clone()),
            _ => zosmf.settings(),
        };
    }
    if let Some(service) = with_zosmf {
        if peers.zosmf.is_none() && !zosmf.has_host() {
            ours.at.error(format_args!(
                "has the service {service} with scheme zosmf, which needs z/OSMF; add zOSMF: {{ host: NAME, port: \
                 NUMBER }} at the top level of the file"
            ));
        }
        let applid = peers.zosmf.as_ref().map(|settings| settings.applid);
        if let Some(applid) = applid.filter(|applid| !ours.entries.contains_key(applid)) {
            ours.ptktdata.warning(format_args!(
                "has no PassTicket key for {applid}, the APPLID of z/OSMF, so only users who have logged in at z/OSMF get \
                 a token for the service {service}; add - {{ applid: {applid}, algorithm: legacy, key: {{ file: \
                 ptktdata/{applid}.key }} }}"
            ));
        }
    }
    let with_saf_idt = first(|scheme| matches!(scheme, ServiceScheme::SafIdt { .. }));
    if let (None, Some(field), Some(Logins::Zosmf(_) | Logins::Users(_))) =
        (with_saf_idt, &ours.zss.field, logins)
        && !ours.zaas.is_on()
    {
        field.at.warning(
            "has no effect, because components.gateway.apiml.security.auth.provider is not saf, and no service has the \
             scheme safIdt; set that setting to saf to check passwords with ZSS, or remove this setting",
        );
    }
    if with_saf_idt.is_some() || ours.zaas.is_on() {
        match (saf_tokens, with_saf_idt) {
            (SafTokens::At(address), _) => peers.saf_tokens = Some(address),
            (SafTokens::Wrong, _) | (SafTokens::Unknown, None) => {}
            (SafTokens::Unknown, Some(service)) => ours.at.error(format_args!(
                "has the service {service} with scheme safIdt, which needs ZSS; add zss: {{ url: \
                 https://zos.example.com:7557 }}, or set components.gateway.apiml.security.saf.urls.authenticate"
            )),
        }
    }
    if let Some(service) = first(|scheme| matches!(scheme, ServiceScheme::X509 { .. }))
        && !security.client_certificates
    {
        ours.at.warning(format_args!(
            "has the service {service} with scheme x509, but the gateway does not ask clients for certificates, so \
             each request fails; set components.gateway.apiml.security.x509.enabled to true"
        ));
    }
    peers
}
