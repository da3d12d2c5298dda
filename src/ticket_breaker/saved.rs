//! The state of the [breaker](super) of PassTickets as text, for a file and for another process.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    machine::{MAX_CLASSES, MAX_PAIRS, Machine, USERS},
    path_class::PathClass,
    record::{Personal, Scope, Stop},
};
use crate::{
    clock::Timestamp,
    passticket::{Applid, UserId},
};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    users: Vec<User>,
    keys: Vec<Key>,
}

#[derive(Serialize, Deserialize)]
struct User {
    user: String,
    applid: String,
    refused: u8,
    paths: Vec<u64>,
    last: u64,
    next: u64,
    tries: u8,
    open: bool,
    good: bool,
    shared: bool,
}

#[derive(Serialize, Deserialize)]
struct Key {
    key: String,
    applid: String,
    /// The different users who were refused since the last accepted ticket.
    streak: Vec<String>,
    stops: Vec<(Option<u64>, u64, u8)>,
}

/// The text is not a state of this version.
#[derive(Debug, thiserror::Error)]
#[error("is not a list of stopped tickets of this version: {0}")]
pub struct RestoreError(String);

/// Returns the refusals of the users and the stops of the keys. The text contains no other state. For example, it
/// contains neither the tickets that still wait for their answers, nor the stops that a wrong clock has caused.
pub(super) fn to_text(machine: &Machine) -> String {
    let users = machine.users().filter(|(_, own)| own.refused > 0).map(|(user, own)| User {
        user: user.to_string(),
        applid: own.applid.to_string(),
        refused: own.refused,
        paths: own.classes.iter().map(|class| class.to_bits()).collect(),
        last: own.last.as_millis(),
        next: own.next.as_millis(),
        tries: own.tries,
        open: own.is_open,
        good: own.good_since,
        shared: own.is_shared,
    });
    let keys = machine.keys().filter(|(_, it)| !it.streak.is_empty() || !it.stops.is_empty());
    let keys = keys.map(|(key, scope)| Key {
        key: key.to_string(),
        applid: scope.applid.to_string(),
        streak: scope.streak.iter().map(ToString::to_string).collect(),
        stops: scope
            .stops
            .iter()
            .map(|stop| (stop.class.map(PathClass::to_bits), stop.next.as_millis(), stop.tries))
            .collect(),
    });
    let document = Document { version: VERSION, users: users.collect(), keys: keys.collect() };
    serde_json::to_string(&document).expect("numbers, texts and lists are JSON")
}

/// Reads the text of [`to_text`]. Lists that are too long are cut, because the text may come from a file that an
/// operator has edited.
pub(super) fn from_text(text: &str) -> Result<Machine, RestoreError> {
    let error = |error: &dyn std::fmt::Display| RestoreError(error.to_string());
    let document: Document = serde_json::from_str(text).map_err(|e| error(&e))?;
    if document.version != VERSION {
        return Err(RestoreError(format!("the version is {}", document.version)));
    }
    let mut machine = Machine::default();
    for it in document.users.into_iter().take(MAX_PAIRS) {
        let user = UserId::new(&it.user).map_err(|e| error(&e))?;
        let applid = Applid::new(&it.applid).map_err(|e| error(&e))?;
        let classes = it.paths.into_iter().take(MAX_CLASSES).map(PathClass::from_bits).collect();
        let own = Personal {
            refused: it.refused,
            classes,
            last: Timestamp::from_millis(it.last),
            next: Timestamp::from_millis(it.next),
            tries: it.tries,
            is_open: it.open,
            good_since: it.good,
            is_shared: it.shared,
            ..Personal::new(applid)
        };
        machine.restore_user(user, own);
    }
    for it in document.keys.into_iter().take(MAX_PAIRS) {
        let applid = Applid::new(&it.applid).map_err(|e| error(&e))?;
        let streak = it.streak.iter().take(USERS).map(|user| UserId::new(user));
        let streak = streak.collect::<Result<_, _>>().map_err(|e| error(&e))?;
        let stops = it.stops.into_iter().take(MAX_CLASSES).map(|(class, next, tries)| Stop {
            class: class.map(PathClass::from_bits),
            next: Timestamp::from_millis(next),
            tries,
        });
        let scope = Scope { streak, stops: stops.collect(), ..Scope::new(applid) };
        machine.restore_key(Arc::from(it.key), scope);
    }
    Ok(machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_wrong_is_an_error_and_names_what_is_wrong() {
        for (text, want) in [
            ("", "EOF"),
            ("{}", "missing field"),
            (r#"{"version":2,"users":[],"keys":[]}"#, "version is 2"),
            (
                r#"{"version":1,"users":[],"keys":[{"key":"A","applid":"a b","streak":[],"stops":[]}]}"#,
                "a b",
            ),
        ] {
            let error = from_text(text).map(drop).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
        assert!(from_text(r#"{"version":1,"users":[],"keys":[]}"#).is_ok());
    }
}
