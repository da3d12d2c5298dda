//! Gives the request a PassTicket, or says why it has none.
//!
//! 1. Who is [`Authorized`] for a service with the scheme `httpBasicPassTicket` gets
//!    `Authorization: Basic base64(user:ticket)`, and the same in the custom headers if they are
//!    configured. Nothing else of the request changes.
//! 2. A failure that is to be forwarded goes on with `X-Zowe-Auth-Failure`, and the response to the
//!    client gets the same header.
//! 3. A ticket that cannot be made is such a failure too. The log tells user, APPLID and the codes.
//!    Made or not, it is one [`Ticket`](Event::Ticket) record for the audit log.
//! 4. What goes on carries [`ReadyToForward`], without which the proxy of this crate forwards nothing but
//!    what a route lets by (`bypass`).
//!
//! Needs [`RouteLayer`](super::RouteLayer), [`AuthenticateLayer`](super::AuthenticateLayer) and
//! [`ScopeLayer`](super::ScopeLayer) before it; without them it answers 500 and forwards nothing.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_passticket::{
//!     layer::{
//!         AuthenticateLayer, Authenticator, PassTicketLayer, Route, RouteLayer, Routes,
//!         SanitizeLayer, Scheme, ScopeLayer, Upstream,
//!     },
//!     passticket::{Algorithm, Applid, KeyProfile, KeyProfiles, LocalGenerator, Replay, UserId},
//!     token::{ServiceId, SigningKey, TokenIssuer, Rs256Verifier},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
//! # let pem = pem.serialize_pem();
//! let key = SigningKey::from_pem(pem.as_bytes())?;
//! let verifier = Rs256Verifier::new(key.verifying_key());
//! let applid = Applid::new("ZOWEAPPL")?;
//! let profile = KeyProfile::from_hex(applid, Algorithm::Legacy, "E001193519561977")?
//!     .with_replay(Replay::Allowed);
//! let route = Route::new(
//!     ServiceId::new("files")?,
//!     "api/v1",
//!     Upstream::parse("https://zos.example.com")?,
//!     Scheme::HttpBasicPassTicket { applid },
//! )?;
//! let service = ServiceBuilder::new()
//!     .layer(SanitizeLayer::new())
//!     .layer(RouteLayer::new(Routes::new([route])?))
//!     .layer(AuthenticateLayer::new(Authenticator::new(verifier)))
//!     .layer(ScopeLayer::new())
//!     .layer(PassTicketLayer::new(LocalGenerator::new(KeyProfiles::new([profile])?)))
//!     .service(service_fn(|request: Request<Full<Bytes>>| async move {
//!         let mut response = Response::new(Full::<Bytes>::default());
//!         // Shows the test below what the service was sent.
//!         if let Some(basic) = request.headers().get("authorization") {
//!             response.headers_mut().insert("x-seen", basic.clone());
//!         }
//!         Ok::<_, std::convert::Infallible>(response)
//!     }));
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let token = TokenIssuer::new(key).login_token(&UserId::new("USER").unwrap(), "demo").unwrap();
//! let get = || Request::get("/files/api/v1/x");
//! let request = get().header("Authorization", format!("Bearer {}", token.expose()));
//! let response = service.clone().oneshot(request.body(Full::default()).unwrap()).await.unwrap();
//! assert_eq!(response.status(), 200);
//! assert!(response.headers()["x-seen"].to_str().unwrap().starts_with("Basic "));
//!
//! let response = service.oneshot(get().body(Full::default()).unwrap()).await.unwrap();
//! assert_eq!(response.status(), 200);
//! assert!(!response.headers().contains_key("x-seen"));
//! assert_eq!(
//!     response.headers()["x-zowe-auth-failure"],
//!     "ZWEAG160E No authentication provided in the request"
//! );
//! # });
//! # Ok(())
//! # }
//! ```

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::AUTHORIZATION};
use tower_layer::Layer;
use tower_service::Service;
use zeroize::Zeroizing;

use super::{
    authentication::Authentication,
    failure::{Failure, X_ZOWE_AUTH_FAILURE},
    future::{LayerFuture, Outcome, PollDecision},
    hop_by_hop::strip_hop_by_hop,
    rejection::Rejection,
    routes::{OnFailure, Route, Scheme},
    scope::Authorized,
};
use crate::{
    audit::{Audit, AuditRecord, Event, RequestId},
    passticket::{Applid, GenerateError, GenerateFuture, PassTicket, PassTicketGenerator, UserId},
};

/// Says that a request is as the service of this route is to get it: with a PassTicket, or with the
/// reason why not. Only [`PassTicketLayer`] makes one. A request on a route that bypasses needs none.
#[derive(Clone, Debug)]
pub struct ReadyToForward {
    route: Arc<Route>,
    user: Option<UserId>,
}

