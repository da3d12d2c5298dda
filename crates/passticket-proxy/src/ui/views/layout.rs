//! The parts that all pages have in common.

use maud::{DOCTYPE, Markup, html};

use crate::ui::{
    assets::{ICON, SCRIPT, STYLE},
    auth_client::{Permissions, Token},
    csrf::{self, FormKey},
    dates::readable,
    fault::Fault,
    notice::Notice,
    paths::{AdminPage, Page, Paths},
    services::Services,
    texts,
};

/// The facts that the frame around the content of a page shows.
#[derive(Clone, Copy)]
pub(in crate::ui) struct Frame<'a> {
    pub(in crate::ui) paths: &'a Paths,
    pub(in crate::ui) key: &'a FormKey,
    /// The user id. `None` if nobody is signed in.
    pub(in crate::ui) user: Option<&'a str>,
    pub(in crate::ui) permissions: Permissions,
    pub(in crate::ui) area: Area,
    pub(in crate::ui) notice: Option<Notice>,
}

/// The group of pages to which a page belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ui) enum Area {
    /// The pages about the tokens of the user.
    Own,
    Administration(Tab),
}

/// A page in the navigation bar of the pages for administrators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ui) enum Tab {
    Tokens,
    Rule,
    Evict,
    Audit,
    Health,
}

impl Tab {
    const ALL: [Self; 5] = [Self::Tokens, Self::Rule, Self::Evict, Self::Audit, Self::Health];

    fn page(self) -> (AdminPage<'static>, &'static str, &'static str) {
        use texts::admin as words;
        match self {
            Self::Tokens => (AdminPage::Tokens, "tab-tokens", words::TAB_TOKENS),
            Self::Rule => (AdminPage::Rule, "tab-rule", words::TAB_RULE),
            Self::Evict => (AdminPage::Evict, "tab-evict", words::TAB_EVICT),
            Self::Audit => (AdminPage::Audit, "tab-audit", words::TAB_AUDIT),
            Self::Health => (AdminPage::Health, "tab-health", words::TAB_HEALTH),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// For lists.
    Wide,
    /// For forms and texts.
    Narrow,
    /// For the form with the password.
    SignIn,
}

pub(super) fn page(frame: Frame<'_>, title: &str, width: Width, content: &Markup) -> Markup {
    let asset = |name| frame.paths.to(Page::Asset(name));
    let is_own = frame.area == Area::Own;
    // All pages for administrators are wide, so that the links between them stay in the same place.
    let class = match width {
        _ if !is_own => "wide",
        Width::Wide => "wide",
        Width::Narrow => "narrow",
        Width::SignIn => "sign-in",
    };
    html! {
        (DOCTYPE)
        html lang=(texts::LANGUAGE) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (texts::title(title)) }
                link rel="icon" href=(asset(&ICON.name)) type="image/svg+xml";
                link rel="stylesheet" href=(asset(&STYLE.name));
                script src=(asset(&SCRIPT.name)) defer {}
            }
            body {
                a class="skip" href="#content" { (texts::SKIP) }
                @if let Some(user) = frame.user { (bar(frame, user)) }
                main id="content" class=(class) tabindex="-1" {
                    @if let Area::Administration(tab) = frame.area { (tabs(frame, tab)) }
                    @if let Some(notice) = frame.notice {
                        p class=(class_of(notice)) id="notice" role="status" { (notice.text()) }
                    }
                    @if is_own || width == Width::Wide {
                        (content)
                    } @else {
                        div class="column" { (content) }
                    }
                }
            }
        }
    }
}

fn class_of(notice: Notice) -> &'static str {
    match notice {
        Notice::SessionEnded => "message warn",
        Notice::SignedOut
        | Notice::Changed
        | Notice::Revoked
        | Notice::AllRevoked
        | Notice::RuleMade => "message good",
    }
}

/// The bar at the top, for a user who is signed in.
fn bar(frame: Frame<'_>, user: &str) -> Markup {
    let link = |page: Page<'_>, id: &str, text: &str, is_current: bool| {
        html! {
            li {
                a id=(id) href=(frame.paths.to(page)) aria-current=[is_current.then_some("true")] { (text) }
            }
        }
    };
    html! {
        header class="bar" {
            div {
                (brand(frame))
                nav aria-label=(texts::MAIN_NAVIGATION) {
                    ul {
                        (link(Page::Tokens, "nav-tokens", texts::MY_TOKENS, frame.area == Area::Own))
                        @if frame.permissions.manage_tokens {
                            (link(Page::Admin(AdminPage::Home), "nav-admin", texts::admin::HEADING, frame.area != Area::Own))
                        }
                    }
                }
                div class="who" {
                    span {
                        span class="hidden-text" { (texts::SIGNED_IN_AS) " " }
                        span id="signed-in-user" { (user) }
                    }
                    form method="post" action=(frame.paths.to(Page::SignOut)) {
                        (form_key(frame))
                        button id="sign-out" class="quiet" { (texts::SIGN_OUT) }
                    }
                }
            }
        }
    }
}

