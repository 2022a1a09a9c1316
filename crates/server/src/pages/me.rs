//! The page on which a person sees what is his here, with a button beside everything that can be taken back.

use countersign_oauth::{
    caller::Caller,
    client::{Client, ClientId},
    grant::Grant,
    me::Name,
    remembered::Remembered,
    resource::Resource,
    secret::SecretHash,
    session::Session,
};
use maud::{Markup, html};
use time::OffsetDateTime;

use super::{destination, layout, meaning};
use crate::route::Route;

/// Everything that is shown.
pub(crate) struct Mine {
    /// The session of the browser that asks.
    pub(crate) here: Option<SecretHash>,
    pub(crate) sessions: List<Session>,
    /// With their clients, as long as those are registered.
    pub(crate) consents: List<(Remembered, Option<Client>)>,
    pub(crate) grants: List<Given>,
    pub(crate) clients: List<Client>,
}

/// One page of a list.
pub(crate) struct List<R> {
    pub(crate) rows: Vec<Row<R>>,
    /// Behind what the next page begins.
    pub(crate) next: Option<Name>,
}

/// One entry, and what it is called when it is to end.
pub(crate) struct Row<R> {
    pub(crate) name: Name,
    pub(crate) record: R,
}

/// A grant with the names of what it mentions.
pub(crate) struct Given {
    pub(crate) grant: Grant,
    pub(crate) client: Client,
    /// The node at which consent was given.
    pub(crate) from: String,
    /// The node that holds the tokens.
    pub(crate) at: String,
}

pub(crate) fn page(caller: &Caller, mine: &Mine, ticket: &str) -> Markup {
    layout(
        "What is yours here",
        &html! {
            h1 { "What is yours here" }
            p.lead { "You are " strong { (caller.user_label()) } " on " (caller.node_name) ". This is what " (caller.user_label()) " has, from every node." }
            (applications(&mine.grants, ticket))
            (consents(&mine.consents, ticket))
            (sessions(mine, ticket))
            (clients(&mine.clients, ticket))
            section {
                h2 { "All at once" }
                p.plain { "Ends every session and takes back everything that applications were given, on all your nodes. Clients stay registered." }
                (button(ticket, "everything", "", "End everything"))
            }
        },
    )
}

fn applications(grants: &List<Given>, ticket: &str) -> Markup {
    html! {
        section {
            h2 { "Applications that act for you" }
            // A page may be empty where many that are over stand before the next.
            @if grants.rows.is_empty() && grants.next.is_none() { p.none { "None." } }
            @for Row { name, record: Given { grant, client, from, at } } in &grants.rows {
                div.entry {
                    h3 { (called(Some(client))) }
                    dl {
                        (registration(&client.id, Some(client)))
                        (reach(&grant.authorization.resources, &grant.authorization.scopes))
                        dt { "Since" } dd { (moment(grant.issued_at)) }
                        dt { "Until" } dd { (moment(grant.expires_at)) }
                        dt { "You were on" } dd { (from) }
                        dt { "Tokens are on" } dd { (at) }
                    }
                    (button(ticket, "grant", &name.to_text(), "Take back"))
                }
            }
            (more("grants", grants.next.as_ref()))
        }
    }
}

fn consents(consents: &List<(Remembered, Option<Client>)>, ticket: &str) -> Markup {
    html! {
        section {
            h2 { "Consent that is remembered" }
            @if consents.rows.is_empty() { p.none { "None: every application asks you each time." } }
            @for Row { name, record: (consent, client) } in &consents.rows {
                div.entry {
                    h3 { (called(client.as_ref())) }
                    dl {
                        (registration(&consent.client, client.as_ref()))
                        dt { "Answer goes to" } dd { (destination(&consent.redirect_uri)) }
                        (reach(&consent.resources, &consent.scopes))
                        dt { "Since" } dd { (moment(consent.since)) }
                        dt { "On" } dd { (consent.node_name) }
                    }
                    (button(ticket, "consent", &name.to_text(), "Ask me again"))
                    p.note { "What this application was given on that node is taken back as well." }
                }
            }
            (more("consents", consents.next.as_ref()))
        }
    }
}

