//! Generates PassTickets for schemes that exchange a PassTicket for a token.

use zeroize::Zeroizing;

use super::failure::Failure;
use crate::passticket::{Applid, PassTicket, PassTicketGenerator, UserId};

/// The text of a client's token. It is copied only for a generator that needs it.
pub(super) type Token = Option<Zeroizing<String>>;

pub(super) fn token_for(tickets: &impl PassTicketGenerator, token: Option<&str>) -> Token {
    token.filter(|_| tickets.needs_token()).map(|token| Zeroizing::new(token.to_owned()))
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
