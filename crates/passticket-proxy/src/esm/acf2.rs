//! The commands for ACF2, a security product of Broadcom. They are subcommands of the TSO command ACF.
//!
//! Sources: Broadcom's documentation of *ACF2 for z/OS* and its knowledge base, Zowe's jobs ZWEIACF and
//! ZWEIACFZ, Zowe's documentation of distributed identities and client certificates;
//! docs/reference/security-products.md#acf2.
//!
//! The operand of `UID` is a UID string. Each site chooses the fields of its UID strings. The commands of this module
//! contain the user id as the operand, as in Zowe's documentation. If the UID strings of the site do not begin
//! with the user id, the administrator must write the UID string in its place. A comment says this.

use super::{
    Application, Commands, EmailOperand, Mapping, NameOperand, RegistryOperand, key_placeholder,
    legacy_only, one_mapping,
};
use tower_passticket::passticket::{Applid, Replay, UserId};

const UID: &str = "The commands write the user id in UID(). If the UID strings of your site do \
                   not begin with the user id, write the UID string of this user instead.";

pub(super) fn passticket(commands: &mut Commands, gateway: &UserId, applids: &[Applid]) {
    commands.acf(|commands| {
        commands.note(UID);
        commands.run("SET RESOURCE(PTK)");
        for applid in applids {
            commands.run_long([
                "RECKEY IRRPTAUTH",
                &format!("ADD({applid}.-"),
                &format!("UID({gateway})"),
                "SERVICE(UPDATE,READ)",
                "ALLOW)",
            ]);
        }
        commands.note(
            "CHANGE INFODIR makes rules of type PTK resident in storage. ADD keeps the types that \
             INFODIR already lists. Without ADD, CHANGE would remove them:",
        );
        commands.run("SET CONTROL(GSO)");
        commands.run("CHANGE INFODIR TYPES(R-RPTK) ADD");
        commands.run("F ACF2,REFRESH(INFODIR)");
        commands.note("This command activates the rules:");
        commands.run("F ACF2,REBUILD(PTK)");
        commands.note(
            "This command of Zowe's documentation activates key records (class P). It does not \
             activate the rules:",
        );
        commands.run("F ACF2,REBUILD(PTK),CLASS(P)");
        commands.note(
            "PTKRESCK: if this option is set in the GSO record OPTS, ACF2 also checks the resource \
             PTKTGEN.applid.user when a program on z/OS makes a PassTicket. Then the gateway's \
             user id needs SERVICE(UPDATE) for it. Do not set the option only for this gateway, \
             because it applies to all programs. Check the syntax of this rule in your manual of \
             ACF2:",
        );
        for applid in applids {
            commands.note_line(&format!(
                "RECKEY PTKTGEN ADD({applid}.- UID({gateway}) SERVICE(UPDATE) ALLOW)"
            ));
        }
        commands.note("To verify:");
        commands.run("LIST INFODIR");
        commands.run("SET RESOURCE(PTK)");
        commands.run("LIST LIKE(IRRPTAUTH-)");
    });
}

pub(super) fn keys(commands: &mut Commands, applications: &[Application]) {
    let legacy = legacy_only(commands, applications, "ACF2, SSIGNON profile records");
    commands.note(
        "APPL: if your site protects applications (SHOW CLASMAP shows the resource type of class \
         APPL), each user also needs access to the APPLID. MFA: a user with multi-factor \
         authentication needs the factor for PassTickets, AZFPTKT1. Read in your manual of ACF2 \
         how to permit both, and whether users without a password may use PassTickets.",
    );
    if legacy.is_empty() {
        return;
    }
    commands.acf(|commands| {
        commands.note("MULT-USE switches replay protection off, NOMULT-USE switches it on.");
        commands.note("To replace a key, write CHANGE instead of INSERT.");
        commands.run("SET PROFILE(PTKTDATA) DIVISION(SSIGNON)");
        for Application { applid, replay, .. } in &legacy {
            let multiple = match replay {
                Replay::Protected => "NOMULT-USE",
                Replay::Allowed => "MULT-USE",
            };
            let key = key_placeholder(applid);
            commands.run_long([&*format!("INSERT {applid} SSKEY({key})"), multiple]);
        }
        commands.run("F ACF2,REBUILD(PTK),CLASS(P)");
        commands.note("To verify (the output does not show the key):");
        for Application { applid, .. } in &legacy {
            commands.run(format!("LIST LIKE({applid}-)"));
        }
    });
}

