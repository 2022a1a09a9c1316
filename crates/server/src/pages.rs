//! Pages for people. Everything a client or user chose is escaped by the template.

pub(crate) mod explain;
pub(crate) mod logout;
pub(crate) mod me;
mod remedies;

use countersign_oauth::{
    authorize::{PageError, Request},
    caller::Caller,
    client::Client,
    redirect::{Kind, RedirectUri},
};
use maud::{DOCTYPE, Markup, html};
use url::Url;

use crate::{issuer::Issuer, route::Route};

/// The style sheet of every page, light and dark.
pub(crate) const STYLE: &str = include_str!("style.css");

/// Posts the one form of the page it is on.
pub(crate) const FORM_POST_SCRIPT: &str = "document.forms[0].submit();\n";

fn layout(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="stylesheet" href=(Route::Style.path());
            }
            body { main { (body) } }
        }
    }
}

/// What is found at the issuer's own address.
pub(crate) fn landing(issuer: &Issuer, caller: &Caller, has_root: bool) -> Markup {
    layout(
        "Countersign",
        &html! {
            h1 { "Countersign" }
            p.lead { "The OAuth 2.1 and OpenID Connect server of this tailnet." }
            section {
                h2 { "You" }
                dl {
                    dt { "Who" } dd { (caller.user_label()) }
                    dt { "On" } dd { (caller.node_name) }
                    dt { "May" } dd { a href=(Route::Explain.path()) { "what the tailnet policy lets you do here" } }
                }
                p.note {
                    "No password was asked for: the key that encrypts this connection says which node you are on, and the \
                     tailnet says whose node it is."
                }
            }
            section {
                h2 { "Yours" }
                p.plain { a href=(Route::Me.path()) { "Applications that act for you, consents, sessions and clients" } }
            }
            section {
                h2 { "For applications" }
                dl {
                    dt { "Issuer" } dd { code { (issuer) } }
                    dt { "Metadata" } dd {
                        a href=(Route::OauthMetadata.path()) { "OAuth" } ", "
                        a href=(Route::OpenidMetadata.path()) { "OpenID Connect" }
                    }
                    dt { "Keys" } dd { a href=(Route::Jwks.path()) { "JWK set" } }
                    @if has_root {
                        dt { "Certificate" } dd { a href=(Route::CaPage.path()) { "how to trust this server" } }
                    }
                }
            }
        },
    )
}

/// How to trust the internal root.
pub(crate) fn trust(issuer: &Issuer, fingerprint: &str) -> Markup {
    let url = format!("{issuer}{}", Route::CaPem.path());
    let host = issuer.host();
    layout(
        "Trust this server",
        &html! {
            h1 { "Trust this server" }
            p.lead {
                "Its certificate comes from a root of its own. The root can vouch for " code { (host) } " and "
                code { (issuer.short_name()) } " only, so trusting it gives nobody power over other sites."
            }
            section {
                h2 { "1. Get the root" }
                p { a.button href=(Route::CaPem.path()) download="countersign-root.pem" { "Download the root (PEM)" } }
                p { "Its SHA-256 must be the one that " code { "countersign ca" } " prints on the server:" }
                pre { (fingerprint) }
            }
            section {
                h2 { "2. Tell your machine" }
                h3 { "Debian, Ubuntu" }
                pre { "sudo cp countersign-root.pem /usr/local/share/ca-certificates/countersign-root.crt\nsudo update-ca-certificates" }
                h3 { "Fedora, RHEL" }
                pre { "sudo cp countersign-root.pem /etc/pki/ca-trust/source/anchors/\nsudo update-ca-trust" }
                h3 { "macOS" }
                pre { "sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain countersign-root.pem" }
                h3 { "Windows (as administrator)" }
                pre { "certutil -addstore Root countersign-root.pem" }
                h3 { "Firefox" }
                p { "Settings, Privacy & Security, View Certificates, Authorities, Import." }
            }
            section {
                h2 { "Or tell one program" }
                dl {
                    dt { "curl" } dd { code { "curl --cacert countersign-root.pem …" } }
                    dt { "Node.js" } dd { code { "NODE_EXTRA_CA_CERTS=countersign-root.pem" } }
                    dt { "Python" } dd { code { "SSL_CERT_FILE=countersign-root.pem" } ", with requests " code { "REQUESTS_CA_BUNDLE=…" } }
                    dt { "Go" } dd { code { "SSL_CERT_FILE=countersign-root.pem" } }
                }
                p.note {
                    "httpx and requests then trust this root alone: where the program talks to others too, put the system's roots into \
                     the same file. The root is also at " code { (url) } "."
                }
            }
        },
    )
}

