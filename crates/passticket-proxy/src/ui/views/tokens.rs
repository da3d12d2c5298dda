//! The list of tokens.

use maud::{Markup, html};
use tower_passticket::clock::Timestamp;

use super::{
    layout::{Frame, ShowIds, Width, date, name_of, page, scopes, state, time},
    table::Table,
};
use crate::ui::{
    auth_client::Token,
    dates::days_until,
    list_query::{ListQuery, MAX_NAME, Sort, State},
    paths::{Page, TokenId},
    services::Services,
    texts::tokens as words,
};

/// The list marks tokens that expire within this number of days.
const SOON_DAYS: u64 = 7;

#[derive(Clone, Copy)]
pub(in crate::ui) struct ListPage<'a> {
    pub(in crate::ui) query: &'a ListQuery,
    pub(in crate::ui) tokens: &'a [Token],
    /// The cursor of the next page.
    pub(in crate::ui) next: Option<&'a str>,
    pub(in crate::ui) services: &'a Services,
    pub(in crate::ui) now: Timestamp,
}

pub(in crate::ui) fn tokens(frame: Frame<'_>, list: ListPage<'_>) -> Markup {
    let ListPage { query, tokens, next, .. } = list;
    let path = frame.paths.to(Page::Tokens);
    let is_new = query.is_default() && tokens.is_empty();
    let content = html! {
        div class="head" {
            div {
                h1 { (words::HEADING) }
                p { (words::INTRODUCTION) }
            }
            @if !is_new { (create(frame)) }
        }
        (filter(frame, query))
        @if is_new {
            div class="card empty" id="empty" {
                p { (words::EMPTY) }
                p { (words::EMPTY_HINT) }
                div class="actions" { (create(frame)) }
            }
        } @else if tokens.is_empty() {
            div class="card empty" id="empty" {
                p { (words::NONE_FOUND) }
                div class="actions" { a class="button" href=(path) { (words::SHOW_ACTIVE) } }
            }
        } @else {
            (table(frame, list))
        }
        @if next.is_some() || !query.cursor.is_empty() {
            nav class="pages" aria-label=(words::PAGES) {
                div {
                    @if !query.cursor.is_empty() {
                        a class="button" id="first-page" href={ (path) (query.at("")) } { (words::FIRST) }
                    }
                }
                @if let Some(next) = next {
                    a class="button" id="next-page" href={ (path) (query.at(next)) } { (words::NEXT) }
                }
            }
        }
        p class="below" {
            a class="button danger" id="revoke-all" href=(frame.paths.to(Page::RevokeAll)) { (words::REVOKE_ALL) }
        }
    };
    page(frame, words::HEADING, Width::Wide, &content)
}

fn create(frame: Frame<'_>) -> Markup {
    html! {
        a class="button primary" id="create" href=(frame.paths.to(Page::NewToken)) { (words::CREATE) }
    }
}

fn filter(frame: Frame<'_>, query: &ListQuery) -> Markup {
    html! {
        form class="filter" id="filter" method="get" action=(frame.paths.to(Page::Tokens)) role="search"
            aria-label=(words::FILTER) {
            div class="grow" {
                label for="name" { (words::NAME_CONTAINS) }
                input id="name" name="name" type="search" value=(query.name) maxlength=(MAX_NAME) autocomplete="off";
            }
            div {
                label for="state" { (words::STATE) }
                select id="state" name="state" {
                    @for state in State::ALL {
                        option value=(state.word()) selected[state == query.state] { (state.text()) }
                    }
                }
            }
            div {
                label for="sort" { (words::SORT) }
                select id="sort" name="sort" {
                    @for sort in Sort::ALL {
                        option value=(sort.word()) selected[sort == query.sort] { (sort.text()) }
                    }
                }
            }
            button id="apply" { (words::APPLY) }
        }
    }
}

fn table(frame: Frame<'_>, list: ListPage<'_>) -> Markup {
    let table = Table {
        id: "tokens",
        class: "list",
        label: words::HEADING,
        headings: &[
            words::NAME,
            words::SERVICES,
            words::CREATED,
            words::EXPIRES,
            words::LAST_USED,
            words::STATE,
        ],
        actions: Some(words::ACTIONS),
    };
    table.with_rows(list.tokens.iter().map(|token| row(frame, token, list)))
}

fn row(frame: Frame<'_>, token: &Token, list: ListPage<'_>) -> Markup {
    let name = name_of(token);
    let is_active = token.state == "active";
    let id = TokenId::new(&token.id);
    let action = |page: Page<'_>, class: &str, action: &str| {
        html! {
            a class={ "button quiet small " (class) } href=(frame.paths.to(page))
                aria-label=(words::of_token(action, name)) { (action) }
        }
    };
    html! {
        tr role="row" id={ "token-" (token.id) } {
            th scope="row" role="rowheader" {
                @match id {
                    Some(id) => { a href=(frame.paths.to(Page::Token(id))) { (name) } },
                    None => (name),
                }
                @if !token.description.is_empty() { span class="sub" { (token.description) } }
            }
            td role="cell" data-label=(words::SERVICES) { (scopes(&token.scopes, list.services, ShowIds::No)) }
            td role="cell" data-label=(words::CREATED) { (date(&token.created_at)) }
            td role="cell" data-label=(words::EXPIRES) { (expiry(token, list.now)) }
            td role="cell" data-label=(words::LAST_USED) { (last_use(token)) }
            td role="cell" data-label=(words::STATE) { (state(token)) }
            td role="cell" class="act" {
                @if let Some(id) = id.filter(|_| is_active) {
                    (action(Page::Edit(id), "", words::EDIT))
                    (action(Page::Rotate(id), "", words::ROTATE))
                    (action(Page::Revoke(id), "danger", words::REVOKE))
                }
            }
        }
    }
}

/// When a token expires, and how many days are left.
pub(super) fn expiry(token: &Token, now: Timestamp) -> Markup {
    let days = days_until(now, &token.expires_at).filter(|_| token.state == "active");
    html! {
        div {
            (date(&token.expires_at))
            @if let Some(days) = days {
                span class={ "sub" @if days <= SOON_DAYS { " soon" } } { (words::days_left(days)) }
            }
        }
    }
}

pub(super) fn last_use(token: &Token) -> Markup {
    html! {
        div {
            @match &token.last_used_at {
                None => { span class="soft" { (words::NEVER) } },
                Some(at) => {
                    (time(at))
                    @if let Some(from) = &token.last_used_from { span class="sub" { (from) } }
                },
            }
        }
    }
}
