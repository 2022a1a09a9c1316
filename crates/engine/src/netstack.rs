//! The TCP/IP stack of one peer: connections, their sockets and buffers, and what they are allowed to cost.
//!
//! TCP segments that the packet filter has let through come in with `Netstack::handle_tcp`; segments go out
//! through an `Egress` in `Netstack::poll_egress`, under whatever budget that keeps. Applications read and write through
//! wakers. smoltcp is named in `device.rs` and `socket.rs` only.
//!
//! - A socket exists from the SYN on, never before: there is no listening socket, only a set of ports.
//! - Every socket has a smoltcp interface of its own, found by a hash of the four-tuple, and a line of those with
//!   something to send: what a packet costs does not depend on how many connections there are.
//! - Buffers come out of one budget for the node ([`ConnectionMemory`]): 256 KiB each way while there is plenty, less
//!   as it fills, and a SYN that no longer fits is dropped and counted. One connection therefore moves at most
//!   256 KiB per round trip, which is 2 Gbit/s at 1 ms and 42 Mbit/s at 50 ms.
//! - A connection in TIME-WAIT is a record, not a socket (`time_wait.rs`).

mod device;
mod egress;
mod flow;
mod io;
mod memory;
mod overrun;
mod queue;
mod recovery;
mod schedule;
mod settle;
mod socket;
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

use flow::{Flow, FlowTable, Origin};
use memory::Reservation;
use rand_core::RngCore;
use schedule::Schedule;
use socket::{Clock, State, TcpSocket};
use spares::Spares;
use tailnet_wire::packet::{Packet, build};
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

pub(crate) struct Netstack {
    limits: Limits,
    memory: Arc<ConnectionMemory>,
    held: usize,
    addresses: Vec<IpAddr>,
    clock: Clock,
    seed: u64,
    flows: FlowTable,
    schedule: Schedule,
    half_open: usize,
    time_wait: TimeWait,
    spares: Spares,
    accepted: VecDeque<(ConnId, FlowKey)>,
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
            flows: FlowTable::new(seed as u32),
            schedule: Schedule::default(),
            half_open: 0,
            time_wait: TimeWait::default(),
            spares: Spares::default(),
            accepted: VecDeque::new(),
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
        self.spares.clear();
        for id in self.flows.ids() {
            if let Some(socket) = self.flows.get_mut(id).and_then(|flow| flow.socket.as_mut()) {
                socket.set_addresses(addresses);
            }
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
        let Some(socket) = &mut flow.socket else {
            return;
        };
        if !socket.admits(segment, bytes) {
            return;
        }
        let before = socket.state();
        socket.ingress(now, bytes, replies, &mut self.scratch);
        let after = socket.state();
        self.schedule.touch(id, &mut flow.appointment);
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
            SMALL_BUFFER.min(self.limits.buffer)
        };
        let Some((mut socket, reservation)) = self.socket(now, largest) else {
            self.counters.memory_refused += 1;
            return None;
        };
        if !socket.listen(key.local) {
            return None;
        }
        self.half_open += 1;
        let flow = Flow::new(now, *key, Origin::Peer, socket, reservation, now + HALF_OPEN);
        Some(self.insert(now, flow))
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
        let socket = self.socket(now, self.limits.buffer);
        let (mut socket, reservation) = socket.ok_or(ConnectError::Memory)?;
        if !socket.connect(key.local, key.remote) {
            return Err(refused);
        }
        self.counters.dialed += 1;
        let flow = Flow::new(now, key, Origin::Us, socket, reservation, now + DIAL);
        Ok(self.insert(now, flow))
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

    /// A socket that was used before, or else a new one out of the budget.
    fn socket(&mut self, now: Instant, largest: usize) -> Option<(Box<TcpSocket>, Reservation)> {
        if let Some(spare) = self.spares.take() {
            return Some(spare);
        }
        let reservation = self.memory.reserve(self.held, largest)?;
        // Odd steps, so that every socket draws other sequence numbers.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let socket = TcpSocket::new(self.clock, now, self.seed, &self.addresses, reservation.buffer());
        Some((Box::new(socket), reservation))
    }

    fn insert(&mut self, now: Instant, flow: Flow) -> ConnId {
        self.held += flow.reservation.as_ref().map_or(0, Reservation::bytes);
        let id = self.flows.insert(flow);
        let (connections, flows) = (self.flows.len(), &mut self.flows);
        self.schedule.tidy(connections, |id| {
            flows.get_mut(id).and_then(|flow| flow.appointment.timer())
        });
        if let Some(flow) = self.flows.get_mut(id) {
            self.schedule.touch(id, &mut flow.appointment);
        }
        self.arm(now, id);
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
            if flow.socket.is_some() && flow.error.is_none() && !allowed(&flow.key, flow.origin == Origin::Peer) {
                self.abort(id, error);
                self.counters.withdrawn += u64::from(error == ConnError::Withdrawn);
                withdrawn.push(id);
            }
        }
        withdrawn
    }
}
