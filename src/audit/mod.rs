//! The audit log records each decision about a credential, a PassTicket, a token or a revocation rule.
//!
//! Each decision becomes one [`AuditRecord`], which an [`AuditSink`] receives. [`AuditFile`] is a sink that writes
//! lines to a file. The Tower layers of this crate and the auth API (the endpoints for login and tokens) have an
//! [`Audit`], which is a handle to a sink. If the handle has no sink, the layers and the auth API make no records.
//!
//! A record never contains a password, a token or a PassTicket. It identifies a token by the token's SHA-256 hash
//! (`token_id`), in the format of `sha256sum`. With the hash, you can find all records of a token, but a client cannot
//! use the hash as a token. The `user` in the record of a refused login is only the name that the client sent. It may
//! be the name of another user.
//!
//! The fields use some special terms. A *scheme* replaces the credential of the client with a credential for the
//! service. One scheme makes a PassTicket, a one-time password of z/OS. An APPLID is the name of an application in the
//! security product, such as RACF. SAF (System Authorization Facility) is the z/OS interface to the security product.
//! If a PassTicket cannot be made, the record has three return codes, with the meaning that they have in SAF.
//!
//! # Which events are recorded
//! | source | event | number of records |
//! |---|---|---|
//! | [`AuthenticateLayer`], [`ScopeLayer`] | `authentication` | one for each request on a route. `ScopeLayer` decides last, so it records each success. Each failure is recorded by the layer that finds it, even if the route forwards the request nevertheless |
//! | [`AuthenticateLayer`] | `technical-user` | one for each request whose token matches a rule of the service. If the rules give the person two technical users, the record is a refusal |
//! | [`SchemeLayer`] | `ticket`, or `scheme` for a scheme other than PassTicket | one for each call of a scheme, after success and after failure |
//! | the auth API | see the table in `api` | one for each request to an endpoint in that table |
//! | [`TicketBreaker`](../ticket_breaker/struct.TicketBreaker.html) | `tickets-stopped`, `tickets-resumed` | one when it stops or resumes the tickets of a user or an APPLID |
//! | the proxy | `web-socket-closed` | one for each WebSocket that the proxy closes because the credential of the handshake is no longer valid, or cannot be checked any more |
//! | a program that finds services in a registry | `registration` | one for each instance that the program begins to refuse |
//!
//! A request that is refused before its sender is authenticated also has a record. [`AuditFiles`] writes sums of such
//! records to a separate file. So a client that sends many such requests cannot cause the deletion of other records.
//!
//! A request on a route with the scheme `bypass` has no record, because there is no decision. If [`AuditFile`] drops
//! records, it later writes a line with the event `dropped` and their number.
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
//! Implement [`AuditSink`], for example to send records to a SIEM (a security monitoring system). Pass an [`Audit`]
//! with the sink to the method `with_audit` of each layer.
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
//!         // No thread holds the lock for long, so the request does not wait.
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
//! # Counts
//! [`CountingSink`] counts the records in [`AuditCounts`], for a metrics endpoint, and passes the records to another
//! sink. [`AuditFile`] has its own metrics and its own [health](AuditFile::health).
//!
//! # Common Event Format
//! With [`AuditFormat::Cef`], an [`AuditFile`] writes each record as one line of the Common Event Format (CEF) instead
//! of JSON. [`CefDevice`] describes the format.
//!
//! # Schema
//! The JSON Schema (draft 2020-12) of one line:
//!
//! ```json
#![doc = include_str!("schema.json")]
//! ```

#[macro_use]
mod string_enum;
mod cef;
mod counts;
mod event;
mod file;
mod files;
mod line;
mod line_batch;
mod options;
mod queue;
mod reason;
mod record;
mod request_id;
mod request_line;
mod rfc3339;
mod rotation;
mod sink;
mod sums;
#[cfg(test)]
mod tests;
mod ticket_counts;
mod writer;

pub use cef::CefDevice;
pub use counts::{AuditCounts, CountingSink};
pub use event::{CredentialKind, Event, Outcome, RuleKind};
pub use file::{AuditFile, AuditFileError};
pub use files::AuditFiles;
pub(crate) use line::Object;
pub(crate) use line_batch::LineBatch;
pub use options::{AuditFileOptions, AuditFormat, Fsync};
pub use reason::ReasonCode;
pub use record::{AuditRecord, Detail, ExchangeDetail};
pub use request_id::{RequestId, X_REQUEST_ID};
pub use request_line::RequestLine;
pub(crate) use request_line::may_have_token;
pub(crate) use rfc3339::rfc3339;
pub(crate) use rfc3339::rfc3339_secs;
pub(crate) use rotation::make_room;
pub use sink::{Audit, AuditSink};
#[cfg(test)]
pub(crate) use tests::Collected;
pub(crate) use writer::{Links, is_at, open_shared};
