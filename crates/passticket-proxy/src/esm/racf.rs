//! The commands for RACF, IBM's security product. They are TSO commands.
//!
//! ICSF is the cryptographic service of z/OS. The CKDS is the data set in which ICSF stores keys.
//!
//! Sources: *z/OS Security Server RACF Command Language Reference* (RDEFINE, RACMAP, RACDCERT MAP),
//! *z/OS Security Server RACF Security Administrator's Guide* (Using PassTickets), Zowe's jobs ZWEIRAC
//! and ZWEIRACZ; docs/reference/security-products.md#racf.

use super::{
    Application, Commands, EmailOperand, Mapping, NameOperand, RegistryOperand, key_placeholder,
};
use tower_passticket::passticket::{Algorithm, Applid, Replay, UserId};

const DEFINED: &str = "If a profile already exists, RDEFINE issues a message and changes nothing.";

pub(super) fn passticket(commands: &mut Commands, gateway: &UserId, applids: &[Applid]) {
    commands.note(DEFINED);
    // GENERIC is the first command: if the class has no generic profiles, an asterisk in the name of a
    // profile is an ordinary character.
    commands.run("SETROPTS GENERIC(PTKTDATA)");
    commands.run("SETROPTS CLASSACT(PTKTDATA) RACLIST(PTKTDATA)");
    for applid in applids {
        commands.run(format!("RDEFINE PTKTDATA IRRPTAUTH.{applid}.* UACC(NONE)"));
        commands
            .run(format!("PERMIT IRRPTAUTH.{applid}.* CL(PTKTDATA) ID({gateway}) ACCESS(UPDATE)"));
    }
    commands.run("SETROPTS RACLIST(PTKTDATA) REFRESH");
    commands.note("To verify:");
    for applid in applids {
        commands.run(format!("RLIST PTKTDATA IRRPTAUTH.{applid}.* AUTHUSER"));
    }
}

pub(super) fn keys(commands: &mut Commands, applications: &[Application]) {
    let is_legacy = |application: &Application| application.algorithm == Algorithm::Legacy;
    if applications.iter().any(is_legacy) {
        commands.note(
            "Legacy keys: if the system has ICSF, write KEYENCRYPTED instead of KEYMASKED, or \
             write KEYLABEL(label) with the label of an 8-byte DES key in the CKDS. With KEYLABEL \
             the command contains no key.",
        );
    }
    if !applications.iter().all(is_legacy) {
        commands.note(
            "Enhanced keys: the key must be in the CKDS of ICSF, under the label in EPTKEYLABEL. \
             You may change this label. The key must be an HMAC key with the uses generate and \
             verify. REPLAY(YES) permits a PassTicket to be used more than once. TYPE(MIXED) \
             needs an application that does not change the case of a password.",
        );
    }
    commands.note(&format!("{DEFINED} To replace a key, write RALTER instead of RDEFINE."));
    if applications.iter().any(|it| is_legacy(it) && it.replay == Replay::Protected) {
        commands
            .note("RALTER keeps APPLDATA('NO REPLAY PROTECTION'). To remove it, add NOAPPLDATA.");
    }
    commands.run("SETROPTS CLASSACT(PTKTDATA) RACLIST(PTKTDATA)");
    for Application { applid, algorithm, replay } in applications {
        let head = format!("RDEFINE PTKTDATA {applid} UACC(NONE)");
        let enhanced = |kind| {
            let replay = match replay {
                Replay::Protected => "NO",
                Replay::Allowed => "YES",
            };
            format!("SSIGNON(EPTKEYLABEL(PASSTICKET.{applid}) TYPE({kind}) REPLAY({replay}))")
        };
        match algorithm {
            Algorithm::Legacy => {
                let key = key_placeholder(applid);
                let key = format!("SSIGNON(KEYMASKED({key}))");
                let unprotected = match replay {
                    Replay::Protected => None,
                    Replay::Allowed => Some("APPLDATA('NO REPLAY PROTECTION')"),
                };
                commands.run_long([Some(&*head), unprotected, Some(&key)].into_iter().flatten());
            }
            Algorithm::EnhancedUpper => commands.run_long([&*head, &enhanced("UPPER")]),
            Algorithm::EnhancedMixed => commands.run_long([&*head, &enhanced("MIXED")]),
        }
    }
    commands.run("SETROPTS RACLIST(PTKTDATA) REFRESH");
    commands.note("To verify (the output does not show the key):");
    for Application { applid, .. } in applications {
        commands.run(format!("RLIST PTKTDATA {applid} SSIGNON ALL"));
    }
}

