//! Reads typed values from a YAML tree. Each value has its place: file, line and key.
//!
//! The functions of this module do not return errors. They report each problem to the [`Report`], and then return
//! `None`, an empty list or an empty section. The caller then continues with the next key.

use std::{
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
};

use tower_passticket::identity::Fingerprint;
use zeroize::Zeroizing;

use super::{
    encoding,
    key_ring::KeyRing,
    problem::{
        Place, Problem, Report, looks_like_key_material, may_contain_secret, push_index,
        push_known_name, push_name, quote, suggest,
    },
    secret_file::{read_authorization_file, read_secret_file},
    templates::{self, is_template},
    yaml::{self, Entry, Node, Value},
};

pub(super) struct Document {
    file: PathBuf,
    /// `None` if the file is not valid YAML. In this case, the problem was already reported.
    root: Option<Node>,
}

impl Document {
    pub(super) fn parse(file: PathBuf, bytes: &[u8], report: &Report) -> Self {
        let root = match encoding::decode(bytes) {
            Ok(text) => {
                let (root, faults) = yaml::parse(text);
                for fault in faults {
                    let place = Place::new(&file, fault.line, &fault.key);
                    report.error(Problem::new(place, &fault.text));
                }
                root
            }
            Err(error) => {
                let place = Place::new(&file, error.line, "");
                report.error(Problem::new(place, &error.text(&file)));
                None
            }
        };
        Self { file, root }
    }

    /// Replaces the templates in the document. `env` looks up an environment variable.
    pub(super) fn with_templates(mut self, env: &dyn Fn(&str) -> Option<String>) -> Self {
        if let Some(root) = &mut self.root {
            templates::resolve(root, &|| templates::host_name(env));
        }
        self
    }

    pub(super) fn is_yaml(&self) -> bool {
        self.root.is_some()
    }

    /// Returns the document as a mapping. An empty document is an empty mapping.
    pub(super) fn section<'a>(&'a self, report: &'a Report) -> Section<'a> {
        let at = At { file: &self.file, report, line: 1, key: String::new() };
        match &self.root {
            Some(Node { value: Value::Null, .. }) => Section::empty(at),
            Some(node) => Field { at, node }.section(),
            None => Section { broken: true, ..Section::empty(at) },
        }
    }
}

#[derive(Clone)]
pub(super) struct At<'a> {
    pub(super) file: &'a Path,
    report: &'a Report,
    pub(super) line: usize,
    pub(super) key: String,
}

impl<'a> At<'a> {
    pub(super) fn error(&self, text: impl fmt::Display) {
        self.report.error(self.problem(text));
    }

    pub(super) fn warning(&self, text: impl fmt::Display) {
        self.report.warning(self.problem(text));
    }

    /// Reports that `name` is wrong. `name` is the last part of the path of this key. If `name` may contain a secret,
    /// the report does not show `error`, because `error` may contain `name`.
    pub(super) fn wrong_name(&self, name: &str, error: impl fmt::Display) {
        if may_contain_secret(name) {
            self.error("is a wrong name (not shown: it may contain a secret)");
        } else {
            self.error(error);
        }
    }

    /// Reports that the key `name` is missing in this mapping. `remedy` says what to write.
    pub(super) fn missing(&self, name: &str, remedy: &str) {
        self.with_known_key(self.line, name).error(format_args!("is missing; write {remedy}"));
    }

    pub(super) fn place(&self) -> Place {
        Place::new(self.file, self.line, &self.key)
    }

    fn problem(&self, text: impl fmt::Display) -> Problem {
        Problem::new(self.place(), &text.to_string())
    }

    /// Returns the place of the key `name` in this mapping. `name` comes from the file, so it may contain a secret.
    fn with_key(&self, line: usize, name: &str) -> Self {
        let mut key = self.key.clone();
        push_name(&mut key, name);
        Self { line, key, ..*self }
    }

    /// Returns the place of the key `name` in this mapping. `name` is a name that the program knows, so it is always
    /// shown.
    fn with_known_key(&self, line: usize, name: &str) -> Self {
        let mut key = self.key.clone();
        push_known_name(&mut key, name);
        Self { line, key, ..*self }
    }

