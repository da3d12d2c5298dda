//! The commands for RACF, IBM's security product. They are TSO commands.
//!
//! ICSF is the cryptographic service of z/OS. The CKDS is the data set in which ICSF stores keys.
//!
//! Sources: *z/OS Security Server RACF Command Language Reference* (RDEFINE, RACMAP, RACDCERT MAP),
//! *z/OS Security Server RACF Security Administrator's Guide* (Using PassTickets), Zowe's jobs ZWEIRAC
//! and ZWEIRACZ; docs/reference/security-products.md#racf.
//!
//! A PassTicket is a short-lived password of z/OS.

use super::{
    Application, COMMANDS_WITH_KEY, Commands, EmailOperand, Mapping, NameOperand, RegistryOperand,
    key_placeholder,
};
use tower_passticket::passticket::{Algorithm, Applid, MAX_WINDOW, Replay, UserId};

const DEFINED: &str = "If a profile already exists, RDEFINE issues a message and changes nothing.";

pub(super) fn passticket(commands: &mut Commands, gateway: &UserId, applids: &[Applid]) {
    commands.note(DEFINED);
    // This command comes first: if the class permits no generic profiles, an asterisk in the name of a profile is an
    // ordinary character.
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
    if applications.iter().any(Application::is_legacy) {
        legacy_notes(commands, applications);
    }
    if !applications.iter().all(Application::is_legacy) {
        enhanced_notes(commands, applications);
    }
    commands.note(&format!(
        "{DEFINED} To change a profile, write RALTER instead of RDEFINE, and leave out UACC. The name \
         of a key profile must have no wildcards: RACF ignores a generic profile here.",
    ));
    if applications.iter().any(|it| it.is_legacy() && it.replay == Replay::Protected) {
        commands
            .note("RALTER keeps APPLDATA('NO REPLAY PROTECTION'). To remove it, add NOAPPLDATA.");
    }
    commands.run("SETROPTS CLASSACT(PTKTDATA) RACLIST(PTKTDATA)");
    for application in applications {
        let Application { applid, algorithm, replay, .. } = application;
        let head = format!("RDEFINE PTKTDATA {applid} UACC(NONE)");
        let label = application.key_label();
        let enhanced = |kind| {
            let replay = match replay {
                Replay::Protected => "NO",
                Replay::Allowed => "YES",
            };
            let timeout = application.timeout();
            [
                format!("SSIGNON(EPTKEYLABEL({label})"),
                format!("TYPE({kind})"),
                format!("TIMEOUT({timeout})"),
                format!("REPLAY({replay}))"),
            ]
        };
        let operands = match algorithm {
            Algorithm::Legacy => {
                let unprotected = match replay {
                    Replay::Protected => None,
                    Replay::Allowed => Some("APPLDATA('NO REPLAY PROTECTION')".to_owned()),
                };
                let key = format!("SSIGNON(KEYLABEL({label}))");
                unprotected.into_iter().chain([key]).collect::<Vec<_>>()
            }
            Algorithm::EnhancedUpper => enhanced("UPPER").to_vec(),
            Algorithm::EnhancedMixed => enhanced("MIXED").to_vec(),
        };
        commands.run_long([&*head].into_iter().chain(operands.iter().map(String::as_str)));
    }
    commands.run("SETROPTS RACLIST(PTKTDATA) REFRESH");
    user_notes(commands, applications);
    commands.note("To verify (the output does not show the key):");
    commands.run("SETROPTS LIST");
    for Application { applid, .. } in applications {
        commands.run(format!("RLIST PTKTDATA {applid} SSIGNON ALL"));
    }
}

