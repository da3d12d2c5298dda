//! Tests of the comparison of a listing with the configuration of the gateway. Most tests change a line of a sample
//! listing, and expect the finding for this line.
//!
//! In `samples/racf.txt`, the lines of SETROPTS LIST and the base part of RLIST have the form of real output. The other
//! lines of this file are reconstructed, and so are all lines of `samples/acf2.txt` and `samples/tss.txt`
//! (docs/reference/security-products.md#display-commands).

use std::time::Duration;

use test_support::tickets::user;
use tower_passticket::passticket::{Algorithm, Applid, Replay};

use super::*;

const RACF: &str = include_str!("samples/racf.txt");
const ACF2: &str = include_str!("samples/acf2.txt");
const TSS: &str = include_str!("samples/tss.txt");
/// Ten seconds after the time that the z/OS command `D T` displays in the sample of RACF.
const NOW: Timestamp = Timestamp::from_secs(1_704_114_010);

/// The configuration that agrees with the samples. The enhanced key of IZUDFLT is only in the sample of RACF.
fn expected(esm: Esm) -> Expected {
    let window = Duration::from_secs(600);
    let algorithm = if esm == Esm::Racf { Algorithm::EnhancedMixed } else { Algorithm::Legacy };
    let applid = |name| Applid::new(name).unwrap();
    Expected {
        gateway: user("ZWESVUSR"),
        applications: vec![
            Application { applid: applid("IZUDFLT"), algorithm, replay: Replay::Protected, window },
            Application {
                applid: applid("ZOWEAPPL"),
                algorithm: Algorithm::Legacy,
                replay: Replay::Allowed,
                window,
            },
        ],
        users: if esm == Esm::Racf { vec![user("JANE")] } else { vec![] },
    }
}

fn compared(esm: Esm, listing: &str) -> Report {
    compare(esm, &expected(esm), listing.as_bytes(), NOW)
}

fn texts(report: &Report, verdict: Verdict) -> Vec<String> {
    let findings = report.findings().iter().filter(|finding| finding.verdict() == verdict);
    findings.map(ToString::to_string).collect()
}

#[test]
fn the_samples_agree_with_the_configuration() {
    for (esm, sample, same) in
        [(Esm::Racf, RACF, 12), (Esm::Acf2, ACF2, 7), (Esm::TopSecret, TSS, 4)]
    {
        for sample in [sample.to_owned(), sample.replace('\n', "\r\n"), sample.to_lowercase()] {
            let report = compared(esm, &sample);
            assert!(report.is_same(), "{:#?}", report.findings());
            assert_eq!(report.count(Verdict::Same), same, "{:#?}", report.findings());
        }
    }
    let notes = texts(&compared(Esm::Racf, RACF), Verdict::Note);
    assert_eq!(
        notes,
        [
            "note       class APPL: is active: each user needs READ on the APPLID if a profile protects it",
            "note       wrong passwords: RACF permits 2, and revokes the user at the next one. A refused \
             PassTicket counts as one",
            "note       IRRPTAUTH.ZOWEAPPL.*: RACF has no such profile; the gateway's user id needs it only \
             if a program on z/OS makes PassTickets under this user id",
            "note       clock: the GMT time of D T is 10 seconds ago; if you ran D T at another time, the \
             clock of z/OS and the clock of this system differ",
        ]
    );
}

#[test]
fn an_empty_listing_does_not_agree_with_the_configuration() {
    for (esm, missing) in [(Esm::Racf, 4), (Esm::Acf2, 2), (Esm::TopSecret, 2)] {
        for text in ["", "READY\n", "\u{0}\u{1}\n"] {
            let report = compared(esm, text);
            assert!(!report.is_same());
            assert_eq!(report.count(Verdict::Missing), missing, "{:#?}", report.findings());
            assert_eq!(report.count(Verdict::Same) + report.count(Verdict::Different), 0);
        }
    }
}

/// Replaces the text `was` of a sample by `is`. Returns the findings [`Verdict::Different`].
#[track_caller]
fn changed(esm: Esm, sample: &str, was: &str, is: &str) -> String {
    assert!(sample.contains(was), "{was}");
    let report = compared(esm, &sample.replacen(was, is, 1));
    let different = texts(&report, Verdict::Different);
    assert_eq!(report.is_same(), different.is_empty(), "{:#?}", report.findings());
    different.join("\n")
}

