//! A node: the engine with the smallest driver that does it justice.
//!
//! What `tailnet-node` does with sockets and tasks is done here in one thread on virtual time: telling STUN, disco and
//! WireGuard apart, finding the peer, running timers, polling for work, waking applications.

mod applications;
mod arrivals;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tailnet_engine::{
    netmap::NetmapState,
    path::{Hop, PathEvent},
    peer::{ConnectionMemory, Counters, Limits, Peer, PeerConfig, PeerEvent, PeerView, Ports, Transmits},
    tunnel::{self, HandshakeLimiter},
};
use tailnet_wire::{
    disco::DiscoBox,
    key::{DiscoPrivate, DiscoPublic, NodePrivate, NodePublic},
};

use crate::{
    app::{End, Flow, Role, Secret},
    clock::{Clock, Time},
    control::{News, Truth},
    network::{HostId, Network},
    scenario::PORTS,
};

/// Who a node is, across restarts.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Node key.
    pub key: NodePrivate,
    /// Its public half, which is dear to compute.
    pub public: NodePublic,
    /// What its applications write.
    pub secret: Secret,
    /// Tailnet addresses.
    pub addresses: Vec<IpAddr>,
}

#[derive(Debug)]
struct Slot {
    peer: Peer,
    disco: Option<DiscoBox>,
    endpoints: Vec<SocketAddr>,
    index: u32,
}

/// A running process of a node.
#[derive(Debug)]
pub struct Node {
    /// Which host it runs on.
    pub host: HostId,
    /// Who it is.
    pub identity: Identity,
    /// Every connection of this process, over or not.
    pub flows: Vec<Flow>,
    /// What the last map message stands for.
    pub truth: Truth,
    /// When the endpoints are due to be told to control.
    pub endpoints_due: Option<Time>,
    /// What went wrong that must not.
    pub faults: Vec<String>,
    /// Datagrams that came in good order, and pongs.
    pub answers: u64,
    disco: DiscoPrivate,
    disco_public: DiscoPublic,
    recent: Vec<NodePublic>,
    rng: SmallRng,
    limiter: Arc<HandshakeLimiter>,
    memory: Arc<ConnectionMemory>,
    ports: Arc<Ports>,
    netmap: NetmapState,
    slots: BTreeMap<NodePublic, Slot>,
    /// The secrets of whoever may be at the other end, to check what it writes.
    secrets: BTreeMap<NodePublic, Secret>,
    transmits: Transmits,
    next_second: Time,
}

/// The port from which datagrams are sent that want an answer. No rule opens it.
const ASKING_PORT: u16 = 30_000;
const SECOND: Duration = Duration::from_secs(1);

impl Node {
    /// Starts a process.
    pub fn start(host: HostId, identity: Identity, now: Time, mut rng: SmallRng) -> Self {
        let disco = DiscoPrivate::from_random(rng.random());
        Self {
            host,
            flows: Vec::new(),
            truth: Truth::default(),
            endpoints_due: Some(now),
            faults: Vec::new(),
            answers: 0,
            disco_public: disco.public(),
            recent: Vec::new(),
            disco,
            limiter: Arc::new(HandshakeLimiter::new(&identity.key, 100)),
            memory: ConnectionMemory::new(64 << 20),
            ports: Arc::new(Ports {
                tcp: BTreeSet::from(PORTS),
                udp: PORTS.into_iter().chain([ASKING_PORT]).collect(),
            }),
            netmap: NetmapState::new(),
            slots: BTreeMap::new(),
            secrets: BTreeMap::new(),
            transmits: Transmits::default(),
            next_second: now + SECOND,
            identity,
            rng,
        }
    }

    /// The disco key of this process.
    pub fn disco(&self) -> DiscoPublic {
        self.disco_public
    }

    /// Hands over the hint that the process before left in the state folder: with whom it last spoke.
    pub fn remember(&mut self, recent: Vec<NodePublic>) {
        self.recent = recent;
    }

    /// The peers with whom there is a session.
    pub fn recent(&self, clock: &Clock) -> Vec<NodePublic> {
        let has_session = |slot: &Slot| slot.peer.session_age(clock.instant()).is_some();
        self.slots
            .iter()
            .filter(|(_, slot)| has_session(slot))
            .map(|(key, _)| *key)
            .collect()
    }

