//! Error messages as HTML pages.

use std::{fmt::Write, sync::LazyLock};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY},
};
use sha2::{Digest, Sha256};

use crate::{audit::RequestId, messages::ApiMessage, proxy::ResponseBody};

static SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The style of the page. The colours have a contrast of at least 7 : 1 (WCAG 2.2, level AAA).
const STYLE: &str = "\
:root{color-scheme:light dark;--back:#f5f6f8;--card:#fff;--text:#1f2430;--soft:#4a5163;--line:#d5d9e2;--mark:#0b4a8f}\
@media(prefers-color-scheme:dark){:root{--back:#14171d;--card:#1d2129;--text:#eef0f5;--soft:#b9c0cf;--line:#3a4150;\
--mark:#8cc4ff}}\
*{box-sizing:border-box}\
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--back);\
color:var(--text);font:1rem/1.6 system-ui,-apple-system,\"Segoe UI\",Roboto,sans-serif}\
main{width:100%;max-width:38rem;padding:2.5rem;background:var(--card);border:1px solid var(--line);\
border-top:.3rem solid var(--mark);border-radius:.5rem;overflow-wrap:anywhere}\
h1{margin:0 0 1rem;font-size:1.75rem;line-height:1.25}\
h1 span{color:var(--mark)}\
h2{margin:1.75rem 0 .25rem;font-size:1rem}\
p{margin:0 0 .5rem}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1.25rem;margin:2rem 0 0;padding-top:1.25rem;\
border-top:1px solid var(--line);color:var(--soft);font-size:.875rem}\
dd{margin:0;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}";

/// The policy permits only the style of the page: no scripts, no other resources, no forms.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    );
    HeaderValue::try_from(policy).expect("Base64 is a header value")
});

/// Returns whether the method is `GET` or `HEAD`, `Accept` prefers HTML to JSON, and `Sec-Fetch-Mode` is `navigate` or
/// absent.
pub(super) fn wants_page(method: &Method, headers: &HeaderMap) -> bool {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return false;
    }
    let Some(accept) = headers.get(ACCEPT) else { return false };
    // Most clients are programs with a short `Accept`, such as `*/*`. Checking the length first is cheap.
    accept.len() >= "text/*".len()
        && prefers_html(headers)
        && headers.get(&SEC_FETCH_MODE).is_none_or(|mode| mode == "navigate")
}

/// Returns whether `Accept` prefers HTML to JSON (RFC 9110 §12.5.1). Without a preference, the client gets JSON.
fn prefers_html(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let (mut html, mut json) = (Preference::default(), Preference::default());
    for range in lines.flat_map(|line| line.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let quality = quality.map_or(1.0, |text| text.parse().unwrap_or(0.0));
        html.apply(media_type, "text", "html", quality);
        json.apply(media_type, "application", "json", quality);
    }
    html.quality > json.quality
}

/// The quality of a media type. The quality of the most specific media range counts.
#[derive(Clone, Copy, Debug, Default)]
struct Preference {
    specificity: u8,
    quality: f32,
}

impl Preference {
    fn apply(&mut self, range: &str, main: &str, sub: &str, quality: f32) {
        let Some((range_main, range_sub)) = range.split_once('/') else { return };
        let is_main = range_main.eq_ignore_ascii_case(main);
        let specificity = match (range_main, range_sub) {
            (_, other) if is_main && other.eq_ignore_ascii_case(sub) => 3,
            (_, "*") if is_main => 2,
            ("*", "*") => 1,
            _ => return,
        };
        if specificity > self.specificity {
            *self = Self { specificity, quality };
        }
    }
}

/// Replaces the JSON body of an error message of the gateway by a page. A response without an [`ApiMessage`] does not
/// change.
pub(super) fn to_page(response: &mut Response<ResponseBody>, id: RequestId) {
    let Some(message) = response.extensions().get::<ApiMessage>() else { return };
    let page = page(response.status(), message, id);
    *response.body_mut() = page.into();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.append(VARY, HeaderValue::from(ACCEPT));
}

