//! The response to a `HEAD` request.

use http::{HeaderValue, Response, header::CONTENT_LENGTH};
use http_body::Body;

/// Makes a response to `HEAD` from a response to `GET`: removes the body, and sets `Content-Length` if the length is
/// known (RFC 9110 §9.3.2). Over HTTP/1.1, hyper removes the body itself. Over HTTP/2, hyper sends the body, which is a
/// protocol error.
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
