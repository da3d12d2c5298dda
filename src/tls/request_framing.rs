//! The framing of an HTTP/1.1 request.

/// Properties of an HTTP/1.1 request that affect how its response is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestFraming {
    pub(super) has_body: bool,
    /// Whether the client uses HTTP/1.0, so that a response cannot be chunked.
    pub(super) is_http10: bool,
}
