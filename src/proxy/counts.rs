//! Counts connections to services, requests that wait for a connection or are refused, retries, ejections and stalled
//! responses.

use crate::metrics::{
    Collect, Counter, CounterFamily, Description, Exposition, Gauge, Label, LabelName,
};

const OPEN: Description =
    Description::gauge("passticket_service_connections_open", "Connections to services.");
const WAITING: Description = Description::gauge(
    "passticket_service_requests_waiting",
    "Requests that wait until a connection to their service is free.",
);
const REFUSED: Description = Description::counter(
    "passticket_service_requests_refused_total",
    "Requests that were refused, because no connection to their service became free in time.",
);
const STALLED: Description = Description::counter(
    "passticket_service_bodies_stalled_total",
    "Responses that were cut, because the service paused too long in the body.",
);
const RETRIES: Description = Description::counter(
    "passticket_service_retries_total",
    "Requests and connections to services that were tried a second time.",
);

const RETRIES_REFUSED: Description = Description::counter(
    "passticket_service_retries_refused_total",
    "Requests that were not tried a second time, because the retry budget of their service was used up.",
);
const HTTP2: Description = Description::gauge(
    "passticket_service_http2_connections_open",
    "Connections to services that use HTTP/2.",
);
const STREAMS: Description = Description::gauge(
    "passticket_service_http2_streams_open",
    "Requests on HTTP/2 connections to services.",
);

const EJECTIONS: Description = Description::counter(
    "passticket_service_ejections_total",
    "Ejections of instances. An ejected instance gets no requests for some time, because the gateway could not connect to it.",
);

/// Counts the connections and requests of [`Forward`](super::Forward).
#[derive(Debug, Default)]
pub struct ForwardCounts {
    open: Gauge,
    waiting: Gauge,
    refused: Counter,
    retries: CounterFamily<(Retry,)>,
    retries_refused: Counter,
    ejections: Counter,
    stalled: Counter,
    http2: Gauge,
    streams: Gauge,
}

/// The reason for a second attempt to connect or to send a request ([D29](crate::decisions#d29)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// The instance refused the connection, or closed the new connection before the request was sent. If another
    /// instance may get the request, a retry after any other error of the connector also has this reason.
    Refused,
    /// The connection ended before the first byte of the response. Usually, the service has closed an idle connection
    /// while the gateway was sending a request on it.
    Closed,
    /// The service has refused a stream of HTTP/2, or has announced that it does not process the stream.
    Unprocessed,
}

impl Label for Retry {
    const NAME: LabelName = LabelName::new("reason");
    const ALL: &'static [Self] = &[Self::Refused, Self::Closed, Self::Unprocessed];

    fn index(self) -> usize {
        self as usize
    }

    fn value(self) -> &'static str {
        match self {
            Self::Refused => "connection-refused",
            Self::Closed => "connection-closed",
            Self::Unprocessed => "stream-unprocessed",
        }
    }
}

impl ForwardCounts {
    /// Returns the number of connections to services. Connections that are being opened or closed are included.
    pub fn open(&self) -> i64 {
        self.open.get()
    }

    /// Returns the number of requests that wait until a connection to their service is free.
    pub fn waiting(&self) -> i64 {
        self.waiting.get()
    }

    /// Returns the number of requests that were refused because no connection became free in time.
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Returns the number of connections to services that use HTTP/2.
    pub fn http2_connections(&self) -> i64 {
        self.http2.get()
    }

    /// Returns the number of requests on HTTP/2 connections to services.
    pub fn http2_streams(&self) -> i64 {
        self.streams.get()
    }

    pub(super) fn add_http2(&self) {
        self.http2.increment();
    }

    pub(super) fn remove_http2(&self) {
        self.http2.decrement();
    }

    pub(super) fn add_stream(&self) {
        self.streams.increment();
    }

    pub(super) fn remove_stream(&self) {
        self.streams.decrement();
    }

    pub(super) fn add_open(&self) {
        self.open.increment();
    }

    pub(super) fn remove_open(&self) {
        self.open.decrement();
    }

    pub(super) fn add_waiting(&self) {
        self.waiting.increment();
    }

    pub(super) fn remove_waiting(&self) {
        self.waiting.decrement();
    }

    pub(super) fn add_retry(&self, why: Retry) {
        self.retries.increment((why,));
    }

    pub(super) fn add_refused_retry(&self) {
        self.retries_refused.increment();
    }

    pub(super) fn add_ejection(&self) {
        self.ejections.increment();
    }

    pub(super) fn add_stalled(&self) {
        self.stalled.increment();
    }

    pub(super) fn add_refused(&self) {
        self.refused.increment();
    }
}

impl Collect for ForwardCounts {
    fn collect(&self, exposition: &mut Exposition) {
        exposition.value(&OPEN, self.open.get());
        exposition.value(&WAITING, self.waiting.get());
        exposition.value(&REFUSED, self.refused.get());
        exposition.family(&RETRIES, &self.retries);
        exposition.value(&RETRIES_REFUSED, self.retries_refused.get());
        exposition.value(&EJECTIONS, self.ejections.get());
        exposition.value(&STALLED, self.stalled.get());
        exposition.value(&HTTP2, self.http2.get());
        exposition.value(&STREAMS, self.streams.get());
    }
}
