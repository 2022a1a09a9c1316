//! Nodes as the engine keeps them: what a map message says, checked, without what nobody here needs.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, SocketAddr},
    ops::Deref,
    sync::Arc,
};

use ipnet::IpNet;
use serde_json::value::RawValue;
use tailnet_wire::{
    control::{CapMap, Node, NodeId, PeerChange, UserId},
    key::{DiscoPublic, NodePublic},
};
use time::OffsetDateTime;

/// Another node of the tailnet.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerNode {
    /// Number in the tailnet.
    pub id: NodeId,
    /// Durable identity.
    pub stable_id: Arc<str>,
    /// WireGuard key.
    pub key: NodePublic,
    /// Disco key; `None` for stock WireGuard and for nodes that never connected.
    pub disco: Option<DiscoPublic>,
    /// Fully qualified name without trailing dot; may be empty.
    pub name: Arc<str>,
    /// Owner; means nobody when `tags` is not empty.
    pub user: UserId,
    /// Who shared the node in from another tailnet.
    pub sharer: Option<UserId>,
    /// Tags.
    pub tags: Vec<Arc<str>>,
    /// The node's own addresses, the only ones its packets may come from.
    pub addresses: Vec<IpAddr>,
    /// Where UDP may reach it.
    pub endpoints: Vec<SocketAddr>,
    /// Home region.
    pub home_derp: Option<u32>,
    /// When its key expires, in control's time; `None` = never. Ask [`is_expired`](Self::is_expired).
    pub key_expiry: Option<OffsetDateTime>,
    /// Control, or the clock at the last step, says that its key has expired.
    pub expired: bool,
    /// Whether control sees it; `None` = not known.
    pub online: Option<bool>,
    /// When control last saw it.
    pub last_seen: Option<OffsetDateTime>,
    /// Carries traffic for more than its own addresses: a subnet router or an exit node.
    pub routes: bool,
    /// May be connected to, but must not connect.
    pub jailed: bool,
    /// Stock WireGuard: no disco, no DERP.
    pub wireguard_only: bool,
    /// Node capabilities.
    pub cap_map: NodeCaps,
}

impl PeerNode {
    /// Whether the key has expired at `wall`, which is in control's time
    /// ([`Netmap::control_time`](super::Netmap::control_time)).
    pub fn is_expired(&self, wall: OffsetDateTime) -> bool {
        self.expired || self.key_expiry.is_some_and(|expiry| expiry <= wall)
    }

    /// `None` for an entry without a key: nobody can be talked to without one.
    pub(super) fn new(node: Node, names: &mut Interner) -> Option<Self> {
        let key = node.key?;
        Some(Self {
            id: node.id,
            key,
            disco: node.disco_key,
            name: node.name.trim_end_matches('.').into(),
            user: node.user,
            sharer: Some(node.sharer).filter(|sharer| *sharer != UserId(0)),
            tags: node.tags.iter().map(|tag| names.intern(tag)).collect(),
            routes: carries_routes(&node),
            addresses: single_addresses(&node.addresses),
            home_derp: node.home_derp_region(),
            endpoints: node.endpoints,
            key_expiry: node.key_expiry,
            expired: node.expired,
            online: node.online,
            last_seen: node.last_seen,
            jailed: node.is_jailed,
            wireguard_only: node.is_wire_guard_only,
            cap_map: NodeCaps::new(node.capabilities, node.cap_map, names),
            stable_id: node.stable_id.into(),
        })
    }

    /// Applies what a patch names and leaves the rest.
    pub(super) fn patch(&mut self, patch: PeerChange, names: &mut Interner) {
        if patch.derp_region != 0 {
            self.home_derp = Some(patch.derp_region);
        }
        if let Some(caps) = patch.cap_map {
            self.cap_map = NodeCaps::new(Vec::new(), caps, names);
        }
        if let Some(endpoints) = patch.endpoints {
            self.endpoints = endpoints;
        }
        if let Some(key) = patch.key {
            self.key = key;
        }
        self.disco = patch.disco_key.or(self.disco);
        self.online = patch.online.or(self.online);
        self.last_seen = patch.last_seen.or(self.last_seen);
        if let Some(expiry) = patch.key_expiry {
            self.key_expiry = expiry;
            self.expired = false;
        }
    }
}

