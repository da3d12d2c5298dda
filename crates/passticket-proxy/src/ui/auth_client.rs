//! Calls the auth API inside the process. The pages log in and change tokens only with these calls. So the same
//! throttle, permissions, limits and audit records apply to pages and to programs.

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{ACCEPT, CONTENT_TYPE, COOKIE, HOST, ORIGIN, RETRY_AFTER, SET_COOKIE, USER_AGENT},
    request::Parts,
    uri::PathAndQuery,
};
use http_body_util::{BodyExt, Full};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tower::ServiceExt;
use tower_passticket::{
    api::AuthApi, identity::PeerCertificate, messages::ApiMessage, passticket::UserId,
    token::ServiceId,
};
use zeroize::Zeroizing;

use super::{cookies, form::query, paths::TokenId};

static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The headers of the browser that are passed on to the auth API. `Host` contains the address that the browser
/// requested. `Origin` and `Sec-Fetch-Site` show whether a page of another origin has sent the request
/// (docs/decisions.md#d25).
static PASSED_ON: [&HeaderName; 4] = [&HOST, &ORIGIN, &SEC_FETCH_SITE, &USER_AGENT];

/// The maximum number of pages that one call reads. A user has at most 1000 entries in the registry. They fit into this
/// number of pages, even if the pages are not full.
const MAX_PAGES: usize = 40;

#[derive(Clone)]
pub(super) struct AuthClient {
    api: AuthApi,
    /// The name of the login cookie.
    cookie: String,
}

/// The parts of a browser's request that the calls of the auth API need.
pub(super) struct Browser {
    uri: Uri,
    headers: HeaderMap,
    /// The address of the client, the id of the request, and so on, but not the client certificate.
    extensions: Extensions,
    certificate: Option<PeerCertificate>,
    login_token: Option<Zeroizing<Vec<u8>>>,
}

impl Browser {
    pub(super) fn certificate(&self) -> Option<&PeerCertificate> {
        self.certificate.as_ref()
    }

    /// Returns whether the request has a login cookie. Its token may be invalid.
    pub(super) fn has_login_cookie(&self) -> bool {
        self.login_token.is_some()
    }
}

/// The credential of a call. The request of the browser may have several credentials. The page passes at most one of
/// them to the auth API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credential {
    None,
    LoginCookie,
    Certificate,
}

/// The auth API has refused a call.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// The message. `None` if the answer has none.
    pub(super) message: Option<ApiMessage>,
    pub(super) retry_after: Option<HeaderValue>,
}

impl Refusal {
    /// Returns the number of the message, such as `ZWEAG120E`.
    pub(super) fn number(&self) -> &'static str {
        self.message.as_ref().map_or("", ApiMessage::number)
    }

    /// Returns the refusal for a failed call: the call could not be made, or its answer has an unexpected form.
    fn malformed() -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message: None, retry_after: None }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    pub(super) user_id: String,
}

/// A Personal Access Token in the registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Token {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) name: Option<String>,
    pub(super) description: String,
    pub(super) scopes: Vec<String>,
    pub(super) created_at: String,
    pub(super) expires_at: String,
    pub(super) last_used_at: Option<String>,
    pub(super) last_used_from: Option<String>,
    pub(super) last_used_service: Option<String>,
    pub(super) state: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Permissions {
    /// See and revoke the tokens of other users. A user without this permission is no administrator.
    pub(super) manage_tokens: bool,
    pub(super) evict: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Evicted {
    pub(super) tokens: u64,
    pub(super) users: u64,
    pub(super) services: u64,
}

/// The filter for a list of the tokens of users.
#[derive(Clone, Debug, Default)]
pub(super) struct UsersTokenFilter {
    /// Only the tokens of this user. If the text is empty, the tokens of all users.
    pub(super) user: String,
    pub(super) service: String,
    pub(super) of: TokenFilter,
}

/// The tokens that an administrator revokes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RuleTarget {
    User(UserId),
    Service(ServiceId),
}

