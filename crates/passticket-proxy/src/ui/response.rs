//! The responses of the pages, and their headers.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
        SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
    },
};
use maud::Markup;
use tower_passticket::proxy::ResponseBody;

use super::assets::Asset;

/// The content security policy of all pages. The pages load only files of the gateway, have no inline scripts or
/// styles, and send forms only to the gateway. No other page can contain them in a frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; base-uri \
                      'none'; frame-ancestors 'none'";

/// The headers of each response.
const HEADERS: [(http::HeaderName, &str); 5] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (http::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (http::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Returns a page. Browsers must not keep it.
pub(super) fn page(status: StatusCode, markup: Markup) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(Bytes::from(markup.into_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    with_headers(response)
}

/// Sends the browser to another page of the gateway with GET.
pub(super) fn redirect(path: &str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(Bytes::new()));
    *response.status_mut() = StatusCode::SEE_OTHER;
    let path = HeaderValue::try_from(path).expect("the paths of the pages are header values");
    let headers = response.headers_mut();
    headers.insert(LOCATION, path);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    with_headers(response)
}

/// Returns a file. Its name changes with its content, so browsers may keep it for a year.
pub(super) fn asset(asset: &Asset) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(Bytes::from_static(asset.content)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    let long = HeaderValue::from_static("public, max-age=31536000, immutable");
    headers.insert(CACHE_CONTROL, long);
    with_headers(response)
}

fn with_headers(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

pub(super) fn set_cookies(
    response: &mut Response<ResponseBody>,
    cookies: impl IntoIterator<Item = HeaderValue>,
) {
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

/// Returns the value of `Set-Cookie` that removes a cookie of the gateway. `None` if the name is not valid in a header.
pub(super) fn removal_of(cookie: &str) -> Option<HeaderValue> {
    let value = format!("{cookie}=; Path=/; Max-Age=0; SameSite=Strict; HttpOnly; Secure");
    HeaderValue::try_from(value).ok()
}

/// Answers 503 without a page. Each page needs a random number. This response is for the case that the operating
/// system provides none.
pub(super) fn unavailable() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(Bytes::new()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    with_headers(response)
}
