//! Puts together what several keys say about who is who and who may do what.

use super::{
    CertificateMapping, DelegationSettings, IdentityMapping, Zss,
    identities::{self, Identities},
    passticket_proxy::{MappingBy, PassticketProxy},
    problem::Report,
    reader::Document,
    secret_file::read_public_file,
    zowe::{Mapper, Zowe},
};
use crate::{
    identity::Registry,
    layer::{Routes, Scheme},
    passticket::Applid,
    saf::{AccessLevel, Profile},
};

pub(super) struct Who {
    pub(super) certificate_mapping: CertificateMapping,
    pub(super) delegation: Option<DelegationSettings>,
}

pub(super) fn read(zowe: &Zowe<'_>, ours: &PassticketProxy<'_>, report: &Report) -> Who {
    let registry = zowe.registry.as_ref().and_then(|field| field.parse::<Registry>());
    let Identities { certificates, distributed } = identities(ours, registry.as_ref(), report);
    let zss = |mapper: &Mapper| Zss { address: mapper.address.clone(), user: mapper.user };

    let unused = certificates.is_some();
    let certificate_mapping = match (&ours.certificate_mapping, &zowe.certificate_mapper) {
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
    };
    if let Some(field) = &ours.identities
        && unused
        && !matches!(certificate_mapping, CertificateMapping::File(_))
    {
        field.at.warning(
            "has certificates, which are not looked at; write certificateMapping: file, or remove \
             them",
        );
    }

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
        if ours.delegation.grants.is_empty() {
            at.warning(
                "lets whoever has READ on the guarding resource be any user; write to \
                 passticketProxy.delegation.callers who may be whom",
            );
        }
        let mapping = match (distributed, &zowe.identity_mapper) {
            (Some(map), _) => IdentityMapping::File(map),
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
    Who { certificate_mapping, delegation }
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
    match read_public_file(&path) {
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
pub(super) fn check_tickets(profiles: &[Profile], routes: &Routes, ours: &PassticketProxy<'_>) {
    let gateway = ours.gateway_user;
    let mut applids: Vec<Applid> = routes
        .iter()
        .filter_map(|route| match route.scheme() {
            Scheme::HttpBasicPassTicket { applid } => Some(applid),
            Scheme::Bypass => None,
        })
        .collect();
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
