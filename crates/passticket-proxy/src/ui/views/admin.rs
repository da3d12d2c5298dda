//! The pages with which administrators find and revoke the tokens of users.

use maud::{Markup, html};
use tower_passticket::clock::Timestamp;

use super::{
    layout::{
        Area, Frame, ShowIds, Tab, Width, date, described_by, fault_of, faults, form_key,
        has_fault, name_of, page, scopes, state, time,
    },
    table::Table,
    token::facts,
    tokens::{expiry, last_use},
};
use crate::ui::{
    auth_client::{Evicted, RuleTarget, Token, TokenPage},
    fault::Fault,
    form::query,
    list_query::{MAX_NAME, State},
    paths::{AdminPage, Page, TokenId},
    rule_form::{OF_SERVICE, OF_USER, Rule, RuleForm},
    search_query::SearchQuery,
    services::Services,
    texts::{self, admin as words, revoke as revoking, tokens as list},
};

#[derive(Clone, Copy)]
pub(in crate::ui) struct SearchPage<'a> {
    pub(in crate::ui) search: &'a SearchQuery,
    pub(in crate::ui) faults: &'a [Fault],
    pub(in crate::ui) page: &'a TokenPage,
    pub(in crate::ui) services: &'a Services,
    pub(in crate::ui) now: Timestamp,
}

#[derive(Clone, Debug, Default)]
pub(in crate::ui) struct RulePreview {
    pub(in crate::ui) count: usize,
    /// Whether there may be more tokens than were counted.
    pub(in crate::ui) has_more: bool,
    pub(in crate::ui) first: Vec<Token>,
}

/// The form for a rule, as the administrator has filled it.
#[derive(Clone, Copy)]
pub(in crate::ui) struct RulePage<'a> {
    pub(in crate::ui) form: &'a RuleForm,
    pub(in crate::ui) faults: &'a [Fault],
    pub(in crate::ui) services: &'a Services,
}

fn on(tab: Tab, frame: Frame<'_>) -> Frame<'_> {
    Frame { area: Area::Administration(tab), ..frame }
}

fn path(frame: Frame<'_>, page: AdminPage<'_>) -> String {
    frame.paths.to(Page::Admin(page))
}

/// The path of a page about a token of a user.
fn path_of(frame: Frame<'_>, page: AdminPage<'_>, token: &Token) -> String {
    format!("{}{}", path(frame, page), query(&[("user", &token.user)]))
}

/// The search for tokens, and its result.
pub(in crate::ui) fn search(frame: Frame<'_>, content: SearchPage<'_>) -> Markup {
    let SearchPage { search, faults: problems, page: found, services, .. } = content;
    let frame = on(Tab::Tokens, frame);
    let address = path(frame, AdminPage::Tokens);
    let content = html! {
        (faults(problems))
        div class="head" {
            div {
                h1 { (words::SEARCH_HEADING) }
                p { (words::SEARCH_INTRODUCTION) }
            }
            (rules_of_search(frame, search, problems))
        }
        (search_form(frame, search, problems, services))
        @if !problems.is_empty() {
        } @else if found.tokens.is_empty() && found.next.is_none() {
            div class="card empty" id="empty" {
                p { (words::NONE_FOUND) }
                p { (words::NONE_FOUND_HINT) }
            }
        } @else {
            (table(frame, &found.tokens, services, Some(content.now)))
        }
        @if found.next.is_some() || !search.cursor.is_empty() {
            nav class="pages" aria-label=(list::PAGES) {
                div {
                    @if !search.cursor.is_empty() {
                        a class="button" id="first-page" href={ (address) (search.at("")) } { (list::FIRST) }
                    }
                }
                @if let Some(next) = &found.next {
                    a class="button" id="next-page" href={ (address) (search.at(next)) } { (list::NEXT) }
                }
            }
        }
    };
    page(frame, words::SEARCH_HEADING, Width::Wide, &content)
}

/// Links to the previews of the rules for the user and the service of a search.
fn rules_of_search(frame: Frame<'_>, search: &SearchQuery, problems: &[Fault]) -> Markup {
    let rule = |id: &str, parameter: &str, value: &str, text: String| {
        let query = query(&[("of", parameter), (parameter, value)]);
        let href = format!("{}{query}", path(frame, AdminPage::Rule));
        html! { a class="button danger" id=(id) href=(href) { (text) } }
    };
    html! {
        @if problems.is_empty() && !search.user.is_empty() {
            (rule("rule-of-user", OF_USER, &search.user, words::revoke_all_of(&search.user)))
        } @else if problems.is_empty() && !search.service.is_empty() {
            (rule("rule-of-service", OF_SERVICE, &search.service, words::revoke_all_for(&search.service)))
        }
    }
}

fn search_form(
    frame: Frame<'_>,
    search: &SearchQuery,
    problems: &[Fault],
    services: &Services,
) -> Markup {
    let field = |name: &'static str, label: &str, value: &str, choices: Option<&str>| {
        let has_fault = has_fault(problems, name);
        html! {
            label for=(name) { (label) }
            input id=(name) name=(name) type="search" value=(value) maxlength=(MAX_NAME) autocomplete="off"
                list=[choices] aria-invalid=[has_fault.then_some("true")]
                aria-describedby=[described_by(name, false, has_fault)];
            (fault_of(problems, name))
        }
    };
    html! {
        form class="filter" id="filter" method="get" action=(path(frame, AdminPage::Tokens)) role="search"
            aria-label=(list::FILTER) {
            div { (field("user", words::USER, &search.user, None)) }
            div class="grow" { (field("name", list::NAME_CONTAINS, &search.name, None)) }
            div { (field("service", words::SERVICE, &search.service, Some("services"))) }
            div {
                label for="state" { (list::STATE) }
                select id="state" name="state" {
                    @for state in State::ALL {
                        option value=(state.word()) selected[state == search.state] { (state.text()) }
                    }
                }
            }
            button id="apply" { (words::SEARCH) }
            (service_ids(services))
        }
    }
}

