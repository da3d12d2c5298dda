//! Counts a request as in flight until the body of its response has ended. Until then, records whether the request
//! waits for the service or for the client.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
#[cfg(feature = "proxy")]
use http::StatusCode;
use http::{Method, Response, header::CONTENT_TYPE};
use hyper::body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

#[cfg(feature = "proxy")]
use super::close_reason::CloseReason;
use super::{
    client_connection::{InFlight, WaitsFor},
    http_version::HttpVersion,
    refusal::Refusal,
    streams,
};
use crate::{
    audit::{RequestId, X_REQUEST_ID},
    body_wait,
    headers::content_type,
    log_limit::log_limited,
    metrics::Label,
};
#[cfg(feature = "proxy")]
use crate::{stall::Stalled, tunnel::NewTunnel};

/// An HTTP/2 stream gets the body in pieces of at most this size, which is the default maximum size of a frame. A
/// client must take each piece within the send timeout. If a service sends a larger piece, a slow client might not be
/// able to take it in this time.
const STREAM_PIECE: usize = 16 * 1024;

pin_project! {
    pub(super) struct CountedResponse<F> {
        #[pin]
        response: Option<F>,
        // The answer to a refused request.
        refusal: Option<Box<Response<Bytes>>>,
        version: HttpVersion,
        in_flight: Option<InFlight>,
    }
}

impl<F> CountedResponse<F> {
    pub(super) fn new(response: F, version: HttpVersion, in_flight: InFlight) -> Self {
        Self { response: Some(response), refusal: None, version, in_flight: Some(in_flight) }
    }

    /// `logged` writes the answer to the access log, and returns the id of the request.
    #[cold]
    pub(super) fn refused(
        refusal: Refusal,
        method: &Method,
        version: HttpVersion,
        in_flight: InFlight,
        logged: impl FnOnce(&Response<Bytes>) -> RequestId,
    ) -> Self {
        let mut response = refusal.response();
        if method == Method::HEAD {
            response.body_mut().clear();
        }
        let id = logged(&response);
        response.headers_mut().insert(&X_REQUEST_ID, id.header_value());
        log_limited!(
            warn,
            ("refused", refusal.value()),
            { request_id = %id, reason = refusal.value() },
            "request refused at a limit"
        );
        if let Some(counts) = in_flight.counts() {
            counts.add_refused(refusal);
        }
        let refusal = Some(Box::new(response));
        Self { response: None, refusal, version, in_flight: Some(in_flight) }
    }
}

impl<F, B, E> Future for CountedResponse<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<CountedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(response) = this.response.as_pin_mut() else {
            let refusal = this.refusal.take().expect("polled after completion");
            // The answer is small and complete. So the request already ends here, before the client has taken the
            // answer.
            *this.in_flight = None;
            return Poll::Ready(Ok(refusal.map(|rest| CountedBody {
                body: None,
                rest,
                piece: usize::MAX,
                has_no_limit: false,
                in_flight: None,
            })));
        };
        body_wait::clear();
        let Poll::Ready(response) = response.poll(cx) else {
            streams::service_is_pending();
            if let Some(in_flight) = this.in_flight {
                in_flight.set_waits_for(match body_wait::is_pending() {
                    true => WaitsFor::Client,
                    false => WaitsFor::Service,
                });
            }
            return Poll::Pending;
        };
        #[cfg_attr(
            not(feature = "proxy"),
            expect(unused_mut, reason = "only the proxy makes tunnels")
        )]
        let (mut head, body) = response?.into_parts();
        #[cfg(feature = "proxy")]
        if head.status == StatusCode::REQUEST_TIMEOUT
            && head.extensions.get::<Stalled>().is_some()
            && let Some(counts) = this.in_flight.as_ref().and_then(InFlight::counts)
        {
            counts.add_closed(CloseReason::Receive);
        }
        #[cfg(feature = "proxy")]
        if head.status == StatusCode::SWITCHING_PROTOCOLS
            && let Some(tunnel) = head.extensions.remove::<NewTunnel>()
            && let Some(tunnel) = tunnel.take()
            && let Some(in_flight) = this.in_flight.take()
        {
            in_flight.begin_tunnel(tunnel);
        }
        // A body of known length has an end, whatever its content type is.
        let has_no_limit = body.size_hint().exact().is_none()
            && head.headers.get(CONTENT_TYPE).is_some_and(content_type::is_endless);
        if has_no_limit && let Some(in_flight) = this.in_flight {
            in_flight.set_has_no_send_limit();
        }
        let piece = match this.version {
            HttpVersion::Http1 => usize::MAX,
            HttpVersion::Http2 => STREAM_PIECE,
        };
        let rest = Bytes::new();
        let mut in_flight = this.in_flight.take();
        if let Some(in_flight) = &mut in_flight {
            in_flight.set_waits_for(WaitsFor::Client);
        }
        let body = CountedBody { body: Some(body), rest, piece, has_no_limit, in_flight };
        Poll::Ready(Ok(Response::from_parts(head, body)))
    }
}