#[test]
fn each_difference_of_racf_is_named() {
    for (was, is, want) in [
        (
            "PROPCNTL PTKTDATA RACFVARS",
            "PROPCNTL RACFVARS",
            "class PTKTDATA: is not active; run SETROPTS CLASSACT",
        ),
        (
            "PTKTDATA PTKTVAL",
            "PTKTVAL",
            "class PTKTDATA: is not RACLISTed; run SETROPTS RACLIST(PTKTDATA)",
        ),
        (
            "SUPPORT IS IN",
            "SUPPORT IS NOT IN",
            "IZUDFLT: the algorithm is enhanced-mixed, but RACF does not permit lower case",
        ),
        (
            "Type = MIXED",
            "Type = UPPER",
            "IZUDFLT: the algorithm is enhanced-mixed, but TYPE is not MIXED; run RALTER PTKTDATA IZUDFLT SSIGNON(TYPE(MIXED)) and SETROPTS RACLIST(PTKTDATA) REFRESH",
        ),
        (
            "Timeout = 00000600",
            "Timeout = 00000060",
            "IZUDFLT: windowSeconds is 600, but TIMEOUT is 60 seconds; write windowSeconds: 60, or run RALTER PTKTDATA IZUDFLT SSIGNON(TIMEOUT(600))",
        ),
        (
            "Replay allowed = NO",
            "Replay allowed = YES",
            "IZUDFLT: replayProtection is true, but replay protection is off; run RALTER PTKTDATA IZUDFLT SSIGNON(REPLAY(NO))",
        ),
        (
            "NO REPLAY PROTECTION",
            "NONE",
            "ZOWEAPPL: replayProtection is false, but replay protection is on; run RALTER PTKTDATA ZOWEAPPL APPLDATA('NO REPLAY PROTECTION')",
        ),
        (
            "ZWESVUSR  UPDATE",
            "ZWESVUSR  READ",
            "IRRPTAUTH.IZUDFLT.*: ZWESVUSR may not make PassTickets; run PERMIT IRRPTAUTH.IZUDFLT.* CLASS(PTKTDATA) ID(ZWESVUSR) ACCESS(UPDATE)",
        ),
        ("ZWESVUSR  UPDATE", "OTHER  UPDATE", "IRRPTAUTH.IZUDFLT.*: ZWESVUSR may not make"),
        (" ATTRIBUTES=NONE", " ATTRIBUTES=PROTECTED", "JANE: has the attribute PROTECTED"),
        (" ATTRIBUTES=NONE", " ATTRIBUTES=REVOKED", "JANE: is revoked; run ALTUSER JANE RESUME"),
        (
            "FACTOR = AZFPTKT1",
            "FACTOR = AZFTOTP1",
            "JANE: uses MFA without the factor for PassTickets",
        ),
        (
            "STATUS = ACTIVE",
            "STATUS = INACTIVE",
            "JANE: uses MFA without the factor for PassTickets",
        ),
        (
            "UTC: TIME=13.00.00",
            "UTC: TIME=13.01.30",
            "clock: the GMT time of z/OS is at least 80 seconds ahead",
        ),
    ] {
        let found = changed(Esm::Racf, RACF, was, is);
        assert!(found.contains(want), "{was}: {found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
    let (before, after) = RACF.split_once("RLIST PTKTDATA IZUDFLT").unwrap();
    let (_, after) = after.split_once("RLIST").unwrap();
    let not_found = format!("{before}ICH13003I IZUDFLT NOT FOUND\nREADY\nRLIST{after}");
    let found = texts(&compared(Esm::Racf, &not_found), Verdict::Different);
    assert_eq!(
        found,
        [
            "different  IZUDFLT: RACF has no key profile; run the commands that passticket-proxy esm keys prints"
        ]
    );
    let found = changed(Esm::Racf, RACF, "PTKTDATA   IZUDFLT\n", "PTKTDATA   IZU* (G)\n");
    assert!(
        found.contains("IZUDFLT: RACF shows a generic profile, which it ignores for keys"),
        "{found}"
    );
    // In this listing, every user may make PassTickets.
    let generic = RACF.replacen(
        "NONE              ALTER    NO\n\nUSER",
        "UPDATE            ALTER    YES\n\nUSER",
        1,
    );
    let found = texts(&compared(Esm::Racf, &generic), Verdict::Different);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("the universal access is not NONE"), "{found:?}");
    assert!(found[1].contains("in warning mode, so every user can make"), "{found:?}");
}

#[test]
fn an_unknown_form_of_a_line_is_a_note() {
    for (was, is, want) in [
        ("Enhanced PassTicket: Type = MIXED\n", "", "IZUDFLT: TYPE is not shown; it must be MIXED"),
        (
            "Timeout = 00000600",
            "Timeout = xxxxxxxx",
            "IZUDFLT: TIMEOUT is not shown; it must be windowSeconds, 600 seconds",
        ),
        (
            "Replay allowed = NO",
            "Replay = N",
            "IZUDFLT: replay protection is not shown; it must be on",
        ),
        (
            "Keylabel: PASSTICKET.IZUDFLT",
            "(new form)",
            "IZUDFLT: the listing shows no label of an enhanced key",
        ),
        ("KEYENCRYPTED LABEL", "(new form)", "ZOWEAPPL: the listing shows no legacy key"),
        (
            "KEYENCRYPTED LABEL: IRR.SSIGNON.SYS1.11302026.120000.000001",
            "KEYMASKED",
            "ZOWEAPPL: the key is masked, not encrypted",
        ),
    ] {
        assert!(RACF.contains(was), "{was}");
        let report = compared(Esm::Racf, &RACF.replacen(was, is, 1));
        assert!(report.is_same(), "{was}: {:#?}", report.findings());
        let notes = texts(&report, Verdict::Note).join("\n");
        assert!(notes.contains(want), "{was}: {notes}");
    }
}

#[test]
fn each_difference_of_acf2_and_top_secret_is_named() {
    for (esm, sample, was, is, want) in [
        (
            Esm::Acf2,
            ACF2,
            "NOMULT-USE",
            "MULT-USE",
            "IZUDFLT: replay protection must be on; run CHANGE IZUDFLT NOMULT-USE",
        ),
        (
            Esm::Acf2,
            ACF2,
            " MULT-USE",
            " NOMULT-USE",
            "ZOWEAPPL: replay protection must be off; run CHANGE ZOWEAPPL MULT-USE",
        ),
        (
            Esm::Acf2,
            ACF2,
            "R-RPTK",
            "D-RPTK",
            "INFODIR: resource rules of type PTK are not resident; run SET CONTROL(GSO), CHANGE INFODIR TYPES(R-RPTK) ADD",
        ),
        (
            Esm::Acf2,
            ACF2,
            "UID(ZWESVUSR)",
            "UID(*)",
            "IRRPTAUTH.IZUDFLT: the rule permits every user",
        ),
        (
            Esm::TopSecret,
            TSS,
            "PSTKAPPL   = IZUDFLT",
            "PSTKAPPL   = IZUDFLT2",
            "IZUDFLT: the NDT has no PSTKAPPL with this APPLID",
        ),
        (
            Esm::TopSecret,
            TSS,
            "PSTKAPPL   = IZUDFLT",
            "PSTKAPPL   = IZUDFLT SIGNMULTI",
            "IZUDFLT: SIGNMULTI is set, but replayProtection is true",
        ),
        (
            Esm::TopSecret,
            TSS,
            "SIGNMULTI",
            "",
            "ZOWEAPPL: SIGNMULTI is not set, but replayProtection is false",
        ),
        (
            Esm::TopSecret,
            TSS,
            "ACID(ZWESVUSR)",
            "ACID(*ALL*)",
            "IRRPTAUTH.IZUDFLT.: every user may make PassTickets",
        ),
    ] {
        let found = changed(esm, sample, was, is);
        assert!(found.contains(want), "{was}: {found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[test]
fn a_listing_with_a_key_is_different_and_the_key_is_not_shown() {
    for (esm, sample, line) in [
        (Esm::Racf, RACF, "RALTER PTKTDATA IZUDFLT SSIGNON(KEYMASKED(E001193519561977))"),
        (Esm::Acf2, ACF2, "SSKEY(E001193519561977)"),
        (Esm::TopSecret, TSS, "PSTKAPPL = IZUDFLT SESSKEY = E001193519561977"),
    ] {
        let report = compared(esm, &format!("{line}\n{sample}"));
        let found = texts(&report, Verdict::Different);
        assert!(
            found[0].starts_with("different  listing: line 1 shows a PassTicket key"),
            "{found:?}"
        );
        assert!(!format!("{report:?}").contains("1193"));
    }
}

#[test]
fn a_listing_that_is_too_long_is_reported_as_incomplete() {
    let listing = format!("{RACF}{}", "\n".repeat(MAX_LISTING));
    let missing = texts(&compared(Esm::Racf, &listing), Verdict::Missing);
    assert_eq!(
        missing,
        ["missing    listing: only the first 4194304 bytes were read; give a shorter listing"]
    );
}
