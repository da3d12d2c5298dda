//! The answers to requests that the gateway refuses at a limit.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, header::RETRY_AFTER};

use super::address_requests::TooManyRequests;
use crate::{
    messages::{self, ApiMessage},
    metrics::{Label, LabelName},
};

/// The time that a client should wait before it repeats a request that was refused.
const WAIT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The address of the client has too many requests in flight.
    RequestsPerAddress,
    /// The headers of all requests in flight would take too much memory.
    HeaderMemory,
    HeadersTooLarge,
}

impl Refusal {
    /// Returns the answer to the client.
    ///
    /// If one address has too many requests, the status is 429. After a 503, a load balancer could conclude that the
    /// gateway is down for all clients. A client such as Apache HttpClient repeats a request after a 429 as well as
    /// after a 503.
    pub(super) fn response(self) -> Response<Bytes> {
        let (message, status) = match self {
            Self::RequestsPerAddress => {
                (ApiMessage::new(&messages::TOO_MANY_IN_FLIGHT), StatusCode::TOO_MANY_REQUESTS)
            }
            Self::HeaderMemory => {
                let why = "too many large requests are in flight";
                let message = ApiMessage::with(&messages::SERVICE_UNAVAILABLE, &[why]);
                (message, StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::HeadersTooLarge => {
                let why = "the headers are too large";
                let message = ApiMessage::with(&messages::BAD_REQUEST, &[why]);
                (message, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
            }
        };
        let mut response = message.into_response(status);
        if self != Self::HeadersTooLarge {
            response.headers_mut().insert(RETRY_AFTER, messages::retry_after(WAIT));
        }
        response
    }
}

impl From<TooManyRequests> for Refusal {
    fn from(_: TooManyRequests) -> Self {
        Self::RequestsPerAddress
    }
}

impl Label for Refusal {
    const NAME: LabelName = LabelName::new("reason");
    const ALL: &'static [Self] =
        &[Self::RequestsPerAddress, Self::HeaderMemory, Self::HeadersTooLarge];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        match self {
            Self::RequestsPerAddress => "requests-per-address",
            Self::HeaderMemory => "header-memory",
            Self::HeadersTooLarge => "headers-too-large",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_status_and_a_message() {
        for (at, (refusal, status, message, retry_after)) in [
            (Refusal::RequestsPerAddress, 429, "ZWESG429E", Some("1")),
            (Refusal::HeaderMemory, 503, "ZWEAO503E", Some("1")),
            (Refusal::HeadersTooLarge, 431, "ZWEAO400E", None),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(refusal.index(), at);
            let response = refusal.response();
            assert_eq!(response.status(), status);
            let header = response.headers().get(RETRY_AFTER);
            assert_eq!(header.map(|value| value.to_str().unwrap()), retry_after);
            let body = String::from_utf8(response.into_body().to_vec()).unwrap();
            assert!(body.contains(message), "{body}");
        }
    }
}
