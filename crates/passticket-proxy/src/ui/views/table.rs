//! Tables whose rows become cards in a narrow window.

use maud::{Markup, html};

/// A table. Its rows are `tr` elements with the role `row`.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    pub(super) id: &'a str,
    /// The classes of the element, separated by spaces.
    pub(super) class: &'a str,
    /// The name of the table for screen readers.
    pub(super) label: &'a str,
    pub(super) headings: &'a [&'a str],
    /// The heading of the last column, which has links. Only screen readers read it. `None` if there is no such column.
    pub(super) actions: Option<&'a str>,
}

impl Table<'_> {
    pub(super) fn with_rows(self, rows: impl IntoIterator<Item = Markup>) -> Markup {
        html! {
            div class="scroll" {
                // If a style sheet shows rows as blocks, browsers ignore the roles of the elements. So the roles are
                // repeated here.
                table class=(self.class) id=(self.id) role="table" aria-label=(self.label) {
                    thead role="rowgroup" {
                        tr role="row" {
                            @for heading in self.headings { th scope="col" role="columnheader" { (heading) } }
                            @if let Some(actions) = self.actions {
                                th scope="col" role="columnheader" {
                                    span class="hidden-text" { (actions) }
                                }
                            }
                        }
                    }
                    tbody role="rowgroup" { @for row in rows { (row) } }
                }
            }
        }
    }
}
