//! The control server of a run: who exists, who may dial whom, and the map messages that say so.
//!
//! A [`Change`] alters the truth; each alteration becomes one message per node, in one of the forms that real servers
//! use, and arrives later. Beside each message travels the [`Truth`] it stands for, by which the run judges what the
//! node does from then on, without asking the code under test.

use std::{
    collections::{BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use rand::{Rng as _, rngs::SmallRng};
use tailnet_wire::{
    control::{DerpMap, FilterRule, MapResponse, NetPortRange, Node, NodeId, PeerChange, PortRange, Rules},
    key::{DiscoPublic, NodePublic},
};
use time::OffsetDateTime;

use crate::{
    app::Role,
    clock::Time,
    network::HostId,
    scenario::{Change, PORTS},
};

/// What control knows of a node.
#[derive(Debug, Clone)]
pub struct Record {
    /// Node key.
    pub key: NodePublic,
    /// Disco key, as the node last said.
    pub disco: DiscoPublic,
    /// UDP endpoints, as the node last said.
    pub endpoints: Vec<SocketAddr>,
    /// Its relay.
    pub home: u32,
    /// Tailnet addresses.
    pub addresses: Vec<IpAddr>,
    expiry: Option<Time>,
    jailed: bool,
}

impl Record {
    /// A node that has registered.
    pub fn new(key: NodePublic, disco: DiscoPublic, home: u32, addresses: Vec<IpAddr>) -> Self {
        Self {
            key,
            disco,
            endpoints: Vec::new(),
            home,
            addresses,
            expiry: None,
            jailed: false,
        }
    }
}

/// What one node must abide by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Truth {
    peer: Option<NodePublic>,
    peer_expiry: Option<Time>,
    own_expiry: Option<Time>,
    ports: BTreeSet<u16>,
}

impl Truth {
    /// Whether a connection with `peer` may be open at `now`: any that we dialed while both keys are good, and one that
    /// the peer dialed while it may besides.
    pub fn permits(&self, now: Time, peer: NodePublic, role: Role, port: u16) -> bool {
        let good = |expiry: Option<Time>| expiry.is_none_or(|expiry| now < expiry);
        self.peer == Some(peer)
            && good(self.peer_expiry)
            && good(self.own_expiry)
            && (role == Role::Dialed || self.ports.contains(&port))
    }
}

/// One message on its way to a node.
#[derive(Debug)]
pub struct News {
    /// What a server would send.
    pub message: MapResponse,
    /// Whether it is the first of a new map stream.
    pub fresh: bool,
    /// What it stands for.
    pub truth: Truth,
}

/// The server.
#[derive(Debug)]
pub struct Control {
    rng: SmallRng,
    epoch: OffsetDateTime,
    nodes: Vec<Record>,
    access: BTreeSet<(HostId, u16)>,
    intruder: Option<Record>,
    connected: bool,
    down: bool,
    /// Whether a node has a map stream, and whether it knows its peer from it.
    streams: Vec<Option<bool>>,
    /// What each node was told of its peer that no patch can change: key and jail.
    told: Vec<Option<(Option<NodePublic>, bool)>>,
    /// The key expiry that each node was told of itself.
    told_expiry: Vec<Option<Time>>,
    outboxes: Vec<VecDeque<(Time, News)>>,
}

impl Control {
    /// A server for two nodes that may dial each other on all ports, and perhaps a third that may nothing.
    pub fn new(rng: SmallRng, epoch: OffsetDateTime, nodes: [Record; 2], intruder: Option<Record>) -> Self {
        Self {
            rng,
            epoch,
            nodes: nodes.into(),
            access: (0..2).flat_map(|from| PORTS.map(|port| (from, port))).collect(),
            intruder,
            connected: true,
            down: false,
            streams: vec![None; 2],
            told: vec![None; 2],
            told_expiry: vec![None; 2],
            outboxes: vec![VecDeque::new(), VecDeque::new()],
        }
    }

    /// What control knows of a node.
    pub fn record(&self, host: HostId) -> &Record {
        &self.nodes[host]
    }

    /// A node says where it is, or begins anew with other keys. It is heard unless control is down.
    pub fn update(&mut self, now: Time, host: HostId, update: impl FnOnce(&mut Record)) {
        let before = format!("{:?}", self.nodes[host]);
        update(&mut self.nodes[host]);
        if before != format!("{:?}", self.nodes[host]) {
            self.announce(now);
        }
    }

    /// A node opens its map stream.
    pub fn begin_stream(&mut self, now: Time, host: HostId) {
        self.outboxes[host].clear();
        self.streams[host] = None;
        self.announce(now);
    }

    /// Control stops answering, or comes back: then all streams begin anew.
    pub fn set_down(&mut self, now: Time, down: bool) {
        self.down = down;
        if !down {
            self.outboxes.iter_mut().for_each(VecDeque::clear);
            self.streams = vec![None; 2];
            self.announce(now);
        }
    }

    /// Changes the policy. A rotation is the node's own doing and comes by [`update`](Self::update).
    pub fn apply(&mut self, now: Time, change: Change) {
        match change {
            Change::Access {
                from,
                port,
                allowed: true,
            } => {
                self.access.insert((from, port));
            }
            Change::Access { from, port, .. } => {
                self.access.remove(&(from, port));
            }
            Change::Connected(connected) => self.connected = connected,
            Change::Expire(host, at) => self.nodes[host].expiry = Some(at),
            Change::Renew(host) => self.nodes[host].expiry = None,
            Change::Jail(host, jailed) => self.nodes[host].jailed = jailed,
            Change::Rotate(_) => return,
        }
        self.announce(now);
    }

    /// Gives everything back that was taken.
    pub fn heal(&mut self, now: Time) {
        self.connected = true;
        self.access = (0..2).flat_map(|from| PORTS.map(|port| (from, port))).collect();
        for node in &mut self.nodes {
            node.expiry = None;
            node.jailed = false;
        }
        self.set_down(now, false);
    }

    /// When the next message arrives.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.down {
            return None;
        }
        let first = |outbox: &VecDeque<(Time, News)>| outbox.front().map(|(at, _)| *at);
        self.outboxes.iter().filter_map(first).min()
    }

    /// The next message that arrives at a node at `now`.
    pub fn poll(&mut self, now: Time, host: HostId) -> Option<News> {
        let outbox = &mut self.outboxes[host];
        let due = !self.down && outbox.front().is_some_and(|(at, _)| *at <= now);
        if due {
            outbox.pop_front().map(|(_, news)| news)
        } else {
            None
        }
    }

    fn announce(&mut self, now: Time) {
        if self.down {
            return;
        }
        for host in 0..self.nodes.len() {
            let news = self.news(host);
            let last = self.outboxes[host].back().map_or(now, |(at, _)| *at);
            let at = last.max(now + Duration::from_millis(self.rng.random_range(20..400)));
            self.outboxes[host].push_back((at, news));
        }
    }

    fn news(&mut self, host: HostId) -> News {
        let stream = self.streams[host];
        let mut message = MapResponse::default();
        let expiry = self.nodes[host].expiry;
        if stream.is_none() || self.told_expiry[host] != expiry || self.rng.random_ratio(1, 4) {
            message.node = Some(Box::new(self.node(host)));
        }
        if stream.is_none() {
            message.derp_map = Some(DerpMap::default());
        }
        self.told_expiry[host] = expiry;
        if self.connected {
            self.tell_peer(host, stream == Some(true), &mut message);
        } else if stream.is_none() {
            message.peers.extend(self.intruder_node());
        } else if stream == Some(true) {
            message.peers_removed = vec![NodeId(1 + (1 - host) as i64)];
        }
        // A removed peer takes its rules with it on most servers, not on all.
        if self.connected || stream.is_none() || self.rng.random() {
            self.tell_filter(host, &mut message);
        }
        self.streams[host] = Some(self.connected);
        News {
            message,
            fresh: stream.is_none(),
            truth: self.truth(host),
        }
    }

    fn truth(&self, host: HostId) -> Truth {
        if !self.connected {
            return Truth::default();
        }
        let (peer, node) = (1 - host, &self.nodes[1 - host]);
        let ports = self.access.iter().filter(|(from, _)| *from == peer && !node.jailed);
        Truth {
            peer: Some(node.key),
            peer_expiry: node.expiry,
            own_expiry: self.nodes[host].expiry,
            ports: ports.map(|(_, port)| *port).collect(),
        }
    }

    fn tell_peer(&mut self, host: HostId, known: bool, message: &mut MapResponse) {
        let node = self.node(1 - host);
        let patch = PeerChange {
            node_id: node.id,
            derp_region: node.home_derp,
            endpoints: Some(node.endpoints.clone()),
            disco_key: node.disco_key,
            key_expiry: Some(node.key_expiry),
            ..PeerChange::default()
        };
        let told = self.told[host].replace((node.key, node.is_jailed));
        if known && told == Some((node.key, node.is_jailed)) && self.rng.random() {
            message.peers_changed_patch = vec![patch];
        } else if known && self.rng.random() {
            message.peers_changed = vec![node];
        } else {
            message.peers = vec![node];
            message.peers.extend(self.intruder_node());
        }
    }

    fn intruder_node(&self) -> Option<Node> {
        self.intruder.as_ref().map(|record| self.describe(INTRUDER, record))
    }

    fn tell_filter(&mut self, host: HostId, message: &mut MapResponse) {
        let rules = self.rules(host);
        if self.rng.random_ratio(1, 3) {
            message.packet_filter = Some(rules);
            return;
        }
        if self.rng.random() {
            message.packet_filters.insert("*".into(), None);
        }
        message.packet_filters.insert("base".into(), Some(Rules(rules)));
    }

    /// The rules for what may come into a node.
    fn rules(&mut self, host: HostId) -> Vec<FilterRule> {
        if !self.connected {
            return Vec::new();
        }
        let (ours, theirs) = (&self.nodes[host].addresses, &self.nodes[1 - host].addresses);
        let from_peer = self.access.iter().filter(|(from, _)| *from != host);
        let form = self.rng.random_range(0..3);
        let source = |ip: &IpAddr| match form {
            0 => ip.to_string(),
            1 => IpNet::from(*ip).to_string(),
            _ => format!("{ip}-{ip}"),
        };
        let rule = |(_, port): &(HostId, u16)| FilterRule {
            src_ips: theirs.iter().map(source).collect(),
            dst_ports: ours
                .iter()
                .map(|ip| NetPortRange {
                    ip: ip.to_string(),
                    bits: None,
                    ports: PortRange {
                        first: *port,
                        last: *port,
                    },
                })
                .collect(),
            ..FilterRule::default()
        };
        from_peer.map(rule).collect()
    }

    fn node(&self, host: HostId) -> Node {
        self.describe(host, &self.nodes[host])
    }

    fn describe(&self, host: HostId, record: &Record) -> Node {
        Node {
            id: NodeId(1 + host as i64),
            stable_id: format!("n{host}"),
            name: format!("node-{host}.example.ts.net."),
            key: Some(record.key),
            key_expiry: record.expiry.map(|at| self.epoch + at),
            disco_key: Some(record.disco),
            addresses: record.addresses.iter().map(|ip| IpNet::from(*ip)).collect(),
            endpoints: record.endpoints.clone(),
            home_derp: record.home,
            machine_authorized: true,
            is_jailed: record.jailed,
            ..Node::default()
        }
    }
}

/// The host number of the intruder.
pub const INTRUDER: HostId = 2;
