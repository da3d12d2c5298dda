//! Generates PassTickets for schemes that exchange a PassTicket for a token.

use zeroize::Zeroizing;

use super::failure::Failure;
use crate::passticket::{Applid, GenerateError, PassTicket, PassTicketGenerator, UserId};

/// The text of a client's token. It is copied only for a generator that needs it.
pub(super) type Token = Option<Zeroizing<String>>;

/// The token for the generator.
///
/// # Errors
/// If the generator needs a token and there is none. Such a request must not wait for the ticket of another request of
/// the user, and must not make other requests fail.
pub(super) fn token_for(
    tickets: &impl PassTicketGenerator,
    user: &UserId,
    applid: &Applid,
    token: Option<&str>,
) -> Result<Token, Failure> {
    match token {
        _ if !tickets.needs_token() => Ok(None),
        Some(token) => Ok(Some(Zeroizing::new(token.to_owned()))),
        None => Err(GenerateError::not_authenticated(*user, *applid).into()),
    }
}

/// Whether later requests of the user get the same failure for a second. A failure of a PassTicket depends on the token
/// of the request, or on the moment, unless the generator is unavailable.
pub(super) fn is_remembered(failure: &Failure) -> bool {
    match failure {
        Failure::Generate(error) => error.is_unavailable(),
        _ => true,
    }
}

/// Generates a PassTicket of `user` for the application `applid`.
pub(super) async fn ticket(
    tickets: &impl PassTicketGenerator,
    user: &UserId,
    applid: &Applid,
    token: Token,
) -> Result<PassTicket, Failure> {
    let generated = match tickets.try_generate_now(user, applid) {
        Some(generated) => generated,
        None if tickets.needs_token() => {
            let token = token.as_ref().map(|token| token.as_str());
            tickets.generate_with_token(user, applid, token).await
        }
        None => tickets.generate(user, applid).await,
    };
    Ok(generated?)
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

    /// A generator that makes no PassTicket.
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
            let got = token_for(&Generator { needs_token }, &user, &applid, token);
            let got = got.map(|token| token.map(|token| token.to_string()));
            assert_eq!(got, want.map(|token| token.map(str::to_owned)), "{needs_token} {token:?}");
        }
    }

    #[test]
    fn a_failure_of_one_request_is_not_that_of_the_next() {
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
            assert_eq!(is_remembered(&failure), want, "{failure}");
        }
    }
}
