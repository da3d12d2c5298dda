//! The trait for sinks of audit records, and the handle that the layers hold.

use std::{fmt, sync::Arc};

use super::record::AuditRecord;
use crate::clock::{Clock, SystemClock, Timestamp};

/// Trait for receivers of audit records. The trait is object-safe. An `Arc` of a sink is also a sink (see the
/// [example](super#a-sink-of-your-own)).
pub trait AuditSink: Send + Sync + 'static {
    /// Takes one record.
    ///
    /// A request waits for this call, so it must not block. A sink that loses records should count them.
    fn record(&self, record: AuditRecord);

    /// Returns whether the sink expects that it can keep the next record. While the result is `false`, the gateway
    /// refuses each action that must not happen without a record (docs/decisions.md#d12), and does all other actions.
    /// This method must not block.
    fn is_available(&self) -> bool {
        true
    }
}

impl<S: AuditSink + ?Sized> AuditSink for Arc<S> {
    fn record(&self, record: AuditRecord) {
        (**self).record(record);
    }

    fn is_available(&self) -> bool {
        (**self).is_available()
    }
}

/// A handle to a sink, or a handle without a sink. Clones share the sink.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Destination>>);

#[derive(Clone)]
struct Destination {
    sink: Arc<dyn AuditSink>,
    clock: Arc<dyn Clock>,
}

impl Audit {
    /// Makes a handle without a sink.
    pub fn none() -> Self {
        Self(None)
    }

    /// Makes a handle to `sink`. The system clock gives the time of records.
    pub fn to(sink: impl AuditSink) -> Self {
        Self(Some(Arc::new(Destination { sink: Arc::new(sink), clock: Arc::new(SystemClock) })))
    }

    /// Sets the clock for the time of records.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self(self.0.map(|to| Arc::new(Destination { sink: to.sink.clone(), clock })))
    }

    /// Returns whether the handle has a sink.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Returns whether the sink expects that it can keep the next record, see [`AuditSink::is_available`]. If there is
    /// no sink, the result is `true`.
    pub fn is_available(&self) -> bool {
        self.0.as_ref().is_none_or(|to| to.sink.is_available())
    }

    /// Returns the time for a record that is made now. If there is no sink, the time is 1970-01-01.
    pub fn now(&self) -> Timestamp {
        self.0.as_ref().map_or(Timestamp::from_millis(0), |to| to.clock.now())
    }

    /// Calls `make` and sends the record to the sink. If there is no sink, `make` is not called.
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
