//! UDP (RFC 768): an eight-byte header, so no stack is needed for it.

use std::{collections::VecDeque, net::SocketAddr};

use tailnet_wire::packet::{Addresses, IpProto, Packet, build, checksum};

const HEADER_LEN: usize = 8;
/// What may wait for the application, per peer.
const QUEUE_BYTES: usize = 256 << 10;
const QUEUE_DATAGRAMS: usize = 256;

/// The largest payload that fits into one packet of `mtu` bytes between addresses of this IP version.
pub(crate) fn max_payload(remote: SocketAddr, mtu: usize) -> usize {
    mtu - HEADER_LEN - if remote.is_ipv4() { 20 } else { 40 }
}

/// A UDP datagram that a peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// One IP packet around `payload`. `None` when the addresses are of different IP versions or the payload is too long.
pub(crate) fn build(local: SocketAddr, remote: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let addresses = Addresses::new(local.ip(), remote.ip())?;
    let len = u16::try_from(HEADER_LEN + payload.len()).ok()?;
    let mut body = Vec::with_capacity(usize::from(len));
    body.extend_from_slice(&local.port().to_be_bytes());
    body.extend_from_slice(&remote.port().to_be_bytes());
    body.extend_from_slice(&len.to_be_bytes());
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(payload);
    let sum = checksum::pseudo_header(&addresses, IpProto::UDP, body.len())
        .with(&body)
        .finish();
    // Zero on the wire would say "no checksum" (RFC 768).
    let sum = if sum == 0 { u16::MAX } else { sum };
    body[6..HEADER_LEN].copy_from_slice(&sum.to_be_bytes());
    Some(build::ip(&addresses, IpProto::UDP, &body))
}

/// The payload of a UDP packet, by its own length field. `None` when that contradicts the packet.
fn payload<'a>(packet: &Packet, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let body = packet.transport(bytes);
    let len = usize::from(u16::from_be_bytes([*body.get(4)?, *body.get(5)?]));
    body.get(HEADER_LEN..len)
}

/// Datagrams that wait for the application. When full, new ones are dropped, as a kernel does.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    datagrams: VecDeque<Datagram>,
    bytes: usize,
}

impl Inbox {
    /// Whether the datagram was taken.
    pub(crate) fn push(&mut self, packet: &Packet, bytes: &[u8]) -> bool {
        let Some(payload) = payload(packet, bytes) else {
            return false;
        };
        if self.datagrams.len() >= QUEUE_DATAGRAMS || self.bytes + payload.len() > QUEUE_BYTES {
            return false;
        }
        self.bytes += payload.len();
        self.datagrams.push_back(Datagram {
            local: packet.dst,
            remote: packet.src,
            payload: payload.to_vec(),
        });
        true
    }

    pub(crate) fn pop(&mut self) -> Option<Datagram> {
        let datagram = self.datagrams.pop_front()?;
        self.bytes -= datagram.payload.len();
        Some(datagram)
    }

    /// Drops every datagram that `keep` no longer allows.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Datagram) -> bool) {
        self.datagrams.retain(|datagram| keep(datagram));
        self.bytes = self.datagrams.iter().map(|datagram| datagram.payload.len()).sum();
    }
}
