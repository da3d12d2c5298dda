//! Typed values from a YAML tree. Every value knows its place and reports its problems there.
//!
//! No function here returns an error. A problem goes to the [`Report`]; the caller gets `None` and
//! continues with the next key.

use std::{
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{
    encoding,
    problem::{Place, Problem, Report, looks_like_a_key, push_index, push_name, quote, suggest},
    yaml::{self, Entry, Node, Value},
};

/// A YAML file as a tree.
pub(super) struct Document {
    file: PathBuf,
    /// `None` if the file is not YAML, which was reported.
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

    pub(super) fn is_yaml(&self) -> bool {
        self.root.is_some()
    }

    /// The document as a mapping. An empty document is an empty mapping.
    pub(super) fn section<'a>(&'a self, report: &'a Report) -> Section<'a> {
        let at = At { file: &self.file, report, line: 1, key: String::new() };
        match &self.root {
            Some(Node { value: Value::Null, .. }) => Section::empty(at),
            Some(node) => Field { at, node }.section(),
            None => Section { broken: true, ..Section::empty(at) },
        }
    }
}

/// A place in a file.
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

    pub(super) fn place(&self) -> Place {
        Place::new(self.file, self.line, &self.key)
    }

    fn problem(&self, text: impl fmt::Display) -> Problem {
        Problem::new(self.place(), &text.to_string())
    }

    fn name(&self, line: usize, name: &str) -> Self {
        let mut key = self.key.clone();
        push_name(&mut key, name);
        Self { line, key, ..*self }
    }

    fn index(&self, line: usize, index: usize) -> Self {
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

/// A value and its place.
#[derive(Clone)]
pub(super) struct Field<'a> {
    pub(super) at: At<'a>,
    node: &'a Node,
}

impl<'a> Field<'a> {
    /// The text of a single value.
    pub(super) fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Scalar(text) if is_template(text) => self.refuse_template(),
            Value::Scalar(text) => return Some(text.trim()),
            Value::Null => self.at.error("is empty; write a value"),
            Value::Seq(_) | Value::Map(_) => self.at.error("must be a single value"),
        }
        None
    }

    /// A single value, parsed by `read`, whose error says what to write.
    pub(super) fn read<T, E: fmt::Display>(
        &self,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text()?;
        match read(text) {
            Ok(value) => Some(value),
            // The error may contain the value.
            Err(_) if looks_like_a_key(text) => {
                self.at.error("cannot be this value, which looks like a key and is not shown");
                None
            }
            Err(error) => {
                self.at.error(error);
                None
            }
        }
    }

    /// Reports that the name of this value, which stands for something, is wrong.
    pub(super) fn wrong_name(&self, name: &str, error: impl fmt::Display) {
        if looks_like_a_key(name) {
            self.at.error("has a name that looks like a key and is not shown");
        } else {
            self.at.error(error);
        }
    }

    /// A single value of a type with `FromStr`.
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

    /// Whether this is `true`. Anything that is not a boolean is reported, and is off.
    pub(super) fn is_on(&self) -> bool {
        self.boolean().unwrap_or(false)
    }

    pub(super) fn number(&self, allowed: RangeInclusive<u64>) -> Option<u64> {
        self.read(|text| {
            text.parse().ok().filter(|number| allowed.contains(number)).ok_or_else(|| {
                let (least, most) = (allowed.start(), allowed.end());
                format!("{} does not fit; write a number from {least} to {most}", quote(text))
            })
        })
    }

    /// A path, relative to the directory of the file that names it.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.path_of(self.text()?)
    }

    /// Like [`Self::path`], for a part of the text.
    pub(super) fn path_of(&self, text: &str) -> Option<PathBuf> {
        if looks_like_a_key(text) {
            self.at.error("looks like a key, which is not shown; write the path of a file");
            return None;
        }
        if text.starts_with("safkeyring") {
            self.at.error("key rings cannot be read; export it to a PEM file and write its path");
            return None;
        }
        Some(self.at.file.parent().unwrap_or(Path::new("")).join(text))
    }

    pub(super) fn items(&self) -> Vec<Self> {
        match &self.node.value {
            Value::Seq(items) => self.indexed(items),
            Value::Null => Vec::new(),
            Value::Scalar(text) if is_template(text) => {
                self.refuse_template();
                Vec::new()
            }
            Value::Scalar(_) | Value::Map(_) => {
                self.at.error("must be a list; write each item in a line of its own after -");
                Vec::new()
            }
        }
    }

    /// The items of a list, or a single value as the only one.
    pub(super) fn one_or_more(&self) -> Vec<Self> {
        match &self.node.value {
            Value::Scalar(_) => vec![self.clone()],
            _ => self.items(),
        }
    }

    /// A mapping. If the value is not a mapping, that is the only problem reported: its keys are not
    /// reported as missing.
    pub(super) fn section(&self) -> Section<'a> {
        let section = Section::empty(self.at.clone());
        match &self.node.value {
            Value::Map(entries) => return Section { entries, ..section },
            Value::Null => return section,
            Value::Scalar(text) if is_template(text) => self.refuse_template(),
            Value::Scalar(_) | Value::Seq(_) => {
                self.at.error("must be a mapping; write keys with their values below it");
            }
        }
        Section { broken: true, ..section }
    }

    /// Whether there is no value, or a blank one, as in the zowe.yaml that Zowe ships.
    pub(super) fn is_blank(&self) -> bool {
        match &self.node.value {
            Value::Null => true,
            Value::Scalar(text) => text.trim().is_empty(),
            Value::Seq(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }

    /// Whether this is a mapping, empty or not.
    pub(super) fn is_mapping(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// Whether this is exactly this text.
    pub(super) fn is_text(&self, wanted: &str) -> bool {
        matches!(&self.node.value, Value::Scalar(text) if text.trim() == wanted)
    }

    /// Whether this is written as `true`. Other values are not reported.
    pub(super) fn is_true(&self) -> bool {
        matches!(&self.node.value, Value::Scalar(text) if text.trim().eq_ignore_ascii_case("true"))
    }

    fn indexed(&self, items: &'a [Node]) -> Vec<Self> {
        let item = |(i, node): (usize, &'a Node)| Self { at: self.at.index(node.line, i), node };
        items.iter().enumerate().map(item).collect()
    }

    fn refuse_template(&self) {
        self.at.error("is a template, which only Zowe resolves; write the value");
    }
}

fn is_template(text: &str) -> bool {
    text.contains("${{")
}

/// A mapping whose keys are read one by one. [`Section::finish`] reports those that were not.
pub(super) struct Section<'a> {
    pub(super) at: At<'a>,
    entries: &'a [Entry],
    /// Whether the value is not a mapping, which was reported.
    broken: bool,
    asked: Vec<&'a str>,
}

impl<'a> Section<'a> {
    fn empty(at: At<'a>) -> Self {
        Self { at, entries: &[], broken: false, asked: Vec::new() }
    }

    /// The value of a key, if the key is present and its value is not blank.
    pub(super) fn optional(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.present(name).filter(|field| !field.is_blank())
    }

    /// The value of a key, if the key is present.
    pub(super) fn present(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.asked.push(name);
        self.entries.iter().find(|entry| entry.key == name).map(|entry| self.field(entry))
    }

    /// The value of a required key. The problem says "write" and then `remedy`.
    pub(super) fn required(&mut self, name: &'static str, remedy: &str) -> Option<Field<'a>> {
        let field = self.present(name);
        match field {
            Some(field) if !field.is_blank() => return Some(field),
            Some(field) => field.at.error(format_args!("is empty; write {remedy}")),
            None if self.broken => {}
            None => {
                self.child(name).error(format_args!("is missing; write {remedy}"));
            }
        }
        None
    }

    /// The mapping below a key; empty if the key is absent.
    pub(super) fn section(&mut self, name: &'static str) -> Self {
        match self.present(name) {
            Some(field) => field.section(),
            None => Self { broken: self.broken, ..Self::empty(self.child(name)) },
        }
    }

    /// The place of a key that is absent.
    pub(super) fn child(&self, name: &str) -> At<'a> {
        self.at.name(self.at.line, name)
    }

    /// The place of a key, whose value is `field` if it is present.
    pub(super) fn place_of(&self, name: &str, field: Option<&Field<'_>>) -> Place {
        match field {
            Some(field) => field.at.place(),
            None => self.at.name(0, name).place(),
        }
    }

    /// Accepts keys without reading them.
    pub(super) fn accept(&mut self, names: &[&'static str]) {
        self.asked.extend(names);
    }

    /// All keys with their values, in order.
    pub(super) fn fields(&self) -> Vec<(&'a str, Field<'a>)> {
        self.entries.iter().map(|entry| (entry.key.as_str(), self.field(entry))).collect()
    }

    /// Reports the keys that were neither read nor accepted.
    pub(super) fn finish(self) {
        for (key, field) in self.fields() {
            if !self.asked.contains(&key) {
                unknown_key(key, &field.at, self.asked.iter().copied());
            }
        }
    }

    fn field(&self, entry: &'a Entry) -> Field<'a> {
        Field { at: self.at.name(entry.line, &entry.key), node: &entry.node }
    }
}

/// Reports a key that is unknown at its place.
pub(super) fn unknown_key<'k>(key: &str, at: &At<'_>, known: impl IntoIterator<Item = &'k str>) {
    at.error(format_args!("is not a key that can stand here{}", suggest(key, known)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What reading `text` reports.
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
    fn problems_name_place_and_remedy() {
        for (text, want) in [
            ("b: true\nn: 5\ns: {x: 1}\nl: [1, 2]\np: a/b\n", &[][..]),
            ("b: 'true'\nn: '5'\n", &[]),
            ("b:\nn: ''\ns:\nl:\np: ~\n", &[]),
            ("b: yes\n", &["f:1: b: \"yes\" is neither true nor false; write one of them"]),
            (
                "n: 11\nb: [x]\n",
                &[
                    "f:1: n: \"11\" does not fit; write a number from 0 to 10",
                    "f:2: b: must be a single value",
                ],
            ),
            ("n: -1\n", &["f:1: n: \"-1\" does not fit; write a number from 0 to 10"]),
            (
                "n: E001193519561977\n",
                &["f:1: n: cannot be this value, which looks like a key and is not shown"],
            ),
            ("s: x\n", &["f:1: s: must be a mapping; write keys with their values below it"]),
            (
                "s: {y: 1}\n",
                &[
                    "f:1: s.x: is missing; write a number",
                    "f:1: s.y: is not a key that can stand here; did you mean x?",
                ],
            ),
            ("l: 1\n", &["f:1: l: must be a list; write each item in a line of its own after -"]),
            ("l: [1, {}]\n", &["f:1: l[1]: must be a single value"]),
            (
                "n: ${{ port }}\ns: '${{ s }}'\nl: ${{ l }}\n",
                &[
                    "f:1: n: is a template, which only Zowe resolves; write the value",
                    "f:2: s: is a template, which only Zowe resolves; write the value",
                    "f:3: l: is a template, which only Zowe resolves; write the value",
                ],
            ),
            (
                "p: safkeyring://IZUSVR/ring\n",
                &["f:1: p: key rings cannot be read; export it to a PEM file and write its path"],
            ),
            ("- a\n", &["f:1: must be a mapping; write keys with their values below it"]),
            (
                "other: 1\n",
                &["f:1: other: is not a key that can stand here; known here: b, l, n, p, s"],
            ),
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
}