    /// Tells which bytes the holder of `key` writes.
    pub fn expect(&mut self, key: NodePublic, secret: Secret) {
        self.secrets.insert(key, secret);
    }

    /// A map message has come.
    pub fn handle_news(&mut self, clock: &Clock, news: News) {
        if news.fresh {
            self.netmap.begin_stream();
        }
        self.truth = news.truth;
        match self.netmap.handle_response(news.message, clock.wall()) {
            Ok(_) => self.apply_netmap(clock),
            Err(error) => self.faults.push(format!("a sound map message was refused: {error}")),
        }
        self.check_withdrawn(clock);
    }

    fn apply_netmap(&mut self, clock: &Clock) {
        let Some(netmap) = self.netmap.current() else {
            return;
        };
        for slot in self.slots.values_mut() {
            slot.peer.handle_netmap(clock.instant(), &netmap);
        }
        for peer in netmap.peers() {
            if !self.slots.contains_key(&peer.key)
                && let Some(view) = PeerView::of(&netmap, &peer.key)
            {
                let mut slot = self.new_slot(clock, view, peer.key);
                if self.recent.contains(&peer.key) {
                    // It sends under a session that died with the process before.
                    slot.peer.force_handshake(clock.instant());
                }
                self.slots.insert(peer.key, slot);
            }
            if let Some(slot) = self.slots.get_mut(&peer.key) {
                slot.endpoints.clone_from(&peer.endpoints);
                if slot.disco.as_ref().map(DiscoBox::peer) != peer.disco.as_ref() {
                    slot.disco = peer.disco.map(|theirs| DiscoBox::new(&self.disco, &theirs));
                }
            }
        }
    }

    fn new_slot(&mut self, clock: &Clock, view: PeerView, key: NodePublic) -> Slot {
        let index = self.rng.random_range(0..1 << tunnel::PEER_INDEX_BITS);
        let config = PeerConfig {
            our: self.identity.key.clone(),
            key,
            index,
            seed: self.rng.random(),
            limiter: Arc::clone(&self.limiter),
            memory: Arc::clone(&self.memory),
            limits: Limits::default(),
            ports: Arc::clone(&self.ports),
            view,
        };
        Slot {
            peer: clock.at_zero(|start| Peer::new(config, start)),
            disco: None,
            endpoints: Vec::new(),
            index,
        }
    }

    /// No flow and no datagram may outlive its permission, not even unread bytes.
    fn check_withdrawn(&mut self, clock: &Clock) {
        let now = clock.now();
        self.run_datagrams(clock);
        for flow in self.flows.iter_mut().filter(|flow| flow.end.is_none()) {
            if self.truth.permits(now, flow.peer, flow.role, flow.port) {
                continue;
            }
            let Some(slot) = self.slots.get_mut(&flow.peer) else {
                self.faults.push(format!("{flow:?} lives without its peer"));
                continue;
            };
            match flow.probe(&mut slot.peer) {
                Ok(0) if matches!(flow.end, Some(End::Error(_))) => {
                    flow.ended = now;
                    slot.peer.release(flow.conn);
                }
                Ok(delivered) => {
                    self.faults
                        .push(format!("{delivered} bytes after access was withdrawn: {flow:?}"));
                }
                Err(fault) => self.faults.push(fault),
            }
        }
    }

