//! Reading request bodies: small JSON objects, some with a password in them.

use bytes::Buf;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::error::Category;
use zeroize::Zeroizing;

/// The longest request body that is read, in bytes.
pub const MAX_BODY_LEN: usize = 64 * 1024;

/// Reads a body into a buffer that is wiped when dropped.
///
/// # Errors
/// [`ReadError`] if the body is too long or incomplete.
pub(super) async fn read<B: Body>(body: B) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let body = Limited::new(body.map_err(|_| Incomplete), MAX_BODY_LEN);
    let collected = body.collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() { ReadError::TooLarge } else { ReadError::Incomplete }
    })?;
    let mut data = collected.aggregate();
    // Allocated with its final size: a buffer that grows leaves copies behind that are not wiped.
    let mut bytes = Zeroizing::new(vec![0; data.remaining()]);
    data.copy_to_slice(&mut bytes);
    Ok(bytes)
}

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// It has more than [`MAX_BODY_LEN`] bytes.
    TooLarge,
    /// It ended before its end.
    Incomplete,
}

/// Replaces the error of the body, which may have any type.
#[derive(Debug, thiserror::Error)]
#[error("the body breaks off")]
struct Incomplete;

/// Reads one JSON object (RFC 8259 §4).
///
/// # Errors
/// [`BodyProblem`] for anything else.
pub(super) fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, BodyProblem> {
    // serde would take an array for a struct.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(match serde_json::from_slice::<IgnoredAny>(body) {
            Ok(IgnoredAny) => BodyProblem("the JSON document is no object".into()),
            Err(error) => error.into(),
        });
    }
    Ok(serde_json::from_slice(body)?)
}

/// The fault of a body and its place. Never carries a value of the body that could be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BodyProblem(Box<str>);

impl BodyProblem {
    /// An example, for descriptions of refusals.
    pub(super) fn example() -> Self {
        Self("what is wrong at line 1 column 1".into())
    }
}

impl From<serde_json::Error> for BodyProblem {
    /// Syntax errors have texts that are the same for every body. Data errors may quote the value,
    /// except those that begin with the name of one of our fields.
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        let harmless = ["`", "missing field `", "duplicate field `"];
        let what = match error.classify() {
            Category::Data if text.starts_with("unknown field") => "a field that nobody asked for",
            Category::Data if !harmless.iter().any(|start| text.starts_with(start)) => {
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
    fn a_problem_has_the_place_and_no_value() {
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
            ("[\"secret\"]", "the JSON document is no object"),
            ("{\n \"a\": \"secret\" x", "expected `,` or `}` at line 2 column 16"),
            ("{\"a\": \"secret", "EOF while parsing a string at line 1 column 13"),
            ("{\"a\": \"x\"} secret", "trailing characters at line 1 column 12"),
            ("{}", "missing field `a` at line 1 column 2"),
            ("{\"a\": \"\", \"a\": \"\"}", "duplicate field `a` at line 1 column 13"),
            ("{\"a\": \"\", \"b\": \"secret\"}", "a value of the wrong type at line 1 column 23"),
            ("{\"a\": \"\", \"secret\": 1}", "a field that nobody asked for at line 1 column 18"),
        ] {
            let problem = object::<Fields>(body.as_bytes()).unwrap_err();
            assert_eq!(problem.to_string(), want, "{body}");
        }
    }
}
