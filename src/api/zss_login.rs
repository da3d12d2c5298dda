//! Checks passwords with ZSS.

use std::fmt;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, SET_COOKIE},
};
use http_body_util::Full;
use serde::{Deserialize, Serialize};

use super::{
    platform_error::PlatformError,
    provider::{LoginError, LoginFuture, LoginProvider, Password},
};
use crate::{
    log_limit::log_limited,
    passticket::UserId,
    remote::{Address, Client, Connect, RemoteError, Reply},
};

/// A login provider that checks passwords with ZSS (Zowe System Services, a server on z/OS). ZSS asks SAF, the z/OS
/// interface to the security product (`docs/reference/zowe-site.md#zss-login`).
///
/// If ZSS refuses a login, the error is [`LoginError::Platform`], as with the login provider `saf` of API ML (Zowe's
/// API Mediation Layer). If ZSS refuses only the new password, the error is [`LoginError::NewPasswordRefused`]. The
/// provider sends each request at most once, because the security product counts wrong passwords. If a response is not
/// a known answer of ZSS, the error is [`LoginError::Unavailable`], and the login throttle does not count the login as
/// a failure.
pub struct ZssLogin<C> {
    client: Client<C>,
    address: Address,
}

impl<C> ZssLogin<C> {
    /// Calls ZSS at `address` with `client`. `address` is the address of the server, such as
    /// `https://zss.example:7557`, or the address of ZSS behind Zowe's gateway, such as
    /// `https://gw.example:7554/zss/api/v1`.
    pub fn new(client: Client<C>, address: Address) -> Self {
        Self { client, address }
    }
}

impl<C> fmt::Debug for ZssLogin<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZssLogin").field("address", &self.address).finish_non_exhaustive()
    }
}

impl<C: Connect> LoginProvider for ZssLogin<C> {
    fn login(&self, user: UserId, password: Password) -> LoginFuture {
        self.ask(Endpoint::Login, user, password, None)
    }

    fn change_password(
        &self,
        user: UserId,
        password: Password,
        new: Password,
    ) -> Option<LoginFuture> {
        Some(self.ask(Endpoint::Password, user, password, Some(new)))
    }
}

#[derive(Clone, Copy)]
enum Endpoint {
    Login,
    Password,
}

impl<C: Connect> ZssLogin<C> {
    fn ask(
        &self,
        endpoint: Endpoint,
        user: UserId,
        password: Password,
        new: Option<Password>,
    ) -> LoginFuture {
        let (client, address) = (self.client.clone(), self.address.clone());
        Box::pin(async move {
            let request = request(&address, endpoint, &user, &password, new.as_ref())?;
            let reply = client.call_once(request).await;
            let answer = reply.and_then(|reply| match endpoint {
                Endpoint::Login => decide_login(&reply),
                Endpoint::Password => decide_change(&reply),
            });
            match answer {
                Ok(Answer::Accepted) => Ok(user),
                Ok(Answer::Refused(error)) => Err(error),
                Err(error) => {
                    log_limited!(warn, ("ZSS login", &address), { %address, %error }, "login at ZSS failed");
                    Err(LoginError::Unavailable)
                }
            }
        })
    }
}

fn request(
    address: &Address,
    endpoint: Endpoint,
    user: &UserId,
    password: &Password,
    new: Option<&Password>,
) -> Result<Request<Full<Bytes>>, LoginError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Credentials<'a> {
        username: &'a str,
        password: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        new_password: Option<&'a str>,
    }

    // JSON can contain only Unicode text.
    let wrong = LoginError::Platform(PlatformError::Malformed);
    let text = |password: &Password| str::from_utf8(password.expose()).map(str::to_owned);
    let (password, new) = match (text(password), new.map(text).transpose()) {
        (Ok(password), Ok(new)) => {
            (zeroize::Zeroizing::new(password), new.map(zeroize::Zeroizing::new))
        }
        _ => return Err(wrong),
    };
    let credentials = Credentials {
        username: user.as_str(),
        password: &password,
        new_password: new.as_ref().map(|new| new.as_str()),
    };
    let body = serde_json::to_vec(&credentials).map_err(|_| wrong)?;
    let path = match endpoint {
        Endpoint::Login => "login",
        Endpoint::Password => "password",
    };
    let mut request = Request::new(Full::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = address.join(&[path]).ok_or(LoginError::Unavailable)?;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(ACCEPT, json.clone());
    request.headers_mut().insert(CONTENT_TYPE, json);
    Ok(request)
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Accepted,
    Refused(LoginError),
}

