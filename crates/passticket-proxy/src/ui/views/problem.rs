//! The page that says what went wrong, and what to do.

use maud::{Markup, html};

use super::layout::{Frame, Width, brand, page};
use crate::ui::{paths::Page, texts};

#[derive(Clone, Copy, Debug)]
pub(in crate::ui) struct ProblemPage<'a> {
    pub(in crate::ui) heading: &'a str,
    pub(in crate::ui) what_to_do: &'a str,
    /// The text of the auth API, if there is one.
    pub(in crate::ui) detail: Option<&'a str>,
    /// The number of the message, which may be empty.
    pub(in crate::ui) number: &'a str,
    pub(in crate::ui) request_id: &'a str,
}

pub(in crate::ui) fn problem(frame: Frame<'_>, problem: ProblemPage<'_>) -> Markup {
    let ProblemPage { heading, what_to_do, detail, number, request_id } = problem;
    let content = html! {
        @if frame.user.is_none() { div class="alone" { (brand(frame)) } }
        div class="card" {
            h1 { (heading) }
            @if let Some(detail) = detail { p class="lead" id="detail" { (detail) } }
            div class="what-to-do" {
                h2 { (texts::WHAT_TO_DO) }
                p id="what-to-do" { (what_to_do) }
            }
            dl class="facts below" {
                @if !number.is_empty() {
                    dt { (texts::MESSAGE) }
                    dd class="mono" id="message-number" { (number) }
                }
                dt { (texts::REQUEST_ID) }
                dd class="mono" id="request-id" { (request_id) }
            }
            div class="actions" {
                a class="button primary" href=(frame.paths.to(Page::Tokens)) { (texts::BACK_TO_TOKENS) }
            }
        }
    };
    page(frame, heading, Width::Narrow, &content)
}

/// A page that makes the browser request the same address again. If a user follows a link on another site, the browser
/// sends its first request without the cookies of the gateway, because they are `SameSite=Strict`. The second request
/// has these cookies.
pub(in crate::ui) fn open_again(frame: Frame<'_>, address: &str) -> Markup {
    let content = html! {
        meta http-equiv="refresh" content={ "0; url=" (address) };
        (brand(frame))
        p { a href=(address) { (texts::OPEN) } }
    };
    page(frame, texts::OPENING, Width::SignIn, &content)
}