impl ReadyToForward {
    /// Where the request goes.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Whom the PassTicket is for, if there is one.
    pub fn user(&self) -> Option<&UserId> {
        self.user.as_ref()
    }
}

/// Two more headers for user id and PassTicket
/// (`apiml.security.auth.passticket.customUserHeader` and `customAuthHeader`). One without the
/// other has no effect in Zowe, so there is no way to have one without the other.
///
/// Whatever a client wrote there is overwritten, or removed when there is no ticket.
#[derive(Clone, Debug)]
pub struct CustomHeaders {
    /// Gets the user id.
    pub user: HeaderName,
    /// Gets the PassTicket.
    pub ticket: HeaderName,
}

/// The layer. See the [module](self).
#[derive(Debug)]
pub struct PassTicketLayer<G> {
    shared: Arc<Shared<G>>,
    audit: Audit,
}

#[derive(Debug)]
struct Shared<G> {
    generator: G,
    custom: Option<CustomHeaders>,
}

impl<G: PassTicketGenerator> PassTicketLayer<G> {
    /// Takes tickets from `generator`.
    pub fn new(generator: G) -> Self {
        Self { shared: Arc::new(Shared { generator, custom: None }), audit: Audit::none() }
    }

    /// Takes tickets from `generator` and sends them in two more headers as well.
    pub fn with_custom_headers(generator: G, custom: CustomHeaders) -> Self {
        let shared = Arc::new(Shared { generator, custom: Some(custom) });
        Self { shared, audit: Audit::none() }
    }

    /// Records in `audit` which tickets were made, and which could not be.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }
}

impl<G> Clone for PassTicketLayer<G> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), audit: self.audit.clone() }
    }
}

impl<S, G> Layer<S> for PassTicketLayer<G> {
    type Service = PassTicketService<S, G>;

    fn layer(&self, inner: S) -> Self::Service {
        PassTicketService { inner, shared: self.shared.clone(), audit: self.audit.clone() }
    }
}

/// The service of [`PassTicketLayer`].
#[derive(Debug)]
pub struct PassTicketService<S, G> {
    inner: S,
    shared: Arc<Shared<G>>,
    audit: Audit,
}

impl<S: Clone, G> Clone for PassTicketService<S, G> {
    fn clone(&self) -> Self {
        let (shared, audit) = (self.shared.clone(), self.audit.clone());
        Self { inner: self.inner.clone(), shared, audit }
    }
}

impl<S, G, ReqBody, ResBody> Service<Request<ReqBody>> for PassTicketService<S, G>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone,
    G: PassTicketGenerator,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = LayerFuture<Generating<G>, S, ReqBody>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match begin(&mut request, self.shared.custom.as_ref()) {
            Step::Decided(outcome) => LayerFuture::decided(outcome, &mut self.inner, request),
            Step::Generate { authorized, applid } => {
                let made = self.shared.generator.try_generate_now(authorized.user(), &applid);
                if let Some(made) = made {
                    let custom = self.shared.custom.as_ref();
                    let outcome =
                        conclude(&mut request, authorized, applid, made, custom, &self.audit);
                    return LayerFuture::decided(outcome, &mut self.inner, request);
                }
                let generating = Generating {
                    future: self.shared.generator.generate(authorized.user(), &applid),
                    authorized: Some(authorized),
                    applid,
                    shared: self.shared.clone(),
                    audit: self.audit.clone(),
                };
                LayerFuture::waiting(generating, &mut self.inner, request)
            }
        }
    }
}

/// Waits for the ticket.
#[allow(missing_debug_implementations, reason = "holds a future of the embedder")]
pub struct Generating<G> {
    future: GenerateFuture,
    authorized: Option<Authorized>,
    applid: Applid,
    shared: Arc<Shared<G>>,
    audit: Audit,
}

impl<G, ReqBody> PollDecision<ReqBody> for Generating<G> {
    fn poll_prepare(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        request: &mut Request<ReqBody>,
    ) -> Poll<Outcome> {
        let this = self.get_mut();
        let generated = ready!(this.future.as_mut().poll(cx));
        let authorized = this.authorized.take().expect("polled once to the end");
        let custom = this.shared.custom.as_ref();
        Poll::Ready(conclude(request, authorized, this.applid, generated, custom, &this.audit))
    }
}

