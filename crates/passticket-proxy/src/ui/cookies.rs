//! Reads the cookies of a request (RFC 6265 §5.4).

use http::{HeaderMap, header::COOKIE};

/// Returns the value of the first cookie with this name.
pub(super) fn find<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| {
        pair.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_exact_name() {
        let mut headers = HeaderMap::new();
        for line in ["a=1; bb=2;b=3", "c=4=5", "d"] {
            headers.append(COOKIE, HeaderValue::from_static(line));
        }
        for (name, want) in
            [("a", Some("1")), ("b", Some("3")), ("c", Some("4=5")), ("d", None), ("A", None)]
        {
            assert_eq!(find(&headers, name), want.map(str::as_bytes), "{name}");
        }
    }
}
