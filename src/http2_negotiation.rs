//! Connectors that negotiate HTTP/2.

use http::Uri;
use tower_service::Service;

/// A connector that can offer HTTP/2 by ALPN (RFC 7301). [`tls::Connector`](crate::tls::Connector) is such a connector.
///
/// By default, the connector offers only HTTP/1.1, so that code without support for HTTP/2 can use it.
/// [`offering_http2`](Self::offering_http2) returns a connector that also offers HTTP/2.
pub trait NegotiateHttp2: Service<Uri> {
    /// Returns a connector that offers HTTP/2 and HTTP/1.1. All its other settings are the same.
    #[must_use]
    fn offering_http2(&self) -> Self;

    /// Returns whether the service has chosen HTTP/2 for `connection`.
    fn is_http2(connection: &Self::Response) -> bool;
}
