//! A problem of a field of a form.

use std::borrow::Cow;

/// A field of a form with a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The id of the element in the page.
    pub(super) field: Cow<'static, str>,
    pub(super) text: String,
}

impl Fault {
    pub(super) fn new(field: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        Self { field: field.into(), text: text.into() }
    }
}
