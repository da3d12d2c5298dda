//! The result of a comparison.

use std::fmt;

use crate::esm::Application;

/// The result of the comparison of one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// z/OS and the configuration have the same value.
    Same,
    /// A fact that an administrator should know, or compare by hand. The listing does not show a difference.
    Note,
    /// The listing does not contain the output of a display command that is needed.
    Missing,
    /// z/OS and the configuration differ.
    Different,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Note => "note",
            Self::Missing => "missing",
            Self::Different => "different",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One line of a [`Report`].
///
/// The text contains values of the configuration, numbers and names of settings. It never contains a part of the
/// listing, because the listing may contain a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    verdict: Verdict,
    subject: String,
    text: String,
}

impl Finding {
    /// Returns what the comparison found out.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verdict, subject, text } = self;
        write!(f, "{verdict:<9}  {subject}: {text}")
    }
}

/// All findings of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Returns the findings in the order of the configuration.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Returns the number of findings with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }

    /// Returns whether all settings that are needed were compared, and none differs.
    pub fn is_same(&self) -> bool {
        self.count(Verdict::Missing) == 0 && self.count(Verdict::Different) == 0
    }

    pub(super) fn same(&mut self, subject: impl ToString, text: impl ToString) {
        self.add(Verdict::Same, subject, text);
    }

    pub(super) fn note(&mut self, subject: impl ToString, text: impl ToString) {
        self.add(Verdict::Note, subject, text);
    }

    /// Notes that the manuals do not name the `parts` of the key profile, so the program cannot compare it.
    pub(super) fn note_undocumented(&mut self, parts: &str, application: &Application) {
        let Application { applid, algorithm, .. } = application;
        self.note(
            applid,
            format_args!(
                "the {parts} for {algorithm} are not publicly documented; compare algorithm, window and \
                 replay protection by hand"
            ),
        );
    }

    pub(super) fn missing(&mut self, subject: impl ToString, text: impl ToString) {
        self.add(Verdict::Missing, subject, text);
    }

    pub(super) fn different(&mut self, subject: impl ToString, text: impl ToString) {
        self.add(Verdict::Different, subject, text);
    }

    /// Adds a finding, unless the same finding is in the report already. A listing may contain a display twice.
    fn add(&mut self, verdict: Verdict, subject: impl ToString, text: impl ToString) {
        let finding = Finding { verdict, subject: subject.to_string(), text: text.to_string() };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}
