//! IBM's page "Preventing errors" lists checks for PassTickets. This module writes the checks that concern a single
//! request (docs/reference/security-products.md#sources, SAG-err).

use passticket_proxy::config::Config;
use tower_passticket::{
    clock::{Clock, SystemClock},
    passticket::{Applid, Replay, UserId},
};

/// Returns what to check on z/OS if the service refuses the PassTicket, or if the gateway makes none.
pub(super) fn for_ticket(config: &Config, user: &UserId, applid: &Applid) -> Vec<String> {
    let Some(profile) = config.profiles.find(user, applid) else {
        return vec![format!(
            "key: the gateway has no PassTicket key for {applid} and {user}; RLIST PTKTDATA {applid} SSIGNON ALL shows \
             the profile on z/OS"
        )];
    };
    let profile = profile.at(SystemClock.now());
    let name = profile.name();
    let window = profile.window().as_secs();
    let (replay, rule) = match profile.replay() {
        Replay::Protected => ("true", "accept each ticket once"),
        Replay::Allowed => {
            ("false", "accept a ticket several times (APPLDATA 'NO REPLAY PROTECTION')")
        }
    };
    vec![
        format!(
            "clocks: the UTC times of z/OS and of this machine must differ by less than {window} s: run check --live, \
             and D T at the console"
        ),
        format!(
            "APPLID: the service must check the ticket with the APPLID {applid}; RLIST APPL {applid} ALL shows the \
             profile of this APPLID"
        ),
        format!(
            "profile and key: {name} in class PTKTDATA must have the same key, algorithm ({}) and window as the \
             configuration of the gateway: run esm verify, or RLIST PTKTDATA {name} SSIGNON ALL",
            profile.algorithm()
        ),
        "class: PTKTDATA must be active and RACLISTed, and refreshed after each change: SETROPTS LIST".to_owned(),
        format!("replay: replayProtection is {replay}, so the profile on z/OS must {rule}"),
        format!(
            "user: {user} must be defined on z/OS, not revoked, have READ on {applid} in class APPL, and not need a \
             second factor: LISTUSER {user} MFA"
        ),
    ]
}
