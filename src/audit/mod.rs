//! The audit log: each decision about a credential, a ticket, a token or a revocation rule.
//!
//! Each decision becomes one [`AuditRecord`], which goes to an [`AuditSink`]. [`AuditFile`] is a sink
//! that writes JSON lines. The layers and the auth API hold an [`Audit`], a handle to a sink. Without a
//! sink, recording costs one branch.
//!
//! A record never contains a password, a token or a PassTicket. It names a token by the SHA-256 hash of
//! its text (`token_id`), which `sha256sum` also prints. The hash shows what a token was used for, but
//! cannot be used in its place. The `user` of a refused login is only a claim of the client.
//!
//! # Which events are recorded
//! | source | event | number of records |
//! |---|---|---|
//! | [`AuthenticateLayer`], [`ScopeLayer`] | `authentication` | one for each routed request. Success is recorded by `ScopeLayer`, which decides last, a failure by the layer that refuses |
//! | [`SchemeLayer`] | `ticket`, or `scheme` for a scheme other than PassTicket | one for each call of a scheme, whatever the result |
//! | the auth API | see the table in `api` | one for each request of an endpoint that makes a decision |
//!
//! A route with the scheme `bypass` makes no decision and has no record. If [`AuditFile`] had to drop
//! records, it writes a line `{"event":"dropped","count":n,…}` in their place.
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
//! # A sink of your own
//! Implement [`AuditSink`], for example to send records to a SIEM. The trait is object-safe and an
//! `Arc` of a sink is a sink, so a program can choose one at run time. The layers take it with
//! `with_audit`.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use tower_passticket::{
//!     audit::{Audit, AuditRecord, AuditSink, Event},
//!     layer::{SchemeLayer, ScopeLayer},
//! };
//!
//! /// Keeps the lines in memory.
//! #[derive(Default)]
//! struct Lines(Mutex<Vec<String>>);
//!
//! impl AuditSink for Lines {
//!     fn record(&self, record: AuditRecord) {
//!         // No lock is held for long, so the request does not wait.
//!         self.0.lock().unwrap().push(record.to_json());
//!     }
//! }
//!
//! let lines = Arc::new(Lines::default());
//! let sink: Arc<dyn AuditSink> = lines.clone();
//! let audit = Audit::to(sink);
//!
//! let scope = ScopeLayer::new().with_audit(audit.clone());
//! let schemes = SchemeLayer::new().with_audit(audit.clone());
//!
//! audit.record(|| AuditRecord::succeeded(Event::Login, audit.now()));
//! assert_eq!(lines.0.lock().unwrap().len(), 1);
//! # let _ = (scope, schemes);
//! ```
//!
//! # Schema
//! The JSON Schema (draft 2020-12) of one line:
//!
//! ```json
#![doc = include_str!("schema.json")]
//! ```

// Before the modules that use the macro.
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
