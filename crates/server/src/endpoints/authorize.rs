//! `GET` and `POST /authorize`: shows the consent page. Nothing is given away here.

use countersign_oauth::{
    authorize::{self, Outcome, PageError, Question},
    caller::Caller,
    client::Client,
    error::{ErrorCode, OAuthError},
    params::Params,
};
use countersign_store::{CommitError, Due, DueKind, Record as _, StoreError, Txn};
use http::{HeaderMap, HeaderValue, Method, Request, header::SET_COOKIE};
use hyper::body::Incoming;

use crate::{
    app::{App, Exchange},
    body, clock,
    endpoints::consent,
    event::{self, Decision},
    pages,
    reply::{self, Reply},
    status,
};

const EVENT: &str = "authorize";
/// Consent pages that one node may have open. More are refused: each is a record for ten minutes.
const MAX_OPEN: u64 = 200;

pub(crate) async fn any(app: &App, exchange: &Exchange, caller: &Caller, request: Request<Incoming>) -> Reply {
    let (parts, incoming) = request.into_parts();
    // An image, frame or fetch of a page could start this without its visitor noticing.
    if parts
        .headers
        .get("sec-fetch-dest")
        .is_some_and(|dest| dest != "document")
    {
        let error = OAuthError::new(
            ErrorCode::AccessDenied,
            "authorization is for whole pages, not for parts of one",
        );
        log(exchange, caller, "", Decision::Refused, error.description());
        return reply::error_with_status(status::FOREIGN_ORIGIN, &error);
    }
    let params = if parts.method == Method::POST {
        match body::form(&parts.headers, incoming, &app.config.limits).await {
            Ok(params) => params,
            Err(reply) => return reply,
        }
    } else {
        Params::parse(parts.uri.query().unwrap_or_default().as_bytes())
    };
    match ask(app, exchange, caller, &params).await {
        Ok(reply) => reply,
        Err(error) => {
            tracing::error!(%error, request_id = exchange.request_id, "an authorization request could not be kept");
            reply::failed(&exchange.request_id)
        }
    }
}

async fn ask(app: &App, exchange: &Exchange, caller: &Caller, params: &Params) -> Result<Reply, AuthorizeError> {
    let id = match authorize::client_id(params) {
        Ok(id) => id,
        Err(error) => return Ok(refuse(exchange, caller, "", &error)),
    };
    let client = app.store.reads().get::<Client>(id.as_str()).await?;
    let registrant = client
        .as_ref()
        .and_then(|client| app.directory.node(&client.registrant.node_id));
    let outcome = authorize::authorize(
        params,
        client.as_ref(),
        caller,
        registrant.as_ref(),
        &app.tokens.authorize,
        exchange.now,
        &mut clock::rng()?,
    );
    match (outcome, client) {
        (Outcome::Page(error), _) => Ok(refuse(exchange, caller, id.as_str(), &error)),
        (Outcome::Redirect(answer), _) => {
            let reason = answer.error.as_ref().map(OAuthError::description).unwrap_or_default();
            log(exchange, caller, id.as_str(), Decision::Refused, reason);
            Ok(reply::answer(&answer))
        }
        (Outcome::Ask(question), Some(client)) => show(app, caller, &question, &client).await,
        (Outcome::Ask(_), None) => Ok(refuse(exchange, caller, id.as_str(), &PageError::UnknownClient)),
    }
}

/// Keeps the ticket and shows the page that holds it.
async fn show(app: &App, caller: &Caller, question: &Question, client: &Client) -> Result<Reply, AuthorizeError> {
    let ticket = &question.ticket;
    let mut txn = Txn::new();
    txn.put(ticket)?;
    txn.put(&Due {
        at: ticket.expires_at,
        what: DueKind::Ticket,
        id: ticket.hash.to_text(),
    })?;
    txn.count(&consent::open_pages(&caller.node_id), 1, Some(MAX_OPEN));
    match app.store.commit(txn).await {
        Ok(_) => {}
        Err(CommitError::Conflict(_)) => {
            return Ok(reply::busy(
                status::TOO_MANY,
                "this node has too many consent pages open; wait ten minutes",
            ));
        }
        Err(CommitError::Store(error)) => return Err(error.into()),
    }
    debug_assert_eq!(ticket.id(), ticket.hash.to_text().into_bytes());
    let markup = pages::consent(caller, client, question);
    let mut reply = reply::page_leading_to(
        status::FOUND,
        markup,
        &pages::redirect_source(&ticket.request.redirect_uri),
    );
    let cookie = consent::Cookie::of(question.ticket_secret.reveal(), app.config.issuer.is_https());
    if let Ok(value) = HeaderValue::from_str(&cookie.set(question.cookie_secret.reveal())) {
        reply.headers_mut().append(SET_COOKIE, value);
    }
    Ok(reply)
}

fn refuse(exchange: &Exchange, caller: &Caller, client: &str, error: &PageError) -> Reply {
    log(exchange, caller, client, Decision::Refused, &error.to_string());
    reply::page(
        status::BAD_PAGE,
        pages::refusal(&error.to_string(), &exchange.request_id),
    )
}

fn log(exchange: &Exchange, caller: &Caller, client: &str, decision: Decision, reason: &str) {
    event::decided(EVENT, caller, client, decision, &exchange.request_id, reason);
}

/// Whether a browser says that our own page caused a request: by Fetch Metadata, or by `Origin` where that is absent.
pub(crate) fn comes_from_our_page(headers: &HeaderMap, issuer: &str) -> bool {
    match headers.get("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => headers.get(http::header::ORIGIN).is_some_and(|origin| origin == issuer),
    }
}

#[derive(Debug, thiserror::Error)]
enum AuthorizeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the system has no random bytes: {0}")]
    Entropy(#[from] getrandom::Error),
}
