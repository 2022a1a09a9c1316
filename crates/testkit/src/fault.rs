//! What can be made to go wrong.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tailnet_wire::control::NodeId;
use tokio::sync::watch;

/// Faults that are on. All off at the start; every one can be set while nodes are running.
pub(crate) struct Faults {
    frozen: watch::Sender<bool>,
    /// Nodes whose map messages wait.
    held_back: watch::Sender<HashSet<NodeId>>,
    /// HTTP status that every request under /machine/ gets; 0 = none.
    refuse_with: AtomicU16,
    udp_blocked: AtomicBool,
    /// Datagrams lost of 65,536.
    udp_loss: AtomicU32,
    udp_delay_ms: AtomicU64,
    skew_ms: AtomicI64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            frozen: watch::Sender::new(false),
            held_back: watch::Sender::default(),
            refuse_with: AtomicU16::new(0),
            udp_blocked: AtomicBool::new(false),
            udp_loss: AtomicU32::new(0),
            udp_delay_ms: AtomicU64::new(0),
            skew_ms: AtomicI64::new(0),
        }
    }
}

impl Faults {
    /// A frozen control server keeps its connections and says nothing, not even keepalives.
    pub(crate) fn set_frozen(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// Returns at once unless frozen, else when that ends.
    pub(crate) async fn thawed(&self) {
        let _ = self.frozen.subscribe().wait_for(|frozen| !frozen).await;
    }

    /// Map messages to one node wait.
    pub(crate) fn set_held_back(&self, id: NodeId, held: bool) {
        self.held_back.send_modify(|nodes| {
            if held {
                nodes.insert(id);
            } else {
                nodes.remove(&id);
            }
        });
    }

    /// Returns at once unless the node is held back, else when that ends.
    pub(crate) async fn let_go(&self, id: NodeId) {
        let _ = self.held_back.subscribe().wait_for(|nodes| !nodes.contains(&id)).await;
    }

    pub(crate) fn set_refusal(&self, status: Option<u16>) {
        self.refuse_with.store(status.unwrap_or(0), Relaxed);
    }

    /// The HTTP status by which control turns everybody away.
    pub(crate) fn refusal(&self) -> Option<u16> {
        Some(self.refuse_with.load(Relaxed)).filter(|status| *status != 0)
    }

    pub(crate) fn set_udp_blocked(&self, blocked: bool) {
        self.udp_blocked.store(blocked, Relaxed);
    }

    pub(crate) fn udp_blocked(&self) -> bool {
        self.udp_blocked.load(Relaxed)
    }

    /// `loss` is the share of datagrams that a NAT loses, from 0 to 1.
    pub(crate) fn set_udp_quality(&self, loss: f64, delay: Duration) {
        self.udp_loss.store((loss.clamp(0.0, 1.0) * 65_536.0) as u32, Relaxed);
        self.udp_delay_ms
            .store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Whether the datagram with this lot is lost.
    pub(crate) fn loses(&self, lot: [u8; 2]) -> bool {
        u32::from(u16::from_be_bytes(lot)) < self.udp_loss.load(Relaxed)
    }

    pub(crate) fn udp_delay(&self) -> Duration {
        Duration::from_millis(self.udp_delay_ms.load(Relaxed))
    }

    pub(crate) fn set_skew(&self, skew: time::Duration) {
        self.skew_ms
            .store(i64::try_from(skew.whole_milliseconds()).unwrap_or(0), Relaxed);
    }

    /// By how much control's clock is ahead of the real one.
    pub(crate) fn skew(&self) -> time::Duration {
        time::Duration::milliseconds(self.skew_ms.load(Relaxed))
    }
}
