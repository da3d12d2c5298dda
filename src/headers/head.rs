//! The response to a `HEAD` request.

use http::{HeaderValue, Response, header::CONTENT_LENGTH};
use http_body::Body;

/// Makes the response to `HEAD`: the head of the response to `GET`, with the length of the body if it is known (RFC
/// 9110 §9.3.2). This function removes the body. Over HTTP/1.1, hyper would also remove the body. Over HTTP/2, hyper
/// would send the body, which is a protocol error.
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
