//! The token that a user is known by at another service.

use std::{fmt, sync::Arc};

use http::{HeaderValue, Request, header::COOKIE};
use zeroize::Zeroizing;

use crate::passticket::UserId;

/// Services of Zowe look for a login token in this cookie
/// (`docs/reference/identity-and-saf.md#asking-token`).
const TOKEN_COOKIE: &str = "apimlAuthenticationToken";

/// The login token of a user. `Debug` does not show it. It is wiped when dropped.
pub struct UserToken(Zeroizing<String>);

impl UserToken {
    /// Takes a token in the compact form of a JWT.
    ///
    /// # Errors
    /// [`NoToken`] if the text is empty or cannot be the value of a cookie (RFC 6265 §4.1.1).
    pub fn new(text: impl Into<String>) -> Result<Self, NoToken> {
        let text = Zeroizing::new(text.into());
        let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b',' | b';' | b'\\');
        if text.is_empty() || !text.bytes().all(allowed) {
            return Err(NoToken(
                "it is empty, or has a character that a cookie cannot carry".to_owned(),
            ));
        }
        Ok(Self(text))
    }

    /// Adds the token to `request`.
    pub(crate) fn authenticate<B>(&self, request: &mut Request<B>) {
        let line = Zeroizing::new(format!("{TOKEN_COOKIE}={}", &*self.0));
        // `new` lets only visible ASCII through, which a header can carry.
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

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no token for the call: {0}")]
pub struct NoToken(String);

impl NoToken {
    /// The reason, for the log. It must not contain the token.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// Provides the token that a service knows a user by.
///
/// It is called for each call to the service and must not block: cache a token that takes long to get.
/// Implemented for functions, and for an `Arc` of any implementation, `Arc<dyn TokenSource>` too.
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
/// /// The token of a technical user, the same for every user.
/// struct FixedToken(String);
///
/// impl TokenSource for FixedToken {
///     fn token(&self, _: &UserId) -> Result<UserToken, NoToken> {
///         UserToken::new(self.0.as_str())
///     }
/// }
///
/// /// Chosen at run time.
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
    /// The token of `user`, valid for at least a few more seconds.
    ///
    /// # Errors
    /// [`NoToken`] has the reason.
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
