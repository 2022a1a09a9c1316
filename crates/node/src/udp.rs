//! The node's UDP sockets: one for IPv4, one for IPv6, both on the same port.
//!
//! Every WireGuard, disco and STUN datagram passes here. Datagrams arrive and leave in batches (GRO and GSO through
//! quinn-udp, which falls back by itself where the kernel lacks them); a received batch is handed on in the buffer the
//! kernel filled, without a copy. What is in a datagram is not looked at here.

#[cfg(target_os = "linux")]
mod shed;

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;

#[cfg(target_os = "linux")]
pub(crate) use self::shed::ALL;

/// The share that is everything.
#[cfg(not(target_os = "linux"))]
pub(crate) const ALL: u32 = u32::MAX;

/// What one GRO buffer can hold: the kernel never coalesces past 64 KiB.
const BUFFER: usize = 64 * 1024;
/// Buffers that one receive call may fill. More than a few gain nothing: GRO already packs a flow into one buffer.
const RECEIVE_SLOTS: usize = if BATCH_SIZE < 8 { BATCH_SIZE } else { 8 };
/// Spare buffers kept for reuse; beyond this they go back to the allocator.
const SPARE_BUFFERS: usize = 64;
/// Buffers that may be filled and not yet looked at, over all peers: 16 MiB. Beyond this, long batches are dropped.
const MAX_OUT: usize = 256;
/// A batch up to this length is copied when there are no buffers to hand out.
const SMALL: usize = 2 << 10;
/// Errors in a row that are not about one datagram. The kernel may be short of memory for a moment.
const MAX_ERRORS: u32 = 100;
/// How long to wait after such an error.
const ERROR_PAUSE: Duration = Duration::from_millis(10);
/// Kernel buffer asked for in each direction, as tailscaled asks: a burst of a few milliseconds at 10 Gbit/s.
const SOCKET_BUFFER: usize = 7 << 20;

/// Why the UDP sockets cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("UDP port {port} cannot be bound: {source}; free it, or set `udp_port` to another port or to 0 for any")]
pub struct BindError {
    port: u16,
    source: io::Error,
}

/// Both sockets of a node.
pub(crate) struct UdpSockets {
    v4: Option<Half>,
    v6: Option<Half>,
    port: u16,
    buffers: Arc<Buffers>,
}

/// What became of a datagram, or of a batch of them, that was to be sent.
#[derive(Debug)]
pub(crate) enum Sent {
    /// The kernel took it.
    Done,
    /// The kernel's buffer is full: wait for [`UdpSockets::writable`] or drop it, as the network would.
    Full,
    /// The destination cannot be reached from this machine.
    Unreachable(io::Error),
}

impl UdpSockets {
    /// Binds both families. `wanted` must be free; without it `hint`, the port of the last start, is tried first:
    /// peers then find us where they left us, which saves them a lost handshake.
    pub(crate) fn bind(wanted: Option<u16>, hint: Option<u16>) -> Result<Self, BindError> {
        let buffers = Arc::default();
        if let Some(port) = wanted.filter(|&port| port != 0) {
            return Self::bind_both(port, buffers).map_err(|source| BindError { port, source });
        }
        if let Some(sockets) = hint.and_then(|port| Self::bind_both(port, Arc::clone(&buffers)).ok()) {
            return Ok(sockets);
        }
        Self::bind_both(0, buffers).map_err(|source| BindError { port: 0, source })
    }

    /// The port both sockets are bound to.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Batches that were dropped because too many were waiting.
    pub(crate) fn dropped(&self) -> u64 {
        self.buffers.dropped.load(Ordering::Relaxed)
    }

