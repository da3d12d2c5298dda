//! The part of the admin port for the [`TicketBreaker`]: a section of `/health`, and `POST /tickets/resume`. If
//! services refuse PassTickets, the breaker stops the making of PassTickets for a user or an APPLID.

use serde_json::{Value, json};
use tower_passticket::{
    clock::Timestamp,
    passticket::{Applid, UserId},
    ticket_breaker::{StoppedReport, TicketBreaker},
};

const MAX_USERS: usize = 100;

/// Returns as JSON the users and APPLIDs for which the gateway makes no PassTickets now. Returns `None` if there are
/// none.
pub(super) fn document(breaker: &TicketBreaker) -> Option<Value> {
    let report = breaker.report();
    let StoppedReport { users, applids, .. } = &report;
    if users.is_empty() && applids.is_empty() {
        return None;
    }
    let secs = |time: Option<Timestamp>| time.map(Timestamp::as_secs);
    let listed: Vec<_> = users
        .iter()
        .take(MAX_USERS)
        .map(|it| {
            json!({
                "user": it.user.as_str(), "applid": it.applid.as_str(), "refused": it.refused,
                "nextTry": secs(it.next),
            })
        })
        .collect();
    let applids: Vec<_> = applids
        .iter()
        .map(|it| {
            json!({
                "key": it.key, "applid": it.applid.as_str(), "stopped": it.is_stopped,
                "stoppedPaths": it.stopped_paths, "stoppedByClock": it.is_stopped_by_clock,
                "clockDifferenceSeconds": it.clock_difference, "nextTry": secs(it.next),
            })
        })
        .collect();
    Some(json!({
        "check": report.check(), "stoppedUsers": users.len(), "users": listed, "applids": applids,
    }))
}

/// The APPLID and the user for which an administrator lets the gateway make PassTickets again. `None` stands for all
/// APPLIDs, or for all users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Resume {
    pub(super) applid: Option<Applid>,
    pub(super) user: Option<UserId>,
}

impl Resume {
    /// Reads the query of the request, such as `applid=IZUDFLT&user=IBMUSER`.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut resume = Self::default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = decoded(value);
            let is_repeated = match name {
                "applid" => {
                    let applid = Applid::new(&value).map_err(|error| error.to_string())?;
                    resume.applid.replace(applid).is_some()
                }
                "user" => {
                    let user = UserId::new(&value).map_err(|error| error.to_string())?;
                    resume.user.replace(user).is_some()
                }
                _ => return Err("the query may have applid=APPLID and user=USER only".to_owned()),
            };
            if is_repeated {
                return Err(format!("the query has {name} twice"));
            }
        }
        Ok(resume)
    }
}

/// Decodes the percent-encoded special characters of user ids and APPLIDs: `#`, `@` and `$`.
fn decoded(value: &str) -> String {
    let lower = value.replace("%23", "#").replace("%40", "@");
    lower.replace("%24", "$")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_names_an_applid_and_a_user() {
        let applid = |name| Some(Applid::new(name).unwrap());
        let user = |name| Some(UserId::new(name).unwrap());
        for (query, want) in [
            ("", Ok((None, None))),
            ("applid=izudflt", Ok((applid("IZUDFLT"), None))),
            ("user=A%23B", Ok((None, user("A#B")))),
            ("applid=X&user=%24%40", Ok((applid("X"), user("$@")))),
            ("&", Ok((None, None))),
            ("applid=", Err("is empty")),
            ("applid=X&applid=Y", Err("applid twice")),
            ("user=a.b", Err("has the character")),
            ("appl=X", Err("applid=APPLID")),
        ] {
            match (Resume::parse(query), want) {
                (Ok(got), Ok((applid, user))) => {
                    assert_eq!(got, Resume { applid, user }, "{query}");
                }
                (Err(got), Err(want)) => assert!(got.contains(want), "{query}: {got}"),
                (got, want) => panic!("{query}: {got:?}, not {want:?}"),
            }
        }
    }
}
