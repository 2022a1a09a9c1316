//! `POST /authorize/consent`: the user's click, from our own page only.

use countersign_oauth::{
    audit::AuditRecord,
    authorize::Ticket,
    caller::Caller,
    client::Client,
    consent::{self, Choice, Click, Outcome},
    grant::{Code, SPENT_CODE_MEMORY},
    params::Params,
    secret::SecretHash,
};
use countersign_store::{CommitError, Due, DueKind, Held, Reads, Record as _, StoreError, Txn, UnusedUntil};
use http::{HeaderMap, Request, header::COOKIE};
use hyper::body::Incoming;

use crate::{
    app::{App, Exchange},
    body, clock,
    endpoints::authorize::comes_from_our_page,
    event::{self, Decision},
    pages,
    reply::{self, Reply},
    status,
};

const EVENT: &str = "consent";
const ATTEMPTS: usize = 4;

/// The counter of a node's open consent pages.
pub(crate) fn open_pages(node_id: &str) -> String {
    format!("tickets/{node_id}")
}

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
    let (Ok(Some(secret)), Ok(Some(choice))) = (params.one("ticket"), params.one("choice")) else {
        return Ok(refuse(
            exchange,
            caller,
            "",
            "the answer is incomplete; go back to the application and start again",
        ));
    };
    let choice = if choice == "allow" { Choice::Allow } else { Choice::Deny };
    let cookie = Cookie::of(secret, app.config.issuer.is_https()).find(headers);
    let mut rng = clock::rng()?;
    for _ in 0..ATTEMPTS {
        let mut reads = app.store.reads();
        let ticket = reads.get::<Ticket>(SecretHash::of(secret).to_text()).await?;
        let client = match &ticket {
            Some(ticket) => reads.get::<Client>(ticket.request.client.as_str()).await?,
            None => None,
        };
        let registrant = client
            .as_ref()
            .and_then(|client| app.directory.node(&client.registrant.node_id));
        let click = Click {
            choice,
            ticket: ticket.as_ref(),
            cookie: cookie.as_deref(),
            client: client.as_ref(),
            caller,
            registrant: registrant.as_ref(),
        };
        let id = client.as_ref().map(|client| client.id.to_string()).unwrap_or_default();
        let (answer, code) = match consent::decide(&click, &app.tokens.authorize, exchange.now, &mut rng) {
            Outcome::Page(error) => return Ok(refuse(exchange, caller, &id, &error.to_string())),
            Outcome::Answered { answer, code } => (answer, code),
        };
        let txn = transaction(
            reads,
            exchange,
            caller,
            ticket.as_ref(),
            client.as_ref(),
            code.as_deref(),
        )?;
        match app.store.commit(txn).await {
            Ok(_) => {
                let (decision, reason) = match &answer.error {
                    None => (Decision::Allowed, "the user consented"),
                    Some(error) => (Decision::Refused, error.description()),
                };
                event::decided(EVENT, caller, &id, decision, &exchange.request_id, reason);
                let mut reply = reply::answer(&answer);
                Cookie::of(secret, app.config.issuer.is_https()).forget(&mut reply);
                return Ok(reply);
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

/// The ticket is spent whatever was clicked; a code makes its client one that is used.
fn transaction(
    reads: Reads<'_>,
    exchange: &Exchange,
    caller: &Caller,
    ticket: Option<&Ticket>,
    client: Option<&Client>,
    code: Option<&Code>,
) -> Result<Txn, StoreError> {
    let mut txn = reads.into_txn();
    if let Some(ticket) = ticket {
        txn.delete::<Ticket>(ticket.id());
        txn.delete::<Due>(
            Due {
                at: ticket.expires_at,
                what: DueKind::Ticket,
                id: ticket.hash.to_text(),
            }
            .id(),
        );
        txn.count(&open_pages(&ticket.node_id), -1, None);
    }
    let Some((code, client)) = code.zip(client) else {
        return Ok(txn);
    };
    txn.put(code)?;
    txn.put(&Held::code(code))?;
    txn.put(&Due {
        at: code.expires_at + SPENT_CODE_MEMORY,
        what: DueKind::Code,
        id: code.hash.to_text(),
    })?;
    if let Some(at) = client.unused_until {
        txn.put(&Client {
            unused_until: None,
            ..client.clone()
        })?;
        txn.delete::<UnusedUntil>(
            UnusedUntil {
                at,
                client: client.id.clone(),
            }
            .id(),
        );
    }
    let audit = AuditRecord::by(caller, "consent_given", &exchange.request_id, exchange.now).about(&client.id);
    txn.audit(&audit.with_detail(code.authorization.scopes.join(" ")))?;
    Ok(txn)
}

fn refuse(exchange: &Exchange, caller: &Caller, client: &str, reason: &str) -> Reply {
    event::decided(EVENT, caller, client, Decision::Refused, &exchange.request_id, reason);
    reply::page(status::BAD_PAGE, pages::refusal(reason, &exchange.request_id))
}

/// The cookie that ties a consent page to the browser it was shown in, one for each page.
///
/// On https its name begins with `__Host-`, so no sibling host of the tailnet can set it; Chromium stores no such
/// name on http.
pub(crate) struct Cookie {
    name: String,
    https: bool,
}

impl Cookie {
    /// The cookie of the page that holds `ticket`.
    pub(crate) fn of(ticket: &str, https: bool) -> Self {
        let prefix = if https { "__Host-" } else { "" };
        // A hash, so that the name gives nothing of the ticket away.
        let mark: String = SecretHash::of(ticket).to_text().chars().take(12).collect();
        Self {
            name: format!("{prefix}consent-{mark}"),
            https,
        }
    }

    pub(crate) fn set(&self, value: &str) -> String {
        self.with(value, 600)
    }

    fn with(&self, value: &str, max_age: u32) -> String {
        let secure = if self.https { "; Secure" } else { "" };
        format!(
            "{}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}",
            self.name
        )
    }

    fn find(&self, headers: &HeaderMap) -> Option<String> {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookies
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == self.name)
            .map(|(_, value)| value.to_owned())
    }

    fn forget(&self, reply: &mut Reply) {
        if let Ok(value) = http::HeaderValue::from_str(&self.with("", 0)) {
            reply.headers_mut().append(http::header::SET_COOKIE, value);
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ConsentFailure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the system has no random bytes: {0}")]
    Entropy(#[from] getrandom::Error),
}
