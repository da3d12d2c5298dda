//! The problems of a configuration. A [`Report`] collects them, so that one run shows all of them.

use std::{
    cell::RefCell,
    collections::HashSet,
    fmt,
    path::{Path, PathBuf},
};

/// A place in a configuration: file, line and key.
///
/// `Display` writes `zowe.yaml:12: components.passticket-proxy.users`, without the line or the key if it is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    file: PathBuf,
    /// 0 if the line is not known.
    line: usize,
    key: String,
}

impl Place {
    pub(super) fn new(file: &Path, line: usize, key: &str) -> Self {
        Self { file: file.to_owned(), line, key: key.to_owned() }
    }

    /// The path of the file. For the zowe.yaml it is the path that was passed to
    /// [`Config::load`](super::Config::load). A relative path in the zowe.yaml is appended to the
    /// directory of the zowe.yaml.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The line, counted from 1. `None` if the place is a whole file, or if the place is in
    /// [`Listen`](super::Listen) and the key is absent. In a [`Problem`], an absent key has the line of the
    /// mapping that lacks the key.
    pub fn line(&self) -> Option<usize> {
        (self.line > 0).then_some(self.line)
    }

    /// The path of the key, such as `components.passticket-proxy.ptktdata[0].applid`. Empty if the place is a
    /// whole file.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.file.to_string_lossy()))?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        Ok(())
    }
}

/// One problem of a configuration: its place, what is wrong, and usually what to write instead.
///
/// `Display` writes one line: `zowe.yaml:12: components.passticket-proxy.users: is missing; write ...`. The line
/// shows no key and no password hash from a secret file, and no value that looks like a PassTicket key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    place: Place,
    text: String,
}

impl Problem {
    pub(super) fn new(place: Place, text: &str) -> Self {
        Self { place, text: one_line(text) }
    }

    /// A problem of a file as a whole.
    pub(super) fn of_file(file: &Path, text: &str) -> Self {
        Self::new(Place::new(file, 0, ""), text)
    }

    /// Where the problem is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What is wrong, and usually what to write instead.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// All problems of a configuration that cannot be used. There is at least one.
///
/// `Display` writes one line for each problem, grouped by file and sorted by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The problems, in the order of `Display`.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Collects the problems of one configuration.
///
/// Several sections hold a reference to the report at the same time, so the lists are in a [`RefCell`].
#[derive(Default)]
pub(super) struct Report {
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    /// The keys that were read, present or absent.
    #[cfg(test)]
    read: RefCell<HashSet<String>>,
}

impl Report {
    #[cfg(test)]
    pub(super) fn read(&self, key: String) {
        self.read.borrow_mut().insert(key);
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> HashSet<String> {
        self.read.borrow().clone()
    }

    pub(super) fn error(&self, problem: Problem) {
        self.errors.borrow_mut().push(problem);
    }

    pub(super) fn warning(&self, problem: Problem) {
        self.warnings.borrow_mut().push(problem);
    }

    /// Returns `value` and the warnings, or the errors if there are any. A caller that passes `None`
    /// must have reported an error.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<(T, Vec<Problem>), Problems> {
        let errors = self.errors.into_inner();
        match value {
            Some(value) if errors.is_empty() => Ok((value, sorted(self.warnings.into_inner()))),
            _ => Err(Problems(sorted(errors))),
        }
    }
}

/// Groups problems by file and sorts them by line, without duplicates.
fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    let mut files: Vec<PathBuf> = Vec::new();
    for problem in &problems {
        if !files.contains(&problem.place.file) {
            files.push(problem.place.file.clone());
        }
    }
    // Two readers of the same mapping may report the same problem.
    let mut seen = HashSet::new();
    problems.retain(|problem| seen.insert(problem.clone()));
    problems.sort_by_key(|Problem { place, .. }| {
        (files.iter().position(|file| *file == place.file), place.line)
    });
    problems
}

/// Appends `.name` to the path of a key.
pub(super) fn push_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    // If a colon or a quote is missing in the YAML, a secret value can become a key.
    if looks_like_key_material(name) {
        path.push_str("(not shown)");
    } else {
        path.push_str(&one_line(&cut(name)));
    }
}

/// Appends `[index]` to the path of a key.
pub(super) fn push_index(path: &mut String, index: usize) {
    path.push_str(&format!("[{index}]"));
}

