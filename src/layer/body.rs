//! A response body that can also contain a message of a layer.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// Put this layer in front of an inner service whose response body does not implement `From<Bytes>`.
///
/// A layer of this crate can answer a request itself, and then makes a body of the type that the inner service uses. So
/// this type must implement `From<Bytes>`. [`Full`](http_body_util::Full) and the body types of axum and of the proxy
/// of this crate implement this trait. The body types of `tower_http` layers, such as `TraceLayer`, do not. Put
/// `ResponseBodyLayer` between the layers of this crate and the `tower_http` layers.
///
/// The response body of this layer, [`ResponseBody`], also implements `Default`. The `tower_http` layers `CorsLayer`
/// and `TimeoutLayer` need this.
///
/// ```
/// # use std::{convert::Infallible, pin::Pin, task::{Context, Poll}};
/// # use bytes::Bytes;
/// # use http::{Request, Response};
/// # use http_body_util::{Empty, Full};
/// # use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_passticket::layer::{ResponseBodyLayer, SanitizeLayer};
///
/// let service = ServiceBuilder::new()
///     .layer(SanitizeLayer::new())
///     .layer(ResponseBodyLayer::new())
///     // `Empty` does not implement `From<Bytes>`.
///     .service(service_fn(|_: Request<Full<Bytes>>| async {
///         Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
///     }));
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// assert_eq!(service.oneshot(Request::new(Full::default())).await.unwrap().status(), 200);
/// # });
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ResponseBodyLayer;

impl ResponseBodyLayer {
    /// Creates the layer.
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for ResponseBodyLayer {
    type Service = ResponseBodyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ResponseBodyService { inner }
    }
}

/// The service of [`ResponseBodyLayer`].
#[derive(Clone, Debug)]
pub struct ResponseBodyService<S> {
    inner: S,
}

impl<S, Request, ResBody> Service<Request> for ResponseBodyService<S>
where
    S: Service<Request, Response = Response<ResBody>>,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseBodyFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        ResponseBodyFuture { future: self.inner.call(request) }
    }
}

pin_project! {
    /// The future of [`ResponseBodyService`].
    #[derive(Debug)]
    pub struct ResponseBodyFuture<F> {
        #[pin]
        future: F,
    }
}

impl<F, B, E> Future for ResponseBodyFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().future.poll(cx))?;
        Poll::Ready(Ok(response.map(ResponseBody::new)))
    }
}

pin_project! {
    /// The body of the inner service, or a message of a layer.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind<B> {
        Service { #[pin] body: B },
        Message { bytes: Bytes },
    }
}

impl<B> ResponseBody<B> {
    /// Wraps the body of a service.
    pub fn new(body: B) -> Self {
        Self { kind: Kind::Service { body } }
    }
}

impl<B> From<Bytes> for ResponseBody<B> {
    fn from(bytes: Bytes) -> Self {
        Self { kind: Kind::Message { bytes } }
    }
}

/// The empty body.
impl<B> Default for ResponseBody<B> {
    fn default() -> Self {
        Bytes::new().into()
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Service { body } => body.poll_frame(cx),
            KindProj::Message { bytes } if bytes.is_empty() => Poll::Ready(None),
            KindProj::Message { bytes } => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Service { body } => body.is_end_stream(),
            Kind::Message { bytes } => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Service { body } => body.size_hint(),
            Kind::Message { bytes } => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Empty, Full};

    use super::*;

    #[tokio::test]
    async fn each_kind_yields_its_bytes_and_its_size() {
        let text = Bytes::from_static(b"text");
        let cases: [(ResponseBody<Full<Bytes>>, &[u8]); 4] = [
            (ResponseBody::new(Full::new(text.clone())), b"text"),
            (ResponseBody::new(Full::default()), b""),
            (ResponseBody::from(text), b"text"),
            (ResponseBody::default(), b""),
        ];
        for (body, want) in cases {
            assert_eq!(body.is_end_stream(), want.is_empty());
            assert_eq!(body.size_hint().exact(), Some(want.len() as u64));
            assert_eq!(body.collect().await.unwrap().to_bytes(), want);
        }
        assert!(ResponseBody::new(Empty::<Bytes>::new()).is_end_stream());
    }
}