    /// Runs what is due.
    pub fn handle_timeout(&mut self, clock: &Clock) {
        if clock.now() >= self.next_second {
            self.next_second = clock.now() + SECOND;
            self.limiter.handle_timeout();
        }
        if self.netmap.next_expiry().is_some_and(|at| at <= clock.wall())
            && self.netmap.handle_timeout(clock.wall()).is_some()
        {
            self.apply_netmap(clock);
            self.check_withdrawn(clock);
        }
        for slot in self.slots.values_mut() {
            if slot.peer.poll_timeout().is_some_and(|at| at <= clock.instant()) {
                slot.peer.handle_timeout(clock.instant());
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self, clock: &Clock) -> Option<Time> {
        let peers = self.slots.values().filter_map(|slot| slot.peer.poll_timeout());
        let expiry = self
            .netmap
            .next_expiry()
            .map(|at| (at - clock.wall()).try_into().unwrap_or(Duration::ZERO));
        let pauses = self
            .flows
            .iter()
            .filter(|flow| flow.end.is_none() && flow.pause_until > clock.now());
        let times = peers
            .map(|at| clock.time_of(at))
            .chain(expiry.map(|wait: Duration| clock.now() + wait));
        times
            .chain(pauses.map(|flow| flow.pause_until))
            .chain([self.next_second])
            .min()
    }

    /// Does everything that can be done now. Returns whether anything was.
    pub fn turn(&mut self, clock: &Clock, network: &mut Network) -> bool {
        let mut busy = false;
        for (key, slot) in &mut self.slots {
            busy |= transmit(
                self.host,
                self.identity.public,
                *key,
                slot,
                clock,
                network,
                &mut self.transmits,
                &mut self.rng,
            );
            while let Some(event) = slot.peer.poll_event() {
                busy = true;
                match event {
                    PeerEvent::Accepted { conn, local, remote } => {
                        let port = local.port();
                        if !self.truth.permits(clock.now(), *key, Role::Accepted, port) {
                            let text = format!("{remote} was let in to port {port} without permission by {key}");
                            self.faults.push(text);
                        }
                        let theirs = self.secrets.get(key).copied().unwrap_or(Secret(0));
                        let secrets = (self.identity.secret, theirs);
                        let mut flow = Flow::accepted(*key, conn, port, clock.now(), secrets);
                        flow.ends = Some((local, remote));
                        self.flows.push(flow);
                    }
                    PeerEvent::Path(PathEvent::StaleEndpoints) => {
                        let endpoints = network.endpoints(clock.now(), self.host);
                        slot.peer
                            .path_mut()
                            .handle_own_endpoints(endpoints.into(), clock.instant());
                        self.endpoints_due = Some(clock.now());
                    }
                    PeerEvent::Pong { .. } => self.answers += 1,
                    _ => {}
                }
            }
        }
        busy |= self.run_datagrams(clock);
        busy |= self.run_flows(clock);
        self.slots.retain(|_, slot| !slot.peer.is_finished());
        busy
    }

    /// Bytes that connections hold, and how many connections there are.
    pub fn held(&self) -> (usize, usize) {
        let connections = self.slots.values().map(|slot| slot.peer.connections());
        (self.memory.used(), connections.sum())
    }

    /// The way that packets to a peer take now.
    pub fn path(&self, clock: &Clock, key: NodePublic) -> Option<Hop> {
        self.slots.get(&key)?.peer.path().current(clock.instant())
    }

    /// What happened with a peer so far.
    pub fn counters(&self, key: NodePublic) -> Option<Counters> {
        self.slots.get(&key).map(|slot| slot.peer.counters())
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "parts of one node that are borrowed one by one"
)]
fn transmit(
    host: HostId,
    ours: NodePublic,
    theirs: NodePublic,
    slot: &mut Slot,
    clock: &Clock,
    network: &mut Network,
    transmits: &mut Transmits,
    rng: &mut SmallRng,
) -> bool {
    let mut busy = false;
    let send = |network: &mut Network, hop: Hop, bytes: &[u8]| match hop {
        Hop::Udp(to) => network.send_udp(clock.now(), host, to, bytes),
        Hop::Derp(region) => network.send_derp(clock.now(), ours, region, theirs, bytes),
    };
    loop {
        transmits.clear();
        slot.peer.poll_transmit(clock.instant(), transmits);
        busy |= !transmits.is_empty();
        for group in transmits.groups() {
            for datagram in group.bytes.chunks(group.segment) {
                send(network, group.hop, datagram);
            }
        }
        if !transmits.is_full() {
            break;
        }
    }
    while let Some((hop, message)) = slot.peer.poll_disco(clock.instant(), rng) {
        busy = true;
        if let Some(disco) = &slot.disco {
            let sealed = disco.seal(&message, &rng.random());
            send(network, hop, &sealed);
        }
    }
    busy
}

/// Random numbers for one part of a run, of their own so that parts do not disturb each other.
pub fn fork(rng: &mut SmallRng) -> SmallRng {
    SmallRng::seed_from_u64(rng.random())
}
