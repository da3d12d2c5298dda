//! The form for a new token, and the page that shows it.

use maud::{Markup, html};
use tower_passticket::token::MAX_SCOPE_PATH_LEN;

use super::layout::{
    Frame, TextField, Width, described_by, fault_of, faults, form_key, has_fault, page, text_field,
    time,
};
use crate::ui::{
    auth_client::NewToken,
    commands::Command,
    create_form::{CreateForm, Lifetimes, ON_DATE},
    fault::Fault,
    paths::Page,
    service_choices::{SERVICE, access_field, path_field},
    services::{Service, Services},
    texts,
    texts::{access as accesses, create as words, created as result},
};

/// From this number of services on, the script offers to search for one.
const SEARCH_FROM: usize = 8;

#[derive(Clone, Copy)]
pub(in crate::ui) struct CreatePage<'a> {
    pub(in crate::ui) form: &'a CreateForm,
    pub(in crate::ui) faults: &'a [Fault],
    pub(in crate::ui) services: &'a Services,
    pub(in crate::ui) lifetimes: Lifetimes,
}

pub(in crate::ui) fn create(frame: Frame<'_>, content: CreatePage<'_>) -> Markup {
    let CreatePage { form, faults: problems, services, lifetimes } = content;
    let name = TextField {
        name: "name",
        label: words::NAME,
        value: &form.name,
        hint: Some(words::NAME_HINT),
        required: true,
        max: 64,
    };
    let description = TextField {
        name: "description",
        label: words::DESCRIPTION,
        value: &form.description,
        hint: None,
        required: false,
        max: 256,
    };
    let content = html! {
        (faults(problems))
        div class="head" { h1 { (words::HEADING) } }
        @if services.offered().next().is_none() {
            p class="message warn" id="no-services" { (words::NO_SERVICES) }
        } @else {
            form class="card" id="create-form" method="post" action=(frame.paths.to(Page::NewToken)) {
                (form_key(frame))
                (text_field(&name, problems))
                (text_field(&description, problems))
                (service_choices(form, problems, services))
                (expiry_choices(form, problems, lifetimes))
                div class="actions" {
                    button class="primary" id="submit" { (words::SUBMIT) }
                    a class="button" href=(frame.paths.to(Page::Tokens)) { (texts::CANCEL) }
                }
            }
        }
    };
    page(frame, words::HEADING, Width::Narrow, &content)
}

fn service_choices(form: &CreateForm, problems: &[Fault], services: &Services) -> Markup {
    let described = described_by("services", true, has_fault(problems, "services"));
    html! {
        fieldset class="field" id="services" tabindex="-1" aria-describedby=[described] {
            legend { (words::SERVICES) }
            span class="hint" id="services-hint" { (words::SERVICES_HINT) }
            (fault_of(problems, "services"))
            @if services.offered().count() >= SEARCH_FROM {
                // The script removes `hidden`, because only the script can search.
                div hidden {
                    label class="hidden-text" for="find-service" { (words::FIND_SERVICE) }
                    input id="find-service" type="search" placeholder=(words::FIND_SERVICE) autocomplete="off";
                }
            }
            div class="choices" {
                @for service in services.offered() { (service_choice(form, problems, service)) }
            }
        }
    }
}

/// One service, and what the token may do there. The style sheet hides the second part until the service is chosen.
fn service_choice(form: &CreateForm, problems: &[Fault], service: &Service) -> Markup {
    let is_chosen = form.services.get(&service.id).is_some_and(|choice| choice.is_chosen);
    html! {
        div class="service" data-service {
            label class="choice" {
                input type="checkbox" name=(SERVICE) value=(service.id) checked[is_chosen];
                span {
                    b { (service.name()) }
                    @if service.title.is_some() { " " code class="soft" { (service.id) } }
                    @if let Some(description) = &service.description { span class="hint" { (description) } }
                }
            }
            (access_choice(form, problems, service))
        }
    }
}

