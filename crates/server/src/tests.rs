//! Whole requests over a connection in memory, with a fake tailnet that says who calls.

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    pin::Pin,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use countersign_oauth::{
    caller::{Caller, Owner, Who},
    footing::Presence,
    policy::Policy,
    register::Mode,
    rotation,
    signing::SigningAlg,
};
use countersign_store::Store;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::{
    io::{DuplexStream, duplex},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    ClaimSettings, Clock, CounterSnapshot, Directory, Inbound, Issuer, Limits, Peer, Server, ServerConfig, TlsMode,
    TokenSettings, Wanted, Withdrawn, sweep,
};

mod claims;
mod client_auth;
mod flow;
mod form_post;
mod forms;
mod grants;
mod http2;
mod input;
mod keys;
mod limits;
mod logout;
mod me;
mod names;
mod opaque;
mod par;
mod policy;
mod registration;
mod revocation;
mod secrecy;
mod sequences;
mod session;
mod speed;
mod threats;
mod tickets;
mod tls;
mod upkeep;
mod watcher;

const HOST: &str = "idp.example.ts.net";

/// A node of the fake tailnet; its facts can change while it is connected.
#[derive(Clone)]
struct Node {
    facts: Arc<Mutex<Caller>>,
    vouched: watch::Sender<bool>,
    admitted: Arc<AtomicBool>,
}

impl Node {
    fn user(id: i64, login: &str, rules: &[&str]) -> Self {
        Self::new(Caller {
            node_id: format!("n{login}"),
            node_number: id,
            node_name: format!("{login}-laptop.example.ts.net"),
            node_key: format!("nodekey:{login}"),
            addresses: Vec::new(),
            who: Who::User {
                id,
                login: login.into(),
                display_name: login.into(),
                picture: String::new(),
            },
            routes: false,
            shared: false,
            policy: Policy::parse(rules.iter().copied()),
            netmap_age: Duration::ZERO,
        })
    }

    fn alice() -> Self {
        Self::user(1, "alice", &[r#"{"allow_dcr":true}"#])
    }

    fn bob() -> Self {
        Self::user(2, "bob", &[])
    }

    fn new(facts: Caller) -> Self {
        Self {
            facts: Arc::new(Mutex::new(facts)),
            vouched: watch::Sender::new(true),
            admitted: Arc::new(AtomicBool::new(true)),
        }
    }

    fn withdraw(&self) {
        self.vouched.send_replace(false);
    }
}

impl Peer for Node {
    fn caller(&self) -> Result<Caller, Withdrawn> {
        if *self.vouched.borrow() {
            Ok(self.facts.lock().clone())
        } else {
            Err(Withdrawn("expired".into()))
        }
    }

    fn withdrawn(&self) -> Pin<Box<dyn Future<Output = Withdrawn> + Send + '_>> {
        let mut vouched = self.vouched.subscribe();
        Box::pin(async move {
            let _ = vouched.wait_for(|vouched| !vouched).await;
            Withdrawn("expired".into())
        })
    }
}

struct Wire(mpsc::Receiver<(DuplexStream, Arc<dyn Peer>)>);

impl Inbound for Wire {
    type Io = DuplexStream;

    fn accept(&mut self) -> impl Future<Output = Option<(DuplexStream, Arc<dyn Peer>)>> + Send {
        self.0.recv()
    }
}

/// A running server and the way into it.
struct Rig {
    server: Server,
    store: Store,
    nodes: Nodes,
    seconds: Arc<AtomicI64>,
    dial: mpsc::Sender<(DuplexStream, Arc<dyn Peer>)>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), crate::ServeError>>,
}

fn config() -> ServerConfig {
    ServerConfig {
        issuer: Issuer::parse(&format!("http://{HOST}")).unwrap(),
        tls: TlsMode::Off,
        registration: Mode::Capability,
        own_names: vec!["tag:internal-idp".into()],
        cors_origins: vec!["https://inspector.example".into()],
        netmap_max_age: Duration::from_secs(86_400),
        routers_are_users: false,
        dcr_max_clients_per_user: 0,
        rate_limit_per_peer: 0,
        rate_limit: 0,
        require_grant: false,
        tokens: TokenSettings::default(),
        claims: ClaimSettings::default(),
        audit_retention: Duration::from_secs(90 * 86_400),
        limits: Limits::default(),
    }
}

/// The nodes that the fake tailnet has, connected or not.
#[derive(Clone)]
struct Nodes {
    all: Arc<Mutex<HashMap<String, Node>>>,
    joined: Arc<AtomicBool>,
    /// Whoever asks about a node panics.
    broken: Arc<AtomicBool>,
    changes: watch::Sender<u64>,
}

impl Nodes {
    fn new() -> Self {
        Self {
            all: Arc::default(),
            joined: Arc::new(AtomicBool::new(true)),
            broken: Arc::default(),
            changes: watch::Sender::new(0),
        }
    }

    fn add(&self, node: &Node) {
        let id = node.facts.lock().node_id.clone();
        self.all.lock().insert(id, node.clone());
    }

