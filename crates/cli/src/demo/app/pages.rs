//! The application's pages, for the person who tries the demo in a browser.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Program, Used};
use crate::demo::{people, token};

fn layout(program: &Program, title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(&program.style)) }
            }
            body { main { (body) } }
        }
    }
}

/// Where a person starts.
pub(super) fn welcome(program: &Program) -> Markup {
    layout(
        program,
        "Notes, a demo application",
        &html! {
            h1 { "Notes, a demo application" }
            p.lead { "It wants to use " code { (people::ECHO) } ", which lets nobody in without a token." }
            section {
                p.plain {
                    "The button takes you to " code { (program.issuer) } ". You will see no login form: your browser's \
                     proxy speaks as alice's node, and that is who you are."
                }
                p { a.button href="/start" { "Use echo as me" } }
                p.note { "Through bob's proxy the same button ends at a refusal, because the client is alice's." }
            }
        },
    )
}

/// The transcript has what it waited for.
pub(super) fn received(program: &Program) -> Markup {
    layout(
        program,
        "Back in the application",
        &html! { h1 { "Back in the application" } },
    )
}

/// What was received, and what came of it.
pub(super) fn done(program: &Program, code: &str, used: &Used) -> Markup {
    let claims = token::shown(used.tokens.field("access_token")).unwrap_or_default();
    let echoed = serde_json::to_string_pretty(&used.echoed.body).unwrap_or_default();
    layout(
        program,
        "Back in the application",
        &html! {
            h1 { "Back in the application" }
            p.lead { "You consented, and nobody asked for a password." }
            section {
                h2 { "1. Your browser brought a code" }
                dl {
                    dt { "code" } dd { code { (start(code)) } }
                    dt { "state" } dd { "the one that was sent" }
                    dt { "iss" } dd { code { (program.issuer) } }
                }
            }
            section {
                h2 { "2. The application redeemed it for a token" }
                dl {
                    @for (name, value) in token::highlights(&claims) {
                        dt { (name) } dd { code { (value) } }
                    }
                    dt { "expires in" } dd { (used.tokens.body["expires_in"]) " s" }
                }
                p.note { "It went over alice's node. From a node of anybody else the code is refused." }
            }
            section {
                h2 { "3. echo answered " (used.echoed.status) }
                pre { (echoed) }
                p.note {
                    "echo compared " code { "cnf" } " in the token with the node that WireGuard names, and they are the same."
                }
            }
            p { a.button href="/start" { "Once more" } }
        },
    )
}

/// What went wrong.
pub(super) fn trouble(program: &Program, why: &str) -> Markup {
    layout(
        program,
        "This did not work",
        &html! {
            h1 { "This did not work" }
            section { p.plain.warning { (why) } }
            p { a.button href="/" { "Start again" } }
        },
    )
}

/// As much of a secret as a person wants to see.
fn start(secret: &str) -> String {
    let start: String = secret.chars().take(12).collect();
    format!("{start}…")
}
