//! Checks settings that depend on each other. These are the settings for identity mapping, for delegated PassTickets,
//! and for permissions to make PassTickets.
//!
//! A PassTicket is a short-lived password of z/OS for one application. A delegated PassTicket is for another user than
//! the caller; the caller names this user by e-mail address. ZSS is a server of Zowe on z/OS that maps certificates and
//! e-mail addresses to user ids. AT-TLS is the TLS of the z/OS TCP/IP stack.

use super::{
    configured_route::ConfiguredRoute,
    identities::{self, Identities},
    oidc::{self, OidcSettings},
    passticket_proxy::{MapCertificatesBy, PassticketProxy},
    problem::Report,
    reader::{Document, Field},
    settings::{CertificateMapping, DelegationSettings, IdentityMapping},
    zowe::Zowe,
};
use tower_passticket::{
    identity::{CertificateMap, DistributedMap, Registry},
    passticket::{Applid, UserId},
    saf::{AccessLevel, Profile},
    tls::Verification,
};

/// The mapping of certificates, the identity providers, and the settings of delegated PassTickets.
pub(super) struct Identification {
    pub(super) certificate_mapping: CertificateMapping,
    pub(super) oidc: Vec<OidcSettings>,
    /// The mapping of the users of `oidc`.
    pub(super) identity_mapping: Option<IdentityMapping>,
    /// `None` if delegated PassTickets are off.
    pub(super) delegation: Option<DelegationSettings>,
    /// The users for whom the gateway refuses distributed identities.
    pub(super) protected: Vec<UserId>,
}

/// Reads the file of identities and combines it with Zowe's own settings (`zowe`) and the section
/// `components.passticket-proxy` (`ours`).
pub(super) fn read(zowe: &Zowe<'_>, ours: &PassticketProxy<'_>, report: &Report) -> Identification {
    let registry = zowe.security.registry.as_ref().and_then(|field| field.parse::<Registry>());
    let mut protected = ours.delegation.protected.clone();
    protected.push(ours.gateway_user);
    let identities = identities(ours, registry.as_ref(), &protected, report);
    let Identities { certificates, distributed } = identities;
    let certificate_mapping = certificate_mapping(zowe, ours, certificates);
    let oidc = ours.oidc.as_ref().map(|list| oidc::read(list, registry.as_ref()));
    let oidc = oidc.unwrap_or_default();
    let is_mapping_used = zowe.security.delegation.is_some() || !oidc.is_empty();
    let mapping = is_mapping_used.then(|| identity_mapping(zowe, ours, distributed)).flatten();
    // With technical users, the persons of the providers need no user ids, and so no mapping.
    let is_mapping_needed = !oidc.is_empty() && ours.technical_users.is_none();
    if let (Some(list), None, true) = (&ours.oidc, &mapping, is_mapping_needed) {
        list.at.error(
            "needs a mapping of the users of the providers to user ids; set components.passticket-proxy.identities to the \
             path of a file with identities.distributed, set \
             components.gateway.apiml.security.oidc.identityMapperUrl to the URL of a mapper, or set \
             components.passticket-proxy.technicalUsers to the path of a file with rules",
        );
    }
    let delegation = zowe.security.delegation.as_ref().and_then(|at| {
        if let Some(attls) = &zowe.attls {
            at.error(format_args!(
                "needs client certificates, which AT-TLS does not forward; set this setting or {} to false",
                attls.key
            ));
        } else if !zowe.security.client_certificates {
            at.error(
                "needs client certificates; set components.gateway.apiml.security.x509.enabled to true, or this setting \
                 to false",
            );
        }
        if !ours.audit.enabled {
            ours.audit.at.error(
                "cannot be off while delegatePassticket is on, because delegated PassTickets are always audited; set \
                 components.passticket-proxy.audit.enabled to true",
            );
        }
        if ours.delegation.grants.is_none() {
            at.warning(
                "lets each caller with READ on the SAF resource of delegated PassTickets obtain \
                 PassTickets for every user that is not protected; list the callers and their users in \
                 components.passticket-proxy.delegation.callers",
            );
        }
        let Some(mapping) = mapping.clone() else {
            at.error(
                "needs a mapping of e-mail addresses; set components.passticket-proxy.identities to the path \
                 of a file with identities.distributed, or set \
                 components.gateway.apiml.security.oidc.identityMapperUrl to the URL of a mapper",
            );
            return None;
        };
        let Some(registry) = registry else {
            // If the setting is present, its value is wrong, and the problem has already been reported.
            if zowe.security.registry.is_none() {
                at.error(
                    "needs the registry of the e-mail addresses; set \
                     components.gateway.apiml.security.oidc.registry to its name",
                );
            }
            return None;
        };
        Some(DelegationSettings {
            registry,
            mapping,
            grants: ours.delegation.grants.clone(),
            protected: protected.clone(),
            calls_per_minute: ours.delegation.calls_per_minute,
        })
    });
    let identity_mapping = mapping.filter(|_| !oidc.is_empty());
    let by_delegation = delegation.as_ref().map(|delegation| &delegation.mapping);
    check_verification(zowe, &certificate_mapping, by_delegation.or(identity_mapping.as_ref()));
    Identification { certificate_mapping, oidc, identity_mapping, delegation, protected }
}

