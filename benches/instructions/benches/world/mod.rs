//! The parts that `instructions.rs` and `growth.rs` share: tokens, routes, and the stack of layers in front of a
//! service.

#[path = "../../../profiles/mod.rs"]
pub(crate) mod profiles;
#[path = "../../../requests/mod.rs"]
pub(crate) mod requests;
#[path = "../../../revocations/mod.rs"]
pub(crate) mod revocations;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    mem,
    num::NonZeroUsize,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use http::{Request, Response, header::AUTHORIZATION};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tower::{Service, ServiceBuilder};
use tower_passticket::{
    audit::Audit,
    clock::{ManualClock, Timestamp},
    identity::CommonNameMapper,
    layer::{
        AuthenticateLayer, Authenticator, Bypass, PassTicketScheme, Route, RouteLayer, Routes,
        SanitizeLayer, Scheme, SchemeLayer, ScopeLayer,
    },
    passticket::{Algorithm, Applid, KeyProfiles, LocalGenerator, Replay, UserId},
    revocation::RevocationIndex,
    token::{Rs256Verifier, Scopes, ServiceId, SigningKey, TokenIssuer, Validity},
};

use self::{
    profiles::profile,
    requests::{Body, request},
    revocations::revocation,
};

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

pub(crate) type Authenticate = AuthenticateLayer<Arc<RevocationIndex>, CommonNameMapper>;

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) verifier: Rs256Verifier,
    pub(crate) jwt: String,
    pub(crate) pat: String,
    pub(crate) routes: Arc<Routes>,
    pub(crate) revocations: Arc<RevocationIndex>,
    pub(crate) audit: Audit,
}

impl World {
    pub(crate) fn of(key: SigningKey) -> Self {
        let clock = Arc::new(ManualClock::new(NOW));
        let verifier = Rs256Verifier::new(key.verifying_key())
            .with_clock(clock.clone())
            .with_cache(NonZeroUsize::new(1_000).unwrap());
        let issuer = TokenIssuer::new(key).with_clock(clock.clone());
        let jwt = issuer.login_token(&user(), "security-domain").unwrap();
        let scopes = Scopes::parse(["files"]).unwrap();
        let pat = issuer.personal_access_token(&user(), &scopes, Validity::MAX).unwrap();

        let tickets = generator(&clock, Algorithm::Legacy, Replay::Allowed);
        let tickets = PassTicketScheme::new(applid(), tickets);
        let routes =
            Routes::new([route_to("files", UPSTREAM, tickets), route_to("open", UPSTREAM, Bypass)]);
        let routes = Arc::new(routes.unwrap());
        // This copy of the `Arc` is never dropped. Otherwise the last request would drop the routes and their cache of
        // PassTickets, and the count would include this drop.
        mem::forget(Arc::clone(&routes));
        let revocations = RevocationIndex::default();
        (0..100).map(revocation).for_each(|revocation| revocations.apply(&revocation));
        Self {
            clock,
            verifier,
            jwt: jwt.expose().to_owned(),
            pat: pat.expose().to_owned(),
            routes,
            revocations: Arc::new(revocations),
            audit: Audit::none(),
        }
    }

    pub(crate) fn authenticate(&self) -> Authenticate {
        let revocations = self.revocations.clone();
        let authenticator = Authenticator::new(self.verifier.clone())
            .with_revocations(revocations.clone())
            .with_personal_access_tokens(revocations)
            .with_client_certificates(CommonNameMapper);
        AuthenticateLayer::new(authenticator).with_audit(self.audit.clone())
    }

    /// Makes all layers around a service that does nothing.
    pub(crate) fn stack(&self, expected: Expected) -> impl Answers {
        self.stack_with(self.authenticate(), expected)
    }

    /// Makes the layers of [`Self::stack`], but uses `authenticate` as the layer that authenticates.
    pub(crate) fn stack_with(
        &self,
        authenticate: Authenticate,
        expected: Expected,
    ) -> impl Answers {
        ServiceBuilder::new()
            .layer(SanitizeLayer::new())
            .layer(RouteLayer::new(self.routes.clone()))
            .layer(authenticate)
            .layer(ScopeLayer::new().with_audit(self.audit.clone()))
            .layer(SchemeLayer::new().with_audit(self.audit.clone()))
            .service(Inner { expected, keep: None })
    }

    pub(crate) fn cookie(&self) -> Request<Body> {
        request("/files/api/v1/x", "cookie", &format!("a=1; apimlAuthenticationToken={}", self.jwt))
    }

    pub(crate) fn header(&self) -> Request<Body> {
        request("/files/api/v1/x", "private-token", &self.pat)
    }
}

/// The address of a service. No benchmark connects to this address.
pub(crate) const UPSTREAM: &str = "http://127.0.0.1";

pub(crate) fn route_to(service: &str, upstream: &str, scheme: impl Scheme) -> Route {
    let (service, upstream) = (ServiceId::new(service).unwrap(), upstream.parse().unwrap());
    Route::new(service, "api/v1", upstream, scheme).unwrap()
}

pub(crate) fn user() -> UserId {
    UserId::new("IBMUSER").unwrap()
}

pub(crate) fn applid() -> Applid {
    Applid::new("ZOWEAPPL").unwrap()
}

pub(crate) fn generator(
    clock: &Arc<ManualClock>,
    algorithm: Algorithm,
    replay: Replay,
) -> LocalGenerator {
    let profiles = KeyProfiles::new([profile(applid(), algorithm, replay)]).unwrap();
    LocalGenerator::new(profiles)
        .with_clock(clock.clone())
        .with_ticket_cache(NonZeroUsize::new(1_000).unwrap())
}

/// A service, with or without layers around it.
pub(crate) trait Answers:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible> + 'static
{
}

impl<S> Answers for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + 'static
{
}

/// Checks the request that the layers pass on. A request that fails early takes few instructions. So without this
/// check, a failure would look like an improvement.
pub(crate) type Expected = fn(&Request<Body>) -> bool;

pub(crate) fn has_ticket<B>(request: &Request<B>) -> bool {
    let authorization = request.headers().get(AUTHORIZATION);
    authorization.is_some_and(|value| value.as_bytes().starts_with(b"Basic "))
}

/// The innermost service. It checks each request, and stores the last request if `keep` is set.
#[derive(Clone)]
pub(crate) struct Inner {
    pub(crate) expected: Expected,
    pub(crate) keep: Option<Arc<Mutex<Option<Request<Body>>>>>,
}

impl Service<Request<Body>> for Inner {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        assert!((self.expected)(&request), "the layers passed on an unexpected request");
        if let Some(keep) = &self.keep {
            *keep.lock().unwrap() = Some(request);
        }
        ready(Ok(Response::new(Body::default())))
    }
}

/// Calls the service as hyper does, but without a runtime. This is possible because the services of this file do not
/// wait.
pub(crate) fn answer(service: &mut impl Answers, request: Request<Body>) -> Response<Body> {
    let mut context = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut context).is_ready());
    match pin!(service.call(request)).poll(&mut context) {
        Poll::Ready(Ok(response)) => response,
        Poll::Pending => panic!("the service must not wait"),
    }
}

/// Runs a service on `connection`. The service answers each request.
pub(crate) async fn service(mut connection: impl AsyncRead + AsyncWrite + Unpin) {
    let mut request = Vec::with_capacity(64 * 1024);
    while connection.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nanswer";
            connection.write_all(answer).await.unwrap();
        }
    }
}
