//! The TCP connections of one peer: who they are between, their sockets, what became of them.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{ConnError, memory::Reservation, recovery::Recovery, schedule::Appointment, socket::TcpSocket};

/// How long data may stay unacknowledged while nothing is heard of the connection.
const UNHEARD: Duration = Duration::from_secs(90);

/// Names one connection of one peer. Never reused while anything may still hold it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    slot: u32,
    generation: u32,
}

#[cfg(test)]
impl ConnId {
    pub(super) fn for_test(slot: u32) -> Self {
        Self { slot, generation: 0 }
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "conn {}.{}", self.slot, self.generation)
    }
}

/// Both ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FlowKey {
    /// Ours.
    pub(crate) local: SocketAddr,
    /// The peer's.
    pub(crate) remote: SocketAddr,
}

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Peer,
    Us,
}

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) key: FlowKey,
    pub(super) origin: Origin,
    /// `None` once TCP is done with the connection; the record stays until the application lets go of it.
    pub(super) socket: Option<Box<TcpSocket>>,
    pub(super) appointment: Appointment,
    /// Whether the three-way handshake was completed.
    pub(super) open: bool,
    /// Whether our half is closed.
    pub(super) shut: bool,
    /// Whether the application has let go of it.
    pub(super) released: bool,
    /// Why it ended, unless both sides closed it.
    pub(super) error: Option<ConnError>,
    /// Whether the peer has closed its half.
    pub(super) finished: bool,
    /// Bytes read since the last egress pass: what the peer's view of our window is behind by.
    pub(super) unreported: usize,
    /// When it must be open, or gone after the application has let go of it.
    pub(super) deadline: Option<Instant>,
    /// When its first SYN came or was made.
    pub(super) born: Instant,
    pub(super) recovery: Recovery,
    /// Since when something of ours is unacknowledged and nothing was heard.
    pub(super) waiting_since: Option<Instant>,
    pub(super) reservation: Option<Reservation>,
}

impl Flow {
    /// A connection that begins with `socket`.
    pub(super) fn new(
        now: Instant,
        key: FlowKey,
        origin: Origin,
        socket: Box<TcpSocket>,
        reservation: Reservation,
        deadline: Instant,
    ) -> Self {
        Self {
            key,
            origin,
            socket: Some(socket),
            appointment: Appointment::default(),
            open: false,
            shut: false,
            released: false,
            error: None,
            finished: false,
            unreported: 0,
            deadline: Some(deadline),
            born: now,
            recovery: Recovery::default(),
            waiting_since: Some(now),
            reservation: Some(reservation),
        }
    }

    /// When to give up on a peer that leaves our data unacknowledged and says nothing. A connection that was reset
    /// already has nothing to wait for.
    pub(super) fn unheard_at(&self) -> Option<Instant> {
        let waiting_since = self.waiting_since.filter(|_| self.error.is_none())?;
        Some(waiting_since + UNHEARD)
    }

    pub(super) fn buffer(&self) -> usize {
        self.reservation.as_ref().map_or(0, Reservation::buffer)
    }
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    flow: Option<Box<Flow>>,
}

#[derive(Debug)]
pub(super) struct FlowTable {
    /// Where the generations of new slots begin, so that ids of one table mean nothing to another.
    generation: u32,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_key: HashMap<FlowKey, ConnId>,
    /// The connection of the last packet: bulk traffic finds it here without hashing.
    last: Option<(FlowKey, ConnId)>,
}

impl FlowTable {
    pub(super) fn new(generation: u32) -> Self {
        Self {
            generation,
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            last: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(super) fn find(&mut self, key: &FlowKey) -> Option<ConnId> {
        if let Some((last, id)) = &self.last
            && last == key
        {
            return Some(*id);
        }
        let id = *self.by_key.get(key)?;
        self.last = Some((*key, id));
        Some(id)
    }

    pub(super) fn contains_key(&self, key: &FlowKey) -> bool {
        self.by_key.contains_key(key)
    }

    pub(super) fn insert(&mut self, flow: Flow) -> ConnId {
        let key = flow.key;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: self.generation,
                flow: None,
            });
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        entry.flow = Some(Box::new(flow));
        let id = ConnId {
            slot,
            generation: entry.generation,
        };
        self.by_key.insert(key, id);
        id
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Flow> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        (slot.generation == id.generation)
            .then_some(slot.flow.as_deref_mut())
            .flatten()
    }

    /// Forgets the four-tuple, so that it can be used again, but keeps the record.
    pub(super) fn detach(&mut self, id: ConnId, key: &FlowKey) {
        if self.by_key.get(key) == Some(&id) {
            self.by_key.remove(key);
        }
        if self.last.is_some_and(|(_, last)| last == id) {
            self.last = None;
        }
    }

    pub(super) fn remove(&mut self, id: ConnId) {
        let Some(key) = self.get_mut(id).map(|flow| flow.key) else {
            return;
        };
        self.detach(id, &key);
        let slot = &mut self.slots[id.slot as usize];
        slot.flow = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
    }

    pub(super) fn ids(&self) -> Vec<ConnId> {
        let live = |(slot, entry): (usize, &Slot)| {
            entry.flow.is_some().then_some(ConnId {
                slot: slot as u32,
                generation: entry.generation,
            })
        };
        self.slots.iter().enumerate().filter_map(live).collect()
    }
}
