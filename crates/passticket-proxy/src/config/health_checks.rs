//! Reads the settings of the health checks of instances of services: `components.passticket-proxy.healthChecks`.

use std::time::Duration;

use super::reader::Section;

/// The settings of the health checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthCheckSettings {
    /// The time from the start of a check of an instance to the start of its next check:
    /// `healthChecks.intervalSeconds`.
    pub interval: Duration,
    /// The time that a check may take: `healthChecks.timeoutSeconds`.
    pub timeout: Duration,
}

/// Reads the section. Returns `None` if instances are not checked.
pub(super) fn read(mut section: Section<'_>) -> Option<HealthCheckSettings> {
    let is_enabled = section.optional("enabled").and_then(|field| field.boolean());
    let mut seconds = |name, default| {
        let number = section.optional(name).and_then(|field| field.number(1..=86_400));
        Duration::from_secs(number.unwrap_or(default))
    };
    let (interval, timeout) = (seconds("intervalSeconds", 10), seconds("timeoutSeconds", 5));
    section.finish();
    is_enabled.unwrap_or(true).then_some(HealthCheckSettings { interval, timeout })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};

    #[test]
    fn checks_are_on_unless_they_are_switched_off() {
        for (yaml, want) in [
            ("", Some((10, 5))),
            ("intervalSeconds: 60\ntimeoutSeconds: 2\n", Some((60, 2))),
            ("enabled: true\n", Some((10, 5))),
            ("enabled: false\nintervalSeconds: 60\n", None),
        ] {
            let report = Report::default();
            let document = Document::parse("z".into(), yaml.as_bytes(), &report);
            let settings = read(document.section(&report));
            let got = settings.map(|it| (it.interval.as_secs(), it.timeout.as_secs()));
            assert_eq!(got, want, "{yaml}");
            report.finish(Some(())).unwrap();
        }
    }
}
