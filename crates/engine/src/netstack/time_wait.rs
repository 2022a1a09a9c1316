//! Connections in TIME-WAIT, kept as a four-tuple and a date instead of a socket (RFC 9293, section 3.3.2).

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use tailnet_wire::packet::{Addresses, IpProto, Packet, build, checksum, tcp_flags};

use super::flow::FlowKey;

/// How long a late FIN is answered. The peer is one tunnel away, so far less than two segment lifetimes will do.
const KEEP: Duration = Duration::from_secs(10);
/// How many records a peer may have; the oldest make room.
const CAPACITY: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct TimeWait {
    until: HashMap<FlowKey, Instant>,
    order: VecDeque<(Instant, FlowKey)>,
}

impl TimeWait {
    pub(super) fn insert(&mut self, now: Instant, key: FlowKey) {
        self.handle_timeout(now);
        while self.order.len() >= CAPACITY {
            self.drop_oldest();
        }
        self.until.insert(key, now + KEEP);
        self.order.push_back((now + KEEP, key));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.order.front().map(|(until, _)| *until)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.drop_oldest();
        }
    }

    /// The answer to a segment of a connection in TIME-WAIT. `None` when the segment belongs to none, or needs no
    /// answer, or opens a new connection.
    pub(super) fn answer(&mut self, key: &FlowKey, segment: &Packet, bytes: &[u8]) -> Option<Vec<u8>> {
        self.until.get(key)?;
        if segment.is_tcp_syn() || segment.tcp_flags & tcp_flags::RST != 0 {
            self.until.remove(key);
            return None;
        }
        acknowledge(segment, bytes)
    }

    pub(super) fn contains(&self, key: &FlowKey) -> bool {
        self.until.contains_key(key)
    }

    fn drop_oldest(&mut self) {
        if let Some((until, key)) = self.order.pop_front()
            && self.until.get(&key) == Some(&until)
        {
            self.until.remove(&key);
        }
    }
}

/// A bare ACK of everything `segment` carries. The peer has acknowledged our FIN, so its own acknowledgment number is
/// where our sequence ends, and no state is needed. `None` for a segment that occupies no sequence space.
pub(super) fn acknowledge(segment: &Packet, bytes: &[u8]) -> Option<Vec<u8>> {
    let body = segment.transport(bytes);
    let header: &[u8; 20] = body.first_chunk()?;
    let data = body.len().saturating_sub(usize::from(header[12] >> 4) * 4);
    let fin = usize::from(segment.tcp_flags & tcp_flags::FIN != 0);
    if data + fin == 0 || segment.tcp_flags & tcp_flags::ACK == 0 {
        return None;
    }
    let sequence = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let next = sequence.wrapping_add((data + fin) as u32);
    let mut ack = [0; 20];
    ack[..2].copy_from_slice(&header[2..4]);
    ack[2..4].copy_from_slice(&header[..2]);
    ack[4..8].copy_from_slice(&header[8..12]);
    ack[8..12].copy_from_slice(&next.to_be_bytes());
    ack[12..14].copy_from_slice(&[0x50, tcp_flags::ACK]);
    // Any window will do: no more data is expected. Non-zero, so that the peer does not probe it.
    ack[14..16].copy_from_slice(&0x0400_u16.to_be_bytes());
    let addresses = Addresses::reply_to(segment)?;
    let sum = checksum::pseudo_header(&addresses, IpProto::TCP, ack.len()).with(&ack);
    ack[16..18].copy_from_slice(&sum.finish().to_be_bytes());
    Some(build::ip(&addresses, IpProto::TCP, &ack))
}
