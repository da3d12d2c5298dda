//! The scheme `zoweJwt`: the service receives a login token of Zowe.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, header::COOKIE};
use quick_cache::sync::Cache;

use super::{
    authentication::Proof,
    credential::CookieNames,
    failure::Failure,
    scheme_error::SchemeError,
    schemes::{Accepts, Scheme, SchemeFuture, SchemeHeaders, SchemeRequest},
};
use crate::{
    headers::cookie,
    messages::{self, ApiMessage},
    passticket::{Replay, UserId},
    token::{IssuedToken, TokenIssuer},
};

/// A token is not used in the last minute before it expires, so that it is still valid when the service checks it.
const MARGIN: Duration = Duration::from_secs(60);

/// The number of users whose tokens are kept. A token is shorter than 2 KiB, so all tokens need less than 20 MiB.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(10_000).expect("should not be zero");

/// The scheme `zoweJwt`: the service receives a login token in the cookie `apimlAuthenticationToken`.
///
/// - If the client's credential is a login token, the service receives this token.
/// - If the credential is a Personal Access Token, a token of another issuer or a client certificate, the scheme issues
///   a login token for the user. The service accepts this token only if it trusts the signing key of the gateway.
///
/// The gateway sends this cookie and the other cookies of the client in one `Cookie` header. With
/// [`with_header`](Self::with_header), it also sends the token in another header.
///
/// The scheme keeps the tokens that it issued for at most 10,000 users, each until a minute before it expires. So a
/// service may get the same token in several requests. A short lifetime limits how long a service can use such a token.
/// Clones share the tokens.
///
/// ```
/// use std::time::Duration;
///
/// use tower_passticket::{
///     layer::{CookieNames, Route, ZoweJwtScheme},
///     token::{ServiceId, SigningKey, TokenIssuer},
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
/// # let pem = pem.serialize_pem();
/// let issuer = TokenIssuer::new(SigningKey::from_pem(pem.as_bytes())?)
///     .with_lifetime(Duration::from_secs(900));
/// let route = Route::new(
///     ServiceId::new("files")?,
///     "api/v1",
///     "https://files.example.com".parse()?,
///     ZoweJwtScheme::new(issuer, "security-domain", CookieNames::default()),
/// )?;
/// assert_eq!(route.scheme().name(), "zoweJwt");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ZoweJwtScheme {
    issuer: TokenIssuer,
    domain: Arc<str>,
    names: CookieNames,
    header: Option<HeaderName>,
    issued: Arc<Cache<UserId, Arc<IssuedToken>>>,
}

impl ZoweJwtScheme {
    /// Creates a scheme that issues tokens with `issuer`. `domain` is the claim `dom` of these tokens. `names` contains
    /// the name of the cookie.
    pub fn new(issuer: TokenIssuer, domain: &str, names: CookieNames) -> Self {
        let issued = Arc::new(Cache::new(CAPACITY.get()));
        Self { issuer, domain: domain.into(), names, header: None, issued }
    }

    /// Also sends the token in the header `name` (in Zowe, `apiml.security.auth.jwt.customAuthHeader`). If a client
    /// sends this header, the gateway removes or replaces it.
    #[must_use]
    pub fn with_header(self, name: HeaderName) -> Self {
        Self { header: Some(name), ..self }
    }

    /// Returns a token of `user`: a token that was issued before, or a new one.
    fn token_for(&self, user: &UserId) -> Result<Arc<IssuedToken>, Failure> {
        let is_fresh = |token: &IssuedToken| self.issuer.now().plus(MARGIN) < token.expires_at();
        if let Some(token) = self.issued.get(user) {
            if is_fresh(&token) {
                return Ok(token);
            }
            self.issued.remove_if(user, |stored| Arc::ptr_eq(stored, &token));
        }
        // Only one thread signs a token for the user. The others wait for it, which takes about a millisecond.
        let token = self
            .issued
            .get_or_insert_with(user, || self.issuer.login_token(user, &self.domain).map(Arc::new));
        token.map_err(|error| {
            let message = ApiMessage::with(&messages::ZOWE_TOKEN_FAILED, &["The key cannot sign"]);
            SchemeError::failed(error.to_string()).with_message(message).into()
        })
    }

    fn headers_for(&self, request: &SchemeRequest<'_>) -> Result<SchemeHeaders, Failure> {
        match (request.proof(), request.token()) {
            (Proof::Jwt(_), Some(token)) => self.headers_with(request, token),
            _ => self.headers_with(request, self.token_for(request.user())?.expose()),
        }
    }

    fn headers_with(
        &self,
        request: &SchemeRequest<'_>,
        token: &str,
    ) -> Result<SchemeHeaders, Failure> {
        let line = cookie::joined_with(request.headers(), self.names.jwt(), token);
        let line = line.ok_or_else(|| {
            SchemeError::failed("the token has a character that a cookie cannot contain")
        })?;
        let headers = SchemeHeaders::new().with(COOKIE, line);
        Ok(match (&self.header, HeaderValue::from_str(token)) {
            (Some(name), Ok(value)) => headers.with(name.clone(), value),
            _ => headers,
        })
    }
}

impl fmt::Debug for ZoweJwtScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZoweJwtScheme")
            .field("header", &self.header)
            .field("tokens", &self.issued.len())
            .finish_non_exhaustive()
    }
}

impl Scheme for ZoweJwtScheme {
    fn name(&self) -> &'static str {
        "zoweJwt"
    }

    fn prepare(&self, request: &SchemeRequest<'_>) -> SchemeFuture {
        SchemeFuture::ready(self.headers_for(request))
    }

    fn reserved_headers(&self) -> &[HeaderName] {
        self.header.as_slice()
    }

    fn accepts(&self) -> Accepts {
        Accepts::AnyCredentialWithToken
    }

    fn logged_out(&self, user: &UserId) {
        self.issued.remove(user);
    }

    fn replay(&self) -> Replay {
        Replay::Allowed
    }
}
