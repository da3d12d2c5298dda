//! A client for the login service of z/OSMF (IBM's management server on z/OS).

use std::{fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    session::{JWT, ZosmfSession},
    sessions::ZosmfSessions,
};
use crate::{
    clock::Timestamp,
    log_limit::log_limited,
    passticket::UserId,
    remote::{Address, Client, Connect, RemoteError, Reply, UserToken},
};

/// The path of the login service.
const AUTHENTICATE: [&str; 3] = ["zosmf", "services", "authenticate"];

/// The path of the keys with which z/OSMF signs its JWTs.
const KEYS: [&str; 5] = ["jwt", "ibm", "api", "zOSMFBuilder", "jwk"];

/// z/OSMF refuses requests that do not have this header. The value may be empty.
const CSRF: HeaderName = HeaderName::from_static("x-csrf-zosmf-header");

/// In a response to a password change, this code of z/OSMF means an internal error. The code 0 means success. All other
/// codes mean that z/OSMF refuses the change.
const INTERNAL_ERROR: i64 = 4;

/// Calls the login service of z/OSMF, `/zosmf/services/authenticate` (`docs/reference/zowe-site.md#zosmf`).
///
/// A request with a password is sent at most once, because the security product counts wrong passwords. Only a response
/// that is known to mean a refusal counts as a refusal of the password. A response that the client does not know is
/// another error. Redirects are not followed.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use hyper_util::client::legacy::connect::HttpConnector;
/// use tower_passticket::{
///     remote::{Client, ClientLimits},
///     zosmf::Zosmf,
/// };
///
/// // For TLS, use `tls::Connector` instead of `HttpConnector`.
/// let client = Client::new(HttpConnector::new(), ClientLimits::default());
/// let zosmf = Zosmf::new(client, "http://localhost:10443".parse()?);
/// # Ok(())
/// # }
/// ```
pub struct Zosmf<C> {
    client: Client<C>,
    address: Address,
}

impl<C> Zosmf<C> {
    /// Calls z/OSMF at `address` with `client`. `address` is the address of the server, without `/zosmf`.
    pub fn new(client: Client<C>, address: Address) -> Self {
        Self { client, address }
    }

    /// Returns the address of z/OSMF.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl<C: Connect> Zosmf<C> {
    /// Logs `user` in, and stores the session in `sessions`. `password` is a password, or a PassTicket (a one-time
    /// password of z/OS) for the APPLID (application name) of z/OSMF. This may remove other sessions from `sessions`,
    /// such as the earlier session of the user. If they have not expired, this function ends them at z/OSMF in the
    /// background.
    ///
    /// # Errors
    /// [`ZosmfError::Refused`] if z/OSMF answers 401. [`ZosmfError::Remote`] with the errors of [`Client::call_once`],
    /// or if the response is not a login.
    pub async fn log_in(
        &self,
        user: &UserId,
        password: &[u8],
        sessions: &ZosmfSessions,
    ) -> Result<(), ZosmfError> {
        let session = self.open_session(user, password, sessions.clock().now()).await?;
        for (user, session) in sessions.keep(*user, session) {
            self.end(user, session);
        }
        Ok(())
    }

    /// Logs `user` in, and returns the session. `password` is a password or a PassTicket for the APPLID of z/OSMF.
    /// `now` is the current time.
    ///
    /// # Errors
    /// The errors of [`log_in`](Self::log_in).
    pub async fn open_session(
        &self,
        user: &UserId,
        password: &[u8],
        now: Timestamp,
    ) -> Result<ZosmfSession, ZosmfError> {
        let mut request = self.request(Method::POST, &AUTHENTICATE, Full::default())?;
        request.headers_mut().insert(AUTHORIZATION, basic(user, password));
        let reply = self.client.call_once(request).await?;
        decide_login(&reply, user, now)
    }

