//! The page with the last records of the audit log.

use std::net::SocketAddr;

use maud::{Markup, html};
use serde_json::Value;
use tower_passticket::audit::{Event, Outcome};

use super::{
    layout::{Area, Frame, Tab, Width, page},
    table::Table,
};
use crate::ui::{
    audit_log::{AuditFileKind, AuditQuery, Events, Found, MAX_USER, ReadError, Record},
    paths::{AdminPage, Page},
    texts::{self, audit as words, tokens as list},
};

pub(in crate::ui) fn audit(
    frame: Frame<'_>,
    query: &AuditQuery,
    found: &Result<Found, ReadError>,
) -> Markup {
    let frame = Frame { area: Area::Administration(Tab::Audit), ..frame };
    let trouble = |id: &str, class: &str, text: &str| {
        html! { p class={ "message " (class) } id=(id) { (text) } }
    };
    let content = html! {
        div class="head" {
            div {
                h1 { (words::HEADING) }
                p { (words::INTRODUCTION) }
            }
        }
        @match found {
            Err(ReadError::Off) => (trouble("audit-off", "warn", words::OFF)),
            Err(ReadError::Cef) => (trouble("audit-cef", "warn", words::CEF)),
            Err(ReadError::Busy) => {
                (filter(frame, query))
                (trouble("audit-busy", "warn", words::BUSY))
            },
            Err(ReadError::File { .. }) => {
                (filter(frame, query))
                (trouble("audit-failed", "bad", words::FAILED))
            },
            Ok(found) => {
                (filter(frame, query))
                (records(found))
            },
        }
    };
    page(frame, words::HEADING, Width::Wide, &content)
}

fn filter(frame: Frame<'_>, query: &AuditQuery) -> Markup {
    let file_text = |file| match file {
        AuditFileKind::Decisions => words::DECISIONS,
        AuditFileKind::Unauthenticated => words::UNAUTHENTICATED,
    };
    html! {
        form class="filter" id="filter" method="get" action=(frame.paths.to(Page::Admin(AdminPage::Audit))) role="search"
            aria-label=(list::FILTER) {
            div {
                label for="user" { (words::USER) }
                input id="user" name="user" type="search" value=(query.user) maxlength=(MAX_USER) autocomplete="off";
            }
            div {
                label for="event" { (words::EVENT) }
                select id="event" name="event" {
                    option value="" { (words::NOTABLE) }
                    option value=(Events::ALL) selected[query.events == Events::All] { (words::ANY) }
                    @for event in Event::ALL {
                        option value=(event.as_str()) selected[query.events == Events::Only(*event)] { (event.as_str()) }
                    }
                }
            }
            div {
                label for="outcome" { (words::OUTCOME) }
                select id="outcome" name="outcome" {
                    option value="" { (words::ANY) }
                    @for outcome in Outcome::ALL {
                        option value=(outcome.as_str()) selected[query.outcome == Some(*outcome)] { (outcome.as_str()) }
                    }
                }
            }
            div class="grow" {
                label for="file" { (words::FILE) }
                select id="file" name="file" {
                    @for file in AuditFileKind::ALL {
                        option value=(file.word()) selected[query.file == file] { (file_text(file)) }
                    }
                }
            }
            button id="apply" { (words::RELOAD) }
        }
    }
}

fn records(found: &Found) -> Markup {
    let table = Table {
        id: "records",
        class: "list audit",
        label: words::HEADING,
        headings: &[
            words::TIME,
            words::EVENT,
            words::OUTCOME,
            words::SUBJECT,
            words::CLIENT,
            words::REQUEST,
        ],
        actions: None,
    };
    html! {
        @if found.records.is_empty() {
            div class="card empty" id="empty" { p { (words::EMPTY) } }
        } @else {
            (table.with_rows(found.records.iter().map(row)))
        }
        @if found.has_older { p class="hint" id="has-older" { (words::HAS_OLDER) } }
        @if found.unreadable > 0 { p class="hint" id="unreadable" { (words::unreadable(found.unreadable)) } }
    }
}

fn row(record: &Record) -> Markup {
    let client = record.client.as_ref().or(record.peer.as_ref());
    html! {
        tr role="row" {
            td role="cell" data-label=(words::TIME) {
                time datetime=(record.time) { (second(&record.time)) }
            }
            th scope="row" role="rowheader" {
                (record.event)
                @if let Some(count) = record.count { span class="sub" { (words::times(count.get())) } }
            }
            td role="cell" data-label=(words::OUTCOME) {
                div {
                    @if let Some(outcome) = &record.outcome { (state(outcome)) }
                    @if let Some(reason) = &record.reason { span class="sub" { (reason) } }
                }
            }
            td role="cell" data-label=(words::SUBJECT) {
                div {
                    @if let Some(user) = &record.user { span class="mono" { (user) } }
                    @if let Some(target) = &record.target {
                        span class="sub" { (words::FOR) " " span class="mono" { (target) } }
                    }
                    @if let Some(service) = &record.service { span class="sub" { (words::ON) " " (service) } }
                    @if let Some(applid) = &record.applid { span class="sub mono" { (applid) } }
                }
            }
            td role="cell" data-label=(words::CLIENT) {
                @if let Some(client) = client { span class="soft" title=(client) { (without_port(client)) } }
            }
            td role="cell" data-label=(words::REQUEST) {
                div {
                    @if let (Some(method), Some(path)) = (&record.method, &record.path) {
                        span class="request" { (method) " " (path) }
                    }
                    (details(record))
                }
            }
        }
    }
}

/// The facts that only some records have, and the request id.
fn details(record: &Record) -> Markup {
    html! {
        @if record.request_id.is_some() || !record.more.is_empty() {
            details {
                summary aria-label=(words::details_of(&record.event, &second(&record.time))) { (words::DETAILS) }
                dl class="facts" {
                    @if let Some(id) = &record.request_id {
                        dt { (texts::REQUEST_ID) }
                        dd class="mono" { (id) }
                    }
                    @for (name, value) in &record.more {
                        dt { (name) }
                        dd class="mono" {
                            @match value {
                                Value::String(text) => (text),
                                other => (other.to_string()),
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Returns the address of a client without its port.
fn without_port(client: &str) -> String {
    client
        .parse::<SocketAddr>()
        .map_or_else(|_| client.to_owned(), |client| client.ip().to_string())
}

/// Returns a time as the page shows it: `2027-01-15T08:00:00.123Z` becomes `2027-01-15 08:00:00`. A text that is not a
/// time is not changed.
fn second(time: &str) -> String {
    match (time.get(..10), time.get(10..11), time.get(11..19)) {
        (Some(date), Some("T"), Some(second)) => format!("{date} {second}"),
        _ => time.to_owned(),
    }
}

fn state(outcome: &str) -> Markup {
    let class = match outcome {
        "success" => "state active",
        "refused" => "state expired",
        _ => "state revoked",
    };
    html! { span class=(class) { (outcome) } }
}
