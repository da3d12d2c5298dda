//! Compares what a security product (RACF, ACF2 or Top Secret) displays with the configuration of the gateway. A
//! PassTicket is a short-lived password of z/OS.
//!
//! [`display_commands`] returns the display commands. An administrator runs them, and copies their output, the
//! *listing*. [`compare`] reads the listing, and returns a [`Report`] that names each difference.
//!
//! The manuals do not describe each line of the output. So the parsers search for known words. A setting that the
//! listing does not show, or shows in an unknown form, is a [`Verdict::Note`]: the administrator compares it by hand.
//! If the listing lacks the whole output about a key or a user, or RACF's `SETROPTS LIST`, the finding is
//! [`Verdict::Missing`]. So the report of an empty listing does not look like the report of a correct listing.
//! docs/reference/security-products.md#display-commands contains the sources.
//!
//! ```
//! use passticket_proxy::esm::{Esm, verify::{self, Expected}};
//! use tower_passticket::{clock::Timestamp, passticket::UserId};
//!
//! let expected = Expected { gateway: UserId::new("ZWESVUSR")?, applications: vec![], users: vec![] };
//! let report = verify::compare(Esm::Racf, &expected, b"", Timestamp::from_secs(0));
//! assert!(!report.is_same());
//! assert_eq!(report.findings()[0].to_string(), "missing    class PTKTDATA: run SETROPTS LIST");
//! # Ok::<(), tower_passticket::passticket::NameError>(())
//! ```

mod acf2;
mod listing;
mod racf;
mod racf_listing;
mod report;
mod tss;

use tower_passticket::{clock::Timestamp, passticket::UserId};

pub use report::{Finding, Report, Verdict};

use super::{Application, Commands, Esm};

/// The longest listing, in bytes.
pub const MAX_LISTING: usize = 4 << 20;

/// The settings that the security product must have for the gateway's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The user id of the gateway.
    pub gateway: UserId,
    /// The applications with a PassTicket key.
    pub applications: Vec<Application>,
    /// The users whose attributes are compared.
    pub users: Vec<UserId>,
}

/// Returns the commands whose output [`compare`] reads. The commands change nothing, and show no key.
pub fn display_commands(esm: Esm, expected: &Expected) -> Commands {
    let value = |application: &Application| application.applid.to_string();
    let applids: Vec<_> = expected.applications.iter().map(value).collect();
    let mut commands = esm.title("display commands", &applids);
    commands.note(&format!(
        "These commands change nothing, and show no key. Run them, copy their output into a file, \
         and give the file to: passticket-proxy esm --esm {esm} verify --from-config zowe.yaml \
         --listing FILE",
    ));
    match esm {
        Esm::Racf => racf::display(&mut commands, expected),
        Esm::Acf2 => acf2::display(&mut commands, expected),
        Esm::TopSecret => tss::display(&mut commands, expected),
    }
    commands
}

/// Compares a listing with the configuration. Only the first [`MAX_LISTING`] bytes are read. `now` is the time at which
/// the caller got the listing.
pub fn compare(esm: Esm, expected: &Expected, text: &[u8], now: Timestamp) -> Report {
    let mut report = Report::default();
    let listing = listing::Listing::new(&text[..text.len().min(MAX_LISTING)]);
    if text.len() > MAX_LISTING {
        report.missing(
            "listing",
            format_args!("only the first {MAX_LISTING} bytes were read; give a shorter listing"),
        );
    }
    if let Some(line) = listing.shown_key() {
        report.different(
            "listing",
            format_args!(
                "line {line} shows a PassTicket key, with which anyone can log on as any user; delete \
                 the listing, and replace the key in the product and in the gateway's key file"
            ),
        );
    }
    match esm {
        Esm::Racf => racf::compare(&mut report, expected, &listing, now),
        Esm::Acf2 => acf2::compare(&mut report, expected, &listing),
        Esm::TopSecret => tss::compare(&mut report, expected, &listing),
    }
    report
}

#[cfg(test)]
mod tests;
