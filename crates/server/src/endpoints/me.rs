//! `GET` and `POST /me`: what a person has here, and taking it back.

use countersign_oauth::{
    caller::Caller,
    client::Client,
    form::Purpose,
    me::{Action, Name},
    params::Params,
    remembered::Remembered,
    session::Session,
};
use countersign_store::{ByOwner, CommitError, Record, StoreError, held_by};
use http::{HeaderMap, Method, Request};
use hyper::body::Incoming;

use crate::{
    app::{App, Exchange},
    body,
    endings::{EndError, Ender},
    endpoints::authorize::refuse_part_of_a_page,
    event::{self, Decision},
    forms::{self, FormFailure},
    pages::{
        self,
        me::{Given, List, Mine, Row},
    },
    reply::{self, Reply},
    route::Route,
    sessions, status,
};

const EVENT: &str = "me";
/// Entries of each list on one page.
const PAGE: usize = 20;

pub(crate) async fn any(app: &App, exchange: &Exchange, caller: &Caller, request: Request<Incoming>) -> Reply {
    let (parts, incoming) = request.into_parts();
    if let Some(reply) = refuse_part_of_a_page(exchange, caller, &parts.headers) {
        return reply;
    }
    if let Err(error) = caller.vouched(&app.tokens.authorize.identity) {
        return refuse(exchange, caller, error.description());
    }
    let done = if parts.method == Method::POST {
        match body::form(&parts.headers, incoming, &app.config.limits).await {
            Ok(params) => take_back(app, exchange, caller, &parts.headers, &params).await,
            Err(reply) => return reply,
        }
    } else {
        let params = Params::parse(parts.uri.query().unwrap_or_default().as_bytes());
        show(app, exchange, caller, &parts.headers, &params).await
    };
    match done {
        Ok(reply) => reply,
        Err(MeError::Form(FormFailure::Refused(reason))) => refuse(exchange, caller, &reason),
        Err(MeError::End(error @ EndError::Busy)) => refuse(exchange, caller, &error.to_string()),
        Err(error) => {
            tracing::error!(%error, request_id = exchange.request_id, "what a person has could not be shown or ended");
            reply::failed(&exchange.request_id)
        }
    }
}

