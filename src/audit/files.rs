//! An audit sink with two files: a file for decisions about users, and a file for requests that were not authenticated.

use std::path::PathBuf;

use super::{
    event::Event,
    file::{AuditFile, AuditFileError, METRICS},
    options::AuditFileOptions,
    reason::ReasonCode,
    record::AuditRecord,
    sink::AuditSink,
};
use crate::{
    health::Health,
    metrics::{Collect, Exposition, LabelName},
};

const FILE: LabelName = LabelName::new("file");

/// A sink with two files. The second file is for requests that were not authenticated, and contains only sums of these
/// requests. Each file has a maximum size, and the sink deletes all but the newest full files. If there were only one
/// file, a client without a credential could send so many requests that the sink deletes the records of other clients.
///
/// A request belongs to the second file if any client can cause its refusal, even without a valid credential. For
/// example, the request has no credential, its token is malformed or forged, its body is malformed, or the login
/// throttle refused it. Records of wrong passwords belong to the first file, because the login throttle limits their
/// number.
///
/// In the second file, one line counts all requests of one second that have the same client, service, event and reason.
/// Its field `count` is the number of these requests. Its other fields are those of the first request. If there are
/// more than 1,024 such lines in a second, further requests are counted in lines without client and service.
///
/// The documentation of [`AuditFile`] describes when records are lost. This sink is
/// [available](AuditSink::is_available) if the first file is available.
#[derive(Debug)]
pub struct AuditFiles {
    decisions: AuditFile,
    unauthenticated: AuditFile,
}

impl AuditFiles {
    /// Opens or creates two files: `decisions`, and `unauthenticated` for requests that were not authenticated. At most
    /// four full files of `unauthenticated` are kept. This call blocks while it works on the files.
    ///
    /// # Errors
    /// [`AuditFileError`] if one of the files cannot be opened, locked or written.
    pub fn open(
        decisions: impl Into<PathBuf>,
        unauthenticated: impl Into<PathBuf>,
        options: AuditFileOptions,
    ) -> Result<Self, AuditFileError> {
        Ok(Self {
            decisions: AuditFile::open(decisions, options.clone())?,
            unauthenticated: AuditFile::open(unauthenticated, options.summed_up())?,
        })
    }

    /// Returns the first file.
    pub fn decisions(&self) -> &AuditFile {
        &self.decisions
    }

    /// Returns the second file.
    pub fn unauthenticated(&self) -> &AuditFile {
        &self.unauthenticated
    }

    /// Returns whether both files can be written, see [`AuditFile::health`].
    pub fn health(&self) -> Health {
        match self.decisions.health() {
            Health::Up => self.unauthenticated.health(),
            down => down,
        }
    }

    /// Returns whether one of the writer threads has ended, see [`AuditFile::has_ended`].
    pub fn has_ended(&self) -> bool {
        self.decisions.has_ended() || self.unauthenticated.has_ended()
    }

    /// Lets another process append to both files, see [`AuditFile::share`].
    pub fn share(&self) {
        self.decisions.share();
        self.unauthenticated.share();
    }

    /// Ends [`share`](Self::share). Call this function when the other process has ended.
    pub fn unshare(&self) {
        self.decisions.unshare();
        self.unauthenticated.unshare();
    }

    /// Writes the waiting records and stops the writer threads, see [`AuditFile::close`].
    pub fn close(&self) {
        self.decisions.close();
        self.unauthenticated.close();
    }
}

impl AuditSink for AuditFiles {
    fn record(&self, record: AuditRecord) {
        let file =
            if is_unauthenticated(&record) { &self.unauthenticated } else { &self.decisions };
        file.record(record);
    }

    fn is_available(&self) -> bool {
        self.decisions.is_available()
    }
}

impl Collect for AuditFiles {
    fn collect(&self, exposition: &mut Exposition) {
        let Self { decisions, unauthenticated } = self;
        for (metric, value) in METRICS {
            exposition.series(
                &metric,
                [
                    ([(FILE, "decisions")], value(decisions)),
                    ([(FILE, "unauthenticated")], value(unauthenticated)),
                ],
            );
        }
    }
}

/// Returns `true` if a client without a credential can cause this record.
fn is_unauthenticated(record: &AuditRecord) -> bool {
    if record.token_id.is_some() || record.certificate.is_some() {
        return false;
    }
    match record.reason {
        None => false,
        // The action of an abandoned request may have been done, so the request of an authenticated user belongs to the
        // first file. The user of an abandoned login is not verified, so the login belongs to the second file.
        Some(ReasonCode::Abandoned) => record.user.is_none() || record.event == Event::Login,
        Some(reason) => reason.needs_no_credential(),
    }
}

#[cfg(test)]
mod tests {
    use test_support::{pki, tickets::user};

    use super::*;
    use crate::{clock::Timestamp, identity::PeerCertificate, token::TokenFingerprint};

    #[test]
    fn a_refusal_without_a_verified_credential_belongs_to_the_second_file() {
        let failed = |event, reason| AuditRecord::failed(event, reason, Timestamp::from_secs(1));
        let authentication = |reason| failed(Event::Authentication, reason);
        let login = |reason| failed(Event::Login, reason).with_user(user("USER"));
        let der = pki::self_signed_with_name("USER");
        let certificate = PeerCertificate::from_der(der).unwrap();
        let token = TokenFingerprint::of("a");
        for (record, want) in [
            (AuditRecord::succeeded(Event::Ticket, Timestamp::from_secs(1)), false),
            (authentication(ReasonCode::NoCredential), true),
            (authentication(ReasonCode::TokenMalformed), true),
            (authentication(ReasonCode::TokenSignature), true),
            (authentication(ReasonCode::TokenSignature).with_certificate(&certificate), false),
            (authentication(ReasonCode::WrongKind), true),
            (authentication(ReasonCode::WrongKind).with_token_id(token), false),
            (authentication(ReasonCode::TokenExpired), false),
            (authentication(ReasonCode::StoreUnavailable), false),
            (login(ReasonCode::WrongPassword), false),
            (login(ReasonCode::TooManyAttempts), true),
            (login(ReasonCode::BadRequest), true),
            (login(ReasonCode::Abandoned), true),
            (failed(Event::TokenMinted, ReasonCode::Abandoned), true),
            (failed(Event::TokenMinted, ReasonCode::Abandoned).with_user(user("USER")), false),
        ] {
            assert_eq!(is_unauthenticated(&record), want, "{}", record.to_json());
        }
    }
}
