//! The credential that the scheme has added to a request.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Extensions, HeaderMap, Method, Uri};

use super::pool::NewHeaders;
use crate::{
    layer::{ReadyToForward, SchemeFuture},
    passticket::Replay,
};

/// The credential that the scheme has added to a request.
#[derive(Debug)]
pub(super) enum Credential {
    /// The service accepts the same credential twice, or the request has no credential.
    Repeatable,
    /// The service accepts the credential only once. The scheme needs these values to make another credential.
    Single(ClientHead),
    /// The scheme prepares another credential.
    Renewing(SchemeFuture),
    /// The scheme has already made another credential, or it cannot make one.
    Spent,
}

/// Parts of the request as the client sent it. The scheme needs them to make another credential.
#[derive(Debug)]
pub(super) struct ClientHead {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) extensions: Extensions,
}

impl Credential {
    /// Whether the service accepts the credential twice.
    pub(super) fn replay(&self) -> Replay {
        match self {
            Self::Repeatable => Replay::Allowed,
            Self::Single(_) | Self::Renewing(_) | Self::Spent => Replay::Protected,
        }
    }

    /// Returns the headers with another credential, or `None` if the scheme cannot make one. The scheme makes another
    /// credential at most once per request.
    #[cold]
    pub(super) fn poll_renewed(&mut self, cx: &mut Context<'_>) -> Poll<NewHeaders> {
        if let Self::Single(ClientHead { method, uri, extensions }) = self {
            let ready = extensions.get::<ReadyToForward>();
            let renewing = ready.and_then(|ready| ready.prepare_again(method, uri, extensions));
            *self = renewing.map_or(Self::Spent, Self::Renewing);
        }
        let Self::Renewing(renewing) = self else { return Poll::Ready(None) };
        // A failure of the scheme is not logged here, because the layer logs it.
        let renewed = ready!(Pin::new(renewing).poll(cx)).ok();
        *self = Self::Spent;
        Poll::Ready(renewed.map(|renewed| {
            let mut headers = HeaderMap::new();
            renewed.write_to(&mut headers);
            headers
        }))
    }
}
