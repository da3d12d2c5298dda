//! Marks requests that ask for the upgrade to WebSocket.

/// Marks a `GET` request over HTTP/1.1 that asks for WebSocket (RFC 6455 §4.1). [`SanitizeLayer`](super::SanitizeLayer)
/// checks `Origin`, removes `Connection` and `Upgrade`, because they are hop-by-hop headers, and adds this extension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AsksForWebSocket;
