//! How a request ended: who ended it, and in which stage. The codes are those of HAProxy.

use std::fmt;

/// A part of the work on a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The layers work on the request, and have not sent it to a service.
    #[default]
    Request,
    /// The request waits for a free connection to the service.
    Queue,
    /// The gateway connects to the service.
    Connect,
    /// The gateway sends the request, and waits for the head of the response.
    Head,
    /// The body of the response is sent to the client, or a WebSocket is open.
    Body,
}

impl Stage {
    /// All stages, in the order of a request.
    pub const ALL: &'static [Self] =
        &[Self::Request, Self::Queue, Self::Connect, Self::Head, Self::Body];

    /// Returns the word for this stage in log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Queue => "queue",
            Self::Connect => "connect",
            Self::Head => "head",
            Self::Body => "body",
        }
    }

    const fn letter(self) -> u8 {
        match self {
            Self::Request => b'R',
            Self::Queue => b'Q',
            Self::Connect => b'C',
            Self::Head => b'H',
            Self::Body => b'D',
        }
    }
}

/// The party that ended a request before its normal end, or the time limit that ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The client disconnected, or the body of its request is incomplete or malformed.
    Client,
    /// The client was too slow, or a WebSocket was idle or stalled for too long.
    ClientTimeout,
    /// The service refused or closed the connection, could not be reached, or has no instance.
    Service,
    /// The service was too slow, or had no free connection in time.
    ServiceTimeout,
    /// The gateway refused the request or the response, because of a rule, a limit, or a malformed message. Or the
    /// gateway ended a WebSocket, an event stream or a gRPC call, because its credential is no longer valid.
    Gateway,
    /// The gateway stops, or needed the connection for another client. Or a connection did not change to WebSocket in
    /// time.
    Shutdown,
    /// An error in the gateway.
    Internal,
}

impl Cause {
    /// All causes.
    pub const ALL: &'static [Self] = &[
        Self::Client,
        Self::ClientTimeout,
        Self::Service,
        Self::ServiceTimeout,
        Self::Gateway,
        Self::Shutdown,
        Self::Internal,
    ];

    /// Returns the word for this cause in log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::ClientTimeout => "client-timeout",
            Self::Service => "service",
            Self::ServiceTimeout => "service-timeout",
            Self::Gateway => "gateway",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal",
        }
    }

    const fn letter(self) -> u8 {
        match self {
            Self::Client => b'C',
            Self::ClientTimeout => b'c',
            Self::Service => b'S',
            Self::ServiceTimeout => b's',
            Self::Gateway => b'P',
            Self::Shutdown => b'K',
            Self::Internal => b'I',
        }
    }
}

/// Why a request ended before its normal end, and in which stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Termination {
    /// The party or the time limit that ended the request.
    pub cause: Cause,
    /// The stage in which the request was.
    pub stage: Stage,
}

impl Termination {
    /// The code of a request that ended normally.
    pub const NORMAL: &'static str = "--";

    /// Returns the code of two letters, such as `sH`. The letters have the same meaning as in HAProxy.
    pub fn code(self) -> TerminationCode {
        TerminationCode([self.cause.letter(), self.stage.letter()])
    }
}

/// The code of a [`Termination`]: two ASCII letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminationCode([u8; 2]);

impl TerminationCode {
    /// Returns the text of the code.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("letters are ASCII")
    }
}

impl PartialEq<&str> for TerminationCode {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for TerminationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_and_stage_has_its_own_letter_and_word() {
        let codes: Vec<_> = Cause::ALL
            .iter()
            .flat_map(|cause| {
                Stage::ALL.iter().map(|stage| Termination { cause: *cause, stage: *stage }.code())
            })
            .map(|code| code.to_string())
            .collect();
        assert_eq!(
            codes.join(" "),
            "CR CQ CC CH CD cR cQ cC cH cD SR SQ SC SH SD sR sQ sC sH sD PR PQ PC PH PD KR KQ KC \
             KH KD IR IQ IC IH ID"
        );
        let words: Vec<_> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
        assert_eq!(
            words.join(" "),
            "client client-timeout service service-timeout gateway shutdown internal"
        );
    }
}
