//! One TCP connection in smoltcp: a socket behind an `Interface` of its own.
//!
//! smoltcp looks at every socket of an interface for every packet, in and out, and an interface is only 272 bytes. With
//! one socket each, what a packet costs does not depend on how many connections there are (`docs/adr` has the figures).

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    task::Waker,
    time,
};

pub(super) use smoltcp::socket::tcp::State;
use smoltcp::{
    iface::{Config, Interface, PollResult, SocketHandle, SocketSet},
    socket::tcp::{CongestionControl, RecvError, Socket, SocketBuffer},
    time::Instant,
    wire::{HardwareAddress, IpCidr, IpListenEndpoint},
};
use tailnet_wire::packet::Packet;

use super::{Egress, MTU, device::Wire, overrun::Overrun};

/// smoltcp holds at most this many addresses (feature `iface-max-addr-count-8`).
const MAX_ADDRESSES: usize = 8;
/// What a connection may send before the next one has its turn: one segmented UDP send.
const QUANTUM: usize = 48;
/// A timer that is due already is looked at again after this, should the socket have nothing to do.
const AGAIN: time::Duration = time::Duration::from_millis(1);

pub(super) struct TcpSocket {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    clock: Clock,
    due: Option<time::Instant>,
    capacity: usize,
    overrun: Overrun,
}

