//! What the tasks of one node share.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rand::RngCore;
use tailnet_engine::{
    netmap::PeerNode,
    path::Hop,
    peer::{ConnectionMemory, Limits, Peer, PeerConfig, PeerView, Transmits},
    strangers::Strangers,
    tunnel::HandshakeLimiter,
};
use tailnet_wire::{
    control::DerpMap,
    key::{MachinePublic, NodePrivate, NodePublic},
};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock,
    derp::DerpPool,
    disco::DiscoBoxes,
    initiations::Initiations,
    live::LiveNetmap,
    peer_task,
    peers::{PeerHandle, Peers},
    ports::OpenPorts,
    udp::UdpSockets,
};

/// How often garbage may make us look through all peers for the owner of an address.
const SEARCH_INTERVAL: Duration = Duration::from_millis(50);
/// STUN answers that wait for netcheck.
pub(crate) const STUN_QUEUE: usize = 64;
/// STUN servers whose answers are waited for: more than one round of netcheck asks.
const MAX_STUN_SERVERS: usize = 64;
/// Idle send buffers kept for the next busy peer.
const SPARE_TRANSMITS: usize = 8;

/// Everything that more than one task of a node needs.
pub(crate) struct Shared {
    pub(crate) key: NodePrivate,
    pub(crate) machine_key: MachinePublic,
    pub(crate) disco: DiscoBoxes,
    pub(crate) udp: UdpSockets,
    pub(crate) derp: DerpPool,
    pub(crate) stun: mpsc::Sender<(SocketAddr, Vec<u8>)>,
    pub(crate) netmap: Arc<LiveNetmap>,
    pub(crate) peers: Peers,
    pub(crate) limiter: Arc<HandshakeLimiter>,
    pub(crate) memory: Arc<ConnectionMemory>,
    pub(crate) limits: Limits,
    pub(crate) ports: OpenPorts,
    pub(crate) endpoints: Mutex<(Arc<[SocketAddr]>, Instant)>,
    /// A peer has opened its first connection: it is worth remembering.
    pub(crate) new_peer: Notify,
    /// Asks netcheck for fresh endpoints.
    pub(crate) stale_endpoints: Arc<Notify>,
    pub(crate) derp_map: watch::Sender<Arc<DerpMap>>,
    pub(crate) counters: NodeCounters,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) transmits: Mutex<Vec<Transmits>>,
    pub(crate) searched: Mutex<Instant>,
    pub(crate) strangers: Mutex<Strangers>,
    /// Initiations that come by UDP.
    pub(crate) initiations: Initiations,
    /// Whether somebody was told that our clock is off.
    pub(crate) clock_told: AtomicBool,
    /// STUN servers that were asked lately: whatever else looks like STUN is nobody's answer.
    pub(crate) stun_servers: Mutex<VecDeque<IpAddr>>,
}

/// What the node as a whole has dropped or refused. Plain numbers; they only grow.
#[derive(Debug, Default)]
pub(crate) struct NodeCounters {
    /// Netmaps put in force.
    pub(crate) netmaps: AtomicU64,
    /// Datagrams of nobody in the netmap.
    pub(crate) strangers: AtomicU64,
    /// Datagrams that are nothing a node speaks.
    pub(crate) malformed: AtomicU64,
    /// Datagrams of a session that this process does not have.
    pub(crate) no_session: AtomicU64,
    /// Batches for which a peer's inbox was full.
    pub(crate) inbox_full: AtomicU64,
    /// Handshakes that had to prove their address first.
    pub(crate) challenged: AtomicU64,
    /// Handshakes beyond what one address, or all together, may ask for; an estimate while the kernel sheds them.
    pub(crate) throttled: AtomicU64,
    /// Peers forgotten because nothing but an unproven handshake spoke for them.
    pub(crate) unproven: AtomicU64,
    /// Connections and datagrams for which an application's queue was full.
    pub(crate) backlog_full: AtomicU64,
}

/// Why there is no way to talk to an address or name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unroutable {
    /// The node has no netmap.
    #[error("this node is not joined to a tailnet")]
    NotJoined,
    /// The netmap has no such peer: it does not exist, or no rule of the policy connects it to this node.
    #[error("no peer of this node is called {0}: it does not exist, or no rule of the policy connects the two")]
    NoPeer(String),
    /// We have no address of that kind.
    #[error("this node has no address of the same IP version as {0}")]
    NoAddress(IpAddr),
    /// The peer's key, or ours, has expired.
    #[error("the key of {0} has expired")]
    Expired(String),
    /// The text is no address or name with a port.
    #[error("{0:?} is not of the form name:port or address:port")]
    Malformed(String),
}

impl Shared {
    /// The handle of a peer that the netmap holds, made at first use. `None` when it may not talk to us.
    pub(crate) fn peer_for(self: &Arc<Self>, node: &PeerNode) -> Option<Arc<PeerHandle>> {
        let peer = self.claimed_peer(node)?;
        peer.prove();
        Some(peer)
    }

