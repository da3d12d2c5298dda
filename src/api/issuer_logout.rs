//! A trait for issuers of login tokens that are told about logouts.

use std::pin::Pin;

use crate::{
    apiml::Apiml,
    remote::{Connect, RemoteError, UserToken},
    zosmf::Zosmf,
};

/// The future that [`IssuerLogout::log_out`] returns. It borrows neither from the implementation nor from the token.
pub type IssuerLogoutFuture = Pin<Box<dyn Future<Output = Result<(), RemoteError>> + Send>>;

/// Trait for an issuer that can end the session of a login token. [`Apiml`] and [`Zosmf`] implement it.
pub trait IssuerLogout: Send + Sync + 'static {
    /// Ends the session of `token`, which a key of the issuer has verified. The future must limit its time. A token that
    /// the issuer no longer accepts is no error.
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
