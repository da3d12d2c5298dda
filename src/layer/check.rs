//! The Tower service of layers that decide about a request without waiting.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use super::{future::ResponseFuture, rejection::Rejection};

/// Decides about requests.
#[expect(unnameable_types, reason = "for the layers of this crate only")]
pub trait Check {
    /// Decides about a request, and can change its head. After `Ok`, the inner service gets the request. After `Err`,
    /// the client gets the response of the [`Rejection`].
    fn check<B>(&mut self, request: &mut Request<B>) -> Result<(), Rejection>;
}

/// A service that runs the check `C` of a layer before the inner service `S`. Each layer has a type alias for its
/// service, such as [`ScopeService`](super::ScopeService).
#[derive(Clone, Debug)]
pub struct CheckService<S, C> {
    inner: S,
    check: C,
}

impl<S, C> CheckService<S, C> {
    pub(super) fn new(inner: S, check: C) -> Self {
        Self { inner, check }
    }
}

impl<S, C, ReqBody, ResBody> Service<Request<ReqBody>> for CheckService<S, C>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    C: Check,
    ResBody: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        match self.check.check(&mut request) {
            Ok(()) => ResponseFuture::inner(self.inner.call(request)),
            Err(rejection) => ResponseFuture::rejected(rejection, request.extensions()),
        }
    }
}
