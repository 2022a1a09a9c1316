//! Joining: from a configuration to a node with its first netmap in force.

use std::{
    sync::{Arc, OnceLock, Weak, atomic::AtomicBool},
    time::Duration,
};

use parking_lot::Mutex;
use rand::RngCore;
use tailnet_engine::{
    peer::{ConnectionMemory, Limits, PingKind},
    tunnel::HandshakeLimiter,
};
use tailnet_wire::{
    derp::GoneReason,
    key::{DiscoPrivate, DiscoPublic, NodePublic},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinError,
    time::Instant,
};
use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tracing::{error, warn};

use crate::{
    NodeConfig, clock,
    control::{ControlClient, ControlConfig, ControlError, ControlEvent, FatalError, Local, hostinfo},
    demux,
    derp::{DerpPacket, DerpPool, DerpSink},
    disco::DiscoBoxes,
    initiations::Initiations,
    live::LiveNetmap,
    netcheck,
    peers::{PeerHandle, Peers},
    ports::OpenPorts,
    shared::{NodeCounters, STUN_QUEUE, Shared},
    state::{State, StateError},
    supervisor::{NodeState, Supervisor, apply},
    tls::{self, TlsError},
    trouble::Trouble,
    udp::{BindError, UdpSockets},
};

/// WireGuard handshakes per second that pass without a proof of address. Each costs about 125 us.
const HANDSHAKES_PER_SECOND: u32 = 500;

/// How long the peers that were active before a restart are waited for: a round trip over DERP and its TLS handshake.
const GREETING: Duration = Duration::from_millis(150);
/// How long control's word of our restart takes to reach them, after it reached us.
const SETTLING: Duration = Duration::from_millis(80);
/// How long a session may take to show that it lives.
const ANSWER: Duration = Duration::from_millis(60);
/// Between two looks whether they have answered.
const GREETING_LOOK: Duration = Duration::from_millis(5);

/// Why a node did not start. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The UDP port.
    #[error(transparent)]
    Udp(#[from] BindError),
    /// The roots.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The control URL.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Control does not let the node in.
    #[error(transparent)]
    Refused(#[from] FatalError),
    /// Control could not be reached, or did not answer, in time.
    #[error(
        "control did not let this node join within {}s: {reason}. Check control_url, the network and, for a private CA, \
         extra_ca_file",
        .after.as_secs()
    )]
    TimedOut {
        /// How long it was tried.
        after: Duration,
        /// The last trouble there was.
        reason: String,
    },
    /// A task of the node has panicked.
    #[error("the control task ended unexpectedly; this is a bug, please report it with the log")]
    Panicked,
}

/// Joins as `config` says. The returned receiver follows the node's state.
pub(crate) async fn join(
    config: NodeConfig,
    on_state: &(dyn Fn(&NodeState) + Send + Sync),
) -> Result<(Arc<Shared>, watch::Receiver<NodeState>), StartError> {
    let mut rng = clock::rng();
    let state = open_state(&config).await?;
    let udp = UdpSockets::bind(config.udp_port, state.udp_port())?;
    let port = udp.port();
    state.aside(move |state| state.set_udp_port(port)).await?;
    let mut raw = [0; 32];
    rng.fill_bytes(&mut raw);
    let disco = DiscoPrivate::from_random(raw);

    let roots = tls::root_store(&config.extra_roots)?;
    let control_config = control_config(&config, &roots, disco.public())?;
    let local = Local {
        hostinfo: hostinfo(&config.hostname, &config.tags, &config.app),
        endpoints: netcheck::local_endpoints(udp.port()),
    };
    let (control, events) = ControlClient::start(control_config, state.clone(), local)?;
    let mut joining = Joining {
        events,
        on_state,
        deadline: Instant::from_std(clock::now()) + config.join_timeout,
        config: &config,
        trouble: Trouble::default(),
        person: false,
    };

    joining.registered().await?;
    let (stun, answers) = mpsc::channel(STUN_QUEUE);
    let shared = new_shared(&config, &state, udp, disco, roots, stun);
    let first = joining.first_netmap().await?;
    state.set_stable_id(&first.netmap.self_node().stable_id)?;
    apply(&shared, &first);
    let findings = netcheck::spawn(&shared, answers);
    let (published, watched) = watch::channel(NodeState::Running);
    let supervisor = Supervisor {
        shared: Arc::clone(&shared),
        control,
        events: joining.events,
        findings,
        state: state.clone(),
        published,
        trouble: Trouble::default(),
        remembered: clock::now(),
        writing: None,
    };
    spawn_tasks(&shared, supervisor);
    greet(&shared, &state).await;
    Ok((shared, watched))
}