impl RuleTarget {
    /// Returns the name and the value of the query parameter that selects these tokens in the auth API.
    pub(super) fn parameter(&self) -> (&'static str, &str) {
        match self {
            Self::User(user) => ("user", user.as_str()),
            Self::Service(service) => ("service", service.as_str()),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct TokenPage {
    pub(super) tokens: Vec<Token>,
    pub(super) next: Option<String>,
}

/// A new token. The type has no `Debug`, because the output would contain the token.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewToken {
    pub(super) token: Zeroizing<String>,
    pub(super) name: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) expires_at: String,
}

#[derive(Clone, Debug, Default)]
pub(super) struct TokenFilter {
    pub(super) state: &'static str,
    pub(super) name: String,
}

/// When a new token expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    Days(u8),
    /// A time in RFC 3339.
    Until(String),
}

/// The name, the services and the expiry of a new token.
#[derive(Clone, Debug)]
pub(super) struct TokenRequest {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) scopes: Vec<String>,
    pub(super) expiry: Expiry,
}

impl AuthClient {
    /// Creates the client. `cookie` is the name of the login cookie of `api`.
    pub(super) fn new(api: AuthApi, cookie: &str) -> Self {
        Self { api, cookie: cookie.to_owned() }
    }

    pub(super) fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Returns the parts of a request for a page that the auth API needs.
    pub(super) fn browser(&self, request: &Parts) -> Browser {
        let mut headers = HeaderMap::new();
        for name in PASSED_ON {
            for value in request.headers.get_all(name) {
                headers.append(name, value.clone());
            }
        }
        let mut extensions = request.extensions.clone();
        let certificate = extensions.remove::<PeerCertificate>();
        let login_token = cookies::find(&request.headers, &self.cookie);
        Browser {
            uri: request.uri.clone(),
            headers,
            extensions,
            certificate,
            login_token: login_token.filter(|it| !it.is_empty()).map(|it| it.to_vec().into()),
        }
    }

    /// Logs in with a password, and changes the password if `new_password` is present. Returns the cookies to set.
    pub(super) async fn sign_in(
        &self,
        browser: &Browser,
        user: &str,
        password: &str,
        new_password: Option<&str>,
    ) -> Result<Vec<HeaderValue>, Refusal> {
        let mut body = json!({ "username": user, "password": password });
        if let Some(new) = new_password {
            body["newPassword"] = new.into();
        }
        let call = Call::new(Method::POST, "login").with_body(&body);
        self.call(browser, Credential::None, call).await.map(cookies_to_set)
    }

    /// Logs in with the client certificate. Returns the cookies to set.
    pub(super) async fn sign_in_with_certificate(
        &self,
        browser: &Browser,
    ) -> Result<Vec<HeaderValue>, Refusal> {
        let call = Call::new(Method::POST, "login");
        self.call(browser, Credential::Certificate, call).await.map(cookies_to_set)
    }

    pub(super) async fn sign_out(&self, browser: &Browser) -> Result<(), Refusal> {
        let call = Call::new(Method::POST, "logout");
        self.call(browser, Credential::LoginCookie, call).await.map(drop)
    }

    pub(super) async fn session(&self, browser: &Browser) -> Result<Session, Refusal> {
        self.json(browser, Call::new(Method::GET, "query")).await
    }

    /// Returns a page of the user's tokens that match `filter`, the newest first.
    pub(super) async fn tokens(
        &self,
        browser: &Browser,
        filter: &TokenFilter,
        cursor: &str,
        limit: usize,
    ) -> Result<TokenPage, Refusal> {
        let limit = limit.to_string();
        let query = query(&[
            ("state", filter.state),
            ("name", &filter.name),
            ("cursor", cursor),
            ("limit", &limit),
        ]);
        self.json(browser, Call::new(Method::GET, format!("access-tokens{query}"))).await
    }

    /// Returns all of the user's tokens that match `filter`.
    pub(super) async fn all_tokens(
        &self,
        browser: &Browser,
        filter: &TokenFilter,
    ) -> Result<Vec<Token>, Refusal> {
        let (mut tokens, mut cursor) = (Vec::new(), String::new());
        for _ in 0..MAX_PAGES {
            let page = self.tokens(browser, filter, &cursor, 100).await?;
            tokens.extend(page.tokens);
            match page.next {
                Some(next) => cursor = next,
                None => break,
            }
        }
        Ok(tokens)
    }

