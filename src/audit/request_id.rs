//! The id that connects log lines, audit records and the response of one request.

use std::{
    fmt,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{Extensions, HeaderName};
use tracing::{Value, field::display};
use uuid::Uuid;

/// The response header with the [`RequestId`]. A header that the service sets under this name is kept
/// instead.
pub static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Identifies one request in audit records, in the log and in the response header `X-Request-Id`. It
/// is an extension of the request. A header `X-Request-Id` that the client sends is forwarded to the
/// service and has no effect on this id.
///
/// `Display` writes 24 hexadecimal digits. The first twelve are random and the same for all requests
/// of one process; the others are a counter.
///
/// ```
/// use tower_passticket::audit::RequestId;
///
/// let (first, second) = (RequestId::next(), RequestId::next());
/// assert_ne!(first, second);
/// assert_eq!(first.to_string().len(), 24);
/// assert_eq!(first.to_string()[..12], second.to_string()[..12]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(u64);

/// 48 random bits of the operating system, as digits.
static RUN: LazyLock<[u8; 12]> = LazyLock::new(|| {
    let [a, b, c, d, e, f, ..] = Uuid::new_v4().into_bytes();
    hexadecimal(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
});

static REQUESTS: AtomicU64 = AtomicU64::new(0);

impl RequestId {
    /// Makes the id of the next request.
    pub fn next() -> Self {
        Self(REQUESTS.fetch_add(1, Ordering::Relaxed))
    }

    /// The id of a request as the value of a log field.
    pub(crate) fn logged(extensions: &Extensions) -> Option<impl Value + use<>> {
        extensions.get::<Self>().copied().map(display)
    }

    /// The id as a header value.
    #[cfg(feature = "proxy")]
    pub(crate) fn header_value(self) -> Option<http::HeaderValue> {
        http::HeaderValue::from_bytes(&self.digits()).ok()
    }

    pub(super) fn digits(self) -> [u8; 24] {
        let mut digits = [0; 24];
        let (run, number) = digits.split_at_mut(12);
        run.copy_from_slice(&*RUN);
        // 2^48 requests are three years at three million a second.
        number.copy_from_slice(&hexadecimal(self.0));
        digits
    }
}

/// The lower 48 bits.
fn hexadecimal(number: u64) -> [u8; 12] {
    let digit = |nibble: u64| b"0123456789abcdef"[(nibble & 15) as usize];
    std::array::from_fn(|at| digit(number >> (4 * (11 - at))))
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.digits()).expect("digits are ASCII"))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}
