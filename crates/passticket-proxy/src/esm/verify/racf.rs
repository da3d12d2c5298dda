//! Compares a listing of RACF with the configuration.

use std::collections::HashSet;

use tower_passticket::{
    clock::Timestamp,
    passticket::{Algorithm, MAX_WINDOW, Replay, UserId},
};

use super::{
    super::{Application, Commands},
    Expected,
    listing::Listing,
    racf_listing::{LegacyKey, Options, Profile, RacfListing, Revoke, User},
    report::Report,
};

/// The maximum number of outputs of `RLIST` for one profile, and of `LISTUSER` for one user, that are compared.
const DISPLAYS: usize = 16;
/// The clock of z/OS may be this many seconds ahead of the gateway's clock. A listing is older than its comparison, so
/// with correct clocks, the time in the listing is in the past.
const AHEAD: u64 = 5;
/// The command that activates changed profiles.
const REFRESH: &str = "SETROPTS RACLIST(PTKTDATA) REFRESH";

pub(super) fn display(commands: &mut Commands, expected: &Expected) {
    commands.run("SETROPTS LIST");
    for Application { applid, .. } in &expected.applications {
        commands.run(format!("RLIST PTKTDATA {applid} SSIGNON ALL"));
        commands.run(format!("RLIST APPL {applid} ALL"));
        commands.run(format!("RLIST PTKTDATA IRRPTAUTH.{applid}.* ALL"));
    }
    for user in &expected.users {
        commands.run(format!("LISTUSER {user} MFA"));
    }
    commands.note(
        "At the console, D T shows the clock. Its output can also be in the file. D ICSF,KDS shows \
         the format of the CKDS: enhanced keys need the variable-length format or KDSR.",
    );
}

pub(super) fn compare(report: &mut Report, expected: &Expected, listing: &Listing, now: Timestamp) {
    let listing = RacfListing::parse(listing);
    options(report, expected, &listing.options);
    for application in &expected.applications {
        key_profile(report, application, &listing);
        permission(report, application, &expected.gateway, &listing);
        application_access(report, application, &listing);
    }
    for user in &expected.users {
        user_attributes(report, user, &listing);
    }
    if let Some(clock) = listing.clock {
        let ahead = clock.saturating_sub(now.as_secs());
        match ahead > AHEAD {
            true => report.different(
                "clock",
                format_args!(
                    "the GMT time of z/OS is at least {ahead} seconds ahead of this system; compare \
                     both with a time server"
                ),
            ),
            false => report.note(
                "clock",
                format_args!(
                    "the GMT time of D T is {} seconds ago; if you ran D T at another time, the clock of \
                     z/OS and the clock of this system differ",
                    now.as_secs().saturating_sub(clock)
                ),
            ),
        }
    }
}

fn options(report: &mut Report, expected: &Expected, options: &Options) {
    const CLASS: &str = "class PTKTDATA";
    let contains = |classes: &Option<HashSet<String>>, class| {
        classes.as_ref().map(|classes| classes.contains(class))
    };
    let (active, raclist) =
        (contains(&options.active, "PTKTDATA"), contains(&options.raclist, "PTKTDATA"));
    if active.is_none() || raclist.is_none() {
        report.missing(CLASS, "run SETROPTS LIST");
    }
    match active {
        Some(true) => report.same(CLASS, "is active"),
        Some(false) => report.different(CLASS, "is not active; run SETROPTS CLASSACT(PTKTDATA)"),
        None => {}
    }
    match raclist {
        Some(true) => report.same(CLASS, "is RACLISTed"),
        Some(false) => report.different(CLASS, "is not RACLISTed; run SETROPTS RACLIST(PTKTDATA)"),
        None => {}
    }
    if contains(&options.generic, "PTKTDATA") == Some(false) {
        report.note(
            CLASS,
            "generic profiles are not active, so IRRPTAUTH.applid.* is an ordinary name; run SETROPTS \
             GENERIC(PTKTDATA) before you define it",
        );
    }
    if contains(&options.active, "APPL") == Some(true) {
        report.note(
            "class APPL",
            "is active: each user needs READ on the APPLID if a profile protects it",
        );
    }
    let mixed = expected.applications.iter().find(|it| it.algorithm == Algorithm::EnhancedMixed);
    if let Some(Application { applid, .. }) = mixed {
        match options.mixed_case {
            Some(true) => report.same(applid, "RACF permits passwords with lower case"),
            Some(false) => report.different(
                applid,
                "the algorithm is enhanced-mixed, but RACF does not permit lower case in passwords; \
                 run SETROPTS PASSWORD(MIXEDCASE), or use enhanced-upper on both sides",
            ),
            None => report.note(applid, "check that SETROPTS LIST shows MIXED CASE PASSWORD SUPPORT IS IN EFFECT"),
        }
    }
    match options.revoke {
        Some(Revoke::After(wrong)) => report.note(
            "wrong passwords",
            format_args!(
                "RACF permits {wrong}, and revokes the user at the next one. A refused PassTicket counts \
                 as one"
            ),
        ),
        Some(Revoke::Never) => report.note("wrong passwords", "RACF revokes no user because of them"),
        None => {}
    }
}