    pub(super) async fn token(&self, browser: &Browser, id: TokenId<'_>) -> Result<Token, Refusal> {
        self.json(browser, Call::new(Method::GET, format!("access-tokens/{id}"))).await
    }

    /// Returns the permissions of the user. The auth API does not refuse this call if the user has no permissions.
    pub(super) async fn permissions(&self, browser: &Browser) -> Result<Permissions, Refusal> {
        self.json(browser, Call::new(Method::GET, "access-tokens/permissions")).await
    }

    /// Returns a page of the tokens of users that match `filter`. The signed-in user must be an administrator.
    pub(super) async fn tokens_of_users(
        &self,
        browser: &Browser,
        filter: &UsersTokenFilter,
        cursor: &str,
        limit: usize,
    ) -> Result<TokenPage, Refusal> {
        let UsersTokenFilter { user, service, of: TokenFilter { state, name } } = filter;
        let limit = limit.to_string();
        let query = query(&[
            ("user", user),
            ("all", if user.is_empty() { "true" } else { "" }),
            ("service", service),
            ("state", state),
            ("name", name),
            ("cursor", cursor),
            ("limit", &limit),
        ]);
        self.json(browser, Call::new(Method::GET, format!("access-tokens{query}"))).await
    }

    /// Returns a token of any user. The signed-in user must be an administrator.
    pub(super) async fn token_of(
        &self,
        browser: &Browser,
        user: &str,
        id: TokenId<'_>,
    ) -> Result<Token, Refusal> {
        let query = query(&[("user", user)]);
        self.json(browser, Call::new(Method::GET, format!("access-tokens/{id}{query}"))).await
    }

    /// Revokes a token of any user. The signed-in user must be an administrator.
    pub(super) async fn revoke_of(
        &self,
        browser: &Browser,
        user: &str,
        id: TokenId<'_>,
    ) -> Result<(), Refusal> {
        let query = query(&[("user", user)]);
        let call = Call::new(Method::DELETE, format!("access-tokens/{id}{query}"));
        self.call(browser, Credential::LoginCookie, call).await.map(drop)
    }

    /// Revokes the tokens in `target` that were issued up to `up_to` (RFC 3339). If `up_to` is `None`, revokes the
    /// tokens that were issued up to now. The signed-in user must be an administrator.
    pub(super) async fn make_rule(
        &self,
        browser: &Browser,
        target: &RuleTarget,
        up_to: Option<&str>,
    ) -> Result<(), Refusal> {
        let query = query(&[target.parameter(), ("upTo", up_to.unwrap_or_default())]);
        let call = Call::new(Method::DELETE, format!("access-tokens{query}"));
        self.call(browser, Credential::LoginCookie, call).await.map(drop)
    }

    /// Removes expired revocations. The signed-in user must have the permission [`Permissions::evict`].
    pub(super) async fn evict(&self, browser: &Browser) -> Result<Evicted, Refusal> {
        self.json(browser, Call::new(Method::POST, "access-tokens/evict")).await
    }

    pub(super) async fn create(
        &self,
        browser: &Browser,
        request: &TokenRequest,
    ) -> Result<NewToken, Refusal> {
        let TokenRequest { name, description, scopes, expiry } = request;
        let mut body = json!({ "name": name, "description": description, "scopes": scopes });
        match expiry {
            Expiry::Days(days) => body["validity"] = (*days).into(),
            Expiry::Until(time) => body["expiresAt"] = time.as_str().into(),
        }
        self.json(browser, Call::new(Method::POST, "access-tokens").with_body(&body)).await
    }

    pub(super) async fn rename(
        &self,
        browser: &Browser,
        id: TokenId<'_>,
        name: &str,
        description: &str,
    ) -> Result<Token, Refusal> {
        let body = json!({ "name": name, "description": description });
        let call = Call::new(Method::PATCH, format!("access-tokens/{id}")).with_body(&body);
        self.json(browser, call).await
    }

