//! The report of [`compare`](super::compare): what a listing (the output of display commands of a security product)
//! shows about each setting that the configuration needs.

use std::fmt;

use crate::esm::Application;

/// The result for one setting of the listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The setting is as the configuration needs it.
    Same,
    /// A fact that an administrator should know, or a setting to compare by hand. [`Report::is_same`] ignores it.
    Note,
    /// The listing lacks the output of a display command, or is longer than [`MAX_LISTING`](super::MAX_LISTING).
    Missing,
    /// The listing shows something that an administrator must correct, on z/OS or in the configuration.
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
/// The text contains values of the configuration and names of settings. From the listing, the text contains only
/// numbers such as TIMEOUT, because other parts of the listing may contain a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    verdict: Verdict,
    subject: String,
    text: String,
}

impl Finding {
    /// Returns the verdict.
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
    /// Returns the findings, in the order in which the comparison made them.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Returns the number of findings with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }

    /// Returns whether no finding is [`Verdict::Missing`] or [`Verdict::Different`]. Notes are ignored.
    pub fn is_same(&self) -> bool {
        self.count(Verdict::Missing) == 0 && self.count(Verdict::Different) == 0
    }

    pub(super) fn same(&mut self, subject: impl ToString, text: impl ToString) {
        self.add(Verdict::Same, subject, text);
    }

    pub(super) fn note(&mut self, subject: impl ToString, text: impl ToString) {
        self.add(Verdict::Note, subject, text);
    }

    /// Adds a note: the manuals do not describe the `parts` (fields or keywords) of an enhanced key, so an
    /// administrator must compare them by hand.
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

    /// Adds a finding, unless the report already contains it. A listing may contain the output of one command twice.
    fn add(&mut self, verdict: Verdict, subject: impl ToString, text: impl ToString) {
        let finding = Finding { verdict, subject: subject.to_string(), text: text.to_string() };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}
