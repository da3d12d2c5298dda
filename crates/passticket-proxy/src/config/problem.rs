//! The problems of a configuration. A [`Report`] collects them, so that one run shows all problems.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::HashSet,
    fmt,
    path::{Path, PathBuf},
};

/// A place in a configuration: file, line and key.
///
/// `Display` writes `zowe.yaml:12: components.passticket-proxy.users`. It leaves out a line or a key that is not known.
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

    /// Returns the path of the file. The path of the zowe.yaml is the one that was passed to
    /// [`Config::load`](super::Config::load). If the zowe.yaml names another file by a relative path, that path starts
    /// at the directory of the zowe.yaml.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the line, counted from 1. Returns `None` if the place is a whole file.
    ///
    /// If the file does not contain the key, the place in a [`Problem`] has the line of the mapping that lacks the key.
    /// In this case, the places in [`Listen`](super::Listen) and [`AdminSettings`](super::AdminSettings) have no line.
    pub fn line(&self) -> Option<usize> {
        (self.line > 0).then_some(self.line)
    }

    /// Returns the path of the key, such as `components.passticket-proxy.ptktdata[0].applid`. The path is empty if the
    /// place is a whole file.
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
/// `Display` writes one line: `zowe.yaml:12: components.passticket-proxy.users: is missing; write ...`. The line never
/// shows a secret: neither a cryptographic key nor a password hash from a secret file. The line also
/// shows no value that looks like a PassTicket key, and no YAML name that may contain a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    place: Place,
    text: String,
}

impl Problem {
    pub(super) fn new(place: Place, text: &str) -> Self {
        Self { place, text: one_line(text) }
    }

    pub(super) fn of_file(file: &Path, text: &str) -> Self {
        Self::new(Place::new(file, 0, ""), text)
    }

    /// Returns the place of the problem.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Returns the text. It says what is wrong, and usually what to write instead.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// All problems of a configuration that cannot be used. There is at least one problem.
///
/// `Display` writes one line for each problem, grouped by file and sorted by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Returns the problems, in the order of `Display`.
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

/// Several sections hold a reference to the report at the same time, so the lists are in a [`RefCell`].
#[derive(Default)]
pub(super) struct Report {
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    /// The paths of all keys that a reader has looked up. Some of them may be absent from the file.
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

    /// If there are errors, returns them. Otherwise returns `value` and the warnings. Before a caller passes `None`, it
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
    // Duplicates are removed, because two readers of the same mapping may report the same problem.
    let mut seen = HashSet::new();
    problems.retain(|problem| seen.insert(problem.clone()));
    problems.sort_by_key(|Problem { place, .. }| {
        (files.iter().position(|file| *file == place.file), place.line)
    });
    problems
}

/// Appends `.name` to the path of a key. Hides a name that may contain a secret.
pub(super) fn push_name(path: &mut String, name: &str) {
    push_known_name(path, &shown_name(name));
}

/// Appends `.name` to the path of a key, without a check of `name`. The name comes from the program and not from the
/// file, so it is no secret.
pub(super) fn push_known_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// Returns a name in the form that a problem shows: on one line, and cut if it is long. If the name may contain a
/// secret, the result is `(not shown)`.
pub(super) fn shown_name(name: &str) -> Cow<'_, str> {
    if may_contain_secret(name) {
        Cow::Borrowed("(not shown)")
    } else {
        Cow::Owned(one_line(&cut(name)))
    }
}

/// Returns whether a name may contain a secret: a cryptographic key, a password hash, or a part of one. If a colon or a
/// quote is missing in the YAML, a secret value becomes a name, or a part of a name.
///
/// This function does not recognize secrets, because a secret can have any form. It recognizes harmless names, and
/// returns `false` for them. For all other names, it returns `true`. A name of up to 8 characters is harmless: it is
/// too short for a secret of 64 bits. A longer name is harmless if all of these are true:
///
/// - It has only ASCII letters, digits, and punctuation that is usual in names.
/// - It has at most 7 digits.
/// - It has at most 8 hex digits in a row. Punctuation does not end the row.
/// - Each part between the dots has at most 8 characters, or `looks_like_words` accepts it (`cookieNamePAT`). Random
///   base64 switches between cases and digits more often than words.
pub(super) fn may_contain_secret(name: &str) -> bool {
    if name.chars().count() <= MAX_SHORT {
        return false;
    }
    let is_usual = |c: char| c.is_ascii_alphanumeric() || "._-/#@$*%".contains(c);
    !name.chars().all(is_usual)
        || name.chars().filter(char::is_ascii_digit).count() > 7
        || longest_hex_run(name) > 8
        || name.split('.').any(|part| part.len() > MAX_SHORT && !looks_like_words(part))
}

