//! The file of users and the hashes of their passwords, `passticketProxy.users`.
//!
//! ```yaml
//! users:
//!   USER: "$argon2id$v=19$m=19456,t=2,p=1$c29tZSBzYWx0$…"
//! ```

use std::collections::HashMap;

use argon2::password_hash::phc::PasswordHash;

use super::reader::{At, Section};
use tower_passticket::passticket::UserId;

/// All users whose entry is right, in the order of the file.
pub(super) fn read(mut root: Section<'_>) -> Vec<(UserId, String)> {
    let mut users = Vec::new();
    let mut seen: HashMap<UserId, At<'_>> = HashMap::new();
    let remedy = "a user id with the hash of the password in each line below it";
    let entries = root.required("users", remedy).map(|field| field.section().fields());
    for (name, field) in entries.unwrap_or_default() {
        let user = match UserId::new(name) {
            Ok(user) => user,
            Err(error) => {
                field.wrong_name(name, error);
                continue;
            }
        };
        if let Some(first) = seen.get(&user) {
            field.at.error(format_args!("{user} has an entry already, in {first}; remove one"));
            continue;
        }
        seen.insert(user, field.at.clone());
        let Some(hash) = field.text() else { continue };
        if is_argon2(hash) {
            users.push((user, hash.to_owned()));
        } else {
            // Perhaps it is the password.
            field.at.error(
                "is no argon2 hash of a password (not shown); write one like \"$argon2id$v=19$…\", \
                 in quotes",
            );
        }
    }
    root.finish();
    users
}

/// Whether a login can be checked against it: an argon2 hash that is complete, with parameters
/// that argon2 takes.
fn is_argon2(text: &str) -> bool {
    PasswordHash::new(text).is_ok_and(|hash| {
        argon2::Algorithm::try_from(hash.algorithm.as_str()).is_ok()
            && hash.salt.is_some()
            && hash.hash.is_some()
            && argon2::Params::try_from(&hash).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{problem::Report, reader::Document};

    const HASH: &str = "$argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHQ$BDS4zUmOv7TxUDVpVjZ8Lg";

    #[test]
    fn entries_become_users_or_problems() {
        let not_a_hash = ": is no argon2 hash of a password (not shown); write one like";
        for (entries, want) in [
            (format!("user: '{HASH}'\n  apimtst: '{HASH}'"), Ok(vec!["USER", "APIMTST"])),
            (
                format!("USER: '{HASH}'\n  user: '{HASH}'"),
                Err(": USER has an entry already, in u:2"),
            ),
            (format!("USER: '{HASH}'\n  USER: '{HASH}'"), Err(": stands here for the second time")),
            (format!("john.doe: '{HASH}'"), Err(": user id \"john.doe\" has the character '.'")),
            ("USER: validPassword".to_owned(), Err(not_a_hash)),
            (format!("USER: '{}'", HASH.replace("argon2id", "scrypt")), Err(not_a_hash)),
            (format!("USER: '{}'", HASH.replace("m=16", "m=1")), Err(not_a_hash)),
            ("USER: $argon2id$v=19$m=16,t=2,p=1$c29tZXNhbHQ".to_owned(), Err(not_a_hash)),
            ("USER: [a]".to_owned(), Err(": must be a single value")),
            (String::new(), Err("u:1: users: is empty; write a user id")),
        ] {
            let report = Report::default();
            let yaml = format!("users:\n  {entries}\n");
            let document = Document::parse("u".into(), yaml.as_bytes(), &report);
            let users = read(document.section(&report));
            let got = report.conclude(Some(users)).map(|(users, _)| users);
            match (got, want) {
                (Ok(users), Ok(want)) => {
                    let names: Vec<_> = users.iter().map(|(user, _)| user.as_str()).collect();
                    assert_eq!(names, want);
                    assert!(users.iter().all(|(_, hash)| hash == HASH));
                }
                (Err(problems), Err(want)) => {
                    let text = problems.to_string();
                    assert!(text.contains(want) && problems.iter().len() == 1, "{text}");
                    assert!(!text.contains("alidPass") && !text.contains("c29t"), "{text}");
                }
                (got, want) => panic!("{entries}: {got:?} instead of {want:?}"),
            }
        }
    }
}
