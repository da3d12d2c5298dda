//! The service: which endpoint answers which request.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header::CONTENT_TYPE, request::Parts};
use http_body::Body;
use http_body_util::Full;
use serde::Serialize;
use tower_service::Service;

use super::{error::ApiError, keys::jwk_set, provider::LoginProvider};
use crate::{
    identity::{CommonNameMapper, IdentityMapper},
    layer::CookieNames,
    token::{TokenIssuer, TokenVerifier, VerifyingKey},
};

/// What the path of every endpoint begins with.
pub const PREFIX: &str = "/gateway/api/v1/auth";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Login,
    Query,
    GenerateAccessToken,
    PublicKeys,
}

/// Method, path below [`PREFIX`], endpoint. A path has one method.
static ENDPOINTS: [(Method, &str, Endpoint); 4] = [
    (Method::POST, "/login", Endpoint::Login),
    (Method::GET, "/query", Endpoint::Query),
    (Method::POST, "/access-token/generate", Endpoint::GenerateAccessToken),
    (Method::GET, "/keys/public/all", Endpoint::PublicKeys),
];

impl Endpoint {
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::MethodNotAllowed`].
    fn find(method: &Method, path: &str, pats: bool) -> Result<Self, ApiError> {
        let below = path.strip_prefix(PREFIX).ok_or(ApiError::NotFound)?;
        let (allowed, _, endpoint) = ENDPOINTS
            .iter()
            .find(|(_, path, endpoint)| *path == below && (pats || !endpoint.is_for_pats()))
            .ok_or(ApiError::NotFound)?;
        if method != allowed {
            let (method, allowed) = (method.clone(), allowed.clone());
            return Err(ApiError::MethodNotAllowed { method, allowed });
        }
        Ok(*endpoint)
    }

    /// Whether it is there only while Personal Access Tokens are on.
    fn is_for_pats(self) -> bool {
        self == Self::GenerateAccessToken
    }
}

/// The auth endpoints. See the [module](super).
///
/// Clones share everything.
pub struct AuthApi<L, M = CommonNameMapper> {
    pub(super) issuer: Arc<TokenIssuer>,
    pub(super) verifier: Arc<TokenVerifier>,
    pub(super) jwk_set: Bytes,
    pub(super) login: Arc<L>,
    pub(super) mapper: Option<Arc<M>>,
    pub(super) cookies: CookieNames,
    pats: bool,
}

impl<L: LoginProvider> AuthApi<L> {
    /// Endpoints that log in with `login`, issue tokens with `issuer`, take those that `verifier`
    /// verifies, and tell everybody `key`, which is to be the one that `verifier` has.
    ///
    /// Personal Access Tokens and client certificates are off.
    pub fn new(issuer: TokenIssuer, verifier: TokenVerifier, key: VerifyingKey, login: L) -> Self {
        Self {
            issuer: Arc::new(issuer),
            verifier: Arc::new(verifier),
            jwk_set: jwk_set(&key),
            login: Arc::new(login),
            mapper: None,
            cookies: CookieNames::default(),
            pats: false,
        }
    }
}

impl<L, M> AuthApi<L, M> {
    /// Turns Personal Access Tokens on.
    #[must_use]
    pub fn with_personal_access_tokens(self) -> Self {
        Self { pats: true, ..self }
    }

    /// Takes the [`PeerCertificate`](crate::identity::PeerCertificate) among the extensions of a
    /// request for a credential, of the user that `mapper` knows it to be.
    #[must_use]
    pub fn client_certificates<N: IdentityMapper>(self, mapper: N) -> AuthApi<L, N> {
        AuthApi {
            issuer: self.issuer,
            verifier: self.verifier,
            jwk_set: self.jwk_set,
            login: self.login,
            mapper: Some(Arc::new(mapper)),
            cookies: self.cookies,
            pats: self.pats,
        }
    }

    /// Sets and reads cookies of other names.
    #[must_use]
    pub fn cookie_names(self, cookies: CookieNames) -> Self {
        Self { cookies, ..self }
    }
}

impl<L: LoginProvider, M: IdentityMapper> AuthApi<L, M> {
    async fn answer<B: Body>(
        &self,
        request: &Parts,
        body: B,
    ) -> Result<Response<Full<Bytes>>, ApiError> {
        match Endpoint::find(&request.method, request.uri.path(), self.pats)? {
            Endpoint::Login => self.log_in(request, body).await,
            Endpoint::Query => self.query(request),
            Endpoint::GenerateAccessToken => self.generate_access_token(request, body).await,
            Endpoint::PublicKeys => Ok(self.public_keys()),
        }
    }
}

impl<L, M, B> Service<Request<B>> for AuthApi<L, M>
where
    L: LoginProvider,
    M: IdentityMapper,
    B: Body + Send + 'static,
    B::Data: Send,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move {
            let (request, body) = request.into_parts();
            Ok(api.answer(&request, body).await.unwrap_or_else(|error| {
                let url = request.uri.path();
                tracing::debug!(url, %error, "refused");
                error.into_response(url)
            }))
        })
    }
}

impl<L, M> Clone for AuthApi<L, M> {
    fn clone(&self) -> Self {
        Self {
            issuer: self.issuer.clone(),
            verifier: self.verifier.clone(),
            jwk_set: self.jwk_set.clone(),
            login: self.login.clone(),
            mapper: self.mapper.clone(),
            cookies: self.cookies.clone(),
            pats: self.pats,
        }
    }
}

impl<L, M> fmt::Debug for AuthApi<L, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthApi")
            .field("personal_access_tokens", &self.pats)
            .field("client_certificates", &self.mapper.is_some())
            .field("cookies", &self.cookies)
            .finish_non_exhaustive()
    }
}

/// 200 with `content` as JSON.
pub(super) fn json(content: &impl Serialize) -> Result<Response<Full<Bytes>>, ApiError> {
    let text = serde_json::to_vec(content).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written");
        ApiError::Internal
    })?;
    let mut response = Response::new(Full::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_endpoint_and_one_method() {
        let post_only = |method: &str| {
            let (method, allowed) = (method.parse().unwrap(), Method::POST);
            Err(ApiError::MethodNotAllowed { method, allowed })
        };
        let cases = [
            ("POST", "/gateway/api/v1/auth/login", true, Ok(Endpoint::Login)),
            ("GET", "/gateway/api/v1/auth/query", true, Ok(Endpoint::Query)),
            ("GET", "/gateway/api/v1/auth/keys/public/all", true, Ok(Endpoint::PublicKeys)),
            (
                "POST",
                "/gateway/api/v1/auth/access-token/generate",
                true,
                Ok(Endpoint::GenerateAccessToken),
            ),
            ("POST", "/gateway/api/v1/auth/access-token/generate", false, Err(ApiError::NotFound)),
            ("GET", "/gateway/api/v1/auth/access-token/generate", false, Err(ApiError::NotFound)),
            ("GET", "/gateway/api/v1/auth/login", true, post_only("GET")),
            ("OPTIONS", "/gateway/api/v1/auth/login", true, post_only("OPTIONS")),
            ("BREW", "/gateway/api/v1/auth/access-token/generate", true, post_only("BREW")),
            ("POST", "/gateway/api/v1/auth/login/", true, Err(ApiError::NotFound)),
            ("POST", "/gateway/api/v1/auth/LOGIN", true, Err(ApiError::NotFound)),
            ("POST", "/gateway/api/v1/auth", true, Err(ApiError::NotFound)),
            ("POST", "/gateway/api/v1/authlogin", true, Err(ApiError::NotFound)),
            ("POST", "/login", true, Err(ApiError::NotFound)),
            ("OPTIONS", "*", true, Err(ApiError::NotFound)),
        ];
        for (method, path, pats, want) in cases {
            let got = Endpoint::find(&method.parse().unwrap(), path, pats);
            assert_eq!(got, want, "{method} {path}");
        }
    }
}
