//! The body of a response to the client.

use std::{
    error::Error as StdError,
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::BoxError;

use super::{
    instances::InFlight,
    pool::{FrameError, PooledConnection, SharedBody},
    response_head::filter_trailers,
};
use crate::{access_log::LoggedBody, request_facts::ServiceTooSlow};

pin_project! {
    /// The body of a response: streamed from a service, held in memory, or [any other
    /// body](ResponseBody::new).
    ///
    /// The default is an empty body. Some layers of `tower-http` need a body type with a default.
    #[derive(Debug)]
    pub struct ResponseBody {
        #[pin]
        kind: Kind,
    }
}

pin_project! {
    #[project = KindProj]
    #[derive(Debug)]
    enum Kind {
        // The connection goes back to the pool at the end of the body. If this value is dropped before the end, the
        // connection is closed, or the stream of HTTP/2 is reset.
        Upstream {
            first: FirstFrame,
            #[pin]
            body: Incoming,
            connection: Option<Box<dyn Connection>>,
            // Counts the request at its instance until the body has ended.
            in_flight: Option<InFlight>,
        },
        Full { #[pin] body: Full<Bytes> },
        // Ends early when `end` completes.
        Watched {
            body: Pin<Box<ResponseBody>>,
            end: Option<Box<dyn StreamEnd>>,
            has_waited: bool,
            is_grpc: bool,
        },
        Boxed { #[pin] body: UnsyncBoxBody<Bytes, BoxError> },
    }
}

/// The part of a body that arrived together with the head. Trailers are boxed, because they are rare and large.
#[derive(Debug, Default)]
enum FirstFrame {
    #[default]
    None,
    Data(Bytes),
    Trailers(Box<HeaderMap>),
}

impl FirstFrame {
    fn new(frame: Option<Frame<Bytes>>) -> Self {
        let Some(frame) = frame else { return Self::None };
        match frame.into_data() {
            Ok(data) => Self::Data(data),
            Err(frame) => frame
                .into_trailers()
                .map_or(Self::None, |trailers| Self::Trailers(Box::new(trailers))),
        }
    }

    fn take(&mut self) -> Option<Frame<Bytes>> {
        match mem::take(self) {
            Self::None => None,
            Self::Data(data) => Some(Frame::data(data)),
            Self::Trailers(trailers) => Some(Frame::trailers(*trailers)),
        }
    }

    fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    fn length(&self) -> u64 {
        if let Self::Data(data) = self { data.len() as u64 } else { 0 }
    }
}

/// The connection on which a response arrives. The trait hides the type of the request's body.
trait Connection: fmt::Debug + Send {
    fn poll_frame(
        &mut self,
        body: Pin<&mut Incoming>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FrameError>>>;

    fn limit_pauses(&mut self, limit: Option<Duration>);

    fn give_back(self: Box<Self>);
}

impl<B> Connection for PooledConnection<B>
where
    B: SharedBody + Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    fn poll_frame(
        &mut self,
        body: Pin<&mut Incoming>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FrameError>>> {
        self.poll_frame(body, cx)
    }

    fn limit_pauses(&mut self, limit: Option<Duration>) {
        self.limit_pauses(limit);
    }

    fn give_back(self: Box<Self>) {
        self.give_back();
    }
}

/// Decides when an endless body must end. `poll_end` returns the reason.
pub(super) trait StreamEnd: fmt::Debug + Send {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<&'static str>;
}

/// Returns the trailers that end a call of gRPC with status 16: the credential is not valid.
fn grpc_end(why: &'static str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("16"));
    trailers.insert("grpc-message", HeaderValue::from_static(why));
    Frame::trailers(trailers)
}

impl ResponseBody {
    /// Ends this body when `end` completes. The body of gRPC then ends with trailers that contain a status.
    #[must_use]
    pub(super) fn with_end(self, end: Box<dyn StreamEnd>, is_grpc: bool) -> Self {
        Self {
            kind: Kind::Watched {
                body: Box::pin(self),
                end: Some(end),
                has_waited: false,
                is_grpc,
            },
        }
    }

    /// Puts any body into a box.
    ///
    /// Some layers, such as `TraceLayer`, change the body type of a response. This function turns the body of the new
    /// type into a `ResponseBody` again.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http_body_util::{BodyExt, Empty};
    /// use tower_passticket::proxy::ResponseBody;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let body = ResponseBody::new(Empty::<Bytes>::new());
    /// assert_eq!(body.collect().await?.to_bytes(), "");
    /// # Ok(())
    /// # }
    /// ```
    pub fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        Self { kind: Kind::Boxed { body: body.map_err(Into::into).boxed_unsync() } }
    }

    /// Makes the body of a response that arrives on `connection`. `first` is the frame that was read together with the
    /// head. `in_flight` is dropped at the end of the body.
    pub(super) fn upstream<B>(
        first: Option<Frame<Bytes>>,
        body: Incoming,
        connection: Box<PooledConnection<B>>,
        in_flight: Option<InFlight>,
    ) -> Self
    where
        B: SharedBody + Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let first = FirstFrame::new(first);
        let connection: Option<Box<dyn Connection>> = if first.is_none() && body.is_end_stream() {
            connection.give_back();
            None
        } else {
            Some(connection)
        };
        let in_flight = in_flight.filter(|_| connection.is_some());
        Self { kind: Kind::Upstream { first, body, connection, in_flight } }
    }

    /// Sets how long the service may pause in this body. `None` means that there is no limit.
    pub(super) fn limit_pauses(&mut self, limit: Option<Duration>) {
        if let Kind::Upstream { connection: Some(connection), .. } = &mut self.kind {
            connection.limit_pauses(limit);
        }
    }
}

impl Default for ResponseBody {
    fn default() -> Self {
        Full::default().into()
    }
}

impl From<Full<Bytes>> for ResponseBody {
    fn from(body: Full<Bytes>) -> Self {
        Self { kind: Kind::Full { body } }
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Full::new(bytes).into()
    }
}

/// If the end of the body writes no line to the access log, the result is the inner body. Otherwise, the result is the
/// logged body in a box.
impl From<LoggedBody<Self>> for ResponseBody {
    fn from(body: LoggedBody<Self>) -> Self {
        match body.into_plain() {
            Ok(plain) => plain,
            Err(logged) => Self::new(logged),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.project().kind.project() {
            KindProj::Upstream { first, mut body, connection, in_flight } => {
                let frame = match (first.take(), &mut *connection) {
                    (Some(first), _) => Some(Ok(first)),
                    (None, Some(connection)) => ready!(connection.poll_frame(body.as_mut(), cx)),
                    (None, None) => {
                        ready!(body.as_mut().poll_frame(cx).map_err(FrameError::Broken))
                    }
                };
                let has_ended = match &frame {
                    None => true,
                    Some(Ok(_)) => body.is_end_stream(),
                    Some(Err(_)) => false,
                };
                if has_ended && let Some(connection) = connection.take() {
                    connection.give_back();
                    *in_flight = None;
                }
                Poll::Ready(frame.map(|frame| match frame {
                    Ok(mut frame) => {
                        if let Some(trailers) = frame.trailers_mut() {
                            filter_trailers(trailers);
                        }
                        Ok(frame)
                    }
                    Err(error) => Err(error.into()),
                }))
            }
            KindProj::Watched { body, end, has_waited, is_grpc } => {
                let frame = if *has_waited { None } else { Some(body.as_mut().poll_frame(cx)) };
                if let Some(Poll::Ready(frame)) = frame {
                    return Poll::Ready(frame);
                }
                *has_waited = true;
                if let Some(watched) = end
                    && let Poll::Ready(why) = watched.poll_end(cx)
                {
                    // This resets the stream to the service, or closes the connection.
                    *body = Box::pin(Self::default());
                    *end = None;
                    return Poll::Ready(is_grpc.then(|| Ok(grpc_end(why))));
                }
                match frame {
                    Some(frame) => frame,
                    None => body.as_mut().poll_frame(cx),
                }
            }
            KindProj::Full { body } => body.poll_frame(cx).map_err(|never| match never {}),
            KindProj::Boxed { body } => {
                body.poll_frame(cx).map_err(|error| BodyError(BodyErrorKind::Boxed(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Upstream { first, body, .. } => first.is_none() && body.is_end_stream(),
            Kind::Watched { body, .. } => body.is_end_stream(),
            Kind::Full { body } => body.is_end_stream(),
            Kind::Boxed { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Upstream { first, body, .. } => {
                let (rest, first) = (body.size_hint(), first.length());
                let mut hint = SizeHint::default();
                hint.set_lower(rest.lower() + first);
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper + first);
                }
                hint
            }
            Kind::Watched { body, .. } => body.size_hint(),
            Kind::Full { body } => body.size_hint(),
            Kind::Boxed { body } => body.size_hint(),
        }
    }
}

/// The reason why a [`ResponseBody`] ended early. [`source`](StdError::source) returns the cause.
#[derive(Debug)]
pub struct BodyError(BodyErrorKind);

impl From<FrameError> for BodyError {
    fn from(error: FrameError) -> Self {
        Self(BodyErrorKind::Upstream(error))
    }
}

#[derive(Debug)]
enum BodyErrorKind {
    Upstream(FrameError),
    Boxed(BoxError),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            BodyErrorKind::Upstream(FrameError::Stalled(limit)) => {
                write!(f, "the service sent no bytes of the response for {limit:?}")
            }
            BodyErrorKind::Upstream(FrameError::Broken(_)) => {
                f.write_str("the service did not send the whole response")
            }
            BodyErrorKind::Boxed(_) => f.write_str("the body of the response could not be read"),
        }
    }
}

impl StdError for BodyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0 {
            BodyErrorKind::Upstream(FrameError::Broken(error)) => Some(error),
            BodyErrorKind::Upstream(FrameError::Stalled(_)) => Some(&ServiceTooSlow),
            BodyErrorKind::Boxed(error) => Some(&**error),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    struct Silent;

    impl Body for Silent {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Pending
        }
    }

    /// Ends a body at the second poll.
    #[derive(Debug)]
    struct Second(usize);

    impl StreamEnd for Second {
        fn poll_end(&mut self, _: &mut Context<'_>) -> Poll<&'static str> {
            self.0 += 1;
            if self.0 < 2 { Poll::Pending } else { Poll::Ready("the token was revoked") }
        }
    }

    #[test]
    fn a_watched_body_ends_and_grpc_gets_a_status() {
        for is_grpc in [false, true] {
            let body = ResponseBody::new(Silent).with_end(Box::new(Second(0)), is_grpc);
            let mut body = task::spawn(body);
            assert_pending!(body.enter(|cx, body| body.poll_frame(cx)));
            let frame = assert_ready!(body.enter(|cx, body| body.poll_frame(cx)));
            let status = frame.map(|frame| frame.unwrap().into_trailers().unwrap());
            let status = status.map(|trailers| trailers["grpc-status"].clone());
            assert_eq!(status, is_grpc.then(|| HeaderValue::from_static("16")));
            assert!(body.is_end_stream());
        }
    }
}
