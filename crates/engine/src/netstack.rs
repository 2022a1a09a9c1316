//! The TCP/IP stack of one peer: connections, their sockets and buffers, and what they are allowed to cost.
//!
//! TCP segments that the packet filter has let through come in with [`Netstack::handle_tcp`]; segments go out through
//! an [`Egress`] in [`Netstack::poll_egress`], under whatever budget that keeps. Applications read and write through
//! wakers. smoltcp is named in [`device`] and [`shard`] only.
//!
//! - A socket exists from the SYN on, never before: there is no listening socket, only a set of ports.
//! - Flows are spread over shards of 16 sockets, found by a hash of the four-tuple, because smoltcp's cost per packet
//!   grows with the sockets of an interface.
//! - Buffers come out of one budget for the node ([`ConnectionMemory`]): 256 KiB each way while there is plenty, less
//!   as it fills, and a SYN that no longer fits is dropped and counted. One connection therefore moves at most
//!   256 KiB per round trip, which is 2 Gbit/s at 1 ms and 42 Mbit/s at 50 ms.
//! - A connection in TIME-WAIT is a record, not a socket ([`time_wait`]).

mod device;
mod flow;
mod io;
mod memory;
mod queue;
mod recovery;
mod settle;
mod shard;
mod spares;
#[cfg(test)]
mod tests;
mod time_wait;
mod types;
pub(crate) mod udp;

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use flow::{Flow, FlowTable, Origin, Place};
use rand_core::RngCore;
use recovery::Recovery;
use shard::{Clock, Shard, State};
use spares::Spares;
use tailnet_wire::packet::{Addresses, Packet, build};
use time_wait::TimeWait;

pub use flow::ConnId;
pub(crate) use flow::FlowKey;
pub use memory::ConnectionMemory;
pub(crate) use queue::PacketQueue;
pub use types::{ConnError, ConnectError, Limits, TcpCounters};

/// The largest IP packet inside a tailnet tunnel, in bytes.
pub const MTU: usize = 1280;

/// How long a peer may leave our SYN-ACK unanswered.
const HALF_OPEN: Duration = Duration::from_secs(10);
/// How long our own SYN may stay unanswered.
const DIAL: Duration = Duration::from_secs(20);
/// From this many half-open connections on, new ones get the smallest buffers.
const CROWDED: usize = 16;
const SMALL_BUFFER: usize = 16 << 10;
/// Dialed connections use the dynamic ports of RFC 6335.
const FIRST_DYNAMIC_PORT: u16 = 49_152;
const DYNAMIC_PORTS: u16 = u16::MAX - FIRST_DYNAMIC_PORT;

/// Where packets go: into a queue, or straight through the tunnel into a send buffer.
pub(crate) trait Egress {
    /// Whether another packet may be sent.
    fn is_ready(&self) -> bool;
    /// Takes one IP packet of at most [`MTU`] bytes.
    fn send(&mut self, packet: &[u8]);
}

/// A shard and who lives in it.
struct Unit {
    shard: Shard,
    members: Vec<ConnId>,
}

pub(crate) struct Netstack {
    limits: Limits,
    memory: Arc<ConnectionMemory>,
    held: usize,
    addresses: Vec<IpAddr>,
    clock: Clock,
    seed: u64,
    units: Vec<Unit>,
    /// Which unit sends first: the budget of a pass may not reach all of them.
    turn: usize,
    flows: FlowTable,
    half_open: usize,
    time_wait: TimeWait,
    spares: Spares,
    accepted: VecDeque<(ConnId, FlowKey)>,
    deadline: Option<Instant>,
    scratch: Box<[u8; MTU]>,
    counters: TcpCounters,
}

impl fmt::Debug for Netstack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netstack")
            .field("connections", &self.flows.len())
            .finish_non_exhaustive()
    }
}

