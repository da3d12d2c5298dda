//! The answer of a service with status 101, and its connection.

use std::{
    fmt,
    task::{Context, Poll},
};

use http::{Response, response::Parts};
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Upgraded},
};

use super::super::{instances::InFlight, pool::PooledConnection};

/// The answer of a service with status 101. Dropping this value closes the connection to the service.
pub(in crate::proxy) struct ServiceUpgrade {
    pub(super) head: Box<Parts>,
    pub(super) connection: SwitchedConnection,
    /// The request is in flight at the instance until the tunnel ends.
    pub(super) in_flight: Option<InFlight>,
}

impl ServiceUpgrade {
    pub(in crate::proxy) fn new<B: Send + 'static>(
        mut response: Response<Incoming>,
        connection: Box<PooledConnection<B>>,
        in_flight: Option<InFlight>,
    ) -> Self {
        let on_upgrade = hyper::upgrade::on(&mut response);
        let (head, _) = response.into_parts();
        let connection = SwitchedConnection { connection, on_upgrade };
        Self { head: Box::new(head), connection, in_flight }
    }
}

/// The connection to a service, which changes to another protocol.
pub(super) struct SwitchedConnection {
    connection: Box<dyn PollUpgraded + Send>,
    on_upgrade: OnUpgrade,
}

impl SwitchedConnection {
    pub(super) fn poll_upgraded(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<Upgraded>> {
        self.connection.poll_upgraded(&mut self.on_upgrade, cx)
    }
}

impl fmt::Debug for SwitchedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SwitchedConnection")
    }
}

/// The trait hides the type of the request's body.
trait PollUpgraded {
    fn poll_upgraded(
        &mut self,
        on_upgrade: &mut OnUpgrade,
        cx: &mut Context<'_>,
    ) -> Poll<hyper::Result<Upgraded>>;
}

impl<B> PollUpgraded for PooledConnection<B> {
    fn poll_upgraded(
        &mut self,
        on_upgrade: &mut OnUpgrade,
        cx: &mut Context<'_>,
    ) -> Poll<hyper::Result<Upgraded>> {
        self.poll_upgraded(on_upgrade, cx)
    }
}
