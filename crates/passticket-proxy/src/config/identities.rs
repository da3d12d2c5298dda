//! Reads the file of identities. The setting `components.passticket-proxy.identities` names this file. An example is
//! `crates/passticket-proxy/src/config/examples/identities.yml`.
//!
//! The file maps client certificates and distributed identities to user ids. A distributed identity is
//! a name in a user directory (registry) outside z/OS, such as an e-mail address.

use super::reader::{Field, Section};
use tower_passticket::{
    identity::{
        CertificateFilter, CertificateMap, DistinguishedName, DistributedIdentity, DistributedMap,
        Registry,
    },
    passticket::UserId,
};

/// The two maps of the file. Each of them may be absent.
pub(super) struct Identities {
    pub(super) certificates: Option<CertificateMap>,
    pub(super) distributed: Option<DistributedMap>,
}

/// Reads the file. `registry` is the default registry for distributed identities. An entry that maps a distributed
/// identity to a user in `protected` causes a warning, because the gateway refuses this identity.
pub(super) fn read(
    mut root: Section<'_>,
    registry: Option<&Registry>,
    protected: &[UserId],
) -> Identities {
    let remedy = "certificates or distributed, with a list below it";
    let field = root.required("identities", remedy);
    root.finish();
    let Some(field) = field else { return Identities { certificates: None, distributed: None } };
    let mut section = field.section();
    let certificates = section.optional("certificates");
    let distributed = section.optional("distributed");
    section.finish();
    Identities {
        certificates: certificates.and_then(|field| {
            let entries = field.items().into_iter().filter_map(|item| certificate(&item));
            CertificateMap::new(entries).map_err(|error| field.at.error(error)).ok()
        }),
        distributed: distributed.and_then(|field| {
            let items = field.items();
            let entries = items.iter().filter_map(|item| {
                let (identity, user) = distributed_identity(item, registry)?;
                if protected.contains(&user) {
                    item.at.warning(format_args!(
                        "maps a distributed identity to {user}, which is the gateway's own user or one of \
                         components.passticket-proxy.delegation.protectedUsers; the gateway refuses this identity; remove \
                         this entry"
                    ));
                }
                Some((identity, user))
            });
            DistributedMap::new(entries).map_err(|error| field.at.error(error)).ok()
        }),
    }
}

fn certificate(item: &Field<'_>) -> Option<(CertificateFilter, UserId)> {
    let mut section = item.section();
    let user = section.required("user", "the user id that the certificates belong to");
    let filter = certificate_filter(&mut section);
    section.finish();
    Some((filter?, user?.parse()?))
}

/// Reads a filter for certificates: either `sha256`, or at least one of `subject` and `issuer`.
pub(super) fn certificate_filter(section: &mut Section<'_>) -> Option<CertificateFilter> {
    let [sha256, subject, issuer] =
        ["sha256", "subject", "issuer"].map(|name| section.optional(name));
    let name = |field: &Field<'_>| field.parse::<DistinguishedName>();
    let filter = match (&sha256, &subject, &issuer) {
        (Some(field), None, None) => {
            return field.fingerprint().map(CertificateFilter::fingerprint);
        }
        (None, Some(subject), Some(issuer)) => {
            CertificateFilter::subject_and_issuer(name(subject)?, name(issuer)?)
        }
        (None, Some(subject), None) => CertificateFilter::subject(name(subject)?),
        (None, None, Some(issuer)) => CertificateFilter::issuer(name(issuer)?),
        (Some(_), ..) => {
            section.at.error(
                "has sha256 together with subject or issuer; remove sha256, or remove subject and issuer",
            );
            return None;
        }
        (None, None, None) => {
            section.at.error("names no certificate; add sha256, or add subject, issuer or both");
            return None;
        }
    };
    filter.map_err(|error| section.at.error(error)).ok()
}

fn distributed_identity(
    item: &Field<'_>,
    registry: Option<&Registry>,
) -> Option<(DistributedIdentity, UserId)> {
    let mut section = item.section();
    let user = section.required("user", "the user id that the name belongs to");
    let name = section.required("name", "an e-mail address or another name");
    let own = section.optional("registry");
    section.finish();
    let registry = match (own, registry) {
        (Some(field), _) => field.parse()?,
        (None, Some(registry)) => registry.clone(),
        (None, None) => {
            item.at.error(
                "has no registry; add one here, or for all entries set \
                 components.gateway.apiml.security.oidc.registry in the zowe.yaml",
            );
            return None;
        }
    };
    let identity = name?.read(|name| DistributedIdentity::in_registry(name, &registry))?;
    Some((identity, user?.parse()?))
}
