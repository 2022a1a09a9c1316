//! UDP over the tailnet.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use tokio::sync::mpsc;

use crate::{Caller, shared::Shared};

/// A UDP port of the node on all its tailnet addresses.
///
/// Datagrams arrive from every peer that the packet filter lets through, each with the [`Caller`] whose key decrypted
/// it. As with any UDP socket, what does not fit a queue is lost.
pub struct UdpSocket {
    port: u16,
    queue: mpsc::Receiver<Arrived>,
    shared: Arc<Shared>,
}

/// One datagram and who sent it.
#[derive(Debug)]
pub struct Arrived {
    /// The sender.
    pub caller: Caller,
    /// What it sent.
    pub payload: Vec<u8>,
}

impl UdpSocket {
    pub(crate) fn new(port: u16, queue: mpsc::Receiver<Arrived>, shared: Arc<Shared>) -> Self {
        Self { port, queue, shared }
    }

    /// The next datagram. Cancel safe.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotConnected`] once the node has shut down.
    pub async fn recv(&mut self) -> io::Result<Arrived> {
        let closed = || io::Error::new(io::ErrorKind::NotConnected, "the node has shut down");
        self.queue.recv().await.ok_or_else(closed)
    }

    /// Sends a datagram to a peer's tailnet address. Does not wait.
    ///
    /// # Errors
    /// When no peer has the address, or the datagram does not fit into a packet or the peer's queue.
    pub fn send_to(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        let peer = self.shared.peer_at(to.ip()).map_err(io::Error::other)?;
        let from = self.shared.own_address_like(to.ip()).map_err(io::Error::other)?;
        let sent = peer
            .engine()
            .send_datagram(SocketAddr::new(from, self.port), to, payload);
        peer.kick();
        sent.map_err(io::Error::other)
    }

    /// The bound port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.shared.ports.close_udp(self.port);
        self.shared.announce_ports();
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UdpSocket(port {})", self.port)
    }
}
