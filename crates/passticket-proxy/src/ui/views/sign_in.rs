//! The page on which users sign in.

use maud::{Markup, html};

use super::layout::{Frame, Width, brand, form_key, page};
use crate::ui::{form::query, paths::Page, texts, texts::sign_in as words};

#[derive(Clone, Copy, Debug)]
pub(in crate::ui) struct SignInPage<'a> {
    /// The user id that the user has entered before.
    pub(in crate::ui) user_id: &'a str,
    pub(in crate::ui) can_change: bool,
    /// Whether the form has fields for a new password.
    pub(in crate::ui) changes: bool,
    /// The name of the owner of the client certificate. `None` if there is no certificate. `Some(None)` if the
    /// certificate has no name.
    pub(in crate::ui) certificate: Option<Option<&'a str>>,
    pub(in crate::ui) trouble: Option<SignInTrouble<'a>>,
}

/// Why the user is not signed in.
#[derive(Clone, Copy, Debug)]
pub(in crate::ui) struct SignInTrouble<'a> {
    pub(in crate::ui) text: &'a str,
    pub(in crate::ui) number: &'a str,
    pub(in crate::ui) request_id: &'a str,
}

pub(in crate::ui) fn sign_in(frame: Frame<'_>, form: SignInPage<'_>) -> Markup {
    let SignInPage { user_id, can_change, changes, certificate, trouble } = form;
    let path = frame.paths.to(Page::SignIn);
    let (heading, submit, password) = if changes {
        (words::CHANGE_HEADING, words::CHANGE_SUBMIT, words::CURRENT_PASSWORD)
    } else {
        (words::HEADING, words::SUBMIT, words::PASSWORD)
    };
    let described = trouble.is_some().then_some("problems");
    let content = html! {
        (brand(frame))
        div class="card" {
            h1 { (heading) }
            p class="lead" { (words::INTRODUCTION) }
            @if let Some(SignInTrouble { text, number, request_id }) = trouble {
                div class="message bad" id="problems" role="alert" tabindex="-1" {
                    p id="trouble" { (text) }
                    p class="request" {
                        @if !number.is_empty() { (texts::MESSAGE) " " span class="mono" { (number) } ", " }
                        (texts::REQUEST_ID) " " span class="mono" id="request-id" { (request_id) }
                    }
                }
            }
            form id="sign-in" method="post" action=(path) {
                (form_key(frame))
                div class="field" {
                    label for="user" { (words::USER) }
                    input id="user" name="user" value=(user_id) required maxlength="64" autocomplete="username"
                        autocapitalize="characters" spellcheck="false" autofocus[user_id.is_empty() && trouble.is_none()]
                        aria-describedby=[described];
                }
                div class="field" {
                    label for="password" { (password) }
                    input id="password" name="password" type="password" required maxlength="256"
                        autocomplete="current-password" autofocus[!user_id.is_empty() && trouble.is_none()] aria-describedby=[described];
                }
                @if changes {
                    (new_password("new-password", words::NEW_PASSWORD))
                    (new_password("new-password-again", words::REPEAT_PASSWORD))
                }
                div class="actions" { button id="submit" class="primary wide" { (submit) } }
            }
            @if let Some(owner) = certificate.filter(|_| !changes) {
                p class="or" { (words::OR) }
                form method="post" action=(frame.paths.to(Page::SignInWithCertificate)) {
                    (form_key(frame))
                    button id="use-certificate" class="wide" {
                        @match owner {
                            Some(owner) => (words::with_certificate(owner)),
                            None => (words::CERTIFICATE_WITHOUT_NAME),
                        }
                    }
                }
            }
            @if changes {
                p class="more" { a href=(path) { (words::USE_PASSWORD) } }
            } @else if can_change {
                p class="more" {
                    a id="change-password" href={ (path) (query(&[("change", "1")])) } { (words::CHANGE) }
                }
            }
        }
    };
    page(frame, heading, Width::SignIn, &content)
}

fn new_password(name: &str, label: &str) -> Markup {
    html! {
        div class="field" {
            label for=(name) { (label) }
            input id=(name) name=(name) type="password" required maxlength="256" autocomplete="new-password";
        }
    }
}
