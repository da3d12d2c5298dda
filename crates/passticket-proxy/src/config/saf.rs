//! Reads the file of permissions. The setting `components.passticket-proxy.saf` names this file. An example is
//! `crates/passticket-proxy/src/config/examples/saf.yml`.
//!
//! The file has the format of Zowe's `saf.yml` (docs/reference/identity-and-saf.md#saf-file). Like the profiles of SAF
//! (the z/OS interface for permissions), it says which user may access which resource. A resource name may also be a
//! generic profile, as in RACF: a pattern that matches several resources.

use super::reader::Section;
use tower_passticket::saf::{AccessLevel, Profile, ProfileName};

/// Reads the profiles. If a profile, a level or a user is wrong, it is reported and left out.
pub(super) fn read(mut root: Section<'_>) -> Vec<Profile> {
    let mut profiles = Vec::new();
    let remedy = "classes, with their resources, levels and users below them";
    let classes = root.required("safAccess", remedy).map(|field| field.section().fields());
    for (class, resources) in classes.unwrap_or_default() {
        for (name, levels) in resources.section().fields() {
            let name = match ProfileName::new(name) {
                Ok(name) => name,
                Err(error) => {
                    levels.at.wrong_name(name, error);
                    continue;
                }
            };
            let mut profile = Profile::new(class, name);
            for (level, users) in levels.section().fields() {
                let level = match level.parse::<AccessLevel>() {
                    Ok(level) => level,
                    Err(error) => {
                        users.at.wrong_name(level, error);
                        continue;
                    }
                };
                for user in users.items().into_iter().filter_map(|user| user.parse()) {
                    profile = profile.permit(user, level);
                }
            }
            profiles.push(profile);
        }
    }
    root.finish();
    profiles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};
    use tower_passticket::{
        passticket::UserId,
        saf::{Access, FileSaf, SafProvider},
    };

    fn read_text(yaml: &str) -> Result<FileSaf, String> {
        let report = Report::default();
        let document = Document::parse("s".into(), yaml.as_bytes(), &report);
        let saf = read(document.section(&report));
        let finished = report.finish(Some(saf));
        finished.map(|(saf, _)| FileSaf::new(saf)).map_err(|problems| problems.to_string())
    }

    #[test]
    fn the_file_format_of_zowe_is_read() {
        let saf = read_text(
            "safAccess:
  FACILITY:
    BPX.SERVER:
      read:
        - user
  ZOWE:
    APIML.SERVICES:
      READ:
        - OTHER
      UPDATE:
        - USER
    EMPTY:
  PTKTDATA:
    IRRPTAUTH.ZOWEAPPL.*: {UPDATE: [ZWESVUSR]}
    IRRPTAUTH.ZOWEAPPL.IBMUSER:
",
        )
        .unwrap();
        let user = |name| UserId::new(name).unwrap();
        for (name, class, resource, level, want) in [
            ("USER", "FACILITY", "BPX.SERVER", AccessLevel::Read, Access::Granted),
            ("USER", "FACILITY", "BPX.SERVER", AccessLevel::Update, Access::Refused),
            ("OTHER", "ZOWE", "APIML.SERVICES", AccessLevel::Read, Access::Granted),
            ("OTHER", "ZOWE", "APIML.SERVICES", AccessLevel::Update, Access::Refused),
            ("USER", "ZOWE", "APIML.SERVICES", AccessLevel::Update, Access::Granted),
            (
                "ZWESVUSR",
                "PTKTDATA",
                "IRRPTAUTH.ZOWEAPPL.USER",
                AccessLevel::Update,
                Access::Granted,
            ),
            (
                "ZWESVUSR",
                "PTKTDATA",
                "IRRPTAUTH.ZOWEAPPL.IBMUSER",
                AccessLevel::Read,
                Access::Refused,
            ),
        ] {
            let got = saf.try_check_now(&user(name), class, resource, level).unwrap();
            assert_eq!(got, Ok(want), "{name} {class} {resource} {level}");
        }
    }

    #[test]
    fn problems_are_reported_at_their_places() {
        for (yaml, want) in [
            ("{}", "s:1: safAccess: is missing; write classes, with"),
            ("safAccess:", "s:1: safAccess: is empty; write classes"),
            ("safAccess:\n  A: {R: {NONE: [USER]}}", "\"NONE\" is not an access level; write READ"),
            ("safAccess:\n  A: {R: {READ: USER}}", "s:2: safAccess.A.R.READ: must be a list;"),
            ("safAccess:\n  A: {R: {READ: [TOOLONGID]}}", "s:2: safAccess.A.R.READ[0]: user id"),
            (
                "safAccess:\n  A: {R*S: {READ: [USER]}}",
                "s:2: safAccess.A.R*S: the profile \"R*S\" has",
            ),
            (
                "safAccess:\n  A: {E001193519561977 R: {}}",
                "safAccess.A.(not shown): is a wrong name (not shown: it may contain a secret)",
            ),
            ("safAccess:\n  A: {R: {READ E001193519561977: }}", "A.R.(not shown): is a wrong name"),
            ("safAccess:\n  A: {R: [USER]}", "safAccess.A.R: must be a mapping"),
            ("safAccess: {A: {R: }}\nx: 1", "s:2: x: is an unknown key"),
        ] {
            let problems = read_text(yaml).unwrap_err();
            assert!(problems.contains(want), "{yaml}: {problems}");
        }
    }
}
