//! What the flow tests share: the `countersign` binary as a process on a tailnet of the test, and people who ask it.
#![allow(clippy::expect_used, reason = "helpers of tests")]

mod browser;
mod process;
mod stage;

use std::path::PathBuf;

use tailnet_node::Node;
use tailnet_testkit::{AuthKeySpec, Tailnet, TailnetConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub use self::{
    browser::{Answer, Client},
    process::{Example, Notifications, PATIENCE, Served, binary, countersign},
    stage::{IDP, Stage, policy},
};

/// Alice, to whom the policy grants `allow_dcr`.
pub const ALICE: &str = "alice@example.com";
/// Bob, who reaches the server and has no grant.
pub const BOB: &str = "bob@example.com";

/// A tailnet with a place for the server.
pub struct Scene {
    /// The tailnet.
    pub tailnet: Tailnet,
    folder: TempDir,
}

impl Scene {
    /// Alice may register, bob may only look.
    pub async fn new() -> Self {
        let policy = format!(
            r#"{{"tagOwners": {{"tag:internal-idp": ["{ALICE}"], "tag:other": ["{ALICE}"]}},
                "grants": [{{"src": ["*"], "dst": ["*"], "ip": ["*"]}},
                           {{"src": ["{ALICE}"], "dst": ["tag:internal-idp"],
                             "app": {{"tailscale.com/cap/tsidp": [{{"allow_dcr": true}}]}}}}]}}"#
        );
        let config = TailnetConfig {
            policy: Some(policy),
            ..TailnetConfig::default()
        };
        let tailnet = Tailnet::start(config).await.expect("a tailnet");
        let folder = TempDir::new().expect("a folder");
        tailnet
            .write_ca(&folder.path().join("ca.pem"))
            .expect("the CA is written");
        Self { tailnet, folder }
    }

    /// A path in the folder of the scene.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new pre-auth key in a file.
    pub fn key_file(&self, spec: AuthKeySpec) -> PathBuf {
        let key = self.tailnet.auth_key(spec).expect("a key");
        let path = self.path("auth_key");
        std::fs::write(&path, key).expect("the key is written");
        path
    }

    /// The flags with which a server joins and serves plain http, its state in the folder `state`.
    pub fn flags(&self, state: &str) -> Vec<String> {
        [self.join_flags(state), vec!["--tls".to_owned(), "off".to_owned()]].concat()
    }

    /// The flags with which a node joins, its state in the folder `state`.
    pub fn join_flags(&self, state: &str) -> Vec<String> {
        let path = |name: &str| self.path(name).display().to_string();
        let control = self.tailnet.control_url().to_owned();
        [
            ["--state-dir".to_owned(), path(state)],
            ["--control-url".to_owned(), control],
            ["--extra-ca-file".to_owned(), path("ca.pem")],
        ]
        .concat()
    }

    /// A node of a user.
    pub async fn person(&self, name: &str, login: &str) -> Node {
        let key = self.tailnet.auth_key(AuthKeySpec::user(login)).expect("a key");
        let config = self
            .tailnet
            .node_config(self.path(name), name, Some(&key))
            .expect("settings");
        Node::start(config).await.expect("the node joins")
    }
}

/// One plain http request from a node, and the whole answer as text.
pub async fn ask(node: &Node, server: &str, request: &str) -> String {
    let exchange = async {
        let mut stream = node.dial(&format!("{server}:80")).await.expect("the server is reached");
        stream.write_all(request.as_bytes()).await.expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer comes");
        answer
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .expect("an answer in time")
}

/// A registration request for `host`.
pub fn registration(host: &str) -> String {
    let body = r#"{"redirect_uris":["http://127.0.0.1/callback"],"client_name":"flow"}"#;
    format!(
        "POST /register HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}