/// The choice for a service. The style sheet hides the path until the user chooses to enter one.
fn access_choice(form: &CreateForm, problems: &[Fault], service: &Service) -> Markup {
    let (access, path) = (access_field(&service.id), path_field(&service.id));
    let choice = form.services.get(&service.id);
    let chosen = choice.map_or("", |choice| &choice.access);
    let is_wrong = |field: &str| has_fault(problems, field);
    let invalid = |field: &str| is_wrong(field).then_some("true");
    let described = |field: &str, has_hint| described_by(field, has_hint, is_wrong(field));
    html! {
        div class="access" {
            label class="hidden-text" for=(access) { (accesses::of(service.name())) }
            select id=(access) name=(access) aria-invalid=[invalid(&access)]
                aria-describedby=[described(&access, false)] {
                @for access in service.allowed.accesses() {
                    option value=(access.value()) selected[access.value() == chosen] { (access.text()) }
                }
            }
            (fault_of(problems, &access))
            div class="path" {
                label for=(path) {
                    (accesses::PATH_FIELD)
                    span class="hidden-text" { " " (accesses::for_service(service.name())) }
                }
                // The style sheet finds out from the placeholder whether the field is empty.
                input id=(path) name=(path) value=(choice.map_or("", |choice| &choice.path))
                    placeholder=(accesses::PATH_EXAMPLE) maxlength=(MAX_SCOPE_PATH_LEN) autocomplete="off"
                    autocapitalize="none" spellcheck="false" aria-invalid=[invalid(&path)]
                    aria-describedby=[described(&path, true)];
                (fault_of(problems, &path))
                span class="hint" id={ (path) "-hint" } { (accesses::path_hint(&service.path)) }
            }
        }
    }
}

fn expiry_choices(form: &CreateForm, problems: &[Fault], lifetimes: Lifetimes) -> Markup {
    let (earliest, latest) = (lifetimes.earliest().to_string(), lifetimes.latest().to_string());
    let is_date = form.expiry == ON_DATE;
    let is_wrong_date = has_fault(problems, "date");
    html! {
        fieldset class="field" id="expiry" tabindex="-1"
            aria-describedby=[described_by("expiry", false, has_fault(problems, "expiry"))] {
            legend { (words::EXPIRY) }
            (fault_of(problems, "expiry"))
            div class="inline" {
                @for days in lifetimes.presets() {
                    label class="choice" {
                        input type="radio" name="expiry" value=(days) checked[form.expiry == days.to_string()];
                        (words::days(days))
                    }
                }
                label class="choice" {
                    input type="radio" id="expiry-date" name="expiry" value=(ON_DATE) checked[is_date];
                    (words::UNTIL)
                }
            }
            label class="hidden-text" for="date" { (words::UNTIL) }
            input class="date" id="date" name="date" type="date" value=(form.date) min=(earliest) max=(latest)
                aria-invalid=[is_wrong_date.then_some("true")]
                aria-describedby=[described_by("date", true, is_wrong_date)];
            (fault_of(problems, "date"))
            span class="hint" id="date-hint" { (words::date_hint(&latest)) }
        }
    }
}

/// The page of a new token. No other page contains a token.
#[derive(Clone, Copy)]
pub(in crate::ui) struct CreatedPage<'a> {
    pub(in crate::ui) token: &'a NewToken,
    pub(in crate::ui) services: &'a Services,
    pub(in crate::ui) commands: &'a [Command],
}

pub(in crate::ui) fn created(frame: Frame<'_>, content: CreatedPage<'_>) -> Markup {
    let CreatedPage { token, services, commands } = content;
    let name_of = |scope: &String| {
        let text = services.readable(scope);
        if text == *scope { text } else { format!("{text} ({scope})") }
    };
    let scopes: Vec<_> = token.scopes.iter().map(name_of).collect();
    let content = html! {
        div class="head" {
            div {
                h1 { (result::HEADING) @if let Some(name) = &token.name { ": " (name) } }
                p { (scopes.join("; ")) " \u{b7} " (words::EXPIRY) " " (time(&token.expires_at)) }
            }
        }
        p class="message warn" id="once" { (result::ONCE) }
        div class="card" {
            label for="token" { (result::TOKEN) }
            div class="secret" {
                textarea id="token" readonly rows="6" spellcheck="false" autocomplete="off" data-select {
                    (token.token.as_str())
                }
                (copy_button("token", result::TOKEN))
            }
            p id="copy-status" class="hidden-text" role="status" {}
        }
        @if !commands.is_empty() {
            section class="card" aria-labelledby="commands" {
                h2 id="commands" { (result::COMMANDS) }
                @for command in commands {
                    figure class="command" {
                        figcaption {
                            (command.heading)
                            (copy_button(command.id, command.heading))
                        }
                        @if let Some(hint) = command.hint { span class="hint" { (hint) } }
                        pre { code id=(command.id) { (command.text) } }
                    }
                }
            }
        }
        div class="actions" {
            a class="button primary" id="done" href=(frame.paths.to(Page::Tokens)) { (result::DONE) }
        }
    };
    page(frame, result::HEADING, Width::Narrow, &content)
}

/// A button that the script shows and handles.
fn copy_button(source: &str, what: &str) -> Markup {
    html! {
        button type="button" class="small" hidden data-copy=(source) data-copied=(texts::COPIED)
            aria-label=(result::copy(what)) { (texts::COPY) }
    }
}