    /// Ends a session at z/OSMF in the background. This function needs a Tokio runtime.
    pub(crate) fn end(&self, user: UserId, session: Arc<ZosmfSession>) {
        let zosmf = self.clone();
        tokio::spawn(async move {
            if let Err(error) = zosmf.log_out(&session).await {
                let address = zosmf.address();
                log_limited!(warn, ("z/OSMF logout", address), { %address, %user, %error }, "the session at z/OSMF could not be ended; it is valid until it expires");
            }
        });
    }

    /// Replaces the password `old` of `user` with `new`.
    ///
    /// # Errors
    /// [`ZosmfError::Refused`] if z/OSMF refuses the old or the new password. The response does not say which of the
    /// two. [`ZosmfError::Remote`] with the errors of [`Client::call_once`]. Also [`ZosmfError::Remote`] if z/OSMF
    /// reports an internal error, cannot change passwords, or sends an unknown response.
    pub async fn change_password(
        &self,
        user: &UserId,
        old: &str,
        new: &str,
    ) -> Result<(), ZosmfError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct PasswordChange<'a> {
            #[serde(rename = "userID")]
            user: &'a str,
            old_pwd: &'a str,
            new_pwd: &'a str,
        }

        let change = PasswordChange { user: user.as_str(), old_pwd: old, new_pwd: new };
        let body = serde_json::to_vec(&change).map_err(|error| {
            ZosmfError::Remote(RemoteError::Answer(format!("cannot encode as JSON: {error}")))
        })?;
        let mut request = self.request(Method::PUT, &AUTHENTICATE, Full::from(body))?;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        decide_change(&self.client.call_once(request).await?)
    }

    /// Ends a session at z/OSMF. Returns `Ok` if the session has already ended.
    ///
    /// # Errors
    /// [`ZosmfError::Remote`] with the errors of [`Client::call_once`], or if the response does not show that the
    /// session has ended. After an error, some of the tokens may still be valid.
    pub async fn log_out(&self, session: &ZosmfSession) -> Result<(), ZosmfError> {
        // A logout ends only one token, so each token of the session needs its own logout.
        let mut all_ended = Ok(());
        for (cookie, token) in session.cookies() {
            let ended = self.end_token(cookie, token).await.map_err(ZosmfError::Remote);
            all_ended = all_ended.and(ended);
        }
        all_ended
    }

    /// Ends the session of a JWT that z/OSMF has issued. Returns `Ok` if z/OSMF already refuses the token.
    ///
    /// # Errors
    /// The errors of [`Client::call_once`]. Also [`RemoteError`] if the response does not show that the session has
    /// ended.
    pub async fn log_out_jwt(&self, token: &UserToken) -> Result<(), RemoteError> {
        self.end_token(JWT, token).await
    }

    async fn end_token(&self, cookie: &str, token: &UserToken) -> Result<(), RemoteError> {
        let mut request = self.request(Method::DELETE, &AUTHENTICATE, Full::default())?;
        token.set_cookie(cookie, &mut request);
        let reply = self.client.call_once(request).await?;
        match reply.status() {
            StatusCode::UNAUTHORIZED => Ok(()),
            _ => reply.successful().map(drop),
        }
    }

    /// Asks whether z/OSMF accepts the JWT `token`. The signature of the token does not show whether the user has
    /// logged out.
    ///
    /// # Errors
    /// The errors of [`Client::call`]. Also [`RemoteError`] if z/OSMF answers neither 2xx nor 401, or answers 2xx with
    /// an HTML page.
    pub async fn accepts(&self, token: &UserToken) -> Result<bool, RemoteError> {
        let mut request = self.request(Method::POST, &AUTHENTICATE, Full::default())?;
        token.set_cookie(JWT, &mut request);
        decide_validation(&self.client.call(request).await?)
    }

    /// Fetches the keys with which z/OSMF signs its JWTs, as a JWK set.
    ///
    /// # Errors
    /// The errors of [`Client::call`]. Also [`RemoteError`] if z/OSMF does not answer with a status 2xx.
    pub async fn public_keys(&self) -> Result<Bytes, RemoteError> {
        let request = self.request(Method::GET, &KEYS, Full::default())?;
        self.client.call(request).await?.successful().map(Reply::into_body)
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        body: Full<Bytes>,
    ) -> Result<Request<Full<Bytes>>, RemoteError> {
        let mut request = Request::new(body);
        (*request.method_mut(), *request.uri_mut()) = (method, self.address.endpoint(path)?);
        let headers = request.headers_mut();
        headers.insert(CSRF, HeaderValue::from_static(""));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        Ok(request)
    }
}

