//! Connectors that negotiate HTTP/2.

use http::Uri;
use tower_service::Service;

/// A connector that can offer HTTP/2 by ALPN (RFC 7301). [`tls::Connector`](crate::tls::Connector) is such a connector.
///
/// By default, the connector offers only HTTP/1.1, so that code without support for HTTP/2 can use it.
pub trait NegotiateHttp2: Service<Uri> {
    /// Returns a connector with the same settings that offers HTTP/2 and HTTP/1.1.
    #[must_use]
    fn offering_http2(&self) -> Self;

    /// Returns whether the server has chosen HTTP/2 for `connection`.
    fn is_http2(connection: &Self::Response) -> bool;
}
