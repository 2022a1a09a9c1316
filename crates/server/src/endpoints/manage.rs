//! `GET`, `PUT` and `DELETE /register/{client}` (RFC 7592).

use bytes::Bytes;
use countersign_oauth::{
    audit::AuditRecord,
    caller::Caller,
    client::Client,
    error::{ErrorCode, OAuthError},
    manage,
    metadata::path,
    register::Response,
};
use countersign_store::{CommitError, StoreError};
use http::{Method, Request};
use hyper::body::Incoming;

use crate::{
    app::{App, Exchange},
    body, clients, cors,
    endpoints::bearer::bearer_header,
    event::{self, Decision},
    reply::{self, Reply},
    status,
};

const EVENT: &str = "client_managed";
const ATTEMPTS: usize = 4;

pub(crate) async fn any(app: &App, exchange: &Exchange, caller: &Caller, request: Request<Incoming>) -> Reply {
    let (parts, incoming) = request.into_parts();
    let id = parts
        .uri
        .path()
        .strip_prefix(path::CLIENTS)
        .unwrap_or_default()
        .to_owned();
    if !cors::may_register(&parts.headers, &app.config.cors_origins) {
        let error = OAuthError::new(ErrorCode::AccessDenied, "pages of this origin may not manage clients");
        return refuse(exchange, caller, &id, &error);
    }
    let metadata = if parts.method == Method::PUT {
        if !body::is(&parts.headers, "application/json") {
            return reply::refuse(status::WRONG_TYPE, "Content-Type must be application/json");
        }
        match body::read(incoming, &app.config.limits).await {
            Ok(bytes) => Some(bytes),
            Err(reply) => return reply,
        }
    } else {
        None
    };
    let token = bearer_header(&parts.headers);
    match manage(app, exchange, caller, &parts.method, &id, token, metadata).await {
        Ok(reply) => reply,
        Err(Failure::Refused(error)) => refuse(exchange, caller, &id, &error),
        Err(Failure::Store(error)) => {
            tracing::error!(%error, request_id = exchange.request_id, "a client could not be managed");
            reply::failed(&exchange.request_id)
        }
    }
}

async fn manage(
    app: &App,
    exchange: &Exchange,
    caller: &Caller,
    method: &Method,
    id: &str,
    token: Option<&str>,
    metadata: Option<Bytes>,
) -> Result<Reply, Failure> {
    for _ in 0..ATTEMPTS {
        let mut reads = app.store.reads();
        let client = reads.get::<Client>(id).await?;
        let client = manage::admit(client.as_ref(), token, caller, &app.registration)?;
        let mut txn = reads.into_txn();
        let audit = |event| AuditRecord::by(caller, event, &exchange.request_id, exchange.now).about(&client.id);
        let (reply, done) = match &metadata {
            Some(metadata) => {
                let changed = manage::replace(client, metadata, caller, &app.registration, exchange.now)?;
                txn.put(&changed)?;
                txn.audit(&audit("client_replaced"))?;
                (shown(app, &changed, token), "replaced")
            }
            None if *method == Method::DELETE => {
                clients::forget(&mut txn, client);
                txn.audit(&audit("client_deleted"))?;
                (reply::body(status::GONE, "application/json", ""), "deleted")
            }
            None => return Ok(shown(app, client, token)),
        };
        match app.store.commit(txn).await {
            Ok(_) => {
                event::decided(EVENT, caller, id, Decision::Allowed, &exchange.request_id, done);
                return Ok(reply);
            }
            Err(CommitError::Conflict(_)) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    let error = OAuthError::new(ErrorCode::TemporarilyUnavailable, "the client is in use; try again");
    Err(Failure::Refused(error))
}

/// The client as it stands. Its secret is not shown: only a hash of it is known.
fn shown(app: &App, client: &Client, token: Option<&str>) -> Reply {
    reply::json(
        status::FOUND,
        &Response::of(client, None, token, app.config.issuer.as_str()),
    )
}

fn refuse(exchange: &Exchange, caller: &Caller, client: &str, error: &OAuthError) -> Reply {
    event::decided(
        EVENT,
        caller,
        client,
        Decision::Refused,
        &exchange.request_id,
        error.description(),
    );
    reply::challenge(error, "Bearer")
}

enum Failure {
    Refused(OAuthError),
    Store(StoreError),
}

impl From<OAuthError> for Failure {
    fn from(error: OAuthError) -> Self {
        Self::Refused(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
