//! Compares a listing of ACF2 with the configuration.
//!
//! No manual shows the exact forms of the lines (docs/reference/security-products.md#display-commands). So a line
//! in an unknown form gives a note, and not a difference.

use tower_passticket::passticket::{Applid, Replay, UserId};

use super::{
    super::{Application, Commands},
    Expected,
    listing::{Listing, operands, words},
    report::Report,
};

pub(super) fn display(commands: &mut Commands, expected: &Expected) {
    commands.acf(|commands| {
        commands.run("SET PROFILE(PTKTDATA) DIVISION(SSIGNON)");
        for Application { applid, .. } in &expected.applications {
            commands.run(format!("LIST LIKE({applid}-)"));
        }
        commands.run("SET RESOURCE(PTK)");
        commands.run("LIST LIKE(IRRPTAUTH-)");
        commands.run("SHOW CLASMAP");
        commands.run("SHOW PSWDOPTS");
        commands.run("SET CONTROL(GSO)");
        commands.run("LIST INFODIR");
        commands.run("LIST OPTS");
    });
    commands.note(
        "If ACF2 rejects one of these commands, look for the display command in your manual of ACF2.",
    );
}

/// A key record (SSIGNON profile record).
#[derive(Default)]
struct KeyRecord {
    id: String,
    replay_allowed: Option<bool>,
}

struct RuleLine {
    resource: String,
    uid: String,
    /// Whether the line permits making PassTickets.
    update: bool,
}

#[derive(Default)]
struct Acf2Listing {
    records: Vec<KeyRecord>,
    /// Whether the listing shows the rule.
    rule: bool,
    lines: Vec<RuleLine>,
    infodir: bool,
    resident: bool,
    ptkresck: Option<bool>,
}

impl Acf2Listing {
    fn parse(listing: &Listing) -> Self {
        let mut parsed = Self::default();
        let mut in_rule = false;
        let mut continued = String::new();
        // The empty line completes a continued line at the end of the listing.
        for line in listing.lines().chain([""]) {
            // A rule line continues on the next line if it ends with a blank and a hyphen.
            if let Some(begin) = line.strip_suffix(" -") {
                // No line that the parser needs is longer than this. So the rest of a longer line is left out.
                if continued.len() < 1024 {
                    continued.push_str(begin);
                    continued.push(' ');
                }
                continue;
            }
            continued.push_str(line);
            parsed.line(&mut in_rule, &std::mem::take(&mut continued));
        }
        parsed
    }

    fn line(&mut self, in_rule: &mut bool, line: &str) {
        if line.contains("$KEY(") {
            *in_rule = operands(line, "$KEY") == Some("IRRPTAUTH")
                && operands(line, "TYPE").is_none_or(|kind| kind == "PTK");
            self.rule |= *in_rule;
        } else if line.is_empty() || line.starts_with("ACF") {
            *in_rule = false;
        } else if *in_rule {
            self.lines.extend(rule_line(line));
        }
        self.other(line);
    }

    fn other(&mut self, line: &str) {
        let words: Vec<_> = words(line).collect();
        let is_command =
            ["LIST", "SET", "INSERT", "CHANGE", "SHOW"].contains(words.first().unwrap_or(&""));
        if let Some(last) = words.windows(2).position(|pair| pair == ["LAST", "CHANGED"]) {
            let id = last.checked_sub(1).and_then(|at| words.get(at)).copied().unwrap_or_default();
            self.records.push(KeyRecord { id: id.to_owned(), replay_allowed: None });
            self.infodir |= id == "INFODIR";
        } else if let Some(record) = self.records.last_mut().filter(|_| !is_command) {
            for word in &words {
                match *word {
                    "MULT-USE" => record.replay_allowed = Some(true),
                    "NOMULT-USE" => record.replay_allowed = Some(false),
                    _ => {}
                }
            }
        }
        if !is_command {
            self.resident |= words.contains(&"R-RPTK");
            for word in words {
                match word {
                    "PTKRESCK" => self.ptkresck = Some(true),
                    "NOPTKRESCK" => self.ptkresck = Some(false),
                    _ => {}
                }
            }
        }
    }
}

