//! What takes access tokens: `/userinfo`, `/introspect` and `/revoke`.

use countersign_oauth::{
    audit::AuditRecord,
    bearer::{self, AccessToken, Asker, Standing},
    caller::Caller,
    client::Client,
    error::{ErrorCode, OAuthError},
    grant::Grant,
    opaque::OpaqueToken,
    params::Params,
    secret::SecretHash,
    token::refresh::RefreshToken,
};
use countersign_store::{CommitError, Reads, StoreError, Txn};
use http::{HeaderMap, Method, Request, header::AUTHORIZATION};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::{
    app::{App, Exchange},
    body,
    endpoints::{
        client_auth::{self, Authenticated},
        token::TokenError,
    },
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
        let mut reads = app.store.reads();
        let Some((token, _)) = access_token(app, &mut reads, text).await? else {
            return Ok(None);
        };
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
    let header = bearer_header(&parts.headers);
    // A POST whose token stands in the header need not have a body.
    let has_form = header.is_none() || body::is(&parts.headers, "application/x-www-form-urlencoded");
    let in_form = if parts.method == Method::POST && has_form {
        match body::form(&parts.headers, incoming, &app.config.limits).await {
            Ok(params) => match (params.one("access_token"), header) {
                (Ok(Some(_)), Some(_)) => {
                    let error = "access_token was sent in the form and in the Authorization header; send it once";
                    return refuse(&OAuthError::new(ErrorCode::InvalidRequest, error));
                }
                (Ok(None), None) => {
                    return refuse(&OAuthError::new(ErrorCode::InvalidRequest, "access_token is missing"));
                }
                (Ok(text), _) => text.map(str::to_owned),
                (Err(error), _) => return refuse(&error),
            },
            Err(reply) => return reply,
        }
    } else {
        None
    };
    let text = match header.map(str::to_owned).or(in_form) {
        Some(text) => text,
        None => {
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

/// The token of `Authorization: Bearer`, if there is one such header.
pub(crate) fn bearer_header(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
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
    let client = match client_auth::shown(app, exchange, &parts.headers, &params).await {
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
    let text = params.required("token");
    let text = text.map_err(|error| TokenError::Refused(String::new(), error))?;
    for _ in 0..ATTEMPTS {
        let mut reads = app.store.reads();
        let authenticated = Authenticated::of(app, exchange, &mut reads, headers, params).await?;
        let client = &authenticated.client;
        let ending = Ending::of(app, exchange, &mut reads, client, text).await?;
        let refusal = ending.is_out_of_reach.then(out_of_reach);
        let mut txn = reads.into_txn();
        authenticated.spend(&mut txn)?;
        let reason = ending.write(&mut txn)?;
        if let Some(reason) = reason {
            let audit = AuditRecord::by(caller, "grant_revoked", &exchange.request_id, exchange.now);
            txn.audit(&audit.about(&client.id).with_detail(reason))?;
        } else if !authenticated.must_be_spent() {
            return Ok(());
        }
        match app.store.commit(txn).await {
            Ok(_) => {
                if let Some(refusal) = refusal {
                    return Err(TokenError::Refused(client.id.to_string(), refusal));
                }
                let (id, what) = (client.id.as_str(), reason.unwrap_or("no token of the client's own"));
                event::decided("revoke", caller, id, Decision::Allowed, &exchange.request_id, what);
                return Ok(());
            }
            Err(CommitError::Conflict(_)) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    let error = OAuthError::new(ErrorCode::TemporarilyUnavailable, "the grant is in use; try again");
    Err(TokenError::Refused(String::new(), error))
}

/// What a revocation ends: the grant of the token, and the token itself if it is one that we keep.
#[derive(Default)]
struct Ending {
    grant: Option<Grant>,
    token: Option<OpaqueToken>,
    /// Whether it is good, and nothing of it is kept here that could be ended.
    is_out_of_reach: bool,
}

/// RFC 7009 2.2.1: a revocation that the server cannot make is not to be taken for made.
fn out_of_reach() -> OAuthError {
    OAuthError::new(
        ErrorCode::UnsupportedTokenType,
        "token: a signed token of client_credentials cannot be revoked and ends by itself within minutes; a client that \
         registers access_token_strategy opaque gets tokens that can",
    )
}

impl Ending {
    /// What `text` stands for, as far as it is `client`'s.
    async fn of(
        app: &App,
        exchange: &Exchange,
        reads: &mut Reads<'_>,
        client: &Client,
        text: &str,
    ) -> Result<Self, StoreError> {
        let mut is_out_of_reach = false;
        let (id, token) = match RefreshToken::parse(text) {
            Some(token) => (Some(token.grant()), None),
            None => match access_token(app, reads, text).await? {
                Some((claims, token)) if claims.client() == client.id => {
                    is_out_of_reach = token.is_none() && claims.grant().is_none() && !claims.has_expired(exchange.now);
                    (claims.grant().cloned(), token)
                }
                _ => return Ok(Self::default()),
            },
        };
        let grant = match id {
            Some(id) => reads.get::<Grant>(id.as_str()).await?,
            None => None,
        };
        let grant = grant.filter(|grant| grant.authorization.client == client.id && !grant.revoked);
        Ok(Self {
            grant,
            token,
            is_out_of_reach,
        })
    }

    /// Writes the end; says what ended, if anything did.
    fn write(self, txn: &mut Txn) -> Result<Option<&'static str>, StoreError> {
        if let Some(token) = &self.token {
            txn.remove(token);
            txn.count(&token.counter(), -1, None);
        }
        match self.grant {
            Some(grant) => {
                txn.put(&Grant { revoked: true, ..grant })?;
                Ok(Some("the grant was revoked"))
            }
            None => Ok(self.token.map(|_| "the access token was revoked")),
        }
    }
}

/// The claims of an access token of ours, and its record if it is opaque; `None` for any other text.
async fn access_token(
    app: &App,
    reads: &mut Reads<'_>,
    text: &str,
) -> Result<Option<(AccessToken, Option<OpaqueToken>)>, StoreError> {
    if let Some(claims) = app.keys.access_claims(text) {
        return Ok(AccessToken::read(&claims).ok().map(|claims| (claims, None)));
    }
    let record = reads.get::<OpaqueToken>(SecretHash::of(text).to_text()).await?;
    Ok(record.and_then(|record| Some((AccessToken::of_opaque(&record).ok()?, Some(record)))))
}
