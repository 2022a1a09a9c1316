//! What takes access tokens: `/userinfo`, `/introspect` and `/revoke`.

use countersign_oauth::{
    audit::AuditRecord,
    bearer::{self, AccessToken, Asker, Standing},
    caller::Caller,
    client::Client,
    error::{ErrorCode, OAuthError},
    grant::{Grant, GrantId},
    params::Params,
    token::refresh::RefreshToken,
};
use countersign_store::{CommitError, Held, Record as _, StoreError};
use http::{HeaderMap, Method, Request, header::AUTHORIZATION};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::{
    app::{App, Exchange},
    body,
    endpoints::token::{self, TokenError},
    event::{self, Decision},
    reply::{self, Reply},
    status,
};

const ATTEMPTS: usize = 4;

/// Everything a token rests on, read for one request.
struct Facts {
    token: AccessToken,
    grant: Option<Grant>,
    live: Option<Caller>,
    registrant: Option<Caller>,
    client: Option<Client>,
}

impl Facts {
    /// `None` when the text is no access token of ours.
    async fn read(app: &App, text: &str) -> Result<Option<Self>, StoreError> {
        let claims = app.keys.access_claims(text);
        let Some(token) = claims.and_then(|claims| AccessToken::read(&claims).ok()) else {
            return Ok(None);
        };
        let mut reads = app.store.reads();
        let client = reads.get::<Client>(token.client().as_str()).await?;
        let grant = match token.grant() {
            Some(id) => reads.get::<Grant>(id.as_str()).await?,
            None => None,
        };
        let node = match (&grant, &client) {
            (Some(grant), _) => Some(&grant.authorization.subject.node_id),
            (None, Some(client)) => Some(&client.registrant.node_id),
            (None, None) => None,
        };
        Ok(Some(Self {
            live: node.and_then(|id| app.directory.node(id)),
            registrant: client.as_ref().and_then(|client| {
                let subject = grant.as_ref().map(|grant| &grant.authorization.subject);
                app.publisher(client, subject)
            }),
            client,
            token,
            grant,
        }))
    }

    fn standing(&self) -> Standing<'_> {
        Standing {
            grant: self.grant.as_ref(),
            live: self.live.as_ref(),
            registrant: self.registrant.as_ref(),
            client: self.client.as_ref(),
        }
    }
}

fn failed(exchange: &Exchange, error: &StoreError) -> Reply {
    tracing::error!(%error, request_id = exchange.request_id, "what a token rests on could not be read");
    reply::failed(&exchange.request_id)
}

/// `GET` and `POST /userinfo`.
pub(crate) async fn userinfo(app: &App, exchange: &Exchange, caller: &Caller, request: Request<Incoming>) -> Reply {
    let (parts, incoming) = request.into_parts();
    let refuse = |error: &OAuthError| {
        event::refused("userinfo", exchange, caller, "", error);
        reply::challenge(error, "Bearer")
    };
    let text = match (bearer_header(&parts.headers), &parts.method) {
        (Some(text), _) => text.to_owned(),
        (None, &Method::POST) => match body::form(&parts.headers, incoming, &app.config.limits).await {
            Ok(params) => match params.required("access_token") {
                Ok(text) => text.to_owned(),
                Err(error) => return refuse(&error),
            },
            Err(reply) => return reply,
        },
        (None, _) => {
            let error = OAuthError::new(
                ErrorCode::InvalidToken,
                "send the access token as Authorization: Bearer",
            );
            return refuse(&error);
        }
    };
    let facts = match Facts::read(app, &text).await {
        Ok(facts) => facts,
        Err(error) => return failed(exchange, &error),
    };
    let claims = match &facts {
        Some(facts) => bearer::userinfo(&facts.token, &facts.standing(), &app.tokens, exchange.now),
        None => Err(OAuthError::new(
            ErrorCode::InvalidToken,
            "the access token is malformed, expired, revoked or not meant for this",
        )),
    };
    match claims {
        Ok(claims) => reply::json(status::FOUND, &Value::from(claims)),
        Err(error) => refuse(&error),
    }
}

