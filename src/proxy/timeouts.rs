//! Time limits for exchanges with services, and for idle connections.

use std::time::Duration;

/// Time limits of [`Forward`](super::Forward).
///
/// ```
/// use std::time::Duration;
///
/// use tower_passticket::proxy::ForwardTimeouts;
///
/// let timeouts = ForwardTimeouts::default().with_response(Duration::from_secs(5));
/// assert_eq!(timeouts.response(), Duration::from_secs(5));
/// assert_eq!(timeouts.idle(), Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardTimeouts {
    response: Duration,
    receive: Duration,
    idle: Duration,
    queue: Duration,
    body: Duration,
}

impl Default for ForwardTimeouts {
    /// Returns the default timeouts. The response timeout is 60 s, which is the default of Zowe's
    /// `apiml.connection.timeout`. The receive timeout is 60 s, the idle timeout is 30 s, the queue timeout is 5 s, and
    /// the body timeout is 300 s.
    fn default() -> Self {
        Self {
            response: Duration::from_secs(60),
            receive: Duration::from_secs(60),
            idle: Duration::from_secs(30),
            queue: Duration::from_secs(5),
            body: Duration::from_secs(300),
        }
    }
}

impl ForwardTimeouts {
    /// Sets the response timeout: how long the gateway waits for the head of the response. The time to connect is
    /// included. The time starts again with each piece of the request that is sent, so it does not limit a long upload.
    /// [`Route::with_response_timeout`](crate::layer::Route::with_response_timeout) sets another value for a route.
    ///
    /// A service may send its response before it has read the whole request. If the service then accepts no more bytes
    /// of the request, the gateway waits, and then closes the connection or resets the stream of HTTP/2. The wait
    /// begins when the gateway stops reading the response. It lasts for a quarter to a half of the response timeout. If
    /// the response timeout is shorter than 4 s, the wait lasts for 1 to 2 s.
    #[must_use]
    pub fn with_response(self, response: Duration) -> Self {
        Self { response, ..self }
    }

    /// Sets the receive timeout. In each period of this length, a client must send at least 4 KiB of its request's
    /// body, until the body ends. If the client sends less, the response is 408. The time counts only while the service
    /// is ready for more of the body. There is no receive timeout for gRPC over an HTTP/2 connection to the service.
    #[must_use]
    pub fn with_receive(self, receive: Duration) -> Self {
        Self { receive, ..self }
    }

    /// Sets how long an idle connection to a service is kept. The connection is closed after it has been idle for 1 to
    /// 1.5 times this duration.
    #[must_use]
    pub fn with_idle(self, idle: Duration) -> Self {
        Self { idle, ..self }
    }

    /// Sets how long a request may wait in total for a connection. A request waits when all connections that
    /// [`with_max_connections`](super::Forward::with_max_connections) permits are in use. After this time, the response
    /// is 503 with `Retry-After`. This time is not a part of the response timeout.
    #[must_use]
    pub fn with_queue(self, queue: Duration) -> Self {
        Self { queue, ..self }
    }

    /// Sets the body timeout: how long the gateway waits for the next bytes of the body of a response. The timeout
    /// limits each pause of the service, not the whole response. The time counts only while the gateway waits for the
    /// service. While the client does not read, the time does not count.
    /// [`Route::with_body_timeout`](crate::layer::Route::with_body_timeout) sets another value for a route.
    ///
    /// A body of the type `text/event-stream` or `application/grpc`, also with a suffix such as `+proto` or `-web`, has
    /// no body timeout.
    #[must_use]
    pub fn with_body(self, body: Duration) -> Self {
        Self { body, ..self }
    }

    /// Returns how long the gateway waits for the head of the response.
    pub fn response(&self) -> Duration {
        self.response
    }

    /// Returns the time in which a client must send 4 KiB of the body of a request.
    pub fn receive(&self) -> Duration {
        self.receive
    }

    /// Returns how long an idle connection to a service is kept.
    pub fn idle(&self) -> Duration {
        self.idle
    }

    /// Returns how long a request may wait for a connection when all permitted connections are in use.
    pub fn queue(&self) -> Duration {
        self.queue
    }

    /// Returns how long the gateway waits for the next bytes of the body of a response.
    pub fn body(&self) -> Duration {
        self.body
    }
}
