//! The id of a request in log lines, in audit records, in the request to the service and in the response.

use std::{
    cell::{Cell, RefCell},
    fmt,
};

use aws_lc_rs::rand;
#[cfg(any(feature = "proxy", feature = "tls"))]
use http::HeaderValue;
use http::{Extensions, HeaderName};
use tracing::{Value, field::display};
use uuid::Uuid;

/// The header with the [`RequestId`]. The gateway sets it in the request to the service and in the response to the
/// client. If the client or the service has sent this header, the gateway replaces its value.
pub static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Identifies one request in audit records, in the access log, in the log, in the request to the service and in the
/// response. The extensions of the request contain it.
///
/// `Display` writes 32 hexadecimal digits in lower case. The id is random, so a client cannot guess the id of another
/// request.
///
/// ```
/// use tower_passticket::audit::RequestId;
///
/// let (first, second) = (RequestId::next(), RequestId::next());
/// assert_ne!(first, second);
/// assert_eq!(first.to_string().len(), 32);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 16]);

/// The number of ids for which a thread gets random bits at once.
const BATCH: usize = 64;

struct Random {
    bytes: [u8; 16 * BATCH],
    left: usize,
}

thread_local! {
    static RANDOM: RefCell<Random> = const { RefCell::new(Random { bytes: [0; 16 * BATCH], left: 0 }) };

    /// The request on which this thread works now.
    static CURRENT: Cell<Option<RequestId>> = const { Cell::new(None) };
}

impl Random {
    fn next(&mut self) -> [u8; 16] {
        if self.left == 0 && !self.fill() {
            // `fill` has failed.
            return Uuid::new_v4().into_bytes();
        }
        self.left -= 1;
        let mut id = [0; 16];
        let at = 16 * self.left;
        id.copy_from_slice(&self.bytes[at..at + 16]);
        id
    }

    #[cold]
    fn fill(&mut self) -> bool {
        let is_filled = rand::fill(&mut self.bytes).is_ok();
        self.left = if is_filled { BATCH } else { 0 };
        is_filled
    }
}

impl RequestId {
    /// Makes the id of the next request.
    pub fn next() -> Self {
        Self(RANDOM.with_borrow_mut(Random::next))
    }

    /// Returns the id of the request on which this thread works now. A log formatter can add it to each line. Returns
    /// `None` outside of a request. The [`Gateway`](../gateway/struct.Gateway.html) sets the id.
    pub fn current() -> Option<Self> {
        // A thread may still log while its thread-local variables are destroyed. Then there is no id.
        CURRENT.try_with(Cell::get).ok().flatten()
    }

    /// Runs `work` on the request with this id. Meanwhile, [`current`](Self::current) returns this id.
    #[cfg(feature = "proxy")]
    pub(crate) fn scope<T>(self, work: impl FnOnce() -> T) -> T {
        let _restore = Restore(CURRENT.replace(Some(self)));
        work()
    }

    pub(crate) fn logged(extensions: &Extensions) -> Option<impl Value + use<>> {
        extensions.get::<Self>().copied().map(display)
    }

    #[cfg(any(feature = "proxy", feature = "tls"))]
    pub(crate) fn header_value(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.digits()).expect("hexadecimal digits are a header value")
    }

    pub(crate) fn digits(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        digits
    }
}

/// Restores the earlier request of this thread, even after a panic.
#[cfg(feature = "proxy")]
struct Restore(Option<RequestId>);

#[cfg(feature = "proxy")]
impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
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

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, panic::catch_unwind, thread};

    use super::*;

    #[test]
    fn ids_of_all_threads_differ_and_have_32_lower_case_digits() {
        let ids = || (0..3 * BATCH).map(|_| RequestId::next().to_string()).collect::<Vec<_>>();
        let others = thread::spawn(ids);
        let all: Vec<_> = ids().into_iter().chain(others.join().unwrap()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 6 * BATCH);
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        assert!(all.iter().all(|id| id.len() == 32 && id.bytes().all(is_digit)), "{all:?}");
        // No position has the same digit in all ids.
        for at in 0..32 {
            let digits: HashSet<_> = all.iter().map(|id| id.as_bytes()[at]).collect();
            assert!(digits.len() > 8, "position {at}: {digits:?}");
        }
    }

    #[cfg(feature = "proxy")]
    #[test]
    fn the_current_id_is_set_only_inside_of_a_request() {
        let (outer, inner) = (RequestId::next(), RequestId::next());
        assert_eq!(RequestId::current(), None);
        outer.scope(|| {
            let panicked = catch_unwind(|| inner.scope(|| panic!("{:?}", RequestId::current())));
            assert_eq!(
                *panicked.unwrap_err().downcast::<String>().unwrap(),
                format!("{:?}", Some(inner))
            );
            assert_eq!(RequestId::current(), Some(outer));
        });
        assert_eq!(RequestId::current(), None);
    }
}
