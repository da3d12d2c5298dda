//! Checks the settings of the token exchange (RFC 8693), and of the metadata for OAuth clients (RFC 9728).

use super::{
    oidc::OidcSettings, passticket_proxy::PassticketProxy, ptktdata::Entries,
    routes::ServicesByApplid, settings::ExchangeSettings,
};
use tower_passticket::{api::Compatibility, layer::Origin};

/// Returns the settings of the token exchange. `None` if it is off. `services` are all services with an APPLID,
/// including those that are found in Eureka. `entries` are the PassTicket keys.
pub(super) fn settings(
    ours: &PassticketProxy<'_>,
    client_certificates: bool,
    services: ServicesByApplid,
    entries: &Entries<'_>,
) -> Option<ExchangeSettings> {
    let section = &ours.exchange;
    if !section.enabled {
        return None;
    }
    if !ours.audit.enabled {
        ours.audit.at.error(
            "cannot be off while tokenExchange is on, because token exchanges are always audited; set \
             components.passticket-proxy.audit.enabled to true",
        );
    }
    if section.grants.is_empty() && section.bearer_applids.is_empty() {
        section.at.warning(
            "permits no exchange; list the actors in callers, or the APPLIDs that need no actor in \
             bearerApplids",
        );
    }
    if !section.grants.is_empty() && !client_certificates {
        section.at.warning(
            "has callers, but client certificates are off, so only actor tokens authenticate them; to accept \
             certificates, set x509.enabled to true",
        );
    }
    for (applid, at) in &section.applids {
        if let Some(applid) = applid
            && !entries.contains_key(applid)
        {
            at.warning(format_args!(
                "has no PassTicket key, so no client gets a PassTicket for {applid}; add an item for {applid} to \
                 components.passticket-proxy.ptktdata, or remove it here"
            ));
        }
    }
    Some(ExchangeSettings {
        grants: section.grants.clone(),
        bearer_applids: section.bearer_applids.clone(),
        services,
        calls_per_minute: section.calls_per_minute,
    })
}

/// Returns the origins in the metadata for OAuth clients. The list is empty if there is no metadata. By default, there
/// is metadata if the gateway accepts tokens of identity providers. With `compatibility: zowe-v3`, the default is no
/// metadata.
pub(super) fn resource_origins(
    ours: &PassticketProxy<'_>,
    providers: &[OidcSettings],
    own: &[Origin],
) -> Vec<Origin> {
    match &ours.resource_metadata {
        Some((true, at)) => {
            if providers.is_empty() {
                at.error(
                    "needs identity providers; add them to oidc, or set this setting to false",
                );
            } else if own.is_empty() {
                at.error(
                    "needs the address under which clients reach the gateway; set zowe.externalDomains to its \
                     host name",
                );
            }
        }
        Some((false, _)) => return Vec::new(),
        None if providers.is_empty() || ours.compatibility == Compatibility::ZoweV3 => {
            return Vec::new();
        }
        None => {
            if let (true, Some(oidc)) = (own.is_empty(), &ours.oidc) {
                oidc.at.warning(
                    "names identity providers, but OAuth clients cannot find them, because zowe.externalDomains is \
                     missing; set it to the host name of the gateway, or set \
                     components.passticket-proxy.resourceMetadata to false",
                );
            }
        }
    }
    own.to_vec()
}