    fn with_index(&self, line: usize, index: usize) -> Self {
        let mut key = self.key.clone();
        push_index(&mut key, index);
        Self { line, key, ..*self }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

#[derive(Clone)]
pub(super) struct Field<'a> {
    pub(super) at: At<'a>,
    node: &'a Node,
}

impl<'a> Field<'a> {
    /// Returns the text of a single value. Reports a value that is null, a list, a mapping or a template.
    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(text) if is_template(text) => self.report_template(),
            Value::Scalar(text) => return Some(text.trim()),
            Value::Null => self.at.error("is empty; write a value"),
            Value::Seq(_) | Value::Map(_) => self.at.error("must be a single value"),
        }
        None
    }

    /// Returns the text of a single value, without checks. Use this function only for values that have no effect on
    /// requests, such as titles, and for values that were checked before. For null, a list or a mapping, returns `None`
    /// without a report. A template stays as it is.
    pub(super) fn unchecked_text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(text) => Some(text.trim()),
            Value::Null | Value::Seq(_) | Value::Map(_) => None,
        }
    }

    /// Parses a single value with `read`. The error of `read` must say what to write instead.
    pub(super) fn read<T, E: fmt::Display>(
        &self,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text()?;
        match read(text) {
            Ok(value) => Some(value),
            // The error may contain the value.
            Err(_) if looks_like_key_material(text) => {
                self.at.error("has a wrong value (not shown: it looks like a secret key)");
                None
            }
            Err(error) => {
                self.at.error(error);
                None
            }
        }
    }

    pub(super) fn parse<T: FromStr<Err: fmt::Display>>(&self) -> Option<T> {
        self.read(T::from_str)
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        self.read(|text| match text {
            "true" | "True" | "TRUE" => Ok(true),
            "false" | "False" | "FALSE" => Ok(false),
            other => Err(format!("{} is neither true nor false; write one of them", quote(other))),
        })
    }

    /// Returns whether the value is `true`. For a value that is not a boolean, reports this and returns `false`.
    pub(super) fn is_on(&self) -> bool {
        self.boolean().unwrap_or(false)
    }

    pub(super) fn number(&self, allowed: RangeInclusive<u64>) -> Option<u64> {
        self.read(|text| {
            text.parse().ok().filter(|number| allowed.contains(number)).ok_or_else(|| {
                let (least, most) = (allowed.start(), allowed.end());
                format!("{} is not valid; write a number from {least} to {most}", quote(text))
            })
        })
    }

    /// Parses the SHA-256 fingerprint of a certificate. A fingerprint of the wrong length looks like a secret key, so
    /// the message does not show it.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        let text = self.text()?;
        match text.parse::<Fingerprint>() {
            Ok(fingerprint) => return Some(fingerprint),
            Err(_) if looks_like_key_material(text) => self.at.error(
                "has a wrong value (not shown: it looks like a secret key); write 64 hexadecimal digits, as `openssl x509 \
                 -noout -fingerprint -sha256 -in FILE` shows them",
            ),
            Err(error) => self.at.error(error),
        }
        None
    }

    /// Returns the value as a path. A relative path starts at the directory of the file that contains this value.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.path_of(self.text()?)
    }

    /// Does the same as [`Self::path`], but for `text`, which is a part of the value.
    pub(super) fn path_of(&self, text: &str) -> Option<PathBuf> {
        if looks_like_key_material(text) {
            self.at.error("looks like a secret key (not shown); write the path of a file");
            return None;
        }
        if let Some(ring) = KeyRing::of_path(text) {
            self.at.error(ring.export_file());
            return None;
        }
        Some(self.at.file.parent().unwrap_or(Path::new("")).join(text))
    }

    /// Reads the secret file whose path this value contains. Returns the path and the content of the file.
    pub(super) fn secret_file(&self) -> Option<(PathBuf, Zeroizing<Vec<u8>>)> {
        let path = self.path()?;
        match read_secret_file(&path) {
            Ok(content) => Some((path, content)),
            Err(error) => {
                self.at.error(error);
                None
            }
        }
    }

    /// Reads a file that decides who a client is or what users may do. This value contains the path of the file.
    /// Returns the path and the content of the file.
    pub(super) fn authorization_file(&self) -> Option<(PathBuf, Vec<u8>)> {
        let path = self.path()?;
        match read_authorization_file(&path, |text| self.at.warning(text)) {
            Ok(content) => Some((path, content)),
            Err(error) => {
                self.at.error(error);
                None
            }
        }
    }

    /// Returns the items of a list. Null counts as an empty list. Reports a value that is not a list.
    pub(super) fn items(&self) -> Vec<Self> {
        match &self.node.value {
            Value::Seq(items) => self.indexed(items),
            Value::Null => Vec::new(),
            Value::Scalar(text) if is_template(text) => {
                self.report_template();
                Vec::new()
            }
            Value::Scalar(_) | Value::Map(_) => {
                self.at.error(
                    "must be a list; write each item on a line of its own that begins with -",
                );
                Vec::new()
            }
        }
    }

    /// Returns the items of a list. A single value counts as a list of one item.
    pub(super) fn one_or_more(&self) -> Vec<Self> {
        match &self.node.value {
            Value::Scalar(_) => vec![self.clone()],
            _ => self.items(),
        }
    }

    /// Returns the value as a mapping. A blank value counts as an empty mapping. If the value is not a mapping, this
    /// function reports that, and returns a broken section. [`Section::required`] does not report missing keys in a
    /// broken section.
    pub(super) fn section(&self) -> Section<'a> {
        let section = Section::empty(self.at.clone());
        match &self.node.value {
            Value::Map(entries) => return Section { entries, ..section },
            _ if self.is_blank() => return section,
            Value::Scalar(text) if is_template(text) => self.report_template(),
            Value::Null | Value::Scalar(_) | Value::Seq(_) => {
                self.at.error("must be a mapping; write keys with their values below it");
            }
        }
        Section { broken: true, ..section }
    }

    /// Returns whether the value is null, blank, an empty list or an empty mapping. The zowe.yaml that Zowe ships has
    /// such values.
    pub(super) fn is_blank(&self) -> bool {
        match &self.node.value {
            Value::Null => true,
            Value::Scalar(text) => text.trim().is_empty(),
            Value::Seq(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }

    pub(super) fn is_mapping(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::Seq(_))
    }

    /// Returns whether the value is the text `wanted`. Blanks at the beginning and end of the value are ignored.
    pub(super) fn is_text(&self, wanted: &str) -> bool {
        matches!(&self.node.value, Value::Scalar(text) if text.trim() == wanted)
    }

    /// Does the same as [`Self::is_text`], but ignores upper and lower case.
    pub(super) fn is_word(&self, wanted: &str) -> bool {
        matches!(&self.node.value, Value::Scalar(text) if text.trim().eq_ignore_ascii_case(wanted))
    }

    /// Returns whether the value is a text with a template that was not replaced.
    pub(super) fn is_template(&self) -> bool {
        matches!(&self.node.value, Value::Scalar(text) if is_template(text))
    }

    fn indexed(&self, items: &'a [Node]) -> Vec<Self> {
        let item =
            |(i, node): (usize, &'a Node)| Self { at: self.at.with_index(node.line, i), node };
        items.iter().enumerate().map(item).collect()
    }

    fn report_template(&self) {
        self.at.error(
            "contains a template that cannot be resolved; write the value itself, ${HOSTNAME}, or ${{ KEY.KEY }} with \
             the path of an existing key",
        );
    }
}

/// A mapping whose keys are read one by one. [`Section::finish`] reports the keys that were not read.
///
/// A section can consist of several mappings ([`Section::over`]). The value of a key then comes from the first mapping
/// in which the key is present and not blank.
pub(super) struct Section<'a> {
    /// The place of the last mapping.
    pub(super) at: At<'a>,
    entries: &'a [Entry],
    /// The mappings that precede `entries`.
    first: Vec<(At<'a>, &'a [Entry])>,
    /// `true` if a value from which this section is read is not a mapping. In this case, the problem was already
    /// reported.
    broken: bool,
    known: Vec<&'a str>,
}

