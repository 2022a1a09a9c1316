//! `POST /authorize/consent`: the user's click, from our own page only.

use countersign_oauth::{
    audit::AuditRecord,
    authorize::Answer,
    caller::Caller,
    client::Client,
    consent::{self, Choice, Click, ConsentError, Outcome, Records},
    error::{ErrorCode, OAuthError},
    grant::{Code, Grant},
    par::Pushed,
    params::Params,
    session::Session,
    ticket::Ticket,
};
use countersign_store::{CommitError, Reads, Record as _, StoreError, Txn, UnusedUntil};
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use time::OffsetDateTime;

use crate::{
    app::{App, Exchange},
    body, clock,
    cookie::Cookie,
    endpoints::{authorize::comes_from_our_page, par},
    event::{self, Decision},
    pages,
    reply::{self, Reply},
    sessions, status,
};

const EVENT: &str = "consent";
const ATTEMPTS: usize = 4;

pub(crate) async fn post(app: &App, exchange: &Exchange, caller: &Caller, request: Request<Incoming>) -> Reply {
    let (parts, incoming) = request.into_parts();
    if !comes_from_our_page(&parts.headers, app.config.issuer.as_str()) {
        return refuse(
            exchange,
            caller,
            "",
            "only the page of this server that asked the question can answer it",
        );
    }
    let params = match body::form(&parts.headers, incoming, &app.config.limits).await {
        Ok(params) => params,
        Err(reply) => return reply,
    };
    match decide(app, exchange, caller, &parts.headers, &params).await {
        Ok(reply) => reply,
        Err(error) => {
            tracing::error!(%error, request_id = exchange.request_id, "a consent could not be kept");
            reply::failed(&exchange.request_id)
        }
    }
}

