//! The trait for token verifiers.

use std::{pin::Pin, sync::Arc};

use super::{TokenError, VerifiedToken};

/// The future that [`TokenVerifier::verify_token`] returns. It borrows nothing.
pub type VerifyFuture = Pin<Box<dyn Future<Output = Result<VerifiedToken, TokenError>> + Send>>;

/// Verifies tokens: checks the signature, the times, the issuer and the claims.
///
/// An [`Authenticator`](crate::layer::Authenticator) verifies the tokens of requests with its verifier.
/// [`Rs256Verifier`](super::Rs256Verifier) accepts the login tokens and Personal Access Tokens of this crate and of API
/// ML (Zowe's API Mediation Layer). Implement the trait to accept tokens of another issuer. An `Arc` of a verifier is
/// also a verifier.
///
/// A verifier must use only keys of the issuer that the token names (docs/decisions.md#d21).
///
/// A verifier returns [`TokenError::Issuer`] for an issuer that it does not know. If several verifiers are combined,
/// the next one can then be asked ([`TokenError::is_foreign`]). A verifier that cannot decide returns
/// [`TokenError::Unavailable`], and the authentication fails.
///
/// # Example
/// This verifier first asks `Rs256Verifier`. If the token comes from another issuer, it asks an identity provider:
///
/// ```
/// use std::sync::Arc;
/// use tower_passticket::{
///     clock::Timestamp,
///     passticket::UserId,
///     token::{
///         ExternalClaims, Rs256Verifier, TokenError, TokenVerifier, VerifiedToken, VerifyFuture,
///     },
/// };
///
/// struct WithProvider {
///     ours: Rs256Verifier,
///     provider: Arc<Provider>,
/// }
///
/// impl TokenVerifier for WithProvider {
///     fn try_verify_now(&self, token: &[u8]) -> Option<Result<VerifiedToken, TokenError>> {
///         // After `None` the layer calls `verify_token`.
///         self.ours.try_verify_now(token).filter(|answer| {
///             !answer.as_ref().is_err_and(TokenError::is_foreign)
///         })
///     }
///
///     fn verify_token(&self, token: &[u8]) -> VerifyFuture {
///         let (provider, token) = (self.provider.clone(), token.to_vec());
///         Box::pin(async move {
///             let (user, expires_at) = provider.introspect(&token).await?;
///             let claims = ExternalClaims::new(user, "https://idp.example.com", expires_at);
///             Ok(VerifiedToken::external(&token, claims))
///         })
///     }
/// }
/// # struct Provider;
/// # impl Provider {
/// #     async fn introspect(&self, _: &[u8]) -> Result<(UserId, Timestamp), TokenError> {
/// #         tokio::task::yield_now().await;
/// #         Ok((UserId::new("JANE").unwrap(), Timestamp::from_secs(4_000_000_000)))
/// #     }
/// # }
/// # use tower_passticket::token::{SigningKey, TokenIssuer};
/// # fn key() -> SigningKey {
/// #     let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
/// #     SigningKey::from_pem(pem.unwrap().serialize_pem().as_bytes()).unwrap()
/// # }
/// # let ours = Rs256Verifier::new(key().verifying_key());
/// # let token = TokenIssuer::new(key()).login_token(&UserId::new("JANE").unwrap(), "x").unwrap();
/// # let token = token.expose().as_bytes();
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
///
/// let verifier: Arc<dyn TokenVerifier> =
///     Arc::new(WithProvider { ours, provider: Arc::new(Provider) });
/// assert!(verifier.try_verify_now(token).is_none());
/// let Ok(VerifiedToken::External(token)) = verifier.verify_token(token).await else {
///     panic!("expected an external token")
/// };
/// assert_eq!(token.issuer(), "https://idp.example.com");
/// # });
/// ```
pub trait TokenVerifier: Send + Sync + 'static {
    /// Verifies `token`. The client sent these bytes as a token, so they can have any value and any length.
    ///
    /// The future must limit the time that it waits for a server.
    fn verify_token(&self, token: &[u8]) -> VerifyFuture;

    /// Verifies `token` if this is possible without waiting. If the result is `None`, the caller calls
    /// [`verify_token`](Self::verify_token).
    ///
    /// Implement this function for speed: if it returns a result, the caller goes on at once. After `None`, the caller
    /// must store the request and wait for a future.
    fn try_verify_now(&self, token: &[u8]) -> Option<Result<VerifiedToken, TokenError>> {
        let _ = token;
        None
    }

    /// Verifies a token whose user logs out. This function must not ask the issuer whether the token is still valid. If
    /// it did, no user could log out while the issuer does not answer.
    ///
    /// By default, calls [`verify_token`](Self::verify_token). Implement this function if `verify_token` asks the
    /// issuer. A verifier that contains another verifier must also implement this function, and call
    /// `verify_for_logout` of the other verifier.
    fn verify_for_logout(&self, token: &[u8]) -> VerifyFuture {
        self.verify_token(token)
    }
}

impl<V: TokenVerifier + ?Sized> TokenVerifier for Arc<V> {
    fn verify_token(&self, token: &[u8]) -> VerifyFuture {
        (**self).verify_token(token)
    }

    fn try_verify_now(&self, token: &[u8]) -> Option<Result<VerifiedToken, TokenError>> {
        (**self).try_verify_now(token)
    }

    fn verify_for_logout(&self, token: &[u8]) -> VerifyFuture {
        (**self).verify_for_logout(token)
    }
}
