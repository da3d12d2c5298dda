//! Chooses the source of a PassTicket: the gateway's own PassTicket keys, or a running Zowe (`source: zowe`).
//!
//! A PassTicket is a short-lived password of z/OS for one APPLID. An APPLID is the name of an application on z/OS.

use std::{sync::Arc, time::Duration};

use passticket_proxy::config::Config;
use tower_passticket::{
    apiml::ApimlTickets,
    passticket::{
        Applid, GenerateError, GenerateFuture, PassTicket, PassTicketGenerator, Replay, UserId,
    },
    tls::Connector,
};

use crate::providers::Remote;

/// Makes a PassTicket with a key of the gateway, or asks a running Zowe for one. The APPLID decides which of the two
/// happens.
#[derive(Clone)]
pub(crate) struct Tickets<G> {
    local: G,
    zowe: Option<Arc<Zowe>>,
}

struct Zowe {
    tickets: ApimlTickets<Connector>,
    applids: Vec<Applid>,
}

impl<G: PassTicketGenerator> Tickets<G> {
    /// Creates the sources. `local` has the keys of the gateway. `remote` makes the client that calls Zowe.
    pub(crate) fn new(local: G, config: &Config, remote: Option<&Remote>) -> Self {
        let zowe = match (&config.zowe, remote) {
            (Some(peer), Some(remote)) if !config.zowe_tickets.is_empty() => {
                let mut tickets = ApimlTickets::new(remote.ticket_client(), peer.url.clone());
                if peer.mints {
                    tickets = tickets.with_minted_tokens(remote.tokens());
                }
                for (applid, replay) in &config.zowe_tickets {
                    tickets = tickets.with_replay(*applid, *replay);
                }
                let applids = config.zowe_tickets.keys().copied().collect();
                Some(Arc::new(Zowe { tickets, applids }))
            }
            _ => None,
        };
        Self { local, zowe }
    }

    /// Returns the generator that asks Zowe, if the PassTickets of `applid` come from Zowe.
    pub(crate) fn zowe(&self, applid: &Applid) -> Option<&ApimlTickets<Connector>> {
        let zowe = self.zowe.as_deref()?;
        zowe.applids.contains(applid).then_some(&zowe.tickets)
    }

    fn source(&self, applid: &Applid) -> &dyn PassTicketGenerator {
        match self.zowe(applid) {
            Some(zowe) => zowe,
            None => &self.local,
        }
    }

    /// Returns the source of the PassTickets of `applid`. If these PassTickets do not come from Zowe, this source never
    /// needs the token of a client. In contrast, `self` may need the
    /// token for another APPLID.
    pub(crate) fn of(&self, applid: &Applid) -> Self
    where
        G: Clone,
    {
        let zowe = self.zowe.clone().filter(|zowe| zowe.applids.contains(applid));
        Self { local: self.local.clone(), zowe }
    }

    pub(crate) fn local(&self) -> &G {
        &self.local
    }
}

impl<G: PassTicketGenerator> PassTicketGenerator for Tickets<G> {
    fn generate(&self, user: &UserId, applid: &Applid) -> GenerateFuture {
        self.source(applid).generate(user, applid)
    }

    fn try_generate_now(
        &self,
        user: &UserId,
        applid: &Applid,
    ) -> Option<Result<PassTicket, GenerateError>> {
        self.source(applid).try_generate_now(user, applid)
    }

    fn generate_with_token(
        &self,
        user: &UserId,
        applid: &Applid,
        token: Option<&str>,
    ) -> GenerateFuture {
        self.source(applid).generate_with_token(user, applid, token)
    }

    fn needs_token(&self) -> bool {
        self.zowe.as_ref().is_some_and(|zowe| zowe.tickets.needs_token())
    }

    fn precheck(&self, user: &UserId, applid: &Applid) -> Result<(), GenerateError> {
        self.source(applid).precheck(user, applid)
    }

    fn replay(&self, applid: &Applid) -> Replay {
        self.source(applid).replay(applid)
    }

    fn lifetime(&self, user: &UserId, applid: &Applid) -> Option<Duration> {
        self.source(applid).lifetime(user, applid)
    }

    fn forget(&self, user: &UserId, applid: &Applid) {
        self.source(applid).forget(user, applid);
    }
}
