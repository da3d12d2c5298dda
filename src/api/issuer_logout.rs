//! The trait [`IssuerLogout`], which ends sessions at the issuers of login tokens.

use std::pin::Pin;

use crate::{
    apiml::Apiml,
    remote::{Connect, RemoteError, UserToken},
    zosmf::Zosmf,
};

/// The future that [`IssuerLogout::log_out`] returns. It borrows nothing.
pub type IssuerLogoutFuture = Pin<Box<dyn Future<Output = Result<(), RemoteError>> + Send>>;

/// Ends the session of a login token at its issuer. [`Apiml`] and [`Zosmf`] implement this trait.
pub trait IssuerLogout: Send + Sync + 'static {
    /// Ends the session of `token`. The caller has verified the token with a key of the issuer. The future must end
    /// within a limited time. It also returns `Ok` if the issuer already refuses the token.
    fn log_out(&self, token: &str) -> IssuerLogoutFuture;
}

impl<C: Connect> IssuerLogout for Apiml<C> {
    fn log_out(&self, token: &str) -> IssuerLogoutFuture {
        let (apiml, token) = (self.clone(), zeroize::Zeroizing::new(token.to_owned()));
        Box::pin(async move { Self::log_out(&apiml, &token).await })
    }
}

impl<C: Connect> IssuerLogout for Zosmf<C> {
    fn log_out(&self, token: &str) -> IssuerLogoutFuture {
        let (zosmf, token) = (self.clone(), UserToken::new(token));
        Box::pin(async move {
            let token = token.map_err(|error| RemoteError::Answer(error.to_string()))?;
            zosmf.log_out_jwt(&token).await
        })
    }
}
