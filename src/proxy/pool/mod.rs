//! A pool of connections to the services.
//!
//! Each combination of a tokio runtime and a service (scheme and authority) has a stack of idle
//! connections. The connection that was used last is used next. The pool of `hyper-util` does more work
//! for each request than this proxy needs (`benches/compare` has a minimal proxy that uses it).
//!
//! # States of a connection
//! | state | owner | polled by | next state |
//! |---|---|---|---|
//! | connecting | [`Connecting`], in the future of a request | that future | in use when it is open; closed when the request is dropped |
//! | in use | [`PooledConnection`], in the future of a request | that future | answered when the head of the response arrives; closed when the request is dropped, fails or times out |
//! | answered | [`PooledConnection`], in the body of the response | the reader of the body; a separate task if the request was not yet sent completely | idle when the body has ended and the connection is ready for a request; draining when a separate task polls it or a part of the request still has to be written; closed when the body is dropped before its end |
//! | idle | [`HostPool`] | not polled; checked by the next request and by the reaper | in use for the next request; draining after the idle timeout, when the pool is full, or when the pool is dropped; closed when the service has closed it |
//! | draining | a separate task | that task | closed when the rest of the request is written and TLS is shut down, or when the service accepts no more bytes |
//! | closed | – | – | – |
//!
//! A connection handles one exchange at a time (HTTP/1.1 without pipelining). If the service sends bytes
//! that belong to no response, its connection is closed and not reused. Otherwise those bytes could become
//! the response to the next request.

mod connection_pool;
mod host_pool;
mod read_after_reset;
mod upstream_connection;

pub(super) use connection_pool::{ConnectError, Connecting, ConnectionPool};
pub(super) use host_pool::{HostPool, PooledConnection};
pub(super) use upstream_connection::Sending;