fn sessions(mine: &Mine, ticket: &str) -> Markup {
    html! {
        section {
            h2 { "Browsers in which you clicked" }
            @if mine.sessions.rows.is_empty() { p.none { "None in the last twelve hours." } }
            @for Row { name, record: session } in &mine.sessions.rows {
                div.entry {
                    h3 {
                        (session.node_name)
                        @if mine.here.is_some_and(|here| here == session.hash) { " (this browser)" }
                    }
                    dl {
                        dt { "Since" } dd { (moment(session.auth_time)) }
                        dt { "Until" } dd { (moment(session.expires_at)) }
                    }
                    (button(ticket, "session", &name.to_text(), "Log out"))
                }
            }
            (more("sessions", mine.sessions.next.as_ref()))
        }
    }
}

fn clients(clients: &List<Client>, ticket: &str) -> Markup {
    html! {
        section {
            h2 { "Clients that belong to you" }
            @if clients.rows.is_empty() { p.none { "None." } }
            @for Row { record: client, .. } in &clients.rows {
                div.entry {
                    h3 { (called(Some(client))) }
                    dl {
                        dt { "Client" } dd { code { (client.id) } }
                        dt { "Registered" } dd { (moment(client.issued_at)) " from " (client.registrant.node_name) }
                        @if let Some(until) = client.unused_until {
                            dt { "Never used" } dd { "forgotten at " (moment(until)) }
                        }
                        dt { "For" } dd { @if client.published.is_some() { "everybody: an administrator published it" } @else { "you, unless a rule of the tailnet policy publishes it" } }
                        @if !client.redirect_uris.is_empty() {
                            dt { "Answers go to" } dd {
                                @for uri in &client.redirect_uris { code { (uri.as_str()) } br; }
                            }
                        }
                    }
                    (button(ticket, "client", client.id.as_str(), "Delete"))
                }
            }
            (more("clients", clients.next.as_ref()))
        }
    }
}

/// What an application calls itself, as a quotation: nobody has verified it.
fn called(client: Option<&Client>) -> Markup {
    match client.map(|client| client.descriptions.client_name.as_ref()) {
        Some(Some(name)) => html! { "“" (name.as_str()) "”" },
        Some(None) => html! { "An application without a name" },
        None => html! { "A client that is no longer registered" },
    }
}

/// What is known about a client, whatever it calls itself.
fn registration(id: &ClientId, client: Option<&Client>) -> Markup {
    html! {
        dt { "Client" } dd { code { (id) } }
        @if let Some(client) = client {
            dt { "Registered by" } dd { (client.registrant.user) " on " (client.registrant.node_name) }
        }
    }
}

fn reach(resources: &[Resource], scopes: &[String]) -> Markup {
    html! {
        dt { "For" } dd {
            @for resource in resources { code { (resource.as_str()) } " " }
            @if resources.is_empty() { "this server only" }
        }
        dt { "It may" } dd {
            @for scope in scopes { (meaning(scope)) br; }
            @if scopes.is_empty() { "say that it acts for you" }
        }
    }
}

fn button(ticket: &str, end: &str, name: &str, label: &str) -> Markup {
    html! {
        form method="post" action=(Route::Me.path()) {
            input type="hidden" name="ticket" value=(ticket);
            input type="hidden" name="name" value=(name);
            div.actions { button.quiet type="submit" name="end" value=(end) { (label) } }
        }
    }
}

fn more(list: &str, next: Option<&Name>) -> Markup {
    html! {
        @if let Some(next) = next {
            p.more { a href={ (Route::Me.path()) "?" (list) "=" (next.to_text()) } { "More" } }
        }
    }
}

/// A moment to the minute.
fn moment(at: OffsetDateTime) -> String {
    format!("{}, {:02}:{:02} UTC", at.date(), at.hour(), at.minute())
}
