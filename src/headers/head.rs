//! The response to a `HEAD` request.

use http::{HeaderValue, Response, header::CONTENT_LENGTH};
use http_body::Body;

/// The response to `HEAD`: the head of the response to `GET`, with the length of its body (RFC 9110 §9.3.2).
/// hyper removes the body over HTTP/1.1, but over HTTP/2 it would send the body, which is a protocol error.
pub(crate) fn without_body<B: Body + Default>(response: Response<B>) -> Response<B> {
    if response.body().is_end_stream() {
        return response;
    }
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(head, B::default())
}
