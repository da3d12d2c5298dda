//! Compares a listing of Top Secret with the configuration.
//!
//! No manual shows the exact forms of the lines (docs/reference/security-products.md#display-commands). So the parser
//! searches for pairs of a keyword and a value. A line in an unknown form gives a note, and not a difference.

use tower_passticket::passticket::{Applid, Replay, UserId};

use super::{
    super::{Application, Commands},
    Expected,
    listing::{Listing, words},
    report::Report,
};

pub(super) fn display(commands: &mut Commands, expected: &Expected) {
    commands
        .note("Never add DATA(SESSKEY) or DATA(ALL) to TSS LIST(NDT), because they show the keys.");
    commands.run("TSS LIST(NDT)");
    commands.run("TSS LIST(RDT) RESCLASS(PTKTDATA)");
    for Application { applid, .. } in &expected.applications {
        commands.run(format!("TSS WHOHAS APPL({applid})"));
        commands.run(format!("TSS WHOHAS PTKTDATA(IRRPTAUTH.{applid}.)"));
    }
}

/// An application in the NDT (node descriptor table).
struct Node {
    applid: String,
    replay_allowed: bool,
}

/// A permission for a resource of class PTKTDATA.
#[derive(Default)]
struct Permission {
    resource: String,
    acid: String,
    update: bool,
}

#[derive(Default)]
struct TssListing {
    nodes: Vec<Node>,
    permissions: Vec<Permission>,
}

impl TssListing {
    fn parse(listing: &Listing) -> Self {
        let mut parsed = Self::default();
        for line in listing.lines() {
            let words: Vec<_> = words(line).collect();
            // A copied session also contains the commands.
            if words.first() == Some(&"TSS") {
                continue;
            }
            for (at, word) in words.iter().enumerate() {
                let value = words.get(at + 1).copied().unwrap_or_default();
                match *word {
                    "PSTKAPPL" => {
                        let applid = value.to_owned();
                        parsed.nodes.push(Node { applid, replay_allowed: false });
                    }
                    "SIGNMULTI" => {
                        if let Some(node) = parsed.nodes.last_mut() {
                            node.replay_allowed = value != "NO";
                        }
                    }
                    "XAUTH" => {
                        let resource = value.to_owned();
                        parsed.permissions.push(Permission { resource, ..Permission::default() });
                    }
                    "ACID" => {
                        if let Some(permission) = parsed.permissions.last_mut() {
                            permission.acid = value.to_owned();
                        }
                    }
                    "ACCESS" => {
                        if let Some(permission) = parsed.permissions.last_mut() {
                            permission.update |= words[at + 1..]
                                .iter()
                                .any(|level| ["UPDATE", "ALL"].contains(level));
                        }
                    }
                    _ => {}
                }
            }
        }
        parsed
    }
}

pub(super) fn compare(report: &mut Report, expected: &Expected, listing: &Listing) {
    let listing = TssListing::parse(listing);
    for application in &expected.applications {
        key(report, application, &listing);
        permission(report, &application.applid, &expected.gateway, &listing);
    }
}

fn key(report: &mut Report, application: &Application, listing: &TssListing) {
    let Application { applid, replay, .. } = application;
    if !application.is_legacy() {
        report.note_undocumented("keywords", application);
    }
    let node = listing.nodes.iter().rfind(|node| node.applid == applid.as_str());
    match (node, listing.nodes.is_empty()) {
        (None, true) => report.missing(applid, "run TSS LIST(NDT)"),
        (None, false) => report.different(
            applid,
            "the NDT has no PSTKAPPL with this APPLID; run the commands that passticket-proxy esm keys prints",
        ),
        // For an enhanced key, the keyword of replay protection is not known.
        (Some(_), _) if !application.is_legacy() => {
            report.same(applid, "there is an entry in the NDT");
        }
        (Some(node), _) if node.replay_allowed == (*replay == Replay::Allowed) => {
            report.same(applid, "replay protection is as in the configuration");
        }
        (Some(node), _) => report.different(
            applid,
            format_args!(
                "SIGNMULTI is {}, but replayProtection is {}; change one of them",
                if node.replay_allowed { "set" } else { "not set" },
                *replay == Replay::Protected
            ),
        ),
    }
}

fn permission(report: &mut Report, applid: &Applid, gateway: &UserId, listing: &TssListing) {
    let name = format!("IRRPTAUTH.{applid}.");
    let for_applid =
        |it: &&Permission| name.starts_with(&it.resource) && it.resource.starts_with("IRRPTAUT");
    let permissions: Vec<_> = listing.permissions.iter().filter(for_applid).collect();
    let may_make = |acid: &str| permissions.iter().any(|it| it.acid == acid && it.update);
    if may_make("ALL") || may_make("*ALL*") {
        report.different(&name, "every user may make PassTickets; permit single user ids");
    }
    if may_make(gateway.as_str()) {
        report.same(&name, format_args!("{gateway} may make PassTickets"));
    } else {
        report.note(
            &name,
            format_args!(
                "the listing shows no UPDATE for {gateway}, which needs it only if a program on z/OS \
                 makes PassTickets under this user id"
            ),
        );
    }
}
