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
//! | [`PassTicketLayer`] | `ticket` | one for each ticket, made or not |
//! | the auth API | see the table in `api` | one for each request of an endpoint that decides something |
//!
//! A route with the scheme `bypass` decides nothing and has no record. What the file had to drop has
//! one line of its own, `{"event":"dropped","count":n,…}`, where the gap is.
//!
//! [`AuthenticateLayer`]: crate::layer::AuthenticateLayer
//! [`ScopeLayer`]: crate::layer::ScopeLayer
//! [`PassTicketLayer`]: crate::layer::PassTicketLayer
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
//!     AuditRecord::failed(Event::Login, ReasonCode::WrongPassword, audit.now()).with_user(user)
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
mod event;
mod file;
mod line;
mod options;
mod queue;
mod reason;
mod record;
mod request_id;
mod rfc3339;
mod rotation;
mod sink;
#[cfg(test)]
mod tests;
mod writer;

pub use event::{CredentialKind, Event, Outcome, RuleKind};
pub use file::{AuditFile, AuditFileError};
pub use options::{AuditFileOptions, Fsync};
pub use reason::ReasonCode;
pub use record::{AuditRecord, Detail};
pub use request_id::{RequestId, X_REQUEST_ID};
pub use sink::{Audit, AuditSink};
#[cfg(test)]
pub(crate) use tests::Collected;
