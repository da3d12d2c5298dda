//! A client connection whose bytes are not HTTP any more. [`proxy`](crate::proxy) makes a tunnel for a WebSocket, and
//! [`tls::Server`](crate::tls::Server) runs it in place of the HTTP connection.

#![cfg_attr(
    not(all(feature = "proxy", feature = "tls")),
    allow(
        dead_code,
        reason = "only a server that runs the tunnels of the proxy needs all of this"
    )
)]

use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

/// The future of a tunnel. It owns the connection of the client, and is ready when the tunnel has ended. Dropping the
/// future closes the connection to the service immediately.
pub(crate) trait Tunnel: Future<Output = ()> + Send {
    /// Ends the tunnel, because the server stops. After this call, the caller must poll the tunnel until it is ready,
    /// which takes a few seconds at most.
    fn graceful_shutdown(self: Pin<&mut Self>);

    /// Ends the tunnel, because the client certificate of its connection is not accepted any more. After this call, the
    /// caller must poll the tunnel until it is ready, which takes a few seconds at most.
    fn revoke_certificate(self: Pin<&mut Self>);
}

pub(crate) type BoxTunnel = Pin<Box<dyn Tunnel>>;

/// An extension of a request. The server that inserts this extension runs the [`NewTunnel`] that it finds in the
/// extensions of the response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunsTunnels;

/// The tunnel, as an extension of a response with status 101. Extensions must be `Clone`, so the tunnel is shared.
#[derive(Clone)]
pub(crate) struct NewTunnel(Arc<Mutex<Option<BoxTunnel>>>);

impl NewTunnel {
    pub(crate) fn new(tunnel: BoxTunnel) -> Self {
        Self(Arc::new(Mutex::new(Some(tunnel))))
    }

    pub(crate) fn take(&self) -> Option<BoxTunnel> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for NewTunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewTunnel")
    }
}
