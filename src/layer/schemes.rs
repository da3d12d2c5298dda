//! The trait [`Scheme`], which decides which headers a service receives in place of the client's credential.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use super::{
    authentication::{Authenticated, Proof},
    failure::Failure,
    technical_users::TechnicalUsers,
};
#[cfg(feature = "proxy")]
use crate::ticket_breaker::{Sent, Watched};
use crate::{
    audit::{AuditRecord, Event},
    passticket::{Replay, UserId},
    token::ServiceId,
};

/// Decides which headers a service receives in place of the credential of the client (in Zowe:
/// `apiml.authentication.scheme`, [D23](crate::decisions#d23)).
///
/// Each [`Route`](super::Route) has one scheme. This crate contains [`PassTicketScheme`](super::PassTicketScheme),
/// [`ZoweJwtScheme`](super::ZoweJwtScheme), `ZosmfScheme`, `SafIdtScheme`, [`X509Scheme`](super::X509Scheme) and
/// [`Bypass`]. Implement the trait for a service that expects other headers. An `Arc` of a scheme is also a scheme.
///
/// [`SchemeLayer`](super::SchemeLayer) calls the scheme of the route only for an authorized user. It passes the user
/// and the head of the request. The scheme returns headers or a [`Failure`]. The layer then adds the headers to the
/// request, or does what the [`OnFailure`](super::OnFailure) of the route requires. With
/// [`Mode::Observe`](super::Mode::Observe), it uses neither the headers nor the failure. For each call, the layer
/// writes one audit record.
///
/// # Example
/// This scheme is for a service that expects an API key of the gateway in one header, and the user id in a
/// second header:
///
/// ```
/// # use std::{convert::Infallible, sync::Arc};
/// # use bytes::Bytes;
/// use http::{HeaderName, HeaderValue, Request, Response};
/// # use http_body_util::Full;
/// # use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_passticket::layer::{
///     Failure, Scheme, SchemeError, SchemeFuture, SchemeHeaders, SchemeRequest,
/// };
/// # use tower_passticket::{
/// #     layer::{AuthenticateLayer, Authenticator, Route, RouteLayer, SchemeLayer, ScopeLayer},
/// #     passticket::UserId,
/// #     token::{Rs256Verifier, ServiceId, SigningKey, TokenIssuer},
/// # };
///
/// static API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// static REMOTE_USER: HeaderName = HeaderName::from_static("x-remote-user");
///
/// struct ApiKey {
///     key: HeaderValue,
///     reserved: [HeaderName; 2],
/// }
///
/// impl ApiKey {
///     fn new(key: HeaderValue) -> Self {
///         Self { key, reserved: [API_KEY.clone(), REMOTE_USER.clone()] }
///     }
/// }
///
/// impl Scheme for ApiKey {
///     fn name(&self) -> &'static str {
///         "apiKey"
///     }
///
///     fn reserved_headers(&self) -> &[HeaderName] {
///         &self.reserved
///     }
///
///     fn prepare(&self, request: &SchemeRequest<'_>) -> SchemeFuture {
///         let user = HeaderValue::from_str(request.user().as_str());
///         SchemeFuture::ready(match user {
///             Ok(user) => Ok(SchemeHeaders::new()
///                 .with(API_KEY.clone(), self.key.clone())
///                 .with(REMOTE_USER.clone(), user)),
///             Err(_) => Err(SchemeError::failed("the user id is not a valid header value").into()),
///         })
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
/// # let key = SigningKey::from_pem(pem.serialize_pem().as_bytes())?;
/// # let authenticator = Authenticator::new(Rs256Verifier::new(key.verifying_key()));
/// # let token = TokenIssuer::new(key).login_token(&UserId::new("USER")?, "x")?;
/// # let bearer = format!("Bearer {}", token.expose());
/// let route = Route::new(
///     ServiceId::new("reports")?,
///     "api/v1",
///     "https://reports.example.com".parse()?,
///     ApiKey::new(HeaderValue::from_static("secret")),
/// )?;
/// let stack = ServiceBuilder::new()
///     .layer(RouteLayer::fixed(route))
///     .layer(AuthenticateLayer::new(authenticator))
///     .layer(ScopeLayer::new())
///     .layer(SchemeLayer::new())
///     .service(service_fn(|request: Request<Full<Bytes>>| async move {
///         assert_eq!(request.headers()["x-api-key"], "secret");
///         assert_eq!(request.headers()["x-remote-user"], "USER");
///         Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
///     }));
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let request = Request::get("/").header("authorization", bearer).body(Full::default()).unwrap();
/// assert_eq!(stack.oneshot(request).await.unwrap().status(), 200);
/// # });
/// # Ok(())
/// # }
/// ```
///
/// A scheme that calls another server returns [`SchemeFuture::pending`]. If the server does not answer, the future
/// should return [`SchemeError::unavailable`](super::SchemeError::unavailable).
pub trait Scheme: Send + Sync + 'static {
    /// Returns the name of the scheme in the log and in audit records, such as `httpBasicPassTicket`.
    fn name(&self) -> &'static str;

    /// Returns the headers that the service receives for this request, or a [`Failure`].
    fn prepare(&self, request: &SchemeRequest<'_>) -> SchemeFuture;

    /// Returns the names of headers that the service trusts because only this scheme sets them. The layer removes
    /// headers with these names that a client sends, whether the scheme succeeds or not. If
    /// [`needs_authorization`](Self::needs_authorization) returns `false`, it does not remove them.
    ///
    /// Leave out headers for credentials, such as `Authorization` and `X-Certificate-*`, because earlier layers handle
    /// them.
    fn reserved_headers(&self) -> &[HeaderName];

    /// Returns the event of the audit records about this scheme. There is one record for each result of
    /// [`prepare`](Self::prepare) and of [`prepare_again`](Self::prepare_again).
    fn event(&self) -> Event {
        Event::Scheme
    }

    /// Adds data of this scheme to the audit record. The record already contains the user, the credential, the service,
    /// the request and the result.
    fn annotate(&self, record: AuditRecord) -> AuditRecord {
        record
    }

    /// Returns whether the service accepts the headers of one call of [`prepare`](Self::prepare) in more than one
    /// request. The route calls this function once, when it gets the scheme.
    ///
    /// If the service closes the connection before it answers, the proxy can send a request again
    /// ([D29](crate::decisions#d29)). With [`Replay::Allowed`], it sends the same headers again. With
    /// [`Replay::Protected`], if it is possible that the service has received the first headers, the proxy calls
    /// [`prepare_again`](Self::prepare_again) for new headers.
    fn replay(&self) -> Replay {
        Replay::Protected
    }

    /// Returns new headers for a request that the proxy sends a second time. They must have the same names as the
    /// headers from [`prepare`](Self::prepare).
    ///
    /// The proxy calls this function only if [`replay`](Self::replay) returned [`Replay::Protected`]. If the scheme
    /// cannot make new headers, it returns `None`, which is the default. The client then receives 502. With the profile
    /// [`ZoweV3`](super::Compatibility::ZoweV3), it receives 500.
    fn prepare_again(&self, authorization: &Authorization<'_>) -> Option<SchemeFuture> {
        let _ = authorization;
        None
    }

    /// Returns which credentials the layers evaluate. The route calls this function once, when it gets the scheme.
    fn accepts(&self) -> Accepts {
        Accepts::AnyCredential
    }

    /// Returns the rules that map the person of a token to a technical user: a user id that many persons share. With
    /// `None`, the default, each client acts as its own user. The route calls this function once, when it gets the
    /// scheme.
    fn technical_users(&self) -> Option<Arc<TechnicalUsers>> {
        None
    }

    /// Removes the tokens that the scheme keeps for `user`. This function must not block. By default, it does nothing.
    ///
    /// The layers do not notice a logout. When `user` logs out, your program must call this function, for example in
    /// [`AuthApi::with_logout_listener`](../api/struct.AuthApi.html#method.with_logout_listener).
    fn logged_out(&self, user: &UserId) {
        let _ = user;
    }

    /// Handles the answer of the service to a PassTicket of this scheme. The proxy calls this function only if the
    /// scheme has a [`TicketBreaker`](crate::ticket_breaker::TicketBreaker).
    #[cfg(feature = "proxy")]
    #[doc(hidden)]
    fn answered(&self, answer: &TicketAnswer<'_>) {
        let _ = answer;
    }

    /// Returns whether the layers authenticate and authorize requests. The route calls this function once, when it gets
    /// the scheme.
    ///
    /// Only [`Bypass`] should return `false`.
    fn needs_authorization(&self) -> bool {
        true
    }
}

