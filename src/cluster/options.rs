//! The options of a node.

use std::time::Duration;

use super::coordinator::NodeName;

/// When the response to a revocation reports success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confirm {
    /// When no node accepts the revoked token any more. There is one exception: a node with a time in
    /// [`with_serve_without_lease`](ClusterOptions::with_serve_without_lease) can still accept the token for this time.
    #[default]
    Everywhere,
    /// When this node has stored the revocation, and the store that the nodes share has it. The other nodes accept the
    /// token until they receive the revocation, normally for a few milliseconds. A node that has lost its connection
    /// accepts the token until its lease ends, and in the additional time of `with_serve_without_lease`.
    Local,
}

/// Selects whether a node starts if its own file and the store that the nodes share have no data of the site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmptySite {
    /// Starts without data. Use this if the file of the node already existed at this start, or if the operator has
    /// asked for a new file. Exception: if a start with [`Refuse`](Self::Refuse) has created the file, but ended before
    /// the node joined, use `Refuse` at the next start, too.
    #[default]
    Begin,
    /// Starts only if another node of the site is running. Use this if the file was missing, and the operator has not
    /// asked for a new file: all revocations of the site may then be lost (docs/decisions.md#d38).
    Refuse,
}

/// The options of a [`ClusterNode`](super::ClusterNode).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClusterOptions {
    pub(super) name: NodeName,
    pub(super) lease: Duration,
    pub(super) confirm: Confirm,
    pub(super) serve_without_lease: Duration,
    pub(super) empty_site: EmptySite,
}

impl ClusterOptions {
    /// The default lease time. See [`with_lease`](Self::with_lease).
    pub const LEASE: Duration = Duration::from_secs(3);
    /// The shortest lease time.
    pub const MIN_LEASE: Duration = Duration::from_millis(300);
    /// The longest lease time.
    pub const MAX_LEASE: Duration = Duration::from_secs(60);

    /// Creates options with their defaults. Each node of a site needs its own name.
    pub fn new(name: NodeName) -> Self {
        Self {
            name,
            lease: Self::LEASE,
            confirm: Confirm::default(),
            serve_without_lease: Duration::ZERO,
            empty_site: EmptySite::default(),
        }
    }

    /// Sets how long a lease lasts after the node has sent the renewal. All nodes of a site must have the same value.
    /// The default is 3 seconds. A time below [`MIN_LEASE`](Self::MIN_LEASE) becomes `MIN_LEASE`, and a time above
    /// [`MAX_LEASE`](Self::MAX_LEASE) becomes `MAX_LEASE`.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease.clamp(Self::MIN_LEASE, Self::MAX_LEASE);
        self
    }

    /// Sets when the response to a revocation reports success. The default is [`Confirm::Everywhere`].
    #[must_use]
    pub fn with_confirm(mut self, confirm: Confirm) -> Self {
        self.confirm = confirm;
        self
    }

    /// Sets how much longer this node accepts tokens after its lease has ended. The default is zero. In this additional
    /// time, the node may accept a token although another node has already confirmed its revocation
    /// (docs/decisions.md#d9).
    #[must_use]
    pub fn with_serve_without_lease(mut self, time: Duration) -> Self {
        self.serve_without_lease = time;
        self
    }

    /// Sets what the node does if neither its file nor the store that the nodes share has data of the site. The default
    /// is [`EmptySite::Begin`].
    #[must_use]
    pub fn with_empty_site(mut self, empty_site: EmptySite) -> Self {
        self.empty_site = empty_site;
        self
    }
}