async fn take_back(
    app: &App,
    exchange: &Exchange,
    caller: &Caller,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Reply, MeError> {
    let mut reads = app.store.reads();
    let answered = forms::answered(app, exchange, caller, &mut reads, headers, params).await?;
    if answered.form.purpose != Purpose::Me {
        return Err(FormFailure::Refused("this answer belongs to another page".to_owned()).into());
    }
    let action = Action::read(params).map_err(|error| FormFailure::Refused(error.description().to_owned()))?;
    let mut txn = reads.into_txn();
    answered.spend(&mut txn)?;
    match app.store.commit(txn).await {
        Ok(_) => {}
        Err(CommitError::Conflict(_)) => {
            return Err(FormFailure::Refused("this page was answered already; open it again".to_owned()).into());
        }
        Err(CommitError::Store(error)) => return Err(error.into()),
    }
    let ender = Ender { app, exchange, caller };
    let what = match &action {
        Action::Session(name) => ender.session(name).await.map(|()| "a session ended"),
        Action::Consent(name) => ender.consent(name).await.map(|()| "a remembered consent ended"),
        Action::Grant(name) => ender.grant(name).await.map(|()| "a grant ended"),
        Action::Client(id) => ender.client(id).await.map(|()| "a client was deleted"),
        Action::Everything => ender.everything().await.map(|()| "everything ended"),
    }?;
    event::decided(EVENT, caller, "", Decision::Allowed, &exchange.request_id, what);
    let mut reply = reply::back(&format!("{}{}", app.config.issuer, Route::Me.path()));
    answered.forget_cookie(&mut reply);
    Ok(reply)
}

async fn show(
    app: &App,
    exchange: &Exchange,
    caller: &Caller,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Reply, MeError> {
    let owner = caller.owner();
    let prefix = held_by(&owner, None);
    let mut reads = app.store.reads();
    let here = sessions::of_browser(app, &mut reads, headers, caller).await?;
    let sessions = list::<Session>(app, &prefix, params, "sessions").await?;
    let consents = list::<Remembered>(app, &prefix, params, "consents").await?;
    let grants = granted(app, exchange, caller, params).await?;
    let mine = list::<ByOwner>(app, &ByOwner::prefix(&owner), params, "clients").await?;

    let mut named = Vec::with_capacity(consents.rows.len());
    for Row { name, record } in consents.rows {
        let client = reads.get::<Client>(record.client.as_str()).await?;
        named.push(Row {
            name,
            record: (record, client),
        });
    }
    let mut clients = Vec::with_capacity(mine.rows.len());
    for Row { name, record } in mine.rows {
        let client = reads.get::<Client>(record.client.as_str()).await?;
        clients.extend(client.map(|record| Row { name, record }));
    }
    let page = Mine {
        here: here.map(|session| session.hash),
        sessions,
        consents: List {
            rows: named,
            next: consents.next,
        },
        grants,
        clients: List {
            rows: clients,
            next: mine.next,
        },
    };
    let shown = forms::show(app, exchange, caller, Purpose::Me)?;
    let mut reply = reply::page(status::FOUND, pages::me::page(caller, &page, &shown.ticket));
    forms::give_cookie(app, &shown, &mut reply);
    Ok(reply)
}

/// One page of what applications may do for the caller's owner, with the names of the nodes that it mentions.
async fn granted(app: &App, exchange: &Exchange, caller: &Caller, params: &Params) -> Result<List<Given>, StoreError> {
    let after = begins(params, "grants").map(|name| name.id(b""));
    let granted = app.granted(caller, after.as_deref(), PAGE, exchange.now).await?;
    let node = |id: &str| {
        app.directory
            .node(id)
            .map_or_else(|| id.to_owned(), |node| node.node_name)
    };
    let rows = granted.grants.into_iter().filter_map(|(grant, client)| {
        let name = Name::of(&grant.id(), b"")?;
        let record = Given {
            client,
            from: node(&grant.authorization.subject.node_id),
            at: node(&grant.node_id),
            grant,
        };
        Some(Row { name, record })
    });
    Ok(List {
        rows: rows.collect(),
        next: granted.next.and_then(|id| Name::of(&id, b"")),
    })
}

/// Behind what the page of a list begins: the parameter with its name says so.
fn begins(params: &Params, list: &str) -> Option<Name> {
    params.one(list).ok().flatten().and_then(Name::parse)
}

/// One page of a list of records below `prefix`.
async fn list<R: Record>(app: &App, prefix: &[u8], params: &Params, name: &str) -> Result<List<R>, StoreError> {
    let from = begins(params, name).map(|name| name.id(prefix));
    let page = app.store.scan::<R>(prefix, from.as_deref(), PAGE).await?;
    let rows = page.records.into_iter().filter_map(|record| {
        let name = Name::of(&record.id(), prefix)?;
        Some(Row { name, record })
    });
    Ok(List {
        rows: rows.collect(),
        next: page.next.and_then(|id| Name::of(&id, prefix)),
    })
}

fn refuse(exchange: &Exchange, caller: &Caller, reason: &str) -> Reply {
    event::decided(EVENT, caller, "", Decision::Refused, &exchange.request_id, reason);
    reply::page(status::BAD_PAGE, pages::refusal(reason, &exchange.request_id))
}

#[derive(Debug, thiserror::Error)]
enum MeError {
    #[error(transparent)]
    Form(#[from] FormFailure),
    #[error(transparent)]
    End(#[from] EndError),
    #[error(transparent)]
    Store(#[from] StoreError),
}
