//! What we sent by UDP and SCTP, so that the answers may come in.

use std::{collections::BTreeMap, net::SocketAddr};

use tailnet_wire::packet::IpProto;

/// How many flows are remembered, as in Go.
const CAPACITY: usize = 512;

/// A flow as its answer will look: protocol, remote address, our address.
type Flow = (IpProto, SocketAddr, SocketAddr);

/// The flows that we opened, the last 512 used. When it is full, the one that was silent longest is forgotten: its
/// answers then need a rule, like any datagram.
///
/// Ordered maps, not hashed ones: no random state, and nothing a peer could aim collisions at.
#[derive(Debug, Default)]
pub struct UdpFlows {
    last_use: BTreeMap<Flow, u64>,
    by_use: BTreeMap<u64, Flow>,
    uses: u64,
}

impl UdpFlows {
    /// An empty memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many flows are remembered.
    pub fn len(&self) -> usize {
        self.last_use.len()
    }

    /// Whether no flow is remembered.
    pub fn is_empty(&self) -> bool {
        self.last_use.is_empty()
    }

    /// Forgets the flows for which `keep(protocol, remote, ours)` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(IpProto, SocketAddr, SocketAddr) -> bool) {
        self.by_use
            .retain(|_, (proto, remote, ours)| keep(*proto, *remote, *ours));
        let by_use = &self.by_use;
        self.last_use.retain(|_, at| by_use.contains_key(at));
    }

    /// Whether an inbound packet answers a flow; if so, the flow counts as used now.
    pub(crate) fn contains(&mut self, proto: IpProto, src: SocketAddr, dst: SocketAddr) -> bool {
        // Nodes that only serve never sent a datagram of their own: nothing to look up.
        if self.last_use.is_empty() {
            return false;
        }
        let flow = (proto, src, dst);
        let Some(at) = self.last_use.get_mut(&flow) else {
            return false;
        };
        self.uses += 1;
        self.by_use.remove(at);
        self.by_use.insert(self.uses, flow);
        *at = self.uses;
        true
    }

    /// Remembers a flow, given as its answer will look.
    pub(super) fn insert(&mut self, proto: IpProto, remote: SocketAddr, ours: SocketAddr) {
        if self.contains(proto, remote, ours) {
            return;
        }
        if self.last_use.len() >= CAPACITY
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.last_use.remove(&oldest);
        }
        self.uses += 1;
        let flow = (proto, remote, ours);
        self.by_use.insert(self.uses, flow);
        self.last_use.insert(flow, self.uses);
    }
}