/// The request gets the ticket, or goes on or is answered without.
fn conclude<B>(
    request: &mut Request<B>,
    authorized: Authorized,
    applid: Applid,
    generated: Result<PassTicket, GenerateError>,
    custom: Option<&CustomHeaders>,
    audit: &Audit,
) -> Outcome {
    audit.record(|| {
        let time = audit.now();
        let record = match &generated {
            Ok(_) => AuditRecord::succeeded(Event::Ticket, time),
            Err(e) => AuditRecord::failed(Event::Ticket, e, time).codes(e.codes()),
        };
        authorized.add_to_record(record).request(request.extensions()).applid(applid)
    });
    let route = authorized.route().clone();
    match generated {
        Ok(ticket) => {
            let user = *authorized.user();
            set_ticket(request.headers_mut(), &user, &ticket, custom);
            request.extensions_mut().insert(ReadyToForward { route, user: Some(user) });
            Outcome::Forward
        }
        Err(error) => {
            // What an operator needs (design, decision 5): user, APPLID, service and codes.
            let request_id = RequestId::logged(request.extensions());
            tracing::error!(service = %route.service(), request_id, %error, "no PassTicket");
            authorized.into_authenticated().restore(request.headers_mut());
            fail(request, route, error.into(), custom)
        }
    }
}

enum Step {
    Decided(Outcome),
    Generate { authorized: Authorized, applid: Applid },
}

/// What to do with a request, from what the layers before have found out.
fn begin<B>(request: &mut Request<B>, custom: Option<&CustomHeaders>) -> Step {
    let misassembled = |what| Step::Decided(Outcome::Reject(Rejection::misassembled(what)));
    // Nothing to do behind Sanitize. Without it, a `Connection: authorization` would make the
    // proxy take away what is set here.
    strip_hop_by_hop(request.headers_mut());
    let extensions = request.extensions_mut();
    let Some(route) = extensions.get::<Arc<Route>>().cloned() else {
        return misassembled("PassTicket needs Route before it");
    };
    if route.scheme() == Scheme::Bypass {
        // The scheme says as much as `ReadyToForward` would.
        return Step::Decided(Outcome::Forward);
    }
    if let Some(authorized) = extensions.remove::<Authorized>() {
        // The route that was authorised, not the one that the extensions may have by now.
        return match authorized.route().scheme() {
            Scheme::HttpBasicPassTicket { applid } => Step::Generate { authorized, applid },
            Scheme::Bypass => misassembled("what was authorised is no PassTicket service"),
        };
    }
    match extensions.remove::<Authentication>() {
        Some(Authentication::Failed(failure)) => {
            Step::Decided(fail(request, route, failure, custom))
        }
        Some(Authentication::Authenticated(_)) => {
            misassembled("PassTicket needs Scope between Authenticate and itself")
        }
        None => misassembled("PassTicket needs Authenticate and Scope before it"),
    }
}

/// The request goes on and says why it has no ticket, or is answered.
#[cold]
fn fail<B>(
    request: &mut Request<B>,
    route: Arc<Route>,
    failure: Failure,
    custom: Option<&CustomHeaders>,
) -> Outcome {
    if route.failure_mode() == OnFailure::Reject {
        return Outcome::Reject(Rejection::Authentication(failure));
    }
    let headers = request.headers_mut();
    if let Some(CustomHeaders { user, ticket }) = custom {
        headers.remove(user);
        headers.remove(ticket);
    }
    headers.insert(&X_ZOWE_AUTH_FAILURE, failure.header_value());
    request.extensions_mut().insert(ReadyToForward { route, user: None });
    Outcome::ForwardFailed(failure)
}

fn set_ticket(
    headers: &mut HeaderMap,
    user: &UserId,
    ticket: &PassTicket,
    custom: Option<&CustomHeaders>,
) {
    headers.insert(AUTHORIZATION, basic(user, ticket));
    if let Some(CustomHeaders { user: user_header, ticket: ticket_header }) = custom {
        headers.insert(user_header, sensitive(user.as_bytes()));
        headers.insert(ticket_header, sensitive(ticket.expose_bytes()));
    }
}

/// RFC 7617 §2. Neither a user id nor a PassTicket has a colon.
fn basic(user: &UserId, ticket: &PassTicket) -> HeaderValue {
    // 8 + 1 + 8 bytes at the most, which base64 makes 24 of.
    let mut plain = Zeroizing::new([0; 17]);
    let (user, ticket) = (user.as_bytes(), ticket.expose_bytes());
    let len = user.len() + 1 + ticket.len();
    plain[..user.len()].copy_from_slice(user);
    plain[user.len()] = b':';
    plain[user.len() + 1..len].copy_from_slice(ticket);
    let mut line = Zeroizing::new([0; 30]);
    line[..6].copy_from_slice(b"Basic ");
    let encoded = BASE64_STANDARD
        .encode_slice(&plain[..len], &mut line[6..])
        .expect("17 bytes become 24, and 24 are there");
    sensitive(&line[..6 + encoded])
}

/// Kept out of `Debug`, and out of the compression tables of HTTP/2.
fn sensitive(text: &[u8]) -> HeaderValue {
    let mut value = HeaderValue::from_bytes(text).expect("printable ASCII");
    value.set_sensitive(true);
    value
}
