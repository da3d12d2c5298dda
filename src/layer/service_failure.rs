//! The reason why a client received no response of the service.

/// Why the proxy answered a request itself, although the layers had forwarded it. This value is also an extension of
/// the response, so that an outer layer can count or log it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServiceFailure {
    /// No connection to the service could be made, or the service has no instance.
    Unreachable,
    /// The service has no instance with the id that the client has chosen.
    UnknownInstance,
    /// All connections to the service are in use.
    Busy,
    /// No connection could be made in time, or the service did not respond in time.
    TimedOut,
    /// The connection ended before the service answered, the response is not valid, or the gateway could not make the
    /// request to the service.
    Broken,
    /// The client sent the body of its request too slowly.
    BodyTooSlow,
    /// The client broke off the body of its request, or the body is malformed.
    BodyIncomplete,
    /// The credential of the client expired or was revoked before the service answered.
    CredentialEnded,
}

impl ServiceFailure {
    /// All variants, in the order of their declaration.
    pub(super) const ALL: &'static [Self] = &[
        Self::Unreachable,
        Self::UnknownInstance,
        Self::Busy,
        Self::TimedOut,
        Self::Broken,
        Self::BodyTooSlow,
        Self::BodyIncomplete,
        Self::CredentialEnded,
    ];

    /// Returns the text of this reason in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "service-unreachable",
            Self::UnknownInstance => "unknown-instance",
            Self::Busy => "service-busy",
            Self::TimedOut => "service-timed-out",
            Self::Broken => "service-broken",
            Self::BodyTooSlow => "body-too-slow",
            Self::BodyIncomplete => "body-incomplete",
            Self::CredentialEnded => "credential-ended",
        }
    }

    /// Returns whether the client is the cause.
    pub const fn is_caused_by_client(self) -> bool {
        match self {
            Self::UnknownInstance
            | Self::BodyTooSlow
            | Self::BodyIncomplete
            | Self::CredentialEnded => true,
            Self::Unreachable | Self::Busy | Self::TimedOut | Self::Broken => false,
        }
    }
}
