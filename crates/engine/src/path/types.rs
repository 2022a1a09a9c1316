//! What the owner of a [`Path`](super::Path) gives and gets.

use std::{net::SocketAddr, time::Duration};

use tailnet_wire::key::DiscoPublic;

use crate::netmap::PeerNode;

/// Where a datagram came from or goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hop {
    /// A UDP address.
    Udp(SocketAddr),
    /// A DERP region by number.
    Derp(u32),
}

/// Where the next WireGuard datagram to the peer goes: to each hop that is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Route {
    /// A direct address.
    pub udp: Option<SocketAddr>,
    /// A DERP region.
    pub derp: Option<u32>,
}

/// What the netmap says of a peer's paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathConfig {
    /// The peer's disco key; without one it can be reached over DERP and where its own datagrams come from.
    pub disco: Option<DiscoPublic>,
    /// Addresses at which the peer says it may be reached.
    pub endpoints: Vec<SocketAddr>,
    /// The DERP region where the peer listens.
    pub home_derp: Option<u32>,
}

impl From<&PeerNode> for PathConfig {
    fn from(node: &PeerNode) -> Self {
        Self {
            disco: node.disco,
            endpoints: node.endpoints.clone(),
            home_derp: node.home_derp,
        }
    }
}

/// Something that the owner of a [`Path`](super::Path) may act upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathEvent {
    /// Traffic now takes this way; `None` means that the peer cannot be reached at all.
    Changed(Option<Hop>),
    /// Our own endpoint list is too old for a CallMeMaybe: determine it again (STUN), then call
    /// [`Path::handle_own_endpoints`](super::Path::handle_own_endpoints), even if nothing changed.
    StaleEndpoints,
    /// The peer answered a ping that [`Path::ping`](super::Path::ping) asked for.
    Pong {
        /// Which way the answered ping went.
        hop: Hop,
        /// The round trip.
        latency: Duration,
    },
}