/// The form in which a problem shows a value: in quotes, and cut if it is long. A value that looks
/// like key material is not shown.
pub(super) fn quote(value: &str) -> String {
    if looks_like_key_material(value) {
        "the value (not shown: it looks like a secret key)".to_owned()
    } else {
        format!("{:?}", cut(value))
    }
}

/// Whether a text looks like key material: a private key in PEM, or at least 16 hex digits (64 bits).
/// Blanks, line ends, colons, hyphens, underscores and apostrophes may separate the hex digits.
pub(super) fn looks_like_key_material(text: &str) -> bool {
    if text.contains("PRIVATE KEY") {
        return true;
    }
    let text = text.trim();
    let text = text.strip_prefix("0x").or_else(|| text.strip_prefix("X'")).unwrap_or(text);
    let mut digits = 0;
    for c in text.chars() {
        match c {
            '0'..='9' | 'a'..='f' | 'A'..='F' => digits += 1,
            ' ' | ':' | '-' | '_' | '\'' | '\t' | '\r' | '\n' => {}
            _ => return false,
        }
    }
    digits >= 16
}

/// Returns `; did you mean ...?` if a known word is similar to `word`, else a list of known words. The
/// result is empty if there are no known words.
pub(super) fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<_> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    let lower = word.to_ascii_lowercase();
    // The comparison takes quadratic time, so a longer word is not compared. No known word is longer than
    // 80 bytes.
    let nearest = (word.len() <= 80)
        .then(|| {
            known
                .iter()
                .map(|k| (strsim::damerau_levenshtein(&lower, &k.to_ascii_lowercase()), *k))
                .filter(|(distance, k)| *distance <= (k.len() / 3).max(1))
                .min_by_key(|(distance, _)| *distance)
        })
        .flatten();
    match nearest {
        Some((_, near)) => format!("; did you mean {near}?"),
        None if known.is_empty() => String::new(),
        None if known.len() <= 12 => format!("; known here: {}", known.join(", ")),
        None => format!("; known here are {} and others", known[..12].join(", ")),
    }
}

/// The maximum number of characters of a value that a problem shows.
const MAX_SHOWN: usize = 80;

fn cut(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_SHOWN).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

/// Escapes control characters, such as line ends.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_as_one_line() {
        let problem = |line, key| {
            Problem::new(Place::new(Path::new("a\n.yaml"), line, key), "is\nbad").to_string()
        };
        assert_eq!(problem(3, "a.b"), "a\\n.yaml:3: a.b: is\\nbad");
        assert_eq!(problem(0, ""), "a\\n.yaml: is\\nbad");
    }

    #[test]
    fn problems_are_grouped_by_file_and_sorted_by_line() {
        let report = Report::default();
        for (file, line) in [("z", 9), ("a", 2), ("z", 3), ("a", 1), ("z", 3)] {
            report.error(Problem::new(Place::new(Path::new(file), line, "k"), "t"));
        }
        let Err(problems) = report.finish(Some(())) else { panic!("expected errors") };
        assert_eq!(problems.to_string(), "z:3: k: t\nz:9: k: t\na:1: k: t\na:2: k: t");
    }

    #[test]
    fn key_material_in_the_wrong_place_is_not_shown() {
        for text in [
            "E001193519561977",
            " e0:01:19:35:19:56:19:77 ",
            "0xE001193519561977",
            "X'E001193519561977'",
            "E0011935 19561977 00000000 00000000",
            "-----BEGIN PRIVATE KEY-----\nMIIE19\n-----END PRIVATE KEY-----\n",
            "-----BEGIN EC PRIVATE KEY----- MIIE19",
        ] {
            assert!(looks_like_key_material(text), "{text}");
            let mut path = String::new();
            push_name(&mut path, text);
            assert_eq!(path, "(not shown)");
            assert!(!quote(text).contains("19"), "{text}");
        }
        for text in ["", "ZOWEAPPL", "E00119351956197", "E001193519561977.key", "feed"] {
            assert!(!looks_like_key_material(text), "{text}");
        }
    }

    #[test]
    fn a_similar_known_word_is_suggested() {
        let known = ["signingKey", "users", "host", "apiDefs"];
        for (word, want) in [
            ("signingkey", "; did you mean signingKey?"),
            ("singingKey", "; did you mean signingKey?"),
            ("user", "; did you mean users?"),
            ("port", "; known here: apiDefs, host, signingKey, users"),
        ] {
            assert_eq!(suggest(word, known), want, "{word}");
        }
        assert_eq!(suggest("x", []), "");
    }
}