/// Chooses how distributed identities are mapped to user ids. `None` if the configuration has no mapping.
fn identity_mapping(
    zowe: &Zowe<'_>,
    ours: &PassticketProxy<'_>,
    distributed: Option<DistributedMap>,
) -> Option<IdentityMapping> {
    match (distributed, &zowe.security.identity_mapper) {
        (Some(map), mapper) => {
            if let (Some(_), Some(field)) = (mapper, &ours.identities) {
                field.at.warning(
                    "has identities.distributed, so components.gateway.apiml.security.oidc.identityMapperUrl is not \
                     used; remove one of them",
                );
            }
            Some(IdentityMapping::File(map))
        }
        (None, Some(mapper)) => Some(IdentityMapping::Zss(mapper.clone())),
        (None, None) => None,
    }
}

/// Chooses how certificates are mapped to user ids.
///
/// Mapping by common name is the default, but only if no setting requests another mapping. With this default, a client
/// can act as a user if the common name of its certificate is the id of this user.
fn certificate_mapping(
    zowe: &Zowe<'_>,
    ours: &PassticketProxy<'_>,
    certificates: Option<CertificateMap>,
) -> CertificateMapping {
    let (by, mapper) = (&ours.certificate_mapping, &zowe.security.certificate_mapper);
    if let Some(at) =
        zowe.security.internal_mapper.as_ref().filter(|_| zowe.security.client_certificates)
    {
        let instead = match (by, mapper) {
            (Some(_), _) => Some("components.passticket-proxy.certificateMapping"),
            (None, Some(_)) => Some("components.gateway.apiml.security.x509.externalMapperUrl"),
            (None, None) => None,
        };
        match instead {
            Some(key) => at.warning(format_args!(
                "makes Zowe map certificates in RACF, which this gateway cannot do; {key} decides how \
                 certificates are mapped"
            )),
            None => at.error(
                "makes Zowe map certificates in RACF, which this gateway cannot do; set \
                 components.passticket-proxy.certificateMapping to file, zss or common-name (with common-name, a \
                 client acts as IBMUSER if any of certificateAuthorities issued it a certificate with \
                 CN=IBMUSER)",
            ),
        }
    }
    if let Some(field) = &ours.identities
        && certificates.is_some()
    {
        match by {
            Some((MapCertificatesBy::File, _)) => {}
            None if zowe.security.client_certificates => field.at.error(
                "contains identities.certificates, but components.passticket-proxy.certificateMapping does not use them; \
                 set it to file, or remove identities.certificates",
            ),
            Some(_) | None => field.at.warning(
                "contains identities.certificates, which are not used; set \
                 components.passticket-proxy.certificateMapping to file, or remove identities.certificates",
            ),
        }
    }
    match (by, mapper) {
        (Some((MapCertificatesBy::File, at)), _) => match certificates {
            Some(map) => CertificateMapping::File(map),
            None => {
                at.error(
                    "needs a file with identities.certificates; set \
                     components.passticket-proxy.identities to the path of that file",
                );
                CertificateMapping::CommonName
            }
        },
        (Some((MapCertificatesBy::Zss, _)) | None, Some(mapper)) => {
            CertificateMapping::Zss(mapper.clone())
        }
        (Some((MapCertificatesBy::Zss, at)), None) => {
            at.error(
                "needs the URL of a mapper; set components.gateway.apiml.security.x509.externalMapperUrl \
                 to that URL",
            );
            CertificateMapping::CommonName
        }
        (Some((MapCertificatesBy::CommonName, _)) | None, _) => CertificateMapping::CommonName,
    }
}

