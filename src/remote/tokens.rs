//! As whom a service is asked.

use std::fmt;

use http::{HeaderValue, Request, header::COOKIE};
use zeroize::Zeroizing;

use crate::passticket::UserId;

/// Where a service of Zowe looks for a login token (zowe-endpoints §5.2, §6.2).
const TOKEN_COOKIE: &str = "apimlAuthenticationToken";

/// The login token of a user. Not shown by `Debug`, wiped when dropped.
pub struct UserToken(Zeroizing<String>);

impl UserToken {
    /// Takes a token in the compact form of a JWT.
    ///
    /// # Errors
    /// [`NoToken`] for what cannot be the value of a cookie (RFC 6265 §4.1.1).
    pub fn new(text: impl Into<String>) -> Result<Self, NoToken> {
        let text = Zeroizing::new(text.into());
        let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b',' | b';' | b'\\');
        if text.is_empty() || !text.bytes().all(allowed) {
            return Err(NoToken("it is empty, or no cookie can carry it".to_owned()));
        }
        Ok(Self(text))
    }

    /// Sends `request` as the user.
    pub(crate) fn authenticate<B>(&self, request: &mut Request<B>) {
        let line = Zeroizing::new(format!("{TOKEN_COOKIE}={}", &*self.0));
        // Every character of a token may stand in a header.
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
#[error("there is no token to ask with: {0}")]
pub struct NoToken(String);

impl NoToken {
    /// Says why, for the log: without the token.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// Gives the token that a service knows a user by.
///
/// It is asked for each call that goes out; what takes long should be remembered by whoever
/// implements it. A closure will do.
pub trait TokenSource: Send + Sync + 'static {
    /// The token of `user`, good for a few more seconds at least.
    ///
    /// # Errors
    /// [`NoToken`] says why there is none.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_cookie_and_is_not_shown() {
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
