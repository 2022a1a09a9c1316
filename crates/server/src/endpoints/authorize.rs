//! `GET` and `POST /authorize`: shows the consent page, or answers at once where no click is needed.

use countersign_oauth::{
    audit::AuditRecord,
    authorize::{self, Answer, Outcome, PageError, Question},
    caller::Caller,
    client::{Client, ClientId},
    error::{ErrorCode, OAuthError},
    grant::Code,
    hint::Hint,
    par::{self, Pushed},
    params::Params,
    prompt::{self, Browser},
    remembered,
    sealed::SealError,
    secret::SecretHash,
};
use countersign_store::{CommitError, Reads, StoreError};
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use rand_core::RngCore;
use time::OffsetDateTime;

use crate::{
    app::{App, Exchange},
    body, clock,
    cookie::Cookie,
    endpoints::{self, consent},
    event::{self, Decision},
    pages,
    reply::{self, Reply},
    sessions, status,
};

const EVENT: &str = "authorize";
const ATTEMPTS: usize = 4;
/// For what a browser says that it asks.
const DEST: &str = "sec-fetch-dest";

pub(crate) async fn any(app: &App, exchange: &Exchange, caller: &Caller, request: Request<Incoming>) -> Reply {
    let (parts, incoming) = request.into_parts();
    if let Some(reply) = refuse_part_of_a_page(exchange, caller, &parts.headers) {
        return reply;
    }
    let params = match body::query_and_form(&parts, incoming, &app.config.limits).await {
        Ok(params) => params,
        Err(reply) => return reply,
    };
    match answer(app, exchange, caller, &parts.headers, &params).await {
        Ok(reply) => reply,
        Err(error) => {
            tracing::error!(%error, request_id = exchange.request_id, "an authorization request could not be kept");
            reply::failed(&exchange.request_id)
        }
    }
}

/// What a request says of itself before anything is read.
struct Asked<'a> {
    client: ClientId,
    /// Of a request that was pushed.
    reference: Option<SecretHash>,
    params: &'a Params,
    headers: &'a HeaderMap,
}

async fn answer(
    app: &App,
    exchange: &Exchange,
    caller: &Caller,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Reply, AuthorizeError> {
    let client = match authorize::client_id(params) {
        Ok(id) => id,
        Err(error) => return Ok(refuse(app, exchange, caller, "", &error)),
    };
    let reference = match par::referred(params) {
        Ok(reference) => reference,
        Err(error) => return Ok(refuse(app, exchange, caller, client.as_str(), &error)),
    };
    let asked = Asked {
        client,
        reference,
        params,
        headers,
    };
    let mut rng = clock::rng()?;
    for _ in 0..ATTEMPTS {
        if let Some(reply) = decide(app, exchange, caller, &asked, &mut rng).await? {
            return Ok(reply);
        }
    }
    Ok(reply::busy(
        status::OVERLOADED,
        "too much changes at once for this client; try again",
    ))
}

/// Decides by what is stored now. `None` when that changed before the answer was kept.
async fn decide(
    app: &App,
    exchange: &Exchange,
    caller: &Caller,
    asked: &Asked<'_>,
    rng: &mut (dyn RngCore + Send),
) -> Result<Option<Reply>, AuthorizeError> {
    let id = &asked.client;
    let mut reads = app.store.reads();
    let pushed = match asked.pushed(&mut reads, exchange.now).await? {
        Ok(pushed) => pushed,
        Err(error) => return Ok(Some(refuse(app, exchange, caller, id.as_str(), &error))),
    };
    // Beside a reference nothing else counts (RFC 9126 4).
    let params = pushed.as_ref().map_or(asked.params, |pushed| &pushed.params);
    let client = reads.get::<Client>(id.as_str()).await?;
    let registrant = client
        .as_ref()
        .and_then(|client| app.directory.node(&client.registrant.node_id));
    let rules = &app.tokens.authorize;
    let request = match authorize::authorize(
        params,
        asked.reference,
        client.as_ref(),
        caller,
        registrant.as_ref(),
        rules,
        exchange.now,
    ) {
        Outcome::Page(error) => return Ok(Some(refuse(app, exchange, caller, id.as_str(), &error))),
        Outcome::Redirect(answer) => return Ok(Some(send_back(exchange, caller, id.as_str(), &answer))),
        Outcome::Valid(request) => request,
    };
    let Some(client) = client else {
        let error = PageError::UnknownClient;
        return Ok(Some(refuse(app, exchange, caller, id.as_str(), &error)));
    };
    let may_be_remembered = remembered::may_be(&client, registrant.as_ref(), &request.redirect_uri, exchange.now);
    let session = sessions::of_browser(app, &mut reads, asked.headers, caller).await?;
    let consent = sessions::consent_to(&mut reads, &request, caller).await?;
    let consent = consent.filter(|consent| consent.is_carried_by(&client));
    let browser = Browser {
        session: session.as_ref(),
        remembered: consent.as_ref(),
        may_be_remembered,
        navigates: navigates(asked.headers),
        hint: &hint(app, params),
    };
    match prompt::decide(*request, &browser, caller, rules, exchange.now, rng) {
        prompt::Outcome::Refused(answer) => Ok(Some(send_back(exchange, caller, id.as_str(), &answer))),
        prompt::Outcome::Ask(question) => {
            show(app, exchange, caller, &question, &client, may_be_remembered, rng).map(Some)
        }
        prompt::Outcome::Answered { answer, code } => {
            if !keep(app, exchange, caller, reads, &code, &client, pushed.as_ref()).await? {
                return Ok(None);
            }
            let why = "the user consented to this before";
            log(exchange, caller, id.as_str(), Decision::Allowed, why);
            Ok(Some(reply::answer(&answer)))
        }
    }
}

impl Asked<'_> {
    /// The request that was pushed, where one is referred to; or why it is none for this client.
    async fn pushed(
        &self,
        reads: &mut Reads<'_>,
        now: OffsetDateTime,
    ) -> Result<Result<Option<Pushed>, PageError>, StoreError> {
        let Some(hash) = self.reference else {
            return Ok(Ok(None));
        };
        let stored = reads.get::<Pushed>(hash.to_text()).await?;
        Ok(par::resolve(stored, &self.client, now).map(Some))
    }
}

