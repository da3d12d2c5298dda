//! Ends the sessions of a user when the user logs out.

use std::sync::Arc;

#[cfg(feature = "remote")]
use super::issuer_logout::IssuerLogout;
use super::{error::ApiError, logout_listener::LogoutListener, provider::LoginProvider};
#[cfg(feature = "remote")]
use crate::log_limit::log_limited;
use crate::{passticket::UserId, token::TokenOrigin};

/// An issuer of login tokens, and the [`TokenOrigin`] of its tokens.
#[cfg(feature = "remote")]
#[derive(Clone)]
pub(super) struct Relay {
    pub(super) origin: TokenOrigin,
    pub(super) issuer: Arc<dyn IssuerLogout>,
}

#[derive(Clone)]
pub(super) struct Sessions {
    pub(super) provider: Arc<dyn LoginProvider>,
    pub(super) listeners: Vec<Arc<dyn LogoutListener>>,
    #[cfg(feature = "remote")]
    pub(super) relays: Vec<Relay>,
}

impl Sessions {
    pub(super) fn end(&self, user: UserId) {
        self.provider.logged_out(user);
        self.listeners.iter().for_each(|listener| listener.logged_out(user));
    }

    /// Logs the user of `token` out at the issuer of the token. `origin` says which issuer's key has verified the
    /// token. Does nothing if `relays` has no issuer for this origin. This is always so for tokens of this gateway.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] if the issuer does not confirm the logout.
    #[cfg(feature = "remote")]
    pub(super) async fn relay(&self, origin: TokenOrigin, token: &str) -> Result<(), ApiError> {
        let Some(relay) = self.relays.iter().find(|relay| relay.origin == origin) else {
            return Ok(());
        };
        relay.issuer.log_out(token).await.map_err(|error| {
            log_limited!(
                warn, ("logout relay", origin), { ?origin, %error },
                "the user could not be logged out at the issuer; the token stays valid there until it expires"
            );
            ApiError::Unavailable
        })
    }

    #[cfg(not(feature = "remote"))]
    pub(super) async fn relay(&self, _: TokenOrigin, _: &str) -> Result<(), ApiError> {
        Ok(())
    }
}
