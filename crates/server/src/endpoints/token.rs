//! `POST /token`: one store transaction around one decision, then signatures.

use std::sync::Arc;

use countersign_oauth::{
    audit::AuditRecord,
    caller::Caller,
    client::{Client, GrantType},
    error::{ErrorCode, OAuthError},
    grant::{Code, Grant, MAX_PER_OWNER},
    opaque::{MAX_PER_CLIENT, NewAccessToken},
    params::Params,
    token::{
        Asking, CodeEnd, Outcome, Response, Tokens, Writes,
        code::{self, Presented},
        machine, refresh,
    },
};
use countersign_store::{CommitError, Due, DueKind, Reads, StoreError, Txn};
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use rand_core::RngCore;
use serde_json::Value;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{
    app::{App, Exchange},
    body, clock,
    endpoints::{client_auth::Authenticated, consent},
    event::{self, Decision},
    reply::{self, Reply},
    signer::{SignError, Signer, Type},
    status,
};

const EVENT: &str = "token";
/// Two processes of one client that refresh at once conflict; the second then finds the successor.
const ATTEMPTS: usize = 8;

pub(crate) async fn post(app: &App, exchange: &Exchange, caller: &Caller, request: Request<Incoming>) -> Reply {
    let (parts, incoming) = request.into_parts();
    let params = match body::form(&parts.headers, incoming, &app.config.limits).await {
        Ok(params) => params,
        Err(reply) => return reply,
    };
    match answer(app, exchange, caller, &parts.headers, &params).await {
        Ok(reply) => reply,
        Err(error) => error.reply(EVENT, exchange, caller),
    }
}

async fn answer(
    app: &App,
    exchange: &Exchange,
    caller: &Caller,
    headers: &HeaderMap,
    params: &Params,
) -> Result<Reply, TokenError> {
    let mut rng = clock::rng().map_err(Failure::from)?;
    for _ in 0..ATTEMPTS {
        let mut reads = app.store.reads();
        let authenticated = Authenticated::of(app, exchange, &mut reads, headers, params).await?;
        let client = &authenticated.client;
        // Before anything is spent: a key may still have to be made.
        let signer = app.keys.signer(client.signing_alg).await.map_err(Failure::from)?;
        let asked = Asked {
            app,
            client,
            caller,
            params,
            now: exchange.now,
        };
        let outcome = asked.decide(&mut reads, &mut rng).await?;
        let (writes, result, suspicious) = match outcome {
            Outcome::Issued { writes, tokens } => (writes, Ok(tokens), false),
            Outcome::Refused {
                error,
                writes,
                suspicious,
            } => (writes, Err(error), suspicious),
        };
        let txn = transaction(reads, exchange, caller, &authenticated, writes, suspicious, &result)?;
        if let Some(txn) = txn {
            match app.store.commit(txn).await {
                Ok(_) => {}
                Err(CommitError::Conflict(_)) => continue,
                Err(CommitError::Store(error)) => return Err(error.into()),
            }
        }
        let tokens = result.map_err(|error| TokenError::Refused(client.id.to_string(), error))?;
        if let Some(machine) = tokens.access.record().and_then(|record| record.machine.as_ref()) {
            // Made of nothing but the netmap, and for another node than the caller perhaps.
            app.doubts.add(&machine.subject.node_id);
        }
        let reply = signed(&signer, *tokens).await.map_err(Failure::from)?;
        event::decided(
            EVENT,
            caller,
            client.id.as_str(),
            Decision::Allowed,
            &exchange.request_id,
            "tokens issued",
        );
        return Ok(reply);
    }
    let error = OAuthError::new(
        ErrorCode::TemporarilyUnavailable,
        "too many requests for one grant at once, or too many opaque tokens of one client; try again later",
    );
    Err(TokenError::Refused(String::new(), error))
}

