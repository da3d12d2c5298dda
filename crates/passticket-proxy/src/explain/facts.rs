//! The facts about the request that `explain` has collected between the layers.

use passticket_proxy::config::{Config, ConfiguredRoute};
use tower_passticket::{
    audit::{AuditRecord, Outcome},
    layer::{Authentication, Failure, Route},
    passticket::Applid,
    revocation::DurableStore,
};

use super::{probe::Seen, request::Prepared, walk::Walked};
use crate::stack::{GatewayAuthenticator, Step};

pub(super) struct Facts<'a> {
    pub(super) config: &'a Config,
    pub(super) authenticator: &'a GatewayAuthenticator,
    pub(super) store: &'a DurableStore,
    pub(super) prepared: &'a Prepared,
    pub(super) walked: &'a Walked,
    pub(super) is_live: bool,
}

impl Facts<'_> {
    pub(super) fn seen(&self, step: Step) -> Option<&Seen> {
        self.walked.traced.seen.iter().find(|seen| seen.step == step)
    }

    pub(super) fn route_of(&self) -> Option<&Route> {
        self.seen(Step::Routed)?.route.as_deref()
    }

    pub(super) fn configured(&self) -> Option<&ConfiguredRoute> {
        let prefix = self.route_of()?.prefix();
        self.config.routes.iter().find(|route| route.prefix() == prefix)
    }

    pub(super) fn record(&self, is_it: impl Fn(&AuditRecord) -> bool) -> Option<&AuditRecord> {
        self.walked.traced.records.iter().find(|record| is_it(record))
    }

    /// Returns the record of the layer that has decided against the request.
    pub(super) fn failed_record(&self) -> Option<&AuditRecord> {
        self.record(|record| record.outcome != Outcome::Success)
    }

    /// Returns the text of the failure, also if the service has the mode observe.
    pub(super) fn failure_text(&self) -> Option<String> {
        if let Some(failure) = self.walked.failure() {
            return Some(failure.to_string());
        }
        let seen = self.walked.traced.seen.iter();
        let mut failed = seen.filter_map(|seen| match &seen.authentication {
            Some(Authentication::Failed(failure)) => Some(failure.to_string()),
            _ => None,
        });
        let record = || Some(self.failed_record()?.reason?.as_str().to_owned());
        failed.next_back().or_else(record)
    }

    pub(super) fn failure(&self) -> Option<&Failure> {
        let seen = self.walked.traced.seen.iter();
        let mut of_layers = seen.filter_map(|seen| match &seen.authentication {
            Some(Authentication::Failed(failure)) => Some(failure),
            _ => None,
        });
        self.walked.failure().or_else(|| of_layers.next_back())
    }

    pub(super) fn applid(&self) -> Option<Applid> {
        self.configured().and_then(|route| route.scheme().applid())
    }
}
