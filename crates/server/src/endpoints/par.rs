//! `POST /par` (RFC 9126): keeps a request of a client for the minute until a browser brings its reference.

use countersign_oauth::{
    caller::Caller,
    error::{ErrorCode, OAuthError},
    par::{self, MAX_PER_NODE, Pushed},
    params::Params,
    ticket::Ticket,
};
use countersign_store::{CommitError, Due, DueKind, Reads, Record as _, StoreError, Txn};
use http::{HeaderMap, Request};
use hyper::body::Incoming;

use crate::{
    app::{App, Exchange},
    body, clock,
    endpoints::{
        client_auth::Authenticated,
        token::{Failure, TokenError},
    },
    event::{self, Decision},
    reply::{self, Reply},
    status,
};

const EVENT: &str = "par";
const ATTEMPTS: usize = 4;

/// The counter of the requests that a node has pushed.
pub(crate) fn pushed_by(node_id: &str) -> String {
    format!("pushed/{node_id}")
}

pub(crate) async fn post(app: &App, exchange: &Exchange, caller: &Caller, request: Request<Incoming>) -> Reply {
    let (parts, incoming) = request.into_parts();
    let params = match body::form(&parts.headers, incoming, &app.config.limits).await {
        Ok(params) => params,
        Err(reply) => return reply,
    };
    match push(app, exchange, caller, &parts.headers, &params).await {
        Ok(reply) => reply,
        Err(error) => error.reply(EVENT, exchange, caller),
    }
}

async fn push(
    app: &App,
    exchange: &Exchange,
    caller: &Caller,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Reply, TokenError> {
    let mut rng = clock::rng().map_err(Failure::from)?;
    let counter = pushed_by(&caller.node_id);
    for _ in 0..ATTEMPTS {
        let mut reads = app.store.reads();
        let authenticated = Authenticated::of(app, exchange, &mut reads, headers, params).await?;
        let client = &authenticated.client;
        if reads.counter(&counter).await? >= MAX_PER_NODE {
            break;
        }
        let result = par::push(params, client, caller, &app.tokens.authorize, exchange.now, &mut rng);
        let mut txn = reads.into_txn();
        authenticated.spend(&mut txn)?;
        match &result {
            Ok((pushed, _)) => {
                txn.put(pushed)?;
                txn.put(&due(pushed))?;
                txn.count(&counter, 1, Some(MAX_PER_NODE));
            }
            Err(error) if !authenticated.must_be_spent() => {
                return Err(TokenError::Refused(client.id.to_string(), error.clone()));
            }
            Err(_) => {}
        }
        match app.store.commit(txn).await {
            Ok(_) => {}
            Err(CommitError::Conflict(_)) => continue,
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
        let id = client.id.as_str();
        let (_, response) = result.map_err(|error| TokenError::Refused(id.to_owned(), error))?;
        event::decided(
            EVENT,
            caller,
            id,
            Decision::Allowed,
            &exchange.request_id,
            "a request was pushed",
        );
        return Ok(reply::json(status::PUSHED, &response));
    }
    let description = "this node has pushed too many requests that nobody has answered yet; wait a minute";
    let error = OAuthError::new(ErrorCode::TemporarilyUnavailable, description);
    let reason = error.description();
    event::decided(EVENT, caller, "", Decision::Refused, &exchange.request_id, reason);
    Ok(reply::busy(status::TOO_MANY, description))
}

/// What the store has of the request behind `ticket`, if that was pushed.
pub(crate) async fn behind(reads: &mut Reads<'_>, ticket: Option<&Ticket>) -> Result<Option<Pushed>, StoreError> {
    match ticket.and_then(|ticket| ticket.request.pushed) {
        Some(hash) => reads.get::<Pushed>(hash.to_text()).await,
        None => Ok(None),
    }
}

/// Forgets a request that is answered.
pub(crate) fn spend(txn: &mut Txn, pushed: Option<&Pushed>) {
    if let Some(pushed) = pushed {
        txn.delete::<Pushed>(pushed.id());
        txn.delete::<Due>(due(pushed).id());
        txn.count(&pushed_by(&pushed.node_id), -1, None);
    }
}

fn due(pushed: &Pushed) -> Due {
    Due {
        at: pushed.forgotten_at(),
        what: DueKind::Pushed,
        id: pushed.hash.to_text(),
    }
}
