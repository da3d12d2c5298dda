//! Where records go.

use std::{fmt, sync::Arc};

use super::record::AuditRecord;
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

    /// Whether records that are to go somewhere get there, see [`AuditSink::is_available`]. `true` where
    /// they go nowhere.
    pub fn is_available(&self) -> bool {
        self.0.as_ref().is_none_or(|to| to.sink.is_available())
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
