//! Everything of one WireGuard peer as a value: tunnel, paths, what it may send, and its TCP/IP stack.
//!
//! Datagrams that belong to the peer come in with [`Peer::handle_datagram`]; encrypted datagrams go out through
//! [`Peer::poll_transmit`]. Applications read and write its connections with wakers. Nothing here does I/O or reads a
//! clock: the owner drives it.
//!
//! # Identity
//! A packet reaches a connection only through the tunnel whose key decrypted it, and that tunnel lives in the same
//! value as the connection. The inner source must be one of the peer's own addresses and the destination one of ours;
//! there is no lookup by address that could be fooled.
//!
//! # Driving it
//! One turn, on whatever woke the driver:
//! 1. [`handle_datagram`](Peer::handle_datagram) for all that arrived, [`handle_timeout`](Peer::handle_timeout) when
//!    [`poll_timeout`](Peer::poll_timeout) has passed,
//! 2. [`poll_transmit`](Peer::poll_transmit), send, and again while the buffer came back
//!    [full](Transmits::is_full); [`poll_disco`](Peer::poll_disco) until `None`,
//! 3. [`poll_event`](Peer::poll_event) until `None`, [`poll_datagram`](Peer::poll_datagram) until `None`,
//! 4. stop when [`is_finished`](Peer::is_finished), else sleep until `poll_timeout`, a datagram, or a kick.
//!
//! After a call that reads, writes or closes, [`wants_transmit`](Peer::wants_transmit) says whether the driver must be
//! kicked. A withdrawn peer ([`handle_view`](Peer::handle_view) with `None`) sends its resets with the next
//! `poll_transmit` and is then finished.
//!
//! ```
//! # use std::{sync::Arc, time::Instant};
//! # use tailnet_engine::{filter::Filter, netstack::ConnectionMemory, path::PathConfig, peer::*, tunnel::HandshakeLimiter};
//! # use tailnet_wire::key::NodePrivate;
//! # let ours = NodePrivate::from_random([1; 32]);
//! # let theirs = NodePrivate::from_random([2; 32]).public();
//! let now = Instant::now();
//! let local = vec!["100.64.0.1".parse().unwrap()];
//! let mut peer = Peer::new(
//!     PeerConfig {
//!         our: ours.clone(),
//!         key: theirs,
//!         index: 0x12_3456,
//!         seed: 4,
//!         limiter: Arc::new(HandshakeLimiter::new(&ours, 100)),
//!         memory: ConnectionMemory::new(64 << 20),
//!         limits: Limits::default(),
//!         ports: Arc::new(Ports::default()),
//!         view: PeerView {
//!             filter: Arc::new(Filter::jailed(&local)),
//!             local,
//!             remote: vec!["100.64.0.2".parse().unwrap()],
//!             node_caps: Default::default(),
//!             path: PathConfig::default(),
//!         },
//!     },
//!     now,
//! );
//! let mut transmits = Transmits::default();
//! peer.poll_transmit(now, &mut transmits);
//! assert!(transmits.is_empty(), "an idle peer says nothing");
//! ```

mod announce;
mod conns;
mod events;
mod ingress;
mod pings;
#[cfg(test)]
mod tests;
mod transmit;
mod turn;
mod view;

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tailnet_wire::{
    disco,
    key::{DiscoPublic, NodePrivate, NodePublic},
    packet::IpProto,
};

use self::pings::Pings;
pub use self::{
    conns::SendError,
    events::{Counters, Dropped, PeerEvent, PingId, PingKind},
    transmit::{Group, Transmits},
    view::PeerView,
};
pub use crate::netstack::{ConnError, ConnId, ConnectError, ConnectionMemory, Limits, MTU, udp::Datagram};
use crate::{
    filter::UdpFlows,
    netmap::Netmap,
    netstack::{FlowKey, Netstack, PacketQueue, udp},
    path::{Hop, Path},
    tunnel::{HandshakeLimiter, MIN_BUFFER, Tunnel},
};

