//! The byte budget for all TCP connections of the node (`connection_memory`).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What a connection costs besides its two buffers: the socket, its out-of-order map, the flow record.
const OVERHEAD: usize = 2 * 1024;
/// Buffer sizes in bytes, one for each direction.
const SIZES: [usize; 6] = [256 << 10, 128 << 10, 64 << 10, 32 << 10, 16 << 10, 8 << 10];
/// A buffer takes at most this part of what is left, so that sizes shrink long before SYNs must be refused.
const PART: usize = 128;
/// A peer may hold at most this share, in quarters, of what the others leave: a second greedy peer finds less than the
/// first, and a third less again, but no number of them leaves nothing.
const PEER_QUARTERS: usize = 3;

/// The budget, shared by all peers. Cheap to read, exact under concurrent reservations.
#[derive(Debug)]
pub struct ConnectionMemory {
    limit: usize,
    used: AtomicUsize,
}

impl ConnectionMemory {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicUsize::new(0),
        })
    }

    /// Bytes that may be reserved at most.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that are reserved now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Reserves two buffers for one connection of a peer that already holds `held` bytes: large ones while there is
    /// plenty, smaller ones as the budget fills. `None` when not even the smallest fits.
    pub(crate) fn reserve(self: &Arc<Self>, held: usize, largest: usize) -> Option<Reservation> {
        let used = self.used();
        let without_others = self.limit.saturating_sub(used.saturating_sub(held));
        let share = (without_others / 4 * PEER_QUARTERS).saturating_sub(held);
        let left = self.limit.saturating_sub(used).min(share);
        let fits = |size: usize| Some(&size) == SIZES.last() || (size <= largest && size <= left / PART);
        let buffer = SIZES.into_iter().find(|size| fits(*size))?;
        let bytes = buffer * 2 + OVERHEAD;
        if bytes > share {
            return None;
        }
        let take = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .ok()?;
        Some(Reservation {
            memory: Arc::clone(self),
            bytes,
            buffer,
        })
    }
}

/// A part of the budget, given back on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    memory: Arc<ConnectionMemory>,
    bytes: usize,
    buffer: usize,
}

impl Reservation {
    /// Bytes that each of the two buffers may have.
    pub(crate) fn buffer(&self) -> usize {
        self.buffer
    }

    /// Whether the node has used less than half of its budget.
    pub(crate) fn is_plentiful(&self) -> bool {
        self.memory.used() < self.memory.limit() / 2
    }

    /// Bytes taken out of the budget.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
