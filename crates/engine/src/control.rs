//! The session with control: when to connect, what to send, what an answer means (Go: `control/controlclient`).
//!
//! [`Session`] is a state machine without I/O. What its owner learns goes in through `handle_*`: a connection stands, an
//! answer came, a map message arrived, something failed, the node's own endpoints changed. What is to be done comes out
//! of [`Session::poll_action`], what others want to know out of [`Session::poll_event`], and
//! [`Session::poll_timeout`] says when to come back without being called.
//!
//! ```text
//! wait ── Connect ──> connected ── Register ──> registered ── Stream ──> streaming ──┐
//!   ^                                 │ login URL: show it, ask again                │ Update, Ping
//!   └───────── failure, end of the stream, or 120 s without a map message ───────────┘
//! ```
//!
//! The netmap lives here too, so that a message and its consequences for the session are one step.

mod backoff;
mod session;
#[cfg(test)]
mod tests;
mod updates;

use std::{fmt, net::SocketAddr, time::Duration};

use tailnet_wire::{
    control::{Hostinfo, MapRequest, PingRequest, RegisterRequest},
    key::{DiscoPublic, NodePublic},
};
use zeroize::Zeroizing;

pub use self::{backoff::Backoff, session::Session};
use crate::netmap::Change;

/// Without a map message for this long, the stream counts as dead. Nothing but a map message proves otherwise.
pub const WATCHDOG: Duration = Duration::from_secs(120);

/// What a session is started with. `Debug` hides the auth key.
#[derive(Clone)]
pub struct SessionConfig {
    /// The node key to register.
    pub node_key: NodePublic,
    /// The key it replaces, while control has not confirmed the new one.
    pub old_node_key: Option<NodePublic>,
    /// Control accepted this very node key when the node ran last. The map stream is asked for at once then: a
    /// registration costs a round trip, and half a second on Headscale, which writes in batches.
    pub known: bool,
    /// The disco key of this process.
    pub disco_key: DiscoPublic,
    /// Pre-auth key; `None` = control remembers the node, or a person logs in.
    pub auth_key: Option<Zeroizing<String>>,
    /// Ask control to forget the node when it is gone. On Headscale the auth key decides.
    pub ephemeral: bool,
    /// Tags that control has to grant.
    pub tags: Vec<String>,
}

impl fmt::Debug for SessionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionConfig")
            .field("node_key", &self.node_key)
            .field("tags", &self.tags)
            .field("auth_key", &self.auth_key.as_ref().map(|_| "(hidden)"))
            .finish_non_exhaustive()
    }
}

/// What the node tells about itself: sent with every stream and, when it changes, as an update.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Local {
    /// Host, tags asked for, network conditions with the home region.
    pub hostinfo: Hostinfo,
    /// Where UDP may reach us, best first, each with its
    /// [kind](tailnet_wire::control::endpoint_type).
    pub endpoints: Vec<(SocketAddr, u8)>,
}

/// What the owner has to do. Each is answered by one `handle_*` call, except where it says otherwise.
#[derive(Debug)]
pub enum Action {
    /// Open a connection: [`Session::handle_connected`].
    Connect {
        /// Do not use a server key fetched earlier.
        fetch_key: bool,
    },
    /// Make a node key and store it beside the old one: [`Session::handle_new_node_key`].
    NewNodeKey,
    /// `POST /machine/register`: [`Session::handle_register`].
    Register(Box<RegisterRequest>),
    /// Open the map stream; each message goes to [`Session::handle_map`].
    Stream(Box<MapRequest>),
    /// Post an update, whose status code alone matters: [`Session::handle_updated`].
    Update(Box<MapRequest>),
    /// Answer a ping of control. No answer to the session.
    Ping(Box<PingRequest>),
    /// Close the connection and forget what is under way on it. No answer.
    Disconnect,
}

/// What others want to know.
#[derive(Debug)]
pub enum Event {
    /// A person has to open this URL; told once per URL.
    LoginUrl(String),
    /// An administrator has to approve the node.
    AwaitingApproval,
    /// Control has accepted this node key, now or at an earlier start. The key it replaces can be forgotten.
    Registered(NodePublic),
    /// The netmap changed. The first one means that the node is on the tailnet.
    Change(Box<Change>),
    /// The stream to control stands.
    Online,
    /// The connection failed; the node goes on with what it knows and tries again.
    Offline {
        /// Why, in words for people.
        reason: String,
        /// When the next attempt begins.
        retry_in: Duration,
    },
    /// Control wants this page shown.
    ShowUrl(String),
    /// It makes no sense to go on; nothing follows.
    Fatal(Fatal),
}

/// Why a session ended for good. The text says what a person can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// Control refused the registration.
    #[error("control refuses to register this node: {0}. {hint}", hint = refusal_hint(.0))]
    Refused(String),
    /// The tailnet is locked.
    #[error(
        "the tailnet is locked (tailnet lock), which this node cannot verify; it refuses to join. Switch the lock off or \
         use another tailnet"
    )]
    Locked,
    /// The node key expired and cannot be renewed while the node runs.
    #[error(
        "this node's key has expired. Start the node again with a valid auth key; disable key expiry for it, or use a \
         tagged key, to avoid this"
    )]
    KeyExpired,
    /// Control did not grant the tags asked for.
    #[error(
        "control did not grant {missing}: the node has {granted}. Use an auth key that carries {missing}, or let the \
         policy's tagOwners allow it"
    )]
    Tags {
        /// Tags that are missing, comma-separated.
        missing: String,
        /// Tags that were granted, comma-separated, or "no tags".
        granted: String,
    },
}

fn refusal_hint(text: &str) -> &'static str {
    let text = text.to_ascii_lowercase();
    if text.contains("tags") {
        "Use an auth key that carries the tags, or let the policy's tagOwners allow them"
    } else if text.contains("used") || text.contains("expired") {
        "Make a new auth key, reusable if the node is to come back with it"
    } else if text.contains("key") {
        "Check that the auth key was copied whole and belongs to this control server"
    } else {
        "Ask the administrator of the tailnet"
    }
}

/// What went wrong with an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the session has to do about it.
    pub kind: FailureKind,
    /// Why, in words for people.
    pub reason: String,
}

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The connection does not stand, or broke.
    Connection,
    /// The server is not the owner of the key that was fetched.
    ServerKey,
    /// Control does not know this node (HTTP 401 or 404 for a map request): it has to register again.
    UnknownNode,
    /// HTTP 429.
    Throttled {
        /// What the server asked for.
        retry_after: Option<Duration>,
    },
    /// Any other answer that is no success; the connection still stands.
    Answer,
}
