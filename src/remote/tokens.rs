//! Tokens that identify a user to another service.

use std::{fmt, sync::Arc};

use http::{HeaderValue, Request, header::COOKIE};
use zeroize::Zeroizing;

use crate::{headers::cookie, passticket::UserId};

/// The cookie in which Zowe's services expect a login token
/// (`docs/reference/identity-and-saf.md#asking-token`).
const TOKEN_COOKIE: &str = "apimlAuthenticationToken";

/// The login token of a user. `Debug` does not show the token. When this value is dropped, its memory is overwritten.
pub struct UserToken(Zeroizing<String>);

impl UserToken {
    /// Creates a `UserToken` from a token, usually a JWT in compact form. The text must be a valid cookie value.
    ///
    /// # Errors
    /// [`NoToken`] if the text is empty or contains a character that is not allowed in a cookie value (RFC 6265
    /// §4.1.1).
    pub fn new(text: impl Into<String>) -> Result<Self, NoToken> {
        let text = Zeroizing::new(text.into());
        if !cookie::is_value(&text) {
            return Err(NoToken(
                "the token is empty, or has a character that is not allowed in a cookie".to_owned(),
            ));
        }
        Ok(Self(text))
    }

    /// Returns the token. Do not write it to logs or errors.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Sets the header `Cookie` of `request` to one cookie: the token, with the name that Zowe's services expect.
    pub(crate) fn authenticate<B>(&self, request: &mut Request<B>) {
        self.set_cookie(TOKEN_COOKIE, request);
    }

    /// Sets the header `Cookie` of `request` to one cookie: the token, with the name `name`.
    pub(crate) fn set_cookie<B>(&self, name: &str, request: &mut Request<B>) {
        let line = Zeroizing::new(format!("{name}={}", &*self.0));
        // This succeeds if `name` is the name of a cookie: `new` accepts only characters that are allowed in a header
        // value.
        if let Ok(mut value) = HeaderValue::from_str(&line) {
            value.set_sensitive(true);
            request.headers_mut().insert(COOKIE, value);
        }
    }
}

impl fmt::Debug for UserToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserToken(..)")
    }
}

/// The reason why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token for the call: {0}")]
pub struct NoToken(String);

impl NoToken {
    /// Creates an error with a reason for the log. The reason must not contain the token.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// Provides the token that identifies a user to a service.
///
/// [`token`](Self::token) is called before each call to the service, and must not block. If it takes long to get a
/// token, cache the token. Functions implement this trait. So do `Arc<dyn TokenSource>`, and `Arc<T>` if `T` implements
/// it.
///
/// ```
/// use std::sync::Arc;
///
/// use tower_passticket::{
///     passticket::UserId,
///     remote::{NoToken, TokenSource, UserToken},
///     token::TokenIssuer,
/// };
///
/// /// Issues a token for each call with the gateway's own key.
/// struct OwnTokens(TokenIssuer);
///
/// impl TokenSource for OwnTokens {
///     fn token(&self, user: &UserId) -> Result<UserToken, NoToken> {
///         let token = self.0.login_token(user, "security-domain");
///         UserToken::new(token.map_err(|error| NoToken::new(error.to_string()))?.expose())
///     }
/// }
///
/// /// Provides the same token for all users: the token of a technical user.
/// struct FixedToken(String);
///
/// impl TokenSource for FixedToken {
///     fn token(&self, _: &UserId) -> Result<UserToken, NoToken> {
///         UserToken::new(self.0.as_str())
///     }
/// }
///
/// /// Chooses a token source at run time.
/// fn tokens(issuer: Option<TokenIssuer>, fixed: &str) -> Arc<dyn TokenSource> {
///     match issuer {
///         Some(issuer) => Arc::new(OwnTokens(issuer)),
///         None => Arc::new(FixedToken(fixed.to_owned())),
///     }
/// }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// tokens(None, "eyJ.e30.c2ln").token(&UserId::new("IBMUSER")?)?;
/// # Ok(())
/// # }
/// ```
pub trait TokenSource: Send + Sync + 'static {
    /// Returns the token of `user`. The token must be valid for at least a few more seconds.
    ///
    /// # Errors
    /// [`NoToken`] with the reason if there is no token.
    fn token(&self, user: &UserId) -> Result<UserToken, NoToken>;
}

impl<F> TokenSource for F
where
    F: Fn(&UserId) -> Result<UserToken, NoToken> + Send + Sync + 'static,
{
    fn token(&self, user: &UserId) -> Result<UserToken, NoToken> {
        self(user)
    }
}

impl<T: TokenSource + ?Sized> TokenSource for Arc<T> {
    fn token(&self, user: &UserId) -> Result<UserToken, NoToken> {
        (**self).token(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_becomes_one_cookie_and_debug_hides_it() {
        let token = UserToken::new("ab.c-d_e.f=").unwrap();
        let mut request = Request::new(());
        token.authenticate(&mut request);
        assert_eq!(request.headers()["cookie"], "apimlAuthenticationToken=ab.c-d_e.f=");
        for shown in [format!("{token:?}"), format!("{request:?}")] {
            assert!(!shown.contains("ab.c"), "{shown}");
        }
        for bad in ["", "a b", "a;b=c", "a\r\nx: y", "\u{e4}", "a,b", "\"a\"", "a\\"] {
            let error = UserToken::new(bad).unwrap_err().to_string();
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
    }
}
