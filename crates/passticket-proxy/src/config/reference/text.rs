//! Writes the reference as text for a terminal, and as a page in Markdown.

use std::fmt::{self, Write};

use super::{DefaultValue, GROUPS, SECTION, Setting, ValueKind};

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{SECTION}.{}", self.key)?;
        writeln!(f, "  value:   {}", self.value)?;
        writeln!(f, "  default: {}", self.default)?;
        writeln!(f, "  meaning: {}", self.meaning)?;
        write!(f, "  page:    docs/{}", self.page)
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("true or false"),
            Self::Number(range, unit) => {
                write!(f, "number from {} to {} ({unit})", range.start(), range.end())
            }
            Self::Words(words) => match words.split_last() {
                Some((last, [])) => f.write_str(last),
                Some((last, others)) => write!(f, "{} or {last}", others.join(", ")),
                None => Ok(()),
            },
            Self::Text(what) => f.write_str(what),
            Self::Path(what) => write!(f, "path of {what}"),
            Self::List(Self::Mapping) => f.write_str("list of mappings"),
            Self::List(item) => write!(f, "one or more: {item}"),
            Self::Mapping => f.write_str("mapping"),
        }
    }
}

impl fmt::Display for DefaultValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value(value) => value,
            Self::Rule(rule) => rule,
            Self::Required => "required",
            Self::Nothing => "none",
        })
    }
}

const INTRODUCTION: &str = "\
# Settings

This page lists the settings of this gateway's own section of `zowe.yaml`, `components.passticket-proxy`. All keys on
this page are keys in this section. [Configuration](../operating/configuration.md) explains the section with examples,
and [Keys of zowe.yaml](zowe-yaml-keys.md) lists the settings of Zowe. The program prints the same reference:

<!-- run -->
```sh
passticket-proxy config reference                       # all settings
passticket-proxy config reference limits                # the settings of one mapping
passticket-proxy config reference limits.connections    # one setting
```

- A key below an item of a list is written `delegation.callers[].user`. `ID`, `URL` and `PATH` stand for names that you
  choose: the id of a service, the `gatewayUrl` of a route, a path of a service.
- *required*: the key must be present if the mapping that contains it is present. *none*: without this key, the function
  is off, or the value is empty.
- *one or more*: a list, or a single value. A list of mappings must be a list.
- Paths are relative to the directory of the file that contains them.
- Each key leads to the page that explains it.

<!-- The program writes this page: passticket-proxy config reference --markdown > docs/reference/settings.md -->
";

/// Returns the page docs/reference/settings.md.
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for group in &GROUPS {
        let _ = write!(
            page,
            "\n## {}\n\n| key | value | default | meaning |\n|---|---|---|---|\n",
            group.title
        );
        for setting in group.settings {
            let Setting { key, value, default, meaning, page: link } = setting;
            let default = match default {
                DefaultValue::Value(value) => format!("`{value}`"),
                other => other.to_string(),
            };
            let value = cell(&value.to_string());
            let (default, meaning) = (cell(&default), cell(meaning));
            let _ = writeln!(page, "| [`{key}`](../{link}) | {value} | {default} | {meaning} |");
        }
    }
    page
}

/// Escapes the characters that end a cell of a table or begin a tag.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
