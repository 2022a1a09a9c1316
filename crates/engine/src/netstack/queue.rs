//! Packets one behind the other in one buffer: a bounded queue without an allocation per packet.

use std::collections::VecDeque;

use super::Egress;

/// Bytes of memory that an empty queue keeps.
const KEEP: usize = 4 << 10;

/// A queue that holds at most a fixed number of bytes. A packet that does not fit is dropped and counted.
#[derive(Debug)]
pub(crate) struct PacketQueue {
    bytes: VecDeque<u8>,
    lengths: VecDeque<u16>,
    limit: usize,
    dropped: u64,
}

impl PacketQueue {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            lengths: VecDeque::new(),
            limit,
            dropped: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// How many packets did not fit so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Whether `packet` was taken.
    pub(crate) fn push(&mut self, packet: &[u8]) -> bool {
        let Ok(len) = u16::try_from(packet.len()) else {
            self.dropped += 1;
            return false;
        };
        if self.bytes.len() + packet.len() > self.limit {
            self.dropped += 1;
            return false;
        }
        self.bytes.extend(packet);
        self.lengths.push_back(len);
        true
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.lengths.clear();
    }

    /// Moves packets to `egress` while it is ready.
    pub(crate) fn drain(&mut self, egress: &mut impl Egress) {
        while egress.is_ready() {
            let Some(len) = self.lengths.pop_front() else {
                break;
            };
            let len = usize::from(len);
            if self.bytes.as_slices().0.len() < len {
                self.bytes.make_contiguous();
            }
            egress.send(&self.bytes.as_slices().0[..len]);
            self.bytes.drain(..len);
        }
        if self.is_empty() {
            // The next packets start at the front again, in one piece. A burst leaves no lasting mark on an idle peer.
            self.bytes.clear();
            self.bytes.shrink_to(KEEP);
        }
    }
}

impl Egress for PacketQueue {
    fn is_ready(&self) -> bool {
        true
    }

    fn send(&mut self, packet: &[u8]) {
        self.push(packet);
    }
}