/// What is asked, whatever the grant type.
struct Asked<'a> {
    app: &'a App,
    client: &'a Client,
    caller: &'a Caller,
    params: &'a Params,
    now: OffsetDateTime,
}

impl Asked<'_> {
    fn asking<'b>(&'b self, live: Option<&'b Caller>, registrant: Option<&'b Caller>) -> Asking<'b> {
        Asking {
            params: self.params,
            client: self.client,
            caller: self.caller,
            live,
            registrant,
            rules: &self.app.tokens,
            now: self.now,
        }
    }

    async fn decide(&self, reads: &mut Reads<'_>, rng: &mut (dyn RngCore + Send)) -> Result<Outcome, StoreError> {
        let grant_type = match self.params.required("grant_type") {
            Ok(grant_type) => grant_type,
            Err(error) => return Ok(error.into()),
        };
        if grant_type == GrantType::AuthorizationCode.as_str() {
            return self.redeem(reads, rng).await;
        }
        if grant_type == GrantType::RefreshToken.as_str() {
            return self.refresh(reads, rng).await;
        }
        if grant_type == GrantType::ClientCredentials.as_str() {
            let live = self.app.directory.node(&self.client.registrant.node_id);
            return Ok(machine::issue(&self.asking(live.as_ref(), None), rng));
        }
        let error = OAuthError::new(
            ErrorCode::UnsupportedGrantType,
            "grant_type must be authorization_code, refresh_token or client_credentials",
        );
        Ok(error.into())
    }

    async fn redeem(&self, reads: &mut Reads<'_>, rng: &mut (dyn RngCore + Send)) -> Result<Outcome, StoreError> {
        let Self { app, client, .. } = *self;
        let presented = match Presented::read(self.params) {
            Ok(presented) => presented,
            Err(error) => return Ok(error.into()),
        };
        let stored = reads.get::<Code>(presented.id().to_text()).await?;
        let issued = match &stored {
            Some(_) => None,
            None => {
                let id = app.secret.grant_of(presented.id());
                reads.get::<Grant>(id.as_str()).await?
            }
        };
        let subject = stored.as_ref().map(|code| &code.authorization.subject);
        let live = subject.and_then(|subject| app.directory.node(&subject.node_id));
        let publisher = app.publisher(client, subject);
        let asking = self.asking(live.as_ref(), publisher.as_ref());
        let outcome = code::redeem(&asking, &presented, stored, issued, &app.secret, rng);
        below_ceiling(reads, outcome).await
    }

    async fn refresh(&self, reads: &mut Reads<'_>, rng: &mut (dyn RngCore + Send)) -> Result<Outcome, StoreError> {
        let Self { app, client, .. } = *self;
        let token = match refresh::presented(self.params) {
            Ok(token) => token,
            Err(error) => return Ok(error.into()),
        };
        let grant = reads.get::<Grant>(token.grant().as_str()).await?;
        let live = grant
            .as_ref()
            .and_then(|grant| app.directory.node(&grant.authorization.subject.node_id));
        let subject = grant.as_ref().map(|grant| &grant.authorization.subject);
        let publisher = app.publisher(client, subject);
        let asking = self.asking(live.as_ref(), publisher.as_ref());
        Ok(refresh::refresh(&asking, &token, grant, rng))
    }
}

/// `outcome`, or a refusal that spends nothing when it would make one grant too many.
async fn below_ceiling(reads: &Reads<'_>, outcome: Outcome) -> Result<Outcome, StoreError> {
    if let Outcome::Issued { writes, .. } = &outcome
        && let Some(grant) = &writes.grant
    {
        let counter = Grant::counter(&grant.authorization.subject.owner);
        if reads.counter(&counter).await? >= MAX_PER_OWNER {
            return Ok(Grant::too_many().into());
        }
    }
    Ok(outcome)
}