async fn open_state(config: &NodeConfig) -> Result<State, StartError> {
    let (dir, control_url) = (config.state_dir.clone(), config.control_url.to_string());
    let opened = tokio::task::spawn_blocking(move || State::open(&dir, &control_url)).await;
    Ok(opened.map_err(|_| StartError::Panicked)??)
}

fn control_config(
    config: &NodeConfig,
    roots: &Arc<rustls::RootCertStore>,
    disco_key: DiscoPublic,
) -> Result<ControlConfig, TlsError> {
    Ok(ControlConfig {
        url: config.control_url.clone(),
        allow_plain: config.allow_plain_control,
        tls: tls::client_config(Arc::clone(roots))?,
        disco_key,
        auth_key: config.auth_key.as_ref().map(|key| key.expose().to_owned().into()),
        ephemeral: false,
        tags: config.tags.clone(),
    })
}

pub(crate) fn new_shared(
    config: &NodeConfig,
    state: &State,
    udp: UdpSockets,
    disco: DiscoPrivate,
    roots: Arc<rustls::RootCertStore>,
    stun: mpsc::Sender<(std::net::SocketAddr, Vec<u8>)>,
) -> Arc<Shared> {
    let key = state.node_key();
    let sink = Arc::new(Sink::default());
    let shared = Arc::new(Shared {
        machine_key: state.machine_key().public(),
        disco: DiscoBoxes::new(disco),
        udp,
        derp: DerpPool::new(roots, key.clone(), Arc::clone(&sink) as Arc<dyn DerpSink>),
        stun,
        netmap: LiveNetmap::new(),
        peers: Peers::default(),
        limiter: Arc::new(HandshakeLimiter::new(&key, HANDSHAKES_PER_SECOND)),
        memory: ConnectionMemory::new(config.connection_memory),
        limits: Limits {
            buffer: config.connection_buffer,
            ..Limits::default()
        },
        ports: OpenPorts::default(),
        endpoints: Mutex::new((Arc::default(), clock::now())),
        new_peer: Default::default(),
        stale_endpoints: Arc::default(),
        derp_map: watch::Sender::new(Arc::default()),
        counters: NodeCounters::default(),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
        transmits: Mutex::default(),
        searched: Mutex::new(clock::now()),
        strangers: Mutex::default(),
        stun_servers: Mutex::default(),
        initiations: Initiations::new(),
        clock_told: AtomicBool::new(false),
        key,
    });
    // Set once, right here.
    let _ = sink.0.set(Arc::downgrade(&shared));
    shared
}

/// The tasks that live as long as the node. One that ends too early ends the node: better no identity than half of one.
fn spawn_tasks(shared: &Arc<Shared>, supervisor: Supervisor) {
    let receiver = {
        let shared = Arc::clone(shared);
        async move {
            let error = shared
                .udp
                .receive(|received| demux::handle_udp(&shared, received))
                .await;
            error!(event = "udp_failed", %error, "the UDP socket failed");
        }
    };
    // Apart, so that putting a large netmap in force does not keep datagrams waiting.
    let mut receiver = AbortOnDropHandle::new(tokio::spawn(receiver));
    let mut supervisor = AbortOnDropHandle::new(tokio::spawn(supervisor.run()));
    let stop = shared.stop.clone();
    shared.tasks.spawn(async move {
        tokio::select! {
            ended = &mut supervisor => {
                note_panic(ended);
                stop.cancel();
            }
            ended = &mut receiver => {
                note_panic(ended);
                stop.cancel();
                note_panic(supervisor.await);
            }
        }
    });
}

fn note_panic(ended: Result<(), JoinError>) {
    if ended.is_err() {
        error!(event = "node_panic", "an essential task of the node panicked");
    }
}

/// After a restart, peers still send under sessions we no longer have. A handshake makes them notice at once, where
/// their own repair takes REKEY_TIMEOUT. Those that are online are waited for a moment, so that a request which comes as
/// soon as we are ready finds a session, and its SYN is not lost and repeated after a second.
async fn greet(shared: &Arc<Shared>, state: &State) {
    let Some(netmap) = shared.netmap.current() else { return };
    let mut awaited = Vec::new();
    for key in state.active_peers() {
        let Some(node) = netmap.peer_by_key(&key) else { continue };
        if let Some(peer) = shared.peer_for(node) {
            peer.engine().force_handshake(clock::now());
            peer.kick();
            if node.online == Some(true) {
                awaited.push(peer);
            }
        }
    }
    let lost = |peer: &Arc<PeerHandle>| peer.engine().session_age(clock::now()).is_none();
    wait_for(&awaited, lost).await;
    awaited.retain(|peer| !lost(peer));
    if awaited.is_empty() {
        return;
    }
    // Control tells the peers of our new disco key at about this time, and a tailscaled then throws away the session that
    // it has just made, with the first SYN in it. So each session has to show that it lives, or is made anew.
    tokio::time::sleep(SETTLING).await;
    let pings: Vec<_> = awaited.iter().map(|peer| (peer, ping(shared, peer))).collect();
    let answered = (clock::now() + ANSWER).into();
    for (peer, pong) in pings {
        let Some(pong) = pong else { continue };
        if !matches!(tokio::time::timeout_at(answered, pong).await, Ok(Ok(_))) {
            peer.engine().renew_session(clock::now());
            peer.kick();
        }
    }
}

