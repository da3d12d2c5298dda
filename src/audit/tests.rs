//! Records against the schema, and the file under whatever happens to files.

use std::sync::{Mutex, PoisonError};

use super::{AuditRecord, AuditSink};

/// Keeps records, for the tests of whoever makes them.
#[derive(Debug, Default)]
pub(crate) struct Collected(Mutex<Vec<AuditRecord>>);

impl Collected {
    /// What has come since it was asked last.
    pub(crate) fn take(&self) -> Vec<AuditRecord> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AuditSink for Collected {
    fn record(&self, record: AuditRecord) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }
}