impl<'a> Section<'a> {
    fn empty(at: At<'a>) -> Self {
        Self { at, entries: &[], first: Vec::new(), broken: false, known: Vec::new() }
    }

    /// Combines two sections. A key is read from this section. If it is absent or blank here, it is read from `other`.
    /// Mappings below the same key are also combined. If a required key is absent in both sections, the place of the
    /// problem is in `other`.
    pub(super) fn over(self, other: Self) -> Self {
        let mut first = self.first;
        first.push((self.at, self.entries));
        first.extend(other.first);
        Self { first, broken: self.broken || other.broken, ..other }
    }

    fn values(&self, name: &str) -> impl Iterator<Item = Field<'a>> {
        self.mappings().filter_map(move |(at, entries)| Self::value(at, entries, name))
    }

    fn mappings(&self) -> impl Iterator<Item = (&At<'a>, &'a [Entry])> {
        let first = self.first.iter().map(|(at, entries)| (at, *entries));
        first.chain([(&self.at, self.entries)])
    }

    /// Returns the value of a key in one mapping. `name` is a name that the program knows.
    fn value(at: &At<'a>, entries: &'a [Entry], name: &str) -> Option<Field<'a>> {
        let entry = entries.iter().find(|entry| entry.key == name)?;
        Some(Field { at: at.with_known_key(entry.line, name), node: &entry.node })
    }

    /// Returns the index of the first of `paths` that has a value. The search tries all paths in the first mapping of
    /// this section, then all paths in the next one.
    pub(super) fn first_of(&self, paths: &[[&str; 2]]) -> Option<usize> {
        self.mappings().find_map(|(at, entries)| {
            paths.iter().position(|[name, key]| {
                let Some(field) = Self::value(at, entries, name) else { return false };
                let Value::Map(entries) = &field.node.value else { return false };
                Self::value(&field.at, entries, key).is_some_and(|field| !field.is_blank())
            })
        })
    }

    /// Returns the value of a key, if the key is present and its value is not blank.
    pub(super) fn optional(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.read(name);
        self.values(name).find(|field| !field.is_blank())
    }

    /// Returns the value of a key if the key is present. The value may be blank.
    pub(super) fn present(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.read(name);
        self.values(name).next()
    }

    fn read(&mut self, name: &'static str) {
        self.known.push(name);
        #[cfg(test)]
        self.at.report.read(self.child(name).key);
    }

    /// Returns the value of a required key. Reports a key that is missing or blank. `remedy` says what to write.
    pub(super) fn required(&mut self, name: &'static str, remedy: &str) -> Option<Field<'a>> {
        let field = self.optional(name);
        if field.is_some() {
            return field;
        }
        match self.present(name) {
            Some(field) => field.at.error(format_args!("is empty; write {remedy}")),
            None if self.broken => {}
            None => self.at.missing(name, remedy),
        }
        None
    }

    /// Returns the mapping below a key. If the key is absent, the mapping is empty.
    pub(super) fn section(&mut self, name: &'static str) -> Self {
        self.read(name);
        let absent = Self { broken: self.broken, ..Self::empty(self.child(name)) };
        let last = Self::value(&self.at, self.entries, name);
        let last = last.map_or(absent, |field| field.section());
        let first = self.first.iter().rev();
        first
            .filter_map(|(at, entries)| Self::value(at, entries, name))
            .fold(last, |section, before| before.section().over(section))
    }

    /// Returns the place for a problem with an absent key. It has the line of this mapping.
    pub(super) fn child(&self, name: &str) -> At<'a> {
        self.at.with_known_key(self.at.line, name)
    }

    /// Returns the place of a key. `field` is the value of the key if the key is present. The place of an absent key
    /// has no line.
    pub(super) fn place_of(&self, name: &str, field: Option<&Field<'_>>) -> Place {
        match field {
            Some(field) => field.at.place(),
            None => self.at.with_known_key(0, name).place(),
        }
    }

    /// Marks keys as known, without reading them. [`Self::finish`] does not report them.
    pub(super) fn accept(&mut self, names: &[&'static str]) {
        self.known.extend(names);
    }

    /// Returns whether a value from which this section is read is not a mapping. In this case, the problem was already
    /// reported.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Returns all keys with their values: the keys of each mapping in the order of the file.
    pub(super) fn fields(&self) -> Vec<(&'a str, Field<'a>)> {
        let all = self.mappings().flat_map(|(at, entries)| {
            entries.iter().map(move |entry| (entry.key.as_str(), Self::field(at, entry)))
        });
        all.collect()
    }

    /// Reports the keys that were neither read nor accepted.
    pub(super) fn finish(self) {
        for (key, field) in self.fields() {
            if !self.known.contains(&key) {
                unknown_key(key, &field.at, self.known.iter().copied());
            }
        }
    }

    fn field(at: &At<'a>, entry: &'a Entry) -> Field<'a> {
        Field { at: at.with_key(entry.line, &entry.key), node: &entry.node }
    }
}

