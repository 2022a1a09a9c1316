//! What applications do with a peer: dial, read, write, close, and send datagrams.

use std::{
    net::{IpAddr, SocketAddr},
    task::{Context, Poll},
    time::Instant,
};

use rand_core::RngCore;
use tailnet_wire::packet::{Addresses, Packet, build};

use super::{ConnError, ConnId, ConnectError, MTU, Peer, PingId, PingKind, udp};
use crate::netstack::Netstack;

/// Why a datagram or ping could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The local address is not ours, the remote one not the peer's, or they are of different IP versions.
    #[error("no datagram can go from {0} to {1}: use one of this node's addresses and one of the peer's")]
    Address(IpAddr, IpAddr),
    /// The payload does not fit into one packet.
    #[error("a datagram to this peer carries at most {0} bytes")]
    TooLong(usize),
    /// The queue is full: the network is slower than the sender. As with any UDP socket, the datagram is lost.
    #[error("the send queue of this peer is full")]
    Full,
}

impl Peer {
    /// Dials `remote`, one of the peer's addresses, from `local`, one of ours. The connection is usable at once; see
    /// [`poll_connected`](Self::poll_connected).
    ///
    /// # Errors
    /// [`ConnectError`] when it cannot even be tried.
    pub fn connect(
        &mut self,
        now: Instant,
        rng: &mut dyn RngCore,
        local: IpAddr,
        remote: SocketAddr,
    ) -> Result<ConnId, ConnectError> {
        let view = self.view.as_ref().filter(|_| !self.closing);
        if !view.is_some_and(|view| view.local.contains(&local) && view.remote.contains(&remote.ip())) {
            return Err(ConnectError::Address(local, remote));
        }
        self.start_netstack(now).connect(now, rng, local, remote)
    }

    /// Waits until a dialed connection is established. `cx` is woken once when that may have changed.
    pub fn poll_connected(&mut self, conn: ConnId, cx: &mut Context<'_>) -> Poll<Result<(), ConnError>> {
        self.netstack_mut()?.poll_connected(conn, cx)
    }

    /// Reads into `out`. `Ok(0)` means that the peer has closed its half (or that `out` is empty).
    pub fn poll_read(&mut self, conn: ConnId, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<Result<usize, ConnError>> {
        self.netstack_mut()?.poll_read(conn, cx, out)
    }

    /// How many bytes [`poll_read`](Self::poll_read) would find now: no larger buffer need be made ready for it.
    pub fn readable(&mut self, conn: ConnId) -> usize {
        self.netstack.as_mut().map_or(0, |netstack| netstack.readable(conn))
    }

    /// Takes what fits of `data`; it is sent with the next [`poll_transmit`](Self::poll_transmit) and kept until the
    /// peer has acknowledged it.
    pub fn poll_write(&mut self, conn: ConnId, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, ConnError>> {
        self.netstack_mut()?.poll_write(conn, cx, data)
    }

    /// Closes our half: what was written is still delivered, then the peer reads the end. Never waits.
    ///
    /// # Errors
    /// Why the connection is over already.
    pub fn shutdown(&mut self, conn: ConnId) -> Result<(), ConnError> {
        self.netstack_mut()?.shutdown(conn)
    }

    /// Resets the connection: unread and unsent data is lost. The id stays valid until [`release`](Self::release).
    pub fn abort(&mut self, conn: ConnId) {
        if let Ok(netstack) = self.netstack_mut() {
            netstack.abort(conn, ConnError::Closed);
        }
    }

    /// Lets go of the connection, which must be done exactly once for each. What was written is still delivered; if
    /// something was not read, the peer gets a reset.
    pub fn release(&mut self, conn: ConnId) {
        if let Ok(netstack) = self.netstack_mut() {
            netstack.release(conn);
        }
    }

    /// Sends a UDP datagram. Its answers may come in while the netmap keeps both addresses, and count as
    /// [`poll_datagram`](Self::poll_datagram) if the port is bound.
    ///
    /// # Errors
    /// [`SendError`]; the datagram is then lost.
    pub fn send_datagram(&mut self, local: SocketAddr, remote: SocketAddr, payload: &[u8]) -> Result<(), SendError> {
        self.check_ends(local.ip(), remote.ip())?;
        let longest = udp::max_payload(remote, MTU);
        if payload.len() > longest {
            return Err(SendError::TooLong(longest));
        }
        let packet = udp::build(local, remote, payload).ok_or(SendError::Address(local.ip(), remote.ip()))?;
        if let (Ok(parsed), Some(view)) = (Packet::parse(&packet), &self.view) {
            view.note_out(&parsed, &mut self.udp_flows);
        }
        self.outbox.push(&packet).then_some(()).ok_or(SendError::Full)
    }

    /// Pings the peer inside the tunnel; the answer is [`PeerEvent::Pong`](super::PeerEvent::Pong).
    ///
    /// # Errors
    /// [`SendError`] when the ping cannot be sent.
    pub fn ping(
        &mut self,
        now: Instant,
        rng: &mut dyn RngCore,
        kind: PingKind,
        local: IpAddr,
        remote: IpAddr,
    ) -> Result<PingId, SendError> {
        self.check_ends(local, remote)?;
        let addresses = Addresses::new(local, remote).ok_or(SendError::Address(local, remote))?;
        let mut data = [0; 8];
        rng.fill_bytes(&mut data);
        let (id, packet) = match kind {
            PingKind::Tsmp => {
                let id = self.pings.start(now, kind, data);
                (
                    id,
                    build::tsmp(&addresses, &tailnet_wire::tsmp::Message::Ping(data).encode()),
                )
            }
            PingKind::Icmp => {
                let id = self.pings.start(now, kind, data);
                let [i0, i1, s0, s1, ..] = data;
                let (identifier, sequence) = (u16::from_be_bytes([i0, i1]), u16::from_be_bytes([s0, s1]));
                (id, build::echo_request(&addresses, identifier, sequence, &data))
            }
        };
        self.outbox.push(&packet).then_some(id).ok_or(SendError::Full)
    }

    fn check_ends(&self, local: IpAddr, remote: IpAddr) -> Result<(), SendError> {
        let view = self.view.as_ref().filter(|_| !self.closing);
        match view {
            Some(view) if view.local.contains(&local) && view.remote.contains(&remote) => Ok(()),
            _ => Err(SendError::Address(local, remote)),
        }
    }

    pub(super) fn start_netstack(&mut self, now: Instant) -> &mut Netstack {
        let (seed, limits, memory) = (&mut self.seed, self.limits, &self.memory);
        let local = self.view.as_ref().map_or(&[][..], |view| &view.local);
        self.netstack.get_or_insert_with(|| {
            // Another stack later must not repeat the sequence numbers of this one.
            *seed = seed
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            Box::new(Netstack::new(now, *seed, local, limits, std::sync::Arc::clone(memory)))
        })
    }

    fn netstack_mut(&mut self) -> Result<&mut Netstack, ConnError> {
        match &mut self.netstack {
            Some(netstack) => Ok(netstack),
            None if self.view.is_none() => Err(ConnError::Withdrawn),
            None => Err(ConnError::Closed),
        }
    }
}