/// Suggestions for a field with a service id. A service that the gateway does not have any more is not among them, but
/// may have tokens.
fn service_ids(services: &Services) -> Markup {
    html! {
        datalist id="services" {
            @for service in services.iter() { option value=(service.id) { (service.name()) } }
        }
    }
}

/// A table of tokens. If `now` is absent, each row has only the facts that identify the token.
fn table(
    frame: Frame<'_>,
    tokens: &[Token],
    services: &Services,
    now: Option<Timestamp>,
) -> Markup {
    let all = [
        list::NAME,
        words::OWNER,
        list::SERVICES,
        list::CREATED,
        list::EXPIRES,
        list::LAST_USED,
        list::STATE,
    ];
    let table = Table {
        id: "tokens",
        class: "list",
        label: words::TABLE,
        headings: if now.is_some() { &all } else { &all[..5] },
        actions: now.map(|_| list::ACTIONS),
    };
    table.with_rows(tokens.iter().map(|token| row(frame, token, services, now)))
}

fn row(frame: Frame<'_>, token: &Token, services: &Services, now: Option<Timestamp>) -> Markup {
    let name = name_of(token);
    let id = TokenId::new(&token.id);
    let of_owner = query(&[("user", &token.user), ("state", State::All.word())]);
    html! {
        tr role="row" id={ "token-" (token.id) } {
            th scope="row" role="rowheader" {
                @match id {
                    Some(id) => { a href=(path_of(frame, AdminPage::Token(id), token)) { (name) } },
                    None => (name),
                }
                @if !token.description.is_empty() { span class="sub" { (token.description) } }
            }
            td role="cell" data-label=(words::OWNER) {
                a class="mono" href={ (path(frame, AdminPage::Tokens)) (of_owner) } { (token.user) }
            }
            td role="cell" data-label=(list::SERVICES) { (scopes(&token.scopes, services, ShowIds::No)) }
            td role="cell" data-label=(list::CREATED) { (date(&token.created_at)) }
            @match now {
                None => { td role="cell" data-label=(list::EXPIRES) { (date(&token.expires_at)) } },
                Some(now) => {
                    td role="cell" data-label=(list::EXPIRES) { (expiry(token, now)) }
                    td role="cell" data-label=(list::LAST_USED) { (last_use(token)) }
                    td role="cell" data-label=(list::STATE) { (state(token)) }
                    td role="cell" class="act" {
                        @if let Some(id) = id.filter(|_| token.state == "active") {
                            a class="button quiet small danger" href=(path_of(frame, AdminPage::Revoke(id), token))
                                aria-label=(words::revoke_of(name, &token.user)) { (list::REVOKE) }
                        }
                    }
                },
            }
        }
    }
}

