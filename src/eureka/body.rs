//! Decompresses an answer of the Eureka registry, up to a limit.

use std::{borrow::Cow, io::Read};

use flate2::bufread::MultiGzDecoder;
use http::{HeaderMap, header::CONTENT_ENCODING};

/// The maximum size of an answer after decompression, in bytes. A service in the registry takes about 3 KB.
pub(super) const MAX_BODY: usize = 16 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("more than {MAX_BODY} bytes after decompression")]
    TooLarge,
    #[error("the content is not valid gzip")]
    Gzip,
    #[error("the content has a coding other than gzip")]
    Coding,
}

/// Returns the body without its content coding. A small body can expand to a very large one. So decompression ends one
/// byte after [`MAX_BODY`].
pub(super) fn decode<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<Cow<'b, [u8]>, BodyError> {
    let codings: Vec<&[u8]> =
        headers.get_all(CONTENT_ENCODING).iter().map(|value| value.as_bytes()).collect();
    match codings.as_slice() {
        [] => Ok(Cow::Borrowed(body)),
        [coding] if coding.eq_ignore_ascii_case(b"identity") => Ok(Cow::Borrowed(body)),
        // `x-gzip` is the same coding (RFC 9110 §8.4.1.3).
        [coding]
            if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") =>
        {
            gunzip(body, MAX_BODY).map(Cow::Owned)
        }
        _ => Err(BodyError::Coding),
    }
}

fn gunzip(body: &[u8], limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut decoded = Vec::new();
    let one_more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut reader = MultiGzDecoder::new(body).take(one_more);
    reader.read_to_end(&mut decoded).map_err(|_| BodyError::Gzip)?;
    if decoded.len() > limit {
        return Err(BodyError::TooLarge);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_size_after_decompression_is_limited() {
        for (size, want) in [
            (0, Ok(0)),
            (1000, Ok(1000)),
            (1001, Err(BodyError::TooLarge)),
            (1 << 20, Err(BodyError::TooLarge)),
        ] {
            let got = gunzip(&gzip(&vec![b' '; size]), 1000).map(|decoded| decoded.len());
            assert_eq!(got, want, "{size}");
        }
        // A gzip body can consist of several members (RFC 1952 §2.2). The limit is for all members together.
        let two = [gzip(b"a"), gzip(b"b")].concat();
        assert_eq!(gunzip(&two, 2).as_deref(), Ok(b"ab".as_slice()));
        assert_eq!(gunzip(&two, 1), Err(BodyError::TooLarge));
    }

    #[test]
    fn a_coding_is_gzip_or_none() {
        let zipped = gzip(b"x");
        for (codings, body, want) in [
            (vec![], &b"x"[..], Ok("x")),
            (vec!["identity"], b"x", Ok("x")),
            (vec!["gzip"], &zipped, Ok("x")),
            (vec!["X-Gzip"], &zipped, Ok("x")),
            (vec!["gzip"], b"x", Err(BodyError::Gzip)),
            (vec!["gzip"], &zipped[..zipped.len() - 1], Err(BodyError::Gzip)),
            (vec!["br"], b"x", Err(BodyError::Coding)),
            (vec!["gzip, gzip"], &zipped, Err(BodyError::Coding)),
            (vec!["gzip", "gzip"], &zipped, Err(BodyError::Coding)),
        ] {
            let mut headers = HeaderMap::new();
            for coding in &codings {
                headers.append(CONTENT_ENCODING, coding.parse().unwrap());
            }
            let got = decode(&headers, body);
            assert_eq!(got.as_deref(), want.map(str::as_bytes).as_deref(), "{codings:?}");
        }
    }
}
