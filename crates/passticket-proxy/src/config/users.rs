//! Reads the file that the setting `components.passticket-proxy.users` names. The file contains the users and their
//! password hashes. An example is `crates/passticket-proxy/src/config/examples/users.yml`.

use std::collections::HashMap;

use super::reader::{At, Section};
use tower_passticket::{api::PasswordHash, passticket::UserId};

/// Reads the users, in the order of the file. Reports each wrong entry, and leaves it out.
pub(super) fn read(mut root: Section<'_>) -> Vec<(UserId, PasswordHash)> {
    let mut users = Vec::new();
    let mut seen: HashMap<UserId, At<'_>> = HashMap::new();
    let remedy = "one line for each user under users; the command passticket-proxy passwd prints such a line";
    let entries = root.required("users", remedy).map(|field| field.section().fields());
    for (name, field) in entries.unwrap_or_default() {
        let user = match UserId::new(name) {
            Ok(user) => user,
            Err(error) => {
                field.at.wrong_name(name, error);
                continue;
            }
        };
        if let Some(first) = seen.get(&user) {
            field
                .at
                .error(format_args!("{user} already has an entry in {first}; remove one of them"));
            continue;
        }
        seen.insert(user, field.at.clone());
        let Some(hash) = field.text() else { continue };
        match hash.parse() {
            Ok(hash) => users.push((user, hash)),
            // The error does not show the value, because the value may be the password itself.
            Err(_) => field.at.error(
                "is not an Argon2 hash (the value is not shown); write the line that passticket-proxy passwd prints",
            ),
        }
    }
    root.finish();
    users
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};

    const HASH: &str = "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHQ$BDS4zUmOv7TxUDVpVjZ8Lg";

    #[test]
    fn each_entry_is_read_or_reported() {
        let not_a_hash = ": is not an Argon2 hash (the value is not shown); write the line that";
        for (entries, want) in [
            (format!("user: '{HASH}'\n  apimtst: '{HASH}'"), Ok(vec!["USER", "APIMTST"])),
            (
                format!("USER: '{HASH}'\n  user: '{HASH}'"),
                Err(": USER already has an entry in u:2"),
            ),
            (format!("USER: '{HASH}'\n  USER: '{HASH}'"), Err(": occurs twice (first in line 2)")),
            (format!("john.doe: '{HASH}'"), Err(": user id \"john.doe\" has the character '.'")),
            (
                format!("USER {HASH}: x"),
                Err("users.(not shown): is a wrong name (not shown: it may contain a secret)"),
            ),
            ("USER: validPassword".to_owned(), Err(not_a_hash)),
            (format!("USER: '{}'", HASH.replace("argon2id", "scrypt")), Err(not_a_hash)),
            (format!("USER: '{}'", HASH.replace("m=16", "m=1")), Err(not_a_hash)),
            ("USER: $argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHQ".to_owned(), Err(not_a_hash)),
            ("USER: [a]".to_owned(), Err(": must be a single value")),
            (String::new(), Err("u:1: users: is empty; write one line")),
        ] {
            let report = Report::default();
            let yaml = format!("users:\n  {entries}\n");
            let document = Document::parse("u".into(), yaml.as_bytes(), &report);
            let users = read(document.section(&report));
            let got = report.finish(Some(users)).map(|(users, _)| users);
            match (got, want) {
                (Ok(users), Ok(want)) => {
                    let names: Vec<_> = users.iter().map(|(user, _)| user.as_str()).collect();
                    assert_eq!(names, want);
                    assert!(users.iter().all(|(_, hash)| hash.expose() == HASH));
                }
                (Err(problems), Err(want)) => {
                    let text = problems.to_string();
                    assert!(text.contains(want) && problems.iter().len() == 1, "{text}");
                    assert!(!text.contains("alidPass") && !text.contains("c29t"), "{text}");
                }
                (got, want) => panic!("{entries}: got {got:?}, expected {want:?}"),
            }
        }
    }
}
