//! Counts the responses of the gateway.

use http::StatusCode;

use crate::metrics::{Collect, CounterFamily, Description, Exposition, Label, LabelName};

const RESPONSES: Description = Description::counter(
    "passticket_responses_total",
    "Requests that were answered, by kind and status class. Requests whose client disconnected before \
     there was a response are not included.",
);

/// The part of the gateway to which a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestKind {
    /// The gateway sent the request to the auth API or to a page for users. A request for the health endpoint always
    /// counts as `Health`, even if the auth API answers it.
    AuthApi,
    /// The gateway sent the request to the routed stack, whether or not a route matches. Malformed requests also count
    /// as this kind.
    Route,
    /// The request was for the health endpoint, `/application/health`.
    Health,
}

impl Label for RequestKind {
    const NAME: LabelName = LabelName::new("kind");
    const ALL: &'static [Self] = &[Self::AuthApi, Self::Route, Self::Health];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        match self {
            Self::AuthApi => "auth-api",
            Self::Route => "route",
            Self::Health => "health",
        }
    }
}

/// The class of a status code (RFC 9110 §15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatusClass {
    /// 1xx. Only 101 occurs, which switches to a protocol such as WebSocket.
    Informational,
    /// 2xx.
    Success,
    /// 3xx.
    Redirection,
    /// 4xx.
    ClientError,
    /// 5xx, and the undefined statuses 600 to 999.
    ServerError,
}

impl From<StatusCode> for StatusClass {
    fn from(status: StatusCode) -> Self {
        match status.as_u16() {
            ..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

impl Label for StatusClass {
    const NAME: LabelName = LabelName::new("status");
    const ALL: &'static [Self] = &[
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

/// Counts the responses of a [`Gateway`](super::Gateway) by kind of request and status class.
#[derive(Debug, Default)]
pub struct RequestCounts(CounterFamily<(RequestKind, StatusClass)>);

impl RequestCounts {
    pub(super) fn count(&self, kind: RequestKind, status: StatusCode) {
        self.0.increment((kind, status.into()));
    }

    /// Returns the number of responses of this kind and class.
    pub fn get(&self, kind: RequestKind, class: StatusClass) -> u64 {
        self.0.get((kind, class))
    }
}

impl Collect for RequestCounts {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.family(&RESPONSES, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_class_and_each_label_its_index() {
        for (status, class) in [
            (101, "1xx"),
            (200, "2xx"),
            (299, "2xx"),
            (304, "3xx"),
            (404, "4xx"),
            (499, "4xx"),
            (500, "5xx"),
            (999, "5xx"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(StatusClass::from(status).value(), class, "{status}");
        }
        for (at, class) in StatusClass::ALL.iter().enumerate() {
            assert_eq!(class.index(), at);
        }
        for (at, kind) in RequestKind::ALL.iter().enumerate() {
            assert_eq!(kind.index(), at);
        }
    }
}
