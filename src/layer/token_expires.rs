//! Tells the holder of a Personal Access Token (PAT) when the PAT expires ([D36](crate::decisions#d36)).

use http::{HeaderName, HeaderValue};

use crate::{audit::rfc3339_secs, token::Pat};

/// This response header tells the client when its Personal Access Token expires, such as `2027-01-15T08:00:00Z` (RFC
/// 3339, in UTC).
///
/// [`AuthenticateLayer`](super::AuthenticateLayer) adds this header to each response to a request with a valid PAT, for
/// each status. With [`Mode::Observe`](super::Mode::Observe), it does not add the header. The proxy of this crate
/// removes the header from responses of services.
pub static X_ZOWE_TOKEN_EXPIRES: HeaderName = HeaderName::from_static("x-zowe-token-expires");

pub(crate) fn token_expires(pat: &Pat) -> HeaderValue {
    pat.expiry_header(|expires_at| {
        let text = rfc3339_secs(expires_at);
        HeaderValue::from_bytes(&text).expect("digits, `-`, `:`, `T` and `Z` are valid in a header")
    })
}