    /// Whether this machine has IPv6 at all.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.v6.is_some()
    }

    /// Sends `contents`, which is one datagram or, with `segment`, several of that size (the last may be shorter).
    pub(crate) fn try_send(&self, to: SocketAddr, contents: &[u8], segment: Option<usize>) -> Sent {
        let Some(half) = self.half(to) else {
            return Sent::Unreachable(io::ErrorKind::NetworkUnreachable.into());
        };
        let Some(segment) = segment.filter(|&size| size < contents.len()) else {
            return half.send_one(to, contents, None);
        };
        let most = half.state.max_gso_segments().max(1) * segment;
        for chunk in contents.chunks(most) {
            match half.send_one(to, chunk, (chunk.len() > segment).then_some(segment)) {
                Sent::Done => {}
                other => return other,
            }
        }
        Sent::Done
    }

    /// Resolves when the kernel has room again for datagrams to `to`.
    pub(crate) async fn writable(&self, to: SocketAddr) {
        if let Some(half) = self.half(to) {
            // An error here shows itself again at the next send.
            let _ = half.socket.writable().await;
        }
    }

    /// Lets the kernel deliver only a share, of [`ALL`], of the WireGuard initiations, chosen by lot. Where it cannot do
    /// that, all of them come.
    pub(crate) fn shed_initiations(&self, share: u32) {
        #[cfg(target_os = "linux")]
        for half in self.v4.iter().chain(&self.v6) {
            if let Err(error) = shed::shed((&half.socket).into(), share) {
                tracing::debug!(event = "shed", %error, "the kernel takes no filter");
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = share;
    }

    /// Receives for ever, handing each batch to `deliver`. Returns only when a socket fails for good.
    pub(crate) async fn receive(&self, deliver: impl Fn(Received)) -> io::Error {
        let v4 = async {
            match &self.v4 {
                Some(half) => half.receive(&self.buffers, &deliver).await,
                None => std::future::pending().await,
            }
        };
        let v6 = async {
            match &self.v6 {
                Some(half) => half.receive(&self.buffers, &deliver).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! { error = v4 => error, error = v6 => error }
    }

    fn half(&self, to: SocketAddr) -> Option<&Half> {
        if to.is_ipv4() {
            self.v4.as_ref()
        } else {
            self.v6.as_ref()
        }
    }

    fn bind_both(port: u16, buffers: Arc<Buffers>) -> io::Result<Self> {
        let v4 = Half::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
        let port = match &v4 {
            Ok(half) => half.socket.local_addr()?.port(),
            Err(_) => port,
        };
        let v6 = Half::bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port));
        match (v4, v6) {
            (Err(error), Err(_)) => Err(error),
            // A taken IPv4 port is an error even where IPv6 would do: peers use both.
            (Err(error), _) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
            (v4, v6) => {
                let port = match (&v4, &v6) {
                    (Ok(half), _) | (_, Ok(half)) => half.socket.local_addr()?.port(),
                    _ => port,
                };
                Ok(Self {
                    v4: v4.ok(),
                    v6: v6.ok(),
                    port,
                    buffers,
                })
            }
        }
    }
}

/// A batch of equally long datagrams from one source (the last may be shorter), in the buffer the kernel filled.
pub(crate) struct Received {
    /// Where the datagrams came from.
    pub(crate) from: SocketAddr,
    /// The datagrams, one after the other.
    pub(crate) bytes: PooledBytes,
    /// Length of each datagram but the last.
    pub(crate) stride: usize,
}

struct Half {
    socket: tokio::net::UdpSocket,
    state: UdpSocketState,
}

impl Half {
    fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        // The kernel caps these silently for a process without privileges; whatever it grants is fine.
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self {
            socket: tokio::net::UdpSocket::from_std(socket.into())?,
            state,
        })
    }

    fn send_one(&self, destination: SocketAddr, contents: &[u8], segment_size: Option<usize>) -> Sent {
        let transmit = Transmit {
            destination,
            ecn: None,
            contents,
            segment_size,
            src_ip: None,
        };
        let send = || self.state.try_send((&self.socket).into(), &transmit);
        // Asking tokio first would refuse the very first datagrams, which go out before its first look at the socket;
        // it needs to hear of a full buffer only, so that `writable` waits.
        let outcome = match send() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.socket.try_io(Interest::WRITABLE, send),
            outcome => outcome,
        };
        match outcome {
            Ok(()) => Sent::Done,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Full,
            // An ICMP error of an earlier datagram; this one was not judged, and WireGuard repeats what matters.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Sent::Done,
            Err(error) => Sent::Unreachable(error),
        }
    }

    async fn receive(&self, pool: &Arc<Buffers>, deliver: &impl Fn(Received)) -> io::Error {
        let mut slots: [Vec<u8>; RECEIVE_SLOTS] = std::array::from_fn(|_| pool.take());
        let mut metas = [RecvMeta::default(); RECEIVE_SLOTS];
        let mut errors = 0;
        loop {
            let count = match self.receive_once(&mut slots, &mut metas).await {
                Ok(count) => count,
                Err(error) if is_transient(&error) => continue,
                Err(_) if errors < MAX_ERRORS => {
                    errors += 1;
                    tokio::time::sleep(ERROR_PAUSE).await;
                    continue;
                }
                Err(error) => return error,
            };
            errors = 0;
            for (slot, meta) in slots.iter_mut().zip(&metas).take(count) {
                if meta.len == 0 || meta.stride == 0 {
                    continue;
                }
                let Some(bytes) = PooledBytes::cut(slot, meta.len, pool) else {
                    pool.dropped.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                deliver(Received {
                    from: meta.addr,
                    bytes,
                    stride: meta.stride,
                });
            }
        }
    }

    async fn receive_once(
        &self,
        slots: &mut [Vec<u8>; RECEIVE_SLOTS],
        metas: &mut [RecvMeta; RECEIVE_SLOTS],
    ) -> io::Result<usize> {
        let mut slices = slots.each_mut().map(|slot| IoSliceMut::new(slot));
        self.socket
            .async_io(Interest::READABLE, || {
                self.state.recv((&self.socket).into(), &mut slices, metas)
            })
            .await
    }
}

