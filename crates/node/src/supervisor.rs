//! The task that owns the node: it puts netmaps in force, tells control about us, and ends everything.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tailnet_engine::netmap::{Change, Netmap};
use tailnet_wire::key::NodePublic;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tracing::{error, info, warn};

use crate::{
    clock,
    control::{ControlClient, ControlEvent},
    errand,
    netcheck::Findings,
    shared::Shared,
    state::{MAX_ACTIVE, State},
    trouble::Trouble,
};

/// A peer whose session is younger than this was active in the last minutes: after a restart it is greeted.
const ACTIVE: Duration = Duration::from_secs(5 * 60);
/// How often the list of active peers is written once it is full.
const REMEMBER_EVERY: Duration = Duration::from_secs(60);

/// Where the node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeState {
    /// Talking to control for the first time.
    Joining,
    /// A person must open this URL to let the node in.
    NeedsLogin(String),
    /// An administrator must approve the node.
    NeedsApproval,
    /// On the tailnet, control is connected.
    Running,
    /// On the tailnet; control cannot be reached, for this reason, and is tried again.
    Offline(String),
    /// Out of the tailnet for good, for this reason.
    Stopped(String),
}

impl NodeState {
    /// One word for status output.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::NeedsLogin(_) => "login",
            Self::NeedsApproval => "approval",
            Self::Running => "running",
            Self::Offline(_) => "offline",
            Self::Stopped(_) => "stopped",
        }
    }
}

/// What the supervisor owns.
pub(crate) struct Supervisor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) control: ControlClient,
    pub(crate) events: mpsc::Receiver<ControlEvent>,
    pub(crate) findings: watch::Receiver<Findings>,
    pub(crate) state: State,
    pub(crate) published: watch::Sender<NodeState>,
    /// Why control cannot be reached, as it was said last: each attempt fails, and most for the same reason.
    pub(crate) trouble: Trouble,
    /// When the active peers were written last.
    pub(crate) remembered: Instant,
    /// The write of them that is under way: an fsync takes longer than anybody here may wait.
    pub(crate) writing: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Runs until the node stops or control rules it out.
    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                // First, because the other tasks end by it too.
                biased;
                () = shared.stop.cancelled() => break,
                event = self.events.recv() => match event {
                    Some(event) => if !self.handle_event(event) { break },
                    None => { self.stopped("the control task has panicked".to_owned()); break }
                },
                changed = self.findings.changed() => {
                    if changed.is_err() { self.stopped("the netcheck task has ended".to_owned()); break }
                    self.handle_findings();
                }
                // At once, so that a kill right after its first connection does not make us forget it.
                () = shared.new_peer.notified() => self.remember_new_peers(),
                () = finished(&mut self.writing) => self.remember_new_peers(),
                _ = second.tick() => {
                    shared.limiter.handle_timeout();
                    let shed = shared.initiations.handle_second(&shared.udp);
                    shared.counters.throttled.fetch_add(shed, Relaxed);
                    self.remember_new_peers();
                }
            }
        }
        if let Some(writing) = self.writing.take() {
            // A panic in it was reported by the runtime.
            let _ = writing.await;
        }
        // So that the next start can greet them at once.
        write_active_peers(self.state.clone(), self.active_peers()).await;
        // Its task holds the state folder, which the next start of this node needs.
        self.control.stop().await;
    }

    /// False when the node is out of the tailnet.
    fn handle_event(&mut self, event: ControlEvent) -> bool {
        match event {
            ControlEvent::Change(change) => apply(&self.shared, &change),
            ControlEvent::Online => {
                self.shared.netmap.handle_online();
                self.published.send_replace(NodeState::Running);
                self.trouble.over();
                info!(event = "control_online", "connected to control");
            }
            ControlEvent::Offline { reason, retry_in } => {
                self.shared.netmap.handle_offline();
                if self.trouble.is_news(&reason) {
                    warn!(
                        event = "control_offline",
                        ?retry_in,
                        "the node goes on with what it knows, and tries again: {reason}"
                    );
                }
                self.published.send_replace(NodeState::Offline(reason));
            }
            ControlEvent::LoginUrl(url) => {
                warn!(event = "login", %url, "this node must be logged in again: open the URL");
                self.published.send_replace(NodeState::NeedsLogin(url));
            }
            ControlEvent::AwaitingApproval => {
                self.published.send_replace(NodeState::NeedsApproval);
            }
            ControlEvent::ShowUrl(url) => info!(event = "show_url", %url, "control asks to show this page"),
            ControlEvent::PingPeer(ping) => {
                let shared = Arc::clone(&self.shared);
                self.shared.tasks.spawn(errand::run(shared, ping));
            }
            ControlEvent::Registered => {}
            ControlEvent::Fatal(error) => {
                self.stopped(error.to_string());
                return false;
            }
        }
        true
    }

    fn stopped(&self, reason: String) {
        error!(event = "node_stopped", "the node is out of the tailnet: {reason}");
        // Before the peers, so that none is made anew: nobody vouches for anyone any more.
        self.shared.netmap.clear();
        for peer in self.shared.peers.all() {
            peer.engine().handle_view(clock::now(), None);
            peer.kick();
        }
        self.shared.netmap.announce();
        self.published.send_replace(NodeState::Stopped(reason));
    }

    /// Tells control and the peers where we can be reached.
    fn handle_findings(&mut self) {
        let findings = self.findings.borrow_and_update().clone();
        let now = clock::now();
        let addresses: Arc<[_]> = findings.endpoints.iter().map(|(address, _)| *address).collect();
        *self.shared.endpoints.lock() = (Arc::clone(&addresses), now);
        for peer in self.shared.peers.all() {
            peer.engine()
                .path_mut()
                .handle_own_endpoints(Arc::clone(&addresses), now);
            peer.kick();
        }
        self.control.set_local(|local| {
            local.endpoints = findings.endpoints;
            local.hostinfo.net_info = Some(findings.net_info);
        });
    }

    /// Remembers the active peers while the node runs, for the case that it is killed: only new ones are written down, so
    /// that the file changes seldom, and those of the last start are kept until they have had the time to come back.
    fn remember_new_peers(&mut self) {
        if self.writing.is_some() {
            // One after the other, or an older list could come last; this is called again then.
            return;
        }
        let known = self.state.active_peers();
        let mut peers = self.active_peers();
        // Only so many are kept: with more, who is among them would change every second, and each change is an fsync.
        if known.len() >= MAX_ACTIVE && clock::now().saturating_duration_since(self.remembered) < REMEMBER_EVERY {
            return;
        }
        peers.truncate(MAX_ACTIVE);
        if peers.iter().all(|key| known.contains(key)) {
            return;
        }
        peers.extend(known.into_iter().filter(|key| !peers.contains(key)).collect::<Vec<_>>());
        self.remembered = clock::now();
        self.writing = Some(tokio::spawn(write_active_peers(self.state.clone(), peers)));
    }

    /// The peers with a session that is in use, most recent first.
    fn active_peers(&self) -> Vec<NodePublic> {
        let now = clock::now();
        let peers = self.shared.peers.all();
        let sessions = peers
            .iter()
            .filter_map(|peer| Some((peer.engine().session_age(now)?, peer.key())));
        let mut active: Vec<_> = sessions.filter(|(age, _)| *age <= ACTIVE).collect();
        active.sort();
        active.into_iter().map(|(_, key)| key).collect()
    }
}

