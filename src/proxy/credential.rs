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

/// The credential of a request.
#[derive(Debug)]
pub(super) enum Credential {
    /// The service accepts it twice, or there is none.
    Repeatable,
    /// The service accepts it once. The scheme needs these values for another one.
    Single(ClientHead),
    /// The scheme prepares another credential.
    Renewing(SchemeFuture),
    /// There is no other credential.
    Spent,
}

/// Parts of the request that the client sent.
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

    /// The headers with another credential, if the scheme can make one. It makes only one.
    #[cold]
    pub(super) fn poll_renewed(&mut self, cx: &mut Context<'_>) -> Poll<NewHeaders> {
        if let Self::Single(ClientHead { method, uri, extensions }) = self {
            let ready = extensions.get::<ReadyToForward>();
            let renewing = ready.and_then(|ready| ready.prepare_again(method, uri, extensions));
            *self = renewing.map_or(Self::Spent, Self::Renewing);
        }
        let Self::Renewing(renewing) = self else { return Poll::Ready(None) };
        // The layer logs the failure of a scheme.
        let renewed = ready!(Pin::new(renewing).poll(cx)).ok();
        *self = Self::Spent;
        Poll::Ready(renewed.map(|renewed| {
            let mut headers = HeaderMap::new();
            renewed.write_to(&mut headers);
            headers
        }))
    }
}
