//! Finds, filters and joins cookies. `Cookie` lines can be bytes that are not UTF-8.
//!
//! As in the Zowe API Mediation Layer, each `;` ends a cookie, even a `;` within quotes. Some servers read a `;` within
//! quotes as a part of the value.

use bytes::{BufMut, BytesMut};
use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, GetAll},
};

/// The `Cookie` lines of a request. A caller that needs several cookies looks up the header only once.
pub(crate) struct Cookies<'a>(GetAll<'a, HeaderValue>);

impl<'a> Cookies<'a> {
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        Self(headers.get_all(COOKIE))
    }

    /// Returns the first non-empty value of a cookie with this name, without surrounding quotes.
    pub(crate) fn find(&self, name: &str) -> Option<&'a [u8]> {
        self.0
            .iter()
            .flat_map(|line| pairs(line.as_bytes()))
            .filter_map(split)
            .filter(|(found, _)| *found == name.as_bytes())
            .map(|(_, value)| unquote(value))
            .find(|value| !value.is_empty())
    }
}

/// Keeps the cookies for whose names `keep` returns true, and removes all others. Joins the kept cookies into one line
/// (RFC 6265 §5.4), and does not change their content. Removes a cookie without `=` or without a name, because a
/// service could read it as a credential.
///
/// Some servers also separate cookies at commas (RFC 2109 §4.3.4). Such a server can find an unwanted cookie in the
/// value of a wanted cookie. In this case, the wanted cookie is removed, too.
pub(crate) fn retain(headers: &mut HeaderMap, keep: impl Fn(&[u8]) -> bool) {
    let wanted = |pair: &&[u8]| {
        split(pair).is_some_and(|(name, _)| keep(name))
            && (memchr::memchr(b',', pair).is_none()
                || pair.split(|b| *b == b',').filter_map(split).all(|(name, _)| keep(name)))
    };
    let lines = headers.get_all(COOKIE);
    let (mut count, mut any_wanted, mut any_unwanted) = (0, false, false);
    for line in &lines {
        count += 1;
        for pair in pairs(line.as_bytes()) {
            if wanted(&pair) {
                any_wanted = true;
            } else {
                any_unwanted = true;
            }
        }
    }
    if count == 0 || (count == 1 && !any_unwanted) {
        return;
    }
    if !any_wanted {
        headers.remove(COOKIE);
        return;
    }
    let mut line = BytesMut::new();
    for value in &lines {
        for pair in pairs(value.as_bytes()).filter(wanted) {
            if !line.is_empty() {
                line.put_slice(b"; ");
            }
            line.put_slice(pair.trim_ascii());
        }
    }
    match HeaderValue::from_maybe_shared(line.freeze()) {
        Ok(mut line) => {
            line.set_sensitive(true);
            headers.insert(COOKIE, line);
        }
        // This cannot happen: parts of valid header values are valid when joined with "; ".
        Err(_) => {
            headers.remove(COOKIE);
        }
    }
}

/// Joins several `Cookie` lines into one. HTTP/2 clients may send several lines (RFC 9113 §8.2.3).
#[cfg(feature = "proxy")]
pub(crate) fn join(headers: &mut HeaderMap) {
    let lines = headers.get_all(COOKIE);
    if lines.iter().nth(1).is_none() {
        return;
    }
    let lines: Vec<&[u8]> = lines.iter().map(HeaderValue::as_bytes).collect();
    // This cannot fail: valid header values are valid when joined with "; ".
    if let Ok(mut line) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        line.set_sensitive(true);
        headers.insert(COOKIE, line);
    }
}

/// Returns whether a text can be the value of a cookie (RFC 6265 §4.1.1). Here, the value must not be empty.
pub(crate) fn is_value(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b',' | b';' | b'\\');
    !text.is_empty() && text.bytes().all(allowed)
}

/// Returns one `Cookie` line with the cookies of `headers` and the cookie `name`. Returns `None` if [`is_value`] does
/// not permit `value`.
pub(crate) fn joined_with(headers: &HeaderMap, name: &str, value: &str) -> Option<HeaderValue> {
    if !is_value(value) {
        return None;
    }
    let mut line = BytesMut::new();
    for other in headers.get_all(COOKIE) {
        line.put_slice(other.as_bytes());
        line.put_slice(b"; ");
    }
    line.put_slice(name.as_bytes());
    line.put_slice(b"=");
    line.put_slice(value.as_bytes());
    HeaderValue::from_maybe_shared(line.freeze()).ok()
}

