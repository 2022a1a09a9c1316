//! The pages of a logout.

use countersign_oauth::{caller::Caller, client::Client, logout::Logout};
use maud::{Markup, html};

use super::{destination, layout};
use crate::route::Route;

/// Asks whether the session of this browser is to end.
pub(crate) fn question(caller: &Caller, client: Option<&Client>, logout: &Logout, ticket: &str) -> Markup {
    let name = client.and_then(|client| client.descriptions.client_name.as_ref());
    layout(
        "Log out?",
        &html! {
            h1 { "Log out of this browser?" }
            section {
                p.plain {
                    "Applications that you let go on without asking will have to ask again here. What you gave them stays \
                     theirs until you take it back on " a href=(Route::Me.path()) { "your page" } "."
                }
                @if let Some(client) = client {
                    dl.apart {
                        dt { "Asked by" } dd {
                            @if let Some(name) = name { (name.as_str()) " (a name nobody has verified)" } @else { code { (client.id) } }
                        }
                        dt { "Registered by" } dd { (client.registrant.user) " on " (client.registrant.node_name) }
                        @if let Some(uri) = &logout.redirect_uri {
                            dt { "Then you go to" } dd { (destination(uri)) }
                        }
                    }
                }
            }
            p.note { "You are " strong { (caller.user_label()) } " on " (caller.node_name) "." }
            form method="post" action=(Route::LogoutAnswer.path()) {
                input type="hidden" name="ticket" value=(ticket);
                div.actions {
                    button type="submit" name="choice" value="leave" { "Log out" }
                    button.quiet type="submit" name="choice" value="stay" { "Stay" }
                }
            }
        },
    )
}

/// Says that it has ended.
pub(crate) fn done() -> Markup {
    layout(
        "Logged out",
        &html! {
            h1 { "Logged out" }
            section {
                p.plain { "This browser has no session here any more. The next application will have to ask you." }
                p.note {
                    "What applications still hold, you see and take back on " a href=(Route::Me.path()) { "your page" } "."
                }
            }
        },
    )
}
