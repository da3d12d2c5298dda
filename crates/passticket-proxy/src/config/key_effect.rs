//! The effect that a key of Zowe's YAML files has in this gateway: a row of the tables in `zowe_keys.rs` and
//! `metadata.rs`.

use super::reader::Field;

#[derive(Debug)]
pub(super) struct Key {
    /// The path of the key. It begins below the section that the table describes. The row also covers all keys below
    /// this path, except those that a row with a longer path covers.
    pub(super) path: &'static str,
    pub(super) effect: Effect,
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "only the page shows the texts without a message")
)]
pub(super) enum Effect {
    /// The key has the same effect as in Zowe, or the effect that the text describes.
    Honoured(&'static str),
    /// The key has no effect in this gateway. If the key has one of the values, a warning says what is missing.
    Warning(Values, &'static str),
    /// The key restricts something in Zowe, but this gateway does not apply the restriction. If the key has one of the
    /// values, the configuration is refused. The text is the error message.
    Error(Values, &'static str),
    /// The key changes only what another key does. The text is the path of the other key.
    Detail(&'static str),
    /// The key does not concern this gateway. The text says why.
    Elsewhere(&'static str),
}

/// The values of a key that cause a warning or an error.
#[derive(Clone, Copy, Debug)]
pub(super) enum Values {
    /// Each value that is not blank.
    Any,
    /// This value. Upper and lower case do not matter.
    Is(&'static str),
    /// Each value that is neither blank nor this one. Upper and lower case do not matter.
    IsNot(&'static str),
}
use Values::{Any, Is, IsNot};

impl Values {
    /// Returns whether the value of `field` causes a message. A template that was not replaced may stand for any value,
    /// so it causes a message.
    fn contain(self, field: &Field<'_>) -> bool {
        match self {
            _ if field.is_template() => true,
            Any => !field.is_blank(),
            Is(value) => field.is_word(value),
            IsNot(value) => !field.is_blank() && !field.is_word(value),
        }
    }
}

pub(super) const fn key(path: &'static str, effect: Effect) -> Key {
    Key { path, effect }
}

impl Key {
    /// Reports an error or a warning if the value of `field` does not have the effect that it has in Zowe.
    pub(super) fn report(&self, field: &Field<'_>) {
        match self.effect {
            Effect::Warning(values, missing) if values.contain(field) => {
                let missing = missing.replace('`', "");
                field.at.warning(format_args!("is not supported: {missing}"));
            }
            Effect::Error(values, text) if values.contain(field) => field.at.error(text),
            _ => {}
        }
    }
}

/// Returns the rows of a table, as a page of the documentation shows them.
#[cfg(test)]
pub(super) fn rows(table: &[Key]) -> String {
    use std::fmt::Write;

    let mut rows = String::new();
    let values = |values| match values {
        Any => "each value".to_owned(),
        Is(value) => format!("`{value}`"),
        IsNot(value) => format!("each value but `{value}`"),
    };
    for Key { path, effect } in table {
        let (result, meaning) = match *effect {
            Effect::Honoured(meaning) => ("honoured".to_owned(), meaning.to_owned()),
            Effect::Warning(which, meaning) => {
                (format!("warning: {}", values(which)), meaning.to_owned())
            }
            Effect::Error(which, meaning) => {
                (format!("**error**: {}", values(which)), meaning.to_owned())
            }
            Effect::Detail(other) => ("none".to_owned(), format!("see `{other}`")),
            Effect::Elsewhere(meaning) => ("none".to_owned(), meaning.to_owned()),
        };
        writeln!(rows, "| `{path}` | {result} | {meaning} |").unwrap();
    }
    rows
}
