//! How many handshakes each address may ask for while there are more than the node can serve.

use std::{collections::HashMap, net::IpAddr};

/// Handshakes per second from one address under load (Go's device/ratelimiter: 20).
const PER_SOURCE: u32 = 20;
/// Addresses counted at the same time; more are refused until the second is over. All but the first few have proven
/// with a cookie that they receive there, so nobody fills this with invented ones.
const MAX_SOURCES: usize = 4096;

/// The handshakes of this second.
#[derive(Debug)]
pub(super) struct Sources {
    free: u32,
    total: u32,
    by_source: HashMap<IpAddr, u32>,
}

impl Sources {
    /// Lets `free` handshakes per second pass uncounted.
    pub(super) fn new(free: u32) -> Self {
        Self {
            free,
            total: 0,
            by_source: HashMap::new(),
        }
    }

    /// Whether one more handshake from `source` may be served.
    pub(super) fn admit(&mut self, source: IpAddr) -> bool {
        self.total = self.total.saturating_add(1);
        if self.total <= self.free {
            return true;
        }
        let source = network(source);
        if self.by_source.len() >= MAX_SOURCES && !self.by_source.contains_key(&source) {
            return false;
        }
        let count = self.by_source.entry(source).or_default();
        *count += 1;
        *count <= PER_SOURCE
    }

    /// A new second begins.
    pub(super) fn reset(&mut self) {
        self.total = 0;
        self.by_source.clear();
    }
}

/// Whoever has one IPv6 address has 2^64. Relayed peers, which [`relay_address`](super::relay_address) puts into one
/// network that nobody can send from (100::/64), are told apart.
fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V6(address) if address.segments()[0] != 0x0100 => {
            let prefix = u128::from(address) >> 64 << 64;
            IpAddr::V6(prefix.into())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
