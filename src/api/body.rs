//! Reading request bodies: small JSON objects, some with a password in them.

use bytes::Buf;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::error::ApiError;

/// The longest request body that is read, in bytes.
pub const MAX_BODY_LEN: usize = 64 * 1024;

/// Reads a body into a buffer that is wiped when dropped.
///
/// # Errors
/// [`ApiError::BodyTooLarge`], [`ApiError::BodyBroken`].
pub(super) async fn read<B: Body>(body: B) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let body = Limited::new(body.map_err(|_| BrokenOff), MAX_BODY_LEN);
    let collected = body.collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() { ApiError::BodyTooLarge } else { ApiError::BodyBroken }
    })?;
    let mut data = collected.aggregate();
    // Of its final size at once: a buffer that grows leaves its smaller selves behind, not wiped.
    let mut bytes = Zeroizing::new(vec![0; data.remaining()]);
    data.copy_to_slice(&mut bytes);
    Ok(bytes)
}

/// Stands for the error of the body, which may be of any type.
#[derive(Debug, thiserror::Error)]
#[error("the body breaks off")]
struct BrokenOff;

/// Reads one JSON object (RFC 8259 §4). `None` for anything else.
pub(super) fn object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    // serde would take an array for a struct.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice(body).ok()
}
