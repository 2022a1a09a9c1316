//! Refusals that say what would help, and whom to ask for it.

use countersign_oauth::{publish::Unpublished, remedy::Remedy};
use maud::{Markup, html};

use super::{layout, name_of_request};

/// The client belongs to somebody else: who registered it, and how it gets published.
pub(crate) fn unpublished(whose: &Unpublished, servers: &[String], request_id: &str) -> Markup {
    layout(
        "Not published",
        &html! {
            h1 { "This application is not published" }
            p.lead { "Only " strong { (whose.user) } " can use it until it is published." }
            section {
                h2 { "What is known about it" }
                dl {
                    dt { "Registered by" } dd { (whose.user) }
                    dt { "On" } dd { (whose.node) }
                    dt { "At" } dd { (whose.at.date()) " " (format!("{:02}:{:02}", whose.at.hour(), whose.at.minute())) " UTC" }
                    dt { "Client" } dd { code { (whose.client) } }
                }
            }
            section {
                h2 { "How it gets published" }
                p.plain { "One of these is enough. Whoever runs this server or the tailnet can do it." }
                (list(&whose.remedies(servers)))
                (name_of_request(request_id))
            }
        },
    )
}

/// What could be changed, ready to be copied.
pub(super) fn list(remedies: &[Remedy]) -> Markup {
    html! {
        @for remedy in remedies {
            h3.sentence { (remedy.place) }
            pre { (remedy.lines().join("\n")) }
        }
    }
}
