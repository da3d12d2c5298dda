//! The tokens that z/OSMF (IBM's management server on z/OS) issues at a login.

use std::{fmt, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use http::{HeaderMap, header::SET_COOKIE};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{clock::Timestamp, passticket::UserId, remote::UserToken};

pub(super) const JWT: &str = "jwtToken";
const LTPA: &str = "LtpaToken2";

/// The maximum length of a token, in bytes. Many servers refuse longer cookies.
const MAX_TOKEN: usize = 8 * 1024;

/// The assumed lifetime of a session that has only an LTPA token (an opaque token of IBM servers). An LTPA token does
/// not show when it expires. By default, it is valid for more than eight hours, but a site may set a shorter time.
const LTPA_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// The tokens of a user at z/OSMF: a JWT, an LTPA token, or both. `Debug` does not show them. Dropping the session
/// overwrites their memory.
pub struct ZosmfSession {
    tokens: Tokens,
    expires_at: Timestamp,
}

enum Tokens {
    Jwt(UserToken),
    Ltpa(UserToken),
    Both { jwt: UserToken, ltpa: UserToken },
}

impl ZosmfSession {
    /// Reads the tokens from the cookies of a login response. `now` is the current time.
    ///
    /// # Errors
    /// The reason, for the log: there is no token, a token is malformed, or the JWT is not for `user`. The reason
    /// contains no part of a token.
    pub(super) fn from_cookies(
        headers: &HeaderMap,
        user: &UserId,
        now: Timestamp,
    ) -> Result<Self, &'static str> {
        let jwt = cookie(headers, JWT)?;
        let ltpa = cookie(headers, LTPA)?;
        let expires_at = match &jwt {
            Some(jwt) => expiry(jwt, user)?,
            None => now.plus(LTPA_LIFETIME),
        };
        let tokens = match (jwt, ltpa) {
            (Some(jwt), Some(ltpa)) => Tokens::Both { jwt, ltpa },
            (Some(jwt), None) => Tokens::Jwt(jwt),
            (None, Some(ltpa)) => Tokens::Ltpa(ltpa),
            (None, None) => return Err("the response has no cookie jwtToken or LtpaToken2"),
        };
        Ok(Self { tokens, expires_at })
    }

    /// Returns the JWT, the value of the cookie `jwtToken`.
    pub fn jwt(&self) -> Option<&str> {
        match &self.tokens {
            Tokens::Jwt(jwt) | Tokens::Both { jwt, .. } => Some(jwt.expose()),
            Tokens::Ltpa(_) => None,
        }
    }

    /// Returns the LTPA token, the value of the cookie `LtpaToken2`.
    pub fn ltpa(&self) -> Option<&str> {
        match &self.tokens {
            Tokens::Ltpa(ltpa) | Tokens::Both { ltpa, .. } => Some(ltpa.expose()),
            Tokens::Jwt(_) => None,
        }
    }

    /// Returns the name and the value of the cookie for a request to z/OSMF: `jwtToken` if there is a JWT, else
    /// `LtpaToken2`.
    pub fn cookie(&self) -> (&'static str, &str) {
        match &self.tokens {
            Tokens::Jwt(jwt) | Tokens::Both { jwt, .. } => (JWT, jwt.expose()),
            Tokens::Ltpa(ltpa) => (LTPA, ltpa.expose()),
        }
    }

    /// Returns the time at which the JWT expires. Without a JWT, returns 30 minutes after the login, because an LTPA
    /// token does not show when it expires.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Returns the session without the tokens that `other` also has, or `None` if no token is left. Two sessions
    /// can have the same token: for example, z/OSMF can return the same JWT to two logins of a user within one second.
    pub(super) fn without_tokens_of(&self, other: &Self) -> Option<Self> {
        let jwt = self.jwt().filter(|jwt| other.jwt() != Some(jwt));
        let ltpa = self.ltpa().filter(|ltpa| other.ltpa() != Some(ltpa));
        let token = |text| UserToken::new(text).ok();
        let tokens = match (jwt.and_then(token), ltpa.and_then(token)) {
            (Some(jwt), Some(ltpa)) => Tokens::Both { jwt, ltpa },
            (Some(jwt), None) => Tokens::Jwt(jwt),
            (None, Some(ltpa)) => Tokens::Ltpa(ltpa),
            (None, None) => return None,
        };
        Some(Self { tokens, expires_at: self.expires_at })
    }

    pub(super) fn cookies(&self) -> impl Iterator<Item = (&'static str, &UserToken)> {
        let (jwt, ltpa) = match &self.tokens {
            Tokens::Jwt(jwt) => (Some(jwt), None),
            Tokens::Ltpa(ltpa) => (None, Some(ltpa)),
            Tokens::Both { jwt, ltpa } => (Some(jwt), Some(ltpa)),
        };
        jwt.map(|jwt| (JWT, jwt)).into_iter().chain(ltpa.map(|ltpa| (LTPA, ltpa)))
    }
}

