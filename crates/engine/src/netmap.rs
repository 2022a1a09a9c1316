//! The netmap: who is in the tailnet, what they may do, and where the relays are (Go: `types/netmap`).
//!
//! Map messages go into [`NetmapState`], which applies each one as a whole or not at all. Out comes a [`Change`]: the
//! new [`Netmap`], an immutable snapshot shared by everyone who needs one, and what differs from the snapshot before.
//! Snapshots share what did not change: one delta in a tailnet of 10,000 peers makes one new [`PeerNode`], and as many
//! pointers as there are peers.
//!
//! Peers are found by node key, id, stable id, address, name and disco key. The address and name lookups are for
//! dialling and for `whois`; who a packet is from is known from the key that decrypted it.

mod delta;
mod node;
mod table;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use tailnet_wire::{
    control::{DerpMap, DnsConfig, NodeId, UserId, UserProfile},
    key::{DiscoPublic, NodePublic},
};
use time::{Duration, OffsetDateTime};

use self::table::Table;
pub use self::{
    delta::{MapError, NetmapState},
    node::{NodeCaps, PeerNode, SelfNode},
};
use crate::filter::Filter;

/// An immutable picture of the tailnet.
#[derive(Debug, Clone)]
pub struct Netmap {
    self_node: Arc<SelfNode>,
    peers: Arc<Table>,
    users: Arc<HashMap<UserId, Arc<UserProfile>>>,
    filter: Arc<Filter>,
    jailed: Arc<Filter>,
    derp_map: Arc<DerpMap>,
    dns: Arc<DnsConfig>,
    domain: Arc<str>,
    health: Arc<[String]>,
    clock_offset: Duration,
}

impl Netmap {
    /// Ourselves, as control sees us.
    pub fn self_node(&self) -> &SelfNode {
        &self.self_node
    }

    /// All peers, in no order that means anything.
    pub fn peers(&self) -> impl Iterator<Item = &Arc<PeerNode>> {
        self.peers.iter()
    }

    /// How many peers there are.
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// The peer with this node key.
    pub fn peer_by_key(&self, key: &NodePublic) -> Option<&Arc<PeerNode>> {
        self.peers.by_key(key)
    }

    /// The peer with this number.
    pub fn peer_by_id(&self, id: NodeId) -> Option<&Arc<PeerNode>> {
        self.peers.by_id(id)
    }

    /// The peer with this stable id.
    pub fn peer_by_stable_id(&self, stable_id: &str) -> Option<&Arc<PeerNode>> {
        self.peers.by_stable_id(stable_id)
    }

    /// The peer that owns this tailnet address.
    pub fn peer_by_ip(&self, ip: IpAddr) -> Option<&Arc<PeerNode>> {
        self.peers.by_ip(ip)
    }

    /// The peer with this MagicDNS name: fully qualified, with or without a trailing dot, or the first label alone for
    /// a peer of our own tailnet. Case does not matter.
    pub fn peer_by_name(&self, name: &str) -> Option<&Arc<PeerNode>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if name.contains('.') {
            return self.peers.by_name(&name);
        }
        let suffix = self.dns_suffix()?.to_ascii_lowercase();
        self.peers.by_name(&format!("{name}.{suffix}"))
    }

    /// The peers that use this disco key: one, but for a node that was registered anew without a restart.
    pub fn peers_by_disco(&self, disco: &DiscoPublic) -> impl Iterator<Item = &Arc<PeerNode>> {
        self.peers.by_disco(disco)
    }

    /// What people call a user.
    pub fn user(&self, id: UserId) -> Option<&Arc<UserProfile>> {
        self.users.get(&id)
    }

    /// The packet filter for peers in good standing. [`filter_for`](Self::filter_for) minds the jailed ones.
    pub fn filter(&self) -> &Arc<Filter> {
        &self.filter
    }

    /// The packet filter for what comes from `peer`.
    pub fn filter_for(&self, peer: &PeerNode) -> &Arc<Filter> {
        if peer.jailed { &self.jailed } else { &self.filter }
    }

    /// The relays.
    pub fn derp_map(&self) -> &Arc<DerpMap> {
        &self.derp_map
    }

    /// The DNS settings.
    pub fn dns(&self) -> &Arc<DnsConfig> {
        &self.dns
    }

    /// Name of the tailnet.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Warnings of control about this node, for status.
    pub fn health(&self) -> &[String] {
        &self.health
    }

    /// The MagicDNS suffix: our own name without its first label.
    pub fn dns_suffix(&self) -> Option<&str> {
        self.self_node.name.split_once('.').map(|(_, suffix)| suffix)
    }

    /// What control's clock shows when ours shows `wall`. Differences of up to a minute count as none.
    pub fn control_time(&self, wall: OffsetDateTime) -> OffsetDateTime {
        wall.saturating_add(self.clock_offset)
    }
}

/// What one step did to the netmap.
#[derive(Debug, Clone)]
pub struct Change {
    /// The snapshot from now on.
    pub netmap: Arc<Netmap>,
    /// Node keys that belong to no peer any more.
    pub removed: Vec<NodePublic>,
    /// Node keys of peers that are new or differ in any field.
    pub updated: Vec<NodePublic>,
    /// Control sent rules, or our own addresses changed. The rules may be the same as before.
    pub filter: bool,
    /// A user profile is new or differs.
    pub users: bool,
    /// The DERP map differs.
    pub derp_map: bool,
    /// Our own node differs.
    pub self_node: bool,
}