/// Warns if the gateway sends tokens to servers whose certificates are not strictly verified.
fn check_verification(
    zowe: &Zowe<'_>,
    mapping: &CertificateMapping,
    identities: Option<&IdentityMapping>,
) {
    let Some(at) = &zowe.verify_at else { return };
    let server = match zowe.verify {
        Verification::Strict => return,
        Verification::NonStrict => "any server with a certificate of certificateAuthorities",
        _ => "any server",
    };
    let mut tokens = Vec::new();
    if zowe.security.saf_endpoint.is_some() {
        let text = "those of all users whose permissions are checked (by \
                    components.gateway.apiml.security.authorization.endpoint.url)";
        tokens.push(text.to_owned());
    }
    if let CertificateMapping::Zss(zss) = mapping
        && zowe.security.client_certificates
    {
        let key = "components.gateway.apiml.security.x509.externalMapperUrl";
        tokens.push(format!("those of {} (for {key})", zss.user));
    }
    if let Some(IdentityMapping::Zss(zss)) = identities {
        let key = "components.gateway.apiml.security.oidc.identityMapperUrl";
        tokens.push(format!("those of {} (for {key})", zss.user));
    }
    if !tokens.is_empty() {
        let tokens = tokens.join(", ");
        at.warning(format_args!("lets {server} receive tokens: {tokens}; write STRICT"));
    }
}

fn identities(
    ours: &PassticketProxy<'_>,
    registry: Option<&Registry>,
    protected: &[UserId],
    report: &Report,
) -> Identities {
    let Some((path, bytes)) = ours.identities.as_ref().and_then(Field::authorization_file) else {
        return Identities { certificates: None, distributed: None };
    };
    let document = Document::parse(path, &bytes, report);
    identities::read(document.section(report), registry, protected)
}

/// Warns if the gateway's user has no permission to make PassTickets for an APPLID of a service. If gateways of API ML
/// may ask for PassTickets (`components.passticket-proxy.zaas`), also warns about the other APPLIDs with a key.
pub(super) fn check_tickets(
    profiles: &[Profile],
    routes: &[ConfiguredRoute],
    ours: &PassticketProxy<'_>,
) {
    let gateway = ours.gateway_user;
    let of_gateways = ours.entries.keys().filter(|_| ours.zaas.is_on()).copied();
    let mut applids: Vec<Applid> =
        routes.iter().filter_map(|route| route.scheme.applid()).chain(of_gateways).collect();
    // A running Zowe makes the PassTickets of these APPLIDs, and the security product on z/OS checks the permission.
    applids.retain(|applid| !ours.zowe_applids.contains_key(applid));
    applids.sort_unstable();
    applids.dedup();
    for applid in applids {
        let prefix = format!("IRRPTAUTH.{applid}.");
        let some_user = format!("{prefix}USER");
        let permits = |profile: &Profile| {
            profile.class() == "PTKTDATA"
                && profile.access(&gateway) >= Some(AccessLevel::Update)
                && (profile.name().as_str().starts_with(&prefix)
                    || profile.name().matches(&some_user))
        };
        if !profiles.iter().any(permits) {
            let at = ours.saf.as_ref().map_or(&ours.at, |field| &field.at);
            at.warning(format_args!(
                "gives {gateway} no UPDATE on {prefix}* in class PTKTDATA, so the gateway cannot make \
                 PassTickets for {applid}; in the file of components.passticket-proxy.saf, add below safAccess: \
                 PTKTDATA: {{ {prefix}*: {{ UPDATE: [{gateway}] }} }}"
            ));
        }
    }
}
