//! The state that one process at a time may change: the time slots of PassTickets, and the failed logins. With it goes
//! the registry of services, so that the new process has all routes when it begins to serve.

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
};

use crate::discovery::Discovery;

/// How long the hand-over waits for passwords that are being checked.
const PASSWORD_CHECKS: Duration = Duration::from_secs(2);

/// The owners of the state. [`stack::gateway`](crate::stack::gateway) registers them.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    tickets: Mutex<Option<LocalGenerator>>,
    logins: Mutex<Option<LoginFailures>>,
    discovery: Mutex<Option<Discovery>>,
    tunnels: Mutex<Option<Arc<Tunnels>>>,
}

impl Owners {
    pub(super) fn set_tickets(&self, tickets: LocalGenerator) {
        *self.0.tickets.lock().unwrap_or_else(PoisonError::into_inner) = Some(tickets);
    }

    pub(super) fn set_logins(&self, logins: LoginFailures) {
        *self.0.logins.lock().unwrap_or_else(PoisonError::into_inner) = Some(logins);
    }

    pub(super) fn set_discovery(&self, discovery: Discovery) {
        *self.0.discovery.lock().unwrap_or_else(PoisonError::into_inner) = Some(discovery);
    }

    pub(super) fn set_tunnels(&self, tunnels: Arc<Tunnels>) {
        *self.0.tunnels.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnels);
    }

    /// Ends the WebSockets and event streams of this process, because it no longer learns which tokens are revoked.
    pub(super) fn end_tunnels(&self) {
        let tunnels = self.0.tunnels.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(tunnels) = tunnels {
            tracing::warn!(
                "the revocations of the new process are no longer known; the WebSockets and event streams of this process end"
            );
            tunnels.end_all();
        }
    }

    pub(super) fn tickets(&self) -> Option<LocalGenerator> {
        self.0.tickets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn logins(&self) -> Option<LoginFailures> {
        self.0.logins.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn discovery(&self) -> Option<Discovery> {
        self.0.discovery.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the state for the new process. From now on, this process makes no ticket for an application with replay
    /// protection, and checks no password.
    pub(super) async fn hand_over(&self) -> State {
        // The passwords first: until they are checked, requests may still need tickets.
        let logins = match self.logins() {
            Some(logins) => Some(logins.hand_over(PASSWORD_CHECKS).await),
            None => None,
        };
        State {
            logins,
            time_slots: self.tickets().map(|it| it.hand_over_time_slots()),
            registry: self.discovery().and_then(|it| it.hand_over()),
        }
    }

    /// Continues with the state. `may_be_used` says whether the new process may have made tickets.
    pub(super) fn take_back(&self, may_be_used: bool) {
        if let Some(tickets) = self.tickets() {
            match may_be_used {
                false => tickets.take_back_time_slots(),
                true => tickets.take_back_later_time_slots(),
            }
        }
        if let Some(logins) = self.logins() {
            logins.take_back();
        }
    }

    /// Continues with the state of the old process.
    pub(super) fn continue_from(&self, state: State) {
        if let (Some(tickets), Some(used)) = (self.tickets(), state.time_slots) {
            tickets.continue_time_slots(used);
        }
        if let (Some(logins), Some(text)) = (self.logins(), state.logins)
            && let Err(error) = logins.continue_from(&text)
        {
            tracing::warn!(%error, "the old process handed over failed logins that cannot be read; they no longer count");
        }
    }
}

/// The state, as one process hands it to another.
#[derive(Debug)]
pub(super) struct State {
    time_slots: Option<UsedTimeSlots>,
    logins: Option<String>,
    registry: Option<Value>,
}

/// The text is not a [`State`] of this version.
#[derive(Debug, thiserror::Error)]
#[error(
    "the running process handed over a state that this version cannot read; restart without --takeover"
)]
pub(super) struct StateError;

impl State {
    pub(super) fn to_text(&self) -> String {
        let slots = self.time_slots.as_ref().map(ToString::to_string);
        json!({"timeSlots": slots, "failedLogins": self.logins, "registry": self.registry})
            .to_string()
    }

    /// Lets `discovery` begin with the registry.
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
            // Earlier versions do not hand a registry over.
            registry: document.get("registry").filter(|it| !it.is_null()).cloned(),
        })
    }
}
