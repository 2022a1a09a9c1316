//! A snapshot of the node for people and monitoring.

use std::{net::IpAddr, net::SocketAddr, sync::atomic::Ordering::Relaxed};

use serde::Serialize;
use tailnet_engine::{path::Hop, peer::Counters};

use crate::{clock, shared::Shared, supervisor::NodeState};

/// What the node is, whom it knows, and how it is doing. Durations are in milliseconds, sizes in bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// `running`, `login`, `approval`, `offline` or `stopped`.
    pub state: &'static str,
    /// The assigned MagicDNS name, fully qualified; may differ from the one asked for.
    pub name: String,
    /// Durable id of this node.
    pub stable_id: String,
    /// Our tailnet addresses.
    pub addresses: Vec<IpAddr>,
    /// The tags granted.
    pub tags: Vec<String>,
    /// The UDP port of the node.
    pub udp_port: u16,
    /// Time since control last confirmed the netmap; 0 while it is connected.
    pub netmap_age_ms: u64,
    /// The home DERP region.
    pub home_region: Option<u32>,
    /// Every peer of the netmap.
    pub peers: Vec<PeerStatus>,
    /// What the node as a whole dropped or refused, and the sums over all peers in touch.
    pub counters: StatusCounters,
    /// Bytes of `connection_memory` in use.
    pub connection_memory_used: usize,
    /// Bytes of `connection_memory`.
    pub connection_memory: usize,
}

/// One peer of the netmap.
#[derive(Debug, Clone, Serialize)]
pub struct PeerStatus {
    /// MagicDNS name.
    pub name: String,
    /// Durable id.
    pub stable_id: String,
    /// Login name of its user, or its tags.
    pub owner: String,
    /// Its tailnet addresses.
    pub addresses: Vec<IpAddr>,
    /// How it is reached: `direct ADDRESS`, `derp REGION`, or `idle`.
    pub path: String,
    /// Open connections.
    pub connections: usize,
    /// Bytes of IP packets received.
    pub rx_bytes: u64,
    /// Bytes of IP packets sent.
    pub tx_bytes: u64,
    /// Packets the policy did not allow.
    pub dropped_policy: u64,
}

/// Sums since the node started. A peer that the netmap drops takes its part along.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StatusCounters {
    /// Datagrams of nobody in the netmap.
    pub strangers: u64,
    /// Datagrams that are nothing a node speaks.
    pub malformed: u64,
    /// Datagrams of a session that this process does not have.
    pub no_session: u64,
    /// Batches for which a peer's inbox was full.
    pub inbox_full: u64,
    /// Handshakes that had to prove their address first.
    pub challenged: u64,
    /// Handshakes beyond what one address, or all together, may ask for; an estimate while there are very many.
    pub throttled: u64,
    /// Peers forgotten because nothing but an unproven handshake spoke for them.
    pub unproven: u64,
    /// Connections and datagrams for which an application's queue was full.
    pub backlog_full: u64,
    /// Datagrams in a peer's name that its key did not encrypt, that were seen before, or that are too long.
    pub not_authentic: u64,
    /// Packets of a peer whose headers contradict each other, and IP fragments.
    pub malformed_inside: u64,
    /// Packets the policy did not allow.
    pub policy: u64,
    /// Packets from an address that is not the peer's own.
    pub foreign_source: u64,
    /// Packets to an address that is not ours.
    pub foreign_destination: u64,
    /// Completed WireGuard handshakes.
    pub handshakes: u64,
    /// Connections that peers opened.
    pub accepted: u64,
    /// Connections that were withdrawn by a netmap change.
    pub withdrawn: u64,
    /// Connections refused by a limit.
    pub refused: u64,
}

pub(crate) fn status(shared: &Shared, state: &NodeState) -> Status {
    let netmap = shared.netmap.current();
    let mut counters = node_counters(shared);
    let mut peers = Vec::new();
    for node in netmap.iter().flat_map(|netmap| netmap.peers()) {
        let owner = match (
            &node.tags[..],
            netmap.as_ref().and_then(|netmap| netmap.user(node.user)),
        ) {
            ([], user) => user.map(|user| user.login_name.clone()).unwrap_or_default(),
            (tags, _) => tags.join(","),
        };
        let mut status = PeerStatus {
            name: node.name.to_string(),
            stable_id: node.stable_id.to_string(),
            owner,
            addresses: node.addresses.clone(),
            path: "idle".to_owned(),
            connections: 0,
            rx_bytes: 0,
            tx_bytes: 0,
            dropped_policy: 0,
        };
        if let Some(handle) = shared.peers.by_key(&node.key) {
            let engine = handle.engine();
            let of_peer = engine.counters();
            counters.add(&of_peer);
            status.path = path(engine.path().current(clock::now()));
            status.connections = engine.connections();
            status.rx_bytes = of_peer.rx_bytes;
            status.tx_bytes = of_peer.tx_bytes;
            status.dropped_policy = of_peer.dropped.policy;
        }
        peers.push(status);
    }
    let own = netmap.as_ref().map(|netmap| netmap.self_node());
    Status {
        state: state.word(),
        name: own.map(|own| own.name.to_string()).unwrap_or_default(),
        stable_id: own.map(|own| own.stable_id.to_string()).unwrap_or_default(),
        addresses: own.map(|own| own.addresses.clone()).unwrap_or_default(),
        tags: own
            .map(|own| own.tags.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        udp_port: shared.udp.port(),
        netmap_age_ms: u64::try_from(shared.netmap.age().as_millis()).unwrap_or(u64::MAX),
        home_region: shared.home_region(),
        peers,
        counters,
        connection_memory_used: shared.memory.used(),
        connection_memory: shared.memory.limit(),
    }
}

fn path(hop: Option<Hop>) -> String {
    match hop {
        Some(Hop::Udp(address)) => format!(
            "direct {}",
            SocketAddr::new(address.ip().to_canonical(), address.port())
        ),
        Some(Hop::Derp(region)) => format!("derp {region}"),
        None => "idle".to_owned(),
    }
}

fn node_counters(shared: &Shared) -> StatusCounters {
    let counters = &shared.counters;
    StatusCounters {
        strangers: counters.strangers.load(Relaxed),
        malformed: counters.malformed.load(Relaxed),
        no_session: counters.no_session.load(Relaxed),
        inbox_full: counters.inbox_full.load(Relaxed) + shared.udp.dropped(),
        challenged: counters.challenged.load(Relaxed),
        throttled: counters.throttled.load(Relaxed),
        unproven: counters.unproven.load(Relaxed),
        backlog_full: counters.backlog_full.load(Relaxed),
        ..StatusCounters::default()
    }
}

impl StatusCounters {
    fn add(&mut self, peer: &Counters) {
        self.policy += peer.dropped.policy;
        let dropped = &peer.dropped;
        self.not_authentic += dropped.not_authentic + dropped.replayed + dropped.oversized;
        self.malformed_inside += dropped.malformed;
        self.foreign_source += dropped.foreign_source;
        self.foreign_destination += dropped.foreign_destination;
        self.handshakes += peer.handshakes;
        self.accepted += peer.tcp.accepted;
        self.withdrawn += peer.tcp.withdrawn;
        self.refused += peer.tcp.half_open_refused + peer.tcp.open_refused + peer.tcp.memory_refused;
    }
}
