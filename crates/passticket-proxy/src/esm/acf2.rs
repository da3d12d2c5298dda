//! ACF2: subcommands of the TSO command ACF.
//!
//! Sources: Broadcom's documentation of *ACF2 for z/OS* and its knowledge base, Zowe's jobs ZWEIACF and
//! ZWEIACFZ, Zowe's documentation of distributed identities and client certificates;
//! docs/reference/security-products.md#acf2.
//!
//! `UID` takes a string that each site composes from fields of its own choice. Zowe's documentation
//! puts the user id there, and so do these commands. A comment tells the administrator to check it.

use super::{
    Application, Commands, EmailOperand, Mapping, NameOperand, RegistryOperand, key_placeholder,
    legacy_only, one_mapping,
};
use tower_passticket::passticket::{Applid, Replay, UserId};

const UID: &str = "UID() contains the user id. If the UID strings of this site do not begin with \
                   it, write the UID string.";

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
        commands.run("F ACF2,REBUILD(PTK),CLASS(P)");
        commands
            .note("Needed if the rules are resident (INFODIR R-RPTK); otherwise it is rejected:");
        commands.run("F ACF2,REBUILD(PTK)");
        commands.note("To verify:");
        commands.run("LIST LIKE(IRRPTAUTH-)");
    });
}

pub(super) fn keys(commands: &mut Commands, applications: &[Application]) {
    let legacy = legacy_only(commands, applications, "ACF2, SSIGNON profile records");
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
        commands.note("To verify; the key is not shown:");
        for Application { applid, .. } in &legacy {
            commands.run(format!("LIST LIKE({applid}-)"));
        }
    });
}

pub(super) fn delegate(commands: &mut Commands, users: &[UserId]) {
    commands.acf(|commands| {
        commands.note(
            "z/OS 2.5 has class ZOWE, with resource type ZWE. On earlier releases, define it once (job \
             ZWEIACFZ):",
        );
        commands.note_line("SET CONTROL(GSO)");
        commands.note_line("INSERT CLASMAP.ZOWE RESOURCE(ZOWE) RSRCTYPE(ZWE)");
        commands.note_line("F ACF2,REFRESH(CLASMAP),TYPE(GSO)");
        commands.note_line("CHANGE INFODIR TYPES(R-RZWE)");
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
            "Zowe's documentation of delegated PassTickets has type RDA and key ZOWE. If this site maps \
             class ZOWE so (SHOW CLASMAP), use these commands instead:",
        );
        commands.note_line("SET RESOURCE(RDA)");
        for user in users {
            // Not as a continued command: a comment that ends with + or - may include the next line.
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
        listed(commands);
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
        listed(commands);
    });
}

/// Permits the gateway to ask for mappings.
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

fn listed(commands: &mut Commands) {
    commands.run("SET RESOURCE(FAC)");
    commands.run("LIST LIKE(IRR-)");
}
