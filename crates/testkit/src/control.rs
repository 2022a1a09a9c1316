//! The control server: what a node finds behind its `control_url`.
//!
//! A TLS connection carries one HTTP/1.1 request: `GET /key`, the page of a login, the answer to a ping, or the
//! upgrade to ts2021. After the upgrade [`noise`] makes a byte stream of it, on which HTTP/2 serves [`machine`]:
//! registration, and the map streams of [`session`], whose messages [`mapper`] computes.

mod machine;
mod mapper;
mod noise;
mod session;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tailnet_wire::{
    control::{DerpMap, NodeId, ServerKeys},
    key::MachinePrivate,
};
use tokio::{
    io::AsyncWriteExt,
    sync::{mpsc, oneshot},
};

pub(crate) use self::session::Injection;
use crate::{
    http::{self, Head},
    network::Nat,
    random,
    registry::Registry,
    service::{Connection, Serve},
};

/// What does not change while the server lives.
pub(crate) struct Settings {
    /// MagicDNS suffix, such as `tailnet.test`.
    pub(crate) base_domain: String,
    /// Whether nodes are told that the tailnet is locked.
    pub(crate) locked: bool,
    /// Whether nodes are offered certificates.
    pub(crate) certificates: bool,
    /// The lowest capability version that is served.
    pub(crate) min_version: u16,
    /// How often an idle map stream gets a message.
    pub(crate) keep_alive: Duration,
    /// How long after its last stream an ephemeral node is deleted.
    pub(crate) ephemeral_timeout: Duration,
    pub(crate) derp_map: DerpMap,
}

/// The control server, to be served by a [`Service`](crate::service::Service).
pub(crate) struct Control {
    pub(crate) registry: Arc<Registry>,
    pub(crate) settings: Settings,
    pub(crate) nat: Option<Arc<Nat>>,
    key: MachinePrivate,
    /// `https://127.0.0.1:<port>`, known once the port is.
    url: std::sync::OnceLock<String>,
    sessions: Mutex<HashMap<NodeId, Vec<mpsc::Sender<Injection>>>>,
    /// Answers that nodes owe us, by the last segment of the URL they were asked to use.
    awaited: Mutex<HashMap<String, oneshot::Sender<Bytes>>>,
    map_streams: AtomicU64,
}

impl Control {
    pub(crate) fn new(registry: Arc<Registry>, settings: Settings, nat: Option<Arc<Nat>>) -> Self {
        Self {
            registry,
            settings,
            nat,
            key: MachinePrivate::from_random(random::bytes()),
            url: std::sync::OnceLock::new(),
            sessions: Mutex::default(),
            awaited: Mutex::default(),
            map_streams: AtomicU64::new(0),
        }
    }

    pub(crate) fn set_address(&self, address: SocketAddr) {
        let _ = self.url.set(format!("https://{address}"));
    }

    pub(crate) fn url(&self) -> &str {
        self.url.get().map_or("", String::as_str)
    }

    /// How many map streams were ever opened.
    pub(crate) fn map_streams(&self) -> u64 {
        self.map_streams.load(Relaxed)
    }

    /// Hands something to every open stream of a node; the number of streams it went to.
    pub(crate) fn inject(&self, node: NodeId, what: &Injection) -> usize {
        let sessions = self.sessions.lock();
        let streams = sessions.get(&node).map(Vec::as_slice).unwrap_or_default();
        streams
            .iter()
            .filter(|stream| stream.try_send(what.clone()).is_ok())
            .count()
    }

    /// A fresh URL under `/machine/answer/`, and what arrives there.
    pub(crate) fn await_answer(&self) -> (String, oneshot::Receiver<Bytes>) {
        let id = random::hex::<12>();
        let (sender, receiver) = oneshot::channel();
        let url = format!("{}/machine/answer/{id}", self.url());
        self.awaited.lock().insert(id, sender);
        (url, receiver)
    }

    /// Passes on an answer; false when nobody waits for it (any more).
    fn answered(&self, path: &str, body: Bytes) -> bool {
        let id = path.rsplit('/').next().unwrap_or_default();
        self.awaited
            .lock()
            .remove(id)
            .is_some_and(|waiting| waiting.send(body).is_ok())
    }

    /// Headscale asks for the client's version and refuses requests without one.
    fn server_key(&self, head: &Head) -> Vec<u8> {
        let Some(version) = head.parameter("v").and_then(|version| version.parse::<u32>().ok()) else {
            return http::response("400 Bad Request", "text/plain", "could not get capability version");
        };
        if version < 39 {
            return http::response("200 OK", "text/plain", "");
        }
        let keys = ServerKeys {
            public_key: Some(self.key.public()),
            ..ServerKeys::default()
        };
        let body = serde_json::to_string(&keys).unwrap_or_default();
        http::response("200 OK", "application/json", &body)
    }

    fn login_page(&self, id: &str) -> Vec<u8> {
        if !self.registry.lock().logins.contains_key(id) {
            return http::response("404 Not Found", "text/plain", "this login has ended or never began");
        }
        http::response("200 OK", "text/plain", "a test decides whether this node may enter")
    }

    async fn upgrade(self: Arc<Self>, mut connection: Connection, head: &Head, leftover: BytesMut) {
        let initiation = head.header("X-Tailscale-Handshake").and_then(noise::Initiation::read);
        let wanted = head.header("Upgrade").is_some_and(|upgrade| upgrade == noise::UPGRADE);
        let Some(initiation) = initiation.filter(|_| wanted && head.method == "POST") else {
            let refusal = http::response("400 Bad Request", "text/plain", "missing or bad Tailscale handshake");
            let _ = connection.write_all(&refusal).await;
            let _ = connection.shutdown().await;
            return;
        };
        match noise::accept(connection, leftover, &initiation, &self.key, self.settings.min_version).await {
            Ok(session) => machine::serve(self, session).await,
            Err(error) => tracing::debug!(%error, "ts2021 handshake failed"),
        }
    }
}

impl Serve for Control {
    async fn serve(self: Arc<Self>, mut connection: Connection, from: SocketAddr) {
        let Ok(Some((head, leftover))) = http::read_head(&mut connection).await else {
            return;
        };
        tracing::trace!(%from, method = head.method, path = head.path, "control request");
        self.registry.faults.thawed().await;
        let response = match (head.method.as_str(), head.path.as_str()) {
            ("GET", "/key") => self.server_key(&head),
            (_, "/ts2021") => return self.upgrade(connection, &head, leftover).await,
            ("HEAD", path) if path.starts_with("/machine/answer/") => match self.answered(path, Bytes::new()) {
                true => http::response("200 OK", "text/plain", ""),
                false => http::response("404 Not Found", "text/plain", ""),
            },
            ("GET", "/health") => http::response("200 OK", "application/json", r#"{"status":"pass"}"#),
            ("GET", path) => match path.strip_prefix("/register/") {
                Some(id) => self.login_page(id),
                None => http::response("404 Not Found", "text/plain", "not found"),
            },
            _ => http::response("405 Method Not Allowed", "text/plain", "method not allowed"),
        };
        let _ = connection.write_all(&response).await;
        let _ = connection.shutdown().await;
    }
}
