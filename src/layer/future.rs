//! The two futures of the layers. Layers that decide without waiting return a [`ResponseFuture`]. Layers that can have
//! to wait return a [`LayerFuture`], which allocates only if it waits.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Extensions, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    failure::{Failure, X_ZOWE_AUTH_FAILURE},
    rejected_request::RejectedRequest,
    rejection::{Rejection, offer_basic},
    token_expires::{X_ZOWE_TOKEN_EXPIRES, token_expires},
};
use crate::token::Pat;

pin_project! {
    /// The future of the response of the inner service, or of the response to a rejected request.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<F> {
        Inner { #[pin] future: F },
        Rejected { rejection: Option<(Rejection, RejectedRequest)> },
    }
}

impl<F> ResponseFuture<F> {
    pub(super) fn inner(future: F) -> Self {
        Self { kind: Kind::Inner { future } }
    }

    pub(super) fn rejected(rejection: Rejection, extensions: &Extensions) -> Self {
        let request = RejectedRequest::of(extensions);
        Self { kind: Kind::Rejected { rejection: Some((rejection, request)) } }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: From<Bytes>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Inner { future } => future.poll(cx),
            KindProj::Rejected { rejection } => {
                let (rejection, request) = rejection.take().expect("polled after completion");
                let mut response = rejection.into_response();
                request.add_to(&mut response);
                Poll::Ready(Ok(response))
            }
        }
    }
}

/// The decision of a layer about a request.
#[derive(Debug)]
#[expect(unnameable_types, reason = "for the layers of this crate only")]
pub enum Outcome {
    /// The layer forwards the request.
    Forward,
    /// The layer forwards the request, and sets `X-Zowe-Token-Expires` in the response.
    ForwardPat(Pat),
    /// The layer forwards the request, and adds `X-Zowe-Auth-Failure` to the response. The box keeps the future of a
    /// request without a failure small.
    ForwardFailed(Box<ForwardedFailure>),
    /// The layer answers the request itself.
    Reject(Rejection),
    /// The layer answers the request itself. If the status is 401, the response offers `Basic`.
    RejectAndOfferBasic(Rejection),
}

/// The failure of a forwarded request, and its text in `X-Zowe-Auth-Failure`.
#[derive(Debug)]
#[expect(unnameable_types, reason = "for the layers of this crate only")]
pub struct ForwardedFailure {
    pub(super) failure: Failure,
    pub(super) text: HeaderValue,
}

/// The change of a layer to the response of the inner service.
#[derive(Debug, Default)]
enum Change {
    #[default]
    None,
    SetTokenExpires(Pat),
    AddFailure(Box<ForwardedFailure>),
}

impl Change {
    fn apply<B>(self, response: &mut Response<B>) {
        match self {
            Self::None => {}
            Self::SetTokenExpires(pat) => {
                response.headers_mut().insert(&X_ZOWE_TOKEN_EXPIRES, token_expires(&pat));
            }
            Self::AddFailure(forwarded) => {
                let ForwardedFailure { failure, text } = *forwarded;
                response.headers_mut().append(&X_ZOWE_AUTH_FAILURE, text);
                response.extensions_mut().insert(failure);
            }
        }
    }
}

/// A decision for which a layer must wait for another server.
#[expect(unnameable_types, reason = "for the layers of this crate only")]
pub trait PollDecision<ReqBody> {
    /// Returns [`Poll::Pending`] until the layer can decide. Then changes the request as the decision requires, and
    /// returns the decision.
    fn poll_prepare(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        request: &mut Request<ReqBody>,
    ) -> Poll<Outcome>;
}