    fn remove(&self, node: &Node) {
        self.all.lock().remove(&node.facts.lock().node_id);
    }

    /// As the node announces a netmap, once it is in force.
    fn announce(&self) {
        self.changes.send_modify(|version| *version += 1);
    }
}

impl Directory for Nodes {
    fn presence(&self, stable_id: &str) -> Presence {
        if !self.joined.load(Relaxed) {
            return Presence::Unknown;
        }
        let nodes = self.all.lock();
        match nodes.get(stable_id) {
            None => Presence::Gone,
            Some(node) if !node.admitted.load(Relaxed) => Presence::CutOff,
            Some(node) => node
                .caller()
                .map_or(Presence::Expired, |caller| Presence::Here(Box::new(caller))),
        }
    }

    fn mark(&self, stable_id: &str) -> u64 {
        assert!(!self.broken.load(Relaxed), "as a test wants it");
        let mut hasher = DefaultHasher::new();
        match self.presence(stable_id) {
            Presence::Here(caller) => {
                format!("{:?}", (caller.who, caller.routes, caller.shared, caller.policy)).hash(&mut hasher);
            }
            other => format!("{other:?}").hash(&mut hasher),
        }
        hasher.finish()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn rules(&self) -> Vec<String> {
        let policies = self
            .all
            .lock()
            .values()
            .map(|node| node.facts.lock().policy.clone())
            .collect::<Vec<_>>();
        let rules = policies
            .iter()
            .flat_map(|policy| (1..=policy.len()).filter_map(|number| policy.text(number)));
        rules.map(str::to_owned).collect()
    }

    fn nodes_of(&self, user: i64) -> BTreeSet<String> {
        let nodes = self.all.lock();
        let own = nodes.values().map(|node| node.facts.lock());
        own.filter(|facts| facts.owner() == Owner::User(user))
            .map(|facts| facts.node_id.clone())
            .collect()
    }

    fn find(&self, wanted: &Wanted<'_>, limit: usize) -> Vec<Caller> {
        let nodes = self.all.lock();
        let known = nodes.values().filter_map(|node| node.caller().ok());
        known
            .filter(|node| wanted.means(&node.user_label(), &node.node_name, &node.node_id))
            .take(limit)
            .collect()
    }
}

impl Rig {
    async fn start(config: ServerConfig) -> Self {
        Self::on(config, Store::in_memory().unwrap()).await
    }

    async fn on(config: ServerConfig, store: Store) -> Self {
        Self::with(config, store, Nodes::new()).await
    }

    /// On a store, at a time in seconds.
    async fn at(config: ServerConfig, store: Store, seconds: i64) -> Self {
        Self::among(config, store, Nodes::new(), seconds).await
    }

    /// Among nodes that may have been there before.
    async fn with(config: ServerConfig, store: Store, nodes: Nodes) -> Self {
        Self::among(config, store, nodes, OffsetDateTime::now_utc().unix_timestamp()).await
    }

    async fn among(config: ServerConfig, store: Store, nodes: Nodes, seconds: i64) -> Self {
        let seconds = Arc::new(AtomicI64::new(seconds));
        let clock = Clock::from_fn({
            let seconds = Arc::clone(&seconds);
            move || OffsetDateTime::from_unix_timestamp(seconds.load(Relaxed)).unwrap()
        });
        let server = Server::new(config, store.clone(), clock, Arc::new(nodes.clone()))
            .await
            .unwrap();
        let (dial, wire) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (server, stop) = (server.clone(), stop.clone());
            async move { server.serve(Wire(wire), stop).await }
        });
        Self {
            server,
            store,
            nodes,
            seconds,
            dial,
            stop,
            task,
        }
    }

    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.seconds.load(Relaxed)).unwrap()
    }

    async fn connect(&self, node: &Node) -> DuplexStream {
        let id = node.facts.lock().node_id.clone();
        self.nodes.all.lock().entry(id).or_insert_with(|| node.clone());
        let (ours, theirs) = duplex(64 << 10);
        self.dial.send((theirs, Arc::new(node.clone()))).await.unwrap();
        ours
    }

    async fn client(&self, node: &Node) -> Client {
        Client::over(self.connect(node).await).await
    }

    fn counters(&self) -> CounterSnapshot {
        self.server.counters()
    }
}

/// An HTTP/1.1 client on one connection.
struct Client(SendRequest<Full<Bytes>>);

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Client {
    async fn over<Io>(io: Io) -> Self
    where
        Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn try_send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        self.0.ready().await?;
        let response: Response<hyper::body::Incoming> = self.0.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(body.collect().await?.to_bytes().to_vec()).unwrap();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            text,
        })
    }

    async fn send(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", HOST);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.try_send(request.body(Full::new(body.into())).unwrap())
            .await
            .unwrap()
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    async fn register(&mut self, body: &Value) -> Answer {
        self.send(
            Method::POST,
            "/register",
            &[("content-type", "application/json")],
            body.to_string(),
        )
        .await
    }
}

fn public_client() -> Value {
    json!({
        "client_name": "Claude Code",
        "redirect_uris": ["http://localhost/callback"],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
    })
}
