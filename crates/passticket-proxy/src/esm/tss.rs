//! The commands for Top Secret, a security product of Broadcom. They use the TSO command TSS.
//!
//! Sources: Broadcom's *Top Secret for z/OS Command Functions Guide* and *Cookbook*, Zowe's jobs ZWEITSS
//! and ZWEITSSZ, Zowe's documentation of PassTickets, distributed identities and client certificates;
//! docs/reference/security-products.md#top-secret.
//!
//! A PassTicket is a short-lived password of z/OS.

use super::{
    Application, Commands, EmailOperand, Mapping, NameOperand, RegistryOperand, key_placeholder,
    legacy_only, one_mapping,
};
use tower_passticket::passticket::{Applid, Replay, UserId};

pub(super) fn passticket(commands: &mut Commands, gateway: &UserId, applids: &[Applid]) {
    commands.note(
        "Top Secret is delivered without class PTKTDATA. Define the class once, and make a \
         department the owner of the resource. Instead of n, write an unused RESCODE from 101 to \
         13F (hexadecimal):",
    );
    commands.note_line("TSS ADDTO(RDT) RESCLASS(PTKTDATA) RESCODE(n) +");
    commands.note_line("  ACLST(ALL,READ,UPDATE) MAXLEN(37)");
    commands.note_line("TSS ADDTO(department) PTKTDATA(IRRPTAUT)");
    for applid in applids {
        commands.run(format!(
            "TSS PERMIT({gateway}) PTKTDATA(IRRPTAUTH.{applid}.) ACCESS(READ,UPDATE)"
        ));
    }
    commands.run("TSS REFRESH");
    commands.note(
        "If the control option PTKRESCK is set, Top Secret may check further permissions when a \
         program on z/OS makes a PassTicket. Your manual of Top Secret lists them.",
    );
    commands.note("To verify:");
    for applid in applids {
        commands.run(format!("TSS WHOHAS PTKTDATA(IRRPTAUTH.{applid}.)"));
    }
}

pub(super) fn keys(commands: &mut Commands, applications: &[Application]) {
    let legacy = legacy_only(commands, applications, "Top Secret, PSTKAPPL keyword");
    let applid = applications.first().map(|application| application.applid.to_string());
    commands.note(&format!(
        "APPL: if your site protects applications, each user also needs access to the APPLID. TSS \
         WHOHAS APPL({}) shows who has access. MFA: a user with multi-factor authentication needs \
         the factor for PassTickets, AZFPTKT1. Read in your manual of Top Secret how to permit \
         both, and whether users without a password may use PassTickets.",
        applid.as_deref().unwrap_or("applid"),
    ));
    if legacy.is_empty() {
        return;
    }
    commands.note(
        "SIGNMULTI switches replay protection off. Without SIGNMULTI, replay protection is on.",
    );
    commands.note("To replace a key, write REPLACE instead of ADDTO.");
    for Application { applid, replay, .. } in &legacy {
        let multiple = match replay {
            Replay::Protected => None,
            Replay::Allowed => Some("SIGNMULTI"),
        };
        let (name, key) =
            (format!("PSTKAPPL({applid})"), format!("SESSKEY({})", key_placeholder(applid)));
        let operands = [Some("TSS ADDTO(NDT)"), Some(&name), Some(&key), multiple];
        commands.run_long(operands.into_iter().flatten());
    }
    commands.run("TSS REFRESH");
    commands.note(
        "To verify. Never add DATA(SESSKEY) or DATA(ALL) to this command, because they show the \
         keys:",
    );
    commands.run("TSS LIST(NDT)");
}

pub(super) fn delegate(commands: &mut Commands, users: &[UserId]) {
    commands.note(
        "Since z/OS 2.5, class ZOWE exists. On earlier releases, define the class once (as in \
         Zowe's job ZWEITSSZ), and make a department the owner of the resources (as in Zowe's job \
         ZWEITSS):",
    );
    commands.note_line("TSS ADDTO(RDT) RESCLASS(ZOWE) MAXLEN(246) +");
    commands.note_line("  ACLST(NONE,READ,UPDATE,CONTROL) DEFACC(NONE)");
    commands.note_line("TSS ADDTO(department) ZOWE(APIML.)");
    for user in users {
        commands.run(format!("TSS PERMIT({user}) ZOWE(APIML.DELEGATE.PASSTICKET) ACCESS(READ)"));
    }
    commands.run("TSS REFRESH");
    commands.note("To verify:");
    commands.run("TSS LIST(RDT) RESCLASS(ZOWE)");
    commands.run("TSS WHOHAS ZOWE(APIML.DELEGATE.PASSTICKET)");
}

pub(super) fn email(
    commands: &mut Commands,
    mapping: Mapping<'_>,
    email: &EmailOperand,
    registry: &RegistryOperand,
) {
    permit(commands, "IRR.IDIDMAP.QUERY", mapping.gateway);
    let Mapping { user, label, .. } = mapping;
    commands.note(&format!("IDMAP needs VSAM II. {}", one_mapping(user, "ZWEDNMAP")));
    commands.run_long([
        &*format!("TSS ADD({user}) IDMAP(ZWEDNMAP)"),
        &format!("IDMAPDN('{email}')"),
        &format!("IDMAPRN('{registry}')"),
        &format!("IDLABEL('{label}')"),
    ]);
    commands.run("TSS REFRESH");
    commands.note("To verify:");
    commands.run("TSS WHOHAS IBMFAC(IRR.IDIDMAP.QUERY)");
    commands.run(format!("TSS LIST({user}) IDMAP(ALL)"));
}

pub(super) fn certificate(
    commands: &mut Commands,
    mapping: Mapping<'_>,
    subject: &NameOperand,
    issuer: Option<&NameOperand>,
) {
    permit(commands, "IRR.RUSERMAP", mapping.gateway);
    let Mapping { user, label, .. } = mapping;
    commands.note(&one_mapping(user, &format!("CERTMAP({user})")));
    let head = format!("TSS ADD({user}) CERTMAP({user})");
    let subject = format!("SDNFILTR('{subject}')");
    let issuer = issuer.map(|issuer| format!("IDNFILTR('{issuer}')"));
    let label = format!("LABLCMAP('{label}')");
    let operands = [Some(&*head), Some(&subject), issuer.as_deref(), Some(&label), Some("TRUST")];
    commands.run_long(operands.into_iter().flatten());
    commands.run("TSS REFRESH");
    commands.note("To verify:");
    commands.run("TSS WHOHAS IBMFAC(IRR.RUSERMAP)");
    commands.run(format!("TSS LIST({user}) CERTMAP(ALL)"));
}

/// Permits the gateway to look up mappings.
fn permit(commands: &mut Commands, resource: &str, gateway: &UserId) {
    commands.run(format!("TSS PERMIT({gateway}) IBMFAC({resource}) ACCESS(READ)"));
}
