//! The page with the health of the gateway and of this node.

use maud::{Markup, html};

use super::layout::{Area, Frame, Tab, Width, page};
use crate::ui::{
    health::{GatewayHealth, NodeHealth, StoppedTickets},
    texts::health as words,
};

pub(in crate::ui) fn health(frame: Frame<'_>, health: &GatewayHealth) -> Markup {
    let frame = Frame { area: Area::Administration(Tab::Health), ..frame };
    let content = html! {
        div class="head" {
            div {
                h1 { (words::HEADING) }
                p { (words::INTRODUCTION) }
            }
            span id="health-status" { (state(&health.status)) }
        }
        section class="card" aria-labelledby="parts" {
            h2 id="parts" { (words::PARTS) }
            table class="list plain" role="table" aria-labelledby="parts" {
                thead role="rowgroup" {
                    tr role="row" {
                        @for heading in [words::PART, words::STATUS, words::REASON] {
                            th scope="col" role="columnheader" { (heading) }
                        }
                    }
                }
                tbody role="rowgroup" {
                    @for (name, part) in &health.components {
                        tr role="row" id={ "part-" (name) } {
                            th scope="row" role="rowheader" { (words::part(name)) }
                            td role="cell" data-label=(words::STATUS) { (state(&part.status)) }
                            td role="cell" {
                                @for text in part.reason.iter().chain(&part.warning) { p { (text) } }
                            }
                        }
                    }
                }
            }
        }
        section class="card" aria-labelledby="nodes" {
            h2 id="nodes" { (words::NODES) }
            @match &health.cluster {
                None => { p id="no-nodes" { (words::NO_NODES) } },
                Some(node) => (node_facts(node)),
            }
        }
        section class="card" aria-labelledby="instances" {
            h2 id="instances" { (words::INSTANCES) }
            @if health.instances.is_empty() {
                p { (words::ALL_HEALTHY) }
            } @else {
                dl class="facts" {
                    @for (instance, health) in &health.instances {
                        dt class="mono" { (instance) }
                        dd { (state(health)) }
                    }
                }
            }
        }
        @if let Some(tickets) = &health.passtickets { (stopped_tickets(tickets)) }
    };
    page(frame, words::HEADING, Width::Wide, &content)
}

fn node_facts(node: &NodeHealth) -> Markup {
    let lease = match &*node.lease {
        "ok" => words::LEASE_OK,
        "handedOver" => words::LEASE_HANDED_OVER,
        _ => words::LEASE_EXPIRED,
    };
    html! {
        dl class="facts" id="node" {
            dt { (words::LEASE) }
            dd { (lease) }
            dt { (words::BEHIND) }
            dd { (node.behind) }
            dt { (words::PEERS) }
            dd { (node.peers) }
        }
    }
}

fn stopped_tickets(tickets: &StoppedTickets) -> Markup {
    html! {
        section class="card" aria-labelledby="tickets" {
            h2 id="tickets" { (words::TICKETS) }
            p { (words::stopped(tickets.stopped_users)) }
            @if let Some(check) = &tickets.check { p { (check) } }
            ul class="tags" {
                @for stopped in &tickets.users { li { (stopped.user) " " code { (stopped.applid) } } }
                @for stopped in &tickets.applids { li { code { (stopped.applid) } } }
            }
        }
    }
}

/// The state of a part or of an instance.
fn state(status: &str) -> Markup {
    let (class, text) = match status {
        "UP" => ("state active", words::UP),
        "DOWN" => ("state revoked", words::DOWN),
        other => ("state expired", other),
    };
    html! { span class=(class) { (text) } }
}
