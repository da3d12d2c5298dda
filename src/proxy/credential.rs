//! The credential that the scheme has added to a request.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Extensions, HeaderMap, Method, Uri};

use super::pool::NewHeaders;
use crate::{
    layer::{ReadyToForward, SchemeFuture, SchemeHeaders},
    passticket::Replay,
    ticket_breaker::Sent,
};

/// The credential that the scheme has added to a request.
#[derive(Debug)]
pub(super) enum Credential {
    /// The service accepts the same credential more than once, or the request has no credential. The value contains the
    /// extensions of the client's request.
    Repeatable(Extensions),
    /// The service accepts the credential only once. From this value, the scheme can make another credential.
    Single(ClientHead),
    /// The scheme prepares another credential.
    Renewing(SchemeFuture, Extensions),
    /// The scheme has already made another credential, or it cannot make one.
    Spent(Extensions),
}

/// Parts of the request as the client sent it. The scheme needs them to make another credential.
#[derive(Debug)]
pub(super) struct ClientHead {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) extensions: Extensions,
}

impl Credential {
    /// Returns whether the service accepts the credential more than once.
    pub(super) fn replay(&self) -> Replay {
        match self {
            Self::Repeatable(_) => Replay::Allowed,
            Self::Single(_) | Self::Renewing(..) | Self::Spent(_) => Replay::Protected,
        }
    }

    pub(super) fn extensions(&self) -> &Extensions {
        match self {
            Self::Single(head) => &head.extensions,
            Self::Repeatable(extensions)
            | Self::Renewing(_, extensions)
            | Self::Spent(extensions) => extensions,
        }
    }

    /// Returns the headers with another credential. Returns `None` if the scheme cannot make another credential. The
    /// scheme makes another credential at most once per request, so later calls also return `None`.
    #[cold]
    pub(super) fn poll_renewed(&mut self, cx: &mut Context<'_>) -> Poll<NewHeaders> {
        if let Self::Single(ClientHead { method, uri, extensions }) = self {
            let ready = extensions.get::<ReadyToForward>();
            let renewing = ready.and_then(|ready| ready.prepare_again(method, uri, extensions));
            let extensions = mem::take(extensions);
            *self = match renewing {
                Some(renewing) => Self::Renewing(renewing, extensions),
                None => Self::Spent(extensions),
            };
        }
        let Self::Renewing(renewing, extensions) = self else { return Poll::Ready(None) };
        // The future of `prepare_again` has already logged a failure of the scheme.
        let mut renewed = ready!(Pin::new(renewing).poll(cx)).ok();
        if let Some(ready) = extensions.get_mut::<ReadyToForward>() {
            let sent = renewed.as_mut().and_then(SchemeHeaders::take_sent);
            ready.set_sent(sent.inspect(Sent::set_sent));
        }
        *self = Self::Spent(mem::take(extensions));
        Poll::Ready(renewed.map(|renewed| {
            let mut headers = HeaderMap::new();
            renewed.write_to(&mut headers);
            headers
        }))
    }
}
