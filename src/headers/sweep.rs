//! Removes unwanted headers in one pass over the headers of a request.
//!
//! Most requests have no unwanted header. One pass then costs less than a hash lookup for each unwanted name.

use http::{HeaderMap, HeaderName};

/// Removes each header for whose name `unwanted` returns `true`. Returns the removed names.
pub(crate) fn sweep(
    headers: &mut HeaderMap,
    mut unwanted: impl FnMut(&HeaderName) -> bool,
) -> Vec<HeaderName> {
    let names: Vec<_> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in &names {
        headers.remove(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn every_line_of_an_unwanted_name_is_removed() {
        let mut headers = HeaderMap::new();
        for name in ["x-a", "y", "x-b", "x-a", "accept"] {
            headers.append(name, HeaderValue::from_static("1"));
        }
        let mut swept = sweep(&mut headers, |name| name.as_str().starts_with("x-"));
        swept.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        assert_eq!(swept, ["x-a", "x-b"]);
        assert_eq!(headers.len(), 2);
        assert!(sweep(&mut headers, |name| name.as_str().starts_with("x-")).is_empty());
    }
}