impl Netstack {
    /// A stack that answers at `addresses`. `seed` makes initial sequence numbers unpredictable.
    pub(crate) fn new(
        now: Instant,
        seed: u64,
        addresses: &[IpAddr],
        limits: Limits,
        memory: Arc<ConnectionMemory>,
    ) -> Self {
        Self {
            limits,
            memory,
            held: 0,
            addresses: addresses.to_vec(),
            clock: Clock::new(now),
            seed,
            units: Vec::new(),
            turn: 0,
            flows: FlowTable::new(seed as u32),
            half_open: 0,
            time_wait: TimeWait::default(),
            spares: Spares::default(),
            accepted: VecDeque::new(),
            deadline: None,
            scratch: Box::new([0; MTU]),
            counters: TcpCounters::default(),
        }
    }

    /// Whether nothing would be lost by dropping the stack.
    pub(crate) fn is_idle(&self) -> bool {
        self.flows.is_empty() && self.time_wait.is_empty() && self.accepted.is_empty()
    }

    pub(crate) fn counters(&self) -> &TcpCounters {
        &self.counters
    }

    /// How many connections there are, open or not.
    pub(crate) fn connections(&self) -> usize {
        self.flows.len()
    }

    pub(crate) fn set_addresses(&mut self, addresses: &[IpAddr]) {
        self.addresses = addresses.to_vec();
        for unit in &mut self.units {
            unit.shard.set_addresses(addresses);
        }
    }

    /// One TCP segment that the filter has let through. `listening` says whether its destination port is open.
    #[inline]
    pub(crate) fn handle_tcp(
        &mut self,
        now: Instant,
        segment: &Packet,
        bytes: &[u8],
        listening: bool,
        replies: &mut PacketQueue,
    ) {
        let key = FlowKey {
            local: segment.dst,
            remote: segment.src,
        };
        let id = match self.flows.find(&key) {
            Some(id) => id,
            None => match self.open(now, &key, segment, bytes, listening, replies) {
                Some(id) => id,
                None => return,
            },
        };
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        flow.waiting_since = flow.waiting_since.map(|_| now);
        let repeat = flow.recovery.handle_segment(now, segment, bytes);
        let Some(place) = flow.place else {
            return;
        };
        let before = self.units[place.shard].shard.state(place.handle);
        self.units[place.shard]
            .shard
            .ingress(now, bytes, replies, &mut self.scratch);
        let after = self.units[place.shard].shard.state(place.handle);
        if after == State::TimeWait && before != after {
            // The socket may be gone before the next egress pass, so the peer's FIN is acknowledged here.
            if let Some(ack) = time_wait::acknowledge(segment, bytes) {
                replies.push(&ack);
            }
        }
        if repeat {
            self.repeat_first(now, id, replies);
        }
        if before != after || after != State::Established {
            self.settle(now, id);
        }
    }

    /// A segment of no connection: one in TIME-WAIT, one that opens a new one, or one that is reset.
    fn open(
        &mut self,
        now: Instant,
        key: &FlowKey,
        segment: &Packet,
        bytes: &[u8],
        listening: bool,
        replies: &mut PacketQueue,
    ) -> Option<ConnId> {
        if self.time_wait.contains(key) {
            if let Some(answer) = self.time_wait.answer(key, segment, bytes) {
                replies.push(&answer);
            }
            if !segment.is_tcp_syn() {
                return None;
            }
        }
        if segment.is_tcp_syn() && listening {
            return self.accept(now, key);
        }
        self.counters.unlistened += u64::from(segment.is_tcp_syn());
        if let Some(reset) = build::tcp_reset_for(segment, bytes) {
            replies.push(&reset);
        }
        None
    }

