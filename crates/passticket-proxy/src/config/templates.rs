//! Replaces the templates in the values of a zowe.yaml: `${{ a.b }}` by the value of the key `a.b`, and `${HOSTNAME}`
//! by the host name (docs/decisions.md#d47). Zowe evaluates the text between the braces as JavaScript. In this
//! gateway, the text can only be the path of a key.

use std::{cell::Cell, fs};

use super::yaml::{Node, Value};

// The value of a template can contain more templates. Without these limits, a short file could cost much memory and
// time.

/// The maximum number of templates that are replaced in a file.
const MAX_TEMPLATES: usize = 1_000;
/// The maximum length of a value in bytes after its templates were replaced. Text after the last template does not
/// count.
const MAX_LENGTH: usize = 4_096;
/// The maximum depth of nested templates. A template is nested if the value of another template contains it.
const MAX_DEPTH: usize = 8;

/// Replaces the templates. A value with a template that cannot be resolved stays as it is. If the gateway reads such a
/// value later, [`Field`](super::reader::Field) reports an error.
pub(super) fn resolve(root: &mut Node, host_name: &dyn Fn() -> Option<String>) {
    let templates = Templates { root, host_name, left: Cell::new(MAX_TEMPLATES) };
    let mut values = Vec::new();
    templates.collect(root, &mut values);
    replace(root, &mut values.into_iter());
}

/// Returns the host name: the environment variable `HOSTNAME`. If this variable is unset or empty, returns the content
/// of `/proc/sys/kernel/hostname`.
pub(super) fn host_name(env: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let of_linux = || fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = env("HOSTNAME").filter(|name| !name.is_empty()).or_else(of_linux)?;
    Some(name.trim().to_owned())
}

pub(super) fn is_template(text: &str) -> bool {
    text.contains("${")
}

struct Templates<'a> {
    root: &'a Node,
    host_name: &'a dyn Fn() -> Option<String>,
    /// The number of templates that may still be replaced.
    left: Cell<usize>,
}

impl Templates<'_> {
    /// Appends to `values` the new value of each text with a template, in the order of the file. `None` means that the
    /// text stays as it is.
    fn collect(&self, node: &Node, values: &mut Vec<Option<String>>) {
        match &node.value {
            Value::Scalar(text) if is_template(text) => values.push(self.text(text, MAX_DEPTH)),
            Value::Null | Value::Scalar(_) => {}
            Value::Seq(items) => items.iter().for_each(|item| self.collect(item, values)),
            Value::Map(entries) => {
                entries.iter().for_each(|entry| self.collect(&entry.node, values));
            }
        }
    }

    fn text(&self, text: &str, depth: usize) -> Option<String> {
        let mut rest = text;
        let mut resolved = String::new();
        while let Some((before, template)) = rest.split_once("${") {
            self.left.set(self.left.get().checked_sub(1)?);
            resolved.push_str(before);
            if let Some(template) = template.strip_prefix('{') {
                let (path, after) = template.split_once("}}")?;
                resolved.push_str(&self.key(path.trim(), depth.checked_sub(1)?)?);
                rest = after;
            } else {
                rest = template.strip_prefix("HOSTNAME}")?;
                resolved.push_str(&(self.host_name)()?);
            }
            if resolved.len() > MAX_LENGTH {
                return None;
            }
        }
        resolved.push_str(rest);
        Some(resolved)
    }

    /// Returns the value of the key `path`, with its templates replaced. `None` if there is no such key, or if its
    /// value is not a text.
    fn key(&self, path: &str, depth: usize) -> Option<String> {
        let node = path.split('.').try_fold(self.root, |node, name| match &node.value {
            Value::Map(entries) => {
                entries.iter().find(|entry| entry.key == name).map(|entry| &entry.node)
            }
            _ => None,
        })?;
        match &node.value {
            Value::Scalar(text) => self.text(text, depth),
            _ => None,
        }
    }
}

fn replace(node: &mut Node, values: &mut impl Iterator<Item = Option<String>>) {
    match &mut node.value {
        Value::Scalar(text) if is_template(text) => {
            if let Some(Some(value)) = values.next() {
                *text = value;
            }
        }
        Value::Null | Value::Scalar(_) => {}
        Value::Seq(items) => items.iter_mut().for_each(|item| replace(item, values)),
        Value::Map(entries) => {
            entries.iter_mut().for_each(|entry| replace(&mut entry.node, values));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    fn resolved(text: &str) -> String {
        let mut root = yaml::parse(text).0.unwrap();
        resolve(&mut root, &|| Some("zos1".to_owned()));
        let Value::Map(entries) = root.value else { panic!("{text}") };
        match entries.into_iter().find(|entry| entry.key == "x").unwrap().node.value {
            Value::Scalar(text) => text,
            _ => panic!("{text}"),
        }
    }

    #[test]
    fn a_path_becomes_the_value_of_its_key_and_hostname_becomes_the_host_name() {
        for (text, want) in [
            ("{a: {b: 7554}, x: '${{ a.b }}'}", "7554"),
            ("{a: {b: v}, x: '${{a.b}}'}", "v"),
            ("{a: {b: v}, x: 'https://${{ a.b }}:${{ a.b }}/p'}", "https://v:v/p"),
            ("{a: {b: '${{ c }}/d'}, c: v, x: '${{ a.b }}'}", "v/d"),
            ("{x: '${HOSTNAME}'}", "zos1"),
            ("{a: '${HOSTNAME}', x: '${{ a }}.example.com'}", "zos1.example.com"),
            ("{x: 'cost: 5$'}", "cost: 5$"),
        ] {
            assert_eq!(resolved(text), want, "{text}");
        }
    }

    #[test]
    fn other_templates_stay_as_they_are() {
        for text in [
            "${{ a.c }}",
            "${{ a }}",
            "${{ list }}",
            "${{ a.b + 1 }}",
            "${{ a.b",
            "${{ }}",
            "${JAVA_HOME}",
            "${HOSTNAME",
            "${{ x }}",
            "${{ nothing }}",
        ] {
            let yaml = format!("{{a: {{b: v}}, list: [v], nothing: ~, x: '{text}'}}");
            assert_eq!(resolved(&yaml), text);
        }
    }

    #[test]
    fn circular_templates_and_long_values_stay_as_they_are() {
        assert_eq!(resolved("{a: '${{ x }}', x: '${{ a }}'}"), "${{ a }}");
        let mut text = "a0: 0123456789\n".to_owned();
        for i in 1..=7 {
            let before = format!("${{{{ a{} }}}}", i - 1);
            text.push_str(&format!("a{i}: '{}'\n", before.repeat(10)));
        }
        for (last, want) in [(2, 1_000), (3, "${{ a3 }}".len()), (7, "${{ a7 }}".len())] {
            assert_eq!(resolved(&format!("x: '${{{{ a{last} }}}}'\n{text}")).len(), want, "{last}");
        }
        let many = "'${HOSTNAME}', ".repeat(MAX_TEMPLATES);
        assert_eq!(resolved(&format!("{{a: [{many}], x: '${{HOSTNAME}}'}}")), "${HOSTNAME}");
    }
}
