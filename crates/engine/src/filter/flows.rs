//! What we sent by UDP and SCTP, so that the answers may come in.

use std::{collections::BTreeMap, net::SocketAddr};

use tailnet_wire::packet::IpProto;

/// How many flows are remembered, as in Go.
const CAPACITY: usize = 512;

/// A flow as its answer will look: protocol, remote address, our address.
type Key = (IpProto, SocketAddr, SocketAddr);

/// A flow that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpFlow {
    /// UDP or SCTP.
    pub proto: IpProto,
    /// The peer's end.
    pub remote: SocketAddr,
    /// Our end.
    pub ours: SocketAddr,
    /// A rule let the peer open this flow when we first sent on it, so it may have been the peer who began. When such a
    /// rule is withdrawn, what we answered must not keep the door open.
    pub by_peer: bool,
}

/// The flows that we sent on, the last 512 used. When it is full, the one that was silent longest is forgotten: its
/// answers then need a rule, like any datagram.
///
/// Ordered maps, not hashed ones: no random state, and nothing a peer could aim collisions at.
#[derive(Debug, Default)]
pub struct UdpFlows {
    flows: BTreeMap<Key, Memory>,
    by_use: BTreeMap<u64, Key>,
    uses: u64,
}

#[derive(Debug)]
struct Memory {
    last_use: u64,
    by_peer: bool,
}

impl UdpFlows {
    /// An empty memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many flows are remembered.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether no flow is remembered.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// Forgets the flows that are not to be kept. To be called when the rules or the addresses have changed.
    pub fn retain(&mut self, mut keep: impl FnMut(&UdpFlow) -> bool) {
        let by_use = &mut self.by_use;
        self.flows.retain(|&(proto, remote, ours), memory| {
            let kept = keep(&UdpFlow {
                proto,
                remote,
                ours,
                by_peer: memory.by_peer,
            });
            if !kept {
                by_use.remove(&memory.last_use);
            }
            kept
        });
    }

    /// Whether an inbound packet answers a flow; if so, the flow counts as used now.
    #[inline]
    pub(crate) fn contains(&mut self, proto: IpProto, src: SocketAddr, dst: SocketAddr) -> bool {
        // Nodes that only serve TCP never sent a datagram: nothing to look up.
        !self.flows.is_empty() && self.touch((proto, src, dst))
    }

    /// Remembers a flow, given as its answer will look. `by_peer` is asked when the flow is new.
    pub(super) fn insert(
        &mut self,
        proto: IpProto,
        remote: SocketAddr,
        ours: SocketAddr,
        by_peer: impl FnOnce() -> bool,
    ) {
        let key = (proto, remote, ours);
        if self.touch(key) {
            return;
        }
        if self.flows.len() >= CAPACITY
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.flows.remove(&oldest);
        }
        self.uses += 1;
        self.by_use.insert(self.uses, key);
        let memory = Memory {
            last_use: self.uses,
            by_peer: by_peer(),
        };
        self.flows.insert(key, memory);
    }

    fn touch(&mut self, key: Key) -> bool {
        let Some(memory) = self.flows.get_mut(&key) else {
            return false;
        };
        self.uses += 1;
        self.by_use.remove(&memory.last_use);
        self.by_use.insert(self.uses, key);
        memory.last_use = self.uses;
        true
    }
}