pin_project! {
    /// The body of a response. hyper drops it after the last frame.
    pub(super) struct CountedBody<B> {
        // `None` if the request was refused.
        #[pin]
        body: Option<B>,
        // The part of the most recent frame that hyper has not received yet, or the body of a refusal.
        rest: Bytes,
        piece: usize,
        has_no_limit: bool,
        // `None` if the request was refused, or has become a tunnel.
        in_flight: Option<InFlight>,
    }
}

impl<B: Body> Body for CountedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let data = if this.rest.is_empty() {
            let Some(body) = this.body.as_pin_mut() else { return Poll::Ready(None) };
            let Poll::Ready(frame) = body.poll_frame(cx) else {
                streams::service_is_pending();
                if let Some(in_flight) = this.in_flight {
                    in_flight.set_waits_for(WaitsFor::Service);
                }
                return Poll::Pending;
            };
            match frame.transpose()?.map(Frame::into_data) {
                None => return Poll::Ready(None),
                // The frame has trailers and no data, so `map_data` changes only the type.
                Some(Err(other)) => {
                    return Poll::Ready(Some(Ok(other.map_data(|_| Bytes::new()))));
                }
                // This copies nothing if the data is `Bytes`.
                Some(Ok(mut data)) => data.copy_to_bytes(data.remaining()),
            }
        } else {
            std::mem::take(this.rest)
        };
        let mut piece = data;
        if piece.len() > *this.piece {
            *this.rest = piece.split_off(*this.piece);
        }
        streams::passed_on(piece.len(), *this.has_no_limit);
        // hyper polls again as soon as it has room for more data. Until then, the request waits for the client.
        if let Some(in_flight) = this.in_flight {
            in_flight.set_waits_for(WaitsFor::Client);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let Some(body) = &self.body else { return SizeHint::with_exact(rest) };
        let mut hint = body.size_hint();
        if rest > 0 {
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper.saturating_add(rest));
            }
            hint.set_lower(hint.lower().saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::Ready, sync::Arc};

    use http_body_util::Full;
    use tokio::sync::oneshot;
    use tokio_test::task;

    use super::*;
    use crate::tls::client_connection::ClientConnection;

    #[test]
    fn a_refused_request_is_in_flight_only_until_its_answer() {
        let connection = Arc::new(ClientConnection::unlimited());
        let in_flight = InFlight::begin(&connection);
        let refused = CountedResponse::<Ready<Result<Response<Full<Bytes>>, Infallible>>>::refused(
            Refusal::HeaderMemory,
            &Method::GET,
            HttpVersion::Http2,
            in_flight,
            |_| RequestId::next(),
        );
        assert_eq!(connection.in_flight(), 1);
        let Poll::Ready(Ok(response)) = task::spawn(refused).poll() else { panic!("pending") };
        assert_eq!(connection.in_flight(), 0);
        assert!(!response.body().is_end_stream());
    }

    #[test]
    fn a_request_waits_for_the_service_or_for_the_client() {
        let connection = Arc::new(ClientConnection::unlimited());
        let (sender, receiver) = oneshot::channel();
        let response =
            CountedResponse::new(receiver, HttpVersion::Http2, InFlight::begin(&connection));
        let mut response = task::spawn(response);
        assert!(response.poll().is_pending());
        assert!(!connection.waits_for_client());
        sender.send(Response::new(Full::new(Bytes::from_static(b"body")))).unwrap();
        let Poll::Ready(Ok(response)) = response.poll() else { panic!("pending") };
        assert!(connection.waits_for_client());
        let other = InFlight::begin(&connection);
        assert!(!connection.waits_for_client());
        drop(other);
        assert!(connection.waits_for_client());
        drop(response);
        assert!(connection.is_idle() && !connection.waits_for_client());
    }
}
