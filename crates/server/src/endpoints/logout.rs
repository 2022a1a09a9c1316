//! `GET` and `POST /logout`, and the answer to its page (OpenID Connect RP-Initiated Logout 1.0).

use countersign_oauth::{
    audit::AuditRecord,
    caller::Caller,
    client::Client,
    error::OAuthError,
    form::Purpose,
    logout::{self, Logout, LogoutError},
    params::Params,
};
use countersign_store::{CommitError, StoreError};
use http::{HeaderMap, Request};
use hyper::body::Incoming;

use crate::{
    app::{App, Exchange},
    body,
    cookie::Cookie,
    endpoints::authorize::{hint, refuse_part_of_a_page},
    event::{self, Decision},
    forms::{self, FormFailure},
    pages,
    reply::{self, Reply},
    route::Route,
    sessions, status,
};

const EVENT: &str = "logout";
const ATTEMPTS: usize = 4;

/// Asks the person.
pub(crate) async fn any(app: &App, exchange: &Exchange, caller: &Caller, request: Request<Incoming>) -> Reply {
    let (parts, incoming) = request.into_parts();
    if let Some(reply) = refuse_part_of_a_page(exchange, caller, &parts.headers) {
        return reply;
    }
    let params = match body::query_and_form(&parts, incoming, &app.config.limits).await {
        Ok(params) => params,
        Err(reply) => return reply,
    };
    let done = ask(app, exchange, caller, &params).await;
    finished(exchange, caller, done)
}

/// Takes the answer.
pub(crate) async fn answer(app: &App, exchange: &Exchange, caller: &Caller, request: Request<Incoming>) -> Reply {
    let (parts, incoming) = request.into_parts();
    let done = match body::form(&parts.headers, incoming, &app.config.limits).await {
        Ok(params) => end(app, exchange, caller, &parts.headers, &params).await,
        Err(reply) => return reply,
    };
    finished(exchange, caller, done)
}

async fn ask(app: &App, exchange: &Exchange, caller: &Caller, params: &Params) -> Result<Reply, LogoutFailure> {
    let hint = hint(app, params);
    let named = logout::client_id(params, &hint)?;
    let client = match &named {
        Some(id) => app.store.reads().get::<Client>(id.as_str()).await?,
        None => None,
    };
    let logout = logout::read(params, &hint, named.as_ref(), client.as_ref(), caller)?;
    let leads_to = logout.redirect_uri.as_deref().map(pages::redirect_sources);
    let shown = forms::show(app, exchange, caller, Purpose::Logout(logout.clone()))?;
    let markup = pages::logout::question(caller, client.as_ref(), &logout, &shown.ticket);
    let mut reply = reply::page_leading_to(status::FOUND, markup, &leads_to.unwrap_or_default());
    forms::give_cookie(app, &shown, &mut reply);
    Ok(reply)
}

async fn end(
    app: &App,
    exchange: &Exchange,
    caller: &Caller,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Reply, LogoutFailure> {
    let leaves = match params.required("choice")? {
        "leave" => true,
        "stay" => false,
        _ => return Err(FormFailure::Refused("choice must be leave or stay".to_owned()).into()),
    };
    for _ in 0..ATTEMPTS {
        let mut reads = app.store.reads();
        let answered = forms::answered(app, exchange, caller, &mut reads, headers, params).await?;
        let Purpose::Logout(logout) = &answered.form.purpose else {
            return Err(FormFailure::Refused("this answer belongs to another page".to_owned()).into());
        };
        let client = match &logout.client {
            Some(id) => reads.get::<Client>(id.as_str()).await?,
            None => None,
        };
        let session = sessions::of_browser(app, &mut reads, headers, caller).await?;
        let mut txn = reads.into_txn();
        answered.spend(&mut txn)?;
        if let Some(session) = session.as_ref().filter(|_| leaves) {
            sessions::end_session(&mut txn, session);
            txn.audit(&AuditRecord::by(
                caller,
                "logged_out",
                &exchange.request_id,
                exchange.now,
            ))?;
        }
        match app.store.commit(txn).await {
            Ok(_) => {
                let mut reply = gone(app, exchange, caller, logout, client.as_ref(), leaves);
                answered.forget_cookie(&mut reply);
                return Ok(reply);
            }
            Err(CommitError::Conflict(_)) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    Err(FormFailure::Refused("this page was answered already; open it again".to_owned()).into())
}

/// Where the browser goes once the answer is kept.
fn gone(
    app: &App,
    exchange: &Exchange,
    caller: &Caller,
    logout: &Logout,
    client: Option<&Client>,
    leaves: bool,
) -> Reply {
    let name = logout.client.as_ref().map(ToString::to_string).unwrap_or_default();
    if !leaves {
        event::decided(
            EVENT,
            caller,
            &name,
            Decision::Refused,
            &exchange.request_id,
            "the user stays",
        );
        return reply::back(&format!("{}{}", app.config.issuer, Route::Me.path()));
    }
    event::decided(
        EVENT,
        caller,
        &name,
        Decision::Allowed,
        &exchange.request_id,
        "the user left",
    );
    let mut reply = match logout.destination(client) {
        Some(location) => reply::back(&location),
        None => reply::page(status::FOUND, pages::logout::done()),
    };
    Cookie::of_session(app.config.issuer.is_https()).forget(&mut reply);
    reply
}

fn finished(exchange: &Exchange, caller: &Caller, done: Result<Reply, LogoutFailure>) -> Reply {
    let refuse = |reason: &str| {
        event::decided(EVENT, caller, "", Decision::Refused, &exchange.request_id, reason);
        reply::page(status::BAD_PAGE, pages::refusal(reason, &exchange.request_id))
    };
    match done {
        Ok(reply) => reply,
        Err(LogoutFailure::Request(error)) => refuse(&error.to_string()),
        Err(LogoutFailure::Parameter(error)) => refuse(error.description()),
        Err(LogoutFailure::Form(FormFailure::Refused(reason))) => refuse(&reason),
        Err(error) => {
            tracing::error!(%error, request_id = exchange.request_id, "a logout could not be kept");
            reply::failed(&exchange.request_id)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum LogoutFailure {
    #[error(transparent)]
    Request(#[from] LogoutError),
    #[error(transparent)]
    Parameter(#[from] OAuthError),
    #[error(transparent)]
    Form(#[from] FormFailure),
    #[error(transparent)]
    Store(#[from] StoreError),
}