impl<C: Clone> Clone for Zosmf<C> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), address: self.address.clone() }
    }
}

impl<C> fmt::Debug for Zosmf<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zosmf").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The reason why a call of z/OSMF failed. The error contains no part of a password or a token, so it may be logged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ZosmfError {
    /// z/OSMF refuses the user or the password. The password may be wrong or expired, or the user may be revoked. At a
    /// password change, z/OSMF may also refuse the new password.
    #[error("z/OSMF refuses the user or the password")]
    Refused,
    /// z/OSMF is not available, or its response cannot be used.
    #[error("z/OSMF: {0}")]
    Remote(#[from] RemoteError),
}

/// Returns the header value `Basic` (RFC 7617), with the unchanged bytes of the password.
fn basic(user: &UserId, password: &[u8]) -> HeaderValue {
    let plain = Zeroizing::new([user.as_str().as_bytes(), b":", password].concat());
    let text = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(&*plain)));
    let mut value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

fn decide_login(reply: &Reply, user: &UserId, now: Timestamp) -> Result<ZosmfSession, ZosmfError> {
    match reply.status() {
        StatusCode::UNAUTHORIZED => Err(ZosmfError::Refused),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Err(missing(reply.status())),
        status if status.is_success() => ZosmfSession::from_cookies(reply.headers(), user, now)
            .map_err(|reason| {
                let status = status.as_u16();
                ZosmfError::Remote(RemoteError::Answer(format!("status {status}, but {reason}")))
            }),
        _ => Err(reply.unexpected_status().into()),
    }
}

/// An HTML page with a status 2xx, such as a login page, is an error.
fn decide_validation(reply: &Reply) -> Result<bool, RemoteError> {
    let is_page = reply.headers().get(CONTENT_TYPE).is_some_and(|value| {
        value.as_bytes().get(..9).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/html"))
    });
    match reply.status() {
        StatusCode::UNAUTHORIZED => Ok(false),
        status if status.is_success() && !is_page => Ok(true),
        _ => Err(reply.unexpected_status()),
    }
}

/// Decides whether the password was changed. A 401 is always a refusal. A redirect, a 404 or a 405 is always an error.
/// With another status, a response is a refusal only if its body is the JSON of z/OSMF with the code of a refusal
/// (`docs/reference/zowe-site.md#zosmf`).
fn decide_change(reply: &Reply) -> Result<(), ZosmfError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Outcome {
        return_code: i64,
    }

    let code = reply.json::<Outcome>().map(|outcome| outcome.return_code);
    match (reply.status(), code) {
        (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED, _) => Err(missing(reply.status())),
        (StatusCode::UNAUTHORIZED, _) => Err(ZosmfError::Refused),
        (status, Ok(0)) if status.is_success() => Ok(()),
        (_, Ok(INTERNAL_ERROR)) => Err(reply.unexpected_status().into()),
        (status, Ok(code)) if code != 0 && !status.is_redirection() => Err(ZosmfError::Refused),
        _ => Err(reply.unexpected_status().into()),
    }
}

fn missing(status: StatusCode) -> ZosmfError {
    let status = status.as_u16();
    ZosmfError::Remote(RemoteError::Answer(format!(
        "status {status}: /zosmf/services/authenticate does not exist for this method; check the address, and the \
         release of z/OSMF"
    )))
}

#[cfg(test)]
mod tests {
    use http::header::SET_COOKIE;
    use test_support::tickets::user;

    use super::*;

