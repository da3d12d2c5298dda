//! Reads the address of a running API Mediation Layer (API ML) of Zowe, and the settings that say what the gateway asks
//! API ML: `components.passticket-proxy.zowe` (docs/decisions.md#d47).
//!
//! A PassTicket is a short-lived password of z/OS.

use std::time::Duration;

use super::{
    client_identity::{self, ClientIdentity},
    reader::Section,
    zowe_revocations,
};
use tower_passticket::{remote::Address, revocation::CachingServiceSettings};

/// The default of `checkLogoutSeconds`: for this time, the gateway remembers an answer of API ML about a token.
const MEMORY_SECONDS: u64 = 60;

/// A running Zowe API ML: `components.passticket-proxy.zowe`. The gateway accepts the login tokens of API ML, and can
/// get PassTickets from API ML.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ZowePeer {
    /// The address of API ML's gateway: `url`.
    pub url: Address,
    /// Whether the gateway asks API ML about the validity of a token: `checkLogout`.
    pub check_logout: CheckLogout,
    /// The client certificate of the gateway: `clientCertificate`. API ML makes PassTickets only for clients with a
    /// certificate.
    pub client_identity: Option<ClientIdentity>,
    /// Whether the gateway signs a login token for the user before it asks for a PassTicket: `mint`. If not, the
    /// gateway sends the token that the user has sent. Signing needs API ML's signing key.
    pub mints: bool,
    /// How the gateway uses the revocations of API ML: `revocations`. `None` if the gateway does not use them.
    pub revocations: Option<CachingServiceSettings>,
}

/// The value of `checkLogout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckLogout {
    /// A login token is accepted until it expires, even if its user has logged out at API ML. Personal Access Tokens of
    /// API ML are refused.
    Off,
    /// The gateway asks API ML about each token of API ML.
    Query {
        /// The time for which the gateway remembers an answer: `checkLogoutSeconds`.
        memory: Duration,
    },
}

/// Reads the section. Returns `None` if the section is absent or empty, or after reporting that a value is missing or
/// not valid. An unknown key is reported, too, but does not change the result.
pub(super) fn read(mut section: Section<'_>) -> Option<ZowePeer> {
    if section.fields().is_empty() {
        return None;
    }
    let url =
        section.required("url", "the URL of Zowe's gateway, like https://zowe.example.com:7554");
    let check = section.optional("checkLogout");
    let seconds = section.optional("checkLogoutSeconds");
    let identity = section.optional("clientCertificate");
    let mints = section.optional("mint").is_some_and(|field| field.is_on());
    let revocations = section.section("revocations");
    let revocations = zowe_revocations::read(revocations, identity.is_none(), &section.at);
    section.finish();
    let url = url.and_then(|field| {
        let address = field.read(Address::parse)?;
        if !address.is_protected() {
            field.at.error(
                "is http, so another program on the network could read tokens of users, or send its own keys; write https",
            );
            return None;
        }
        Some(address)
    });
    let is_on = check.as_ref().map_or(Some(true), |field| {
        field.read(|text| match text {
            "query" => Ok(true),
            "off" => Ok(false),
            _ => Err("is unknown; write query or off"),
        })
    });
    let memory = match &seconds {
        None => Some(MEMORY_SECONDS),
        Some(field) => field.number(0..=300),
    };
    let check_logout = match is_on? {
        true => CheckLogout::Query { memory: Duration::from_secs(memory?) },
        false => {
            if let Some(field) = &check {
                field.at.warning(
                    "makes the gateway accept login tokens of API ML until they expire, even after a logout, and \
                     refuse Personal Access Tokens of API ML; set it to query, unless the gateway must not ask API ML",
                );
            }
            if let Some(field) = &seconds {
                field
                    .at
                    .warning("has no effect with checkLogout: off; remove one of the two settings");
            }
            CheckLogout::Off
        }
    };
    let client_identity = match &identity {
        None => None,
        Some(field) => Some(client_identity::read(field)?),
    };
    Some(ZowePeer { url: url?, check_logout, client_identity, mints, revocations })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{own_section, problem::Report, reader::Document};

    /// Returns the settings, or the problems: errors, or warnings if there are no errors.
    fn read_text(yaml: &str) -> (Option<(String, CheckLogout)>, Vec<String>) {
        let report = Report::default();
        let text = format!("components: {{passticket-proxy: {{zowe: {yaml}}}}}\n");
        let document = Document::parse("z".into(), text.as_bytes(), &report);
        let mut section = own_section::find(&mut document.section(&report));
        let peer = read(section.section("zowe"));
        let seen = peer.map(|peer| (peer.url.to_string(), peer.check_logout));
        match report.finish(Some(seen)) {
            Ok((seen, warnings)) => (seen, warnings.iter().map(ToString::to_string).collect()),
            Err(problems) => (None, problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn api_ml_is_asked_unless_this_is_off() {
        let query = |secs| CheckLogout::Query { memory: Duration::from_secs(secs) };
        for (yaml, want) in [
            ("", None),
            ("{}", None),
            ("{url: 'https://zowe:7554'}", Some(query(60))),
            ("{url: 'https://zowe:7554', checkLogout: query}", Some(query(60))),
            ("{url: 'https://zowe:7554', checkLogoutSeconds: 0}", Some(query(0))),
            ("{url: 'https://zowe:7554', checkLogoutSeconds: 300}", Some(query(300))),
        ] {
            let want = want.map(|check| ("https://zowe:7554/".to_owned(), check));
            assert_eq!(read_text(yaml), (want, Vec::new()), "{yaml}");
        }
        let (seen, warnings) =
            read_text("{url: 'http://localhost:7554', checkLogout: off, checkLogoutSeconds: 5}");
        assert_eq!(seen, Some(("http://localhost:7554/".to_owned(), CheckLogout::Off)));
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[0].contains("zowe.checkLogout: makes the gateway accept login tokens"),
            "{warnings:?}"
        );
    }

    #[test]
    fn problems_are_reported_at_their_keys() {
        for (yaml, want) in [
            ("{checkLogout: query}", "url: is missing; write the URL of Zowe's gateway"),
            (
                "{url: 'http://zowe:7554'}",
                "url: is http, so another program on the network could read tokens",
            ),
            ("{url: zowe}", "url: \"zowe\" is not the address of a service"),
            (
                "{url: 'https://zowe', checkLogout: true}",
                "checkLogout: is unknown; write query or off",
            ),
            (
                "{url: 'https://zowe', checkLogoutSeconds: 301}",
                "checkLogoutSeconds: \"301\" is not valid",
            ),
            (
                "{url: 'https://zowe', checkLogouts: off}",
                "checkLogouts: is an unknown key; did you mean",
            ),
        ] {
            let (seen, problems) = read_text(yaml);
            let [problem] = &*problems else { panic!("{yaml}: {problems:?}") };
            let want = format!("z:1: components.passticket-proxy.zowe.{want}");
            assert!(seen.is_none() && problem.starts_with(&want), "{problem}");
        }
    }
}