/// Parses `IZUDFLT.- UID(ZWESVUSR) SERVICE(READ,UPDATE) ALLOW`.
fn rule_line(line: &str) -> Option<RuleLine> {
    let uid = operands(line, "UID")?.to_owned();
    let resource = line.split_whitespace().next()?.to_owned();
    // A line without SERVICE permits all services.
    let services = operands(line, "SERVICE");
    let update = services.is_none_or(|services| words(services).any(|it| it == "UPDATE"));
    let allow = line.split_whitespace().any(|word| word == "ALLOW");
    Some(RuleLine { resource, uid, update: update && allow })
}

impl RuleLine {
    fn is_for(&self, applid: &Applid) -> bool {
        let first = self.resource.split('.').next().unwrap_or_default();
        first == applid.as_str() || first == "-" || first == "*"
    }
}

pub(super) fn compare(report: &mut Report, expected: &Expected, listing: &Listing) {
    let listing = Acf2Listing::parse(listing);
    for application in &expected.applications {
        key_record(report, application, &listing);
        permission(report, &application.applid, &expected.gateway, &listing);
    }
    match (listing.resident, listing.infodir) {
        (true, _) => report.same("INFODIR", "resource rules of type PTK are resident"),
        (false, true) => report.different(
            "INFODIR",
            "resource rules of type PTK are not resident; run SET CONTROL(GSO), CHANGE INFODIR \
             TYPES(R-RPTK) ADD, F ACF2,REFRESH(INFODIR) and F ACF2,REBUILD(PTK)",
        ),
        (false, false) => {
            report.note("INFODIR", "is not in the listing; TYPES must contain R-RPTK");
        }
    }
    if listing.ptkresck == Some(true) {
        report.note(
            "PTKRESCK",
            "is set: a program on z/OS that makes PassTickets also needs UPDATE on \
             PTKTGEN.applid.user",
        );
    }
}

fn key_record(report: &mut Report, application: &Application, listing: &Acf2Listing) {
    let Application { applid, replay, .. } = application;
    if !application.is_legacy() {
        report.note_undocumented("fields", application);
    }
    let mut records = listing.records.iter().filter(|record| record.id == applid.as_str());
    let Some(record) = records.next_back() else {
        report.missing(
            applid,
            format_args!("run SET PROFILE(PTKTDATA) DIVISION(SSIGNON) and LIST LIKE({applid}-)"),
        );
        return;
    };
    report.same(applid, "there is a key record");
    let (text, field) = match replay {
        Replay::Allowed => ("off", "MULT-USE"),
        Replay::Protected => ("on", "NOMULT-USE"),
    };
    match record.replay_allowed {
        None => report.note(
            applid,
            format_args!("replay protection is not shown; it must be {text} ({field})"),
        ),
        Some(allowed) if allowed == (*replay == Replay::Allowed) => {
            report.same(applid, format_args!("replay protection is {text}"));
        }
        Some(allowed) => report.different(
            applid,
            format_args!(
                "replay protection must be {text}; run CHANGE {applid} {field} and F \
                 ACF2,REBUILD(PTK),CLASS(P), or write replayProtection: {}",
                !allowed
            ),
        ),
    }
}

fn permission(report: &mut Report, applid: &Applid, gateway: &UserId, listing: &Acf2Listing) {
    let name = format!("IRRPTAUTH.{applid}");
    let mut lines = listing.lines.iter().filter(|line| line.is_for(applid)).peekable();
    if lines.peek().is_none() {
        report.note(
            &name,
            format_args!(
                "{}; the gateway's user id needs one only if a program on z/OS makes PassTickets under \
                 this user id",
                match listing.rule {
                    true => "the rule IRRPTAUTH has no line for it",
                    false => "the rule IRRPTAUTH is not in the listing",
                }
            ),
        );
        return;
    }
    let (mut own, mut everyone) = (false, false);
    for line in lines.filter(|line| line.update) {
        own |= line.uid == gateway.as_str();
        everyone |= line.uid.bytes().all(|b| b == b'*' || b == b'-');
    }
    if everyone {
        report
            .different(&name, "the rule permits every user to make PassTickets; name the user ids");
    }
    match own {
        true => report.same(&name, format_args!("{gateway} may make PassTickets")),
        false => report.note(
            &name,
            format_args!(
                "no line has UID({gateway}) and SERVICE(UPDATE); compare by hand, because each site has \
                 its own UID strings"
            ),
        ),
    }
}