pub(super) fn delegate(commands: &mut Commands, users: &[UserId]) {
    commands.acf(|commands| {
        commands.note(
            "Since z/OS 2.5, class ZOWE exists with resource type ZWE. On earlier releases, \
             define the class once with these commands (from Zowe's job ZWEIACFZ):",
        );
        commands.note_line("SET CONTROL(GSO)");
        commands.note_line("INSERT CLASMAP.ZOWE RESOURCE(ZOWE) RSRCTYPE(ZWE)");
        commands.note_line("F ACF2,REFRESH(CLASMAP),TYPE(GSO)");
        commands.note("ADD keeps the types that INFODIR already lists:");
        commands.note_line("CHANGE INFODIR TYPES(R-RZWE) ADD");
        commands.note_line("F ACF2,REFRESH(INFODIR)");
        commands.note(UID);
        commands.run("SET RESOURCE(ZWE)");
        for user in users {
            commands.run_long([
                "RECKEY APIML",
                "ADD(DELEGATE.PASSTICKET",
                &format!("UID({user})"),
                "SERVICE(READ)",
                "ALLOW)",
            ]);
        }
        commands.run("F ACF2,REBUILD(ZWE)");
        commands.note("To verify:");
        commands.run("LIST APIML");
        commands.note(
            "Zowe's documentation of delegated PassTickets uses resource type RDA and key ZOWE. \
             If SHOW CLASMAP shows type RDA for class ZOWE, use these commands instead of the \
             commands above:",
        );
        commands.note_line("SET RESOURCE(RDA)");
        for user in users {
            // This command is a comment, which may be longer than a line. `run_long` would end the first line with +.
            // But after a comment line that ends with + or -, ACF2 may read the next line as a part of the comment.
            // `note` adds no +.
            commands.note(&format!(
                "RECKEY ZOWE ADD(APIML.DELEGATE.PASSTICKET UID({user}) SERVICE(READ) ALLOW)",
            ));
        }
        commands.note_line("F ACF2,REBUILD(RDA)");
    });
}

pub(super) fn email(
    commands: &mut Commands,
    mapping: Mapping<'_>,
    email: &EmailOperand,
    registry: &RegistryOperand,
) {
    let Mapping { user, label, .. } = mapping;
    commands.acf(|commands| {
        permit(commands, "IDIDMAP.QUERY", mapping.gateway);
        commands.note(&one_mapping(user, "ZWEDNMAP"));
        commands.run("SET PROFILE(USER) DIVISION(IDMAP)");
        commands.run_long([
            &*format!("INSERT {user}.ZWEDNMAP"),
            &format!("IDMAPDN({email})"),
            &format!("IDMAPRN({registry})"),
            &format!("IDLABEL({label})"),
        ]);
        commands.run("F ACF2,REBUILD(USR),CLASS(P),DIVISION(IDMAP)");
        commands.note("To verify:");
        commands.run(format!("LIST {user}.ZWEDNMAP"));
        show_permissions(commands);
    });
}

pub(super) fn certificate(
    commands: &mut Commands,
    mapping: Mapping<'_>,
    subject: &NameOperand,
    issuer: Option<&NameOperand>,
) {
    let Mapping { user, label, .. } = mapping;
    commands.acf(|commands| {
        permit(commands, "RUSERMAP", mapping.gateway);
        commands.note(&one_mapping(user, &format!("CERTMAP.{user}")));
        commands.run("SET CONTROL(GSO)");
        let head = format!("INSERT CERTMAP.{user}");
        let subject = format!("SDNFILTR({subject})");
        let issuer = issuer.map(|issuer| format!("IDNFILTR({issuer})"));
        let label = format!("LABEL({label})");
        let id = format!("USERID({user})");
        let operands = [
            Some(&*head),
            Some(&subject),
            issuer.as_deref(),
            Some(&label),
            Some(&id),
            Some("TRUST"),
        ];
        commands.run_long(operands.into_iter().flatten());
        commands.run("F ACF2,REFRESH(CERTMAP)");
        commands.note("To verify:");
        commands.run("SHOW CERTMAP");
        show_permissions(commands);
    });
}

/// Permits the gateway to look up mappings.
fn permit(commands: &mut Commands, resource: &str, gateway: &UserId) {
    commands.note(UID);
    commands.run("SET RESOURCE(FAC)");
    commands.run_long([
        "RECKEY IRR",
        &format!("ADD({resource}"),
        &format!("UID({gateway})"),
        "SERVICE(READ)",
        "ALLOW)",
    ]);
    commands.run("F ACF2,REBUILD(FAC)");
}

/// Adds the commands that show the result of [`permit`].
fn show_permissions(commands: &mut Commands) {
    commands.run("SET RESOURCE(FAC)");
    commands.run("LIST LIKE(IRR-)");
}
