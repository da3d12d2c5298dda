//! The response header that tells the holder of a Personal Access Token (PAT) when it expires
//! ([D36](crate::decisions#d36)).

use http::{HeaderName, HeaderValue};

use crate::{audit::rfc3339_secs, token::Pat};

/// The response header with the expiry time of the Personal Access Token that the client has sent, such as
/// `2027-01-15T08:00:00Z` (RFC 3339, in UTC).
///
/// [`AuthenticateLayer`](super::AuthenticateLayer) adds this header to each response to a request with a valid PAT,
/// whatever the status is. With [`Mode::Observe`](super::Mode::Observe), it does not add the header. The proxy of this
/// crate removes the header from responses of services.
pub static X_ZOWE_TOKEN_EXPIRES: HeaderName = HeaderName::from_static("x-zowe-token-expires");

/// Returns the value of [`X_ZOWE_TOKEN_EXPIRES`].
pub(crate) fn token_expires(pat: &Pat) -> HeaderValue {
    pat.expiry_header(|expires_at| {
        let text = rfc3339_secs(expires_at);
        HeaderValue::from_bytes(&text).expect("digits, `-`, `:`, `T` and `Z` are valid in a header")
    })
}
