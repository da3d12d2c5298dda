//! Content types whose bodies can be endless.

use http::HeaderValue;

/// Returns whether a body of this type can be endless: an event stream, or gRPC. Slow clients and long pauses of the
/// service are normal for such a body.
pub(crate) fn is_endless(content_type: &HeaderValue) -> bool {
    begins_with(content_type, b"text/event-stream") || is_grpc(content_type)
}

/// Returns whether the type is gRPC, including gRPC with a suffix such as `+proto`.
pub(crate) fn is_grpc(content_type: &HeaderValue) -> bool {
    begins_with(content_type, b"application/grpc")
}

fn begins_with(content_type: &HeaderValue, kind: &[u8]) -> bool {
    let start = content_type.as_bytes().get(..kind.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_streams_and_grpc_are_endless() {
        for (kind, want) in [
            ("text/event-stream", true),
            ("Text/Event-Stream; charset=utf-8", true),
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("text/event", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_endless(&HeaderValue::from_static(kind)), want, "{kind}");
        }
    }
}