/// The longest inner packet that is accepted: more than any tailnet MTU in use.
const MAX_PACKET: usize = 1520;
/// Bytes of our own small answers (ACKs, resets, pongs) that may wait for an egress pass.
const REPLY_BYTES: usize = 64 << 10;
/// Bytes of UDP datagrams that may wait for an egress pass or a session.
const OUTBOX_BYTES: usize = 256 << 10;
/// How long a peer that pings us without a session is given to bring its own handshake through.
const ANSWER_PING: Duration = Duration::from_millis(100);
/// Handshake messages that may wait; each is a reaction to one message or timer.
const MAX_HANDSHAKES: usize = 16;

/// Which ports of this node are open. Shared by all peers.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    /// TCP ports that somebody listens on.
    pub tcp: BTreeSet<u16>,
    /// UDP ports that somebody has bound.
    pub udp: BTreeSet<u16>,
}

/// What a [`Peer`] is made of.
#[derive(Debug)]
pub struct PeerConfig {
    /// Our node key.
    pub our: NodePrivate,
    /// The peer's node key.
    pub key: NodePublic,
    /// The peer's number (24 bits), by which its datagrams are found: unpredictable, not reused at once.
    pub index: u32,
    /// Randomness for TCP's initial sequence numbers.
    pub seed: u64,
    /// The limiter that all peers share.
    pub limiter: Arc<HandshakeLimiter>,
    /// The budget for connections that all peers share.
    pub memory: Arc<ConnectionMemory>,
    /// What this peer's TCP may cost.
    pub limits: Limits,
    /// Our open ports.
    pub ports: Arc<Ports>,
    /// What the netmap says of the peer.
    pub view: PeerView,
}

/// One WireGuard peer. See the [module](self).
#[derive(Debug)]
pub struct Peer {
    key: NodePublic,
    seed: u64,
    view: Option<PeerView>,
    closing: bool,
    ports: Arc<Ports>,
    memory: Arc<ConnectionMemory>,
    limits: Limits,
    tunnel: Tunnel,
    path: Path,
    netstack: Option<Box<Netstack>>,
    udp_flows: UdpFlows,
    inbox: udp::Inbox,
    /// Our own small answers, in plain text.
    replies: PacketQueue,
    /// UDP datagrams and pings of ours, in plain text.
    outbox: PacketQueue,
    /// Handshake messages, and the hop they answer; `None` for the current route.
    handshakes: VecDeque<(Option<Hop>, Vec<u8>)>,
    /// When a peer that pings us, and so wants to talk, gets a handshake from us.
    greet_at: Option<Instant>,
    /// Our disco key, until the peer was told.
    announce: Option<DiscoPublic>,
    pings: Pings,
    events: VecDeque<PeerEvent>,
    plain: Box<[u8]>,
    counters: Counters,
}

impl Peer {
    /// A peer that has not been heard of yet. Costs about 16 KiB and 50 us.
    pub fn new(config: PeerConfig, now: Instant) -> Self {
        let tunnel = Tunnel::new(&config.our, &config.key, config.index, &config.limiter, now);
        Self {
            key: config.key,
            seed: config.seed,
            path: Path::new(config.our.public(), config.view.path.clone()),
            view: Some(config.view),
            closing: false,
            ports: config.ports,
            memory: config.memory,
            limits: config.limits,
            tunnel,
            netstack: None,
            udp_flows: UdpFlows::new(),
            inbox: udp::Inbox::default(),
            replies: PacketQueue::new(REPLY_BYTES),
            outbox: PacketQueue::new(OUTBOX_BYTES),
            handshakes: VecDeque::new(),
            greet_at: None,
            announce: None,
            pings: Pings::default(),
            events: VecDeque::new(),
            plain: vec![0; MAX_PACKET].into_boxed_slice(),
            counters: Counters::default(),
        }
    }

    /// The peer's node key.
    pub fn key(&self) -> NodePublic {
        self.key
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters;
        counters.handshakes = self.tunnel.handshakes();
        counters.dropped.queue_full += self.replies.dropped() + self.outbox.dropped();
        if let Some(netstack) = &self.netstack {
            counters.tcp.add(netstack.counters());
        }
        counters
    }

    /// How many connections there are, open or not.
    pub fn connections(&self) -> usize {
        self.netstack.as_ref().map_or(0, |netstack| netstack.connections())
    }

    /// How long ago the last handshake was completed.
    pub fn session_age(&self, now: Instant) -> Option<Duration> {
        self.tunnel.session_age(now)
    }