#[cold]
fn page(status: StatusCode, message: &ApiMessage, id: RequestId) -> Bytes {
    let code = status.as_u16();
    let name = status.canonical_reason().unwrap_or("Error");
    let text = Escaped(message.text());
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<title>{code} {name}</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<main>\n<h1><span>{code}</span> {name}</h1>\n<p>{text}</p>\n"
    );
    let action = match message.action() {
        "" if status.is_server_error() => {
            "Try again later. If that does not help, give the request id to the operator of the gateway."
        }
        "" => "Check the address, or go back to the page that you came from.",
        action => action,
    };
    let reason = Escaped(message.reason());
    if !message.reason().is_empty() {
        let _ = writeln!(page, "<p>{reason}</p>");
    }
    let (action, number) = (Escaped(action), message.number());
    let _ = write!(
        page,
        "<h2>What you can do</h2>\n<p>{action}</p>\n<dl>\n<dt>Message</dt><dd>{number}</dd>\n<dt>Request \
         id</dt><dd>{id}</dd>\n</dl>\n</main>\n</body>\n</html>\n"
    );
    page.into()
}

/// Escapes the special characters of HTML.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            _ => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages;

    #[test]
    fn browsers_that_open_a_document_get_a_page() {
        const BROWSER: &str =
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for (method, headers, want) in [
            ("GET", &[("accept", BROWSER), ("sec-fetch-mode", "navigate")][..], true),
            ("HEAD", &[("accept", BROWSER)], true),
            ("GET", &[("accept", "text/html")], true),
            ("GET", &[("accept", "Text/HTML;charset=utf-8")], true),
            ("GET", &[("accept", "text/*")], true),
            ("GET", &[("accept", "application/json;q=0.4, text/html;q=0.5")], true),
            ("GET", &[("accept", "application/json;q=0.4"), ("accept", "text/html")], true),
            ("GET", &[("accept", "*/*;q=0.9, text/html, application/json;q=0.1")], true),
            ("GET", &[("accept", BROWSER), ("sec-fetch-mode", "cors")], false),
            ("POST", &[("accept", BROWSER)], false),
            ("GET", &[], false),
            ("GET", &[("accept", "*/*")], false),
            ("GET", &[("accept", "application/json")], false),
            ("GET", &[("accept", "text/html, application/json")], false),
            ("GET", &[("accept", "application/json, text/plain, */*")], false),
            ("GET", &[("accept", "text/html;q=0.4, application/json;q=0.5")], false),
            ("GET", &[("accept", "text/html;q=0.4, */*;q=0.5")], false),
            ("GET", &[("accept", "text/html;q=0, */*")], false),
            ("GET", &[("accept", "text/html;q=x")], false),
            ("GET", &[("accept", "text/htmlx, html, text")], false),
        ] {
            let request = http::Request::builder();
            let request = headers.iter().fold(request, |request, (n, v)| request.header(*n, *v));
            let request = request.body(()).unwrap();
            let got = wants_page(&method.parse().unwrap(), request.headers());
            assert_eq!(got, want, "{method} {headers:?}");
        }
    }

    #[test]
    fn the_page_escapes_each_text_and_shows_message_number_and_request_id() {
        let id = RequestId::next();
        let text = "<script>alert('&\")</script>";
        let message = ApiMessage::with(&messages::INVALID_CREDENTIALS, &[text]);
        let page = page(StatusCode::UNAUTHORIZED, &message, id);
        let page = std::str::from_utf8(&page).unwrap();
        assert!(page.contains("&lt;script&gt;alert(&#39;&amp;&quot;)&lt;/script&gt;"), "{page}");
        assert!(!page.contains("<script"), "{page}");
        for part in ["<title>401 Unauthorized</title>", "ZWEAG120E", "Provide a valid username"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(page.contains(&format!("<dd>{id}</dd>")), "{page}");
        // The page refers to no other resource.
        assert!(!page.contains("http") && !page.contains("src=") && !page.contains("url("));
        let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
        let hash = BASE64_STANDARD.encode(Sha256::digest(style));
        assert!(POLICY.to_str().unwrap().contains(&format!("style-src 'sha256-{hash}';")));
    }

    #[test]
    fn only_messages_of_the_gateway_become_pages() {
        let id = RequestId::next();
        let mut of_service = Response::new(ResponseBody::from(Bytes::from("{}")));
        *of_service.status_mut() = StatusCode::NOT_FOUND;
        to_page(&mut of_service, id);
        assert!(!of_service.headers().contains_key(CONTENT_TYPE));
        let message = ApiMessage::new(&messages::NOT_FOUND);
        let mut ours = message.into_response(StatusCode::NOT_FOUND).map(ResponseBody::from);
        to_page(&mut ours, id);
        assert_eq!(ours.status(), 404);
        for (name, want) in [
            ("content-type", "text/html; charset=utf-8"),
            ("vary", "accept"),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(ours.headers()[name], want);
        }
    }
}