pub(super) fn delegate(commands: &mut Commands, users: &[UserId]) {
    commands.note(
        "Since z/OS 2.5, class ZOWE exists. On earlier releases, define the class once with these \
         commands (from Zowe's job ZWEIRACZ). Write a POSIT number of your site instead of 607:",
    );
    commands.note_line("SETROPTS CLASSACT(CDT) RACLIST(CDT)");
    commands.note_line("RDEFINE CDT ZOWE UACC(NONE) +");
    commands.note_line("  CDTINFO(DEFAULTUACC(NONE) FIRST(ALPHA) +");
    commands.note_line("  OTHER(ALPHA,NATIONAL,NUMERIC,SPECIAL) +");
    commands.note_line("  MAXLENGTH(246) POSIT(607) RACLIST(DISALLOWED))");
    commands.note_line("SETROPTS RACLIST(CDT) REFRESH");
    commands.note(DEFINED);
    commands.run("SETROPTS CLASSACT(ZOWE)");
    commands.run("RDEFINE ZOWE APIML.DELEGATE.PASSTICKET UACC(NONE)");
    for user in users {
        commands
            .run(format!("PERMIT APIML.DELEGATE.PASSTICKET CLASS(ZOWE) ID({user}) ACCESS(READ)"));
    }
    commands.note(
        "The next command is only needed if the class is RACLISTed. Otherwise, it issues a message:",
    );
    commands.run("SETROPTS RACLIST(ZOWE) REFRESH");
    commands.note("To verify:");
    commands.run("RLIST ZOWE APIML.DELEGATE.PASSTICKET AUTHUSER");
}

pub(super) fn email(
    commands: &mut Commands,
    mapping: Mapping<'_>,
    email: &EmailOperand,
    registry: &RegistryOperand,
) {
    permit(commands, "IRR.IDIDMAP.QUERY", mapping.gateway);
    let Mapping { user, label, .. } = mapping;
    commands.run("SETROPTS CLASSACT(IDIDMAP) RACLIST(IDIDMAP)");
    commands.run_long([
        &*format!("RACMAP ID({user}) MAP"),
        &format!("USERDIDFILTER(NAME({}))", quoted(email.as_str())),
        &format!("REGISTRY(NAME({}))", quoted(registry.as_str())),
        &format!("WITHLABEL({})", quoted(label.as_str())),
    ]);
    commands.run("SETROPTS RACLIST(IDIDMAP) REFRESH");
    commands.note("To verify:");
    commands.run("RLIST FACILITY IRR.IDIDMAP.QUERY AUTHUSER");
    commands.run(format!("RACMAP ID({user}) LISTMAP"));
}

pub(super) fn certificate(
    commands: &mut Commands,
    mapping: Mapping<'_>,
    subject: &NameOperand,
    issuer: Option<&NameOperand>,
) {
    permit(commands, "IRR.RUSERMAP", mapping.gateway);
    let Mapping { user, label, .. } = mapping;
    commands.run("SETROPTS CLASSACT(DIGTNMAP) RACLIST(DIGTNMAP)");
    let subject = format!("SDNFILTER({})", quoted(subject.as_str()));
    let issuer = issuer.map(|issuer| format!("IDNFILTER({})", quoted(issuer.as_str())));
    let label = format!("WITHLABEL({})", quoted(label.as_str()));
    let head = format!("RACDCERT ID({user}) MAP");
    let operands = [Some(&*head), Some(&subject), issuer.as_deref(), Some(&label), Some("TRUST")];
    commands.run_long(operands.into_iter().flatten());
    commands.run("SETROPTS RACLIST(DIGTNMAP) REFRESH");
    commands.note("To verify:");
    commands.run("RLIST FACILITY IRR.RUSERMAP AUTHUSER");
    commands.run(format!("RACDCERT ID({user}) LISTMAP"));
}

/// Permits the gateway to look up mappings.
fn permit(commands: &mut Commands, resource: &str, gateway: &UserId) {
    commands.note(&format!(
        "{DEFINED} If a generic profile such as IRR.* protects {resource}, the new profile \
         replaces it for this resource. Permit the users of the generic profile here, too.",
    ));
    commands.run("SETROPTS CLASSACT(FACILITY) RACLIST(FACILITY)");
    commands.run(format!("RDEFINE FACILITY {resource} UACC(NONE)"));
    commands.run(format!("PERMIT {resource} CLASS(FACILITY) ID({gateway}) ACCESS(READ)"));
    commands.run("SETROPTS RACLIST(FACILITY) REFRESH");
}

/// Puts a text between apostrophes, and doubles the apostrophes in it (*TSO/E Command Reference*).
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
