//! Reads the section `components.passticket-proxy.ui`: the page on which users manage their Personal Access Tokens.

use tower_passticket::{gateway::AuthPrefix, token::ServiceId};

use super::reader::{At, Section};

const DEFAULT_PATH: &str = "/gateway/ui";

/// For each of these segments, the gateway itself answers the requests to `/gateway/SEGMENT` and to the paths below it.
const OWN_SEGMENTS: [&str; 5] = ["api", "auth", "certificates", "services", "version"];

/// The page for users, if `components.passticket-proxy.ui.enabled` is `true`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UiSettings {
    /// The path of the page: `components.passticket-proxy.ui.path`.
    pub path: AuthPrefix,
}

/// The section. It is checked when the services are known.
pub(super) struct UiSection<'a> {
    /// The place of `enabled`. `None` if the page is off.
    enabled_at: Option<At<'a>>,
    path: AuthPrefix,
    /// The place of `path`, or the place of the section if `path` is absent.
    path_at: At<'a>,
}

pub(super) fn read(mut section: Section<'_>) -> UiSection<'_> {
    let enabled = section.optional("enabled").filter(|field| field.is_on());
    let path = section.optional("path");
    let path_at = path.as_ref().map_or(&section.at, |field| &field.at).clone();
    section.finish();
    let default = AuthPrefix::new(DEFAULT_PATH).expect("the default is a valid path");
    let path = path.and_then(|field| field.read(parse_path)).unwrap_or(default);
    UiSection { enabled_at: enabled.map(|field| field.at), path, path_at }
}

impl UiSection<'_> {
    /// Returns the settings. `None` if the page is off. Reports an error if Personal Access Tokens (`pats`) are off, or
    /// if the path belongs to one of `services`.
    pub(super) fn settings<'s>(
        &self,
        pats: bool,
        mut services: impl Iterator<Item = &'s ServiceId>,
    ) -> Option<UiSettings> {
        let enabled_at = self.enabled_at.as_ref()?;
        if !pats {
            enabled_at.error(
                "is true, but the page manages Personal Access Tokens, which are off; set \
                 components.gateway.apiml.security.personalAccessToken.enabled to true, or this setting to false",
            );
        }
        let first = segments(self.path.as_str()).0;
        if let Some(service) = services.find(|service| service.as_str() == first) {
            self.path_at.error(format_args!(
                "\"{}\" belongs to the service {service}; write a path such as {DEFAULT_PATH}",
                self.path,
            ));
        }
        Some(UiSettings { path: self.path.clone() })
    }
}

fn parse_path(text: &str) -> Result<AuthPrefix, String> {
    let remedy = format!("write a path such as {DEFAULT_PATH}");
    let path = AuthPrefix::new(text).map_err(|_| {
        format!(
            "is not a path that begins with / and whose segments consist of letters, digits, - . _ and ~; {remedy}"
        )
    })?;
    let (first, second) = segments(path.as_str());
    let is_own = match first {
        "gateway" => second.is_none_or(|second| OWN_SEGMENTS.contains(&second)),
        "application" | ".well-known" => true,
        _ => false,
    };
    if is_own {
        return Err(format!("is a path of other endpoints of the gateway; {remedy}"));
    }
    Ok(path)
}

fn segments(path: &str) -> (&str, Option<&str>) {
    let mut segments = path.trim_start_matches('/').split('/');
    (segments.next().unwrap_or_default(), segments.next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};

    /// Reads `text` as the section. Returns the path of the page or the problems.
    fn read_text(text: &str, pats: bool) -> Result<Option<String>, Vec<String>> {
        let report = Report::default();
        let document = Document::parse("z".into(), text.as_bytes(), &report);
        let services = [ServiceId::new("files").unwrap()];
        let settings = read(document.section(&report)).settings(pats, services.iter());
        match report.finish(Some(settings)) {
            Ok((settings, _)) => Ok(settings.map(|settings| settings.path.to_string())),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn the_page_is_off_unless_it_is_enabled() {
        for (text, want) in [
            ("", None),
            ("enabled: false", None),
            ("path: /tokens", None),
            ("enabled: true", Some("/gateway/ui")),
            ("{enabled: true, path: /tokens}", Some("/tokens")),
            ("{enabled: true, path: /gateway/my/tokens}", Some("/gateway/my/tokens")),
        ] {
            assert_eq!(read_text(text, true), Ok(want.map(str::to_owned)), "{text}");
        }
        // While the page is off, its path may belong to a service.
        assert_eq!(read_text("path: /files", false), Ok(None));
    }

    #[test]
    fn paths_of_other_endpoints_and_services_are_refused_with_a_remedy() {
        for (path, want) in [
            ("tokens", "is not a path that begins with /"),
            ("/tokens/", "is not a path that begins with /"),
            ("/a b", "is not a path that begins with /"),
            (
                "/gateway",
                "is a path of other endpoints of the gateway; write a path such as /gateway/ui",
            ),
            ("/gateway/api/v1/ui", "is a path of other endpoints"),
            ("/gateway/services/x", "is a path of other endpoints"),
            ("/application/ui", "is a path of other endpoints"),
            ("/.well-known/x", "is a path of other endpoints"),
            ("/files/ui", "\"/files/ui\" belongs to the service files; write a path such as"),
        ] {
            let problems = read_text(&format!("enabled: true\npath: {path}"), true).unwrap_err();
            assert!(
                problems[0].starts_with("z:2: path: ") && problems[0].contains(want),
                "{problems:?}"
            );
        }
        let problems = read_text("enabled: true", false).unwrap_err();
        assert!(
            problems[0].starts_with("z:1: enabled: is true, but the page manages"),
            "{problems:?}"
        );
    }
}