/// What is to be stored; nothing when nothing changed.
fn transaction(
    reads: Reads<'_>,
    exchange: &Exchange,
    caller: &Caller,
    authenticated: &Authenticated,
    writes: Writes,
    suspicious: bool,
    result: &Result<Box<Tokens>, OAuthError>,
) -> Result<Option<Txn>, StoreError> {
    let opaque = result.as_ref().ok().and_then(|tokens| tokens.access.record());
    let first_use = authenticated.client.unused_until.filter(|_| result.is_ok());
    let unchanged = writes.code.is_none() && writes.grant.is_none() && opaque.is_none() && first_use.is_none();
    if unchanged && !suspicious && !authenticated.must_be_spent() {
        return Ok(None);
    }
    let client = &authenticated.client;
    let mut txn = reads.into_txn();
    authenticated.spend(&mut txn)?;
    if let Some(at) = first_use {
        consent::mark_used(&mut txn, client, at)?;
    }
    if let Some(token) = opaque {
        txn.put(token)?;
        txn.count(&token.counter(), 1, Some(MAX_PER_CLIENT));
        txn.put(&Due {
            at: token.expires_at,
            what: DueKind::Opaque,
            id: token.hash.to_text(),
        })?;
    }
    let is_new = matches!(writes.code, Some(CodeEnd::Redeemed(_)));
    match &writes.code {
        Some(CodeEnd::Redeemed(code)) => txn.remove(&**code),
        Some(CodeEnd::Spent(code)) => txn.put(&**code)?,
        None => {}
    }
    if let Some(grant) = &writes.grant {
        txn.put(&**grant)?;
        if is_new {
            let owner = &grant.authorization.subject.owner;
            txn.count(&Grant::counter(owner), 1, Some(MAX_PER_OWNER));
        }
    }
    let audit = |event| AuditRecord::by(caller, event, &exchange.request_id, exchange.now).about(&client.id);
    if is_new {
        txn.audit(&audit("code_redeemed"))?;
    }
    if let (true, Err(error)) = (suspicious, result) {
        txn.audit(&audit("token_refused").with_detail(error.description()))?;
    }
    Ok(Some(txn))
}

async fn signed(signer: &Arc<Signer>, tokens: Tokens) -> Result<Reply, SignError> {
    let access_token = match &tokens.access {
        NewAccessToken::Jwt(claims) => Zeroizing::new(signer.sign(Type::AccessToken, claims).await?),
        NewAccessToken::Opaque { secret, .. } => Zeroizing::new(secret.reveal().to_owned()),
    };
    let id_token = match tokens.id {
        Some(mut claims) => {
            claims.insert("at_hash".into(), Value::from(signer.alg().at_hash(&access_token)));
            Some(signer.sign(Type::IdToken, &claims).await?)
        }
        None => None,
    };
    Ok(reply::json(
        status::FOUND,
        &Response {
            access_token: &access_token,
            token_type: "Bearer",
            expires_in: tokens.expires_in.whole_seconds(),
            scope: tokens.scopes.join(" "),
            id_token: id_token.as_deref(),
            refresh_token: tokens.refresh.as_deref().map(String::as_str),
        },
    ))
}

/// Why there are no tokens.
pub(crate) enum TokenError {
    /// The client is told why; its id goes into the log.
    Refused(String, OAuthError),
    /// Our own fault.
    Failed(Failure),
}

impl TokenError {
    /// Tells the log, and the client as much as it may know. `event` is what was asked for.
    pub(crate) fn reply(self, event: &str, exchange: &Exchange, caller: &Caller) -> Reply {
        match self {
            Self::Refused(client, error) => {
                event::refused(event, exchange, caller, &client, &error);
                reply::challenge(&error, "Basic")
            }
            Self::Failed(error) => {
                tracing::error!(%error, request_id = exchange.request_id, "{event}: the request failed on our side");
                reply::failed(&exchange.request_id)
            }
        }
    }
}

/// What failed on our side.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the system has no random bytes: {0}")]
    Entropy(#[from] getrandom::Error),
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl From<Failure> for TokenError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<StoreError> for TokenError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}