/// All facts about a token of a user.
pub(in crate::ui) fn users_token(frame: Frame<'_>, token: &Token, services: &Services) -> Markup {
    let frame = on(Tab::Tokens, frame);
    let name = name_of(token);
    let id = TokenId::new(&token.id).filter(|_| token.state == "active");
    let all_of_user = query(&[("user", &token.user), ("state", State::All.word())]);
    let content = html! {
        div class="head" {
            h1 { (name) }
            (state(token))
        }
        div class="card" { (facts(token, services, Some(&token.user))) }
        div class="actions" {
            @if let Some(id) = id {
                a class="button danger" id="revoke" href=(path_of(frame, AdminPage::Revoke(id), token)) {
                    (list::REVOKE)
                }
            }
            a class="button" id="of-user" href={ (path(frame, AdminPage::Tokens)) (all_of_user) } {
                (words::tokens_of(&token.user))
            }
        }
    };
    page(frame, name, Width::Narrow, &content)
}

/// The page that asks whether to revoke a token of a user.
pub(in crate::ui) fn revoke_users_token(
    frame: Frame<'_>,
    id: TokenId<'_>,
    token: &Token,
    services: &Services,
) -> Markup {
    let frame = on(Tab::Tokens, frame);
    let content = html! {
        div class="head" {
            div {
                h1 { (revoking::HEADING) ": " (name_of(token)) }
                p { (words::revoke_explanation(&token.user)) }
            }
        }
        div class="card" { (facts(token, services, Some(&token.user))) }
        form id="revoke-form" method="post" action=(path(frame, AdminPage::Revoke(id))) {
            (form_key(frame))
            input type="hidden" name="user" value=(token.user);
            div class="actions" {
                button class="danger" id="submit" { (revoking::SUBMIT) }
                a class="button" href=(path_of(frame, AdminPage::Token(id), token)) { (texts::CANCEL) }
            }
        }
    };
    page(frame, revoking::HEADING, Width::Narrow, &content)
}

pub(in crate::ui) fn rule(frame: Frame<'_>, content: RulePage<'_>) -> Markup {
    let RulePage { form, faults: problems, services } = content;
    let frame = on(Tab::Rule, frame);
    let field = |name: &'static str, label: &str, value: &str, choices: Option<&str>| {
        let has_fault = has_fault(problems, name);
        html! {
            label class="hidden-text" for=(name) { (label) }
            input id=(name) name=(name) value=(value) maxlength="64" autocomplete="off" spellcheck="false"
                list=[choices] placeholder=(label) aria-invalid=[has_fault.then_some("true")]
                aria-describedby=[described_by(name, false, has_fault)];
            (fault_of(problems, name))
        }
    };
    let choice = |value: &str, label: &str| {
        html! {
            label class="choice" {
                input type="radio" name="of" value=(value) checked[form.of == value];
                b { (label) }
            }
        }
    };
    let has_time_fault = has_fault(problems, "up-to");
    let content = html! {
        (faults(problems))
        div class="head" {
            div {
                h1 { (words::RULE_HEADING) }
                p { (words::RULE_INTRODUCTION) }
            }
        }
        form class="card" id="rule-form" method="get" action=(path(frame, AdminPage::Rule)) {
            fieldset class="field" {
                legend { (words::RULE_OF) }
                div class="targets" {
                    div {
                        (choice(OF_USER, words::OF_USER))
                        (field("user", words::USER, &form.user, None))
                    }
                    div {
                        (choice(OF_SERVICE, words::FOR_SERVICE))
                        (field("service", words::SERVICE, &form.service, Some("services")))
                    }
                }
                (service_ids(services))
            }
            div class="field" {
                label for="up-to" { (words::UP_TO) " " span class="note" { "(" (texts::OPTIONAL) ")" } }
                span class="hint" id="up-to-hint" { (words::UP_TO_HINT) }
                input class="date" id="up-to" name="up-to" type="datetime-local" value=(form.up_to)
                    aria-invalid=[has_time_fault.then_some("true")]
                    aria-describedby=[described_by("up-to", true, has_time_fault)];
                (fault_of(problems, "up-to"))
            }
            div class="actions" { button class="primary" id="preview" { (words::PREVIEW) } }
        }
    };
    page(frame, words::RULE_HEADING, Width::Narrow, &content)
}