    fn accept(&mut self, now: Instant, key: &FlowKey) -> Option<ConnId> {
        if self.half_open >= self.limits.half_open {
            self.counters.half_open_refused += 1;
            return None;
        }
        if self.flows.len() >= self.limits.open {
            self.counters.open_refused += 1;
            return None;
        }
        let largest = if self.half_open < CROWDED {
            self.limits.buffer
        } else {
            SMALL_BUFFER
        };
        let Some((idle, reservation)) = self.spares.take(&self.memory, self.held, largest) else {
            self.counters.memory_refused += 1;
            return None;
        };
        let unit = self.unit_with_room(now);
        let handle = self.units[unit].shard.listen(key.local, idle)?;
        self.half_open += 1;
        let deadline = now + HALF_OPEN;
        Some(self.insert(
            now,
            key,
            Origin::Peer,
            Place { shard: unit, handle },
            reservation,
            deadline,
        ))
    }

    /// Dials `remote` from `local`, one of the addresses of this node.
    pub(crate) fn connect(
        &mut self,
        now: Instant,
        rng: &mut dyn RngCore,
        local: IpAddr,
        remote: SocketAddr,
    ) -> Result<ConnId, ConnectError> {
        let refused = ConnectError::Address(local, remote);
        if local.is_ipv4() != remote.is_ipv4() || remote.port() == 0 || !self.addresses.contains(&local) {
            return Err(refused);
        }
        if self.flows.len() >= self.limits.open {
            return Err(ConnectError::TooMany);
        }
        let key = self.free_key(rng, local, remote).ok_or(ConnectError::TooMany)?;
        let largest = self.limits.buffer;
        let spare = self.spares.take(&self.memory, self.held, largest);
        let (idle, reservation) = spare.ok_or(ConnectError::Memory)?;
        let unit = self.unit_with_room(now);
        let shard = &mut self.units[unit].shard;
        let handle = shard.connect(key.local, key.remote, idle).ok_or(refused)?;
        self.counters.dialed += 1;
        let deadline = now + DIAL;
        Ok(self.insert(
            now,
            &key,
            Origin::Us,
            Place { shard: unit, handle },
            reservation,
            deadline,
        ))
    }

    fn free_key(&self, rng: &mut dyn RngCore, local: IpAddr, remote: SocketAddr) -> Option<FlowKey> {
        let first = (rng.next_u32() % u32::from(DYNAMIC_PORTS)) as u16;
        (0..DYNAMIC_PORTS)
            .map(|step| FIRST_DYNAMIC_PORT + (first + step) % DYNAMIC_PORTS)
            .map(|port| FlowKey {
                local: SocketAddr::new(local, port),
                remote,
            })
            .find(|key| !self.flows.contains_key(key) && !self.time_wait.contains(key))
    }