impl fmt::Debug for ZosmfSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZosmfSession").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Reads the cookie `name` that a response sets. Returns `None` if the response does not set it, or sets an empty
/// value, which deletes it.
fn cookie(headers: &HeaderMap, name: &str) -> Result<Option<UserToken>, &'static str> {
    let values = headers.get_all(SET_COOKIE).iter().filter_map(|line| {
        let line = line.as_bytes();
        let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
        Some(value[..end].trim_ascii())
    });
    let Some(value) = values.into_iter().find(|value| !value.is_empty()) else { return Ok(None) };
    // Liberty, the server in which z/OSMF runs, may put the value into quotation marks.
    let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
    if value.len() > MAX_TOKEN {
        return Err("a token has more than 8192 bytes");
    }
    let value = str::from_utf8(value).map_err(|_| "a token is not text")?;
    UserToken::new(value).map(Some).map_err(|_| "a token has a character that is not allowed")
}

/// Reads the expiry time of a JWT for `user`. The signature is not verified, because z/OSMF itself has sent the token.
fn expiry(jwt: &UserToken, user: &UserId) -> Result<Timestamp, &'static str> {
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
        exp: u64,
    }

    let mut parts = jwt.expose().split('.');
    let (Some(_), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("the cookie jwtToken has no JWT");
    };
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).map(Zeroizing::new);
    let claims = payload.ok().and_then(|payload| serde_json::from_slice(&payload).ok());
    let Claims { sub, exp } = claims.ok_or("the JWT has no claims sub and exp")?;
    if UserId::new(&sub).ok().as_ref() != Some(user) {
        return Err("the JWT is for another user");
    }
    Ok(Timestamp::from_secs(exp))
}

#[cfg(test)]
mod tests {
    use test_support::tickets::user;

    use super::*;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    fn read(cookies: &[&str]) -> Result<ZosmfSession, &'static str> {
        let mut headers = HeaderMap::new();
        for line in cookies {
            headers.append(SET_COOKIE, line.parse().unwrap());
        }
        ZosmfSession::from_cookies(&headers, &user("USER"), Timestamp::from_secs(1000))
    }

    #[test]
    fn a_session_has_a_jwt_or_an_ltpa_token_or_both() {
        let token = jwt(r#"{"sub":"user","exp":5000,"iss":"zOSMF"}"#);
        let jwt_cookie = &*format!("jwtToken={token}; Path=/; Secure; HttpOnly");
        let ltpa_cookie = "LtpaToken2=ab/c+d==; Path=/";
        for (cookies, jwt, ltpa, expires, sent) in [
            (vec![jwt_cookie], true, None, 5000, &[JWT][..]),
            (vec![ltpa_cookie], false, Some("ab/c+d=="), 2800, &[LTPA]),
            (vec!["LtpaToken2=\"x\""], false, Some("x"), 2800, &[LTPA]),
            (vec!["a=b", ltpa_cookie, jwt_cookie], true, Some("ab/c+d=="), 5000, &[JWT, LTPA]),
            (vec!["LtpaToken2=; Max-Age=0", jwt_cookie], true, None, 5000, &[JWT]),
        ] {
            let session = read(&cookies).unwrap();
            assert_eq!(session.jwt(), jwt.then_some(&*token), "{cookies:?}");
            assert_eq!(session.ltpa(), ltpa, "{cookies:?}");
            assert_eq!(session.expires_at(), Timestamp::from_secs(expires), "{cookies:?}");
            let (name, value) = session.cookie();
            assert_eq!((name, value.is_empty()), (sent[0], false), "{cookies:?}");
            let names: Vec<_> = session.cookies().map(|(name, _)| name).collect();
            assert_eq!(names, sent, "{cookies:?}");
            let shown = format!("{session:?}");
            assert!(!shown.contains("e30") && !shown.contains("ab/c"), "{shown}");
        }
    }

    #[test]
    fn a_response_without_a_usable_token_is_no_login() {
        let other = format!("jwtToken={}", jwt(r#"{"sub":"OTHER","exp":5000}"#));
        let long = format!("LtpaToken2={}", "x".repeat(MAX_TOKEN + 1));
        assert!(read(&[&long[..long.len() - 1]]).is_ok());
        let endless = format!("jwtToken={}", jwt(r#"{"sub":"USER"}"#));
        for (cookies, want) in [
            (vec![], "no cookie"),
            (vec!["jwtToken=", "LtpaToken2=; Path=/"], "no cookie"),
            (vec!["XjwtToken=a.b.c", "LtpaToken22=x"], "no cookie"),
            (vec!["jwtToken=opaque", "LtpaToken2=x"], "has no JWT"),
            (vec!["jwtToken=a.!!.c"], "no claims"),
            (vec!["jwtToken=a.e30.c"], "no claims"),
            (vec![&endless], "no claims"),
            (vec![&other], "another user"),
            (vec![&long], "more than 8192 bytes"),
            (vec!["LtpaToken2=a b"], "not allowed"),
            (vec!["LtpaToken2=\u{e4}"], "not allowed"),
        ] {
            let Err(reason) = read(&cookies) else { panic!("{cookies:?}") };
            assert!(reason.contains(want), "{cookies:?}: {reason}");
        }
    }
}
