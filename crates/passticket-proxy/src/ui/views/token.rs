//! The pages about one token, and the page that revokes all tokens.

use maud::{Markup, html};

use super::layout::{
    Frame, ShowIds, TextField, Width, faults, form_key, name_of, page, scopes, state, text_field,
    time,
};
use crate::ui::{
    auth_client::Token,
    fault::Fault,
    paths::{Page, TokenId},
    services::Services,
    texts,
    texts::{
        create as fields, revoke as revoking, rotate as rotating, token as words, tokens as list,
    },
};

/// How long the old token can stay valid after a rotation: the seconds, and the text of each choice.
const GRACES: [(u64, &str); 4] = [
    (0, rotating::NOW),
    (3600, rotating::HOUR),
    (86_400, rotating::DAY),
    (604_800, rotating::WEEK),
];

pub(in crate::ui) fn token(frame: Frame<'_>, token: &Token, services: &Services) -> Markup {
    let id = TokenId::new(&token.id);
    let name = name_of(token);
    let content = html! {
        div class="head" {
            h1 { (name) }
            (state(token))
        }
        div class="card" { (facts(token, services, None)) }
        @if let Some(id) = id {
            div class="actions" {
                a class="button" id="edit" href=(frame.paths.to(Page::Edit(id))) { (list::EDIT) }
                @if token.state == "active" {
                    a class="button" id="rotate" href=(frame.paths.to(Page::Rotate(id))) { (list::ROTATE) }
                    a class="button danger" id="revoke" href=(frame.paths.to(Page::Revoke(id))) { (list::REVOKE) }
                }
            }
        }
        p class="below" { a href=(frame.paths.to(Page::Tokens)) { (texts::BACK_TO_TOKENS) } }
    };
    page(frame, name, Width::Narrow, &content)
}

/// `owner` is the user of the token, if another user sees the page.
pub(super) fn facts(token: &Token, services: &Services, owner: Option<&str>) -> Markup {
    html! {
        dl class="facts" {
            @if let Some(owner) = owner {
                dt { (texts::admin::OWNER) }
                dd class="mono" id="owner" { (owner) }
            }
            @if !token.description.is_empty() {
                dt { (words::DESCRIPTION) }
                dd { (token.description) }
            }
            dt { (list::SERVICES) }
            dd { (scopes(&token.scopes, services, ShowIds::Yes)) }
            dt { (list::CREATED) }
            dd { (time(&token.created_at)) }
            dt { (list::EXPIRES) }
            dd { (time(&token.expires_at)) }
            dt { (list::LAST_USED) }
            dd {
                @match &token.last_used_at {
                    None => (list::NEVER),
                    Some(at) => {
                        (time(at))
                        @if let Some(from) = &token.last_used_from { " " (words::FROM) " " (from) }
                        @if let Some(service) = &token.last_used_service { " " (words::FOR) " " (service) }
                    },
                }
            }
            dt { (words::ID) }
            dd class="mono" { (token.id) }
        }
    }
}

pub(in crate::ui) fn edit(
    frame: Frame<'_>,
    id: TokenId<'_>,
    name: &str,
    description: &str,
    problems: &[Fault],
) -> Markup {
    let name = TextField {
        name: "name",
        label: fields::NAME,
        value: name,
        hint: None,
        required: true,
        max: 64,
    };
    let description = TextField {
        name: "description",
        label: fields::DESCRIPTION,
        value: description,
        hint: None,
        required: false,
        max: 256,
    };
    let content = html! {
        (faults(problems))
        div class="head" { h1 { (words::EDIT_HEADING) } }
        form class="card" id="edit-form" method="post" action=(frame.paths.to(Page::Edit(id))) {
            (form_key(frame))
            (text_field(&name, problems))
            (text_field(&description, problems))
            div class="actions" {
                button class="primary" id="submit" { (words::SAVE) }
                a class="button" href=(frame.paths.to(Page::Token(id))) { (texts::CANCEL) }
            }
        }
    };
    page(frame, words::EDIT_HEADING, Width::Narrow, &content)
}

/// The beginning of a page that asks whether to change a token: the question, and the token that it is about.
fn question(heading: &str, explanation: &str, token: &Token, services: &Services) -> Markup {
    html! {
        div class="head" {
            div {
                h1 { (heading) ": " (name_of(token)) }
                p { (explanation) }
            }
        }
        div class="card" { (facts(token, services, None)) }
    }
}

pub(in crate::ui) fn rotate(
    frame: Frame<'_>,
    id: TokenId<'_>,
    token: &Token,
    services: &Services,
) -> Markup {
    let content = html! {
        (question(rotating::HEADING, rotating::EXPLANATION, token, services))
        form class="card" id="rotate-form" method="post" action=(frame.paths.to(Page::Rotate(id))) {
            (form_key(frame))
            div class="field" {
                label for="grace" { (rotating::GRACE) }
                select id="grace" name="grace" aria-describedby="grace-hint" {
                    @for (seconds, text) in GRACES { option value=(seconds) { (text) } }
                }
                span class="hint" id="grace-hint" { (rotating::WARNING) }
            }
            div class="actions" {
                button class="primary" id="submit" { (rotating::SUBMIT) }
                a class="button" href=(frame.paths.to(Page::Token(id))) { (texts::CANCEL) }
            }
        }
    };
    page(frame, rotating::HEADING, Width::Narrow, &content)
}

pub(in crate::ui) fn revoke(
    frame: Frame<'_>,
    id: TokenId<'_>,
    token: &Token,
    services: &Services,
) -> Markup {
    let content = html! {
        (question(revoking::HEADING, revoking::EXPLANATION, token, services))
        form id="revoke-form" method="post" action=(frame.paths.to(Page::Revoke(id))) {
            (form_key(frame))
            div class="actions" {
                button class="danger" id="submit" { (revoking::SUBMIT) }
                a class="button" href=(frame.paths.to(Page::Token(id))) { (texts::CANCEL) }
            }
        }
    };
    page(frame, revoking::HEADING, Width::Narrow, &content)
}

/// The page that asks whether to revoke all tokens. `active` is the number of active tokens in the registry.
pub(in crate::ui) fn revoke_all(frame: Frame<'_>, active: usize) -> Markup {
    let content = html! {
        div class="head" { h1 { (revoking::ALL_HEADING) } }
        form class="card" id="revoke-all-form" method="post" action=(frame.paths.to(Page::RevokeAll)) {
            (form_key(frame))
            p id="count" { (revoking::count(active)) }
            p { (revoking::ALL_EXPLANATION) }
            div class="actions" {
                button class="danger" id="submit" { (revoking::ALL_SUBMIT) }
                a class="button" href=(frame.paths.to(Page::Tokens)) { (texts::CANCEL) }
            }
        }
    };
    page(frame, revoking::ALL_HEADING, Width::Narrow, &content)
}
