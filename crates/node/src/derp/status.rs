//! What can be seen of a region's connection from outside.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How a region's connection does.
#[derive(Debug, Clone, Default)]
pub struct DerpStatus {
    /// Short name of the region, such as `fra`.
    pub code: String,
    /// Whether it is our home.
    pub home: bool,
    /// The connection.
    pub state: DerpState,
    /// What the relay complains of, such as a second node with our key.
    pub health: Option<String>,
    /// Why the last connection or attempt ended; `None` after a success.
    pub last_error: Option<String>,
    /// Round trip to the relay.
    pub rtt: Option<Duration>,
    /// Counts since the region was first used.
    pub counters: Arc<DerpCounters>,
}

/// The state of a region's connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DerpState {
    /// Nobody needs it.
    #[default]
    Idle,
    /// Being dialled, or waiting for the next attempt.
    Connecting,
    /// Up.
    Connected {
        /// Name of the relay in the DERP map.
        node: String,
        /// Since when.
        since: Instant,
    },
}

/// Counts of one region since it was first used.
#[derive(Debug, Default)]
pub struct DerpCounters {
    sent: AtomicU64,
    received: AtomicU64,
    dropped: AtomicU64,
}

impl DerpCounters {
    /// Packets written to the relay.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Packets delivered to the sink.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Packets that were queued and never written: the queue was full, the relay unreachable or its rate limit hit.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn add_sent(&self, packets: usize) {
        self.sent.fetch_add(packets as u64, Ordering::Relaxed);
    }

    pub(super) fn add_received(&self, packets: usize) {
        self.received.fetch_add(packets as u64, Ordering::Relaxed);
    }

    pub(super) fn add_dropped(&self, packets: usize) {
        self.dropped.fetch_add(packets as u64, Ordering::Relaxed);
    }
}
