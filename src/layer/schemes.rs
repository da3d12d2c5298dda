//! What a service receives in place of the client's credential.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

use super::{authentication::Proof, failure::Failure};
use crate::{
    audit::{AuditRecord, Event},
    passticket::UserId,
    token::ServiceId,
};

/// What a service receives in place of the client's credential (`apiml.authentication.scheme`,
/// [D23](crate::decisions#d23)).
///
/// Each [`Route`](super::Route) has its own. [`PassTicketScheme`](super::PassTicketScheme) and
/// [`Bypass`] are ready; implement the trait for a service that expects something else. An `Arc` of
/// a scheme is a scheme.
///
/// [`SchemeLayer`](super::SchemeLayer) runs the scheme of the route. The scheme gets the user and the
/// head of the request, and returns headers or a [`Failure`]. The layer does the rest: it writes
/// the headers, handles a failure as the route says ([`OnFailure`](super::OnFailure)), and writes
/// one audit record. So a scheme cannot forward a request whose user is not authorized.
///
/// # Example
/// A service that expects an API key of the gateway, and the user in a header:
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
///             Err(_) => Err(SchemeError::failed("the user id is no header value").into()),
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
/// A scheme that asks another server returns [`SchemeFuture::pending`] with an `async` block, and a
/// [`SchemeError::unavailable`](super::SchemeError::unavailable) when the server does not answer.
pub trait Scheme: Send + Sync + 'static {
    /// The name in the log and in audit records, such as `httpBasicPassTicket`.
    fn name(&self) -> &'static str;

    /// What the service receives for this request, or why there is nothing.
    fn prepare(&self, request: &SchemeRequest<'_>) -> SchemeFuture;

    /// Headers that the service believes because only this scheme sets them. The layer removes what
    /// the client sent under these names, whether the scheme succeeds or fails.
    ///
    /// `Authorization`, `X-Certificate-*` and the other headers of credentials need not be listed:
    /// the layers before remove them.
    fn reserved_headers(&self) -> &[HeaderName];

    /// The event of the audit record that the layer writes for each call of [`prepare`](Self::prepare).
    fn event(&self) -> Event {
        Event::Scheme
    }

    /// Adds to the audit record what only this scheme knows. User, credential, service, request and
    /// result are there already.
    fn annotate(&self, record: AuditRecord) -> AuditRecord {
        record
    }

    /// Whether the client must prove who it is. A route is asked once, when it is made. With `false`
    /// the layers evaluate nothing, and the request goes on with what the client sent, as with
    /// [`Bypass`]: no other scheme has a reason to say so.
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

    fn needs_authorization(&self) -> bool {
        (**self).needs_authorization()
    }
}

/// `bypass`: the service receives what the client sent. Nothing is evaluated.
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

    fn needs_authorization(&self) -> bool {
        false
    }
}

/// What a [`Scheme`] may know of a request: who is authorized for which service, and the head.
#[derive(Clone, Copy)]
pub struct SchemeRequest<'a> {
    pub(super) user: &'a UserId,
    pub(super) proof: &'a Proof,
    pub(super) service: &'a ServiceId,
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> SchemeRequest<'a> {
    pub(super) fn new<B>(
        user: &'a UserId,
        proof: &'a Proof,
        service: &'a ServiceId,
        request: &'a Request<B>,
    ) -> Self {
        let (method, uri) = (request.method(), request.uri());
        let (headers, extensions) = (request.headers(), request.extensions());
        Self { user, proof, service, method, uri, headers, extensions }
    }

    /// The user who is authorized.
    pub fn user(&self) -> &'a UserId {
        self.user
    }

    /// What proved who the user is.
    pub fn proof(&self) -> &'a Proof {
        self.proof
    }

    /// The service that the request is for.
    pub fn service(&self) -> &'a ServiceId {
        self.service
    }

    /// The method.
    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// Path and query as the client sent them.
    pub fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// The headers, without any credential of the client.
    pub fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// The extensions: [`ConnectionInfo`](crate::connection::ConnectionInfo), for example, or
    /// [`PeerCertificate`](crate::identity::PeerCertificate).
    pub fn extensions(&self) -> &'a Extensions {
        self.extensions
    }
}

impl fmt::Debug for SchemeRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchemeRequest")
            .field("user", &self.user)
            .field("service", &self.service)
            .field("method", &self.method)
            .field("path", &self.uri.path())
            .finish_non_exhaustive()
    }
}

/// The headers that a [`Scheme`] sets. Each replaces what the request has under the same name.
///
/// They are marked as sensitive: `Debug` does not show the values, and HTTP/2 does not put them into
/// its tables.
#[derive(Clone, Debug, Default)]
pub struct SchemeHeaders {
    // Most schemes set one.
    first: Option<(HeaderName, HeaderValue)>,
    more: Vec<(HeaderName, HeaderValue)>,
}

impl SchemeHeaders {
    /// No headers yet.
    pub const fn new() -> Self {
        Self { first: None, more: Vec::new() }
    }

    /// Sets a header.
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

    pub(super) fn write_to(self, headers: &mut HeaderMap) {
        for (name, value) in self.first.into_iter().chain(self.more) {
            headers.insert(name, value);
        }
    }
}

/// The result of a [`Scheme`]: at once, or later.
pub struct SchemeFuture(State);

enum State {
    Ready(Option<Result<SchemeHeaders, Failure>>),
    Pending(Waiting),
}

/// The boxed future of a scheme that waits.
pub(super) type Waiting =
    Pin<Box<dyn Future<Output = Result<SchemeHeaders, Failure>> + Send + 'static>>;

impl SchemeFuture {
    /// There is nothing to wait for.
    pub fn ready(result: Result<SchemeHeaders, Failure>) -> Self {
        Self(State::Ready(Some(result)))
    }

    /// The result comes from `future`. The layer keeps the request until then.
    pub fn pending(
        future: impl Future<Output = Result<SchemeHeaders, Failure>> + Send + 'static,
    ) -> Self {
        Self(State::Pending(Box::pin(future)))
    }

    /// The result, or what to wait for.
    pub(super) fn now(self) -> Result<Result<SchemeHeaders, Failure>, Waiting> {
        match self.0 {
            State::Ready(result) => Ok(result.expect("the layer does not poll")),
            State::Pending(future) => Err(future),
        }
    }
}

impl From<SchemeHeaders> for SchemeFuture {
    fn from(headers: SchemeHeaders) -> Self {
        Self::ready(Ok(headers))
    }
}

/// So that a test of a scheme can `await` it.
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