/// Reports an unknown key. The report suggests one of the names in `known`, or lists them.
pub(super) fn unknown_key<'k>(key: &str, at: &At<'_>, known: impl IntoIterator<Item = &'k str>) {
    at.error(format_args!("is an unknown key{}", suggest(key, known)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, read: impl FnOnce(&mut Section<'_>)) -> Vec<String> {
        let report = Report::default();
        let document = Document::parse("f".into(), text.as_bytes(), &report);
        let mut section = document.section(&report);
        read(&mut section);
        section.finish();
        match report.finish(Some(())) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn wrong_values_are_reported_with_their_places() {
        for (text, want) in [
            ("b: true\nn: 5\ns: {x: 1}\nl: [1, 2]\np: a/b\n", &[][..]),
            ("b: 'true'\nn: '5'\n", &[]),
            ("b:\nn: ''\ns:\nl:\np: ~\n", &[]),
            ("b: yes\n", &["f:1: b: \"yes\" is neither true nor false; write one of them"]),
            (
                "n: 11\nb: [x]\n",
                &[
                    "f:1: n: \"11\" is not valid; write a number from 0 to 10",
                    "f:2: b: must be a single value",
                ],
            ),
            ("n: -1\n", &["f:1: n: \"-1\" is not valid; write a number from 0 to 10"]),
            (
                "n: E001193519561977\n",
                &["f:1: n: has a wrong value (not shown: it looks like a secret key)"],
            ),
            ("s: x\n", &["f:1: s: must be a mapping; write keys with their values below it"]),
            (
                "s: {y: 1}\n",
                &[
                    "f:1: s.x: is missing; write a number",
                    "f:1: s.y: is an unknown key; did you mean x?",
                ],
            ),
            (
                "l: 1\n",
                &[
                    "f:1: l: must be a list; write each item on a line of its own that begins with -",
                ],
            ),
            ("l: [1, {}]\n", &["f:1: l[1]: must be a single value"]),
            (
                "n: ${{ port }}\ns: '${{ s }}'\nl: ${{ l }}\n",
                &[
                    "f:1: n: contains a template that cannot be resolved; write the value itself, ${HOSTNAME}, or \
                     ${{ KEY.KEY }} with the path of an existing key",
                    "f:2: s: contains a template that cannot be resolved; write the value itself, ${HOSTNAME}, or \
                     ${{ KEY.KEY }} with the path of an existing key",
                    "f:3: l: contains a template that cannot be resolved; write the value itself, ${HOSTNAME}, or \
                     ${{ KEY.KEY }} with the path of an existing key",
                ],
            ),
            (
                "p: safkeyring://IZUSVR/ring\n",
                &[
                    "f:1: p: is a key ring of z/OS, which cannot be read from a file; export its content on z/OS (a \
                     certificate with its key: RACDCERT ID(IZUSVR) EXPORT(LABEL('<LABEL>')) DSN('IZUSVR.GATEWAY.P12') \
                     FORMAT(PKCS12DER) PASSWORD('<PASSWORD>'); an authority: RACDCERT CERTAUTH \
                     EXPORT(LABEL('<LABEL>')) DSN('IZUSVR.CA.PEM') FORMAT(CERTB64)), and write the path of the copy",
                ],
            ),
            (
                "p: |\n  -----BEGIN PRIVATE KEY-----\n  MIIE\n",
                &["f:1: p: looks like a secret key (not shown); write the path of a file"],
            ),
            ("- a\n", &["f:1: must be a mapping; write keys with their values below it"]),
            ("other: 1\n", &["f:1: other: is an unknown key; known here: b, l, n, p, s"]),
        ] {
            let got = problems(text, |section| {
                section.optional("b").map(|f| f.boolean());
                section.optional("n").map(|f| f.number(0..=10));
                if let Some(field) = section.optional("s") {
                    let mut inner = field.section();
                    inner.required("x", "a number");
                    inner.finish();
                }
                for item in section.optional("l").iter().flat_map(Field::items) {
                    item.text();
                }
                section.optional("p").map(|f| f.path());
            });
            assert_eq!(got, want, "{text:?}");
        }
    }

    #[test]
    fn a_blank_value_is_an_empty_mapping() {
        for text in ["", "s:\n", "s: ''\n", "s: []\n", "s: {}\n"] {
            let got = problems(text, |section| section.section("s").finish());
            assert_eq!(got, [""; 0], "{text:?}");
        }
    }
}
