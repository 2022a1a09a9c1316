//! What one node should know, and the message that brings it there.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use ipnet::IpNet;
use serde_json::value::{RawValue, to_raw_value};
use tailnet_wire::control::{
    CapGrant, CapMap, DebugSettings, DnsConfig, FilterRule, MapResponse, NetPortRange, Node, NodeId, PeerChange,
    PortRange, Rules, TkaInfo, UserId, UserProfile,
};
use time::OffsetDateTime;

use super::{
    Control,
    session::{Ended, Viewer},
};
use crate::{
    policy::{Permits, Rule},
    registry::Record,
};

/// What a session has told its node so far.
pub(super) struct Mapper {
    viewer: Viewer,
    own: Option<Arc<Record>>,
    own_attributes: Vec<String>,
    peers: BTreeMap<NodeId, Arc<Record>>,
    rules: Option<Vec<Rule>>,
    profiles: BTreeMap<UserId, UserProfile>,
    udp_blocked: bool,
}

/// What a node should know, as the registry stands.
struct View {
    own: Arc<Record>,
    attributes: Vec<String>,
    peers: BTreeMap<NodeId, Arc<Record>>,
    rules: Vec<Rule>,
}

impl Mapper {
    pub(super) fn new(viewer: Viewer) -> Self {
        Self {
            viewer,
            own: None,
            own_attributes: Vec::new(),
            peers: BTreeMap::new(),
            rules: None,
            profiles: BTreeMap::new(),
            udp_blocked: false,
        }
    }

    /// The next message; `None` when nothing changed for this node, [`Ended`] when it was deleted.
    pub(super) fn next(&mut self, control: &Control) -> Result<Option<MapResponse>, Ended> {
        let view = view(control, self.viewer.id).ok_or(Ended)?;
        let wall = control.registry.wall();
        let blocked = control.registry.faults.udp_blocked();
        let first = self.own.is_none();
        let mut message = MapResponse::default();
        if first {
            self.begin(control, &view.own, &mut message, wall);
        }
        if self.own_changed(&view) {
            let mut node = self.node(&view.own, control, wall);
            node.cap_map = own_capabilities(&view.attributes);
            message.node = Some(Box::new(node));
        }
        if self.rules.as_ref() != Some(&view.rules) {
            let rules = view.rules.iter().map(filter_rule).collect();
            message.packet_filters.insert("base".to_owned(), Some(Rules(rules)));
        }
        self.add_profiles(&view, &mut message);
        let repeat = std::mem::replace(&mut self.udp_blocked, blocked) != blocked;
        self.add_peers(&view, control, wall, repeat, &mut message);
        if first {
            message.peers = std::mem::take(&mut message.peers_changed);
        }
        let nothing = !first
            && message.node.is_none()
            && message.packet_filters.is_empty()
            && message.user_profiles.is_empty()
            && message.peers_changed.is_empty()
            && message.peers_changed_patch.is_empty()
            && message.peers_removed.is_empty();
        self.own = Some(view.own);
        self.own_attributes = view.attributes;
        self.peers = view.peers;
        self.rules = Some(view.rules);
        Ok((!nothing).then_some(message))
    }

    /// What only the first message of a stream says.
    fn begin(&self, control: &Control, own: &Record, message: &mut MapResponse, wall: OffsetDateTime) {
        let settings = &control.settings;
        message.derp_map = Some(settings.derp_map.clone());
        message.domain.clone_from(&settings.base_domain);
        message.dns_config = Some(DnsConfig {
            proxied: true,
            domains: vec![settings.base_domain.clone()],
            cert_domains: settings
                .certificates
                .then(|| format!("{}.{}", own.name, settings.base_domain))
                .into_iter()
                .collect(),
            ..DnsConfig::default()
        });
        message.control_time = Some(wall);
        // 32 zero bytes in base32: the head of a chain that nobody has.
        message.tka_info = settings.locked.then(|| TkaInfo {
            head: "A".repeat(52),
            disabled: false,
        });
        message.debug = Some(DebugSettings {
            disable_log_tail: true,
            ..DebugSettings::default()
        });
    }

    /// Endpoints and the like are the node's own news; only what control decides is told back to it.
    fn own_changed(&self, view: &View) -> bool {
        let Some(own) = &self.own else { return true };
        let told = |node: &Record| {
            (
                node.key,
                node.name.clone(),
                node.owner.clone(),
                node.expiry,
                node.home_derp(),
            )
        };
        told(own) != told(&view.own) || self.own_attributes != view.attributes
    }

    fn add_profiles(&mut self, view: &View, message: &mut MapResponse) {
        for node in view.peers.values().chain([&view.own]) {
            let profile = node.owner.profile();
            if self.profiles.get(&profile.id) != Some(&profile) {
                message.user_profiles.push(profile.clone());
                self.profiles.insert(profile.id, profile);
            }
        }
    }

    fn add_peers(
        &mut self,
        view: &View,
        control: &Control,
        wall: OffsetDateTime,
        repeat: bool,
        message: &mut MapResponse,
    ) {
        message
            .peers_removed
            .extend(self.peers.keys().filter(|id| !view.peers.contains_key(id)));
        for (id, now) in &view.peers {
            let before = self.peers.get(id);
            if !repeat && before.is_some_and(|before| Arc::ptr_eq(before, now)) {
                continue;
            }
            match before.and_then(|before| self.patch(before, now, control, repeat)) {
                Some(patch) => {
                    let empty = PeerChange {
                        node_id: *id,
                        ..PeerChange::default()
                    };
                    if !same_patch(&patch, &empty) {
                        message.peers_changed_patch.push(patch);
                    }
                }
                None => message.peers_changed.push(self.node(now, control, wall)),
            }
        }
    }