    fn kind<T>(result: Result<T, ZosmfError>) -> &'static str {
        match result {
            Ok(_) => "ok",
            Err(ZosmfError::Refused) => "refused",
            Err(ZosmfError::Remote(RemoteError::Unavailable(_))) => "unavailable",
            Err(ZosmfError::Remote(RemoteError::Answer(_))) => "answer",
        }
    }

    #[test]
    fn only_401_refuses_a_password_and_only_a_token_is_a_login() {
        let login = |status: u16, cookie: Option<&str>| {
            let reply = Reply::new(StatusCode::from_u16(status).unwrap(), "<html>Log in</html>");
            let reply = match cookie {
                None => reply,
                Some(cookie) => reply.with_header(SET_COOKIE, cookie),
            };
            kind(decide_login(&reply, &user("USER"), Timestamp::from_secs(1000)))
        };
        for status in [200, 204] {
            assert_eq!(login(status, Some("LtpaToken2=x")), "ok");
            assert_eq!(login(status, None), "answer");
        }
        for (status, want) in [
            (401, "refused"),
            (301, "answer"),
            (302, "answer"),
            (400, "answer"),
            (403, "answer"),
            (404, "answer"),
            (405, "answer"),
            (429, "answer"),
            (500, "unavailable"),
            (503, "unavailable"),
        ] {
            assert_eq!(login(status, Some("LtpaToken2=x")), want, "{status}");
        }
    }

    #[test]
    fn a_token_is_valid_after_a_2xx_unless_the_response_is_an_html_page() {
        for (status, kind, want) in [
            (200, None, Some(true)),
            (204, None, Some(true)),
            (200, Some("application/json"), Some(true)),
            (200, Some("text/html"), None),
            (200, Some("Text/HTML; charset=utf-8"), None),
            (401, None, Some(false)),
            (401, Some("text/html"), Some(false)),
            (302, None, None),
            (403, None, None),
            (404, None, None),
            (405, None, None),
            (500, None, None),
        ] {
            let reply = Reply::new(StatusCode::from_u16(status).unwrap(), "");
            let reply = match kind {
                None => reply,
                Some(kind) => reply.with_header(CONTENT_TYPE, kind),
            };
            assert_eq!(decide_validation(&reply).ok(), want, "{status} {kind:?}");
        }
    }

    #[test]
    fn a_password_change_is_decided_by_status_and_return_code() {
        for (status, body, want) in [
            (200, r#"{"returnCode":0,"reasonCode":0,"message":"Success."}"#, "ok"),
            (204, "", "answer"),
            (200, "", "answer"),
            (200, r#"{"returnCode":8,"reasonCode":1}"#, "refused"),
            (200, "<html>Log in</html>", "answer"),
            (200, "{}", "answer"),
            (302, "", "answer"),
            (302, r#"{"returnCode":8}"#, "answer"),
            (400, r#"{"returnCode":8,"reasonCode":0}"#, "refused"),
            (400, "", "answer"),
            (401, "<html>", "refused"),
            (403, "<html>", "answer"),
            (404, r#"{"returnCode":8}"#, "answer"),
            (405, "", "answer"),
            (500, r#"{"returnCode":4,"reasonCode":0}"#, "unavailable"),
            (500, r#"{"returnCode":8,"reasonCode":0}"#, "refused"),
            (500, r#"{"returnCode":0}"#, "unavailable"),
            (500, "<html>", "unavailable"),
            (503, "", "unavailable"),
        ] {
            let reply = Reply::new(StatusCode::from_u16(status).unwrap(), body);
            assert_eq!(kind(decide_change(&reply)), want, "{status} {body}");
        }
    }

    #[test]
    fn the_basic_header_has_the_bytes_of_the_password_and_debug_hides_it() {
        let value = basic(&user("USER"), b"a:b\xE4");
        assert_eq!(value, "Basic VVNFUjphOmLk");
        assert_eq!(format!("{value:?}"), "Sensitive");
    }
}
