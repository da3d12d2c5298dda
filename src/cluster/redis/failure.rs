//! Converts an error of Redis to the error of a call.

use std::{sync::Arc, time::Duration};

use redis::{ErrorKind, RedisError};

use crate::cluster::coordinator::CoordinatorError;

/// The maximum length of a text of Redis in an error.
const MAX_TEXT: usize = 200;

#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: CoordinatorError,
    /// Whether the call can succeed over another connection, perhaps to another server.
    pub(super) is_of_connection: bool,
}

impl Failure {
    /// Creates the error for a server that cannot be reached, or that has not answered.
    pub(super) fn unreachable(place: &Arc<str>, reason: &str) -> Self {
        let error = CoordinatorError::Unreachable { place: place.clone(), reason: reason.into() };
        Self { error, is_of_connection: true }
    }

    /// Creates the error for a server that refuses this node.
    pub(super) fn refused(place: &Arc<str>, reason: &str) -> Self {
        let error = CoordinatorError::Refused { place: place.clone(), reason: reason.into() };
        Self { error, is_of_connection: true }
    }

    pub(super) fn new(place: &Arc<str>, error: &RedisError) -> Self {
        let (place, reason) = (place.clone(), |text: &str| Arc::<str>::from(text));
        let detail = text_of(error.detail().unwrap_or_default().as_bytes());
        let code = match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => error.code().unwrap_or_default(),
            ErrorKind::Parse => {
                let reason = reason("its answer does not follow the protocol of Redis");
                let error = CoordinatorError::Malformed { place, reason };
                return Self { error, is_of_connection: true };
            }
            _ => return Self::unreachable(&place, &error.to_string()),
        };
        let (error, is_of_connection) = match code {
            "TPTERM" => (CoordinatorError::OtherTerm { place }, false),
            "TPVER" => match detail.parse() {
                Ok(found) => (CoordinatorError::OtherVersion { place, found }, false),
                Err(_) => {
                    let reason = reason("the key version is not a number");
                    (CoordinatorError::Malformed { place, reason }, false)
                }
            },
            "TPSALT" => (CoordinatorError::TooManySalts { place }, false),
            "TPLEASE" => match detail.parse() {
                // The caller replaces `key` and `own`.
                Ok(found) => {
                    let (found, own) = (Duration::from_millis(found), Duration::ZERO);
                    let key = reason("lease-time");
                    (CoordinatorError::OtherLease { place, key, found, own }, false)
                }
                Err(_) => {
                    let reason = reason("the key lease-time is not a number");
                    (CoordinatorError::Malformed { place, reason }, false)
                }
            },
            "TPBAD" => (CoordinatorError::Malformed { place, reason: reason(&detail) }, false),
            "WRONGTYPE" => {
                let reason = reason("a key of the site has a wrong type; remove it");
                (CoordinatorError::Malformed { place, reason }, false)
            }
            "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "BUSY" | "UNKILLABLE" => {
                let reason = format!("it is not ready ({code} {detail})").into();
                (CoordinatorError::Unreachable { place, reason }, true)
            }
            "NOREPLICAS" => (
                refused(
                    place,
                    "it has fewer replicas than min-replicas-to-write; start its replicas",
                ),
                false,
            ),
            "OOM" => (refused(place, "its memory is full (maxmemory); give it more memory"), false),
            "MISCONF" => (
                refused(place, "it cannot store its data on disk (MISCONF); look at its log"),
                false,
            ),
            "READONLY" => (
                refused(place, "it is a replica; use the address of the primary, or Sentinel"),
                true,
            ),
            "MOVED" | "ASK" | "CROSSSLOT" => {
                (refused(place, "it is a Redis Cluster, which is not supported"), true)
            }
            "WRONGPASS" => (refused(place, "the user or the password is wrong"), true),
            "NOAUTH" => (
                refused(
                    place,
                    "it needs a user and a password; set the user (in redis.url, or redis.sentinel.user) and \
                     redis.passwordFile",
                ),
                true,
            ),
            "NOPERM" => (refused(place, &permission(&detail)), false),
            // For a command inside a script, Redis 6 and 7 report a missing permission with the general code `ERR`.
            _ if detail.contains("The user executing the script") => {
                (refused(place, &permission(&detail)), false)
            }
            _ => {
                let reason = format!("it answered {} {detail}", text_of(code.as_bytes())).into();
                (CoordinatorError::Unreachable { place, reason }, true)
            }
        };
        Self { error, is_of_connection }
    }
}

