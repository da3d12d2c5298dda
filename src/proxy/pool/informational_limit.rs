//! Limits the informational responses (status 1xx) before a response.
//!
//! A service may send any number of informational responses (RFC 9110 §15.2), and hyper skips them. Without a limit, a
//! service that sends them endlessly would keep a thread busy until the response timeout. Status 101 counts as a final
//! response, because the bytes after its head are not HTTP (RFC 9110 §15.2.2).

const MAX_INFORMATIONAL: u8 = 16;

/// Reads the bytes from a service up to the final status: the first status that is 101 or not 1xx.
#[derive(Debug, Default)]
pub(super) struct InformationalLimit {
    count: u8,
    at: At,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// The next byte may belong to the status line, or to an empty line before it.
    #[default]
    Start,
    /// The next byte belongs to the version.
    Version,
    /// The next byte is the first digit of the status.
    Status,
    /// The next byte is the second digit of a status 1xx.
    SecondDigit,
    /// The next byte is the third digit of a status 10x.
    ThirdDigit,
    /// The next byte belongs to the head of an informational response.
    Informational { line_is_empty: bool },
}

/// The result of a check of the bytes that have arrived so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// The final response has begun. Its bytes need not be checked.
    Final,
    /// The status of the final response has not arrived.
    Incomplete,
}

/// The service sent more than [`MAX_INFORMATIONAL`] informational responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the service sent more than {MAX_INFORMATIONAL} informational responses (1xx) to a request"
)]
pub(in crate::proxy) struct TooManyInformational;

impl InformationalLimit {
    pub(super) fn see(&mut self, bytes: &[u8]) -> Result<Head, TooManyInformational> {
        // Most responses take this path, because they have no informational responses before them.
        if self.at == At::Start
            && let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', b'2'..=b'5', ..] = bytes
        {
            return Ok(Head::Final);
        }
        self.scan(bytes)
    }

    #[cold]
    fn scan(&mut self, bytes: &[u8]) -> Result<Head, TooManyInformational> {
        for byte in bytes {
            self.at = match (self.at, byte) {
                (At::Start, b'\r' | b'\n') => At::Start,
                (At::Start | At::Version, b' ') => At::Status,
                (At::Start | At::Version, _) => At::Version,
                (At::Status, b'1') => At::SecondDigit,
                (At::SecondDigit, b'0') => At::ThirdDigit,
                (At::Status, _) | (At::ThirdDigit, b'1') => return Ok(Head::Final),
                (At::Informational { line_is_empty: true }, b'\n') => {
                    self.count += 1;
                    if self.count > MAX_INFORMATIONAL {
                        return Err(TooManyInformational);
                    }
                    At::Start
                }
                (At::SecondDigit | At::ThirdDigit | At::Informational { .. }, b'\n') => {
                    At::Informational { line_is_empty: true }
                }
                (At::Informational { line_is_empty }, b'\r') => At::Informational { line_is_empty },
                (At::SecondDigit | At::ThirdDigit | At::Informational { .. }, _) => {
                    At::Informational { line_is_empty: false }
                }
            };
        }
        Ok(Head::Incomplete)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_result_does_not_depend_on_how_the_bytes_are_split(
            heads in prop::collection::vec("\r?\n?HTTP/1\\.[01] ?[1-3]?(00)?( x)?(\r?\n){0,3}", 0..40),
            size in 1_usize..30,
        ) {
            let bytes = heads.concat().into_bytes();
            let whole = InformationalLimit::default().scan(&bytes);
            prop_assert_eq!(InformationalLimit::default().see(&bytes), whole);
            let mut limit = InformationalLimit::default();
            let mut pieces = bytes.chunks(size).map(|piece| limit.see(piece));
            let first = pieces.find(|seen| *seen != Ok(Head::Incomplete));
            prop_assert_eq!(first.unwrap_or(Ok(Head::Incomplete)), whole);
        }
    }

    #[test]
    fn informational_responses_are_counted_however_they_are_split() {
        const FINAL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 1";
        const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
        const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </1 1>\r\nx: HTTP/1.1 1\r\n\r\n";
        const BARE: &str = "\r\n\nHTTP/1.0 102 \n\n";
        for (informational, times, want) in [
            (CONTINUE, 0, Ok(Head::Final)),
            (CONTINUE, 16, Ok(Head::Final)),
            (CONTINUE, 17, Err(TooManyInformational)),
            (HINTS, 16, Ok(Head::Final)),
            (HINTS, 17, Err(TooManyInformational)),
            (BARE, 16, Ok(Head::Final)),
            (BARE, 17, Err(TooManyInformational)),
        ] {
            let bytes = informational.repeat(times) + FINAL;
            for size in [1, 2, 7, 1000] {
                let mut limit = InformationalLimit::default();
                let mut seen = bytes.as_bytes().chunks(size).map(|chunk| limit.see(chunk));
                let got = seen.find(|seen| *seen != Ok(Head::Incomplete));
                assert_eq!(got.unwrap(), want, "{informational:?} × {times} by {size}");
            }
        }
        assert_eq!(InformationalLimit::default().see(SWITCHING.as_bytes()), Ok(Head::Final));
        let endless = "HTTP/1.1 100 Continue\r\n".to_owned() + &"x: y\r\n".repeat(1000);
        assert_eq!(InformationalLimit::default().see(endless.as_bytes()), Ok(Head::Incomplete));
    }
}