/// Returns the last outputs of `RLIST` for a profile, at most [`DISPLAYS`], in the reverse order of the listing.
fn displays<'a>(listing: &'a RacfListing, class: &str, name: &str) -> Vec<&'a Profile> {
    let matching = listing.profiles.iter().filter(|it| it.class == class && it.name == name);
    matching.rev().take(DISPLAYS).collect()
}

fn key_profile(report: &mut Report, application: &Application, listing: &RacfListing) {
    let applid = application.applid;
    let profiles = displays(listing, "PTKTDATA", applid.as_str());
    if profiles.is_empty() {
        let generic = listing.profiles.iter().any(|it| {
            it.class == "PTKTDATA" && it.is_generic() && !it.name.starts_with("IRRPTAUTH.")
        });
        if listing.no_profile.contains(applid.as_str()) {
            report.different(
                applid,
                "RACF has no key profile; run the commands that passticket-proxy esm keys prints",
            );
        } else if generic {
            report.different(
                applid,
                "RACF shows a generic profile, which it ignores for keys; define a profile with the \
                 name of the APPLID",
            );
        } else {
            report.missing(applid, format_args!("run RLIST PTKTDATA {applid} SSIGNON ALL"));
        }
    }
    for profile in profiles {
        match application.algorithm {
            Algorithm::Legacy => legacy(report, application, profile),
            Algorithm::EnhancedUpper => enhanced(report, application, profile, false),
            Algorithm::EnhancedMixed => enhanced(report, application, profile, true),
        }
        if profile.warning == Some(true) {
            report.note(applid, "the key profile is in warning mode; run RALTER with NOWARNING");
        }
    }
}

fn legacy(report: &mut Report, application: &Application, profile: &Profile) {
    let Application { applid, window, .. } = application;
    match profile.legacy_key {
        Some(LegacyKey::Icsf) => report.same(applid, "there is a legacy key in ICSF"),
        Some(LegacyKey::Masked) => {
            report.same(applid, "there is a legacy key");
            report.note(
                applid,
                "the key is masked, not encrypted; RALTER with SSIGNON(ENCRYPTKEY) moves it into ICSF",
            );
        }
        None => {
            report.note(applid, "the listing shows no legacy key in a known form; compare by hand");
        }
    }
    let data = profile.application_data.as_deref();
    let allowed = data.map(|data| data.starts_with("NO REPLAY PROTECTION"));
    compare_replay(report, application, allowed, |replay| match replay {
        Replay::Allowed => format!("RALTER PTKTDATA {applid} APPLDATA('NO REPLAY PROTECTION')"),
        Replay::Protected => format!("RALTER PTKTDATA {applid} NOAPPLDATA"),
    });
    if window.as_secs() > MAX_WINDOW.as_secs() {
        report.different(
            applid,
            format_args!(
                "windowSeconds is {}, but RACF accepts a legacy PassTicket for 600 seconds; write \
                 windowSeconds: 600",
                window.as_secs()
            ),
        );
    }
}

fn enhanced(report: &mut Report, application: &Application, profile: &Profile, mixed: bool) {
    let Application { applid, algorithm, window, .. } = application;
    match profile.enhanced_key {
        true => report.same(applid, "there is an enhanced key"),
        false => report.note(
            applid,
            "the listing shows no label of an enhanced key in a known form; compare by hand",
        ),
    }
    if profile.legacy_key.is_some() {
        report.note(
            applid,
            format_args!(
                "there is also a legacy key, so RACF accepts legacy PassTickets, too. If no program needs \
                 them, run RALTER PTKTDATA {applid} SSIGNON(NOLEGACYKEY)"
            ),
        );
    }
    let kind = if mixed { "MIXED" } else { "UPPER" };
    match profile.mixed {
        Some(shown) if shown == mixed => report.same(applid, format_args!("TYPE is {kind}")),
        Some(_) => report.different(
            applid,
            format_args!(
                "the algorithm is {algorithm}, but TYPE is not {kind}; run RALTER PTKTDATA {applid} \
                 SSIGNON(TYPE({kind})) and {REFRESH}, or change the algorithm"
            ),
        ),
        None => report.note(applid, format_args!("TYPE is not shown; it must be {kind}")),
    }
    let seconds = window.as_secs();
    match profile.timeout {
        Some(timeout) if u64::from(timeout) == seconds => {
            report.same(applid, format_args!("TIMEOUT is {timeout} seconds"));
        }
        Some(timeout) => report.different(
            applid,
            format_args!(
                "windowSeconds is {seconds}, but TIMEOUT is {timeout} seconds; write windowSeconds: \
                 {timeout}, or run RALTER PTKTDATA {applid} SSIGNON(TIMEOUT({})) and {REFRESH}",
                application.timeout()
            ),
        ),
        None => report.note(
            applid,
            format_args!(
                "TIMEOUT is not shown; it must be windowSeconds, {seconds} seconds (RACF takes 60 if \
                 it is not set)"
            ),
        ),
    }
    compare_replay(report, application, profile.replay_allowed, |replay| {
        let replay = match replay {
            Replay::Allowed => "YES",
            Replay::Protected => "NO",
        };
        format!("RALTER PTKTDATA {applid} SSIGNON(REPLAY({replay}))")
    });
}

