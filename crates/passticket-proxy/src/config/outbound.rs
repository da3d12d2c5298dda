//! Lets the command `explain` work without connections to other servers.

use std::{fmt, sync::Arc};

use http::Uri;
use tower_passticket::tls::Connector;

/// Whether the gateway opens connections to other servers. By default, it does.
#[derive(Clone, Default)]
pub struct OutboundConnections(Option<Arc<dyn Fn(&Uri) + Send + Sync>>);

impl OutboundConnections {
    /// Forbids connections. In place of opening a connection, a connector calls `refused` with the URI of the server.
    /// `refused` must not block.
    pub fn refused(refused: impl Fn(&Uri) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(refused)))
    }

    /// Returns the connector, which opens no connections if they are forbidden.
    #[must_use]
    pub fn apply(&self, connector: Connector) -> Connector {
        match self.0.clone() {
            None => connector,
            Some(refused) => connector.without_connections(move |uri| refused(uri)),
        }
    }
}

impl fmt::Debug for OutboundConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Refused" } else { "Opened" })
    }
}
