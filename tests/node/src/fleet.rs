//! Nodes of ours on a tailnet of ours.

use std::{path::PathBuf, time::Duration};

use tailnet_node::{Caller, Listener, Node, NodeConfig, StartError, Stream};
use tailnet_testkit::{AuthKeySpec, NodeInfo, Tailnet, TailnetConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Alice's group, as tests name it.
pub const ALICE: &str = "alice@example.com";
/// Bob's.
pub const BOB: &str = "bob@example.com";
/// The server's tag.
pub const SERVER: &str = "tag:server";
/// The port that [`policy`] opens.
pub const PORT: u16 = 443;
/// Longer than anything on loopback takes, unless it never happens.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A policy in which alice reaches the server at [`PORT`] with the capabilities in `app`, and bob does not.
pub fn policy(app: &str) -> String {
    format!(
        r#"{{
            "groups": {{"group:eng": ["{ALICE}"], "group:sales": ["{BOB}"]}},
            "tagOwners": {{"{SERVER}": ["group:eng"], "tag:client": ["group:eng"]}},
            "grants": [{{"src": ["group:eng", "tag:client"], "dst": ["{SERVER}"],
                         "ip": ["tcp:{PORT}", "udp:{PORT}", "icmp:*"], "app": {app}}}]
        }}"#
    )
}

/// A policy with the same names and no grant at all.
pub fn no_grants() -> String {
    format!(r#"{{"tagOwners": {{"{SERVER}": ["{ALICE}"], "tag:client": ["{ALICE}"]}}, "grants": []}}"#)
}

/// A tailnet, and the folders of the nodes that join it.
pub struct Fleet {
    /// The tailnet.
    pub tailnet: Tailnet,
    folder: TempDir,
}

impl Fleet {
    /// A tailnet with [`policy`] and one capability.
    pub async fn start() -> Self {
        Self::with(TailnetConfig::default()).await
    }

    /// A tailnet with other settings; without a policy it gets the usual one.
    pub async fn with(config: TailnetConfig) -> Self {
        let usual = || policy(r#"{"example.com/cap/test": [{"role": "admin"}]}"#);
        let policy = config.policy.clone().unwrap_or_else(usual);
        let tailnet = Tailnet::start(TailnetConfig {
            policy: Some(policy),
            ..config
        })
        .await
        .expect("a tailnet");
        Self {
            tailnet,
            folder: TempDir::new().expect("a folder"),
        }
    }

    /// The folder in which a node of this name keeps its state.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Settings of a node that comes with a fresh pre-auth key.
    pub fn config(&self, name: &str, spec: AuthKeySpec) -> NodeConfig {
        let key = self.tailnet.auth_key(spec).expect("a key");
        self.tailnet
            .node_config(self.folder(name), name, Some(&key))
            .expect("settings")
    }

    /// Joins a node and waits until others can reach it.
    pub async fn join(&self, name: &str, spec: AuthKeySpec) -> Node {
        let node = self.try_join(name, spec).await.expect("the node joins");
        self.tailnet
            .wait_online(name, PATIENCE)
            .await
            .expect("the node is online");
        node
    }

    /// Joins a node, or says why it did not.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn try_join(&self, name: &str, spec: AuthKeySpec) -> Result<Node, StartError> {
        Node::start(self.config(name, spec)).await
    }

    /// The server and alice.
    pub async fn pair(&self) -> (Node, Node) {
        let server = self.join("server", AuthKeySpec::tags(&[SERVER])).await;
        let alice = self.join("alice", AuthKeySpec::user(ALICE)).await;
        (server, alice)
    }

    /// What control knows of a node.
    pub fn info(&self, name: &str) -> NodeInfo {
        self.tailnet.node(name).expect("a node of this name")
    }
}

/// Sends some bytes and wants them back.
///
/// # Errors
/// As the connection has it; [`std::io::ErrorKind::TimedOut`] after [`PATIENCE`].
pub async fn echo(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let exchange = async {
        let send = async {
            writer.write_all(bytes).await?;
            writer.flush().await
        };
        let mut got = vec![0; bytes.len()];
        // At once, since what comes back may fill every buffer on the way before the last byte is sent.
        let (sent, received) = tokio::join!(send, reader.read_exact(&mut got));
        sent?;
        received?;
        if got == bytes {
            Ok(())
        } else {
            Err(std::io::Error::other("other bytes came back"))
        }
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .map_err(|_| std::io::ErrorKind::TimedOut)?
}

/// Accepts one connection, echoes whatever comes over it in a task of its own, and gives its caller.
pub async fn accept_echo(listener: &mut Listener) -> Caller {
    let conn = tokio::time::timeout(PATIENCE, listener.accept())
        .await
        .expect("a connection in time")
        .expect("open");
    let (stream, caller) = conn.into_parts();
    tokio::spawn(async move {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
        let _ = writer.shutdown().await;
    });
    caller
}
