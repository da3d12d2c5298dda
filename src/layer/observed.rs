//! Counts the decisions about requests on routes with [`Mode::Observe`](super::Mode::Observe).

use crate::metrics::{Collect, CounterFamily, Description, Exposition, Label, LabelName};

const OBSERVED: Description = Description::counter(
    "passticket_observed_requests_total",
    "Requests to services in the mode observe, by the decision that the gateway did not enforce.",
);

/// The decision about a request on a route with [`Mode::Observe`](super::Mode::Observe). It is not enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObservedDecision {
    /// With [`Mode::Enforce`](super::Mode::Enforce), the service would receive the headers of the scheme.
    Accepted,
    /// Authentication, the scopes or the scheme failed.
    Refused,
}

impl Label for ObservedDecision {
    const NAME: LabelName = LabelName::new("decision");
    const ALL: &'static [Self] = &[Self::Accepted, Self::Refused];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
        }
    }
}

/// The number of requests on routes with [`Mode::Observe`](super::Mode::Observe).
#[derive(Debug, Default)]
pub struct ObservedCounts(CounterFamily<(ObservedDecision,)>);

impl ObservedCounts {
    /// Returns the number of requests with this decision.
    pub fn observed(&self, decision: ObservedDecision) -> u64 {
        self.0.get((decision,))
    }

    pub(super) fn count(&self, decision: ObservedDecision) {
        self.0.increment((decision,));
    }
}

impl Collect for ObservedCounts {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.family(&OBSERVED, &self.0);
    }
}
