//! Finds the settings that a key names.

use std::{error::Error, fmt};

use super::{SECTION, Setting, settings};
use crate::config::problem::{quote, suggest};

/// The older name of the section, at the top level of the file.
const OLD_SECTION: &str = "passticketProxy";

/// The error if no setting has the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKey(String);

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for UnknownKey {}

/// Returns the setting with this key, and all settings below it. The key is a path in the file or a path below
/// [`SECTION`]. `ptktdata[0].applid`, `ptktdata[].applid` and `ptktdata.applid` are the same key. In the place of `ID`,
/// each name is accepted: `services.files.onFailure`.
///
/// # Errors
/// [`UnknownKey`] if there is no such setting. Its text suggests a similar key.
pub fn find(key: &str) -> Result<Vec<&'static Setting>, UnknownKey> {
    let wanted = below_section(key.trim());
    let found: Vec<_> = settings().filter(|setting| is_at_or_below(setting, wanted)).collect();
    if found.is_empty() {
        return Err(UnknownKey(format!("{} is no setting{}", quote(key), hint(wanted))));
    }
    Ok(found)
}

fn below_section(key: &str) -> &str {
    let mut rests = [SECTION, OLD_SECTION].into_iter().filter_map(|section| {
        let rest = key.strip_prefix(section)?;
        if rest.is_empty() { Some(rest) } else { rest.strip_prefix('.') }
    });
    rests.next().unwrap_or(key)
}

fn is_at_or_below(setting: &Setting, wanted: &str) -> bool {
    let mut parts = setting.key.split('.');
    wanted.is_empty() || wanted.split('.').all(|part| parts.next().is_some_and(|it| same(it, part)))
}

/// Returns whether the part `wanted` of a key matches `part`, a part of the key of a setting.
fn same(part: &str, wanted: &str) -> bool {
    is_chosen(part) && !wanted.is_empty() || name(part) == name(wanted)
}

/// Returns whether the operator chooses this part of a key, such as `ID`.
pub(super) fn is_chosen(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn name(part: &str) -> &str {
    part.split('[').next().unwrap_or(part)
}

/// Suggests a key with the same name in another mapping, or a key with a similar name in the same mapping.
fn hint(wanted: &str) -> String {
    let tail = format!(".{wanted}");
    let mut elsewhere = settings().filter(|setting| setting.key.ends_with(&tail));
    if let Some(setting) = elsewhere.next() {
        return format!("; did you mean {}?", setting.key);
    }
    let parts: Vec<_> = wanted.split('.').collect();
    // The loop finds the deepest mapping that exists, and the names in it.
    for known in (0..parts.len()).rev() {
        let mapping = parts[..known].join(".");
        let inside: Vec<_> = settings().filter(|it| is_at_or_below(it, &mapping)).collect();
        let names: Vec<_> = inside.iter().filter_map(|it| it.key.split('.').nth(known)).collect();
        if names.is_empty() {
            continue;
        }
        let hint = suggest(parts[known], names.iter().map(|it| name(it)));
        // The suggestion includes the mapping, because `find` needs the whole key.
        return match hint.strip_prefix("; did you mean ") {
            Some(near) if known > 0 => format!("; did you mean {mapping}.{near}"),
            _ => hint,
        };
    }
    String::new()
}