impl<S: Scheme + ?Sized> Scheme for Arc<S> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn prepare(&self, request: &SchemeRequest<'_>) -> SchemeFuture {
        (**self).prepare(request)
    }

    fn reserved_headers(&self) -> &[HeaderName] {
        (**self).reserved_headers()
    }

    fn event(&self) -> Event {
        (**self).event()
    }

    fn annotate(&self, record: AuditRecord) -> AuditRecord {
        (**self).annotate(record)
    }

    fn replay(&self) -> Replay {
        (**self).replay()
    }

    fn prepare_again(&self, authorization: &Authorization<'_>) -> Option<SchemeFuture> {
        (**self).prepare_again(authorization)
    }

    fn accepts(&self) -> Accepts {
        (**self).accepts()
    }

    fn technical_users(&self) -> Option<Arc<TechnicalUsers>> {
        (**self).technical_users()
    }

    fn logged_out(&self, user: &UserId) {
        (**self).logged_out(user);
    }

    #[cfg(feature = "proxy")]
    fn answered(&self, answer: &TicketAnswer<'_>) {
        (**self).answered(answer);
    }

    fn needs_authorization(&self) -> bool {
        (**self).needs_authorization()
    }
}

/// Which credentials the layers evaluate on the routes of a scheme ([`Scheme::accepts`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Accepts {
    /// The first accepted credential in a fixed order ([D6](crate::decisions#d6)).
    #[default]
    AnyCredential,
    /// The same as [`AnyCredential`](Self::AnyCredential). In addition, the scheme can read the text of the token
    /// ([`SchemeRequest::token`]).
    AnyCredentialWithToken,
    /// Only the client certificate.
    ClientCertificate,
}

