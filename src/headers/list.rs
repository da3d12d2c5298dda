//! Headers whose value is a list with commas (RFC 9110 §5.6.1).

use http::{HeaderMap, HeaderName, HeaderValue};

/// Returns the items of one line, without blanks at both ends. An item can be empty.
pub(crate) fn list_items(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|b| *b == b',').map(<[u8]>::trim_ascii)
}

pub(crate) fn all_list_items<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'h [u8]> + use<'h> {
    headers.get_all(name).into_iter().map(HeaderValue::as_bytes).flat_map(list_items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_trimmed_and_may_be_empty() {
        for (line, want) in [("a", &["a"][..]), (" a ,\tb,,c ", &["a", "b", "", "c"]), ("", &[""])]
        {
            let want: Vec<_> = want.iter().map(|item| item.as_bytes()).collect();
            assert_eq!(list_items(line.as_bytes()).collect::<Vec<_>>(), want, "{line:?}");
        }
    }
}