/// The question whether `client` may act for `caller`: what is known first, what it says about itself second.
pub(crate) fn consent(
    caller: &Caller,
    client: &Client,
    request: &Request,
    ticket: &str,
    may_be_remembered: bool,
) -> Markup {
    let who = caller.user_label();
    let name = client.descriptions.client_name.as_ref().map(|name| name.as_str());
    let has = |scope: &str| request.scopes.iter().any(|had| had == scope);
    // An administrator gave this client what others must ask for by scope.
    let tells_unasked = client.tsidp_claims && has("openid") && !has("tailnet");
    layout(
        "Continue?",
        &html! {
            h1 { "Let an application act for you?" }
            section {
                h2 { "What is known about it" }
                dl {
                    dt { "Registered by" } dd { (client.registrant.user) " on " (client.registrant.node_name) }
                    dt { "On" } dd { (client.issued_at.date()) }
                    dt { "Answer goes to" } dd { (destination(&request.redirect_uri)) }
                    dt { "For" } dd {
                        @for resource in &request.resources { code { (resource.as_str()) } " " }
                        @if request.resources.is_empty() { "this server only" }
                    }
                    dt { "It may" } dd {
                        @for scope in &request.scopes { (meaning(scope)) br; }
                        @if tells_unasked { (meaning("tailnet")) br; }
                        @if request.scopes.is_empty() { "say that it acts for you" }
                    }
                }
            }
            section {
                h2 { "What it says about itself" }
                @match name {
                    Some(name) => p.plain { "It calls itself " strong { (name) } ". Nobody has verified that." },
                    None => p.plain { "It gives no name." },
                }
            }
            p.note { "You are " strong { (who) } " on " (caller.node_name) ": the key of this connection is that node's." }
            form method="post" action=(Route::Consent.path()) {
                input type="hidden" name="ticket" value=(ticket);
                @if may_be_remembered {
                    label.choice {
                        input type="checkbox" name="remember" value="yes";
                        span { "Do not ask me this again on " (caller.node_name) }
                    }
                }
                div.actions {
                    button type="submit" name="choice" value="allow" { "Continue as " (who) }
                    button.quiet type="submit" name="choice" value="deny" { "Cancel" }
                }
            }
        },
    )
}

/// Carries an answer to a client that wants it posted. Without script the user presses the button.
pub(crate) fn form_post(redirect_uri: &str, fields: &[(&'static str, String)]) -> Markup {
    layout(
        "Back to the application",
        &html! {
            h1 { "Back to the application" }
            form method="post" action=(redirect_uri) {
                @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
                p.lead { "Your answer goes to " (destination(redirect_uri)) "." }
                button type="submit" { "Continue" }
            }
            script src=(Route::FormPostScript.path()) {}
        },
    )
}

/// What a scope lets an application do, in words.
fn meaning(scope: &str) -> Markup {
    let words = match scope {
        "openid" => "know who you are",
        "profile" => "see your name and picture",
        "email" => "see your e-mail address",
        "tailnet" => "see your node, its key and its addresses",
        "offline_access" => "go on while you are away",
        _ => return html! { "use " code { (scope) } " there" },
    };
    html! { (words) }
}

/// Why the user is not sent on; `servers` is what policy calls this server.
pub(crate) fn page_error(error: &PageError, servers: &[String], request_id: &str) -> Markup {
    match error {
        PageError::NotYours(whose) => remedies::unpublished(whose, servers, request_id),
        other => refusal(&other.to_string(), request_id),
    }
}

/// Why the user is not sent on, in one sentence.
pub(crate) fn refusal(reason: &str, request_id: &str) -> Markup {
    layout(
        "This did not work",
        &html! {
            h1 { "This did not work" }
            section {
                p.plain.warning { (sentence(reason)) }
                (name_of_request(request_id))
            }
        },
    )
}

/// What makes the request found in the log, for whoever is asked about it.
fn name_of_request(id: &str) -> Markup {
    html! { p.note { "If you ask whoever runs this server about it, name the request: " code { (id) } "." } }
}

fn sentence(reason: &str) -> String {
    let mut chars = reason.chars();
    let first = chars
        .next()
        .map(|first| first.to_uppercase().to_string())
        .unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// Where an answer goes, in words.
fn destination(redirect_uri: &str) -> String {
    let Ok(uri) = RedirectUri::parse(redirect_uri) else {
        return redirect_uri.to_owned();
    };
    match uri.kind() {
        Kind::PrivateUse => {
            let scheme = redirect_uri.split(':').next().unwrap_or_default();
            format!("an app on this computer ({scheme})")
        }
        _ if uri.is_on_this_computer() => "an app on this computer".to_owned(),
        // With its port: on a tailnet one host often has an application at each.
        _ => {
            let url = Url::parse(redirect_uri).ok();
            let host = url.as_ref().and_then(|url| Some((url.host_str()?, url.port())));
            match host {
                Some((host, Some(port))) => format!("{host}:{port}"),
                Some((host, None)) => host.to_owned(),
                None => redirect_uri.to_owned(),
            }
        }
    }
}

/// The source expressions that let a form end at this redirect URI: its scheme, because Chromium asks about every hop of
/// the application's own as well, and its origin where a policy can spell it (`docs/adr/0044-where-a-form-may-end.md`).
pub(crate) fn redirect_sources(redirect_uri: &str) -> String {
    let Ok(url) = Url::parse(redirect_uri) else {
        return String::new();
    };
    let scheme = format!("{}:", url.scheme());
    let spelled = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    if matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(spelled) {
        format!("{scheme} {}", url.origin().ascii_serialization())
    } else {
        scheme
    }
}