/// Ourselves, as control sees us.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfNode {
    /// Number in the tailnet.
    pub id: NodeId,
    /// Durable identity.
    pub stable_id: Arc<str>,
    /// The node key that control has for us; `None` when it sent none.
    pub key: Option<NodePublic>,
    /// The assigned name, fully qualified without trailing dot; may differ from the one asked for.
    pub name: Arc<str>,
    /// Owner; means nobody when `tags` is not empty.
    pub user: UserId,
    /// Our addresses.
    pub addresses: Vec<IpAddr>,
    /// The tags granted.
    pub tags: Vec<Arc<str>>,
    /// When our key expires, in control's time; `None` = never.
    pub key_expiry: Option<OffsetDateTime>,
    /// Control, or the clock at the last step, says that our key has expired.
    pub expired: bool,
    /// Approved by an admin.
    pub machine_authorized: bool,
    /// Our node capabilities.
    pub cap_map: NodeCaps,
}

impl SelfNode {
    /// Whether our key has expired at `wall`, in control's time.
    pub fn is_expired(&self, wall: OffsetDateTime) -> bool {
        self.expired || self.key_expiry.is_some_and(|expiry| expiry <= wall)
    }

    pub(super) fn new(node: Node, names: &mut Interner) -> Self {
        Self {
            id: node.id,
            key: node.key,
            name: node.name.trim_end_matches('.').into(),
            user: node.user,
            addresses: single_addresses(&node.addresses),
            tags: node.tags.iter().map(|tag| names.intern(tag)).collect(),
            key_expiry: node.key_expiry,
            expired: node.expired,
            machine_authorized: node.machine_authorized,
            cap_map: NodeCaps::new(node.capabilities, node.cap_map, names),
            stable_id: node.stable_id.into(),
        }
    }
}

/// Capabilities of a node itself, by name, with their values. Reads like the map it is.
#[derive(Debug, Clone, Default)]
pub struct NodeCaps(BTreeMap<Arc<str>, Vec<Arc<RawValue>>>);

impl NodeCaps {
    /// Names from the older list count like names of the map.
    fn new(list: Vec<String>, map: CapMap, names: &mut Interner) -> Self {
        let mut caps: BTreeMap<_, _> = map
            .into_iter()
            .map(|(name, values)| {
                let values = values.unwrap_or_default().into_iter().map(Arc::from).collect();
                (names.intern(&name), values)
            })
            .collect();
        for name in list {
            caps.entry(names.intern(&name)).or_default();
        }
        Self(caps)
    }
}

impl Deref for NodeCaps {
    type Target = BTreeMap<Arc<str>, Vec<Arc<RawValue>>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl PartialEq for NodeCaps {
    fn eq(&self, other: &Self) -> bool {
        let texts = |values: &[Arc<RawValue>], other: &[Arc<RawValue>]| {
            values.iter().map(|v| v.get()).eq(other.iter().map(|v| v.get()))
        };
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(&other.0)
                .all(|((name, values), (n, v))| name == n && texts(values, v))
    }
}

/// Tags and capability names repeat on every node: one copy of each is enough.
#[derive(Debug, Default)]
pub(super) struct Interner(HashSet<Arc<str>>);

impl Interner {
    /// Texts kept at most. A tailnet has dozens; beyond the limit texts are no longer shared.
    const MAX: usize = 10_000;

    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        if self.0.len() < Self::MAX {
            self.0.insert(text.clone());
        }
        text
    }
}

/// Prefixes that are one address each; a node does not own wider ones.
fn single_addresses(prefixes: &[IpNet]) -> Vec<IpAddr> {
    prefixes
        .iter()
        .filter(|net| net.prefix_len() == net.max_prefix_len())
        .map(IpNet::addr)
        .collect()
}

fn carries_routes(node: &Node) -> bool {
    let allowed = node.allowed_ips.as_deref().unwrap_or_default();
    !node.primary_routes.is_empty() || allowed.iter().any(|net| !node.addresses.contains(net))
}
