//! `POST /register` (RFC 7591).

use countersign_oauth::{
    audit::AuditRecord,
    caller::Caller,
    error::{ErrorCode, OAuthError},
    register::{self, Outcome, Refused, Registered, Request, Rules},
};
use countersign_store::{ByOwner, CommitError, Store, StoreError, Txn, UnusedUntil, clients_of};
use http::HeaderMap;
use hyper::body::Incoming;
use serde_json::json;

use crate::{
    app::{App, Exchange},
    body, clock, cors,
    event::{self, Decision},
    reply::{self, Reply},
    status,
};

const EVENT: &str = "register";
/// How often a registration is decided again after a conflict. Only a full quota conflicts, so once is enough.
const ATTEMPTS: usize = 4;

pub(crate) async fn post(app: &App, exchange: &Exchange, caller: &Caller, request: http::Request<Incoming>) -> Reply {
    let (parts, incoming) = request.into_parts();
    if let Some(reply) = refused_by_origin(app, &parts.headers) {
        log(
            exchange,
            caller,
            "",
            Decision::Refused,
            "the page's origin is not admitted or the body is not JSON",
        );
        return reply;
    }
    if let Err(refused) = register::admit(caller, &app.registration, exchange.now) {
        return refuse(exchange, caller, &refused);
    }
    let bytes = match body::read(incoming, &app.config.limits).await {
        Ok(bytes) => bytes,
        Err(reply) => return reply,
    };
    let request = match Request::parse(&bytes) {
        Ok(request) => request,
        Err(error) => return refuse(exchange, caller, &error.into()),
    };
    match decide(&app.store, exchange, caller, &app.registration, request).await {
        Ok(Outcome::Registered(made)) => {
            let name = made
                .client
                .descriptions
                .client_name
                .as_ref()
                .map_or("unnamed", |name| name.as_str());
            log(exchange, caller, made.client.id.as_str(), Decision::Allowed, name);
            reply::json(status::REGISTERED, &made.response(app.config.issuer.as_str()))
        }
        Ok(Outcome::Refused(refused)) => refuse(exchange, caller, &refused),
        Err(error) => {
            tracing::error!(%error, request_id = exchange.request_id, "a registration could not be stored");
            reply::failed(&exchange.request_id)
        }
    }
}

/// A simple request of a foreign page (a form, a no-cors fetch) is stopped here, before anything is read or stored.
fn refused_by_origin(app: &App, headers: &HeaderMap) -> Option<Reply> {
    if !cors::may_register(headers, &app.config.cors_origins) {
        let error = OAuthError::new(
            ErrorCode::AccessDenied,
            "pages of this origin may not register clients; an administrator can add it to cors_origins",
        );
        return Some(reply::error_with_status(status::FOREIGN_ORIGIN, &error));
    }
    (!body::is(headers, "application/json"))
        .then(|| reply::refuse(status::WRONG_TYPE, "Content-Type must be application/json"))
}

/// One decision around one transaction.
async fn decide(
    store: &Store,
    exchange: &Exchange,
    caller: &Caller,
    rules: &Rules,
    request: Request,
) -> Result<Outcome, RegisterError> {
    let mut rng = clock::rng()?;
    let counter = clients_of(&caller.owner());
    for _ in 0..ATTEMPTS {
        let owned = store.reads().counter(&counter).await?;
        let outcome = register::register(request.clone(), caller, rules, owned, exchange.now, &mut rng);
        let Outcome::Registered(made) = &outcome else {
            return Ok(outcome);
        };
        match store
            .commit(transaction(made, exchange, caller, rules, &counter)?)
            .await
        {
            Ok(_) => return Ok(outcome),
            Err(CommitError::Conflict(_)) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    Err(RegisterError::Contended)
}

fn transaction(
    made: &Registered,
    exchange: &Exchange,
    caller: &Caller,
    rules: &Rules,
    counter: &str,
) -> Result<Txn, StoreError> {
    let client = &made.client;
    let mut txn = Txn::new();
    txn.put(client)?;
    txn.put(&ByOwner {
        owner: client.owner.clone(),
        client: client.id.clone(),
    })?;
    if let Some(at) = client.unused_until {
        txn.put(&UnusedUntil {
            at,
            client: client.id.clone(),
        })?;
    }
    let ceiling = (rules.max_clients_per_owner != 0).then_some(rules.max_clients_per_owner);
    txn.count(counter, 1, ceiling);
    let audit = AuditRecord::by(caller, "client_registered", &exchange.request_id, exchange.now);
    txn.audit(&audit.about(&client.id))?;
    Ok(txn)
}

#[derive(Debug, thiserror::Error)]
enum RegisterError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the system has no random bytes: {0}")]
    Entropy(#[from] getrandom::Error),
    #[error("too many registrations of one owner at once")]
    Contended,
}

fn refuse(exchange: &Exchange, caller: &Caller, refused: &Refused) -> Reply {
    let error = &refused.error;
    log(exchange, caller, "", Decision::Refused, error.description());
    if refused.remedies.is_empty() {
        return reply::oauth_error(error);
    }
    reply::readable_json(
        status::of(error.code()),
        &json!({
            "error": error.code(),
            "error_description": error.description(),
            "remedies": refused.remedies,
        }),
    )
}

fn log(exchange: &Exchange, caller: &Caller, client: &str, decision: Decision, reason: &str) {
    event::decided(EVENT, caller, client, decision, &exchange.request_id, reason);
}