#[derive(Deserialize)]
struct Status {
    status: String,
}

const fn refused(error: PlatformError) -> Result<Answer, RemoteError> {
    Ok(Answer::Refused(LoginError::Platform(error)))
}

/// Decides whether ZSS has accepted the password. A login begins a session, so a 200 without a session cookie does not
/// count as accepted, even if the body says `OK`. A refusal has no JSON body, so only its status counts.
fn decide_login(reply: &Reply) -> Result<Answer, RemoteError> {
    match reply.status() {
        StatusCode::OK => match reply.json::<Status>()?.status.as_str() {
            "OK" if begins_session(reply) => Ok(Answer::Accepted),
            "OK" => Err(RemoteError::Answer("status 200, but no cookie of a session".to_owned())),
            _ => Err(RemoteError::Answer("status 200, but the login is not OK".to_owned())),
        },
        StatusCode::UNAUTHORIZED => refused(PlatformError::WrongPassword),
        StatusCode::PRECONDITION_REQUIRED => refused(PlatformError::PasswordExpired),
        _ => Err(reply.unexpected_status()),
    }
}

/// Returns whether a response sets a session cookie. The name of the cookie is `jedHTTPSession`. Newer releases of ZSS
/// append the port or the id of the installation to this name.
fn begins_session(reply: &Reply) -> bool {
    reply.headers().get_all(SET_COOKIE).iter().any(|line| {
        let Some(rest) = line.as_bytes().strip_prefix(b"jedHTTPSession") else { return false };
        let mut parts = rest.splitn(2, |b| *b == b'=');
        let (suffix, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
        let is_name = suffix.is_empty() || suffix.starts_with(b".") || suffix.starts_with(b"_");
        is_name && !value[..end].trim_ascii().is_empty()
    })
}

fn decide_change(reply: &Reply) -> Result<Answer, RemoteError> {
    /// The beginning of the text of most errors. The error number follows. ZSS has other texts for some errors.
    const FAILED: &str = "Password reset FAILED with return code: ";

    let text = reply.json::<Status>().map(|Status { status }| status);
    match (reply.status(), text.as_deref()) {
        (StatusCode::OK, Ok("Password Successfully Reset")) => Ok(Answer::Accepted),
        (StatusCode::UNAUTHORIZED, _) => refused(PlatformError::WrongPassword),
        (StatusCode::TOO_MANY_REQUESTS, Ok(_)) => refused(PlatformError::UserRevoked),
        (StatusCode::BAD_REQUEST, Ok(text)) => match text.strip_prefix(FAILED) {
            Some(rest) => {
                let digits = rest.split(' ').next().and_then(|number| number.parse().ok());
                match PlatformError::from_errno(digits.unwrap_or_default()) {
                    Some(error) => refused(error),
                    None => Ok(Answer::Refused(LoginError::NewPasswordRefused)),
                }
            }
            None if text.starts_with("The new password format is incorrect") => {
                Ok(Answer::Refused(LoginError::NewPasswordRefused))
            }
            // ZSS sends this text if the password has expired (EMVSEXPIRE).
            None if text == "No new password provided" => refused(PlatformError::PasswordExpired),
            None => Err(reply.unexpected_status()),
        },
        _ => Err(reply.unexpected_status()),
    }
}

#[cfg(test)]
mod tests {
    use test_support::tickets::user;

    use super::*;

    fn shown(answer: &Result<Answer, RemoteError>) -> &'static str {
        match answer {
            Ok(Answer::Accepted) => "ok",
            Ok(Answer::Refused(LoginError::NewPasswordRefused)) => "new password",
            Ok(Answer::Refused(LoginError::Platform(PlatformError::WrongPassword))) => "EACCES",
            Ok(Answer::Refused(LoginError::Platform(PlatformError::PasswordExpired))) => {
                "EMVSEXPIRE"
            }
            Ok(Answer::Refused(LoginError::Platform(PlatformError::UserRevoked))) => {
                "EMVSSAFEXTRERR"
            }
            Ok(Answer::Refused(LoginError::Platform(PlatformError::NotPermitted))) => "EPERM",
            Ok(Answer::Refused(_)) => "refused",
            Err(RemoteError::Unavailable(_)) => "unavailable",
            Err(RemoteError::Answer(_)) => "answer",
        }
    }

    fn reply(status: u16, body: &str) -> Reply {
        Reply::new(StatusCode::from_u16(status).unwrap(), body)
    }

    #[test]
    fn a_login_begins_a_session() {
        for (cookies, want) in [
            (&["jedHTTPSession=x; Path=/"][..], "ok"),
            (&["jedHTTPSession.7557=x; Path=/; HttpOnly"], "ok"),
            (&["a=b", "jedHTTPSession_1=x"], "ok"),
            (&[], "answer"),
            (&["a=b"], "answer"),
            (&["jedHTTPSession=; Max-Age=0"], "answer"),
            (&["jedHTTPSession"], "answer"),
            (&["jedHTTPSessions=x"], "answer"),
            (&["x; jedHTTPSession=x"], "answer"),
        ] {
            let mut reply = reply(200, r#"{"status":"OK"}"#);
            for cookie in cookies {
                reply = reply.with_header(SET_COOKIE, cookie);
            }
            assert_eq!(shown(&decide_login(&reply)), want, "{cookies:?}");
        }
    }

    #[test]
    fn a_login_is_decided_by_the_status() {
        for (status, body, want) in [
            (200, r#"{"status":"OK"}"#, "ok"),
            (200, r#"{"status":"NO"}"#, "answer"),
            (200, "<html>Log in</html>", "answer"),
            (200, "", "answer"),
            (201, r#"{"status":"OK"}"#, "answer"),
            (302, "", "answer"),
            (401, "Not Authorized", "EACCES"),
            (428, "Password Expired", "EMVSEXPIRE"),
            (403, "", "answer"),
            (404, "", "answer"),
            (429, "", "answer"),
            (500, "", "unavailable"),
            (503, "", "unavailable"),
        ] {
            let reply = reply(status, body).with_header(SET_COOKIE, "jedHTTPSession=x");
            assert_eq!(shown(&decide_login(&reply)), want, "{status} {body}");
        }
    }

    #[test]
    fn a_password_change_is_decided_by_status_and_text() {
        let failed = |errno| {
            format!(
                r#"{{"status":"Password reset FAILED with return code: {errno} reason code: 1"}}"#
            )
        };
        let text = |text| format!(r#"{{"status":"{text}"}}"#);
        for (status, body, want) in [
            (200, text("Password Successfully Reset"), "ok"),
            (200, text("OK"), "answer"),
            (200, "<html>".to_owned(), "answer"),
            (401, text("Username or password is incorrect. Please try again."), "EACCES"),
            (400, text("No new password provided"), "EMVSEXPIRE"),
            (400, text("The new password format is incorrect. Please try again."), "new password"),
            (429, text("Incorrect password or account is locked."), "EMVSSAFEXTRERR"),
            (429, "slow down".to_owned(), "answer"),
            (400, failed(139), "EPERM"),
            (400, failed(169), "new password"),
            (400, failed(9999), "refused"),
            (400, text("No body found"), "answer"),
            (400, "<html>".to_owned(), "answer"),
            (302, String::new(), "answer"),
            (405, text("Method Not Allowed"), "answer"),
            (500, String::new(), "unavailable"),
        ] {
            assert_eq!(shown(&decide_change(&reply(status, &body))), want, "{status} {body}");
        }
    }

    #[test]
    fn a_password_that_is_not_text_is_not_sent() {
        let address: Address = "https://zss.example:7557".parse().unwrap();
        let login = |password: &[u8]| {
            request(&address, Endpoint::Login, &user("USER"), &Password::new(password), None)
        };
        assert_eq!(login(b"a").unwrap().uri(), "https://zss.example:7557/login");
        let error = login(b"\xE4").unwrap_err();
        assert_eq!(error, LoginError::Platform(PlatformError::Malformed));
    }
}
