//! The list of all sources of metrics.

use std::{fmt, sync::Arc};

use super::exposition::Exposition;

/// A source of metrics, such as a struct of counters.
pub trait Collect: Send + Sync + 'static {
    /// Writes the current values. The registry calls this method for each scrape (each request for the metrics). The
    /// method must not block.
    fn collect(&self, exposition: &mut Exposition);
}

impl<C: Collect + ?Sized> Collect for Arc<C> {
    fn collect(&self, exposition: &mut Exposition) {
        (**self).collect(exposition);
    }
}

/// The list of all sources of metrics. The documentation of the [module](super) has an example.
#[derive(Default)]
pub struct MetricRegistry {
    sources: Vec<Box<dyn Collect>>,
}

impl MetricRegistry {
    /// Creates a registry without metrics.
    pub const fn new() -> Self {
        Self { sources: Vec::new() }
    }

    /// Adds the metrics of `source`. Two sources must not have the same metric.
    #[must_use]
    pub fn with(mut self, source: impl Collect) -> Self {
        self.sources.push(Box::new(source));
        self
    }

    /// Returns the current values of all metrics, as text in the format of Prometheus.
    pub fn expose(&self) -> String {
        let mut exposition = Exposition::default();
        for source in &self.sources {
            source.collect(&mut exposition);
        }
        exposition.into_text()
    }
}

impl fmt::Debug for MetricRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricRegistry").field("sources", &self.sources.len()).finish()
    }
}
