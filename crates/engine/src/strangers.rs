//! Who has knocked before the netmap knew them.
//!
//! Control tells two nodes of each other one after the other, so the first may send its WireGuard initiation to a node
//! that takes it for a stranger. WireGuard repeats it only after five seconds. The keys of such initiations are kept for
//! that long: when a netmap makes one a peer, its owner starts the handshake.
//!
//! A key in an initiation is claimed, not proven, and learning it costs a Diffie-Hellman: note only what has passed the
//! [`HandshakeLimiter`](crate::tunnel::HandshakeLimiter).

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tailnet_wire::key::NodePublic;

/// After this the stranger repeats its initiation by itself (REKEY_TIMEOUT).
pub const MEMORY: Duration = Duration::from_secs(5);
/// Keys kept at most. A flood fills this, and then a newcomer is not noted: it waits for its own repetition.
pub const MAX_STRANGERS: usize = 1024;

/// Keys of recent initiations that belong to no peer.
#[derive(Debug, Default)]
pub struct Strangers(HashMap<NodePublic, Instant>);

impl Strangers {
    /// Notes that an initiation named `key`.
    pub fn note(&mut self, key: NodePublic, now: Instant) {
        if self.0.len() >= MAX_STRANGERS {
            self.0.retain(|_, at| is_recent(*at, now));
        }
        if self.0.len() < MAX_STRANGERS || self.0.contains_key(&key) {
            self.0.insert(key, now);
        }
    }

    /// Whether `key` has knocked lately; it is forgotten by that.
    pub fn take(&mut self, key: &NodePublic, now: Instant) -> bool {
        self.0.remove(key).is_some_and(|at| is_recent(at, now))
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < MEMORY
}

#[cfg(test)]
mod tests;
