//! Fuzz target for the output of display commands of the external security manager (ESM): RACF, ACF2 or Top Secret.

use std::time::Duration;

use passticket_proxy::esm::{
    Application, Esm,
    verify::{self, Expected, Report, Verdict},
};
use tower_passticket::{
    clock::Timestamp,
    passticket::{Algorithm, Applid, Replay, UserId},
};

/// Returns a configuration with one application. With RACF, the application has a key for enhanced PassTickets
/// (one-time passwords of z/OS). With ACF2 and Top Secret, it has a key for legacy PassTickets.
fn expected(esm: Esm) -> Expected {
    let algorithm = match esm {
        Esm::Racf => Algorithm::EnhancedMixed,
        Esm::Acf2 | Esm::TopSecret => Algorithm::Legacy,
    };
    let (replay, window) = (Replay::Protected, Duration::from_secs(600));
    let applid = Applid::new("IZUDFLT").expect("a valid APPLID");
    let user = |name| UserId::new(name).expect("a valid user id");
    Expected {
        gateway: user("ZWESVUSR"),
        applications: vec![Application { applid, algorithm, replay, window }],
        users: vec![user("JANE")],
    }
}

fn compare(esm: Esm, text: &[u8]) -> Report {
    verify::compare(esm, &expected(esm), text, Timestamp::from_secs(1_704_114_010))
}

pub(crate) fn esm_listing(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let text = &*text;
    for esm in [Esm::Racf, Esm::Acf2, Esm::TopSecret] {
        let report = compare(esm, data);
        for other in
            [text.replace('\n', " \r\n  "), text.to_ascii_lowercase(), format!("{text}\n\n\n")]
        {
            assert_eq!(compare(esm, other.as_bytes()), report);
        }
        assert!(report.findings().len() < 400, "{}", report.findings().len());
        for finding in report.findings() {
            let line = finding.to_string();
            assert!(line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{line:?}");
            assert!(line.len() < 400, "{line}");
            let hex = line.split(|c: char| !c.is_ascii_hexdigit()).map(str::len).max();
            assert!(hex.unwrap_or_default() < 16, "{line}");
        }
        let upper = text.to_ascii_uppercase();
        if report.is_same() {
            assert!(upper.contains("IZUDFLT"), "a setting that is not shown is not the same");
            assert!(report.count(Verdict::Same) > 0);
        }
        if ["SSKEY(E001193519561977)", "SESSKEY = E001193519561977\n"]
            .iter()
            .any(|key| upper.contains(key))
        {
            assert!(!report.is_same());
        }
    }
}