/// The token of `Authorization: Bearer`.
pub(crate) fn bearer_header(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// `POST /introspect` (RFC 7662), for the resource server that the token is meant for.
pub(crate) async fn introspect(app: &App, exchange: &Exchange, caller: &Caller, request: Request<Incoming>) -> Reply {
    let (parts, incoming) = request.into_parts();
    // A page in a browser on the resource server's node must not speak for it.
    let by_a_page =
        parts.headers.contains_key("origin") || parts.headers.get("sec-fetch-site").is_some_and(|site| site != "none");
    if by_a_page {
        let error = OAuthError::new(ErrorCode::AccessDenied, "introspection is not for pages in a browser");
        event::refused("introspect", exchange, caller, "", &error);
        return reply::error_with_status(status::FOREIGN_ORIGIN, &error);
    }
    let params = match body::form(&parts.headers, incoming, &app.config.limits).await {
        Ok(params) => params,
        Err(reply) => return reply,
    };
    let text = match params.required("token") {
        Ok(text) => text,
        Err(error) => return reply::oauth_error(&error),
    };
    let client = match asking_client(app, &parts.headers, &params).await {
        Ok(client) => client,
        Err(error) => return error.reply("introspect", exchange, caller),
    };
    match Facts::read(app, text).await {
        Ok(Some(facts)) => {
            let asker = Asker {
                caller,
                client: client.as_ref(),
            };
            let answer = bearer::introspect(Some(&facts.token), &facts.standing(), &asker, &app.tokens, exchange.now);
            reply::json(status::FOUND, &answer)
        }
        Ok(None) => reply::json(status::FOUND, &json!({ "active": false })),
        Err(error) => failed(exchange, &error),
    }
}

/// The client as which a request authenticates; none when it shows nothing, and asks as its node alone.
async fn asking_client(app: &App, headers: &HeaderMap, params: &Params) -> Result<Option<Client>, TokenError> {
    let shown = headers.contains_key(AUTHORIZATION)
        || ["client_secret", "client_assertion"]
            .iter()
            .any(|name| params.many(name).next().is_some());
    if !shown {
        return Ok(None);
    }
    let mut reads = app.store.reads();
    token::authenticated(&mut reads, headers, params).await.map(Some)
}

/// `POST /revoke` (RFC 7009): a refresh or access token of the client's own ends its whole grant.
pub(crate) async fn revoke(app: &App, exchange: &Exchange, caller: &Caller, request: Request<Incoming>) -> Reply {
    let (parts, incoming) = request.into_parts();
    let params = match body::form(&parts.headers, incoming, &app.config.limits).await {
        Ok(params) => params,
        Err(reply) => return reply,
    };
    match end(app, exchange, caller, &parts.headers, &params).await {
        // RFC 7009 2.2: also for a token that is unknown.
        Ok(()) => reply::json(status::FOUND, &json!({})),
        Err(error) => error.reply("revoke", exchange, caller),
    }
}

async fn end(
    app: &App,
    exchange: &Exchange,
    caller: &Caller,
    headers: &HeaderMap,
    params: &Params,
) -> Result<(), TokenError> {
    for _ in 0..ATTEMPTS {
        let mut reads = app.store.reads();
        let client = token::authenticated(&mut reads, headers, params).await?;
        let text = params
            .required("token")
            .map_err(|error| TokenError::Refused(client.id.to_string(), error))?;
        let Some(id) = grant_of(app, text) else { return Ok(()) };
        let grant = reads.get::<Grant>(id.as_str()).await?;
        let Some(grant) = grant.filter(|grant| grant.authorization.client == client.id && !grant.revoked) else {
            return Ok(());
        };
        let mut txn = reads.into_txn();
        txn.delete::<Held>(Held::grant(&grant).id());
        txn.put(&Grant { revoked: true, ..grant })?;
        let audit = AuditRecord::by(caller, "grant_revoked", &exchange.request_id, exchange.now);
        txn.audit(&audit.about(&client.id))?;
        match app.store.commit(txn).await {
            Ok(_) => {
                let id = client.id.as_str();
                event::decided(
                    "revoke",
                    caller,
                    id,
                    Decision::Allowed,
                    &exchange.request_id,
                    "the grant was revoked",
                );
                return Ok(());
            }
            Err(CommitError::Conflict(_)) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    let error = OAuthError::new(ErrorCode::TemporarilyUnavailable, "the grant is in use; try again");
    Err(TokenError::Refused(String::new(), error))
}

fn grant_of(app: &App, text: &str) -> Option<GrantId> {
    if let Some(token) = RefreshToken::parse(text) {
        return Some(token.grant());
    }
    let claims = app.keys.access_claims(text)?;
    AccessToken::read(&claims).ok()?.grant().cloned()
}