fn refused(place: Arc<str>, reason: &str) -> CoordinatorError {
    CoordinatorError::Refused { place, reason: reason.into() }
}

fn permission(detail: &str) -> String {
    let command = detail.split('\'').nth(1).filter(|_| detail.contains("run the '"));
    let what = match command {
        Some(command) => format!("the user has no permission for the command {command}"),
        None if detail.contains("key") => {
            "the user has no permission for the keys of this site".to_owned()
        }
        // Redis does not say which command is missing.
        None if detail.contains("can't run this command") => {
            "the user needs the permission for all commands of the scripts".to_owned()
        }
        None => format!("the user has no permission: {detail}"),
    };
    format!("{what}; set the ACL that `check --live` prints")
}

/// Returns a text of Redis without control characters, shortened to [`MAX_TEXT`].
pub(super) fn text_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|char| !char.is_control()).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(answer: &str) -> Failure {
        let answer = redis::parse_redis_value(format!("-{answer}\r\n").as_bytes()).unwrap();
        let error = answer.extract_error().unwrap_err();
        Failure::new(&"Redis at a:1".into(), &error)
    }

    #[test]
    fn an_error_of_redis_says_what_to_correct() {
        for (answer, reason) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", "give it more memory"),
            ("NOREPLICAS Not enough good replicas to write.", "min-replicas-to-write"),
            ("MISCONF Errors writing to the AOF file: No space left on device", "look at its log"),
            ("READONLY You can't write against a read only replica.", "address of the primary"),
            ("WRONGPASS invalid username-password pair or user is disabled.", "password is wrong"),
            ("NOAUTH Authentication required.", "passwordFile"),
            ("MOVED 1 127.0.0.1:7000", "Redis Cluster"),
            ("NOPERM this user has no permissions to run the 'xread' command", "command xread"),
            ("NOPERM User tp has no permissions to run the 'evalsha' command", "command evalsha"),
            ("NOPERM No permissions to access a key", "keys of this site"),
            (
                "ERR The user executing the script can't run this command or subcommand script: x",
                "all commands of the scripts",
            ),
        ] {
            match failure(answer).error {
                CoordinatorError::Refused { reason: found, .. } => {
                    assert!(found.contains(reason), "{answer}: {found}");
                }
                other => panic!("{answer}: {other}"),
            }
        }
    }

    #[test]
    fn errors_of_scripts_keep_the_connection_and_unknown_errors_close_it() {
        let is = |answer, is: fn(&CoordinatorError) -> bool| {
            let failure = failure(answer);
            assert!(is(&failure.error), "{answer}: {failure:?}");
            failure.is_of_connection
        };
        assert!(!is("TPTERM the term has ended", |it| matches!(
            it,
            CoordinatorError::OtherTerm { .. }
        )));
        assert!(!is("TPVER 7", |it| matches!(it, CoordinatorError::OtherVersion { found: 7, .. })));
        let is_malformed = |it: &_| matches!(it, CoordinatorError::Malformed { .. });
        for answer in
            ["TPVER x", "TPLEASE x", "TPBAD the key log", "WRONGTYPE Operation against a key"]
        {
            assert!(!is(answer, is_malformed));
        }
        for answer in
            ["LOADING Redis is loading", "BUSY a script runs", "ERR x", "UNKNOWN \u{1b}[31m"]
        {
            assert!(is(answer, |it| matches!(it, CoordinatorError::Unreachable { .. })));
            assert!(!failure(answer).error.to_string().contains('\u{1b}'));
        }
    }
}
