//! Marks requests that ask for the upgrade to WebSocket.

/// An extension of a `GET` request over HTTP/1.1 whose headers `Connection` and `Upgrade` ask for WebSocket (RFC 6455
/// §4.1). [`SanitizeLayer`](super::SanitizeLayer) adds this extension after its check of `Origin`, and then removes the
/// two headers, because they are hop-by-hop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AsksForWebSocket;