/// The scheme `bypass`: the layers evaluate no credential and prepare no headers. The service receives the credentials
/// that the client sent, unless [`Route::without_credentials`](super::Route::without_credentials) was called.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bypass;

impl Scheme for Bypass {
    fn name(&self) -> &'static str {
        "bypass"
    }

    fn prepare(&self, _: &SchemeRequest<'_>) -> SchemeFuture {
        SchemeHeaders::new().into()
    }

    fn reserved_headers(&self) -> &[HeaderName] {
        &[]
    }

    fn replay(&self) -> Replay {
        Replay::Allowed
    }

    fn needs_authorization(&self) -> bool {
        false
    }
}

/// The authorized user and the service of a request that is sent again, for [`Scheme::prepare_again`]. Only
/// [`SchemeLayer`](super::SchemeLayer) creates this type.
#[derive(Clone, Copy, Debug)]
pub struct Authorization<'a> {
    pub(super) authenticated: &'a Authenticated,
    pub(super) service: &'a ServiceId,
    /// The PassTicket in the first request. `None` if no breaker watches the answer.
    #[cfg(feature = "proxy")]
    pub(super) sent: Option<&'a Sent>,
}

impl<'a> Authorization<'a> {
    /// Returns the authorized user.
    pub fn user(&self) -> &'a UserId {
        self.authenticated.user()
    }

    /// Returns the proof of the user's identity.
    pub fn proof(&self) -> &'a Proof {
        self.authenticated.proof()
    }

    /// Returns the text of the token of the client, as in [`SchemeRequest::token`].
    pub fn token(&self) -> Option<&'a str> {
        self.authenticated.token()
    }

    /// Returns what [`token`](Self::token) returns, if the token is a login token. Schemes that send the token to a
    /// server of Zowe call this function.
    pub(super) fn login_token(&self) -> Option<&'a str> {
        self.authenticated.login_token()
    }

    /// Returns the service that the request is for.
    pub fn service(&self) -> &'a ServiceId {
        self.service
    }
}

/// What a [`Scheme`] can read: the authorized user, the service, and the head of the request.
#[derive(Clone, Copy)]
pub struct SchemeRequest<'a> {
    authenticated: &'a Authenticated,
    service: &'a ServiceId,
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> SchemeRequest<'a> {
    pub(super) fn new<B>(
        authenticated: &'a Authenticated,
        service: &'a ServiceId,
        request: &'a Request<B>,
    ) -> Self {
        let (method, uri) = (request.method(), request.uri());
        let (headers, extensions) = (request.headers(), request.extensions());
        Self { authenticated, service, method, uri, headers, extensions }
    }

    /// Returns the authorized user.
    pub fn user(&self) -> &'a UserId {
        self.authenticated.user()
    }

    /// Returns the proof of the user's identity.
    pub fn proof(&self) -> &'a Proof {
        self.authenticated.proof()
    }

    /// Returns the text of the token of the client, in its compact form. Returns `None` if the scheme does not return
    /// [`Accepts::AnyCredentialWithToken`], or if the [`proof`](Self::proof) is a client certificate, a password or a
    /// Personal Access Token.
    pub fn token(&self) -> Option<&'a str> {
        self.authenticated.token()
    }

    /// Returns what [`token`](Self::token) returns, if the token is a login token. Schemes that send the token to a
    /// server of Zowe call this function.
    pub(super) fn login_token(&self) -> Option<&'a str> {
        self.authenticated.login_token()
    }

    /// Returns the service that the request is for.
    pub fn service(&self) -> &'a ServiceId {
        self.service
    }

    /// Returns the method of the request.
    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// Returns the URI of the request.
    pub fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// Returns the headers of the request, without the credentials of the client.
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// Returns the extensions of the request, such as [`ConnectionInfo`](crate::connection::ConnectionInfo) or
    /// [`PeerCertificate`](crate::identity::PeerCertificate).
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }
}

