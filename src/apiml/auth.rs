//! The auth endpoints of API ML (Zowe's API Mediation Layer).

use std::fmt;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    passticket::UserId,
    remote::{Address, Client, Connect, RemoteError, Reply},
};

const AUTH: [&str; 4] = ["gateway", "api", "v1", "auth"];

/// Calls the auth endpoints of a running Zowe API ML (`docs/reference/zowe-site.md#logout`).
///
/// A call sends the token of a user only to the given address, and follows no redirects. A response that API ML does
/// not send, such as an HTML page, never means that a token is valid or logged out: the call returns an error.
///
/// The client that is passed to [`new`](Self::new) must verify the certificate and the host name of the server. Without
/// this check, another server could answer with its own keys, and sign tokens for any user.
pub struct Apiml<C> {
    client: Client<C>,
    address: Address,
}

impl<C> Apiml<C> {
    /// Calls API ML at `address` with `client`. `address` is the address of API ML's gateway, such as
    /// `https://zowe.example:7554`.
    pub fn new(client: Client<C>, address: Address) -> Self {
        Self { client, address }
    }

    /// Returns the address of API ML.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl<C: Connect> Apiml<C> {
    /// Fetches the certificates of API ML in PEM, with the leaf certificate first (`GET /gateway/certificates`).
    ///
    /// # Errors
    /// The errors of [`Client::call`]. Also [`RemoteError`] if API ML does not answer with a status 2xx.
    pub async fn certificates(&self) -> Result<Bytes, RemoteError> {
        self.get(&["gateway", "certificates"], None).await?.successful().map(Reply::into_body)
    }

    /// Fetches the list of public keys (`keys/public/all`). It contains the keys of API ML, of z/OSMF (IBM's management
    /// server on z/OS), **and of identity providers**.
    ///
    /// # Errors
    /// The errors of [`Client::call`]. Also [`RemoteError`] if API ML does not answer with a status 2xx.
    pub async fn public_keys(&self) -> Result<Bytes, RemoteError> {
        let path = [&AUTH[..], &["keys", "public", "all"]].concat();
        self.get(&path, None).await?.successful().map(Reply::into_body)
    }

    /// Asks (`GET query`) whether API ML still accepts the login token `token` of `user`.
    ///
    /// # Errors
    /// The errors of [`Client::call`]. Also [`RemoteError`] if the response is neither 401 nor the content of a token
    /// of `user`.
    pub async fn accepts_login_token(
        &self,
        token: &str,
        user: &UserId,
    ) -> Result<bool, RemoteError> {
        let path = [&AUTH[..], &["query"]].concat();
        decide_query(&self.get(&path, Some(token)).await?, user)
    }

    /// Asks (`POST access-token/validate`) whether API ML still accepts the Personal Access Token `token` for
    /// `service`.
    ///
    /// # Errors
    /// The errors of [`Client::call`]. Also [`RemoteError`] if the response is neither 401 nor an empty 200 or 204.
    pub async fn accepts_pat(&self, token: &str, service: &str) -> Result<bool, RemoteError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Validation<'a> {
            token: &'a str,
            service_id: &'a str,
        }

        let body = serde_json::to_vec(&Validation { token, service_id: service });
        let body = body.map_err(|_| RemoteError::Answer("cannot encode as JSON".to_owned()))?;
        let uri = self.address.endpoint(&[&AUTH[..], &["access-token", "validate"]].concat())?;
        let mut request = Request::new(Full::from(body));
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, uri);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        decide_validation(&self.client.call(request).await?)
    }

    /// Logs a user out (`POST logout`). After that, API ML and the z/OSMF that API ML uses refuse the login token
    /// `token`. Also returns `Ok` for a 401, because API ML then already refuses the token.
    ///
    /// # Errors
    /// The errors of [`Client::call`]. Also [`RemoteError`] if the response is neither 401 nor an empty 200 or 204.
    pub async fn log_out(&self, token: &str) -> Result<(), RemoteError> {
        let mut request = Request::new(Full::default());
        let uri = self.address.endpoint(&[&AUTH[..], &["logout"]].concat())?;
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, uri);
        request.headers_mut().insert(AUTHORIZATION, bearer(token)?);
        decide_validation(&self.client.call(request).await?).map(drop)
    }

    async fn get(&self, path: &[&str], token: Option<&str>) -> Result<Reply, RemoteError> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = self.address.endpoint(path)?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(token) = token {
            request.headers_mut().insert(AUTHORIZATION, bearer(token)?);
        }
        self.client.call(request).await
    }
}