async fn decide(
    app: &App,
    exchange: &Exchange,
    caller: &Caller,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Reply, ConsentFailure> {
    let (sealed, choice, remember) = match read(params) {
        Ok(answer) => answer,
        Err(error) => {
            let reason = format!("{}; go back to the application and start again", error.description());
            return Ok(refuse(exchange, caller, "", &reason));
        }
    };
    let https = app.config.issuer.is_https();
    let cookie = Cookie::of_page(sealed, https);
    let cookie_text = cookie.find(headers);
    let ticket = Ticket::open(sealed, &app.secret);
    let mut rng = clock::rng()?;
    for _ in 0..ATTEMPTS {
        let mut reads = app.store.reads();
        let facts = Facts::read(app, &mut reads, ticket.as_ref(), headers, caller).await?;
        let click = Click {
            pushed: facts.pushed.as_ref(),
            choice,
            remember,
            ticket: ticket.as_ref(),
            answered: facts.answered,
            cookie: cookie_text.as_deref(),
            session: facts.session.as_ref(),
            client: facts.client.as_ref(),
            caller,
            registrant: facts.registrant.as_ref(),
        };
        let id = facts.client.as_ref().map_or("", |client| client.id.as_str());
        let mut txn = reads.into_txn();
        par::spend(&mut txn, facts.pushed.as_ref());
        let (answer, records) = match consent::decide(&click, &app.tokens.authorize, exchange.now, &mut rng) {
            Outcome::Page(error) => return Ok(refuse_page(app, exchange, caller, id, &error)),
            Outcome::Refused { answer, declined } => {
                txn.put(&*declined)?;
                (answer, None)
            }
            Outcome::Allowed { answer, records } => (answer, Some(records)),
        };
        if let Some((records, client)) = records.as_deref().zip(facts.client.as_ref()) {
            keep(app, exchange, caller, &mut txn, records, client, facts.session.as_ref()).await?;
        }
        match app.store.commit(txn).await {
            Ok(_) => {
                log_answer(exchange, caller, id, &answer);
                return Ok(answered(&answer, &cookie, records.as_deref(), https));
            }
            Err(CommitError::Conflict(_)) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    Ok(refuse(
        exchange,
        caller,
        "",
        "this page was answered already; go back to the application and start again",
    ))
}

/// The ticket, what was clicked, and whether that is to be remembered.
fn read(params: &Params) -> Result<(&str, Choice, bool), OAuthError> {
    params.once_each(&[])?;
    let choice = match params.required("choice")? {
        "allow" => Choice::Allow,
        "deny" => Choice::Deny,
        _ => {
            let why = "choice must be allow or deny";
            return Err(OAuthError::new(ErrorCode::InvalidRequest, why));
        }
    };
    let remember = params.one("remember")? == Some("yes");
    Ok((params.required("ticket")?, choice, remember))
}

/// What a click is decided on, read at one moment.
struct Facts {
    answered: bool,
    pushed: Option<Pushed>,
    client: Option<Client>,
    registrant: Option<Caller>,
    session: Option<Session>,
}

impl Facts {
    async fn read(
        app: &App,
        reads: &mut Reads<'_>,
        ticket: Option<&Ticket>,
        headers: &HeaderMap,
        caller: &Caller,
    ) -> Result<Self, StoreError> {
        let client = match ticket {
            Some(ticket) => reads.get::<Client>(ticket.request.client.as_str()).await?,
            None => None,
        };
        Ok(Self {
            answered: match ticket {
                Some(ticket) => is_answered(app, reads, ticket).await?,
                None => false,
            },
            registrant: client
                .as_ref()
                .and_then(|client| app.directory.node(&client.registrant.node_id)),
            session: sessions::of_browser(app, reads, headers, caller).await?,
            pushed: par::behind(reads, ticket).await?,
            client,
        })
    }
}

/// Whether there is a code that answers `ticket`, or the grant that it became. The transaction of an answer expects that
/// there is neither, so that of two answers at once one conflicts.
async fn is_answered(app: &App, reads: &mut Reads<'_>, ticket: &Ticket) -> Result<bool, StoreError> {
    Ok(reads.get::<Code>(ticket.code.to_text()).await?.is_some()
        || reads
            .get::<Grant>(app.secret.grant_of(&ticket.code).as_str())
            .await?
            .is_some())
}

/// What a click leaves behind; `before` is the session that the browser came with.
async fn keep(
    app: &App,
    exchange: &Exchange,
    caller: &Caller,
    txn: &mut Txn,
    records: &Records,
    client: &Client,
    before: Option<&Session>,
) -> Result<(), StoreError> {
    keep_code(txn, &records.code, client)?;
    let audit = |event| AuditRecord::by(caller, event, &exchange.request_id, exchange.now).about(&client.id);
    let scopes = records.code.authorization.scopes.join(" ");
    txn.audit(&audit("consent_given").with_detail(scopes.as_str()))?;
    if let Some((session, _)) = &records.session {
        sessions::keep_session(&app.store, txn, session, before).await?;
    }
    if let Some(consent) = &records.remembered {
        sessions::keep_consent(&app.store, txn, consent).await?;
        txn.audit(&audit("consent_remembered").with_detail(scopes))?;
    }
    Ok(())
}

/// Keeps a code; its client is now one that is used.
pub(crate) fn keep_code(txn: &mut Txn, code: &Code, client: &Client) -> Result<(), StoreError> {
    txn.put(code)?;
    if let Some(at) = client.unused_until {
        mark_used(txn, client, at)?;
    }
    Ok(())
}

/// A client that has obtained a code or token is kept; `at` is when it would have been forgotten.
pub(crate) fn mark_used(txn: &mut Txn, client: &Client, at: OffsetDateTime) -> Result<(), StoreError> {
    txn.put(&Client {
        unused_until: None,
        ..client.clone()
    })?;
    let client = client.id.clone();
    txn.delete::<UnusedUntil>(UnusedUntil { at, client }.id());
    Ok(())
}

/// Sends the browser on, without the cookie of its page and with that of a new session.
fn answered(answer: &Answer, page: &Cookie, records: Option<&Records>, https: bool) -> Reply {
    let mut reply = reply::answer(answer);
    page.forget(&mut reply);
    if let Some((_, secret)) = records.and_then(|records| records.session.as_ref()) {
        Cookie::of_session(https).set(secret.reveal(), &mut reply);
    }
    reply
}

fn log_answer(exchange: &Exchange, caller: &Caller, client: &str, answer: &Answer) {
    let (decision, reason) = match &answer.error {
        None => (Decision::Allowed, "the user consented"),
        Some(error) => (Decision::Refused, error.description()),
    };
    event::decided(EVENT, caller, client, decision, &exchange.request_id, reason);
}

fn refuse_page(app: &App, exchange: &Exchange, caller: &Caller, client: &str, error: &ConsentError) -> Reply {
    let ConsentError::Page(page) = error else {
        return refuse(exchange, caller, client, &error.to_string());
    };
    let reason = page.to_string();
    event::decided(EVENT, caller, client, Decision::Refused, &exchange.request_id, &reason);
    let markup = pages::page_error(page, &app.registration.own_names, &exchange.request_id);
    reply::page(status::BAD_PAGE, markup)
}

fn refuse(exchange: &Exchange, caller: &Caller, client: &str, reason: &str) -> Reply {
    event::decided(EVENT, caller, client, Decision::Refused, &exchange.request_id, reason);
    reply::page(status::BAD_PAGE, pages::refusal(reason, &exchange.request_id))
}

#[derive(Debug, thiserror::Error)]
enum ConsentFailure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the system has no random bytes: {0}")]
    Entropy(#[from] getrandom::Error),
}
