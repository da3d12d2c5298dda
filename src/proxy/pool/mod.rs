//! Connections to the services, kept for the next request.
//!
//! Each runtime and each service (scheme and authority) has a stack of idle connections: the one that was used
//! last is used next, and giving one back is a push. The pool of `hyper-util` does more for each
//! request than a proxy needs (`benches/compare` has a minimal proxy that uses it).
//!
//! # States of a connection
//! | state | owner | polled by | next state |
//! |---|---|---|---|
//! | connecting | [`Connecting`], in the future of a request | that future | in use; dropped with the request |
//! | in use | [`PooledConnection`], in the future of a request | that future | answered when the head of the response arrives; closed when the request is dropped, fails or times out |
//! | answered | [`PooledConnection`], in the body of the response | the reader of the body; a task of its own while the request is still being sent | idle when the body has ended and the connection can carry a request; draining when the service answered before it read the whole request; closed when the body is dropped before its end |
//! | idle | [`HostPool`] | not polled; checked when it is taken, and by the reaper | in use; draining after the idle timeout, when the pool is full, or when the pool is dropped |
//! | draining | a task of its own | that task | closed once the rest of the request is written and TLS is shut down, or when the service accepts no bytes for a while |
//! | closed | – | – | – |
//!
//! A connection carries one exchange at a time (HTTP/1.1 without pipelining). A connection of which the
//! service sent something unasked is closed, never reused: those bytes must not become the response to
//! the next request.

mod connection_pool;
mod host_pool;
mod read_after_reset;
mod upstream_connection;

pub(super) use connection_pool::{ConnectError, Connecting, ConnectionPool};
pub(super) use host_pool::{HostPool, PooledConnection};
pub(super) use upstream_connection::Sending;