fn legacy_notes(commands: &mut Commands, applications: &[Application]) {
    commands.note(
        "Legacy keys: the label in KEYLABEL is the label of an 8-byte DES key (type DATA) in the \
         CKDS of ICSF. You may change this label. The command contains no key. passticket-proxy esm \
         --esm racf key-job --algorithm legacy prints a job that puts the key into the CKDS.",
    );
    commands.note(
        "Exception, if the system has no ICSF: write this operand instead of \
         SSIGNON(KEYLABEL(label)), with the key in place of the text in angle brackets:",
    );
    for Application { applid, .. } in applications.iter().filter(|it| it.is_legacy()) {
        commands.note_line(&format!("SSIGNON(KEYMASKED({}))", key_placeholder(applid)));
    }
    commands.note(&format!(
        "Masking is not encryption with a secret key, so a copy or a backup of the RACF database is \
         as secret as the key. When ICSF is available, RALTER with SSIGNON(ENCRYPTKEY) moves a \
         masked key into the CKDS. {COMMANDS_WITH_KEY}",
    ));
    let longer = |it: &&Application| it.is_legacy() && it.window.as_secs() > MAX_WINDOW.as_secs();
    if let Some(Application { applid, .. }) = applications.iter().find(longer) {
        commands.note(&format!(
            "The windowSeconds of {applid} are too many: RACF accepts a legacy PassTicket for 600 \
             seconds. Write windowSeconds: 600 or less.",
        ));
    }
}

fn enhanced_notes(commands: &mut Commands, applications: &[Application]) {
    commands.note(
        "Enhanced keys need z/OS 2.5, or z/OS 2.3 or 2.4 with the APARs OA59196 and OA59197. The \
         label in EPTKEYLABEL is the label of an HMAC key in the CKDS of ICSF: type MAC, key usage \
         GENERATE, 64 bytes or more. You may change this label. The CKDS must have the \
         variable-length format or the common record format (KDSR). KGUP cannot load an HMAC key: \
         passticket-proxy esm --esm racf key-job prints a job that loads the gateway's key, or that \
         makes a key. Since z/OS 3.1, an ICSF panel for HMAC keys does this, too.",
    );
    commands.note(
        "TIMEOUT is windowSeconds of the gateway. Without TIMEOUT, RACF takes 60 seconds. \
         REPLAY(YES) permits a PassTicket to be used more than once. APPLDATA has no effect on \
         enhanced PassTickets.",
    );
    if applications.iter().any(|it| it.algorithm == Algorithm::EnhancedMixed) {
        commands.note(
            "TYPE(MIXED) needs SETROPTS PASSWORD(MIXEDCASE), and an application that does not \
             change the case of a password and permits - and _ in it.",
        );
    }
    let longer = |it: &&Application| !it.is_legacy() && it.window.as_secs() > it.timeout();
    if let Some(Application { applid, .. }) = applications.iter().find(longer) {
        commands.note(&format!(
            "The windowSeconds of {applid} are too many: RACF permits TIMEOUT(600) at most. Write \
             windowSeconds: 600 or less.",
        ));
    }
}

/// Adds comments about what RACF requires of the users of PassTickets.
fn user_notes(commands: &mut Commands, applications: &[Application]) {
    commands.note(
        "APPL: if class APPL is active and a profile protects the APPLID, each user needs READ. If \
         you want this, define the profiles before you activate the class, because SETROPTS \
         CLASSACT(APPL) activates every APPL profile of your site:",
    );
    for Application { applid, .. } in applications {
        commands.note_line(&format!("RDEFINE APPL {applid} UACC(NONE)"));
        commands.note_line(&format!("PERMIT {applid} CLASS(APPL) ID(group) ACCESS(READ)"));
    }
    commands.note_line("SETROPTS RACLIST(APPL) REFRESH");
    commands.note(
        "MFA: a user of IBM MFA needs the factor for PassTickets. Otherwise, RACF refuses the \
         PassTicket:",
    );
    commands.note_line("RDEFINE MFADEF FACTOR.AZFPTKT1");
    commands.note_line("SETROPTS RACLIST(MFADEF) REFRESH");
    commands.note_line("ALTUSER user MFA(FACTOR(AZFPTKT1) ACTIVE)");
    commands.note(
        "PROTECTED: RACF refuses PassTickets for a user with the attribute PROTECTED. A user that \
         was added without a password has it. LISTUSER shows it.",
    );
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
