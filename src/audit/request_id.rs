//! The id of a request in log lines, in audit records and in the response.

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

/// The response header with the [`RequestId`]. If the service has already set this header, the gateway does not replace
/// it.
pub static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Identifies one request in audit records, in the log and in the response header `X-Request-Id`. It is stored in the
/// extensions of the request. If the client sends a header `X-Request-Id`, the gateway forwards it to the service, but
/// does not use it.
///
/// `Display` writes 24 hexadecimal digits. The first twelve digits are random. They are the same for all requests of
/// one process. The last twelve digits are a counter.
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

/// The first twelve digits of all ids of this process: 48 random bits from the operating system.
static PROCESS: LazyLock<[u8; 12]> = LazyLock::new(|| {
    let [a, b, c, d, e, f, ..] = Uuid::new_v4().into_bytes();
    hexadecimal(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
});

/// The number of the next request.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl RequestId {
    /// Makes the id of the next request.
    pub fn next() -> Self {
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the id in `extensions`, as the value of a log field.
    pub(crate) fn logged(extensions: &Extensions) -> Option<impl Value + use<>> {
        extensions.get::<Self>().copied().map(display)
    }

    /// Returns the id as a header value.
    #[cfg(feature = "proxy")]
    pub(crate) fn header_value(self) -> Option<http::HeaderValue> {
        http::HeaderValue::from_bytes(&self.digits()).ok()
    }

    pub(super) fn digits(self) -> [u8; 24] {
        let mut digits = [0; 24];
        let (process, counter) = digits.split_at_mut(12);
        process.copy_from_slice(&*PROCESS);
        // Ids repeat after 2^48 requests. With three million requests per second, this takes three years.
        counter.copy_from_slice(&hexadecimal(self.0));
        digits
    }
}

/// Returns the lower 48 bits of `number` as hexadecimal digits.
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