/// The page that shows what a rule revokes, with the form that makes the rule.
pub(in crate::ui) fn preview(
    frame: Frame<'_>,
    form: &RuleForm,
    rule: &Rule,
    preview: &RulePreview,
    services: &Services,
) -> Markup {
    let frame = on(Tab::Rule, frame);
    let RulePreview { count, has_more, first } = preview;
    let (heading, submit) = match &rule.target {
        RuleTarget::User(user) => {
            (words::revoke_all_of(user.as_str()), words::revoke_all_of(user.as_str()))
        }
        RuleTarget::Service(service) => {
            (words::revoke_all_for(service.as_str()), words::revoke_all_for(service.as_str()))
        }
    };
    let fields = [
        ("of", &form.of),
        ("user", &form.user),
        ("service", &form.service),
        ("up-to", &form.up_to),
    ];
    let content = html! {
        div class="head" {
            div {
                h1 { (heading) }
                p {
                    @match &rule.up_to {
                        None => (words::UP_TO_NOW),
                        Some(up_to) => { (words::ISSUED_UP_TO) " " (time(up_to.as_str())) "." },
                    }
                }
            }
        }
        div class="message warn" {
            p id="count" { (words::hit_count(*count, *has_more)) }
            p { (words::UNKNOWN_TOKENS) }
            p { (words::NO_UNDO) }
        }
        @if !first.is_empty() {
            (table(frame, first, services, None))
            @if *count > first.len() || *has_more {
                p class="hint" id="shown" { (words::only_first(first.len())) }
            }
        }
        form id="confirm-form" method="post" action=(path(frame, AdminPage::Rule)) {
            (form_key(frame))
            @for (name, value) in fields {
                @if !value.is_empty() { input type="hidden" name=(name) value=(value); }
            }
            div class="actions" {
                button class="danger" id="submit" { (submit) }
                a class="button" href={ (path(frame, AdminPage::Rule)) } { (texts::CANCEL) }
            }
        }
    };
    page(frame, &heading, Width::Wide, &content)
}

/// The page that asks whether to remove expired revocations, and shows how many were removed.
pub(in crate::ui) fn evict(frame: Frame<'_>, evicted: Option<Evicted>) -> Markup {
    let frame = on(Tab::Evict, frame);
    let content = html! {
        @if let Some(Evicted { tokens, users, services }) = evicted {
            p class="message good" id="evicted" role="status" { (words::evicted(tokens, users, services)) }
        }
        div class="head" { h1 { (words::EVICT_HEADING) } }
        form class="card" id="evict-form" method="post" action=(path(frame, AdminPage::Evict)) {
            (form_key(frame))
            p { (words::EVICT_EXPLANATION) }
            p class="hint" { (words::EVICT_AUTOMATIC) }
            @if frame.permissions.evict {
                div class="actions" {
                    button class="primary" id="submit" { (words::EVICT_SUBMIT) }
                }
            } @else {
                p class="message warn alone" id="not-permitted" { (words::EVICT_NOT_PERMITTED) }
            }
        }
    };
    page(frame, words::EVICT_HEADING, Width::Narrow, &content)
}
