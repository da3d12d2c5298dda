//! Requests as clients send them.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

pub(crate) type Body = Full<Bytes>;

/// Returns a small request with one header that the caller chooses.
pub(crate) fn request(path: &str, name: &str, value: &str) -> Request<Body> {
    Request::get(path)
        .header("host", "gateway.example.com")
        .header("user-agent", "bench")
        .header("accept", "*/*")
        .header(name, value)
        .body(Body::default())
        .unwrap()
}