/// Keeps a code that was given without a click. False when what it rests on changed at this moment: the session or the
/// consent may have ended, so it is decided again.
async fn keep(
    app: &App,
    exchange: &Exchange,
    caller: &Caller,
    reads: Reads<'_>,
    code: &Code,
    client: &Client,
    pushed: Option<&Pushed>,
) -> Result<bool, StoreError> {
    let mut txn = reads.into_txn();
    consent::keep_code(&mut txn, code, client)?;
    endpoints::par::spend(&mut txn, pushed);
    let audit = AuditRecord::by(caller, "code_without_click", &exchange.request_id, exchange.now);
    txn.audit(&audit.about(&client.id).with_detail(code.authorization.scopes.join(" ")))?;
    match app.store.commit(txn).await {
        Ok(_) => Ok(true),
        Err(CommitError::Conflict(_)) => Ok(false),
        Err(CommitError::Store(error)) => Err(error),
    }
}

/// What the request says by `id_token_hint`.
pub(crate) fn hint(app: &App, params: &Params) -> Hint {
    match params.one("id_token_hint") {
        Ok(Some(text)) => Hint::verified(app.keys.id_claims(text).as_deref(), app.config.issuer.as_str()),
        // A repeated one is refused with the rest of the request.
        Ok(None) | Err(_) => Hint::Absent,
    }
}

fn send_back(exchange: &Exchange, caller: &Caller, client: &str, answer: &Answer) -> Reply {
    let reason = answer.error.as_ref().map(OAuthError::description).unwrap_or_default();
    log(exchange, caller, client, Decision::Refused, reason);
    reply::answer(answer)
}

/// Shows the page that holds the ticket.
fn show(
    app: &App,
    exchange: &Exchange,
    caller: &Caller,
    question: &Question,
    client: &Client,
    may_be_remembered: bool,
    rng: &mut dyn RngCore,
) -> Result<Reply, AuthorizeError> {
    let ticket = &question.ticket;
    let sealed = match ticket.seal(&app.secret, rng) {
        Ok(sealed) => sealed,
        Err(error @ SealError::TooLong) => {
            let error = OAuthError::new(ErrorCode::InvalidRequest, error.to_string());
            let answer = ticket.request.refuse(app.config.issuer.as_str(), error);
            return Ok(send_back(exchange, caller, client.id.as_str(), &answer));
        }
        Err(error) => return Err(error.into()),
    };
    let markup = pages::consent(caller, client, &ticket.request, &sealed, may_be_remembered);
    let mut reply = reply::page_leading_to(
        status::FOUND,
        markup,
        &pages::redirect_sources(&ticket.request.redirect_uri),
    );
    let cookie = Cookie::of_page(&sealed, app.config.issuer.is_https());
    cookie.set(question.cookie_secret.reveal(), &mut reply);
    Ok(reply)
}

fn refuse(app: &App, exchange: &Exchange, caller: &Caller, client: &str, error: &PageError) -> Reply {
    log(exchange, caller, client, Decision::Refused, &error.to_string());
    reply::page(
        status::BAD_PAGE,
        pages::page_error(error, &app.registration.own_names, &exchange.request_id),
    )
}

fn log(exchange: &Exchange, caller: &Caller, client: &str, decision: Decision, reason: &str) {
    event::decided(EVENT, caller, client, decision, &exchange.request_id, reason);
}

/// Whether a browser says that somebody goes to a whole page here: not when it only loads it in case he will, which any
/// page can make it do unseen (`Sec-Purpose: prefetch`).
fn navigates(headers: &HeaderMap) -> bool {
    headers.get(DEST).is_some_and(|dest| dest == "document") && !headers.contains_key("sec-purpose")
}

/// Refuses what is not a whole page: an image, frame or fetch of some page could start this without its visitor noticing.
pub(crate) fn refuse_part_of_a_page(exchange: &Exchange, caller: &Caller, headers: &HeaderMap) -> Option<Reply> {
    headers.get(DEST).filter(|dest| *dest != "document")?;
    let error = OAuthError::new(
        ErrorCode::AccessDenied,
        "this address is for whole pages, not for parts of one",
    );
    log(exchange, caller, "", Decision::Refused, error.description());
    Some(reply::error_with_status(status::FOREIGN_ORIGIN, &error))
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
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("the system has no random bytes: {0}")]
    Entropy(#[from] getrandom::Error),
}
