//! ACF2: subcommands of the TSO command ACF. Sources: spec 000 and 001, Zowe's ZWEIACF and ZWEIACFZ,
//! Zowe's pages on distributed identities and client certificates, Broadcom's knowledge base.
//!
//! `UID` takes a string that sites compose themselves. The documents put a user id there, and so do
//! these; the comment says what to look at.

use super::{
    Application, Commands, EmailOperand, Mapping, NameOperand, RegistryOperand, key_placeholder,
    legacy_only, one_mapping,
};
use tower_passticket::passticket::{Applid, Replay, UserId};

const UID: &str = "UID() has the user id. If the UID strings of this site do not begin with it, \
                   write the UID string there.";

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
        commands.note("If the rules are resident (INFODIR R-RPTK); else it is refused, no harm:");
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
        commands.note("MULT-USE switches replay protection off, NOMULT-USE on.");
        commands.note("To replace a key, write CHANGE in place of INSERT.");
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
            "z/OS 2.5 has class ZOWE, with resource type ZWE. Before, define it once (job ZWEIACFZ):",
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
            "Zowe's page on delegated PassTickets has type RDA and key ZOWE. Where class ZOWE is \
             mapped like that (SHOW CLASMAP), these instead:",
        );
        commands.note_line("SET RESOURCE(RDA)");
        for user in users {
            // Not with a continuation: a comment that ends in one may go on in the next line.
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

/// Lets the gateway ask for mappings.
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
