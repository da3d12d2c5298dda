//! The facts of one line of the access log.

use std::time::Duration;

use http::{Request, StatusCode, Version};

use super::client_text;
use crate::{
    audit::{RequestId, RequestLine},
    clock::Timestamp,
    connection::ConnectionInfo,
    request_facts::RequestSnapshot,
};

/// One request that has ended.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) head: EntryHead,
    /// `None` if the request ended without a response.
    pub(super) status: Option<StatusCode>,
    pub(super) total: Duration,
    pub(super) facts: RequestSnapshot,
}

/// The facts that are known when the request arrives, at `time`.
#[derive(Debug)]
pub(super) struct EntryHead {
    pub(super) time: Timestamp,
    pub(super) request_id: RequestId,
    pub(super) client_request_id: Option<Box<str>>,
    pub(super) connection: Option<ConnectionInfo>,
    pub(super) line: RequestLine,
    pub(super) version: Version,
    pub(super) user_agent: Option<Box<str>>,
    pub(super) referer: Option<Box<str>>,
}

impl EntryHead {
    pub(super) fn of<B>(
        request: &Request<B>,
        connection: Option<ConnectionInfo>,
        request_id: RequestId,
        time: Timestamp,
    ) -> Self {
        let headers = request.headers();
        Self {
            time,
            request_id,
            client_request_id: client_text::client_request_id(headers, connection.as_ref()),
            connection,
            line: RequestLine::new(request.method(), request.uri()),
            version: request.version(),
            user_agent: client_text::user_agent(headers),
            referer: client_text::referer(headers),
        }
    }
}

/// Returns the name and version of the protocol, such as `HTTP/1.1`.
pub(super) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}
