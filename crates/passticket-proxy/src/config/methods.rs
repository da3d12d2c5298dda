//! Reads lists of HTTP methods.

use http::Method;

use super::{problem::quote, reader::Field};

/// Reads methods: a list, or one text with commas between the methods.
pub(super) fn read(field: &Field<'_>) -> Vec<Method> {
    let items = field.one_or_more();
    let texts = items.iter().filter_map(|item| Some((item, item.text()?)));
    let texts = texts.flat_map(|(item, text)| text.split(',').map(move |text| (item, text.trim())));
    let method = |(item, text): (&Field<'_>, &str)| {
        let is_name = !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase());
        let method = is_name.then(|| text.parse().ok()).flatten();
        if method.is_none() {
            item.at.error(format_args!(
                "{} is not a method; write methods like GET, POST",
                quote(text)
            ));
        }
        method
    };
    texts.filter_map(method).collect()
}
