//! Hands over the state that only one process at a time may change: the time slots of PassTickets, the failed logins,
//! the users and keys for which no PassTickets are made, and the lease of the node (without a lease, a node accepts no
//! tokens). Also hands over the registry of services, so that the new process has all routes when it begins to serve.
//!
//! A PassTicket is a short-lived password of z/OS.

use std::{
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tower_passticket::{
    api::LoginFailures,
    passticket::{LocalGenerator, UsedTimeSlots},
    proxy::Tunnels,
    ticket_breaker::TicketBreaker,
};

use crate::{
    cluster::{Cluster, LeaseOfNode},
    discovery::Discovery,
};

/// The time that the hand-over waits for passwords that are being checked.
const PASSWORD_CHECKS: Duration = Duration::from_secs(2);

/// The owners of the state, which [`HandOver`](super::HandOver) registers.
#[derive(Debug, Default)]
pub(super) struct Owners {
    pub(super) tickets: Owner<LocalGenerator>,
    pub(super) logins: Owner<LoginFailures>,
    pub(super) breaker: Owner<TicketBreaker>,
    pub(super) discovery: Owner<Discovery>,
    pub(super) cluster: Owner<Cluster>,
    pub(super) tunnels: Owner<Arc<Tunnels>>,
}

/// A part of the gateway that owns some of the state. `None` until it is registered.
#[derive(Debug)]
pub(super) struct Owner<T>(Mutex<Option<T>>);

impl<T> Default for Owner<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Owner<T> {
    pub(super) fn set(&self, owner: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(owner);
    }

    pub(super) fn get(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Owners {
    /// If the gateway is a node of a cluster, makes it refuse all tokens. Then does the same as
    /// [`end_tunnels`](Self::end_tunnels).
    pub(super) async fn end_following(&self) {
        if let Some(cluster) = self.cluster.get() {
            cluster.refuse_tokens().await;
        }
        self.end_tunnels();
    }

    /// Ends the WebSockets, event streams and gRPC calls of this process, because this process does not learn which
    /// tokens the new process revokes.
    pub(super) fn end_tunnels(&self) {
        if let Some(tunnels) = self.tunnels.get() {
            tracing::warn!(
                "the revocations of the new process are no longer known; the WebSockets, event streams and gRPC calls of this process end"
            );
            tunnels.end_all();
        }
    }

    /// Returns the state for the new process. From now on, this process makes no ticket for an application with replay
    /// protection, and checks no password.
    pub(super) async fn hand_over(&self) -> State {
        // Wait for the password checks first. The requests that wait for them may still need tickets.
        let logins = match self.logins.get() {
            Some(logins) => Some(logins.hand_over(PASSWORD_CHECKS).await),
            None => None,
        };
        State {
            logins,
            stopped_tickets: self.breaker.get().map(|it| it.hand_over()),
            time_slots: self.tickets.get().map(|it| it.hand_over_time_slots()),
            registry: self.discovery.get().and_then(|it| it.hand_over()),
            lease: self.cluster.get().map(|it| it.hand_over()),
        }
    }

    /// Takes the state back after a failed takeover. `may_be_used` says whether the new process may have made tickets.
    pub(super) fn take_back(&self, may_be_used: bool) {
        if let Some(tickets) = self.tickets.get() {
            match may_be_used {
                false => tickets.take_back_time_slots(),
                true => tickets.take_back_later_time_slots(),
            }
        }
        if let Some(logins) = self.logins.get() {
            logins.take_back();
        }
        if let Some(breaker) = self.breaker.get() {
            breaker.take_back();
        }
        if let Some(cluster) = self.cluster.get() {
            cluster.take_back();
        }
    }

    pub(super) fn continue_from(&self, state: State) {
        if let (Some(tickets), Some(used)) = (self.tickets.get(), state.time_slots) {
            tickets.continue_time_slots(used);
        }
        if let (Some(breaker), Some(text)) = (self.breaker.get(), state.stopped_tickets)
            && let Err(error) = breaker.restore(&text)
        {
            tracing::warn!(%error, "the stopped PassTickets from the old process cannot be read; the last saved ones count");
        }
        if let (Some(logins), Some(text)) = (self.logins.get(), state.logins)
            && let Err(error) = logins.continue_from(&text)
        {
            tracing::warn!(%error, "the record of failed logins from the old process cannot be read; these logins no longer count");
        }
    }
}

/// The state, as one process hands it over to another process.
#[derive(Debug)]
pub(super) struct State {
    time_slots: Option<UsedTimeSlots>,
    logins: Option<String>,
    stopped_tickets: Option<String>,
    registry: Option<Value>,
    lease: Option<LeaseOfNode>,
}

/// The error for a text that is not a [`State`] of this version.
#[derive(Debug, thiserror::Error)]
#[error(
    "the running process handed over a state that this version cannot read; restart without --takeover"
)]
pub(super) struct StateError;

impl State {
    pub(super) fn to_text(&self) -> String {
        let slots = self.time_slots.as_ref().map(ToString::to_string);
        let lease = self.lease.as_ref().map(LeaseOfNode::to_json);
        json!({
            "timeSlots": slots,
            "failedLogins": self.logins,
            "stoppedTickets": self.stopped_tickets,
            "registry": self.registry,
            "lease": lease,
        })
        .to_string()
    }

    pub(super) fn lease(&self) -> Option<&LeaseOfNode> {
        self.lease.as_ref()
    }

    pub(super) fn continue_discovery(&mut self, discovery: &Discovery) {
        if let Some(registry) = self.registry.take() {
            discovery.continue_from(&registry);
        }
    }
}

impl FromStr for State {
    type Err = StateError;

    fn from_str(text: &str) -> Result<Self, StateError> {
        let document: Value = serde_json::from_str(text).map_err(|_| StateError)?;
        let text = |key: &str| match document.get(key) {
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(Value::Null) => Ok(None),
            _ => Err(StateError),
        };
        let slots = text("timeSlots")?.map(str::parse).transpose();
        Ok(Self {
            // Without the used time slots, a ticket could be made twice. So a text that cannot be read is an error.
            time_slots: slots.map_err(|_| StateError)?,
            logins: text("failedLogins")?.map(str::to_owned),
            // Earlier versions hand over neither `stoppedTickets` nor `registry`.
            stopped_tickets: document["stoppedTickets"].as_str().map(str::to_owned),
            registry: document.get("registry").filter(|it| !it.is_null()).cloned(),
            lease: document.get("lease").and_then(LeaseOfNode::from_json),
        })
    }
}
