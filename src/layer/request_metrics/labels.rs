//! The values of the labels `outcome` and `reason`.

use crate::{
    audit::{Outcome, ReasonCode},
    layer::{rejection::Rejection, service_failure::ServiceFailure},
};

/// The label `outcome` of `passticket_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequestOutcome {
    /// The service has answered. The request had an authorized user, or needed no authentication, as with the scheme
    /// bypass.
    Forwarded,
    /// The service has answered. The request was forwarded, although authentication, authorization or the scheme
    /// failed. The label `reason` says what failed.
    ForwardedUnauthenticated,
    /// The service has answered. The route has [`Mode::Observe`](crate::layer::Mode::Observe), so the service received
    /// the credentials of the client.
    Observed,
    /// The gateway has answered the request itself. The cause is the client or its credential.
    Refused,
    /// The gateway has answered the request itself. The cause is the service, the gateway, or a system that the gateway
    /// needs.
    Failed,
    /// The request was handed to the service, and was dropped before the service answered. The usual cause is that the
    /// client disconnected.
    Abandoned,
}

impl RequestOutcome {
    /// Returns the text of this outcome.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::ForwardedUnauthenticated => "forwarded-unauthenticated",
            Self::Observed => "observed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The outcome of a request and its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Forwarded,
    Observed,
    ForwardedUnauthenticated(ReasonCode),
    /// The gateway has answered for a reason that has a [`ReasonCode`].
    Decided(ReasonCode),
    /// The gateway has answered for a reason without a [`ReasonCode`]. There is no audit record.
    Rejected(Unaudited),
    /// The proxy has answered instead of the service.
    NoResponse(ServiceFailure),
    Abandoned,
}

/// The reasons of a [`Rejection`] that have no [`ReasonCode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unaudited {
    NoRoute,
    OutOfService,
    DotSegment,
    Nul,
    AmbiguousPath,
    EncodedPath,
    MethodNotForwarded,
    MethodNotAllowed,
    HeadersTooLarge,
    BodyTooLarge,
    TransferCoding,
}

impl Unaudited {
    const ALL: &'static [Self] = &[
        Self::NoRoute,
        Self::OutOfService,
        Self::DotSegment,
        Self::Nul,
        Self::AmbiguousPath,
        Self::EncodedPath,
        Self::MethodNotForwarded,
        Self::MethodNotAllowed,
        Self::HeadersTooLarge,
        Self::BodyTooLarge,
        Self::TransferCoding,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "no-route",
            Self::OutOfService => "out-of-service",
            Self::DotSegment => "dot-segment",
            Self::Nul => "encoded-nul",
            Self::AmbiguousPath => "ambiguous-path",
            Self::EncodedPath => "encoded-path",
            Self::MethodNotForwarded => "method-not-forwarded",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::HeadersTooLarge => "headers-too-large",
            Self::BodyTooLarge => "body-too-large",
            Self::TransferCoding => "transfer-coding",
        }
    }
}

const REASONS: usize = ReasonCode::ALL.len();
const UNAUTHENTICATED: usize = 2;
const DECIDED: usize = UNAUTHENTICATED + REASONS;
const REJECTED: usize = DECIDED + REASONS;
const NO_RESPONSE: usize = REJECTED + Unaudited::ALL.len();
const ABANDONED: usize = NO_RESPONSE + ServiceFailure::ALL.len();

impl Ending {
    /// The number of endings.
    pub(super) const COUNT: usize = ABANDONED + 1;

    /// Returns a number less than [`COUNT`](Self::COUNT). Each ending has another number.
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Forwarded => 0,
            Self::Observed => 1,
            Self::ForwardedUnauthenticated(reason) => UNAUTHENTICATED + reason as usize,
            Self::Decided(reason) => DECIDED + reason as usize,
            Self::Rejected(reason) => REJECTED + reason as usize,
            Self::NoResponse(failure) => NO_RESPONSE + failure as usize,
            Self::Abandoned => ABANDONED,
        }
    }

    /// Returns all endings, in the order of [`index`](Self::index).
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let reasons = || ReasonCode::ALL.iter().copied();
        let unauthenticated = reasons().map(Self::ForwardedUnauthenticated);
        let rejected = Unaudited::ALL.iter().copied().map(Self::Rejected);
        let no_response = ServiceFailure::ALL.iter().copied().map(Self::NoResponse);
        [Self::Forwarded, Self::Observed]
            .into_iter()
            .chain(unauthenticated)
            .chain(reasons().map(Self::Decided))
            .chain(rejected)
            .chain(no_response)
            .chain([Self::Abandoned])
    }

    pub(super) const fn outcome(self) -> RequestOutcome {
        match self {
            Self::Forwarded => RequestOutcome::Forwarded,
            Self::Observed => RequestOutcome::Observed,
            Self::ForwardedUnauthenticated(_) => RequestOutcome::ForwardedUnauthenticated,
            Self::Decided(reason) => match reason.outcome() {
                Outcome::Success | Outcome::Refused => RequestOutcome::Refused,
                Outcome::Error => RequestOutcome::Failed,
            },
            Self::Rejected(Unaudited::OutOfService) => RequestOutcome::Failed,
            Self::Rejected(_) => RequestOutcome::Refused,
            Self::NoResponse(failure) if failure.is_caused_by_client() => RequestOutcome::Refused,
            Self::NoResponse(_) => RequestOutcome::Failed,
            Self::Abandoned => RequestOutcome::Abandoned,
        }
    }

    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Forwarded | Self::Observed | Self::Abandoned => "",
            Self::ForwardedUnauthenticated(reason) | Self::Decided(reason) => reason.as_str(),
            Self::Rejected(reason) => reason.as_str(),
            Self::NoResponse(failure) => failure.as_str(),
        }
    }
}

impl From<&Rejection> for Ending {
    fn from(rejection: &Rejection) -> Self {
        Self::Rejected(match rejection {
            Rejection::Authentication(failure) => return Self::Decided(failure.into()),
            Rejection::Malformed(_) => return Self::Decided(ReasonCode::BadRequest),
            Rejection::CrossOrigin => return Self::Decided(ReasonCode::CrossOrigin),
            Rejection::RateLimited { .. } => return Self::Decided(ReasonCode::RateLimited),
            Rejection::Misassembled(_) => return Self::Decided(ReasonCode::Internal),
            Rejection::NoRoute => Unaudited::NoRoute,
            Rejection::OutOfService => Unaudited::OutOfService,
            Rejection::DotSegment => Unaudited::DotSegment,
            Rejection::Nul => Unaudited::Nul,
            Rejection::AmbiguousPath => Unaudited::AmbiguousPath,
            Rejection::EncodedPath => Unaudited::EncodedPath,
            Rejection::Method(_) => Unaudited::MethodNotForwarded,
            Rejection::MethodNotAllowed { .. } => Unaudited::MethodNotAllowed,
            Rejection::HeadersTooLarge { .. } => Unaudited::HeadersTooLarge,
            Rejection::BodyTooLarge { .. } => Unaudited::BodyTooLarge,
            Rejection::TransferCoding => Unaudited::TransferCoding,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_ending_has_its_index_and_its_own_labels() {
        let mut labels = HashSet::new();
        for (at, ending) in Ending::all().enumerate() {
            assert_eq!(ending.index(), at, "{ending:?}");
            let of_ending = (ending.outcome(), ending.reason());
            assert!(labels.insert(of_ending), "{of_ending:?} twice");
        }
        assert_eq!(labels.len(), Ending::COUNT);
    }
}
