//! Ends everything that depends on a login token when the user logs out.

use std::sync::Arc;

#[cfg(feature = "remote")]
use super::issuer_logout::IssuerLogout;
use super::{error::ApiError, logout_listener::LogoutListener, provider::LoginProvider};
#[cfg(feature = "remote")]
use crate::log_limit::log_limited;
use crate::{passticket::UserId, token::TokenOrigin};

/// An issuer of login tokens, and the origin of its tokens.
#[cfg(feature = "remote")]
#[derive(Clone)]
pub(super) struct Relay {
    pub(super) origin: TokenOrigin,
    pub(super) issuer: Arc<dyn IssuerLogout>,
}

/// The sessions of users at other servers, and the listeners for logouts.
#[derive(Clone, Copy)]
pub(super) struct Sessions<'a> {
    pub(super) provider: &'a dyn LoginProvider,
    pub(super) listeners: &'a [Arc<dyn LogoutListener>],
    #[cfg(feature = "remote")]
    pub(super) relays: &'a [Relay],
}

impl Sessions<'_> {
    /// Ends the session at the login provider, and calls all listeners.
    pub(super) fn end(self, user: UserId) {
        self.provider.logged_out(user);
        self.listeners.iter().for_each(|listener| listener.logged_out(user));
    }

    /// Logs the user of `token` out at the issuer of the token. `origin` says whose key has verified the token. For
    /// tokens of this gateway, this function does nothing. The call continues if the client disconnects.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] if the issuer does not confirm the logout.
    #[cfg(feature = "remote")]
    pub(super) async fn relay(self, origin: TokenOrigin, token: &str) -> Result<(), ApiError> {
        let Some(relay) = self.relays.iter().find(|relay| relay.origin == origin) else {
            return Ok(());
        };
        let ended = match tokio::spawn(relay.issuer.log_out(token)).await {
            Ok(ended) => ended.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        ended.map_err(|error| {
            log_limited!(
                warn, ("logout relay", origin), { ?origin, %error },
                "the user could not be logged out at the issuer; the token stays valid there until it expires"
            );
            ApiError::Unavailable
        })
    }

    #[cfg(not(feature = "remote"))]
    pub(super) async fn relay(self, _: TokenOrigin, _: &str) -> Result<(), ApiError> {
        Ok(())
    }
}
