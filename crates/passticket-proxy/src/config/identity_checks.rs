//! Puts together what several keys say about who is who and who may do what.

use super::{
    CertificateMapping, DelegationSettings, IdentityMapping, Zss,
    configured_route::ConfiguredRoute,
    identities::{self, Identities},
    passticket_proxy::{MappingBy, PassticketProxy},
    problem::Report,
    reader::Document,
    secret_file::read_decisive_file,
    zowe::{Mapper, Zowe},
};
use tower_passticket::{
    identity::{CertificateMap, Registry},
    passticket::Applid,
    saf::{AccessLevel, Profile},
    tls::Verification,
};

pub(super) struct Who {
    pub(super) certificate_mapping: CertificateMapping,
    pub(super) delegation: Option<DelegationSettings>,
}

pub(super) fn read(zowe: &Zowe<'_>, ours: &PassticketProxy<'_>, report: &Report) -> Who {
    let registry = zowe.registry.as_ref().and_then(|field| field.parse::<Registry>());
    let Identities { certificates, distributed } = identities(ours, registry.as_ref(), report);
    let certificate_mapping = certificate_mapping(zowe, ours, certificates);
    let delegation = zowe.delegation.as_ref().and_then(|at| {
        if zowe.attls.is_some() {
            at.error("takes client certificates, which AT-TLS keeps to itself; write false here or \
                      for attls");
        } else if !zowe.client_certificates {
            at.error("takes client certificates; write x509: { enabled: true } beside it, or false");
        }
        if !ours.audit.enabled {
            ours.audit.at.error(
                "cannot be off while delegatePassticket is on: delegated PassTickets are always \
                 audited",
            );
        }
        if ours.delegation.grants.is_none() {
            at.warning(
                "lets whoever has READ on the guarding resource be any user; write to \
                 passticketProxy.delegation.callers who may be whom",
            );
        }
        let mapping = match (distributed, &zowe.identity_mapper) {
            (Some(map), mapper) => {
                if let (Some(_), Some(field)) = (mapper, &ours.identities) {
                    field.at.warning(
                        "has identities.distributed, so oidc.identityMapperUrl is not asked; \
                         remove one of them",
                    );
                }
                IdentityMapping::File(map)
            }
            (None, Some(mapper)) => IdentityMapping::Zss(zss(mapper)),
            (None, None) => {
                at.error(
                    "needs to know whose an e-mail address is; write identities.distributed to a \
                     file and its path to passticketProxy.identities, or a URL to oidc.identityMapperUrl",
                );
                return None;
            }
        };
        let Some(registry) = registry else {
            // A value that is wrong was reported.
            if zowe.registry.is_none() {
                at.error("needs the registry of the e-mail addresses; write it to oidc.registry");
            }
            return None;
        };
        let mut protected = ours.delegation.protected.clone();
        protected.push(ours.gateway_user);
        Some(DelegationSettings {
            registry,
            mapping,
            grants: ours.delegation.grants.clone(),
            protected,
            calls_per_minute: ours.delegation.calls_per_minute,
        })
    });
    check_verification(zowe, &certificate_mapping, delegation.as_ref());
    Who { certificate_mapping, delegation }
}

fn zss(mapper: &Mapper) -> Zss {
    Zss { address: mapper.address.clone(), user: mapper.user }
}

