//! Lets a Personal Access Token go only where its scopes say.
//!
//! A PAT names the services it is good for; a login token and a certificate are good for all. What
//! may go on carries [`Authorized`] as an extension, which ties *who* to *where*: the layers behind
//! take both from it. A PAT that may not becomes a failure, handled as the [`Route`] says; 403 when
//! it says [`OnFailure::Reject`].
//!
//! Needs [`RouteLayer`](super::RouteLayer) and [`AuthenticateLayer`](super::AuthenticateLayer)
//! before it; without them it answers 500.
//!
//! Whether they may is one [`Authentication`](Event::Authentication) record for the audit log. Who
//! has failed before has one already.
//!
//! ```
//! use std::sync::Arc;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_passticket::{
//!     layer::{
//!         AuthenticateLayer, Authenticator, Authorized, OnFailure, Route, RouteLayer, Routes,
//!         Scheme, ScopeLayer, Upstream,
//!     },
//!     passticket::{Applid, UserId},
//!     revocation::RevocationIndex,
//!     token::{Scopes, ServiceId, SigningKey, TokenIssuer, Rs256Verifier, Validity},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let pem = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)?;
//! # let pem = pem.serialize_pem();
//! let key = SigningKey::from_pem(pem.as_bytes())?;
//! let verifier = Rs256Verifier::new(key.verifying_key());
//! let route = |service: &str| -> Result<Route, Box<dyn std::error::Error>> {
//!     let upstream = Upstream::parse("http://127.0.0.1:8080")?;
//!     let scheme = Scheme::HttpBasicPassTicket { applid: Applid::new("ZOWEAPPL")? };
//!     let route = Route::new(ServiceId::new(service)?, "api/v1", upstream, scheme)?;
//!     Ok(route.on_failure(OnFailure::Reject))
//! };
//! let service = ServiceBuilder::new()
//!     .layer(RouteLayer::new(Routes::new([route("files")?, route("jobs")?])?))
//!     .layer(AuthenticateLayer::new(
//!         Authenticator::new(verifier).with_personal_access_tokens(RevocationIndex::default()),
//!     ))
//!     .layer(ScopeLayer::new())
//!     .service(service_fn(|request: Request<Full<Bytes>>| async move {
//!         let authorized = request.extensions().get::<Authorized>().unwrap();
//!         assert_eq!(authorized.user().as_str(), "USER");
//!         Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::default()))
//!     }));
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let scopes = Scopes::parse(["files"]).unwrap();
//! let user = UserId::new("USER").unwrap();
//! let pat = TokenIssuer::new(key).personal_access_token(&user, &scopes, Validity::MAX).unwrap();
//! let get = |path| {
//!     Request::get(path).header("PRIVATE-TOKEN", pat.expose()).body(Full::default()).unwrap()
//! };
//! let response = service.clone().oneshot(get("/files/api/v1/x")).await.unwrap();
//! assert_eq!(response.status(), 200);
//! let response = service.oneshot(get("/jobs/api/v1/x")).await.unwrap();
//! assert_eq!(response.status(), 403);
//! assert_eq!(response.headers()["x-zowe-auth-failure"], "ZWEAG102E Token is not valid");
//! # });
//! # Ok(())
//! # }
//! ```

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    authentication::{Authenticated, Authentication, Proof},
    failure::Failure,
    future::ResponseFuture,
    rejection::Rejection,
    routes::{OnFailure, Route, Scheme},
};
use crate::{
    audit::{Audit, AuditRecord, Event, RequestId},
    passticket::UserId,
};

/// Somebody who may use the service that was asked for. Only [`ScopeLayer`] makes one.
#[derive(Clone, Debug)]
pub struct Authorized {
    authenticated: Authenticated,
    route: Arc<Route>,
}

impl Authorized {
    /// Who it is.
    pub fn user(&self) -> &UserId {
        self.authenticated.user()
    }

    /// What proved it.
    pub fn proof(&self) -> &Proof {
        self.authenticated.proof()
    }

    /// Where they may go.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Adds who it is, what proved it, and where they may go.
    pub(super) fn add_to_record(&self, record: AuditRecord) -> AuditRecord {
        self.authenticated.add_to_record(record).service(self.route.service())
    }

    pub(super) fn into_authenticated(self) -> Authenticated {
        self.authenticated
    }
}

/// Whether who is asking may go to the service of `route`.
fn decide(authenticated: &Authenticated, route: &Route) -> Result<(), Failure> {
    match authenticated.proof() {
        Proof::Pat(pat) if !pat.scopes().contains(route.service()) => {
            Err(Failure::OutOfScope { service: route.service().clone() })
        }
        Proof::Pat(_) | Proof::Jwt(_) | Proof::External(_) | Proof::Certificate(_) => Ok(()),
    }
}

/// The layer. See the [module](self).
#[derive(Clone, Debug, Default)]
pub struct ScopeLayer {
    audit: Audit,
}

impl ScopeLayer {
    /// There is nothing that must be set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records in `audit` who may go on, and whom it refuses.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self { audit }
    }
}

impl<S> Layer<S> for ScopeLayer {
    type Service = ScopeService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ScopeService { inner, audit: self.audit.clone() }
    }
}

/// The service of [`ScopeLayer`].
#[derive(Clone, Debug)]
pub struct ScopeService<S> {
    inner: S,
    audit: Audit,
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for ScopeService<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match check(&mut request, &self.audit) {
            Ok(()) => ResponseFuture::inner(self.inner.call(request)),
            Err(rejection) => ResponseFuture::rejected(rejection),
        }
    }
}

fn check<B>(request: &mut Request<B>, audit: &Audit) -> Result<(), Rejection> {
    let Some(route) = request.extensions().get::<Arc<Route>>().cloned() else {
        return Err(Rejection::misassembled("Scope needs Route before it"));
    };
    if route.scheme() == Scheme::Bypass {
        return Ok(());
    }
    let authenticated = match request.extensions_mut().remove::<Authentication>() {
        Some(Authentication::Authenticated(authenticated)) => authenticated,
        Some(failed @ Authentication::Failed(_)) => {
            request.extensions_mut().insert(failed);
            return Ok(());
        }
        None => return Err(Rejection::misassembled("Scope needs Authenticate before it")),
    };
    match decide(&authenticated, &route) {
        Ok(()) => {
            let authorized = Authorized { authenticated, route };
            audit.record(|| {
                let record = AuditRecord::succeeded(Event::Authentication, audit.now());
                authorized.add_to_record(record.request(request.extensions()))
            });
            request.extensions_mut().insert(authorized);
        }
        Err(failure) => return refuse(request, authenticated, &route, failure, audit),
    }
    Ok(())
}

/// They are known, and may not go there.
#[cold]
fn refuse<B>(
    request: &mut Request<B>,
    authenticated: Authenticated,
    route: &Route,
    failure: Failure,
    audit: &Audit,
) -> Result<(), Rejection> {
    audit.record(|| {
        let record = AuditRecord::failed(Event::Authentication, &failure, audit.now())
            .request(request.extensions())
            .service(route.service());
        authenticated.add_to_record(record)
    });
    let user = authenticated.user();
    let request_id = RequestId::logged(request.extensions());
    let service = route.service();
    tracing::info!(%service, request_id, %user, %failure, "not authorized");
    if route.failure_mode() == OnFailure::Reject {
        return Err(Rejection::Authentication(failure));
    }
    authenticated.restore(request.headers_mut());
    request.extensions_mut().insert(Authentication::Failed(failure));
    Ok(())
}