/// Problems always show a name of up to this many characters. Such a name is too short for a secret: a secret of 64
/// bits has 11 characters in base64, and 16 in hex.
const MAX_SHORT: usize = 8;

/// Returns the length of the longest run of hex digits. Punctuation does not end a run.
fn longest_hex_run(text: &str) -> usize {
    let runs = text.split(|c: char| c.is_ascii_alphanumeric() && !c.is_ascii_hexdigit());
    runs.map(|run| run.chars().filter(char::is_ascii_hexdigit).count()).max().unwrap_or(0)
}

/// Returns whether a part of a name looks like words. A part with letters of only one case always looks like words. A
/// part that mixes upper and lower case looks like words if both conditions are true: it has no digit, and any three
/// neighboring words in it have at least 8 letters in total. A word is a run of letters of one case, or an upper-case
/// letter and the lower-case letters after it. About 1 of 500 random base64 texts of 22 characters passes this test.
fn looks_like_words(part: &str) -> bool {
    let has = |is: fn(&char) -> bool| part.chars().any(|c| is(&c));
    if !(has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase)) {
        return true;
    }
    if has(char::is_ascii_digit) {
        return false;
    }
    let mut words = Vec::new();
    let mut before = ['.'; 2];
    for c in part.chars() {
        let is_first = match c {
            'A'..='Z' => !before[1].is_ascii_uppercase(),
            'a'..='z' => {
                !before[1].is_ascii_alphabetic() || before.iter().all(char::is_ascii_uppercase)
            }
            _ => false,
        };
        if is_first {
            words.push(1);
        } else if let Some(length) = words.last_mut().filter(|_| c.is_ascii_alphabetic()) {
            *length += 1;
        }
        before = [before[1], c];
    }
    words.windows(3).all(|three| three.iter().sum::<u32>() >= 8)
}

pub(super) fn push_index(path: &mut String, index: usize) {
    path.push_str(&format!("[{index}]"));
}

/// Returns a value in the form that a problem shows: in quotes, and cut if it is long. If the value looks like key
/// material, the result does not contain it.
pub(super) fn quote(value: &str) -> String {
    if looks_like_key_material(value) {
        "the value (not shown: it looks like a secret key)".to_owned()
    } else {
        format!("{:?}", cut(value))
    }
}

/// Returns whether a value looks like key material: a private key in PEM, the base64 lines of a PEM file, an Argon2
/// hash, or at least 16 hex digits (64 bits). Blanks, line ends, colons, hyphens, underscores and apostrophes may
/// separate the hex digits.
///
/// The hex digits may be one word of a longer text. A word that also has other characters, such as
/// `E001193519561977.key`, is not key material, because it may be a path. For names, see the stricter
/// [`may_contain_secret`].
pub(super) fn looks_like_key_material(text: &str) -> bool {
    if text.contains("PRIVATE KEY") || text.contains("$argon2") || is_base64_of_der(text) {
        return true;
    }
    // If a quote is missing in the YAML, the value continues on the next lines. One of its words may then be a
    // cryptographic key.
    let is_separator = |c: char| c.is_whitespace() || "{}[],\"'".contains(c);
    is_hex_key(text) || text.split(is_separator).any(is_hex_key)
}

