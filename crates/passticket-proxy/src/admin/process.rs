//! Metrics of the process and of its components.

use tower_passticket::{
    clock::{Clock, SystemClock},
    metrics::{Collect, Description, Exposition, Label, LabelName},
};

use super::status::{Component, Components};

const BUILD: Description = Description::gauge(
    "passticket_build_info",
    "Always 1. The label contains the version of the program.",
);
const VERSION: LabelName = LabelName::new("version");
// This name and unit are the same as in the client libraries of Prometheus.
const START: Description = Description::gauge(
    "process_start_time_seconds",
    "Start time of the process, in seconds since 1970-01-01 UTC.",
);
const UP: Description = Description::gauge(
    "passticket_component_up",
    "1 if the component works. /health says why a component does not work.",
);
const READY: Description = Description::gauge(
    "passticket_ready",
    "1 if the gateway is ready: it accepts connections, and all components that it needs work.",
);

pub(super) struct Process {
    started: u64,
    components: Components,
}

impl Process {
    pub(super) fn new(components: Components) -> Self {
        Self { started: SystemClock.now().as_secs(), components }
    }
}

impl Collect for Process {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.series(&BUILD, [([(VERSION, env!("CARGO_PKG_VERSION"))], 1)]);
        exposition.value(&START, self.started);
        let status = self.components.status();
        let parts = status.parts().iter();
        exposition.series(
            &UP,
            parts.map(|part| {
                ([(Component::NAME, part.component.value())], i64::from(part.health.is_up()))
            }),
        );
        exposition.value(&READY, i64::from(status.is_ready()));
    }
}
