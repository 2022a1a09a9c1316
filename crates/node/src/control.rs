//! The connection to control: this side of `tailnet_engine::control` does what the session says.
//!
//! [`ControlClient::start`] spawns one task. It fetches the server's key over TLS, keeps one Noise connection with
//! HTTP/2 inside, registers, reads the map stream, posts updates and answers pings. What its owner has to know comes out
//! of a bounded channel as [`ControlEvent`]s; while that is full, the stream waits. What the node has to say about
//! itself goes in through [`ControlClient::set_local`] and may change at any time.

mod connection;
mod dial;
mod driver;
mod error;
mod hostinfo;
mod noise;
mod ping;
mod target;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use rustls::ClientConfig;
pub use tailnet_engine::control::Local;
use tailnet_engine::{control::Fatal, netmap::Change};
use tailnet_wire::{control::PingResponse, key::DiscoPublic};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;
use url::Url;
use zeroize::Zeroizing;

use self::{driver::Driver, target::Target};
pub use self::{error::ControlError, hostinfo::hostinfo};
use crate::state::{State, StateError};

/// Events that may wait for the owner.
const EVENTS: usize = 64;

/// How control is to be spoken to. `Debug` hides the auth key.
#[derive(Clone)]
pub struct ControlConfig {
    /// The control server.
    pub url: Url,
    /// Whether `http` URLs are acceptable.
    pub allow_plain: bool,
    /// Roots for TLS, see [`crate::tls::client_config`].
    pub tls: Arc<ClientConfig>,
    /// The disco key of this process.
    pub disco_key: DiscoPublic,
    /// Pre-auth key; `None` = control remembers the node, or a person logs in.
    pub auth_key: Option<Zeroizing<String>>,
    /// Ask control to forget the node when it is gone. On Headscale the auth key decides.
    pub ephemeral: bool,
    /// Tags that control has to grant.
    pub tags: Vec<String>,
}

impl fmt::Debug for ControlConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlConfig")
            .field("url", &self.url.as_str())
            .field("tags", &self.tags)
            .field("auth_key", &self.auth_key.as_ref().map(|_| "(hidden)"))
            .finish_non_exhaustive()
    }
}

/// What the owner of a [`ControlClient`] learns.
#[derive(Debug)]
pub enum ControlEvent {
    /// A person has to open this URL; told once per URL.
    LoginUrl(String),
    /// An administrator has to approve the node.
    AwaitingApproval,
    /// Control has accepted the node key that [`State::node_key`] gives. It does not change any more while the process
    /// runs.
    Registered,
    /// The netmap changed. The first one means that the node is on the tailnet.
    Change(Box<Change>),
    /// The map stream stands.
    Online,
    /// Control cannot be reached; the node goes on with what it knows and tries again.
    Offline {
        /// Why, in words for people.
        reason: String,
        /// When the next attempt begins.
        retry_in: Duration,
    },
    /// Control wants this page shown.
    ShowUrl(String),
    /// Control wants a peer pinged. Dropping it says that this node cannot.
    PingPeer(PeerPing),
    /// It makes no sense to go on; nothing follows.
    Fatal(FatalError),
}

/// A ping of a peer, on behalf of control.
#[derive(Debug)]
pub struct PeerPing {
    /// The peer's tailnet address.
    pub address: IpAddr,
    /// How to ping it.
    pub kind: PeerPingKind,
    /// What came of it; type and address are filled in for control.
    pub answer: oneshot::Sender<PingResponse>,
}

/// The pings that control can order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerPingKind {
    /// Along the paths, outside the tunnel.
    Disco,
    /// Inside the tunnel, past the peer's packet filter.
    Tsmp,
    /// Inside the tunnel, as any program's.
    Icmp,
}

/// Why the session with control ended for good. The text says what a person can do.
#[derive(Debug, thiserror::Error)]
pub enum FatalError {
    /// Control, or what it says, rules it out.
    #[error(transparent)]
    Session(#[from] Fatal),
    /// The state folder cannot be written any more.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A running session with control. Dropping it ends the task at once.
#[derive(Debug)]
pub struct ControlClient {
    local: watch::Sender<Local>,
    task: AbortOnDropHandle<()>,
}

impl ControlClient {
    /// Starts a session for the node in `state`, which says `local` about itself to begin with.
    ///
    /// Fails only on a URL that cannot be used. The receiver ends after [`ControlEvent::Fatal`]; if it ends without
    /// one, the task panicked and the process should end too.
    pub fn start(
        config: ControlConfig,
        state: State,
        local: Local,
    ) -> Result<(Self, mpsc::Receiver<ControlEvent>), ControlError> {
        let target = Target::new(&config.url, config.allow_plain)?;
        let (events, receiver) = mpsc::channel(EVENTS);
        let (local, watched) = watch::channel(local);
        let driver = Driver::new(config, target, state, watched, events);
        let task = AbortOnDropHandle::new(tokio::spawn(driver.run()));
        Ok((Self { local, task }, receiver))
    }

    /// Changes what the node says about itself. Control hears of it if it differs, at the latest when it is reachable
    /// again; states in between may be skipped.
    pub fn set_local(&self, edit: impl FnOnce(&mut Local)) {
        self.local.send_if_modified(|local| {
            let before = local.clone();
            edit(local);
            *local != before
        });
    }

    /// Ends the session and waits until its task has let go of the state folder. Nothing is said to control, which
    /// notices that the stream has ended.
    pub async fn stop(self) {
        self.task.abort();
        // A panic in the task was told by the end of the events.
        let _ = self.task.await;
    }
}
