//! A server in the test's own process, so that its store and counters can be looked at.

use std::{path::PathBuf, sync::Arc, time::Duration};

use countersign_oauth::register::Mode;
use countersign_server::{
    ClaimSettings, Clock, Issuer, Limits, Server, ServerConfig, TailnetDirectory, TailnetInbound, TlsMode,
    TokenSettings, issuer, names_in_policy,
};
use countersign_store::{OpenOptions, Store};
use tailnet_node::Node;
use tailnet_testkit::{AuthKeySpec, Tailnet, TailnetConfig};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Client, PATIENCE};

/// The tag of the server, as small installations have it.
pub const IDP: &str = "tag:internal-idp";
/// A policy: alice's and bob's groups reach the server, and each has the rules given here.
pub fn policy(eng: &str, sales: &str) -> String {
    format!(
        r#"{{
            "groups": {{"group:eng": ["alice@example.com"], "group:sales": ["bob@example.com"]}},
            "tagOwners": {{"{IDP}": ["group:eng"], "tag:app": ["group:eng"]}},
            "grants": [
                {{"src": ["group:eng"], "dst": ["{IDP}"], "ip": ["tcp:443"], "app": {{"tailscale.com/cap/tsidp": {eng}}}}},
                {{"src": ["group:sales"], "dst": ["{IDP}"], "ip": ["tcp:443"], "app": {{"tailscale.com/cap/tsidp": {sales}}}}}
            ]
        }}"#
    )
}

/// A tailnet with a server on it.
pub struct Stage {
    /// The tailnet.
    pub tailnet: Tailnet,
    folder: TempDir,
    registration: Mode,
    https: bool,
    running: Option<Running>,
}

struct Running {
    node: Arc<Node>,
    server: Server,
    store: Store,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Stage {
    /// A tailnet with this policy, and the server on it.
    pub async fn start(policy: &str, registration: Mode) -> Self {
        Self::start_as(policy, registration, true).await
    }

    /// The same with `tls = off`: plain http on port 80.
    pub async fn start_plain(policy: &str, registration: Mode) -> Self {
        Self::start_as(policy, registration, false).await
    }

    async fn start_as(policy: &str, registration: Mode, https: bool) -> Self {
        let config = TailnetConfig {
            policy: Some(policy.to_owned()),
            ..TailnetConfig::default()
        };
        let mut stage = Self {
            tailnet: Tailnet::start(config).await.expect("a tailnet"),
            folder: TempDir::new().expect("a folder"),
            registration,
            https,
            running: None,
        };
        stage.start_server().await;
        stage
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Joins a node of a user.
    pub async fn join(&self, name: &str, login: &str) -> Arc<Node> {
        Arc::new(self.join_as(name, AuthKeySpec::user(login)).await)
    }

    async fn join_as(&self, name: &str, spec: AuthKeySpec) -> Node {
        let key = self.tailnet.auth_key(spec).expect("a key");
        let config = self
            .tailnet
            .node_config(self.folder(name), name, Some(&key))
            .expect("settings");
        let node = Node::start(config).await.expect("the node joins");
        self.tailnet
            .wait_online(name, PATIENCE)
            .await
            .expect("the node is online");
        node
    }

    async fn start_server(&mut self) {
        let node = Arc::new(self.join_as("idp", AuthKeySpec::tags(&[IDP])).await);
        let store = Store::open(&OpenOptions {
            folder: self.folder("idp").join("store"),
            node: node.machine_key().to_string(),
            cache_bytes: 4 << 20,
            entropy: [1; 16],
        })
        .expect("a store");
        let status = node.status();
        let port = if self.https { 443 } else { 80 };
        let derived = Issuer::derive(self.https, &status.name, port).expect("an issuer");
        let issuer = issuer::check(&store, &derived, None, OffsetDateTime::now_utc())
            .await
            .expect("the issuer");
        let config = ServerConfig {
            issuer,
            tls: if self.https { TlsMode::InternalCa } else { TlsMode::Off },
            registration: self.registration,
            own_names: names_in_policy(&node),
            cors_origins: Vec::new(),
            netmap_max_age: Duration::from_secs(86_400),
            routers_are_users: false,
            dcr_max_clients_per_user: 100,
            rate_limit_per_peer: 0,
            rate_limit: 0,
            require_grant: false,
            tokens: TokenSettings::default(),
            claims: ClaimSettings::default(),
            audit_retention: Duration::from_secs(90 * 86_400),
            limits: Limits::default(),
        };
        let directory = Arc::new(TailnetDirectory::new(Arc::clone(&node), port));
        let server = Server::new(config, store.clone(), Clock::system(), directory)
            .await
            .expect("a server");
        let inbound = TailnetInbound(node.listen(port).expect("the port is free"));
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (server, stop) = (server.clone(), stop.clone());
            async move { server.serve(inbound, stop).await.expect("it served") }
        });
        self.running = Some(Running {
            node,
            server,
            store,
            stop,
            task,
        });
    }

    /// Stops the server and starts it again on the same state.
    pub async fn restart_server(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop.cancel();
            running.task.await.expect("it stopped");
            running.node.shutdown(Duration::from_secs(2)).await;
            running.store.close().await;
        }
        self.start_server().await;
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the server runs")
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.running().server
    }

    /// Its store.
    pub fn store(&self) -> &Store {
        &self.running().store
    }

    /// The node it is on.
    pub fn server_node(&self) -> &Node {
        &self.running().node
    }

    /// A connection from a node, over TLS unless that is off, as a client that trusts the server's root makes it.
    pub async fn client(&self, node: &Node) -> Client {
        Client::connect(node, self.server()).await
    }
}
