//! Keeps a peer from sending more than a receive buffer holds before our first ACK.
//!
//! smoltcp 0.14 takes the window of its own SYN for a scaled one, which it is not (RFC 7323 section 2.2). Until it has
//! sent a segment without SYN, it therefore accepts data up to eight times the buffer, and then panics in
//! `RingBuffer::enqueue_unallocated`: found by `tests/node/tests/hostile.rs`. From its first ACK on the window is right.

use tailnet_wire::packet::{Packet, tcp_flags};

const TCP_HEADER_LEN: usize = 20;

/// What a connection may receive, as long as smoltcp does not know it.
#[derive(Debug, Default)]
pub(super) struct Overrun {
    /// The first sequence number that the buffer has room for.
    first: Option<u32>,
    /// smoltcp has announced a window that it reads right.
    told: bool,
}

impl Overrun {
    /// Whether smoltcp may have a segment, when its buffer has room for `capacity` bytes in all, and `opening` says
    /// whether it is still waiting for the peer's SYN.
    #[inline]
    pub(super) fn admits(&mut self, segment: &Packet, bytes: &[u8], opening: bool, capacity: usize) -> bool {
        if self.told {
            return true;
        }
        let Some((sequence, payload)) = parts(segment, bytes) else {
            return true;
        };
        if opening {
            if segment.tcp_flags & tcp_flags::SYN != 0 {
                self.first = Some(sequence.wrapping_add(1));
            }
            return true;
        }
        let Some(first) = self.first else {
            return true;
        };
        let end = sequence.wrapping_sub(first).wrapping_add(payload) as i32;
        payload == 0 || i64::from(end) <= i64::try_from(capacity).unwrap_or(i64::MAX)
    }

    /// Bytes were read, so that there is room for as many more.
    #[inline]
    pub(super) fn note_read(&mut self, count: usize) {
        if !self.told {
            self.first = self.first.map(|first| first.wrapping_add(count as u32));
        }
    }

    /// smoltcp has sent a packet.
    #[inline]
    pub(super) fn note_sent(&mut self, packet: &[u8]) {
        if !self.told {
            // smoltcp writes no options or extension headers in front of TCP.
            let header = if packet.first().is_some_and(|first| first >> 4 == 4) {
                20
            } else {
                40
            };
            let flags = packet.get(header + 13).copied();
            self.told = flags.is_some_and(|flags| flags & (tcp_flags::SYN | tcp_flags::RST) == 0);
        }
    }
}

/// Sequence number and length of the payload.
fn parts(segment: &Packet, bytes: &[u8]) -> Option<(u32, u32)> {
    let body = segment.transport(bytes);
    let header = body.first_chunk::<TCP_HEADER_LEN>()?;
    let payload = body.len().saturating_sub(usize::from(header[12] >> 4) * 4);
    let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    Some((sequence, u32::try_from(payload).ok()?))
}
