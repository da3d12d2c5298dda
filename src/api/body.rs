//! Reads request bodies. They are small JSON objects, or the form of a token exchange. Some contain a password or a
//! token.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use pin_project_lite::pin_project;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::error::Category;
use zeroize::Zeroizing;

use crate::{body_wait, request_facts::RequestFacts};

/// The maximum length of a request body, in bytes.
pub const MAX_BODY_LEN: usize = 64 * 1024;

/// Reads a body into a buffer that is overwritten when it is dropped.
///
/// # Errors
/// [`ReadError`] if the body is too long or incomplete.
pub(crate) async fn read<B: Body>(body: B) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let body = Limited::new(body.map_err(|_| Incomplete), MAX_BODY_LEN);
    let mut collecting = pin!(body.collect());
    let collected = poll_fn(|cx| {
        let collected = collecting.as_mut().poll(cx);
        if collected.is_pending() {
            body_wait::set_pending();
        }
        collected
    });
    let collected = collected.await.map_err(|error| {
        if error.is::<LengthLimitError>() { ReadError::TooLarge } else { ReadError::Incomplete }
    })?;
    let mut data = collected.aggregate();
    // The buffer is allocated with its final size, because a growing buffer would leave copies in memory.
    let mut bytes = Zeroizing::new(vec![0; data.remaining()]);
    data.copy_to_slice(&mut bytes);
    Ok(bytes)
}

pin_project! {
    /// The body of a request. It counts the bytes that were read, and adds their number to `facts`. `facts` is `None`
    /// if no outer layer needs the facts about the request.
    pub(super) struct MeteredBody<B> {
        #[pin]
        inner: B,
        facts: Option<RequestFacts>,
    }
}

impl<B> MeteredBody<B> {
    pub(super) fn new(inner: B, facts: Option<RequestFacts>) -> Self {
        Self { inner, facts }
    }
}

impl<B: Body> Body for MeteredBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if let Some(facts) = this.facts
            && let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            facts.add_bytes_in(data.remaining());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The reason why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The body has more than [`MAX_BODY_LEN`] bytes.
    TooLarge,
    Incomplete,
}

/// `Limited` needs an error that implements [`Error`](std::error::Error). The error type of a body need not implement
/// it.
#[derive(Debug, thiserror::Error)]
#[error("the body is incomplete")]
struct Incomplete;

/// Parses a body that is one JSON object (RFC 8259 §4, §8.1).
///
/// # Errors
/// [`BodyProblem`] if the body is not one JSON object, or if the object does not match `T`.
pub(crate) fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, BodyProblem> {
    // The whole body is checked for UTF-8 here, because serde does not check the text of fields that it ignores.
    let body = str::from_utf8(body).map_err(|_| BodyProblem("the body is not UTF-8".into()))?;
    // The first character is checked here, because serde would also deserialize a struct from a JSON array.
    if !body.trim_ascii_start().starts_with('{') {
        return Err(match serde_json::from_str::<IgnoredAny>(body) {
            Ok(IgnoredAny) => BodyProblem("the JSON document is not an object".into()),
            Err(error) => error.into(),
        });
    }
    Ok(serde_json::from_str(body)?)
}

/// A problem of a body. The text usually contains the line and the column. It contains no value from the body, because
/// the value could be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BodyProblem(Box<str>);

impl BodyProblem {
    /// Creates a problem that the JSON parser does not find. The text must quote no value from the body.
    pub(super) fn new(problem: &'static str) -> Self {
        Self(problem.into())
    }

    /// Returns an example for the error descriptions in the OpenAPI document.
    pub(super) fn example() -> Self {
        Self("expected value at line 1 column 1".into())
    }
}

impl From<serde_json::Error> for BodyProblem {
    /// Returns a problem whose text contains no value from the body. The text of a syntax error is kept, because it
    /// never quotes the body. The text of a data error may quote the body, so a general text replaces it. Three kinds
    /// of data errors keep their text, because they name only fields that this crate defines: missing fields, duplicate
    /// fields, and errors of our own deserializers. A text of our own deserializers begins with the name of the field
    /// in backquotes.
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        let safe_starts = ["`", "missing field `", "duplicate field `"];
        let what = match error.classify() {
            Category::Data if text.starts_with("unknown field") => "an unknown field",
            Category::Data if !safe_starts.iter().any(|start| text.starts_with(start)) => {
                "a value of the wrong type"
            }
            _ => text,
        };
        Self(format!("{what} at line {} column {}", error.line(), error.column()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_position_and_quotes_no_value() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            #[serde(rename = "a")]
            _a: String,
            #[serde(rename = "b", default)]
            _b: u8,
        }
        for (body, want) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("secret", "expected value at line 1 column 1"),
            ("[\"secret\"]", "the JSON document is not an object"),
            ("{\n \"a\": \"secret\" x", "expected `,` or `}` at line 2 column 16"),
            ("{\"a\": \"secret", "EOF while parsing a string at line 1 column 13"),
            ("{\"a\": \"x\"} secret", "trailing characters at line 1 column 12"),
            ("{}", "missing field `a` at line 1 column 2"),
            ("{\"a\": \"\", \"a\": \"\"}", "duplicate field `a` at line 1 column 13"),
            ("{\"a\": \"\", \"b\": \"secret\"}", "a value of the wrong type at line 1 column 23"),
            ("{\"a\": \"\", \"secret\": 1}", "an unknown field at line 1 column 18"),
        ] {
            let problem = object::<Fields>(body.as_bytes()).unwrap_err();
            assert_eq!(problem.to_string(), want, "{body}");
        }
    }

    #[test]
    fn a_body_that_is_not_utf8_is_refused_even_if_only_an_ignored_field_is_not_utf8() {
        #[derive(Debug, Deserialize)]
        struct Fields {}
        object::<Fields>(br#"{"ignored":"a"}"#).unwrap();
        let problem = object::<Fields>(b"{\"ignored\":\"\xc5\"}").unwrap_err();
        assert_eq!(problem.to_string(), "the body is not UTF-8");
    }
}
