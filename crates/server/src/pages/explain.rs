//! `policy explain` as a page: a form that asks, and the answers with the rules they rest on.

use countersign_oauth::explain::{Explanation, Kind, Step};
use maud::{Markup, html};

use super::{layout, remedies, sentence};
use crate::{explain::ExplainQuery, route::Route};

/// The page; `everybody` says whether its reader may ask about others.
pub(crate) fn explain(query: &ExplainQuery, everybody: bool, told: &Result<Vec<Explanation>, String>) -> Markup {
    layout(
        "Policy explained",
        &html! {
            h1 { "Who may what here, and why" }
            p.lead {
                @if everybody { "What the tailnet policy and this server's settings say about a person or node." }
                @else { "What the tailnet policy and this server's settings say about you and your nodes." }
            }
            section { (form(query, everybody)) }
            @match told {
                Err(why) => section { p.plain.warning { (sentence(why)) } },
                Ok(explanations) => @for explanation in explanations { (one(explanation)) },
            }
        },
    )
}

fn form(query: &ExplainQuery, everybody: bool) -> Markup {
    let field = |name: &str, label: &str, hint: &str, value: &str| {
        html! {
            label {
                span { (label) }
                input type="text" name=(name) value=(value) placeholder=(hint) autocomplete="off" spellcheck="false";
            }
        }
    };
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    html! {
        form.fields method="get" action=(Route::Explain.path()) {
            @if everybody { (field("user", "User or tag", "alice@example.com", &text(&query.user))) }
            (field("node", "Node", "every node", &text(&query.node)))
            (field("client", "Client id", "none", &text(&query.client)))
            (field("resource", "Resources", "https://mcp.example/mcp", &query.resources.join(" ")))
            (field("scope", "Scopes", "openid profile", &query.scopes.join(" ")))
            div.actions { button type="submit" { "Explain" } }
        }
    }
}

fn one(explanation: &Explanation) -> Markup {
    html! {
        section {
            h2 {
                (explanation.user) " on "
                @for (index, node) in explanation.nodes.iter().enumerate() {
                    @if index > 0 { ", " }
                    (node.name)
                }
            }
            p.plain {
                strong class=(mark(explanation.allowed)) { (if explanation.allowed { "Allowed" } else { "Refused" }) }
                @match explanation.rules {
                    0 => ": the tailnet policy grants nothing here.",
                    1 => ": by one rule of the tailnet policy and the server's settings.",
                    rules => { ": by " (rules) " rules of the tailnet policy and the server's settings." }
                }
            }
            ol.steps { @for step in &explanation.steps { (answer(step, &explanation.user)) } }
        }
    }
}

fn answer(step: &Step, user: &str) -> Markup {
    let why = if step.why.starts_with(user) {
        // A login name is written as it is.
        format!("{}.", step.why)
    } else {
        sentence(&step.why)
    };
    html! {
        li {
            h3 {
                span class=(mark(step.allowed)) { (if step.allowed { "yes" } else { "no" }) }
                " " (title(step.kind))
                @if !step.about.is_empty() { " " code { (step.about) } }
            }
            p.plain { (why) }
            @if let Some(rule) = &step.rule {
                @if !rule.text.is_empty() { pre { (rule.text) } }
                p.note { (sentence(&rule.source)) }
            }
            @if !step.remedies.is_empty() {
                details {
                    summary { "What would change that" }
                    (remedies::list(&step.remedies))
                }
            }
        }
    }
}

const fn mark(allowed: bool) -> &'static str {
    if allowed { "yes" } else { "warning" }
}

const fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Identity => "Identity",
        Kind::Registration => "Registering clients",
        Kind::Client => "Using the client",
        Kind::Login => "Logging in",
        Kind::Resource => "Using the resource",
        Kind::Scope => "Having the scope",
    }
}