pin_project! {
    /// Waits for the decision of a layer, and then for the response of the inner service.
    ///
    /// While the future waits for the decision, it owns the inner service that was ready in `call`.
    #[allow(missing_debug_implementations, reason = "holds a request body and a service")]
    pub struct LayerFuture<P, S, ReqBody>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        state: State<P, S, S::Future, ReqBody>,
        change: Change,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<P, S, F, ReqBody> {
        // The box keeps the future small for requests that do not wait.
        Preparing { preparing: Pin<Box<Preparing<P, S, ReqBody>>> },
        Responding { #[pin] future: F },
        Rejected { rejection: Option<(Rejection, RejectedRequest)>, challenge: Challenge },
    }
}

/// The authentication schemes that a 401 response offers.
#[derive(Clone, Copy, Debug)]
enum Challenge {
    Bearer,
    BearerAndBasic,
}

pin_project! {
    #[project = PreparingProj]
    struct Preparing<P, S, ReqBody> {
        #[pin]
        prepare: P,
        service: S,
        request: Option<Request<ReqBody>>,
    }
}

impl<P, S, ReqBody> LayerFuture<P, S, ReqBody>
where
    S: Service<Request<ReqBody>>,
{
    pub(super) fn decided(outcome: Outcome, service: &mut S, request: Request<ReqBody>) -> Self {
        let (state, change) = State::decided(outcome, service, request);
        Self { state, change }
    }

    /// The future takes `service`, which is ready, and leaves a clone for the next request:
    /// <https://docs.rs/tower/latest/tower/trait.Service.html#be-careful-when-cloning-inner-services>
    pub(super) fn waiting(prepare: P, service: &mut S, request: Request<ReqBody>) -> Self
    where
        S: Clone,
    {
        let clone = service.clone();
        let service = mem::replace(service, clone);
        let preparing = Box::pin(Preparing { prepare, service, request: Some(request) });
        Self { state: State::Preparing { preparing }, change: Change::None }
    }
}

impl<P, S, ReqBody> State<P, S, S::Future, ReqBody>
where
    S: Service<Request<ReqBody>>,
{
    fn decided(outcome: Outcome, service: &mut S, request: Request<ReqBody>) -> (Self, Change) {
        let rejected = |rejection, challenge| {
            let rejection = Some((rejection, RejectedRequest::of(request.extensions())));
            (Self::Rejected { rejection, challenge }, Change::None)
        };
        let change = match outcome {
            Outcome::Reject(rejection) => return rejected(rejection, Challenge::Bearer),
            Outcome::RejectAndOfferBasic(rejection) => {
                return rejected(rejection, Challenge::BearerAndBasic);
            }
            Outcome::Forward => Change::None,
            Outcome::ForwardPat(pat) => Change::SetTokenExpires(pat),
            Outcome::ForwardFailed(failure) => Change::AddFailure(failure),
        };
        (Self::Responding { future: service.call(request) }, change)
    }
}

impl<P: PollDecision<ReqBody>, S: Service<Request<ReqBody>>, ReqBody> Preparing<P, S, ReqBody> {
    #[cold]
    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<(State<P, S, S::Future, ReqBody>, Change)> {
        let PreparingProj { prepare, service, request } = self.project();
        let waiting = request.as_mut().expect("the request is taken only after the decision");
        let outcome = ready!(prepare.poll_prepare(cx, waiting));
        let request = request.take().expect("the request was present two lines above");
        Poll::Ready(State::decided(outcome, service, request))
    }
}

impl<P, S, ReqBody, ResBody> Future for LayerFuture<P, S, ReqBody>
where
    P: PollDecision<ReqBody>,
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: From<Bytes>,
{
    type Output = Result<Response<ResBody>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Preparing { preparing } => {
                    let (state, change) = ready!(preparing.as_mut().poll(cx));
                    *this.change = change;
                    this.state.set(state);
                }
                StateProj::Responding { future } => {
                    let mut response = ready!(future.poll(cx))?;
                    mem::take(this.change).apply(&mut response);
                    return Poll::Ready(Ok(response));
                }
                StateProj::Rejected { rejection, challenge } => {
                    let (rejection, request) = rejection.take().expect("polled after completion");
                    let mut response = rejection.into_response();
                    request.add_to(&mut response);
                    if let Challenge::BearerAndBasic = challenge {
                        offer_basic(&mut response);
                    }
                    return Poll::Ready(Ok(response));
                }
            }
        }
    }
}