impl fmt::Debug for TcpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpSocket")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl TcpSocket {
    /// A socket without a connection, with `buffer` bytes for each direction. `seed` is where its sequence numbers come
    /// from.
    pub(super) fn new(clock: Clock, now: time::Instant, seed: u64, addresses: &[IpAddr], buffer: usize) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut scratch = [0; MTU];
        let mut nowhere = Nowhere;
        let mut overrun = Overrun::default();
        let mut device = Wire::new(None, &mut nowhere, &mut scratch, &mut overrun);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let mut socket = Self {
            interface: Interface::new(config, &mut device, clock.to_smoltcp(now)),
            handle: sockets.add(idle(buffer)),
            sockets,
            clock,
            due: None,
            capacity: buffer,
            overrun: Overrun::default(),
        };
        socket.set_addresses(addresses);
        socket
    }

    pub(super) fn set_addresses(&mut self, addresses: &[IpAddr]) {
        self.interface.update_ip_addrs(|list| {
            list.clear();
            for address in addresses.iter().take(MAX_ADDRESSES) {
                let bits = if address.is_ipv4() { 32 } else { 128 };
                // Cannot fail: the list has room for MAX_ADDRESSES.
                let _ = list.push(IpCidr::new((*address).into(), bits));
            }
        });
    }

    /// Waits for the SYN which is about to be fed. False if that is not possible.
    pub(super) fn listen(&mut self, local: SocketAddr) -> bool {
        let endpoint = IpListenEndpoint {
            addr: Some(local.ip().into()),
            port: local.port(),
        };
        self.socket_mut().listen(endpoint).is_ok()
    }

    /// Sends a SYN with the next egress pass. False if that is not possible.
    pub(super) fn connect(&mut self, local: SocketAddr, remote: SocketAddr) -> bool {
        let socket = self.sockets.get_mut::<Socket<'static>>(self.handle);
        let context = self.interface.context();
        let (remote, local) = ((remote.ip(), remote.port()), (local.ip(), local.port()));
        socket.connect(context, remote, local).is_ok()
    }

    /// Leaves nothing of the last connection but the memory. What smoltcp's own reset (on the next `listen` or
    /// `connect`) leaves is the congestion window, and counters that the first ACK sets right.
    pub(super) fn renew(&mut self) {
        self.due = None;
        self.overrun = Overrun::default();
        let socket = self.socket_mut();
        socket.abort();
        socket.set_congestion_control(CongestionControl::Cubic);
    }

    /// Whether a segment may be fed; see [`overrun`](super::overrun).
    #[inline]
    pub(super) fn admits(&mut self, segment: &Packet, bytes: &[u8]) -> bool {
        let opening = matches!(self.state(), State::Listen | State::SynSent);
        self.overrun.admits(segment, bytes, opening, self.capacity)
    }

    /// Feeds one packet. Answers that TCP owes at once (duplicate ACKs, challenges) go to `replies`.
    pub(super) fn ingress(
        &mut self,
        now: time::Instant,
        packet: &[u8],
        replies: &mut impl Egress,
        scratch: &mut [u8; MTU],
    ) {
        let mut device = Wire::new(Some(packet), replies, scratch, &mut self.overrun);
        let now = self.clock.to_smoltcp(now);
        self.interface.poll_ingress_single(now, &mut device, &mut self.sockets);
    }

    /// Sends what is to be sent, as far as `egress` and fairness allow. True when there may be more.
    pub(super) fn egress(&mut self, now: time::Instant, egress: &mut impl Egress, scratch: &mut [u8; MTU]) -> bool {
        let at = self.clock.to_smoltcp(now);
        for _ in 0..QUANTUM {
            let mut device = Wire::new(None, egress, scratch, &mut self.overrun);
            let result = self.interface.poll_egress(at, &mut device, &mut self.sockets);
            if !egress.is_ready() {
                return true;
            }
            if result == PollResult::None {
                let due = self.interface.poll_at(at, &self.sockets);
                self.due = due.map(|due| self.clock.to_std(due).max(now + AGAIN));
                return false;
            }
        }
        true
    }

    /// When TCP's own timers want the next egress pass.
    pub(super) fn due(&self) -> Option<time::Instant> {
        self.due
    }

    pub(super) fn state(&self) -> State {
        self.socket().state()
    }

    /// Whether the socket still knows its peer: after a reset was received or sent it does not.
    pub(super) fn has_remote(&self) -> bool {
        self.socket().remote_endpoint().is_some()
    }

    /// Bytes that wait for the application.
    pub(super) fn receive_queue(&self) -> usize {
        self.socket().recv_queue()
    }

    /// Bytes that the peer has not acknowledged yet.
    pub(super) fn send_queue(&self) -> usize {
        self.socket().send_queue()
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> Read {
        match self.socket_mut().recv_slice(out) {
            Ok(0) => Read::Nothing,
            Ok(n) => {
                self.overrun.note_read(n);
                Read::Bytes(n)
            }
            Err(RecvError::Finished) => Read::Finished,
            Err(RecvError::InvalidState) => Read::NotOpen,
        }
    }

    /// Takes what fits of `data`. `None` when the sending half is not open.
    pub(super) fn write(&mut self, data: &[u8]) -> Option<usize> {
        let n = self.socket_mut().send_slice(data).ok()?;
        Some(n)
    }

    pub(super) fn on_readable(&mut self, waker: &Waker) {
        self.socket_mut().register_recv_waker(waker);
    }

    pub(super) fn on_writable(&mut self, waker: &Waker) {
        self.socket_mut().register_send_waker(waker);
    }

    /// Closes the sending half.
    pub(super) fn close(&mut self) {
        self.socket_mut().close();
    }

    /// Resets the connection: wakes its waiters at once and sends the RST with the next egress pass.
    pub(super) fn abort(&mut self) {
        self.socket_mut().abort();
    }

    fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }

    fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

fn idle(buffer: usize) -> Socket<'static> {
    let ring = || SocketBuffer::new(vec![0; buffer]);
    let mut socket = Socket::new(ring(), ring());
    socket.set_congestion_control(CongestionControl::Cubic);
    // Whole messages are written at once, so Nagle's delay would only cost a round trip.
    socket.set_nagle_enabled(false);
    socket
}

/// The device of a socket that is only being built.
struct Nowhere;

impl Egress for Nowhere {
    fn is_ready(&self) -> bool {
        false
    }

    fn send(&mut self, _: &[u8]) {}
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
