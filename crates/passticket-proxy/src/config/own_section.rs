//! Finds the section of this gateway in a zowe.yaml. The section is a component, `components.passticket-proxy`, because
//! Zowe's JSON schema permits further components, but no further top-level keys (docs/decisions.md#d17).

use super::reader::Section;

/// The path of the section. Messages for operators contain it.
const PATH: &str = "components.passticket-proxy";

/// The name of the section in older files, at the top level.
const OLD: &str = "passticketProxy";

/// Finds the section. If a file has the section at both places, reports an error, because one of the two would have no
/// effect.
pub(super) fn find<'a>(root: &mut Section<'a>) -> Section<'a> {
    let mut components = root.section("components");
    let (component, old) = (components.present("passticket-proxy"), root.present(OLD));
    let mut section = match (&component, &old) {
        (None, Some(old)) => old.section(),
        (Some(component), Some(old)) => {
            old.at.error(format_args!(
                "is the old place of the section {PATH}, which is in line {}; move all keys from here to \
                 {PATH}, and remove {OLD}",
                component.at.line
            ));
            component.section()
        }
        (_, None) => components.section("passticket-proxy"),
    };
    warn_of_near_misses(&components, root);
    // Zowe's schema permits the key `enabled` for each component, so it is accepted here. Its value has no effect,
    // because the launcher of Zowe does not start this gateway.
    section.optional("enabled").map(|field| field.boolean());
    section
}

/// Warns about keys whose names are similar to the name of the section. The gateway does not read them.
fn warn_of_near_misses(components: &Section<'_>, root: &Section<'_>) {
    let letters = |name: &str| -> String {
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    let wanted = letters(OLD);
    let is_near = |name: &str| {
        let letters = letters(name);
        letters.len() <= 80 && strsim::damerau_levenshtein(&letters, &wanted) <= 3
    };
    let components =
        components.fields().into_iter().filter(|(name, _)| *name != "passticket-proxy");
    let top = root.fields().into_iter().filter(|(name, _)| *name != OLD);
    for (_, field) in components.chain(top).filter(|(name, _)| is_near(name)) {
        field.at.warning(format_args!("is not read; the section of this gateway is {PATH}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};

    /// Reads the key `host` of the section, then its unknown keys. Returns the value of `host` (`None` if there
    /// are errors), and the errors.
    fn read(text: &str) -> (Option<String>, Vec<String>) {
        let report = Report::default();
        let document = Document::parse("z".into(), text.as_bytes(), &report);
        let mut section = find(&mut document.section(&report));
        let host = section.required("host", "a host").and_then(|f| f.text().map(str::to_owned));
        section.finish();
        match report.finish(Some(host)) {
            Ok((host, warnings)) => {
                assert_eq!(warnings, []);
                (host, Vec::new())
            }
            Err(problems) => (None, problems.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn the_section_is_a_component_or_in_older_files_a_top_level_key() {
        for text in [
            "components: {passticket-proxy: {host: h}}",
            "components: {passticket-proxy: {enabled: true, host: h}}",
            "components: {passticket-proxy: {enabled: false, host: h}}",
            "passticketProxy: {host: h}",
            "components: {gateway: {port: 1}}\npassticketProxy: {enabled: true, host: h}",
        ] {
            assert_eq!(read(text), (Some("h".to_owned()), Vec::new()), "{text}");
        }
    }

    #[test]
    fn problems_name_the_section_as_the_file_does() {
        let missing = "is missing; write a host";
        for (text, want) in [
            ("{}", format!("z:1: components.passticket-proxy.host: {missing}")),
            ("\ncomponents:\n  gateway:\n", format!("z:2: components.passticket-proxy.host: {missing}")),
            ("\npassticketProxy: {}", format!("z:2: passticketProxy.host: {missing}")),
            (
                "components:\n  passticket-proxy: {host: h, hots: h}",
                "z:2: components.passticket-proxy.hots: is an unknown key; did you mean host?".to_owned(),
            ),
            (
                "passticketProxy: {host: h, enabled: perhaps}",
                "z:1: passticketProxy.enabled: \"perhaps\" is neither true nor false; write one of them"
                    .to_owned(),
            ),
        ] {
            assert_eq!(read(text), (None, vec![want]), "{text:?}");
        }
    }

    #[test]
    fn a_name_similar_to_the_section_causes_a_warning() {
        let warnings = |text: &str| {
            let report = Report::default();
            let document = Document::parse("z".into(), text.as_bytes(), &report);
            drop(find(&mut document.section(&report)));
            let (_, warnings) = report.finish(Some(())).unwrap();
            warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for (text, key) in [
            ("components: {passticket_proxy: {host: h}}", "components.passticket_proxy"),
            ("components: {passticketProxy: {host: h}}", "components.passticketProxy"),
            ("components: {passtickets-proxy: {host: h}}", "components.passtickets-proxy"),
            ("components: {pasticket-proxy: {host: h}}", "components.pasticket-proxy"),
            ("passticket-proxy: {host: h}", "passticket-proxy"),
            ("passticketproxy: {host: h}", "passticketproxy"),
        ] {
            let want = format!("z:1: {key}: is not read; the section of this gateway is {PATH}");
            assert_eq!(warnings(text), [want], "{text}");
        }
        for text in ["components: {passticket-proxy: {}, gateway: {}}", "passticketProxy: {}"] {
            assert_eq!(warnings(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn both_places_together_are_an_error_that_names_both_lines() {
        let component = "components:\n  passticket-proxy:\n    host: h\n";
        let old = "passticketProxy:\n  host: h\n";
        let text = |line, other| {
            format!(
                "z:{line}: passticketProxy: is the old place of the section components.passticket-proxy, \
                 which is in line {other}; move all keys from here to components.passticket-proxy, and \
                 remove passticketProxy"
            )
        };
        assert_eq!(read(&format!("{component}{old}")), (None, vec![text(4, 2)]));
        assert_eq!(read(&format!("{old}{component}")), (None, vec![text(1, 4)]));
        // A blank section is also an error, because an operator may have left it by mistake.
        assert_eq!(read(&format!("{component}passticketProxy:\n")), (None, vec![text(4, 2)]));
    }
}