impl<C: Clone> Clone for Apiml<C> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), address: self.address.clone() }
    }
}

impl<C> fmt::Debug for Apiml<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Apiml").field("address", &self.address).finish_non_exhaustive()
    }
}

pub(super) fn bearer(token: &str) -> Result<HeaderValue, RemoteError> {
    let text = Zeroizing::new(format!("Bearer {token}"));
    let value = HeaderValue::from_str(&text);
    let mut value =
        value.map_err(|_| RemoteError::Answer("the token is not a header value".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Decides whether the token is valid. A 200 counts only if the body is the content of the token: an HTML page, such as
/// a login page, may also have the status 200.
fn decide_query(reply: &Reply, user: &UserId) -> Result<bool, RemoteError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Content {
        user_id: String,
    }

    match reply.status() {
        StatusCode::UNAUTHORIZED => Ok(false),
        StatusCode::OK => {
            let content = reply.json::<Content>().map_err(|_| {
                RemoteError::Answer("status 200, but not the content of a token".to_owned())
            })?;
            match UserId::new(&content.user_id) {
                Ok(found) if found == *user => Ok(true),
                _ => Err(RemoteError::Answer("the token is for another user".to_owned())),
            }
        }
        _ => Err(reply.unexpected_status()),
    }
}

/// Decides whether the token is valid. API ML documents the status 200, but answers 204.
fn decide_validation(reply: &Reply) -> Result<bool, RemoteError> {
    match reply.status() {
        StatusCode::UNAUTHORIZED => Ok(false),
        StatusCode::OK | StatusCode::NO_CONTENT if reply.body().is_empty() => Ok(true),
        _ => Err(reply.unexpected_status()),
    }
}

#[cfg(test)]
mod tests {
    use test_support::tickets::user;

    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply::new(StatusCode::from_u16(status).unwrap(), body)
    }

    #[test]
    fn only_the_content_of_the_token_shows_that_it_is_valid() {
        let content = r#"{"domain":"security-domain","userId":"user","creation":1,"expiration":2,"expired":false}"#;
        for (status, body, want) in [
            (200, content, Some(true)),
            (401, content, Some(false)),
            (401, "", Some(false)),
            (200, r#"{"userId":"OTHER"}"#, None),
            (200, "<html>Log in</html>", None),
            (200, "", None),
            (200, "{}", None),
            (204, "", None),
            (302, "", None),
            (400, "", None),
            (403, "", None),
            (404, "", None),
            (500, content, None),
            (503, "", None),
        ] {
            let got = decide_query(&reply(status, body), &user("USER"));
            assert_eq!(got.ok(), want, "{status} {body}");
        }
    }

    #[test]
    fn only_an_empty_success_shows_that_a_pat_is_valid() {
        for (status, body, want) in [
            (204, "", Some(true)),
            (200, "", Some(true)),
            (401, "", Some(false)),
            (401, r#"{"messages":[]}"#, Some(false)),
            (200, "<html>", None),
            (201, "", None),
            (302, "", None),
            (404, "", None),
            (500, "", None),
        ] {
            assert_eq!(decide_validation(&reply(status, body)).ok(), want, "{status} {body}");
        }
    }

    #[test]
    fn debug_hides_the_bearer_token() {
        assert_eq!(bearer("a.b.c").unwrap(), "Bearer a.b.c");
        assert_eq!(format!("{:?}", bearer("a.b.c").unwrap()), "Sensitive");
        assert!(bearer("a\r\nb").is_err());
    }
}
