//! Registers the parts of the gateway that take part in a takeover.
//!
//! A PassTicket is a short-lived password of z/OS.

use std::sync::Arc;

use tower_passticket::{
    api::LoginFailures,
    passticket::{Applid, GenerateError, LocalGenerator, PassTicket, PassTicketGenerator, UserId},
    proxy::Tunnels,
    ticket_breaker::TicketBreaker,
};

use super::{
    gate::{Gate, Gated},
    relay::Listener,
    state::Owners,
    tickets::OwnTickets,
};
use crate::{cluster::Cluster, discovery::Discovery};

/// The parts of the gateway that take part in a takeover. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct HandOver {
    pub(super) gate: Gate,
    pub(super) owners: Arc<Owners>,
}

impl HandOver {
    /// Registers `tickets`, the PassTicket generator of this process. The returned generator makes its tickets with
    /// `tickets`. But after a takeover, it asks the new process for tickets that need a time slot.
    pub(crate) fn tickets(&self, tickets: LocalGenerator) -> OwnTickets {
        self.owners.tickets.set(tickets.clone());
        OwnTickets::new(tickets, self.gate.clone())
    }

    /// Makes a PassTicket for the old process. If a third process has taken over from this process in the
    /// meantime, the third process makes the PassTicket. Returns `None` if this process has no PassTicket keys.
    pub(super) async fn ticket(
        &self,
        user: &UserId,
        applid: &Applid,
    ) -> Option<Result<PassTicket, GenerateError>> {
        let tickets = OwnTickets::new(self.owners.tickets.get()?, self.gate.clone());
        Some(tickets.generate(user, applid).await)
    }

    pub(crate) fn logins(&self, logins: LoginFailures) {
        self.owners.logins.set(logins);
    }

    pub(crate) fn breaker(&self, breaker: TicketBreaker) {
        self.owners.breaker.set(breaker);
    }

    pub(crate) fn discovery(&self, discovery: Discovery) {
        self.owners.discovery.set(discovery);
    }

    pub(crate) fn cluster(&self, cluster: Cluster) {
        self.owners.cluster.set(cluster);
    }

    pub(crate) fn tunnels(&self, tunnels: Arc<Tunnels>) {
        self.owners.tunnels.set(tunnels);
    }

    /// Puts the gate in front of `service`, the service of this listener.
    pub(crate) fn gate<S>(&self, listener: Listener, service: S) -> Gated<S> {
        self.gate.in_front_of(listener, service)
    }
}
