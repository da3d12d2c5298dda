//! The address to which a connection is attributed in the limits per client.

use std::net::IpAddr;

use crate::connection::SourceNetwork;

/// The client to which [`ClientLimits`](super::ClientLimits) attribute a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientSource {
    Client(SourceNetwork),
    /// A proxy that carries the requests of many clients. The limit of connections of one address does not apply to it,
    /// and each request counts for the client that the proxy announces. A connection is also exempt until its header of
    /// the PROXY protocol was read.
    Exempt,
}

impl ClientSource {
    pub(super) fn of(address: IpAddr) -> Self {
        Self::Client(SourceNetwork::of(address))
    }
}
