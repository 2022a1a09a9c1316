//! The bounded queue between senders and the one writer of a region.
//!
//! Frames lie encoded one behind the other, so that the writer takes all of them as one buffer without a copy.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tailnet_wire::{
    derp::{Frame, put_send_packet},
    key::NodePublic,
};
use tokio::sync::Notify;

use super::DerpCounters;

/// The most packets that wait. Go's 32 suit single packets; ours come in GSO batches, of which a few must fit.
const MAX_PACKETS: usize = 256;
/// The most bytes that wait: what a relay takes in a few tens of milliseconds.
const MAX_BYTES: usize = 512 << 10;
/// The most bytes of answers (pongs) that wait; a relay that asks for more gets none.
const MAX_CONTROL: usize = 4 << 10;

/// Packets and control frames on their way to one region's relay.
#[derive(Default)]
pub(super) struct SendQueue {
    waiting: Mutex<Waiting>,
    wake: Notify,
    written: Notify,
    counters: Arc<DerpCounters>,
}

#[derive(Default)]
struct Waiting {
    control: BytesMut,
    packets: Packets,
    /// What was taken is not yet with the relay.
    writing: bool,
}

/// Encoded SendPacket frames and the length of each.
#[derive(Default)]
pub(super) struct Packets {
    frames: BytesMut,
    lengths: VecDeque<usize>,
}

impl SendQueue {
    /// Appends a packet; the oldest are dropped for it when the queue is full.
    pub(super) fn push(&self, dst: &NodePublic, packet: &[u8]) {
        let mut waiting = self.waiting.lock();
        let packets = &mut waiting.packets;
        let before = packets.frames.len();
        put_send_packet(&mut packets.frames, dst, packet);
        packets.lengths.push_back(packets.frames.len() - before);
        let mut dropped = 0;
        while packets.lengths.len() > MAX_PACKETS || packets.frames.len() > MAX_BYTES {
            packets.pop();
            dropped += 1;
        }
        drop(waiting);
        if dropped > 0 {
            self.counters.add_dropped(dropped);
        }
        self.wake.notify_one();
    }

    /// Appends a frame that goes before all packets.
    pub(super) fn push_control(&self, frame: &Frame) {
        let mut waiting = self.waiting.lock();
        if waiting.control.len() < MAX_CONTROL {
            frame.encode_into(&mut waiting.control);
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Takes everything that waits: control frames, then packets. [`settled`](Self::settled) is to follow.
    pub(super) fn take(&self) -> (BytesMut, Packets) {
        let mut waiting = self.waiting.lock();
        waiting.writing = true;
        (waiting.control.split(), std::mem::take(&mut waiting.packets))
    }

    /// What was taken is written, or lost.
    pub(super) fn settled(&self) {
        self.waiting.lock().writing = false;
        self.written.notify_waiters();
    }

    /// Drops everything that waits: it was meant for a connection that did not come about.
    pub(super) fn clear(&self) {
        let (_, packets) = self.take();
        self.counters.add_dropped(packets.len());
        self.settled();
    }

    /// Resolves once no packet waits or is being written.
    pub(super) async fn drained(&self) {
        loop {
            let written = self.written.notified();
            tokio::pin!(written);
            // Before the look, so that nothing is missed in between.
            written.as_mut().enable();
            let is_drained = {
                let waiting = self.waiting.lock();
                waiting.packets.lengths.is_empty() && !waiting.writing
            };
            if is_drained {
                return;
            }
            written.await;
        }
    }

    pub(super) fn has_packets(&self) -> bool {
        !self.waiting.lock().packets.lengths.is_empty()
    }

    /// Resolves once something was pushed. Cancel-safe.
    pub(super) async fn pushed(&self) {
        self.wake.notified().await;
    }

    pub(super) fn counters(&self) -> &Arc<DerpCounters> {
        &self.counters
    }
}

impl Packets {
    pub(super) fn len(&self) -> usize {
        self.lengths.len()
    }

    /// The length in bytes of each frame.
    pub(super) fn lengths(&self) -> impl Iterator<Item = usize> {
        self.lengths.iter().copied()
    }

    /// Drops the first frame.
    pub(super) fn pop(&mut self) {
        if let Some(length) = self.lengths.pop_front() {
            self.frames.advance(length);
        }
    }

    /// Cuts off the first `count` frames, to be written.
    pub(super) fn split(&mut self, count: usize) -> BytesMut {
        let count = count.min(self.lengths.len());
        let bytes = self.lengths.drain(..count).sum();
        self.frames.split_to(bytes)
    }
}
