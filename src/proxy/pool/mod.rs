//! A pool of connections to the services.
//!
//! Each pair of a tokio runtime and an instance of a service (scheme, authority and protocol) has a stack of idle
//! connections. The connection that was used last is used next. The pool of `hyper-util` is not used, because it does
//! more work for each request than this proxy needs. For a comparison, `benches/compare` contains a minimal proxy with
//! that pool.
//!
//! The number of connections to an instance is limited over all runtimes ([`connection_limit`]). A connection holds a
//! slot from the state *connecting* until it is closed. At the limit, requests wait.
//!
//! # States of a connection
//! | state | owner | polled by |
//! |---|---|---|
//! | connecting | [`Connecting`], in the future of a request | that future |
//! | in use | [`PooledConnection`], in the future of a request | that future |
//! | answered | [`PooledConnection`], in the body of the response | the reader of the body, or a separate task if the head of the response arrived before the whole request was sent |
//! | tunnel | the tunnel (`super::websocket`) | the task of the tunnel |
//! | idle | [`HostPool`] | nothing; the next request and the reaper check the connection |
//! | draining | a separate task | that task |
//! | closed | nothing | nothing |
//!
//! | from | to | when |
//! |---|---|---|
//! | | connecting | A request finds no idle connection, and gets a slot, perhaps after it has waited. |
//! | connecting | in use | The connection is open. |
//! | connecting | closed | Connecting fails or times out, or the request is dropped. |
//! | in use | answered | The head of the response arrives. |
//! | in use | in use | The service closes a reused connection before the response begins, and the request may be sent again: the connection gets a new socket ([`exchange_io`]). |
//! | in use | closed | The exchange fails or times out, or the request is dropped. |
//! | in use | tunnel | The service changes to the WebSocket protocol (status 101). |
//! | answered | idle | The body of the response has ended, no separate task polls the connection, and the connection is ready for a request. |
//! | answered | in use | The conditions for *idle* hold, but a request of the same pool (runtime and protocol) waits at the limit. This request gets the connection. |
//! | answered | draining | The conditions for *idle* hold, but the request that has waited longest belongs to another pool, and each waiting request of this pool began to wait at least 250 ms later. The request that has waited longest gets the slot. |
//! | answered | draining | The body has ended or is dropped. In addition, a part of the request must still be written, or a separate task already polls the connection. |
//! | answered | draining | The body has ended, but the pool is full or was dropped. |
//! | answered | closed | The connection fails, the service closes the connection, or the service pauses too long in the body. |
//! | answered | closed | The body is dropped before its end, and the whole request has been written. |
//! | idle | in use | The next request takes the connection. |
//! | idle | draining | The idle timeout is over, or the pool is dropped, or a request begins to wait at the limit. |
//! | idle | closed | The next request or the reaper finds that the service has closed the connection. |
//! | idle | draining | The connections to the host name are retired, because an address of the name has changed. |
//! | answered | draining | The conditions for *idle* hold, but the connection was opened before the connections to its host name were retired. |
//! | tunnel | closed | The tunnel ends. |
//! | draining | closed | The rest of the request is written and TLS is shut down, or the service accepts no more bytes. |
//!
//! A connection of HTTP/1.1 handles one exchange at a time, without pipelining. If the service sends bytes that belong
//! to no response, the connection is closed. If it were reused, these bytes could become the response to the next
//! request.
//!
//! # HTTP/2
//! The tables above are for HTTP/1.1. A connection uses HTTP/2 in two cases: the service chooses HTTP/2 by ALPN, or the
//! route has [`ServiceProtocol::H2c`](crate::layer::ServiceProtocol::H2c). The requests of a runtime to an instance
//! share a few connections of HTTP/2, which hyper drives in tasks ([`http2_connection`]). Each exchange has a stream
//! ([`http2_stream`]). Each connection also holds a slot. A connection has three states:
//!
//! | state of a connection | in the pool | gets streams |
//! |---|---|---|
//! | usable | yes | The first usable connection with fewer than the permitted streams gets the next request. |
//! | retired | until the pool is next used | no; its open streams go on |
//! | closing | no | no; it has no streams |
//!
//! | from | to | when |
//! |---|---|---|
//! | | usable | A request finds no free stream, and gets a slot. If the last connection used HTTP/2, only one request of a runtime connects at a time. The other requests wait for its result. |
//! | usable | retired | The service sends GOAWAY or closes the connection. |
//! | usable | retired | The connections to the host name are retired, because an address of the name has changed. |
//! | usable | retired | A request times out, and no byte has arrived since the request was sent: the connection may be dead. |
//! | usable | retired | The service does not answer a ping in time. Pings are sent after a long silence while streams are open. |
//! | usable | retired | A request of another pool waits at the limit for the slot. |
//! | usable | closing | The connection had no stream for the idle timeout, or a request of another pool waits at the limit, or the pool is dropped. |
//! | retired | closing | The last stream has ended, and the pool has removed the connection. |
//! | closing | closed | TLS is shut down, or `max_stall` has passed (a quarter of the response timeout, at least 1 s). |
//!
//! | state of a stream | when it ends |
//! |---|---|
//! | waiting | The head of the response arrives: *answered*. |
//! | waiting | The service has not processed the request (`REFUSED_STREAM`, GOAWAY), or the connection is lost. [`http2_failure`] decides whether the request is sent again on another stream or connection. |
//! | waiting | The service resets the stream for another reason: the exchange fails. |
//! | waiting | The exchange times out, or the request is dropped: `RST_STREAM` with `CANCEL`. |
//! | answered | The response has ended, and the whole request was sent: closed. If hyper can send no part of the rest of the request's body for one to two times `max_stall`, the stream is reset. |
//! | answered | The body of the response is dropped or stalls: `RST_STREAM` with `CANCEL`. |
//!
//! The window of a connection is large enough for the windows of up to 16,383 streams. So a client that reads slowly
//! cannot delay the responses to other clients.

mod connection_limit;
mod connection_pool;
mod exchange_io;
mod host_pool;
mod http2_connection;
mod http2_failure;
mod http2_io;
mod http2_stream;
mod informational_limit;
mod lock;
mod read_after_reset;
mod sent_request;
mod shared_body;
mod slot_io;
mod upstream_connection;

pub(super) use connection_pool::{
    ConnectError, Connected, Connecting, ConnectionPool, Negotiation, PoolSettings,
};
pub(super) use exchange_io::{NewHeaders, ReconnectError, Resend, is_caused_by};
pub(super) use host_pool::{FrameError, HostPool, PooledConnection};
pub(super) use informational_limit::TooManyInformational;
pub(super) use shared_body::SharedBody;
pub(super) use upstream_connection::{GivenBack, MAX_HEADERS, Sending, WhyGivenBack};
