//! Exchanges a PassTicket for a token of another server, and keeps the token. The schemes `safIdt` and `zosmf` use this
//! code.

use std::{
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
    time::Duration,
};

use zeroize::Zeroizing;

use super::{failure::Failure, schemes::Accepts};
use crate::{
    clock::{Clock, SystemClock, Timestamp},
    passticket::{Applid, GenerateError, PassTicket, PassTicketGenerator, UserId},
    remote::{CachePolicy, SingleFlightCache},
    ticket_breaker::{OwnTickets, PathClass, Sent, TicketBreaker},
};

/// The scheme does not use a token in its last minute, so that the token is still valid when the service checks it.
const MARGIN_MILLIS: u64 = 60_000;

/// The maximum number of tokens that are kept. A token has at most 16 KiB.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(5_000).expect("should not be zero");

/// After the server has refused a PassTicket of a user, the scheme sends no PassTicket of this user for this time. The
/// security product counts refused PassTickets as wrong passwords, and can revoke the user.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);

/// The text of the token of a client, for a generator that needs it.
pub(super) type Token = Option<Zeroizing<String>>;

/// The tokens `T` that a server has issued for PassTickets of one application.
pub(super) struct TicketExchange<G, T> {
    tickets: G,
    applid: Applid,
    /// `None` means that the server has refused the PassTicket.
    issued: SingleFlightCache<UserId, Arc<T>, Failure>,
    clock: Arc<dyn Clock>,
    /// After the server has refused tickets of a user, the breaker permits no tickets of this user for some time.
    breaker: OnceLock<(OwnTickets, PathClass)>,
}

impl<G: PassTicketGenerator, T: Send + Sync + 'static> TicketExchange<G, T> {
    pub(super) fn new(tickets: G, applid: Applid) -> Self {
        let policy = CachePolicy::default().with_entries(CAPACITY).with_not_found(AFTER_REFUSAL);
        let (issued, clock) = (SingleFlightCache::new(policy), Arc::new(SystemClock));
        Self { tickets, applid, issued, clock, breaker: OnceLock::new() }
    }

    /// Asks `breaker` before each ticket. `purpose` is the name of the scheme, such as `zosmf`. Only the first call has
    /// an effect.
    pub(super) fn set_breaker(&self, breaker: &TicketBreaker, purpose: &str) {
        let tickets = OwnTickets::new(breaker, self.applid);
        let _ = self.breaker.set((tickets, PathClass::own(purpose)));
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn accepts(&self) -> Accepts {
        match self.tickets.needs_token() {
            true => Accepts::AnyCredentialWithToken,
            false => Accepts::AnyCredential,
        }
    }

    /// Returns the cached result for `user`: a token, a failure, or `Ok(None)` if the server has refused the
    /// PassTicket.
    pub(super) fn kept(&self, user: &UserId) -> Option<Result<Option<Arc<T>>, Failure>> {
        self.issued.cached(user)
    }

    /// Removes the token of `user`, and returns it. If a server is issuing a token for the user at this time, that
    /// token is not kept.
    pub(super) fn forget(&self, user: &UserId) -> Option<Arc<T>> {
        self.issued.remove(user)
    }

    /// Returns the token of the client, if the generator needs it.
    ///
    /// # Errors
    /// If the generator needs a token, and the request has none. [`get`](Self::get) must not return this error:
    /// concurrent requests of a user share its result, so requests that have a token would also fail.
    pub(super) fn token_for(&self, user: &UserId, token: Option<&str>) -> Result<Token, Failure> {
        match token {
            _ if !self.tickets.needs_token() => Ok(None),
            Some(token) => Ok(Some(Zeroizing::new(token.to_owned()))),
            None => Err(GenerateError::not_authenticated(*user, self.applid).into()),
        }
    }

    /// Returns the kept token of `user`, or a token that `exchange` gets for a PassTicket. `exchange` returns the token
    /// and when it expires, or `None` if the server refuses the PassTicket. If a token is removed to make room for
    /// another one, this function calls `end` with it. If the user logs out during the exchange, the new token is not
    /// kept, and this function calls `end` with it.
    pub(super) async fn get<F>(
        &self,
        user: UserId,
        token: Token,
        exchange: impl FnOnce(PassTicket) -> F,
        end: impl Fn(UserId, Arc<T>),
    ) -> Result<Option<Arc<T>>, Failure>
    where
        F: Future<Output = Result<Option<(T, Timestamp)>, Failure>>,
    {
        let issue = async {
            let sent = match self.breaker.get() {
                Some((breaker, class)) => Some((breaker, breaker.wait(user, *class).await?)),
                None => None,
            };
            let ticket = self.ticket(&user, token).await?;
            if let Some((_, sent)) = &sent {
                Sent::set_sent(sent);
            }
            let issued = exchange(ticket).await;
            if let Some((breaker, sent)) = &sent {
                match &issued {
                    Ok(issued) => breaker.settle_own(sent, user, issued.is_some()),
                    // It is not known whether the server has refused the ticket.
                    Err(_) => sent.set_not_sent(),
                }
                if matches!(issued, Ok(None)) {
                    self.tickets.forget(&user, &self.applid);
                }
            }
            let issued = issued?;
            Ok(issued.map(|(issued, expires_at)| (Arc::new(issued), kept_until(expires_at))))
        };
        self.issued.get_and_release(&user, issue, is_cached, end).await
    }

    async fn ticket(&self, user: &UserId, token: Token) -> Result<PassTicket, Failure> {
        let Self { tickets, applid, .. } = self;
        let generated = match tickets.try_generate_now(user, applid) {
            Some(generated) => generated,
            None => {
                let token = token.as_ref().map(|token| token.as_str());
                tickets.generate_with_token(user, applid, token).await
            }
        };
        Ok(generated?)
    }
}