/// Resolves when the write under way has ended, never when there is none.
async fn finished(writing: &mut Option<JoinHandle<()>>) {
    match writing {
        Some(task) => {
            // A panic in it was reported by the runtime.
            let _ = task.await;
        }
        None => std::future::pending().await,
    }
    *writing = None;
}

async fn write_active_peers(state: State, peers: Vec<NodePublic>) {
    if let Err(error) = state.aside(|state| state.set_active_peers(peers)).await {
        warn!(event = "state", %error, "active peers are not remembered");
    }
}

/// Puts a change of the netmap in force, as one step for everyone who asks.
pub(crate) fn apply(shared: &Arc<Shared>, change: &Change) {
    shared.netmap.replace(Arc::clone(&change.netmap));
    let now = clock::now();
    let everyone = change.filter || change.self_node;
    let changed: HashSet<_> = change.removed.iter().chain(&change.updated).collect();
    for peer in shared.peers.all() {
        let key = peer.key();
        let gone = change.netmap.peer_by_key(&key).is_none();
        if everyone || gone || changed.contains(&key) {
            peer.engine().handle_netmap(now, &change.netmap);
            peer.kick();
        }
        if gone {
            // Its task still sends the resets; a node that comes back with this key gets a new handle.
            shared.peers.remove(&peer);
        }
    }
    if change.derp_map {
        // At once, not when netcheck gets to it: greetings at start go over DERP.
        shared.derp.set_map(Arc::clone(change.netmap.derp_map()));
        shared.derp_map.send_replace(Arc::clone(change.netmap.derp_map()));
    }
    greet_strangers(shared, change, now);
    shared.counters.netmaps.fetch_add(1, Relaxed);
    shared.netmap.announce();
    note_clock(shared, &change.netmap);
}

/// A peer that learned of us before we learned of it has knocked in vain, and knocks again only after five seconds. So we
/// do, now that we know it.
fn greet_strangers(shared: &Arc<Shared>, change: &Change, now: Instant) {
    let knocked: Vec<_> = {
        let mut strangers = shared.strangers.lock();
        let updated = change.updated.iter();
        updated.filter(|key| strangers.take(key, now)).collect()
    };
    for key in knocked {
        let Some(node) = change.netmap.peer_by_key(key) else {
            continue;
        };
        if let Some(peer) = shared.claimed_peer(node) {
            peer.engine().force_handshake(now);
            peer.kick();
        }
    }
}

/// Certificates and tokens need the right time, and nobody suspects the clock. Said once, until it is right again.
fn note_clock(shared: &Shared, netmap: &Netmap) {
    let wall = clock::wall();
    let off = netmap.control_time(wall) - wall;
    let told = shared.clock_told.swap(!off.is_zero(), Relaxed);
    if !off.is_zero() && !told {
        warn!(
            event = "clock",
            "this machine's clock is {} s {} that of control: set it right (NTP), or certificates and tokens are taken \
             for expired or not yet valid",
            off.whole_seconds().unsigned_abs(),
            if off.is_positive() { "behind" } else { "ahead of" }
        );
    }
}
