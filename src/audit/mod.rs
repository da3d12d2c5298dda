//! The audit log: who asked for what, and what was decided.
//!
//! Every decision about a credential, a ticket, a token or a rule becomes one [`AuditRecord`], which
//! goes to an [`AuditSink`]. [`AuditFile`] writes JSON lines. An [`Audit`] is what the layers, the auth
//! API and whoever else decides hold in their hands; without a sink it costs one branch.
//!
//! A record never has a password, a token or a PassTicket in it. A token appears as its SHA-256
//! (`token_id`), which is what `sha256sum` says of its text: enough to find out what one token was
//! used for, and of no use to whoever wants to be its owner. The `user` of a refused login is what
//! was claimed, if it can be a user id at all, and proves nothing.
//!
//! # What is recorded
//! | where | event | how often |
//! |---|---|---|
//! | [`AuthenticateLayer`], [`ScopeLayer`] | `authentication` | one for each routed request: success is written by Scope, which decides last; a failure by whichever of the two refuses |
//! | [`SchemeLayer`] | `ticket`, or `scheme` for a scheme other than PassTicket | one for each ticket, made or not |
//! | the auth API | see the table in `api` | one for each request of an endpoint that decides something |
//!
//! A route with the scheme `bypass` decides nothing and has no record. What the file had to drop has
//! one line of its own, `{"event":"dropped","count":n,…}`, where the gap is.
//!
//! [`AuthenticateLayer`]: crate::layer::AuthenticateLayer
//! [`ScopeLayer`]: crate::layer::ScopeLayer
//! [`SchemeLayer`]: crate::layer::SchemeLayer
//!
//! ```
//! use tower_passticket::{
//!     audit::{Audit, AuditFile, AuditFileOptions, AuditRecord, Event, ReasonCode},
//!     passticket::UserId,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("audit.jsonl");
//! let file = std::sync::Arc::new(AuditFile::open(&path, AuditFileOptions::default())?);
//! let audit = Audit::to(file.clone());
//!
//! let user = UserId::new("USER")?;
//! audit.record(|| {
//!     AuditRecord::failed(Event::Login, ReasonCode::WrongPassword, audit.now()).user(user)
//! });
//!
//! file.close();
//! let log = std::fs::read_to_string(&path)?;
//! assert!(log.contains(r#""event":"login","outcome":"refused","reason":"wrong-password""#));
//! # Ok(())
//! # }
//! ```
//!
//! # Schema
//! JSON Schema, draft 2020-12, of one line.
//!
//! ```json
#![doc = include_str!("schema.json")]
//! ```

// First: the others write their words with it.
#[macro_use]
mod string_enum;
mod file;
mod line;
mod reason;
mod record;
mod request_id;
mod rfc3339;
mod rotation;
#[cfg(test)]
mod tests;
mod writer;

use std::{fmt, sync::Arc};

pub use file::{AuditFile, AuditFileError, AuditFileOptions, Fsync};
pub use reason::ReasonCode;
pub use record::{AuditRecord, CredentialKind, Detail, Event, Outcome, RuleKind};
pub use request_id::{RequestId, X_REQUEST_ID};
#[cfg(test)]
pub(crate) use tests::Collected;

use crate::clock::{Clock, SystemClock, Timestamp};

/// Takes records. An `Arc` of a sink is a sink.
///
/// It is called while a request waits, so it must not block and has no way to fail: a sink that
/// cannot keep a record counts it.
pub trait AuditSink: Send + Sync + 'static {
    /// Takes one record.
    fn record(&self, record: AuditRecord);

    /// Whether a record that is taken now is kept, as far as the sink knows. What must not happen
    /// without a record is refused while this is `false`; everything else goes on. Must not block.
    fn is_able(&self) -> bool {
        true
    }
}

impl<S: AuditSink + ?Sized> AuditSink for Arc<S> {
    fn record(&self, record: AuditRecord) {
        (**self).record(record);
    }

    fn is_able(&self) -> bool {
        (**self).is_able()
    }
}

/// Where records go, if anywhere. Clones go to the same place.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<To>>);

#[derive(Clone)]
struct To {
    sink: Arc<dyn AuditSink>,
    clock: Arc<dyn Clock>,
}

impl Audit {
    /// Nowhere.
    pub fn none() -> Self {
        Self(None)
    }

    /// To `sink`, with times of the machine.
    pub fn to(sink: impl AuditSink) -> Self {
        Self(Some(Arc::new(To { sink: Arc::new(sink), clock: Arc::new(SystemClock) })))
    }

    /// Takes the time of records from `clock`.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self(self.0.map(|to| Arc::new(To { sink: to.sink.clone(), clock })))
    }

    /// Whether records go anywhere.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether records that are to go somewhere get there, see [`AuditSink::is_able`]. `true` where
    /// they go nowhere.
    pub fn is_able(&self) -> bool {
        self.0.as_ref().is_none_or(|to| to.sink.is_able())
    }

    /// The time for a record that is made now. The epoch where records go nowhere.
    pub fn now(&self) -> Timestamp {
        self.0.as_ref().map_or(Timestamp::from_millis(0), |to| to.clock.now())
    }

    /// Sends the record that `make` makes, which is not called when there is nowhere to send it.
    pub fn record(&self, make: impl FnOnce() -> AuditRecord) {
        if let Some(to) = &self.0 {
            to.sink.record(make());
        }
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Audit(on)" } else { "Audit(none)" })
    }
}
