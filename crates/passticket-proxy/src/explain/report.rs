//! The explanation as sections of lines, for people and as JSON.

use serde_json::{Map, Value};

use crate::terminal::print_line;

const WIDTH: usize = 100;

/// The keys of the JSON object, and the titles of the sections for people.
const SECTIONS: [(&str, &str); 7] = [
    ("route", "Route"),
    ("credential", "Credential"),
    ("user", "User"),
    ("scope", "Scope"),
    ("saf", "SAF"),
    ("ticket", "Ticket"),
    ("status", "Result"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Route,
    Credential,
    User,
    Scope,
    Saf,
    Ticket,
    Status,
}

#[derive(Debug, Default)]
pub(super) struct Report {
    sections: [Vec<Fact>; SECTIONS.len()],
}

#[derive(Debug)]
struct Fact {
    key: &'static str,
    value: Value,
    label: &'static str,
    /// The printed lines. If there are none, only the JSON object contains the fact.
    texts: Vec<String>,
}

impl Report {
    /// Adds a fact with one printed line: `label` and `value`. `value` must be a text or a number.
    pub(super) fn fact(
        &mut self,
        section: Section,
        key: &'static str,
        label: &'static str,
        value: impl Into<Value>,
    ) {
        let value = value.into();
        let text = match &value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        self.add(section, key, label, value, vec![text]);
    }

    /// Adds a fact with one printed line for each of `texts`.
    pub(super) fn add(
        &mut self,
        section: Section,
        key: &'static str,
        label: &'static str,
        value: Value,
        texts: Vec<String>,
    ) {
        self.sections[section as usize].push(Fact { key, value, label, texts });
    }

    /// Adds a list. An empty list is in the JSON object, but is not printed.
    pub(super) fn list(
        &mut self,
        section: Section,
        key: &'static str,
        label: &'static str,
        items: Vec<String>,
    ) {
        self.add(section, key, label, items.clone().into(), items);
    }

    /// Returns the JSON object. A section without facts is `null`.
    pub(super) fn json(&self) -> Value {
        let sections = SECTIONS.iter().zip(&self.sections).map(|((key, _), facts)| {
            let object: Map<_, _> =
                facts.iter().map(|fact| (fact.key.to_owned(), fact.value.clone())).collect();
            let value = if object.is_empty() { Value::Null } else { Value::Object(object) };
            ((*key).to_owned(), value)
        });
        Value::Object(sections.collect())
    }

    pub(super) fn print(&self) {
        let mut number = 0;
        for ((_, title), facts) in SECTIONS.iter().zip(&self.sections) {
            if facts.iter().all(|fact| fact.texts.is_empty()) {
                continue;
            }
            number += 1;
            print_line("");
            print_line(&format!("{number}. {title}"));
            for fact in facts {
                let label = format!("   {:<20} ", fact.label);
                let mut indent = label.as_str();
                let blank = " ".repeat(label.len());
                for text in &fact.texts {
                    print_wrapped(indent, &printable(text));
                    indent = &blank;
                }
            }
        }
    }
}

/// Prints a text after `indent`, in lines of at most [`WIDTH`] characters. A longer word stays whole.
pub(super) fn print_wrapped(indent: &str, text: &str) {
    for line in wrapped(indent, text) {
        print_line(&line);
    }
}

fn wrapped(indent: &str, text: &str) -> Vec<String> {
    let blank = " ".repeat(indent.chars().count());
    let mut lines = Vec::new();
    let mut line = indent.to_owned();
    let mut length = blank.len();
    let mut is_empty = true;
    for word in text.split(' ') {
        let word_length = word.chars().count();
        if !is_empty && length + 1 + word_length > WIDTH {
            lines.push(std::mem::replace(&mut line, blank.clone()));
            length = blank.len();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
            length += 1;
        }
        line.push_str(word);
        length += word_length;
        is_empty = false;
    }
    lines.push(line);
    lines
}

/// Prints a JSON object. The characters that [`printable`] replaces are escaped.
pub(super) fn print_json(json: &Value) {
    print_line(&json_text(json));
}

fn json_text(json: &Value) -> String {
    let text = json.to_string();
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match is_unsafe(c) {
            // Such a character is always in a string, because `Value` writes none outside of strings. In a string, it
            // can be escaped.
            true => {
                let mut units = [0; 2];
                let units = c.encode_utf16(&mut units).iter();
                safe.extend(units.map(|unit| format!("\\u{unit:04x}")));
            }
            false => safe.push(c),
        }
    }
    safe
}

/// Replaces control characters, invisible characters, and characters that change the direction of a text. A client or a
/// file may have chosen the text, and such characters could change what the terminal shows.
pub(super) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match is_unsafe(c) {
            true => safe.extend(c.escape_unicode()),
            false => safe.push(c),
        }
    }
    safe
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_at_most_100_characters() {
        let text = "word ".repeat(60);
        let lines = wrapped("   label ", text.trim_end());
        assert!(lines.len() > 2);
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:?}");
        assert!(lines[0].starts_with("   label word") && lines[1].starts_with("         word"));
        let long = "x".repeat(150);
        assert_eq!(wrapped("  ", &long), [format!("  {long}")]);
        assert_eq!(wrapped("  ", ""), ["  "]);
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\u{1b}[31m\nb\u{202e}c"), "a\\u{1b}[31m\\u{a}b\\u{202e}c");
        assert_eq!(printable("plain é"), "plain é");
        assert_eq!(printable("\u{61c}\u{e0041}"), "\\u{61c}\\u{e0041}");
    }

    #[test]
    fn control_characters_are_escaped_in_json() {
        let json = serde_json::json!({"a": "\u{1b}\u{9b}2J\u{202e}\u{e0041}é\n"});
        let text = json_text(&json);
        assert_eq!(text, r#"{"a":"\u001b\u009b2J\u202e\udb40\udc41é\n"}"#);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json);
    }

    #[test]
    fn the_json_object_has_all_sections() {
        let mut report = Report::default();
        report.fact(Section::Route, "service", "service", "files");
        report.list(Section::Status, "notAsked", "not asked", Vec::new());
        let json = report.json();
        let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let mut want = SECTIONS.map(|(key, _)| key);
        want.sort_unstable();
        let mut sorted = keys.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, want);
        assert_eq!(json["route"]["service"], "files");
        assert_eq!(json["scope"], Value::Null);
        assert_eq!(json["status"]["notAsked"], Value::Array(Vec::new()));
    }
}
