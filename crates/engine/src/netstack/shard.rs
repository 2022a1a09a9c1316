//! A few TCP sockets behind one smoltcp `Interface`. smoltcp looks at every socket of an interface for every packet,
//! so a busy peer has several of these, and a hash of the four-tuple finds the right one.

use std::{net::SocketAddr, task::Waker, time};

pub(super) use smoltcp::{iface::SocketHandle as Handle, socket::tcp::State};
use smoltcp::{
    iface::{Config, Interface, PollResult, SocketSet},
    socket::tcp::{CongestionControl, RecvError, Socket, SocketBuffer},
    time::Instant,
    wire::{HardwareAddress, IpCidr, IpListenEndpoint},
};

use super::{Egress, MTU, device::Wire};

/// How many sockets one shard takes.
pub(super) const CAPACITY: usize = 8;
/// smoltcp holds at most this many addresses (feature `iface-max-addr-count-8`).
const MAX_ADDRESSES: usize = 8;

/// Translates between the monotonic clock and smoltcp's, which counts microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(time::Instant);

impl Clock {
    /// smoltcp reads time zero as "long ago", so its clock starts a little later.
    const START: i64 = 1_000_000;

    pub(super) fn new(now: time::Instant) -> Self {
        Self(now)
    }

    fn to_smoltcp(self, now: time::Instant) -> Instant {
        let since_start = now.saturating_duration_since(self.0).as_micros();
        Instant::from_micros(i64::try_from(since_start).unwrap_or(i64::MAX / 2) + Self::START)
    }