/// Waits until `lacking` holds for none of the peers, but no longer than they are given.
async fn wait_for(peers: &[Arc<PeerHandle>], lacking: impl Fn(&Arc<PeerHandle>) -> bool) {
    let deadline = clock::now() + GREETING;
    while clock::now() < deadline && peers.iter().any(&lacking) {
        tokio::time::sleep(GREETING_LOOK).await;
    }
}

/// Asks a peer's node inside the tunnel, past its packet filter (TSMP).
fn ping(shared: &Shared, peer: &PeerHandle) -> Option<tokio::sync::oneshot::Receiver<Duration>> {
    let netmap = shared.netmap.current()?;
    let remote = *netmap.peer_by_key(&peer.key())?.addresses.first()?;
    let local = shared.own_address_like(remote).ok()?;
    let pong = peer.ping(PingKind::Tsmp, local, remote).ok();
    peer.kick();
    pong
}

/// The part of the control session before the node stands.
struct Joining<'a> {
    events: mpsc::Receiver<ControlEvent>,
    on_state: &'a (dyn Fn(&NodeState) + Send + Sync),
    deadline: Instant,
    config: &'a NodeConfig,
    trouble: Trouble,
    /// A person has been asked, and who watches should go on seeing that.
    person: bool,
}

impl Joining<'_> {
    async fn registered(&mut self) -> Result<(), StartError> {
        loop {
            if matches!(self.next().await?, ControlEvent::Registered) {
                return Ok(());
            }
        }
    }

    async fn first_netmap(&mut self) -> Result<Box<tailnet_engine::netmap::Change>, StartError> {
        loop {
            if let ControlEvent::Change(change) = self.next().await? {
                return Ok(change);
            }
        }
    }

    /// The next event, with the ones that concern people told on the way. Waiting for a person has no deadline.
    async fn next(&mut self) -> Result<ControlEvent, StartError> {
        let waiting = tokio::time::timeout_at(self.deadline, self.events.recv());
        let event = match waiting.await {
            Ok(event) => event.ok_or(StartError::Panicked)?,
            Err(_) => {
                let reason = self.trouble.last().unwrap_or("it does not answer").to_owned();
                return Err(StartError::TimedOut {
                    after: self.config.join_timeout,
                    reason,
                });
            }
        };
        match &event {
            ControlEvent::LoginUrl(url) => {
                warn!(event = "login", %url, "open this URL to let the node into the tailnet");
                (self.on_state)(&NodeState::NeedsLogin(url.clone()));
                self.wait_for_a_person();
            }
            ControlEvent::AwaitingApproval => {
                warn!(event = "approval", "an administrator must approve this node");
                (self.on_state)(&NodeState::NeedsApproval);
                self.wait_for_a_person();
            }
            ControlEvent::Offline { reason, retry_in } => {
                // Once for each reason: the attempts may go on for days.
                if self.trouble.is_news(reason) {
                    warn!(
                        event = "control_retry",
                        ?retry_in,
                        "not joined yet, trying again: {reason}"
                    );
                }
                if !self.person {
                    (self.on_state)(&NodeState::Offline(reason.clone()));
                }
            }
            _ => {}
        }
        match event {
            ControlEvent::Fatal(error) => Err(error.into()),
            event => Ok(event),
        }
    }

    fn wait_for_a_person(&mut self) {
        self.person = true;
        self.deadline = Instant::from_std(clock::now()) + Duration::from_secs(60 * 60 * 24);
    }
}

/// Takes what relays deliver to the demultiplexer.
#[derive(Default)]
struct Sink(OnceLock<Weak<Shared>>);

impl Sink {
    fn shared(&self) -> Option<Arc<Shared>> {
        self.0.get().and_then(Weak::upgrade)
    }
}

impl DerpSink for Sink {
    fn packets(&self, region: u32, batch: &mut Vec<DerpPacket>) {
        let Some(shared) = self.shared() else { return };
        for DerpPacket { src, packet } in batch.drain(..) {
            demux::handle_derp(&shared, region, src, packet);
        }
    }

    fn peer_gone(&self, region: u32, peer: NodePublic, reason: GoneReason) {
        let handle = self.shared().and_then(|shared| shared.peers.by_key(&peer));
        if let Some(handle) = handle {
            handle
                .engine()
                .path_mut()
                .handle_peer_gone(region, reason, clock::now());
            handle.kick();
        }
    }
}