fn tabs(frame: Frame<'_>, current: Tab) -> Markup {
    html! {
        nav class="tabs" aria-label=(texts::admin::HEADING) {
            ul {
                @for tab in Tab::ALL {
                    @let (page, id, text) = tab.page();
                    li {
                        a id=(id) href=(frame.paths.to(Page::Admin(page)))
                            aria-current=[(tab == current).then_some("page")] { (text) }
                    }
                }
            }
        }
    }
}

pub(super) fn brand(frame: Frame<'_>) -> Markup {
    html! {
        a class="brand" href=(frame.paths.to(Page::Home)) {
            img src=(frame.paths.to(Page::Asset(&ICON.name))) alt="" width="26" height="26";
            (texts::PRODUCT)
        }
    }
}

pub(super) fn form_key(frame: Frame<'_>) -> Markup {
    html! { input type="hidden" name=(csrf::FIELD) value=(frame.key.as_str()); }
}

/// A list of the faults in a form, with links to the fields.
pub(super) fn faults(faults: &[Fault]) -> Markup {
    html! {
        @if !faults.is_empty() {
            div class="message bad" id="problems" role="alert" tabindex="-1" {
                h2 { (texts::THERE_IS_A_PROBLEM) }
                ul {
                    @for Fault { field, text } in faults {
                        li { a href={ "#" (field) } { (text) } }
                    }
                }
            }
        }
    }
}

/// The text below a field with a fault.
pub(super) fn fault_of(faults: &[Fault], field: &str) -> Markup {
    html! {
        @for fault in faults.iter().filter(|fault| fault.field == field) {
            span class="fault" id={ (field) "-fault" } { (fault.text) }
        }
    }
}

pub(super) fn has_fault(faults: &[Fault], field: &str) -> bool {
    faults.iter().any(|fault| fault.field == field)
}

/// A text field with its label.
pub(super) struct TextField<'a> {
    /// The name of the field, and the id of its element.
    pub(super) name: &'static str,
    pub(super) label: &'a str,
    pub(super) value: &'a str,
    pub(super) hint: Option<&'a str>,
    pub(super) required: bool,
    pub(super) max: u16,
}

/// Returns the ids of the elements that explain a field, for `aria-describedby`. `None` if there is no such element.
pub(super) fn described_by(field: &str, has_hint: bool, has_fault: bool) -> Option<String> {
    let hint = has_hint.then(|| format!("{field}-hint"));
    let fault = has_fault.then(|| format!("{field}-fault"));
    let ids: Vec<_> = hint.into_iter().chain(fault).collect();
    (!ids.is_empty()).then(|| ids.join(" "))
}

pub(super) fn text_field(field: &TextField<'_>, faults: &[Fault]) -> Markup {
    let TextField { name, label, value, hint, required, max } = *field;
    let has_fault = has_fault(faults, name);
    html! {
        div class="field" {
            label for=(name) {
                (label)
                @if !required { " " span class="note" { "(" (texts::OPTIONAL) ")" } }
            }
            @if let Some(hint) = hint { span class="hint" id={ (name) "-hint" } { (hint) } }
            input id=(name) name=(name) value=(value) maxlength=(max) required[required] autocomplete="off"
                aria-invalid=[has_fault.then_some("true")]
                aria-describedby=[described_by(name, hint.is_some(), has_fault)];
            (fault_of(faults, name))
        }
    }
}

pub(super) fn time(time: &str) -> Markup {
    html! { time datetime=(time) { (readable(time)) } }
}

/// The name of a token, or a text if it has none.
pub(super) fn name_of(token: &Token) -> &str {
    token.name.as_deref().unwrap_or(texts::tokens::UNNAMED)
}

/// The date of a time, for lists. The whole time appears when the mouse is over it.
pub(super) fn date(time: &str) -> Markup {
    let readable = readable(time);
    let date = readable.split(' ').next().unwrap_or_default();
    html! { time datetime=(time) title=(readable) { (date) } }
}

/// Whether [`scopes`] also shows the scopes as the auth API writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShowIds {
    Yes,
    /// A scope appears when the mouse is over its text.
    No,
}

/// Scopes as a list: the services, and what the token may do there.
pub(super) fn scopes(scopes: &[String], services: &Services, ids: ShowIds) -> Markup {
    html! {
        ul class="tags" {
            @for scope in scopes {
                @let text = services.readable(scope);
                li title=(scope) {
                    (text)
                    @if ids == ShowIds::Yes && text != *scope { " " code { (scope) } }
                }
            }
        }
    }
}

pub(super) fn state(token: &Token) -> Markup {
    let (class, text) = match token.state.as_str() {
        "active" => ("state active", texts::tokens::ACTIVE),
        "expired" => ("state expired", texts::tokens::EXPIRED),
        "revoked" => ("state revoked", texts::tokens::REVOKED),
        other => ("state", other),
    };
    html! { span class=(class) { (text) } }
}
