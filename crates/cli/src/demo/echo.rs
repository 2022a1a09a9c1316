//! The protected server: a node of its own that answers with who calls, to whoever brings a token for it.
//!
//! It does what any resource server of MCP does (RFC 9728, RFC 9068): without a token it names its metadata; with one
//! it checks signature, issuer, audience and expiry against the keys of the authorization server. Being on the tailnet,
//! it can do one thing more: WireGuard says which node a connection comes from, and the token says in `cnf` which node
//! may present it, so a stolen token opens nothing.

use std::{path::Path, sync::Arc, time::Duration};

use hyper::{
    HeaderMap, Request, StatusCode,
    body::Incoming,
    header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE},
};
use jsonwebtoken::jwk::JwkSet;
use serde_json::{Value, json};
use tailnet_node::{Caller, Identity, Listener, Node, Who};
use tailnet_testkit::{AuthKeySpec, Tailnet};
use tokio::{sync::Mutex, task::JoinSet, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use super::{
    BoxError,
    client::Client,
    people::{self, ECHO_TAG},
    server::Idp,
    token::{self, AccessToken},
    web::{self, Reply},
};

/// Where a server says which authorization server it trusts (RFC 9728 3).
pub(super) const METADATA: &str = "/.well-known/oauth-protected-resource";
/// Keys are asked for again no sooner than this, however many tokens name unknown ones.
const KEYS_AGE: Duration = Duration::from_secs(10);

/// The running server.
pub(super) struct Echo {
    node: Arc<Node>,
    address: String,
    _task: AbortOnDropHandle<()>,
}

impl Echo {
    /// Joins and serves at [`people::ECHO`], trusting tokens of `idp`.
    pub(super) async fn start(tailnet: &Tailnet, folder: &Path, idp: &Idp) -> Result<Self, BoxError> {
        let key = tailnet.auth_key(AuthKeySpec::tags(&[ECHO_TAG]))?;
        let config = tailnet.node_config(folder.join("echo"), "echo", Some(&key))?;
        let node = Arc::new(Node::start(config).await?);
        let info = tailnet.wait_online("echo", people::PATIENCE).await?;
        let guard = Arc::new(Guard {
            node: Arc::clone(&node),
            issuer: idp.issuer().to_owned(),
            issuer_host: idp.host().to_owned(),
            root: idp.root().to_owned(),
            keys: Mutex::new(None),
        });
        let task = tokio::spawn(accept(node.listen(80)?, guard));
        Ok(Self {
            node,
            address: info.addresses.first().map(ToString::to_string).unwrap_or_default(),
            _task: AbortOnDropHandle::new(task),
        })
    }

    /// Its tailnet address.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Takes it off the tailnet.
    pub(super) async fn end(&self, grace: Duration) {
        self.node.shutdown(grace).await;
    }
}

async fn accept(mut listener: Listener, guard: Arc<Guard>) {
    let mut connections = JoinSet::new();
    while let Ok(connection) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (stream, caller) = connection.into_parts();
        let guard = Arc::clone(&guard);
        connections.spawn(async move {
            let answer = |request: Request<Incoming>| guard.answer(&caller, request);
            web::serve(stream, answer).await;
        });
    }
}

/// Who may come in.
struct Guard {
    node: Arc<Node>,
    issuer: String,
    issuer_host: String,
    root: String,
    keys: Mutex<Option<(JwkSet, Instant)>>,
}

/// Why somebody may not.
enum Refusal {
    NoToken,
    BadToken(String),
}

impl Guard {
    async fn answer(&self, caller: &Caller, request: Request<Incoming>) -> Reply {
        if request.uri().path() == METADATA {
            let metadata = json!({
                "resource": people::ECHO,
                "authorization_servers": [self.issuer],
                "bearer_methods_supported": ["header"],
            });
            return web::json(StatusCode::OK, &metadata);
        }
        match self.admit(caller, request.headers()).await {
            Ok((who, token)) => web::json(StatusCode::OK, &greeting(&who, &token)),
            Err(refusal) => refusal.reply(),
        }
    }

    async fn admit(&self, caller: &Caller, headers: &HeaderMap) -> Result<(Identity, AccessToken), Refusal> {
        let text = bearer(headers).ok_or(Refusal::NoToken)?;
        let keys = self
            .keys_for(text)
            .await
            .map_err(|error| Refusal::BadToken(error.to_string()))?;
        let token = token::verified(text, &keys, &self.issuer, people::ECHO).map_err(Refusal::BadToken)?;
        let who = caller.identity().map_err(|gone| Refusal::BadToken(gone.to_string()))?;
        if *token.cnf.tailnet_node != *who.stable_id {
            let (theirs, name) = (&token.cnf.tailnet_node, short(&who.node_name));
            let why = format!(
                "it belongs to node {theirs}; WireGuard says that this is {name}, node {}",
                who.stable_id
            );
            return Err(Refusal::BadToken(why));
        }
        Ok((who, token))
    }

    /// The issuer's keys; asked for again when the token names one that is not among them.
    async fn keys_for(&self, token: &str) -> Result<JwkSet, BoxError> {
        let kid = token::key_id(token).unwrap_or_default();
        let mut held = self.keys.lock().await;
        if let Some((keys, asked)) = &*held
            && (keys.find(&kid).is_some() || asked.elapsed() < KEYS_AGE)
        {
            return Ok(keys.clone());
        }
        let mut client = Client::connect(&self.node, &self.issuer_host, &self.root).await?;
        let metadata = client.get("/.well-known/oauth-authorization-server", &[]).await?;
        let path = metadata.field("jwks_uri").strip_prefix(&self.issuer);
        let path = path.ok_or("the issuer's metadata name no keys")?;
        let keys: JwkSet = serde_json::from_str(&client.get(path, &[]).await?.text)?;
        *held = Some((keys.clone(), Instant::now()));
        Ok(keys)
    }
}

impl Refusal {
    fn reply(&self) -> Reply {
        let metadata = format!("resource_metadata=\"{}{METADATA}\"", people::ECHO);
        let (challenge, body) = match self {
            Self::NoToken => (format!("Bearer {metadata}"), json!({"error": "a token is needed"})),
            Self::BadToken(why) => (
                format!("Bearer error=\"invalid_token\", {metadata}"),
                json!({"error": "invalid_token", "error_description": why}),
            ),
        };
        let mut reply = web::json(StatusCode::UNAUTHORIZED, &body);
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            reply.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        reply
    }
}

/// The token of a request (RFC 6750 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn greeting(who: &Identity, token: &AccessToken) -> Value {
    let user = match &who.who {
        Who::User { login, .. } => login.to_string(),
        Who::Tagged(tags) => tags.join(" "),
    };
    json!({
        "caller": {"user": user, "node": &*who.node_name, "id": &*who.stable_id},
        "token": {"sub": token.sub, "client_id": token.client_id, "scope": token.scope},
    })
}

fn short(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests;
