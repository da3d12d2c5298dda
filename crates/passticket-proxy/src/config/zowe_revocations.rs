//! Reads how the gateway uses the revocations of a running API Mediation Layer (API ML) of Zowe:
//! `components.passticket-proxy.zowe.revocations` (docs/decisions.md#d33, docs/decisions.md#d47).

use std::time::Duration;

use super::reader::{At, Section};
use tower_passticket::revocation::{CachingServiceSettings, ReadMode};

const SECONDS: u64 = 2;

/// Reads the section. Returns `None` if the section is absent or empty, or after reporting a problem.
/// `identity_is_missing` says whether the section `zowe` has no client certificate. `zowe` is the place of this
/// section.
pub(super) fn read(
    mut section: Section<'_>,
    identity_is_missing: bool,
    zowe: &At<'_>,
) -> Option<CachingServiceSettings> {
    if section.fields().is_empty() {
        return None;
    }
    let mode = section.required("mode", "index, or query for API ML 3.6 or later");
    let writes = section.optional("write");
    let creates_salt = section.optional("createSalt");
    let seconds = section.optional("seconds");
    section.finish();
    let is_query = mode?.read(|text| match text {
        "index" => Ok(false),
        "query" => Ok(true),
        _ => Err("is unknown; write index, or query for API ML 3.6 or later"),
    })?;
    let shortest = u64::from(!is_query);
    let seconds = match &seconds {
        None => SECONDS,
        Some(field) => field.number(shortest..=60)?,
    };
    let seconds = Duration::from_secs(seconds);
    let mode = match is_query {
        true => ReadMode::Query { memory: seconds },
        false => ReadMode::Index { every: seconds },
    };
    if identity_is_missing {
        zowe.missing(
            "clientCertificate",
            "certificate and key of a copy of API ML's own certificate: the Caching Service keeps the revocations of \
             API ML under the subject of this certificate",
        );
        return None;
    }
    let mut settings = CachingServiceSettings::new(mode);
    if writes.is_some_and(|field| field.is_on()) {
        settings = settings.with_writes();
    }
    if let Some(field) = creates_salt.filter(|field| field.is_on()) {
        field.at.warning(
            "lets the gateway create the salt for the hashes of revoked tokens, if it is missing; if API ML uses another \
             certificate subject than the gateway, neither sees the revocations of the other; remove this key after the \
             first start",
        );
        settings = settings.with_salt_creation();
    }
    Some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{own_section, problem::Report, reader::Document};

    /// Returns the settings, or the problems: errors, or warnings if there are no errors.
    fn read_text(yaml: &str, has_identity: bool) -> (Option<CachingServiceSettings>, Vec<String>) {
        let report = Report::default();
        let text = format!("components: {{passticket-proxy: {{zowe: {{revocations: {yaml}}}}}}}\n");
        let document = Document::parse("z".into(), text.as_bytes(), &report);
        let mut section = own_section::find(&mut document.section(&report));
        let mut zowe = section.section("zowe");
        let revocations = zowe.section("revocations");
        let settings = read(revocations, !has_identity, &zowe.at);
        match report.finish(Some(settings)) {
            Ok((settings, warnings)) => {
                (settings, warnings.iter().map(ToString::to_string).collect())
            }
            Err(problems) => (None, problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn the_mode_decides_what_seconds_mean() {
        let seconds = Duration::from_secs;
        let index = |secs| CachingServiceSettings::new(ReadMode::Index { every: seconds(secs) });
        let query = |secs| CachingServiceSettings::new(ReadMode::Query { memory: seconds(secs) });
        for (yaml, want) in [
            ("", None),
            ("{}", None),
            ("{mode: index}", Some(index(2))),
            ("{mode: index, seconds: 60, write: false}", Some(index(60))),
            ("{mode: query, write: true}", Some(query(2).with_writes())),
            ("{mode: query, seconds: 0}", Some(query(0))),
        ] {
            assert_eq!(read_text(yaml, true), (want, Vec::new()), "{yaml}");
        }
        let (settings, warnings) = read_text("{mode: query, createSalt: true}", true);
        assert_eq!(settings, Some(query(2).with_salt_creation()));
        assert!(
            warnings[0].contains("createSalt: lets the gateway create the salt"),
            "{warnings:?}"
        );
    }

    #[test]
    fn problems_are_reported_at_their_keys() {
        for (yaml, has_identity, want) in [
            ("{write: true}", true, "revocations.mode: is missing; write index, or query"),
            ("{mode: on}", true, "revocations.mode: is unknown; write index, or query"),
            ("{mode: index, seconds: 0}", true, "revocations.seconds: \"0\" is not valid"),
            ("{mode: query, seconds: 61}", true, "revocations.seconds: \"61\" is not valid"),
            ("{mode: index, writes: true}", true, "revocations.writes: is an unknown key"),
            ("{mode: index}", false, "clientCertificate: is missing; write certificate and key"),
        ] {
            let (settings, problems) = read_text(yaml, has_identity);
            let [problem] = &*problems else { panic!("{yaml}: {problems:?}") };
            let want = format!("z:1: components.passticket-proxy.zowe.{want}");
            assert!(settings.is_none() && problem.starts_with(&want), "{problem}");
        }
    }
}
