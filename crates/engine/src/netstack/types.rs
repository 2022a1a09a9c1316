//! What the stack's owner sets and gets: limits, errors, counters.

use std::net::{IpAddr, SocketAddr};

/// Why a connection ended before both sides had closed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnError {
    /// The netmap no longer allows it: access was withdrawn, or the peer expired or is gone.
    #[error("the tailnet no longer allows this connection")]
    Withdrawn,
    /// The peer reset it.
    #[error("the peer reset the connection")]
    Reset,
    /// Nobody listens at the address dialed.
    #[error("the peer refused the connection")]
    Refused,
    /// The peer stopped answering.
    #[error("the peer stopped answering")]
    TimedOut,
    /// This side has closed it.
    #[error("the connection is closed")]
    Closed,
}

/// Why a connection could not be dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The local address is not ours, the remote one not the peer's, or they are of different IP versions.
    #[error("no connection is possible between {0} and {1}: use one of this node's addresses and one of the peer's")]
    Address(IpAddr, SocketAddr),
    /// The peer has too many connections already.
    #[error("too many connections with this peer: close some")]
    TooMany,
    /// `connection_memory` is used up.
    #[error("connection_memory is used up: close connections or raise it")]
    Memory,
}

/// What one peer's TCP may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections in the middle of their handshake that the peer opened.
    pub half_open: usize,
    /// Connections of any kind.
    pub open: usize,
    /// The largest buffer of a connection, in bytes, for each direction; it is 8 KiB at least all the same.
    pub buffer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            half_open: 64,
            open: 1024,
            buffer: 256 << 10,
        }
    }
}

/// What the TCP of one peer has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpCounters {
    /// Connections that the peer opened.
    pub accepted: u64,
    /// Connections that we opened.
    pub dialed: u64,
    /// Connections that were withdrawn.
    pub withdrawn: u64,
    /// SYNs to a port nobody listens on.
    pub unlistened: u64,
    /// SYNs above the limit of half-open connections.
    pub half_open_refused: u64,
    /// SYNs above the limit of connections.
    pub open_refused: u64,
    /// SYNs for which no memory was left.
    pub memory_refused: u64,
    /// Segments that were repeated before their timeout because they seemed lost.
    pub repeated: u64,
}

impl TcpCounters {
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.dialed += other.dialed;
        self.withdrawn += other.withdrawn;
        self.unlistened += other.unlistened;
        self.half_open_refused += other.half_open_refused;
        self.open_refused += other.open_refused;
        self.memory_refused += other.memory_refused;
        self.repeated += other.repeated;
    }
}