    /// As [`peer_for`](Self::peer_for), for a datagram that only claims to be of that peer.
    pub(crate) fn claimed_peer(self: &Arc<Self>, node: &PeerNode) -> Option<Arc<PeerHandle>> {
        if let Some(peer) = self.peers.by_key(&node.key) {
            return Some(peer);
        }
        let mut rng = clock::rng();
        let seed = rng.next_u64();
        let (peer, evicted) = self.peers.get_or_insert(&node.key, &mut rng, |index| {
            // The netmap the caller looked at may be out of force by now.
            let view = PeerView::of(&*self.netmap.current()?, &node.key)?;
            let mut engine = Peer::new(self.peer_config(node.key, index, seed, view), clock::now());
            let (endpoints, at) = self.endpoints.lock().clone();
            engine.path_mut().handle_own_endpoints(endpoints, at);
            engine.announce_disco(self.disco.public());
            let (handle, inbox) = PeerHandle::new(node.key, engine);
            self.tasks
                .spawn(peer_task::run(Arc::clone(self), Arc::clone(&handle), inbox));
            Some(handle)
        });
        if let Some(evicted) = evicted {
            self.counters.unproven.fetch_add(1, Relaxed);
            evicted.engine().handle_view(clock::now(), None);
            evicted.kick();
        }
        peer
    }

    fn peer_config(&self, key: NodePublic, index: u32, seed: u64, view: PeerView) -> PeerConfig {
        PeerConfig {
            our: self.key.clone(),
            key,
            index,
            seed,
            limiter: Arc::clone(&self.limiter),
            memory: Arc::clone(&self.memory),
            limits: self.limits,
            ports: self.ports.snapshot(),
            view,
        }
    }

    /// The peer that has `address`.
    pub(crate) fn peer_at(self: &Arc<Self>, address: IpAddr) -> Result<Arc<PeerHandle>, Unroutable> {
        let netmap = self.netmap.current().ok_or(Unroutable::NotJoined)?;
        let node = netmap
            .peer_by_ip(address)
            .ok_or_else(|| Unroutable::NoPeer(address.to_string()))?;
        self.peer_for(node)
            .ok_or_else(|| Unroutable::Expired(address.to_string()))
    }

    /// Our tailnet addresses.
    pub(crate) fn own_addresses(&self) -> Vec<IpAddr> {
        self.netmap
            .current()
            .map(|netmap| netmap.self_node().addresses.clone())
            .unwrap_or_default()
    }

    /// Our address of the same IP version as `other`.
    pub(crate) fn own_address_like(&self, other: IpAddr) -> Result<IpAddr, Unroutable> {
        let mut own = self.own_addresses().into_iter();
        own.find(|ip| ip.is_ipv4() == other.is_ipv4())
            .ok_or(Unroutable::NoAddress(other))
    }

    /// Tells every peer which ports are open now.
    pub(crate) fn announce_ports(&self) {
        // One after the other, or an older list could overtake a newer one.
        self.ports.announcing(|ports| {
            for peer in self.peers.all() {
                peer.engine().set_listening(Arc::clone(&ports));
            }
        });
    }

    /// Sends one small datagram that belongs to no peer's engine: a cookie or a disco message. Lost if the socket is
    /// busy.
    pub(crate) fn send(&self, to: Hop, relayed: Option<NodePublic>, datagram: &[u8]) {
        match (to, relayed) {
            (Hop::Udp(address), _) => {
                self.udp.try_send(address, datagram, None);
            }
            (Hop::Derp(region), Some(key)) => {
                self.derp.send(region, &key, datagram);
            }
            (Hop::Derp(_), None) => {}
        }
    }

    /// Notes that `server` was asked, so that its answer is let through.
    pub(crate) fn expect_stun(&self, server: IpAddr) {
        let mut servers = self.stun_servers.lock();
        if !servers.contains(&server) {
            servers.truncate(MAX_STUN_SERVERS - 1);
            servers.push_front(server);
        }
    }

    /// Hands an answer of a STUN server to netcheck; lost when that has no room, and asked for again. From anybody else
    /// it is dropped: netcheck would have to look at each, and have no room for the real ones.
    pub(crate) fn stun(&self, from: SocketAddr, datagram: &[u8]) {
        if !self.stun_servers.lock().contains(&from.ip()) {
            self.counters.strangers.fetch_add(1, Relaxed);
        } else if self.stun.try_send((from, datagram.to_vec())).is_err() {
            self.counters.malformed.fetch_add(1, Relaxed);
        }
    }

    /// The home DERP region.
    pub(crate) fn home_region(&self) -> Option<u32> {
        self.derp.home()
    }

    /// Whether looking through all peers is affordable now.
    pub(crate) fn search_allowed(&self) -> bool {
        let now = clock::now();
        let mut searched = self.searched.lock();
        let allowed = now.saturating_duration_since(*searched) >= SEARCH_INTERVAL;
        if allowed {
            *searched = now;
        }
        allowed
    }

    /// A send buffer; give it back with [`return_transmits`](Self::return_transmits).
    pub(crate) fn take_transmits(&self) -> Transmits {
        self.transmits.lock().pop().unwrap_or_default()
    }

    /// Takes a send buffer back.
    pub(crate) fn return_transmits(&self, mut transmits: Transmits) {
        transmits.clear();
        let mut spare = self.transmits.lock();
        if spare.len() < SPARE_TRANSMITS {
            spare.push(transmits);
        }
    }

    /// Counts a batch that a peer's inbox had no room for.
    pub(crate) fn count_delivery(&self, delivered: bool) {
        if !delivered {
            self.counters.inbox_full.fetch_add(1, Relaxed);
        }
    }
}
