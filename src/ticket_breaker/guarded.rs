//! A generator that makes no ticket while tickets are stopped.

use std::{fmt, sync::Arc, time::Duration};

use super::shared::Shared;
use crate::passticket::{
    Applid, GenerateError, GenerateFuture, PassTicket, PassTicketGenerator, Replay, UserId,
};

/// The generator of [`TicketBreaker::guard`](super::TicketBreaker::guard).
#[derive(Clone)]
pub struct GuardedGenerator<G> {
    breaker: Arc<Shared>,
    generator: G,
}

impl<G> GuardedGenerator<G> {
    pub(super) const fn new(breaker: Arc<Shared>, generator: G) -> Self {
        Self { breaker, generator }
    }
}

impl<G: fmt::Debug> fmt::Debug for GuardedGenerator<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedGenerator")
            .field("generator", &self.generator)
            .finish_non_exhaustive()
    }
}

impl<G: PassTicketGenerator> PassTicketGenerator for GuardedGenerator<G> {
    fn generate(&self, user: &UserId, applid: &Applid) -> GenerateFuture {
        self.generate_with_token(user, applid, None)
    }

    fn try_generate_now(
        &self,
        user: &UserId,
        applid: &Applid,
    ) -> Option<Result<PassTicket, GenerateError>> {
        match self.breaker.check(user, applid) {
            Ok(()) => self.generator.try_generate_now(user, applid),
            Err(error) => Some(Err(error)),
        }
    }

    fn generate_with_token(
        &self,
        user: &UserId,
        applid: &Applid,
        token: Option<&str>,
    ) -> GenerateFuture {
        match self.breaker.check(user, applid) {
            Ok(()) => self.generator.generate_with_token(user, applid, token),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn needs_token(&self) -> bool {
        self.generator.needs_token()
    }

    fn precheck(&self, user: &UserId, applid: &Applid) -> Result<(), GenerateError> {
        self.generator.precheck(user, applid)
    }

    fn replay(&self, applid: &Applid) -> Replay {
        self.generator.replay(applid)
    }

    fn lifetime(&self, user: &UserId, applid: &Applid) -> Option<Duration> {
        self.generator.lifetime(user, applid)
    }

    fn forget(&self, user: &UserId, applid: &Applid) {
        self.generator.forget(user, applid);
    }
}