    fn to_std(self, at: Instant) -> time::Instant {
        let micros = at.total_micros().saturating_sub(Self::START);
        self.0 + time::Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

/// What a read found.
pub(super) enum Read {
    /// This many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The peer has closed its half and everything was read.
    Finished,
    /// The socket is closed, or not open yet.
    NotOpen,
}

pub(super) struct Shard {
    interface: Interface,
    sockets: SocketSet<'static>,
    clock: Clock,
    count: usize,
    dirty: bool,
    due: Option<time::Instant>,
}

impl Shard {
    pub(super) fn new(clock: Clock, now: time::Instant, seed: u64, addresses: &[std::net::IpAddr]) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut scratch = [0; MTU];
        let mut nowhere = Nowhere;
        let mut device = Wire::new(None, &mut nowhere, &mut scratch);
        let interface = Interface::new(config, &mut device, clock.to_smoltcp(now));
        let mut shard = Self {
            interface,
            sockets: SocketSet::new(Vec::with_capacity(CAPACITY)),
            clock,
            count: 0,
            dirty: false,
            due: None,
        };
        shard.set_addresses(addresses);
        shard
    }

    pub(super) fn set_addresses(&mut self, addresses: &[std::net::IpAddr]) {
        self.interface.update_ip_addrs(|list| {
            list.clear();
            for address in addresses.iter().take(MAX_ADDRESSES) {
                let bits = if address.is_ipv4() { 32 } else { 128 };
                // Cannot fail: the list has room for MAX_ADDRESSES.
                let _ = list.push(IpCidr::new((*address).into(), bits));
            }
        });
    }

    pub(super) fn has_room(&self) -> bool {
        self.count < CAPACITY
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Marks the shard for the next egress pass.
    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    pub(super) fn wants_egress(&self, now: time::Instant) -> bool {
        self.dirty || self.due.is_some_and(|due| due <= now)
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    pub(super) fn due(&self) -> Option<time::Instant> {
        self.due
    }

    /// Makes `idle` wait for the SYN which is about to be fed to it.
    pub(super) fn listen(&mut self, local: SocketAddr, idle: Idle) -> Option<Handle> {
        let mut socket = idle.0;
        let endpoint = IpListenEndpoint {
            addr: Some(local.ip().into()),
            port: local.port(),
        };
        socket.listen(endpoint).ok()?;
        Some(self.add(socket))
    }

    /// Makes `idle` send a SYN with the next egress pass.
    pub(super) fn connect(&mut self, local: SocketAddr, remote: SocketAddr, idle: Idle) -> Option<Handle> {
        let mut socket = idle.0;
        let context = self.interface.context();
        socket
            .connect(context, (remote.ip(), remote.port()), (local.ip(), local.port()))
            .ok()?;
        self.dirty = true;
        Some(self.add(socket))
    }

    fn add(&mut self, socket: Socket<'static>) -> Handle {
        self.count += 1;
        self.sockets.add(socket)
    }

    /// Takes a socket out, to be dropped or used for another connection.
    pub(super) fn remove(&mut self, handle: Handle) -> Idle {
        self.count -= 1;
        let smoltcp::socket::Socket::Tcp(socket) = self.sockets.remove(handle);
        Idle(socket)
    }

    /// Feeds one packet. Answers that TCP owes at once (duplicate ACKs, challenges) go to `replies`.
    pub(super) fn ingress(
        &mut self,
        now: time::Instant,
        packet: &[u8],
        replies: &mut impl Egress,
        scratch: &mut [u8; MTU],
    ) {
        self.dirty = true;
        let mut device = Wire::new(Some(packet), replies, scratch);
        let now = self.clock.to_smoltcp(now);
        self.interface.poll_ingress_single(now, &mut device, &mut self.sockets);
    }

    /// Sends what the sockets have to send while `egress` is ready.
    pub(super) fn egress(&mut self, now: time::Instant, egress: &mut impl Egress, scratch: &mut [u8; MTU]) {
        let at = self.clock.to_smoltcp(now);
        loop {
            let mut device = Wire::new(None, egress, scratch);
            let result = self.interface.poll_egress(at, &mut device, &mut self.sockets);
            if !egress.is_ready() {
                // Out of budget, perhaps in the middle of a pass: come back at once.
                self.dirty = true;
                return;
            }
            if result == PollResult::None {
                break;
            }
        }
        self.dirty = false;
        self.due = self
            .interface
            .poll_at(at, &self.sockets)
            .map(|due| self.clock.to_std(due));
    }

    pub(super) fn state(&self, handle: Handle) -> State {
        self.socket(handle).state()
    }

    /// Whether the socket still knows its peer: after a reset was received or sent it does not.
    pub(super) fn has_remote(&self, handle: Handle) -> bool {
        self.socket(handle).remote_endpoint().is_some()
    }

    /// Bytes that wait for the application.
    pub(super) fn receive_queue(&self, handle: Handle) -> usize {
        self.socket(handle).recv_queue()
    }

    /// Bytes that the peer has not acknowledged yet.
    pub(super) fn send_queue(&self, handle: Handle) -> usize {
        self.socket(handle).send_queue()
    }

    pub(super) fn read(&mut self, handle: Handle, out: &mut [u8]) -> Read {
        match self.socket_mut(handle).recv_slice(out) {
            Ok(0) => Read::Nothing,
            Ok(n) => Read::Bytes(n),
            Err(RecvError::Finished) => Read::Finished,
            Err(RecvError::InvalidState) => Read::NotOpen,
        }
    }

    /// Takes what fits of `data`. `None` when the sending half is not open.
    pub(super) fn write(&mut self, handle: Handle, data: &[u8]) -> Option<usize> {
        let n = self.socket_mut(handle).send_slice(data).ok()?;
        self.dirty |= n > 0;
        Some(n)
    }

    pub(super) fn on_readable(&mut self, handle: Handle, waker: &Waker) {
        self.socket_mut(handle).register_recv_waker(waker);
    }

    pub(super) fn on_writable(&mut self, handle: Handle, waker: &Waker) {
        self.socket_mut(handle).register_send_waker(waker);
    }

    /// Closes the sending half.
    pub(super) fn close(&mut self, handle: Handle) {
        self.dirty = true;
        self.socket_mut(handle).close();
    }

    /// Resets the connection: wakes its waiters at once and sends the RST with the next egress pass.
    pub(super) fn abort(&mut self, handle: Handle) {
        self.dirty = true;
        self.socket_mut(handle).abort();
    }

    fn socket(&self, handle: Handle) -> &Socket<'static> {
        self.sockets.get(handle)
    }

    fn socket_mut(&mut self, handle: Handle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }
}

/// A socket without a connection.
pub(super) struct Idle(Socket<'static>);

impl Idle {
    pub(super) fn new(buffer: usize) -> Self {
        let ring = || SocketBuffer::new(vec![0; buffer]);
        let mut socket = Socket::new(ring(), ring());
        // Whole messages are written at once, so Nagle's delay would only cost a round trip.
        socket.set_nagle_enabled(false);
        Self(socket).renewed()
    }

    /// The socket with nothing left of its last connection but the memory. What smoltcp's own reset (on the next
    /// `listen` or `connect`) leaves is the congestion window, and counters that the first ACK sets right.
    pub(super) fn renewed(mut self) -> Self {
        self.0.abort();
        self.0.set_congestion_control(CongestionControl::Cubic);
        self
    }
}

/// The device of a shard that is only being built.
struct Nowhere;

impl Egress for Nowhere {
    fn is_ready(&self) -> bool {
        false
    }

    fn send(&mut self, _: &[u8]) {}
}
