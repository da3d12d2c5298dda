//! The results of requests: answers, refusals and errors.

#[derive(Debug)]
pub(crate) enum Outcome {
    Answered(Answer),
    Failed { kind: ErrorKind, text: String },
}

/// An answer of the gateway, with any status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) length: u64,
    /// `None` if the request was accepted.
    pub(crate) refusal: Option<Refusal>,
}

/// The reason of a refusal. A request is refused if its status is not 2xx, or its response has `X-Zowe-Auth-Failure`.
/// The header means that the gateway has forwarded the request without a credential. The service may then have answered
/// with any status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The text of `X-Zowe-Auth-Failure`, without the credential.
    pub(crate) auth_failure: Option<String>,
    /// The `messageNumber` of the first message in the body.
    pub(crate) message_number: Option<String>,
}

impl Refusal {
    /// Returns whether z/OS or the gateway may have counted a wrong password. If the gateway has no free time slot, its
    /// answer has ZWEAG141E or a status other than 401. Such an answer does not mean that a password was wrong.
    pub(crate) fn may_count_as_wrong_password(&self) -> bool {
        match &self.auth_failure {
            Some(text) => !text.starts_with("ZWEAG141E"),
            None => self.status == 401,
        }
    }

    /// Returns one line, such as `401 ZWEAG102E`.
    pub(crate) fn describe(&self) -> String {
        let mut text = self.status.to_string();
        for part in [&self.message_number, &self.auth_failure].into_iter().flatten() {
            text.push(' ');
            text.push_str(part);
        }
        text
    }
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ErrorKind {
    Connect,
    /// The TLS handshake failed, or the gateway sent a TLS alert later.
    Tls,
    /// No complete answer arrived within the time limit.
    Timeout,
    /// The gateway closed the connection.
    Closed,
    /// The gateway does not offer HTTP/2, sent something that is not HTTP, or refused the stream.
    Protocol,
}

impl ErrorKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
        }
    }
}
