//! The reference of the settings in `components.passticket-proxy`: for each key its value, its default and its meaning.
//!
//! `passticket-proxy config reference` prints it, and the page docs/reference/settings.md shows it. Tests compare the
//! reference with the code that reads the settings: both have the same keys, permitted values and defaults.
//!
//! A key below an item of a list is written `delegation.callers[].user`. A part in upper case stands for a name that
//! the operator chooses: `services.ID.onFailure`.

mod access;
mod gateway;
mod limits;
mod lookup;
mod nodes;
mod services;
#[cfg(test)]
#[cfg(unix)]
mod tests;
mod text;
mod tickets;

use std::ops::RangeInclusive;

pub use lookup::{UnknownKey, find};
pub use text::markdown;

/// The path of the section that contains the settings.
pub const SECTION: &str = "components.passticket-proxy";

/// One setting. `Display` writes it as a block of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    key: &'static str,
    value: ValueKind,
    default: DefaultValue,
    meaning: &'static str,
    page: &'static str,
}

impl Setting {
    /// Returns the key below [`SECTION`], such as `limits.connections`.
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// Returns what the value can be.
    pub const fn value(&self) -> &ValueKind {
        &self.value
    }

    /// Returns what applies if the key is absent.
    pub const fn default(&self) -> DefaultValue {
        self.default
    }

    /// Returns one sentence that says what the setting does.
    pub const fn meaning(&self) -> &'static str {
        self.meaning
    }

    /// Returns the page that explains the setting, relative to `docs/`. It may have an anchor, such as
    /// `operating/limits.md#rate`.
    pub const fn page(&self) -> &'static str {
        self.page
    }
}

/// The values that a setting can have. `Display` describes them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueKind {
    /// `true` or `false`.
    Boolean,
    /// A number in this range, and its unit.
    Number(RangeInclusive<u64>, &'static str),
    /// One of these words.
    Words(&'static [&'static str]),
    /// A text. The string says which text.
    Text(&'static str),
    /// The path of a file or a directory. The string says which one.
    Path(&'static str),
    /// A list of values of this kind. A single value is accepted as a list of one item, except in a list of mappings.
    List(&'static Self),
    /// A mapping. Its keys are settings of their own.
    Mapping,
}

/// The value or the rule that applies if a key is absent. `Display` describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DefaultValue {
    /// The program behaves as if the key had this value.
    Value(&'static str),
    /// A value that depends on other settings. The string describes it.
    Rule(&'static str),
    /// The key must be present if the mapping that contains it is present.
    Required,
    /// Nothing: the function of the setting is off, or the value is empty.
    Nothing,
}

struct Group {
    title: &'static str,
    settings: &'static [Setting],
}

const GROUPS: [Group; 6] = [
    Group { title: "The gateway", settings: gateway::SETTINGS },
    Group { title: "Users, credentials and permissions", settings: access::SETTINGS },
    Group { title: "Services", settings: services::SETTINGS },
    Group { title: "PassTickets", settings: tickets::SETTINGS },
    Group { title: "Limits and times", settings: limits::SETTINGS },
    Group { title: "Several nodes", settings: nodes::SETTINGS },
];

/// Returns all settings, grouped by subject.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

/// Makes a list of settings. Each row has the form `KEY: VALUE, DEFAULT, PAGE => MEANING;`.
macro_rules! table {
    ($($key:literal: $value:expr, $default:expr, $page:expr => $meaning:literal;)*) => {
        &[$($crate::config::reference::Setting {
            key: $key,
            value: $value,
            default: $default,
            meaning: $meaning,
            page: $page,
        }),*]
    };
}
use table;