impl<G, T> TicketExchange<G, T> {
    pub(super) fn applid(&self) -> Applid {
        self.applid
    }
}

/// Returns the time until which a token is kept.
pub(super) fn kept_until(expires_at: Timestamp) -> Timestamp {
    Timestamp::from_millis(expires_at.as_millis().saturating_sub(MARGIN_MILLIS))
}

/// Returns whether the failure is cached: for a second, later requests of the user then get the same failure. A failure
/// of the generator is cached only if the generator was not available. Its other failures depend on the token or the
/// time of the request.
fn is_cached(failure: &Failure) -> bool {
    match failure {
        Failure::Generate(error) => error.is_unavailable(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use test_support::tickets::{applid, user};

    use super::*;
    use crate::{
        layer::SchemeError,
        passticket::{GenerateFuture, NoTimeSlot, SafReturnCodes},
    };

    struct Generator {
        needs_token: bool,
    }

    impl PassTicketGenerator for Generator {
        fn generate(&self, _: &UserId, _: &Applid) -> GenerateFuture {
            unreachable!("this test makes no PassTicket")
        }

        fn needs_token(&self) -> bool {
            self.needs_token
        }
    }

    #[test]
    fn a_request_without_the_token_that_is_needed_fails_at_once() {
        let (user, applid) = (user("USER"), applid("ZOWEAPPL"));
        let missing = Err(Failure::from(GenerateError::not_authenticated(user, applid)));
        for (needs_token, token, want) in [
            (false, None, Ok(None)),
            (false, Some("x"), Ok(None)),
            (true, Some("x"), Ok(Some("x"))),
            (true, None, missing),
        ] {
            let exchange = TicketExchange::<_, ()>::new(Generator { needs_token }, applid);
            let got = exchange.token_for(&user, token);
            let got = got.map(|token| token.map(|token| token.to_string()));
            assert_eq!(got, want.map(|token| token.map(str::to_owned)), "{needs_token} {token:?}");
        }
    }

    #[test]
    fn failures_that_depend_on_the_request_are_not_cached() {
        let (user, applid) = (user("USER"), applid("ZOWEAPPL"));
        let all_taken =
            NoTimeSlot::AllTaken { spare: Duration::ZERO, retry_after: Duration::from_secs(1) };
        for (failure, want) in [
            (GenerateError::not_authenticated(user, applid).into(), false),
            (GenerateError::no_slot(user, applid, all_taken).into(), false),
            (GenerateError::new(user, applid, SafReturnCodes::NO_PROFILE).into(), false),
            (GenerateError::unavailable(user, applid, None).into(), true),
            (SchemeError::unavailable("x", None).into(), true),
        ] {
            let failure: Failure = failure;
            assert_eq!(is_cached(&failure), want, "{failure}");
        }
    }
}