    /// A change that a patch can carry; `None` when the whole node has to be sent.
    fn patch(&self, before: &Record, now: &Record, control: &Control, endpoints_anew: bool) -> Option<PeerChange> {
        let fixed = |node: &Record| {
            (
                node.name.clone(),
                node.owner.clone(),
                node.addresses.clone(),
                node.machine,
            )
        };
        if fixed(before) != fixed(now) || before.hostinfo.services != now.hostinfo.services {
            return None;
        }
        let changed = |same: bool| !same;
        let mut patch = PeerChange {
            node_id: now.id,
            ..PeerChange::default()
        };
        if changed(before.home_derp() == now.home_derp()) {
            patch.derp_region = now.home_derp();
        }
        if endpoints_anew || changed(before.endpoints == now.endpoints) {
            patch.endpoints = Some(endpoints(now, control, self.udp_blocked));
        }
        patch.key = changed(before.key == now.key).then_some(now.key);
        patch.disco_key = now.disco.filter(|_| changed(before.disco == now.disco));
        patch.key_expiry = changed(before.expiry == now.expiry).then_some(now.expiry);
        if changed(before.online() == now.online()) {
            patch.online = Some(now.online());
            patch.last_seen = (!now.online()).then_some(now.last_seen);
        }
        Some(patch)
    }

    /// A node as the viewer sees it.
    fn node(&self, record: &Record, control: &Control, wall: OffsetDateTime) -> Node {
        let expired = record.is_expired(wall);
        Node {
            id: record.id,
            stable_id: record.id.to_string(),
            name: format!("{}.{}.", record.name, control.settings.base_domain),
            user: record.owner.user_id(),
            key: Some(record.key),
            key_expiry: record.expiry,
            machine: Some(record.machine),
            disco_key: record.disco,
            addresses: record.addresses.iter().copied().map(IpNet::from).collect(),
            allowed_ips: Some(record.addresses.iter().copied().map(IpNet::from).collect()),
            endpoints: endpoints(record, control, self.udp_blocked),
            home_derp: record.home_derp(),
            hostinfo: Some(Box::new(record.hostinfo.clone())),
            created: Some(record.created),
            // Headscale tells every viewer its own version.
            cap: self.viewer.version.into(),
            tags: record.member().tags.to_vec(),
            last_seen: (!record.online()).then_some(record.last_seen),
            online: Some(record.online()),
            machine_authorized: !expired,
            expired,
            ..Node::default()
        }
    }
}

fn view(control: &Control, me: NodeId) -> Option<View> {
    let state = control.registry.lock();
    let own = state.nodes.get(&me)?.clone();
    let member = own.member();
    let peers = state
        .nodes
        .values()
        .filter(|node| node.id != me && state.policy.connects(&member, &node.member()))
        .map(|node| (node.id, node.clone()))
        .collect();
    let rules = state
        .policy
        .rules(&member, state.nodes.values().map(|node| node.member()));
    let attributes = state.policy.attributes(&member).map(str::to_owned).collect();
    drop(state);
    Some(View {
        attributes,
        peers,
        rules,
        own,
    })
}

fn same_patch(a: &PeerChange, b: &PeerChange) -> bool {
    serde_json::to_string(a).ok() == serde_json::to_string(b).ok()
}

/// Where peers are told that UDP reaches a node.
fn endpoints(record: &Record, control: &Control, blocked: bool) -> Vec<SocketAddr> {
    let reachable = |address: &&SocketAddr| control.nat.as_ref().is_none_or(|nat| nat.owns(**address));
    if blocked {
        Vec::new()
    } else {
        record.endpoints.iter().filter(reachable).copied().collect()
    }
}

fn own_capabilities(attributes: &[String]) -> CapMap {
    // What Headscale gives every node.
    let base = ["https://tailscale.com/cap/is-admin", "https://tailscale.com/cap/ssh"];
    base.into_iter()
        .chain(attributes.iter().map(String::as_str))
        .map(|name| (name.to_owned(), None))
        .collect()
}

fn filter_rule(rule: &Rule) -> FilterRule {
    let mut wire = FilterRule {
        src_ips: rule.src.clone(),
        ..FilterRule::default()
    };
    match &rule.what {
        Permits::Packets { dst, protocols, ports } => {
            wire.ip_proto.clone_from(protocols);
            for address in dst {
                wire.dst_ports.extend(ports.iter().map(|ports| NetPortRange {
                    ip: address.to_string(),
                    bits: None,
                    ports: PortRange {
                        first: ports.first,
                        last: ports.last,
                    },
                }));
            }
        }
        Permits::Capabilities { dst, caps } => {
            let values = |values: &Vec<serde_json::Value>| -> Vec<Box<RawValue>> {
                values.iter().filter_map(|value| to_raw_value(value).ok()).collect()
            };
            wire.cap_grant.push(CapGrant {
                dsts: dst.iter().copied().map(IpNet::from).collect(),
                caps: Vec::new(),
                cap_map: caps
                    .iter()
                    .map(|(name, list)| (name.clone(), Some(values(list))))
                    .collect(),
            });
        }
    }
    wire
}
