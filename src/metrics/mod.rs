//! Counters, gauges and histograms, and their text for Prometheus.
//!
//! Names and labels are fixed when the program is compiled. A label is an enum that implements [`Label`]. So a client
//! can neither choose a label value nor add time series. Only [`Exposition::series`] and [`Exposition::histograms`]
//! accept other label values, which must not come from clients. Incrementing a [`Counter`] is one atomic addition. It
//! takes no lock and allocates nothing.
//!
//! Each module that counts something has a struct of counters, and implements [`Collect`] for it. A [`MetricRegistry`]
//! collects the values of all these structs into one text. An application serves this text with the content type
//! [`CONTENT_TYPE`]:
//!
//! ```
//! use std::sync::Arc;
//! use tower_passticket::metrics::{
//!     Collect, Counter, CounterFamily, Description, Exposition, Label, LabelName, MetricRegistry,
//! };
//!
//! #[derive(Clone, Copy)]
//! enum Colour { Red, Green }
//!
//! impl Label for Colour {
//!     const NAME: LabelName = LabelName::new("colour");
//!     const ALL: &'static [Self] = &[Self::Red, Self::Green];
//!     fn index(self) -> usize { self as usize }
//!     fn value(self) -> &'static str {
//!         match self { Self::Red => "red", Self::Green => "green" }
//!     }
//! }
//!
//! #[derive(Default)]
//! struct Paint { pots: CounterFamily<(Colour,)>, spills: Counter }
//!
//! // A wrong name is a compile error.
//! const POTS: Description = Description::counter("paint_pots_total", "Pots of paint that were opened.");
//! const SPILLS: Description = Description::counter("paint_spills_total", "Pots that fell over.");
//!
//! impl Collect for Paint {
//!     fn collect(&self, exposition: &mut Exposition) {
//!         exposition.family(&POTS, &self.pots);
//!         exposition.value(&SPILLS, self.spills.get());
//!     }
//! }
//!
//! let paint = Arc::new(Paint::default());
//! let registry = MetricRegistry::new().with(paint.clone());
//! paint.pots.increment((Colour::Green,));
//! assert_eq!(
//!     registry.expose(),
//!     concat!(
//!         "# HELP paint_pots_total Pots of paint that were opened.\n",
//!         "# TYPE paint_pots_total counter\n",
//!         "paint_pots_total{colour=\"red\"} 0\n",
//!         "paint_pots_total{colour=\"green\"} 1\n",
//!         "# HELP paint_spills_total Pots that fell over.\n",
//!         "# TYPE paint_spills_total counter\n",
//!         "paint_spills_total 0\n",
//!     ),
//! );
//! ```

mod description;
mod exposition;
mod family;
mod registry;
mod value;

pub use description::{Description, LabelName};
pub use exposition::{CONTENT_TYPE, Exposition};
pub use family::{CounterFamily, Label, LabelSet};
pub use registry::{Collect, MetricRegistry};
pub use value::{Counter, Gauge, Histogram};
