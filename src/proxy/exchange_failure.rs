//! Why an exchange with a service has failed. One classification decides the response to the client, the log line, and
//! how the request ended.

use std::{error::Error, num::NonZeroUsize, time::Duration};

use http::{Response, StatusCode, header::RETRY_AFTER};

use super::{
    exchange::ExchangeError,
    pool::{ConnectError, MAX_HEADERS, ReconnectError, TooManyInformational, is_caused_by},
    request_body::Progress,
    response_body::ResponseBody,
};
use crate::{
    error_chain::ErrorChain,
    layer::{NoResponse, Rejection, Route, RouteLimits, ServiceFailure, Upstream},
    log_limit::log_limited,
    messages::{self, ApiMessage},
    request_facts::{Cause, Stage, Termination},
    stall::Stalled,
};

/// Why an exchange has failed.
#[derive(Clone, Copy)]
pub(super) enum ExchangeFailure<'e> {
    /// All permitted connections to the instance stayed in use.
    Busy { max_connections: NonZeroUsize, waited: Duration },
    /// The gateway could not connect in time.
    ConnectTimedOut,
    /// The service did not answer in time.
    TimedOut,
    /// The service sent status 101 to a request without `Upgrade`.
    SwitchedProtocols,
    /// The gateway could not connect to the service.
    Unreachable(&'e (dyn Error + 'static)),
    /// The client sent the body too slowly.
    BodyTooSlow,
    /// The body is larger than the route allows.
    BodyTooLarge,
    /// The client broke off the body, or the body is malformed.
    BodyIncomplete(&'e hyper::Error),
    /// The head of the response is malformed or too large.
    MalformedHead(&'e hyper::Error),
    /// The service sent too many informational responses (1xx).
    TooManyInformational(&'e hyper::Error),
    /// Any other failure. Usually, the service has closed the connection before its response.
    Closed(&'e hyper::Error),
}

impl<'e> ExchangeFailure<'e> {
    /// Finds the reason of `error`. `progress` knows whether the body of the request is the reason.
    #[cold]
    pub(super) fn of(error: &'e ExchangeError, progress: &Progress) -> Self {
        match error {
            ExchangeError::Connect(ConnectError::Busy { max_connections, waited }) => {
                Self::Busy { max_connections: *max_connections, waited: *waited }
            }
            ExchangeError::Connect(ConnectError::TimedOut) => Self::ConnectTimedOut,
            ExchangeError::Connect(ConnectError::Failed(cause)) => Self::Unreachable(&**cause),
            ExchangeError::TimedOut => Self::TimedOut,
            ExchangeError::SwitchedProtocols(_) => Self::SwitchedProtocols,
            ExchangeError::Interrupted(_) if progress.has_stalled() => Self::BodyTooSlow,
            ExchangeError::Interrupted(_) if progress.is_too_large() => Self::BodyTooLarge,
            ExchangeError::Interrupted(cause) if progress.has_failed() => {
                Self::BodyIncomplete(cause)
            }
            ExchangeError::Interrupted(cause) if is_caused_by::<ReconnectError>(cause) => {
                Self::Unreachable(cause)
            }
            ExchangeError::Interrupted(cause) if cause.is_parse() => Self::MalformedHead(cause),
            ExchangeError::Interrupted(cause) if is_caused_by::<TooManyInformational>(cause) => {
                Self::TooManyInformational(cause)
            }
            ExchangeError::Interrupted(cause) => Self::Closed(cause),
        }
    }

    /// Returns how the request ended.
    pub(super) fn termination(self) -> Termination {
        let (cause, stage) = match self {
            Self::Busy { .. } => (Cause::ServiceTimeout, Stage::Queue),
            Self::ConnectTimedOut => (Cause::ServiceTimeout, Stage::Connect),
            Self::Unreachable(_) => (Cause::Service, Stage::Connect),
            Self::TimedOut => (Cause::ServiceTimeout, Stage::Head),
            Self::BodyTooSlow => (Cause::ClientTimeout, Stage::Head),
            Self::BodyIncomplete(_) => (Cause::Client, Stage::Head),
            Self::SwitchedProtocols
            | Self::BodyTooLarge
            | Self::MalformedHead(_)
            | Self::TooManyInformational(_) => (Cause::Gateway, Stage::Head),
            Self::Closed(_) => (Cause::Service, Stage::Head),
        };
        Termination { cause, stage }
    }

    /// Logs the failure, and makes the response of the gateway. `timeout` is the time that the service had to answer.
    #[cold]
    pub(super) fn into_response(
        self,
        route: &Route,
        upstream: &Upstream,
        timeout: Duration,
    ) -> Response<ResponseBody> {
        let service = route.service();
        let cause_of = |what: &'static str| (what, service, upstream.to_string());
        match self {
            Self::Busy { max_connections, waited } => {
                log_limited!(warn, cause_of("busy"), { %service, %upstream, max_connections, ?waited }, "request refused: all connections to the service are in use; if the service can handle more requests at a time, raise connectionsPerInstance (Forward::with_max_connections)");
                let message = ApiMessage::with(
                    &messages::SERVICE_UNAVAILABLE,
                    &["too many requests to the service are in progress"],
                );
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let mut response = gateway_response(message, status, ServiceFailure::Busy);
                let seconds = messages::retry_after(waited.max(Duration::from_secs(1)));
                response.headers_mut().insert(RETRY_AFTER, seconds);
                response
            }
            Self::ConnectTimedOut | Self::TimedOut => {
                log_limited!(warn, cause_of("timeout"), { %service, %upstream, ?timeout }, "service did not respond in time");
                let message = ApiMessage::new(&messages::UNEXPECTED_STATUS);
                gateway_response(message, StatusCode::GATEWAY_TIMEOUT, ServiceFailure::TimedOut)
            }
            Self::SwitchedProtocols => {
                log_limited!(warn, cause_of("status 101"), { %service, %upstream }, "response refused: the service sent status 101 to a request without Upgrade");
                no_response(route, NoResponse::Broken)
            }
            Self::BodyTooSlow => {
                log_limited!(warn, cause_of("receive timeout"), { %service }, "request ended: the client sends the body too slowly");
                let message =
                    ApiMessage::with(&messages::BAD_REQUEST, &["the body was sent too slowly"]);
                let (status, failure) = (StatusCode::REQUEST_TIMEOUT, ServiceFailure::BodyTooSlow);
                let mut response = gateway_response(message, status, failure);
                // The listener counts responses with this extension.
                response.extensions_mut().insert(Stalled);
                response
            }
            Self::BodyTooLarge => {
                let limits = route.limits();
                let limit = limits.and_then(RouteLimits::max_body).unwrap_or_default();
                if let Some(limits) = limits {
                    limits.count_body();
                }
                tracing::debug!(%service, limit, "request refused: the body is larger than the route allows");
                Rejection::BodyTooLarge { limit }.into_response()
            }
            Self::BodyIncomplete(cause) => {
                let cause = ErrorChain(cause);
                tracing::debug!(%service, %cause, "client disconnected or sent a malformed request body");
                let message = ApiMessage::with(&messages::BAD_REQUEST, &["the body is incomplete"]);
                let failure = ServiceFailure::BodyIncomplete;
                gateway_response(message, StatusCode::BAD_REQUEST, failure)
            }
            Self::Unreachable(cause) => {
                let cause = ErrorChain(cause);
                log_limited!(warn, cause_of("connect"), { %service, %upstream, %cause }, "cannot reach the service");
                no_response(route, NoResponse::Unreachable)
            }
            Self::MalformedHead(cause) => {
                let cause = ErrorChain(cause);
                log_limited!(warn, cause_of("head"), { %service, %upstream, max_headers = MAX_HEADERS, %cause }, "response refused: the head of the response is malformed or too large; if it is too large, let the service send fewer headers, for example fewer cookies");
                no_response(route, NoResponse::Broken)
            }
            Self::TooManyInformational(cause) => {
                let cause = ErrorChain(cause);
                log_limited!(warn, cause_of("informational"), { %service, %upstream, %cause }, "response refused: the service sent too many informational responses (1xx)");
                no_response(route, NoResponse::Broken)
            }
            Self::Closed(cause) => {
                let cause = ErrorChain(cause);
                log_limited!(warn, cause_of("closed"), { %service, %upstream, %cause }, "service closed the connection without a response");
                no_response(route, NoResponse::Broken)
            }
        }
    }
}

/// Makes the response to a request that got no valid response of its service.
pub(super) fn no_response(route: &Route, why: NoResponse) -> Response<ResponseBody> {
    let (status, message) = route.compatibility().no_response(why);
    let failure = match why {
        NoResponse::Unreachable => ServiceFailure::Unreachable,
        NoResponse::Broken => ServiceFailure::Broken,
    };
    gateway_response(message, status, failure)
}

/// Makes a response of the gateway. Outer layers find the reason in its extensions.
#[cold]
pub(super) fn gateway_response(
    message: ApiMessage,
    status: StatusCode,
    failure: ServiceFailure,
) -> Response<ResponseBody> {
    let mut response = message.into_response(status).map(ResponseBody::from);
    response.extensions_mut().insert(failure);
    response
}