impl fmt::Debug for SchemeRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemeRequest")
            .field("user", self.user())
            .field("service", &self.service)
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .finish_non_exhaustive()
    }
}

/// The answer of a service to a PassTicket.
#[cfg(feature = "proxy")]
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct TicketAnswer<'a> {
    pub(crate) user: UserId,
    pub(crate) watched: Watched,
    pub(crate) status: http::StatusCode,
    pub(crate) headers: &'a HeaderMap,
    /// The extensions of the request.
    pub(crate) extensions: &'a Extensions,
}

/// The headers that a [`Scheme`] sets. They replace headers of the request with the same names.
///
/// The values are marked as sensitive: `Debug` does not show them, and HTTP/2 does not add them to its compression
/// tables (RFC 7541 §7.1.3).
#[derive(Clone, Debug, Default)]
pub struct SchemeHeaders {
    // Most schemes set only one header, which then needs no allocation.
    first: Option<(HeaderName, HeaderValue)>,
    more: Vec<(HeaderName, HeaderValue)>,
    /// If a [`TicketBreaker`](crate::ticket_breaker::TicketBreaker) watches the answer: the PassTicket in the headers.
    #[cfg(feature = "proxy")]
    sent: Option<Sent>,
}

impl SchemeHeaders {
    /// Creates an empty set of headers.
    pub const fn new() -> Self {
        Self {
            first: None,
            more: Vec::new(),
            #[cfg(feature = "proxy")]
            sent: None,
        }
    }

    #[cfg(feature = "proxy")]
    pub(super) fn with_sent(self, sent: Sent) -> Self {
        Self { sent: Some(sent), ..self }
    }

    #[cfg(feature = "proxy")]
    pub(crate) fn take_sent(&mut self) -> Option<Sent> {
        self.sent.take()
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        if self.first.is_none() {
            self.first = Some((name, value));
        } else {
            self.more.push((name, value));
        }
        self
    }

    pub(crate) fn write_to(self, headers: &mut HeaderMap) {
        for (name, value) in self.first.into_iter().chain(self.more) {
            headers.insert(name, value);
        }
    }
}

/// The result of a [`Scheme`], now or later.
pub struct SchemeFuture(State);

enum State {
    Ready(Option<Result<SchemeHeaders, Failure>>),
    Pending(Waiting),
}

pub(super) type Waiting =
    Pin<Box<dyn Future<Output = Result<SchemeHeaders, Failure>> + Send + 'static>>;

impl SchemeFuture {
    /// Returns a result that is available now.
    pub fn ready(result: Result<SchemeHeaders, Failure>) -> Self {
        Self(State::Ready(Some(result)))
    }

    /// Returns a result that `future` produces later.
    pub fn pending(
        future: impl Future<Output = Result<SchemeHeaders, Failure>> + Send + 'static,
    ) -> Self {
        Self(State::Pending(Box::pin(future)))
    }

    /// Returns the result if it is available now, or else the future that produces it.
    pub(super) fn now(self) -> Result<Result<SchemeHeaders, Failure>, Waiting> {
        match self.0 {
            State::Ready(result) => Ok(result.expect("this future was not polled before")),
            State::Pending(future) => Err(future),
        }
    }
}

impl From<SchemeHeaders> for SchemeFuture {
    fn from(headers: SchemeHeaders) -> Self {
        Self::ready(Ok(headers))
    }
}

/// For tests of schemes.
impl Future for SchemeFuture {
    type Output = Result<SchemeHeaders, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(result) => Poll::Ready(result.take().expect("polled after completion")),
            State::Pending(future) => future.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for SchemeFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Ready(_) => "SchemeFuture(ready)",
            State::Pending(_) => "SchemeFuture(pending)",
        })
    }
}
