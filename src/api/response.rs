//! Successful responses, and the body of every response.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use serde::Serialize;
use serde_json::Value;

use super::error::ApiError;

/// The response to a request, or the error that becomes the response.
pub(super) type Answer = Result<Response<Full<Bytes>>, ApiError>;

pub(super) fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// Returns a response with status 200 and `content` as JSON.
///
/// # Errors
/// [`ApiError::Internal`] if `content` cannot be serialized.
pub(super) fn json(content: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(content).map_err(|error| {
        tracing::error!(%error, "the response body could not be serialized");
        ApiError::Internal
    })?;
    Ok(typed(text.into(), HeaderValue::from_static("application/json")))
}

pub(super) fn json_document(document: &Value) -> Response<Full<Bytes>> {
    typed(document.to_string().into(), HeaderValue::from_static("application/json"))
}

pub(super) fn typed(content: Bytes, content_type: HeaderValue) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// The body of a response of [`AuthApi`](super::AuthApi).
#[derive(Clone, Debug, Default)]
pub struct ResponseBody(Full<Bytes>);

/// Layers in front of the auth API use this conversion when they answer a request themselves.
impl From<Bytes> for ResponseBody {
    fn from(body: Bytes) -> Self {
        Self(Full::from(body))
    }
}

impl ResponseBody {
    pub(super) fn new(body: Full<Bytes>) -> Self {
        Self(body)
    }

    #[cfg(feature = "proxy")]
    pub(crate) fn into_full(self) -> Full<Bytes> {
        self.0
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