    /// The paths to the peer, to read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The paths to the peer, for news that only the driver has: own endpoints, "peer gone", a ping to send.
    pub fn path_mut(&mut self) -> &mut Path {
        &mut self.path
    }

    /// Which ports are open from now on. Connections on a closed port live on.
    pub fn set_listening(&mut self, ports: Arc<Ports>) {
        self.ports = ports;
    }

    /// The netmap changed. `None` withdraws the peer: it was removed or has expired. Connections and datagrams that are
    /// no longer allowed are gone with this call: their waiters are woken with [`ConnError::Withdrawn`], and the next
    /// [`poll_transmit`](Self::poll_transmit) carries the resets.
    pub fn handle_view(&mut self, now: Instant, view: Option<PeerView>) {
        if let Some(view) = &view {
            self.path.handle_config(view.path.clone(), now);
        }
        self.view = view;
        let view = self.view.as_ref();
        let may_open = |proto, key: &FlowKey| view.is_some_and(|view| view.permits(proto, key));
        let may_hold = |key: &FlowKey| view.is_some_and(|view| view.holds(key));
        if let Some(netstack) = &mut self.netstack {
            let withdrawn = netstack.withdraw(ConnError::Withdrawn, |key, by_peer| {
                if by_peer {
                    may_open(IpProto::TCP, key)
                } else {
                    may_hold(key)
                }
            });
            let events = withdrawn.into_iter().map(|conn| PeerEvent::Withdrawn { conn });
            self.events.extend(events);
            if let Some(view) = view {
                netstack.set_addresses(&view.local);
            }
        }
        let key = |local, remote| FlowKey { local, remote };
        self.udp_flows.retain(|flow| {
            let key = key(flow.ours, flow.remote);
            if flow.by_peer {
                may_open(flow.proto, &key)
            } else {
                may_hold(&key)
            }
        });
        let answers = &mut self.udp_flows;
        self.inbox.retain(|datagram| {
            let key = key(datagram.local, datagram.remote);
            may_open(IpProto::UDP, &key) || answers.contains(IpProto::UDP, key.remote, key.local)
        });
    }

    /// The netmap changed: [`handle_view`](Self::handle_view) with what it says of this peer.
    pub fn handle_netmap(&mut self, now: Instant, netmap: &Netmap) {
        let view = PeerView::of(netmap, &self.key);
        self.handle_view(now, view);
    }

    /// Resets all connections, because the node stops. The next [`poll_transmit`](Self::poll_transmit) carries the
    /// resets; then the peer is finished.
    pub fn close_all(&mut self) {
        self.closing = true;
        if let Some(netstack) = &mut self.netstack {
            netstack.withdraw(ConnError::Closed, |_, _| false);
        }
    }

    /// Whether the peer is withdrawn or closed and has sent its last words.
    pub fn is_finished(&self) -> bool {
        (self.view.is_none() || self.closing) && !self.wants_transmit()
    }

    /// A disco message that opened with the peer's disco key.
    ///
    /// A ping without a session says that the peer wants to talk. Its own initiation may be lost: a peer that learned
    /// our address before our relay (Headscale batches changes) has nowhere to send it, and repeats it only after five
    /// seconds. So it gets a handshake from us.
    pub fn handle_disco(&mut self, now: Instant, from: Hop, message: &disco::Message) {
        self.path.handle_disco(message, from, now);
        if matches!(message, disco::Message::Ping { .. }) && !self.tunnel.has_session() {
            self.greet_at.get_or_insert(now + ANSWER_PING);
        }
    }

    /// The socket refused to send to `to`.
    pub fn handle_send_error(&mut self, now: Instant, to: SocketAddr) {
        self.path.handle_send_error(to, now);
    }

    /// The peer sends under a session that nobody has, as it does after our restart: asks it for a new one, at most
    /// once per second.
    pub fn force_handshake(&mut self, now: Instant) {
        let mut out = [0; MIN_BUFFER];
        if let Some(len) = self.tunnel.force_handshake(now, &mut out) {
            self.queue_handshake(None, &out[..len]);
        }
    }

    /// Asks the peer for a new session at once, because the one there is does not answer.
    pub fn renew_session(&mut self, now: Instant) {
        let mut out = [0; MIN_BUFFER];
        if let Some(len) = self.tunnel.renew(now, &mut out) {
            self.queue_handshake(None, &out[..len]);
        }
    }
}
