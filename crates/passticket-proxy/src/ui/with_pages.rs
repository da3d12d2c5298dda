//! Serves the pages of the module [`ui`](super) in addition to the auth API.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::ServiceExt;
use tower_passticket::{gateway::AuthPrefix, proxy::ResponseBody};
use tower_service::Service;

/// Sends requests for the path of the pages, and for paths below it, to `pages`. Sends all others to `api`.
#[derive(Clone)]
pub(crate) struct WithPages<A, P> {
    pub(crate) api: A,
    /// The path of the pages, and their service. `None` if the pages are off.
    pub(crate) pages: Option<(AuthPrefix, P)>,
}

impl<A, P, B, ApiBody> Service<Request<B>> for WithPages<A, P>
where
    A: Service<Request<B>, Response = Response<ApiBody>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    A::Future: Send,
    P: Service<Request<B>, Response = Response<ResponseBody>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    P::Future: Send,
    B: Send + 'static,
    ApiBody: Into<ResponseBody>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        match &self.pages {
            Some((base, pages)) if base.contains(path) => Box::pin(pages.clone().oneshot(request)),
            _ => {
                let api = self.api.clone();
                Box::pin(async move { Ok(api.oneshot(request).await?.map(Into::into)) })
            }
        }
    }
}