/// Nothing but a key that says so maps by common name where something else was meant: whoever gets
/// a certificate of a user's name would be that user.
fn certificate_mapping(
    zowe: &Zowe<'_>,
    ours: &PassticketProxy<'_>,
    certificates: Option<CertificateMap>,
) -> CertificateMapping {
    let (by, mapper) = (&ours.certificate_mapping, &zowe.certificate_mapper);
    if let Some(at) = zowe.internal_mapper.as_ref().filter(|_| zowe.client_certificates) {
        let instead = match (by, mapper) {
            (Some(_), _) => Some("passticketProxy.certificateMapping"),
            (None, Some(_)) => Some("x509.externalMapperUrl"),
            (None, None) => None,
        };
        match instead {
            Some(key) => at.warning(format_args!(
                "asks RACF itself in Zowe, which cannot be done here; {key} says whose \
                 certificates are"
            )),
            None => at.error(
                "asks RACF itself in Zowe, which cannot be done here; write \
                 passticketProxy.certificateMapping: common-name (whoever has a certificate with \
                 CN=IBMUSER from an authority of certificateAuthorities is then IBMUSER), file or \
                 zss",
            ),
        }
    }
    if let Some(field) = &ours.identities
        && certificates.is_some()
    {
        match by {
            Some((MappingBy::File, _)) => {}
            None if zowe.client_certificates => field.at.error(
                "has certificates, and nothing says to look at them; write certificateMapping: \
                 file, or remove them",
            ),
            Some(_) | None => field.at.warning(
                "has certificates, which are not looked at; write certificateMapping: file, or \
                 remove them",
            ),
        }
    }
    match (by, mapper) {
        (Some((MappingBy::File, at)), _) => match certificates {
            Some(map) => CertificateMapping::File(map),
            None => {
                at.error(
                    "needs a file with identities.certificates; write its path to \
                     passticketProxy.identities",
                );
                CertificateMapping::CommonName
            }
        },
        (Some((MappingBy::Zss, _)) | None, Some(mapper)) => CertificateMapping::Zss(zss(mapper)),
        (Some((MappingBy::Zss, at)), None) => {
            at.error(
                "needs the URL of the mapper; write it to \
                 components.gateway.apiml.security.x509.externalMapperUrl",
            );
            CertificateMapping::CommonName
        }
        (Some((MappingBy::CommonName, _)) | None, _) => CertificateMapping::CommonName,
    }
}

/// Tells whose tokens go to services whose certificates are not verified as they should be.
fn check_verification(
    zowe: &Zowe<'_>,
    mapping: &CertificateMapping,
    delegation: Option<&DelegationSettings>,
) {
    let Some(at) = &zowe.verify_at else { return };
    let whoever = match zowe.verify {
        Verification::Strict => return,
        Verification::NonStrict => {
            "whoever has a certificate of certificateAuthorities and answers"
        }
        Verification::Disabled => "whoever answers",
    };
    let mut tokens = Vec::new();
    if zowe.saf_endpoint.is_some() {
        let text = "at authorization.endpoint.url those of all users whose permissions are checked";
        tokens.push(text.to_owned());
    }
    if let CertificateMapping::Zss(zss) = mapping
        && zowe.client_certificates
    {
        tokens.push(format!("at x509.externalMapperUrl those of {}", zss.user));
    }
    if let Some(DelegationSettings { mapping: IdentityMapping::Zss(zss), .. }) = delegation {
        tokens.push(format!("at oidc.identityMapperUrl those of {}", zss.user));
    }
    if !tokens.is_empty() {
        let tokens = tokens.join(", ");
        at.warning(format_args!("lets {whoever} have tokens, {tokens}; write STRICT"));
    }
}

fn identities(
    ours: &PassticketProxy<'_>,
    registry: Option<&Registry>,
    report: &Report,
) -> Identities {
    let none = Identities { certificates: None, distributed: None };
    let Some((field, path)) = ours.identities.as_ref().and_then(|f| Some((f, f.path()?))) else {
        return none;
    };
    match read_decisive_file(&path) {
        Ok(bytes) => {
            identities::read(Document::parse(path, &bytes, report).section(report), registry)
        }
        Err(error) => {
            field.at.error(error);
            none
        }
    }
}

/// Tells for which APPLIDs of services nobody will get a ticket.
pub(super) fn check_tickets(
    profiles: &[Profile],
    routes: &[ConfiguredRoute],
    ours: &PassticketProxy<'_>,
) {
    let gateway = ours.gateway_user;
    let mut applids: Vec<Applid> =
        routes.iter().filter_map(|route| route.scheme.applid()).collect();
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
                "gives {gateway} no UPDATE on {prefix}* in class PTKTDATA, so there is no \
                 PassTicket for {applid}; write to the file that saf names, below safAccess: \
                 PTKTDATA: {{ {prefix}*: {{ UPDATE: [{gateway}] }} }}"
            ));
        }
    }
}
