//! What the running server tells about itself: the shape of `status --json`, and where it comes from.
//!
//! Field names are stable: scripts and tests read them. Times are in milliseconds.

mod render;
#[cfg(test)]
pub(crate) mod tests;

use std::{collections::BTreeMap, future::Future, net::IpAddr, pin::Pin};

use serde::{Deserialize, Serialize};

pub(crate) use self::render::render;
use crate::socket::{Answer, Question};

/// The whole report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StatusReport {
    /// Version of the server.
    pub(crate) version: String,
    /// Process id of the server.
    pub(crate) pid: u32,
    /// How far it is.
    pub(crate) state: State,
    /// On the tailnet and listening.
    pub(crate) ready: bool,
    /// From the start of the process until it was ready for the first time.
    pub(crate) ready_after_ms: Option<u64>,
    /// Since the start of the process.
    pub(crate) uptime_ms: u64,
    /// Where a person must log in to admit this node.
    pub(crate) login_url: Option<String>,
    /// What keeps the server from working, in one sentence.
    pub(crate) problem: Option<String>,
    /// The issuer, once it is known.
    pub(crate) issuer: Option<String>,
    /// This node, once control has answered.
    pub(crate) node: Option<NodeReport>,
    /// The control server.
    pub(crate) control: ControlReport,
    /// The other nodes that the policy lets us see.
    pub(crate) peers: Vec<PeerReport>,
    /// Since the start of the process, by name; names are made of the part and the thing counted.
    pub(crate) counters: BTreeMap<String, u64>,
}

/// How far the server is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// Reading its state.
    #[default]
    Starting,
    /// Talking to control for the first time.
    Joining,
    /// Waiting for a person to open the login URL.
    NeedsLogin,
    /// On the tailnet and listening.
    Serving,
    /// Serving, but control has not been heard for too long to issue anything new.
    Stale,
    /// Ending what is open.
    Stopping,
}

/// This node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeReport {
    /// Fully qualified MagicDNS name, without the last dot.
    pub(crate) name: String,
    /// Stable id, for the policy and for `nodes list`.
    pub(crate) stable_id: String,
    /// Tailnet addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// Granted tags.
    pub(crate) tags: Vec<String>,
    /// The relay region (DERP) where others reach us.
    pub(crate) home_region: Option<u32>,
    /// Local UDP port of direct paths.
    pub(crate) udp_port: u16,
}

/// The control server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ControlReport {
    /// Its URL.
    pub(crate) url: String,
    /// Whether a map stream is open.
    pub(crate) connected: bool,
    /// Since the last map message; absent before the first.
    pub(crate) netmap_age_ms: Option<u64>,
}

/// One other node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PeerReport {
    /// Fully qualified MagicDNS name, without the last dot.
    pub(crate) name: String,
    /// Stable id, for the policy and for `nodes list`.
    pub(crate) stable_id: String,
    /// Login of its owner, or its tags.
    pub(crate) owner: String,
    /// Tailnet addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// How its packets travel.
    pub(crate) path: PathReport,
    /// Open TCP connections.
    pub(crate) connections: u64,
    /// Bytes of IP packets from it.
    pub(crate) rx_bytes: u64,
    /// Bytes of IP packets to it.
    pub(crate) tx_bytes: u64,
    /// Its packets that the policy does not allow.
    pub(crate) dropped_policy: u64,
}

/// How the packets of a peer travel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum PathReport {
    /// UDP straight to an address.
    Direct {
        /// `ip:port`.
        address: String,
    },
    /// Through a relay.
    Derp {
        /// The region of the relay.
        region: u32,
    },
    /// Nothing has been exchanged lately.
    Idle,
}

/// The answer to whoever asks too early.
pub(crate) const STARTING: &str = "the server is still starting: ask again when it is ready";

/// Where reports come from: the running server, or a script in tests.
pub(crate) trait StatusSource: Send + Sync + 'static {
    /// The state of this moment. Must not block: it is called on a runtime thread.
    fn status(&self) -> StatusReport;
    /// The root certificate of the internal CA as PEM, or why there is none.
    fn root_certificate(&self) -> Result<String, String>;
    /// Answers what takes the running server longer; `asker` says in words who asks.
    fn administer<'a>(
        &'a self,
        question: Question,
        asker: &'a str,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        let _ = (question, asker);
        Box::pin(std::future::ready(Answer::Error(STARTING.to_owned())))
    }
}
