//! Determines why an exchange over HTTP/2 failed, and whether its request is sent again ([D29](crate::decisions#d29)).

use std::error::Error as StdError;

use h2::Reason;

use super::exchange_io::Resend;

/// The kind of failure of a request without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The connection was closed before a part of the request was sent.
    Unsent,
    /// The service refused the stream (`REFUSED_STREAM`), so it has not processed the request (RFC 9113 §8.7).
    Refused,
    /// The service has not processed the request: no stream was opened, or the stream has a higher number than the last
    /// stream that a GOAWAY names (RFC 9113 §8.7).
    Unprocessed,
    /// The connection ended before the response began.
    ConnectionLost,
    /// The service ended this stream, or the gateway could not send the body.
    Other,
}

impl Failure {
    /// Classifies an error. `is_unsent` means that hyper has given the request back.
    pub(super) fn of(error: &hyper::Error, is_unsent: bool) -> Self {
        // hyper reports a user error if it drops a request that still waits for a free stream. The service has not
        // received such a request.
        if error.is_user() {
            return Self::Unprocessed;
        }
        if is_unsent {
            return Self::Unsent;
        }
        let mut cause = error.source();
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<h2::Error>() {
                let is_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
                // After a GOAWAY, h2 gives an error with `is_go_away` only to streams that the service has not
                // processed.
                return if error.is_remote() && is_refused {
                    Self::Refused
                } else if error.is_remote() && error.is_go_away() {
                    Self::Unprocessed
                } else if error.is_reset() {
                    Self::Other
                } else {
                    Self::ConnectionLost
                };
            }
            cause = error.source();
        }
        // The error has no `h2::Error`. A ping without an answer also causes such an error.
        Self::ConnectionLost
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendAgain {
    No,
    /// The request is sent again with the same credential.
    Same,
    /// The request is sent again with a new credential. The service accepts a credential only once, and may have
    /// received the credential of the first attempt.
    WithNewHeaders,
}

impl SendAgain {
    /// Decides whether the request is sent again. `has_begun` means that hyper has taken a part of the body.
    /// `was_sent_again` means that this was the second attempt.
    pub(super) fn after(
        failure: Failure,
        resend: Resend,
        has_begun: bool,
        was_sent_again: bool,
    ) -> Self {
        match (failure, resend) {
            _ if was_sent_again => Self::No,
            // `Http2Stream::give_back` also checks the body. If hyper has taken a part of the body that was not kept,
            // the request is not sent again.
            (Failure::Unsent | Failure::Refused | Failure::Unprocessed, _) => Self::Same,
            (Failure::ConnectionLost, Resend::BeforeBody) if !has_begun => Self::Same,
            (Failure::ConnectionLost, Resend::WithNewHeaders) if !has_begun => Self::WithNewHeaders,
            _ => Self::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure::*, *};

    #[test]
    fn unprocessed_requests_and_idempotent_requests_are_sent_again_once() {
        use Resend::*;
        for (failure, resend, has_begun, want) in [
            (Unsent, Never, false, SendAgain::Same),
            (Refused, Never, true, SendAgain::Same),
            (Unprocessed, Never, false, SendAgain::Same),
            (Unprocessed, IfUnsent, true, SendAgain::Same),
            (Unprocessed, WithNewHeaders, false, SendAgain::Same),
            (ConnectionLost, Never, false, SendAgain::No),
            (ConnectionLost, ByCaller, false, SendAgain::No),
            (ConnectionLost, IfUnsent, false, SendAgain::No),
            (ConnectionLost, BeforeBody, false, SendAgain::Same),
            (ConnectionLost, BeforeBody, true, SendAgain::No),
            (ConnectionLost, WithNewHeaders, false, SendAgain::WithNewHeaders),
            (ConnectionLost, WithNewHeaders, true, SendAgain::No),
            (Other, BeforeBody, false, SendAgain::No),
        ] {
            let case = (failure, resend, has_begun);
            assert_eq!(SendAgain::after(failure, resend, has_begun, false), want, "{case:?}");
            assert_eq!(SendAgain::after(failure, resend, has_begun, true), SendAgain::No);
        }
    }
}