fn compare_replay(
    report: &mut Report,
    application: &Application,
    allowed: Option<bool>,
    command: impl FnOnce(Replay) -> String,
) {
    let Application { applid, replay, .. } = *application;
    let text = match replay {
        Replay::Allowed => "off",
        Replay::Protected => "on",
    };
    match allowed {
        None => report.note(applid, format_args!("replay protection is not shown; it must be {text}")),
        Some(allowed) if allowed == (replay == Replay::Allowed) => {
            report.same(applid, format_args!("replay protection is {text}"));
        }
        Some(allowed) => report.different(
            applid,
            format_args!(
                "replayProtection is {}, but replay protection is {}; run {} and {REFRESH}, or write \
                 replayProtection: {}",
                !matches!(replay, Replay::Allowed),
                if allowed { "off" } else { "on" },
                command(replay),
                !allowed
            ),
        ),
    }
}

fn permission(
    report: &mut Report,
    application: &Application,
    gateway: &UserId,
    listing: &RacfListing,
) {
    let name = format!("IRRPTAUTH.{}.*", application.applid);
    let profiles = displays(listing, "PTKTDATA", &name);
    if profiles.is_empty() {
        report.note(
            &name,
            format_args!(
                "{}; the gateway's user id needs it only if a program on z/OS makes PassTickets under \
                 this user id",
                match listing.no_profile.contains(&name) {
                    true => "RACF has no such profile",
                    false => "is not in the listing",
                }
            ),
        );
    }
    for profile in profiles {
        match profile.universal_access.as_deref() {
            None | Some("NONE") => {}
            Some(_) => report.different(
                &name,
                format_args!(
                    "the universal access is not NONE, so every user has access; run RALTER PTKTDATA \
                     {name} UACC(NONE)"
                ),
            ),
        }
        if profile.warning == Some(true) {
            report.different(
                &name,
                "the profile is in warning mode, so every user can make PassTickets; run RALTER with \
                 NOWARNING",
            );
        }
        let Some(list) = &profile.access else {
            report
                .note(&name, format_args!("the access list is not shown; {gateway} needs UPDATE"));
            continue;
        };
        let may_make = |level: &str| matches!(level, "UPDATE" | "CONTROL" | "ALTER");
        let own = list.iter().find(|(user, _)| user == gateway.as_str());
        match own {
            Some((_, level)) if may_make(level) => {
                report.same(&name, format_args!("{gateway} may make PassTickets"));
            }
            _ => report.different(
                &name,
                format_args!(
                    "{gateway} may not make PassTickets; run PERMIT {name} CLASS(PTKTDATA) ID({gateway}) \
                     ACCESS(UPDATE)"
                ),
            ),
        }
        let others =
            list.iter().filter(|(user, level)| user != gateway.as_str() && may_make(level)).count();
        if others > 0 {
            report.note(
                &name,
                format_args!("{others} other users or groups may make PassTickets; check the list"),
            );
        }
    }
}

/// Compares the profile that says who may use the application.
fn application_access(report: &mut Report, application: &Application, listing: &RacfListing) {
    let applid = application.applid;
    for profile in displays(listing, "APPL", applid.as_str()) {
        if profile.universal_access.as_deref() == Some("NONE") {
            report.note(
                applid,
                "a profile of class APPL protects it: check that each user of the gateway has READ",
            );
        }
    }
}

fn user_attributes(report: &mut Report, user: &UserId, listing: &RacfListing) {
    let shown: Vec<_> =
        listing.users.iter().rev().filter(|it| it.name == user.as_str()).take(DISPLAYS).collect();
    if shown.is_empty() {
        match listing.no_user.contains(user.as_str()) {
            true => report.different(user, "RACF has no such user"),
            false => report.missing(user, format_args!("run LISTUSER {user} MFA")),
        }
    }
    for User { protected, revoked, factors, .. } in shown {
        if *protected {
            report.different(
                user,
                "has the attribute PROTECTED, so RACF refuses PassTickets; give the user a password, \
                 or use another user",
            );
        }
        if *revoked {
            report.different(user, format_args!("is revoked; run ALTUSER {user} RESUME"));
        }
        if !protected && !revoked {
            report.same(user, "is neither PROTECTED nor revoked");
        }
        let active = factors.iter().any(|(name, active)| name == "AZFPTKT1" && *active);
        match (factors.is_empty(), active) {
            (true, _) => {}
            (false, true) => report.same(user, "has the MFA factor for PassTickets"),
            (false, false) => report.different(
                user,
                format_args!(
                    "uses MFA without the factor for PassTickets, so RACF refuses PassTickets; run \
                     ALTUSER {user} MFA(FACTOR(AZFPTKT1) ACTIVE)"
                ),
            ),
        }
    }
}