/// Returns whether a text consists of at least 16 hex digits (64 bits) and the separators that
/// [`looks_like_key_material`] lists.
fn is_hex_key(text: &str) -> bool {
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

/// Returns whether a text looks like the base64 lines of a PEM file (without the BEGIN and END lines). Such a text
/// encodes a long DER SEQUENCE.
fn is_base64_of_der(text: &str) -> bool {
    let is_base64 =
        |c: char| c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || "+/=".contains(c);
    text.len() > 100 && text.trim_start().starts_with("MI") && text.chars().all(is_base64)
}

/// Returns `; did you mean ...?` if a known word is similar to `word`. If no known word is similar, returns a list of
/// at most 12 known words. The result is empty if there are no known words.
pub(super) fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<_> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    let lower = word.to_ascii_lowercase();
    // The comparison takes quadratic time, so a word of more than 80 bytes is not compared. All known words are
    // shorter.
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
            "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHQ$BDS4zUmOv7TxUDVpVjZ8Lg",
            &format!("MIIEvQIBADANBgkqhkiG9w0BAQEF{}", "AASCBKcwggSjAgEAAoIBAQC719".repeat(4)),
            "/dev, \n  signingKey: E001193519561977\n  saf: x",
            "jwt.key {key: E001193519561977}",
        ] {
            assert!(looks_like_key_material(text), "{text}");
            assert!(may_contain_secret(text), "{text}");
            assert!(!quote(text).contains("19"), "{text}");
        }
        for text in ["", "ZOWEAPPL", "E00119351956197", "E001193519561977.key", "feed"] {
            assert!(!looks_like_key_material(text), "{text}");
        }
    }

    #[test]
    fn a_name_that_contains_a_secret_is_not_shown() {
        let secrets = [
            "E001193519561977",
            "e001193519561977",
            "E0:01:19:35:19:56:19:77",
            "E001-1935-1956-1977",
            "E001.1935.1956.1977",
            "E001_193519561977",
            "E0011935 19561977",
            // Keys with a typo: O in place of 0, G in place of 6, one digit too many, one digit too few.
            "EO01193519561977",
            "E00119351956197G",
            "E0011935G9561977",
            "E0011935195619777",
            "E00119351956197",
            "EABCDEFABCDEFABC",
            "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
            // 16 bytes in base64, with both alphabets.
            "EsdA01/8rLnaEYpCWhs5Vg==",
            "EsdA01/8rLnaEYpCWhs5Vg",
            "EsdA01_8rLnaEYpCWhs5Vg",
            "EsdA-1_8rLnaEYpCWhs5Vg",
            "wrWsdZhjfTnaEYpCWhsdVg",
            "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHQ$BDS4zUmOv7TxUDVpVjZ8Lg",
            "BDS4zUmOv7TxUDVpVjZ8Lg",
            "c29tZXNhbHQ",
            "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7",
            "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJVU0VSIn0.c2lnbmF0dXJl",
        ];
        for secret in secrets {
            for name in [
                secret.to_owned(),
                format!("{secret} "),
                format!("\t{secret}"),
                format!("key {secret}"),
                format!("{secret}  E001193-6z"),
                format!("key: {secret}"),
                format!("key={secret}"),
                format!("\"{secret}\""),
                format!("'{secret}"),
                format!("X'{secret}'"),
                format!("[{secret}]"),
                format!("{{{secret}}}"),
                format!("key-{secret}"),
                format!("key_{secret}"),
                format!("key.{secret}"),
                format!("key.{secret}.file"),
                format!("file/{secret}"),
                format!("{secret},"),
                format!("ptktdata{secret}"),
                format!("0x{secret}"),
                format!("{secret}\n{secret}"),
                format!("\u{e4}{secret}"),
            ] {
                let mut path = String::new();
                push_name(&mut path, &name);
                assert_eq!(path, "(not shown)", "{name}");
            }
        }
        // A name with unusual punctuation, such as a blank or a colon, is not shown either.
        for name in ["a name with blanks", "a name, quoted", "replay:Protection", "\u{e4}nderung.x"]
        {
            assert_eq!(shown_name(name), "(not shown)", "{name}");
        }
    }

    #[test]
    fn names_and_misspelled_names_are_shown() {
        for name in [
            "",
            "<<",
            "a b",
            "R*S",
            "USER",
            "U1234567",
            "E0011935",
            "replayProtecton",
            "replayprotection",
            "REPLAYPROTECTION",
            "replay-protection",
            "replay_protection",
            "singingKey",
            "cookieNamePAT",
            "catalogUiTileId",
            "additionalServiceMetadata",
            "nonStrictVerifySslCertificatesOfServices",
            "components.gateway.apiml.security.x509.externalMapperUrl",
            "apiml.service.customMetadata.apiml.okToRetryOnAllOperations",
            "com.ibm.ws.security.example",
            "api/v1/admin",
            "my-service-2b",
            "zowe.network.server.tls.attls",
            "john.doe@example.com",
            "APIML.DELEGATE.PASSTICKET",
            "IRRPTAUTH.ZOWEAPPL.*",
            "IRRPTAUTH.ZOWEAPPL.A1234567",
            "IZUDFLT.IzuManagementFacilityRestJobs.jobs",
            "$CLASS##@.**",
        ] {
            assert_eq!(shown_name(name), name);
        }
        let long = "replay.".repeat(20);
        assert_eq!(shown_name(&long), format!("{}...", &long[..80]));
        assert_eq!(shown_name("a\nb"), "a\\nb");
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