/// Errors that belong to one datagram or one peer, not to the socket.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
    )
}

/// Receive buffers that were used before: the last one used is the first one reused, so that an idle node touches few
/// pages.
#[derive(Default)]
struct Buffers {
    spare: Mutex<Vec<Vec<u8>>>,
    /// How many are filled and wait for somebody.
    out: AtomicUsize,
    dropped: AtomicU64,
}

impl Buffers {
    fn take(&self) -> Vec<u8> {
        self.spare.lock().pop().unwrap_or_else(|| vec![0; BUFFER])
    }

    fn give_back(&self, buffer: Vec<u8>) {
        self.out.fetch_sub(1, Ordering::Relaxed);
        let mut spare = self.spare.lock();
        // A copy of a small batch is no buffer to receive into.
        if spare.len() < SPARE_BUFFERS && buffer.len() == BUFFER {
            spare.push(buffer);
        }
    }
}

/// Bytes in a buffer that returns to its pool when dropped.
pub(crate) struct PooledBytes {
    bytes: Vec<u8>,
    len: usize,
    pool: Arc<Buffers>,
}

impl PooledBytes {
    /// Takes the first `len` bytes of `slot`, which gets another buffer. `None` when too many buffers are out.
    fn cut(slot: &mut Vec<u8>, len: usize, pool: &Arc<Buffers>) -> Option<Self> {
        let bytes = if pool.out.load(Ordering::Relaxed) < MAX_OUT {
            std::mem::replace(slot, pool.take())
        } else if len <= SMALL {
            slot[..len].to_vec()
        } else {
            return None;
        };
        pool.out.fetch_add(1, Ordering::Relaxed);
        let pool = Arc::clone(pool);
        Some(Self { bytes, len, pool })
    }
}

impl std::ops::Deref for PooledBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::ops::DerefMut for PooledBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl Drop for PooledBytes {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests;