    fn unit_with_room(&mut self, now: Instant) -> usize {
        if let Some(index) = self.units.iter().position(|unit| unit.shard.has_room()) {
            return index;
        }
        // Odd steps, so that every shard draws other sequence numbers.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.units.push(Unit {
            shard: Shard::new(self.clock, now, self.seed, &self.addresses),
            members: Vec::with_capacity(shard::CAPACITY),
        });
        self.units.len() - 1
    }

    fn insert(
        &mut self,
        now: Instant,
        key: &FlowKey,
        origin: Origin,
        place: Place,
        reservation: memory::Reservation,
        deadline: Instant,
    ) -> ConnId {
        self.held += reservation.bytes();
        self.note_deadline(deadline);
        let id = self.flows.insert(Flow {
            key: *key,
            origin,
            place: Some(place),
            open: false,
            shut: false,
            released: false,
            finished: false,
            error: None,
            unreported: 0,
            deadline: Some(deadline),
            born: now,
            recovery: Recovery::default(),
            waiting_since: Some(now),
            reservation: Some(reservation),
        });
        self.units[place.shard].members.push(id);
        id
    }

    /// Resets every connection that `allowed` does not allow; its second argument is whether the peer opened it.
    /// Returns them.
    pub(crate) fn withdraw(&mut self, error: ConnError, allowed: impl Fn(&FlowKey, bool) -> bool) -> Vec<ConnId> {
        let mut withdrawn = Vec::new();
        for id in self.flows.ids() {
            let Some(flow) = self.flows.get_mut(id) else {
                continue;
            };
            if flow.place.is_some() && flow.error.is_none() && !allowed(&flow.key, flow.origin == Origin::Peer) {
                self.abort(id, error);
                self.counters.withdrawn += u64::from(error == ConnError::Withdrawn);
                withdrawn.push(id);
            }
        }
        withdrawn
    }

    /// Whether [`poll_egress`](Self::poll_egress) would do something now.
    pub(crate) fn wants_egress(&self) -> bool {
        self.units.iter().any(|unit| unit.shard.is_dirty())
    }

    /// Whether TCP has something to send, now or by its timers.
    pub(crate) fn has_due(&self, now: Instant) -> bool {
        self.units.iter().any(|unit| unit.shard.wants_egress(now))
    }

    /// One pass: every shard with work sends while `egress` is ready.
    pub(crate) fn poll_egress(&mut self, now: Instant, egress: &mut impl Egress) {
        let units = self.units.len();
        for step in 0..units {
            let index = (self.turn + step) % units;
            let unit = &mut self.units[index];
            if !unit.shard.wants_egress(now) {
                continue;
            }
            unit.shard.egress(now, egress, &mut self.scratch);
            let members = std::mem::take(&mut unit.members);
            for id in &members {
                if let Some(flow) = self.flows.get_mut(*id) {
                    flow.unreported = 0;
                }
                self.settle(now, *id);
            }
            // Settling only removes members; the list came out whole and goes back without the departed.
            let unit = &mut self.units[index];
            unit.members = members;
            let (flows, members) = (&mut self.flows, &mut unit.members);
            members.retain(|id| flows.get_mut(*id).is_some_and(|flow| flow.place.is_some()));
            if !egress.is_ready() {
                self.turn = index;
                break;
            }
        }
        while self.units.last().is_some_and(|unit| unit.shard.is_empty()) {
            self.units.pop();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) and, if anything can be sent at all, an egress pass are due.
    pub(crate) fn poll_timeout(&self, sending: bool) -> Option<Instant> {
        let shards = self
            .units
            .iter()
            .filter(|_| sending)
            .filter_map(|unit| unit.shard.due());
        shards.chain(self.time_wait.poll_timeout()).chain(self.deadline).min()
    }

    /// Gives up what is overdue and repeats what seems lost.
    pub(crate) fn handle_timeout(&mut self, now: Instant, replies: &mut PacketQueue) {
        self.time_wait.handle_timeout(now);
        self.spares.handle_timeout();
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.deadline = None;
        for id in self.flows.ids() {
            let Some(flow) = self.flows.get_mut(id) else {
                continue;
            };
            let overdue = flow.deadline.take_if(|deadline| *deadline <= now).is_some();
            let lost = flow.recovery.handle_timeout(now);
            let timers = [flow.deadline, flow.recovery.poll_timeout()];
            for timer in timers.into_iter().flatten() {
                self.note_deadline(timer);
            }
            if overdue {
                self.abort(id, ConnError::TimedOut);
            } else if lost {
                self.repeat_first(now, id, replies);
            }
        }
    }

    /// Makes a socket repeat its first unacknowledged segment with the next egress pass.
    fn repeat_first(&mut self, now: Instant, id: ConnId, replies: &mut PacketQueue) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let FlowKey { local, remote } = flow.key;
        let (Some(place), Some(addresses)) = (flow.place, Addresses::new(remote.ip(), local.ip())) else {
            return;
        };
        let shard = &mut self.units[place.shard].shard;
        // Without data in the buffer smoltcp would forget to repeat a FIN.
        if shard.send_queue(place.handle) == 0 {
            return;
        }
        self.counters.repeated += 1;
        for acknowledgment in flow.recovery.duplicates(&addresses, (remote.port(), local.port())) {
            shard.ingress(now, &acknowledgment, replies, &mut self.scratch);
        }
    }

    pub(super) fn note_deadline(&mut self, deadline: Instant) {
        self.deadline = Some(self.deadline.map_or(deadline, |at| at.min(deadline)));
    }
}
