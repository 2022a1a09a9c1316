//! What the netmap says that matters to the packets of one peer.

use std::{net::IpAddr, sync::Arc};

use tailnet_wire::{
    key::NodePublic,
    packet::{IpProto, Packet},
};

use crate::{
    filter::{Filter, UdpFlows, Verdict},
    netmap::{Netmap, NodeCaps},
    netstack::FlowKey,
    path::PathConfig,
};

/// One peer as the netmap shows it now. Replaced as a whole when the netmap changes.
#[derive(Debug, Clone)]
pub struct PeerView {
    /// Our addresses.
    pub local: Vec<IpAddr>,
    /// The peer's own addresses: the only inner sources that are believed.
    pub remote: Vec<IpAddr>,
    /// What may come in; [`Filter::jailed`] for a jailed peer.
    pub filter: Arc<Filter>,
    /// The peer's node capabilities, for `cap:` sources of rules.
    pub node_caps: NodeCaps,
    /// Where the peer may be reached.
    pub path: PathConfig,
}

impl PeerView {
    /// The view of the peer with this key. `None` when the netmap does not have it, or it may not talk to us any more
    /// because its key, or ours, has expired.
    pub fn of(netmap: &Netmap, key: &NodePublic) -> Option<Self> {
        let node = netmap.peer_by_key(key).filter(|node| !node.expired)?;
        let own = Some(netmap.self_node()).filter(|own| !own.expired)?;
        Some(Self {
            local: own.addresses.clone(),
            remote: node.addresses.clone(),
            filter: Arc::clone(netmap.filter_for(node)),
            node_caps: node.cap_map.clone(),
            path: PathConfig {
                disco: node.disco,
                endpoints: node.endpoints.clone(),
                home_derp: node.home_derp,
            },
        })
    }

    pub(super) fn judge(&self, packet: &Packet, flows: &mut UdpFlows) -> Verdict {
        self.filter
            .check_in(packet, &|name| self.node_caps.contains_key(name), flows)
    }

    /// Remembers that a datagram of ours may be answered.
    pub(super) fn note_out(&self, packet: &Packet, flows: &mut UdpFlows) {
        let has_cap = |name: &str| self.node_caps.contains_key(name);
        self.filter.note_out(packet, &has_cap, flows);
    }

    /// Whether the peer may hold a flow that it opened.
    pub(super) fn permits(&self, proto: IpProto, key: &FlowKey) -> bool {
        let has_cap = |name: &str| self.node_caps.contains_key(name);
        self.holds(key) && self.filter.permits(proto, key.remote.ip(), key.local, &has_cap)
    }

    /// Whether both ends of a flow still have their addresses.
    pub(super) fn holds(&self, key: &FlowKey) -> bool {
        self.local.contains(&key.local.ip()) && self.remote.contains(&key.remote.ip())
    }
}
