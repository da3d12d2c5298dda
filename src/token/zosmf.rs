//! z/OSMF (IBM's management server on z/OS) as the issuer of tokens. Fetches its keys, and asks z/OSMF whether a token
//! is still valid.

use super::{AskFuture, AskIssuer, FetchFuture, JwkSetSource, TokenStatus, VerifiedToken};
use crate::{
    remote::{Connect, UserToken},
    zosmf::Zosmf,
};

impl<C: Connect> JwkSetSource for Zosmf<C> {
    fn fetch(&self) -> FetchFuture {
        let zosmf = self.clone();
        Box::pin(async move { zosmf.public_keys().await })
    }
}

impl<C: Connect> AskIssuer for Zosmf<C> {
    fn ask(&self, token: &str, _: &VerifiedToken) -> AskFuture {
        let (zosmf, token) = (self.clone(), UserToken::new(token));
        Box::pin(async move {
            // A verified token contains only characters that a cookie allows, so this conversion does not fail.
            let Ok(token) = token else { return Ok(TokenStatus::Ended) };
            let is_accepted = zosmf.accepts(&token).await?;
            Ok(if is_accepted { TokenStatus::Active } else { TokenStatus::Ended })
        })
    }
}