/// Splits a `Cookie` line at `;`. Many cookies contain a long token, so `memchr` is faster than a loop over bytes.
fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr::memchr_iter(b';', line).chain([line.len()]).map(move |end| {
        let pair = &line[start..end];
        start = end + 1;
        pair
    })
}

fn split(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = pair.iter().position(|b| *b == b'=')?;
    let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
    (!name.is_empty()).then_some((name, value))
}

fn unquote(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        unquoted => unquoted,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines
            .iter()
            .map(|line| (COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap()))
            .collect()
    }

    #[test]
    fn a_cookie_is_added_to_one_line_with_the_others() {
        for (lines, value, want) in [
            (&[][..], "x.y_z-", Some("n=x.y_z-")),
            (&["a=1", "b=2; c=3"], "x=", Some("a=1; b=2; c=3; n=x=")),
            (&["a=1"], "x;y", None),
            (&["a=1"], "", None),
            (&[], "x\u{e4}", None),
        ] {
            let line = joined_with(&headers(lines), "n", value);
            assert_eq!(line.as_ref().map(HeaderValue::as_bytes), want.map(str::as_bytes));
        }
    }

    #[test]
    fn find_returns_the_first_non_empty_value() {
        let cases: [(&[&str], Option<&str>); 12] = [
            (&["a=1"], Some("1")),
            (&["b=2; a=1"], Some("1")),
            (&["b=2", "a=1"], Some("1")),
            (&["a=1; a=2"], Some("1")),
            (&["a=; a=2"], Some("2")),
            (&["a=\"1\""], Some("1")),
            (&["a=\"\""], None),
            (&["a"], None),
            (&["A=1"], None),
            (&["ab=1; ba=2"], None),
            (&["  a = 1 ;b"], Some("1")),
            (&["a=x=y=="], Some("x=y==")),
        ];
        for (lines, want) in cases {
            let headers = headers(lines);
            assert_eq!(Cookies::of(&headers).find("a"), want.map(str::as_bytes), "{lines:?}");
        }
    }

    #[test]
    fn retain_keeps_wanted_cookies_in_one_line() {
        let hundred: Vec<_> = (0..100).map(|i| format!("c{i}={i}")).collect();
        let hundred_with_secret = format!("{}; secret=1", hundred.join("; "));
        let hundred = hundred.join("; ");
        let cases: [(&[&str], Option<&str>); 14] = [
            (&["a=1"], Some("a=1")),
            (&["a=1,2; b,c=3"], Some("a=1,2; b,c=3")),
            (&["a=1,secret=x; b=2"], Some("b=2")),
            (&["a, Secret =x"], None),
            (&["a=1;b=2"], Some("a=1;b=2")),
            (&["a=1; secret=x; b=2"], Some("a=1; b=2")),
            (&["a=1", "b=2"], Some("a=1; b=2")),
            (&["a=1", "SECRET=x", "b=\"2 3\""], Some("a=1; b=\"2 3\"")),
            (&["secret=x"], None),
            (&["cookie1=1;secret;b=2;c=2"], Some("cookie1=1; b=2; c=2")),
            (&["=x; a=1"], Some("a=1")),
            (&["a=\"x; secret=y; z\""], Some("a=\"x")),
            (&["ü=ö; secret=1"], Some("ü=ö")),
            (&[&hundred_with_secret], Some(&hundred)),
        ];
        for (lines, want) in cases {
            let mut headers = headers(lines);
            retain(&mut headers, |name| !name.eq_ignore_ascii_case(b"secret"));
            let got: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
            assert_eq!(got, want.map(str::as_bytes).into_iter().collect::<Vec<_>>(), "{lines:?}");
        }
    }

    #[cfg(feature = "proxy")]
    #[test]
    fn join_keeps_the_content_of_all_lines() {
        for (lines, want) in [
            (&["a=1", "b", "a=2; c"][..], Some("a=1; b; a=2; c")),
            (&["a"], Some("a")),
            (&[], None),
        ] {
            let mut headers = headers(lines);
            join(&mut headers);
            let got: Vec<_> = headers.get_all(COOKIE).iter().collect();
            assert_eq!(got, want.into_iter().collect::<Vec<_>>());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn find_does_not_find_a_cookie_that_retain_removed(
            lines in proptest::collection::vec("[a-c=;\" s]{0,12}|s=x|(a=1; )?s=\"y\"", 0..4)
        ) {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let mut headers = headers(&lines);
            retain(&mut headers, |name| name != b"s");
            prop_assert_eq!(Cookies::of(&headers).find("s"), None);
            prop_assert!(headers.get_all(COOKIE).iter().count() <= 1);
        }
    }
}
