//! What a peer tells its driver, and what it counts.

use std::{net::SocketAddr, time::Duration};

use tailnet_wire::key::DiscoPublic;

use crate::{
    netstack::{ConnId, TcpCounters},
    path::PathEvent,
};

/// Something happened that the driver must know of.
#[derive(Debug, Clone, PartialEq)]
pub enum PeerEvent {
    /// The peer opened a connection.
    Accepted {
        /// Its name in the calls that read and write.
        conn: ConnId,
        /// Our end.
        local: SocketAddr,
        /// The peer's end.
        remote: SocketAddr,
    },
    /// The netmap no longer allows this connection; it was reset.
    Withdrawn {
        /// Which one.
        conn: ConnId,
    },
    /// A ping was answered.
    Pong {
        /// What [`Peer::ping`](super::Peer::ping) returned.
        id: PingId,
        /// From ping to pong.
        latency: Duration,
        /// The peer's peerAPI port, if it was a TSMP pong that named one.
        peer_api_port: Option<u16>,
    },
    /// The peer announced its disco key through the tunnel: messages sealed with it are to be given to
    /// [`Peer::handle_disco`](super::Peer::handle_disco).
    DiscoKey(DiscoPublic),
    /// The path to the peer changed, or a disco ping was answered.
    Path(PathEvent),
}

/// Names one ping of [`Peer::ping`](super::Peer::ping).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PingId(pub(super) u64);

/// How to ping a peer inside the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingKind {
    /// ICMP echo: the peer's IP stack answers, if its filter lets it.
    Icmp,
    /// TSMP: the peer's node answers, whatever its filter says.
    Tsmp,
}

/// What has happened with one peer so far. Plain numbers; they only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// IP packets that were decrypted.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// IP packets that were encrypted.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Completed WireGuard handshakes.
    pub handshakes: u64,
    /// What was not accepted, by reason.
    pub dropped: Dropped,
    /// Connections.
    pub tcp: TcpCounters,
}

/// What was dropped, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Datagrams that were no WireGuard message or not encrypted with the peer's key.
    pub not_authentic: u64,
    /// Datagrams seen before.
    pub replayed: u64,
    /// Datagrams of a session that this process does not have.
    pub unknown_session: u64,
    /// Datagrams longer than any packet of a tailnet.
    pub oversized: u64,
    /// Packets whose headers contradict each other, and IP fragments.
    pub malformed: u64,
    /// Packets from an address that is not the peer's own, as of a subnet router.
    pub foreign_source: u64,
    /// Packets to an address that is not ours.
    pub foreign_destination: u64,
    /// Packets that the policy does not allow.
    pub policy: u64,
    /// Datagrams to a UDP port that nobody has bound.
    pub unbound: u64,
    /// Packets of a protocol nobody answers here.
    pub unhandled: u64,
    /// Packets for which a queue was full, in either direction.
    pub queue_full: u64,
    /// Packets that came after the peer was withdrawn.
    pub withdrawn: u64,
    /// Packets for which there was no path.
    pub no_path: u64,
}
