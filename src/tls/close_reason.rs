//! The reasons why the gateway closes the connection of a client, or ends a request.

use crate::metrics::{Label, LabelName};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// The connection had been idle longest, or it was stalled. It was closed for a new client, or because the process
    /// had too many open files.
    ConnectionLimit,
    /// The connection was new, and no other connection could be closed for it.
    NoIdleConnection,
    /// The connection was new. Its address had its maximum of connections, and none of these was idle or stalled.
    AddressLimit,
    /// The client sent no request for too long.
    Idle,
    /// The client did not send the head of a request in time.
    Head,
    /// The client did not take the response in time.
    Send,
    /// The client did not take the response of an HTTP/2 stream in time. The gateway reset only the stream.
    Stream,
    /// The client did not send the body of a request in time. The gateway answered with status 408.
    Receive,
    /// The client certificate of the connection is no longer accepted. For example, it was revoked, it has expired, or
    /// the gateway no longer trusts its CA (certificate authority).
    Certificate,
}

impl Label for CloseReason {
    const NAME: LabelName = LabelName::new("reason");
    const ALL: &'static [Self] = &[
        Self::ConnectionLimit,
        Self::NoIdleConnection,
        Self::AddressLimit,
        Self::Idle,
        Self::Head,
        Self::Send,
        Self::Stream,
        Self::Receive,
        Self::Certificate,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        match self {
            Self::ConnectionLimit => "connection-limit",
            Self::NoIdleConnection => "no-idle-connection",
            Self::AddressLimit => "address-limit",
            Self::Idle => "idle",
            Self::Head => "head",
            Self::Send => "send",
            Self::Stream => "stream",
            Self::Receive => "receive",
            Self::Certificate => "certificate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_index() {
        for (at, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), at);
        }
    }
}