    pub(super) async fn rotate(
        &self,
        browser: &Browser,
        id: TokenId<'_>,
        grace_seconds: u64,
    ) -> Result<NewToken, Refusal> {
        let body = json!({ "graceSeconds": grace_seconds });
        let call = Call::new(Method::POST, format!("access-tokens/{id}/rotate")).with_body(&body);
        self.json(browser, call).await
    }

    pub(super) async fn revoke(&self, browser: &Browser, id: TokenId<'_>) -> Result<(), Refusal> {
        let call = Call::new(Method::DELETE, format!("access-tokens/{id}"));
        self.call(browser, Credential::LoginCookie, call).await.map(drop)
    }

    /// Revokes all of the user's tokens.
    pub(super) async fn revoke_all(&self, browser: &Browser) -> Result<(), Refusal> {
        let call = Call::new(Method::DELETE, "access-tokens");
        self.call(browser, Credential::LoginCookie, call).await.map(drop)
    }

    async fn json<T: DeserializeOwned>(&self, browser: &Browser, call: Call) -> Result<T, Refusal> {
        let (_, body) = self.call(browser, Credential::LoginCookie, call).await?;
        serde_json::from_slice(&body).map_err(|error| {
            // Only the category is logged, because the text of the error may contain a value, such as a token.
            tracing::error!(category = ?error.classify(), "the page cannot read an answer of the auth API");
            Refusal::malformed()
        })
    }

    async fn call(
        &self,
        browser: &Browser,
        credential: Credential,
        call: Call,
    ) -> Result<(HeaderMap, Bytes), Refusal> {
        let request = self.request(browser, credential, call).map_err(|error| {
            tracing::error!(%error, "the page cannot call the auth API");
            Refusal::malformed()
        })?;
        let Ok(response) = self.api.clone().oneshot(request).await;
        let (parts, body) = response.into_parts();
        if parts.status.is_success() {
            let body = body.collect().await.map(http_body_util::Collected::to_bytes);
            return Ok((parts.headers, body.unwrap_or_default()));
        }
        Err(Refusal {
            status: parts.status,
            message: parts.extensions.get().cloned(),
            retry_after: parts.headers.get(RETRY_AFTER).cloned(),
        })
    }

    fn request(
        &self,
        browser: &Browser,
        credential: Credential,
        call: Call,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let path = format!("{}/{}", self.api.prefix(), call.path);
        let mut uri = browser.uri.clone().into_parts();
        uri.path_and_query = Some(PathAndQuery::try_from(path)?);
        let mut request = Request::new(Full::new(call.body));
        *request.uri_mut() = Uri::from_parts(uri)?;
        *request.method_mut() = call.method;
        *request.extensions_mut() = browser.extensions.clone();
        let headers = request.headers_mut();
        *headers = browser.headers.clone();
        let json = HeaderValue::from_static("application/json");
        headers.insert(ACCEPT, json.clone());
        headers.insert(CONTENT_TYPE, json);
        match (credential, &browser.login_token, &browser.certificate) {
            (Credential::LoginCookie, Some(token), _) => {
                let name = format!("{}=", self.cookie);
                let cookie = Zeroizing::new([name.as_bytes(), token].concat());
                let mut cookie = HeaderValue::from_bytes(&cookie)?;
                cookie.set_sensitive(true);
                headers.insert(COOKIE, cookie);
            }
            (Credential::Certificate, _, Some(certificate)) => {
                request.extensions_mut().insert(certificate.clone());
            }
            _ => {}
        }
        Ok(request)
    }
}

struct Call {
    method: Method,
    /// The path below the prefix, without a leading slash, and the query.
    path: String,
    body: Bytes,
}

impl Call {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: Bytes::new() }
    }

    fn with_body(self, body: &Value) -> Self {
        Self { body: body.to_string().into(), ..self }
    }
}

fn cookies_to_set((headers, _): (HeaderMap, Bytes)) -> Vec<HeaderValue> {
    headers.get_all(SET_COOKIE).iter().cloned().collect()
}
