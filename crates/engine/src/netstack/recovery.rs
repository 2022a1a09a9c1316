//! Faster recovery from lost segments than smoltcp has by itself.
//!
//! smoltcp's retransmission timeout is one second at least, its sender ignores SACK, and it counts a duplicate
//! acknowledgment only when nothing else in it changed: a lost segment often costs a second. The stack owns the device,
//! so it can speak to a socket in the peer's name: three duplicate acknowledgments make smoltcp repeat the first
//! unacknowledged segment at once. They are fed when
//! - the peer holds three segments behind a hole (RFC 6675), or any for a quarter of a round trip (after RFC 8985),
//! - an acknowledgment advances during recovery, but only up to the next hole (RFC 6582, with SACK as witness),
//! - nothing of what was sent has been acknowledged for two round trips (the tail loss probe of RFC 8985, from below).
//!
//! What is fed says nothing that the peer has not said: its own last acknowledgment, window and sequence number.

mod sack;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use tailnet_wire::packet::{Addresses, IpProto, Packet, build, tcp_flags};

/// The shortest wait for an acknowledgment of a segment or two: peers may delay it.
const DELAYED_ACK: Duration = Duration::from_millis(200);
/// The shortest wait when more is under way, which peers acknowledge at once.
const MIN_WAIT: Duration = Duration::from_millis(50);
/// The longest; smoltcp's own timeout has long struck then.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// So much unacknowledged data is more than two segments.
const SEVERAL_SEGMENTS: usize = 3_000;
/// From the hole to the end of what is held behind it: one segment missing, three received (DupThresh, RFC 6675).
const LOST_BEHIND: u32 = 4_500;
/// Segments that overtake each other by less are not lost.
const MIN_REORDERING: Duration = Duration::from_millis(4);
/// How many times in a row silence is probed; after that smoltcp's timeout takes over.
const MAX_PROBES: u32 = 3;
const DUPLICATES: u8 = 3;
const TCP_HEADER_LEN: usize = 20;

/// What the peer last said about what it has received from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard {
    /// The next byte the peer will send.
    next: u32,
    acknowledged: u32,
    window: u16,
}

/// The first unacknowledged segment was repeated.
#[derive(Debug, Clone, Copy)]
struct Repeat {
    acknowledged: u32,
    at: Instant,
}

/// Loss recovery of one connection.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    heard: Option<Heard>,
    /// Duplicates as smoltcp counts them.
    duplicates: u8,
    /// Where the highest block ends that the peer holds behind a hole.
    sacked: Option<u32>,
    /// Since when there is a hole at the acknowledged byte.
    hole: Option<Instant>,
    repeated: Option<Repeat>,
    probes: u32,
    round_trip: Duration,
    /// When the segment left whose acknowledgment will be the next measurement.
    measured: Option<Instant>,
    /// Since when something of ours is unacknowledged without progress.
    stalled: Option<Instant>,
    several: bool,
}

impl Recovery {
    /// The first measurement: how long the handshake took.
    pub(super) fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
    }

    /// Notes a segment of the peer. True when the socket should repeat its first unacknowledged segment now.
    #[inline]
    pub(super) fn handle_segment(&mut self, now: Instant, segment: &Packet, bytes: &[u8]) -> bool {
        if segment.tcp_flags & (tcp_flags::ACK | tcp_flags::SYN | tcp_flags::RST) != tcp_flags::ACK {
            return false;
        }
        let body = segment.transport(bytes);
        let Some(header) = body.first_chunk::<TCP_HEADER_LEN>() else {
            return false;
        };
        let header_len = usize::from(header[12] >> 4) * 4;
        let options = body.get(TCP_HEADER_LEN..header_len).unwrap_or_default();
        let occupied = body.len().saturating_sub(header_len) as u32 + u32::from(segment.tcp_flags & tcp_flags::FIN);
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let heard = Heard {
            next: word(4).wrapping_add(occupied),
            acknowledged: word(8),
            window: u16::from_be_bytes([header[14], header[15]]),
        };
        let Some(before) = self.heard else {
            self.heard = Some(heard);
            return false;
        };
        let advance = heard.acknowledged.wrapping_sub(before.acknowledged) as i32;
        if advance < 0 {
            return false;
        }
        self.heard = Some(Heard {
            next: sack::later(before.next, heard.next),
            ..heard
        });
        if !options.is_empty() {
            self.sacked = sack::highest_end(options, self.sacked);
        }
        if advance > 0 {
            return self.handle_progress(now, heard.acknowledged);
        }
        let duplicate = occupied == 0 && heard.window == before.window;
        self.duplicates = if duplicate {
            self.duplicates.saturating_add(1)
        } else {
            0
        };
        if self.duplicates == DUPLICATES {
            // smoltcp repeats by itself.
            self.note_repeat(now, heard.acknowledged);
            return false;
        }
        self.sacked.is_some() && self.handle_hole(now, heard.acknowledged)
    }

    fn handle_progress(&mut self, now: Instant, acknowledged: u32) -> bool {
        if let Some(sent) = self.measured.take()
            && self.probes == 0
        {
            let sample = now.saturating_duration_since(sent);
            self.round_trip = (self.round_trip * 7 + sample) / 8;
        }
        self.duplicates = 0;
        self.probes = 0;
        self.hole = None;
        self.stalled = self.stalled.map(|_| now);
        self.sacked = self.sacked.filter(|end| sack::distance(acknowledged, *end) > 0);
        let recovering = self.repeated.take().is_some();
        if self.sacked.is_some() && recovering {
            self.note_repeat(now, acknowledged);
            return true;
        }
        self.sacked.is_some() && self.handle_hole(now, acknowledged)
    }

    /// There are bytes behind a hole: is what is missing lost, or only late?
    fn handle_hole(&mut self, now: Instant, acknowledged: u32) -> bool {
        let since = *self.hole.get_or_insert(now);
        if let Some(repeated) = self.repeated
            && repeated.acknowledged == acknowledged
        {
            // The repetition gets its round trip before it counts as lost as well.
            let patience = self.round_trip * 3 / 2 + MIN_REORDERING;
            if now.saturating_duration_since(repeated.at) < patience {
                return false;
            }
        }
        let behind = self.sacked.map_or(0, |end| sack::distance(acknowledged, end));
        let lost = behind >= LOST_BEHIND as i32 || now.saturating_duration_since(since) >= self.reordering();
        if lost {
            self.note_repeat(now, acknowledged);
        }
        lost
    }

    fn reordering(&self) -> Duration {
        (self.round_trip / 4).clamp(MIN_REORDERING, DELAYED_ACK)
    }

    fn note_repeat(&mut self, now: Instant, acknowledged: u32) {
        self.repeated = Some(Repeat { acknowledged, at: now });
    }

    /// Notes after an egress pass how much of ours is unacknowledged.
    pub(super) fn handle_egress(&mut self, now: Instant, unacknowledged: usize) {
        if unacknowledged == 0 {
            (self.stalled, self.measured, self.hole) = (None, None, None);
            return;
        }
        if self.stalled.is_none() {
            self.stalled = Some(now);
            self.measured = Some(now);
        }
        self.several = unacknowledged >= SEVERAL_SEGMENTS;
    }

    /// When to look again.
    #[inline]
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let hole = self
            .hole
            .filter(|_| self.repeated.is_none())
            .map(|at| at + self.reordering());
        hole.into_iter().chain(self.silence_ends()).min()
    }

    fn silence_ends(&self) -> Option<Instant> {
        // A closed window is not loss, and smoltcp probes it.
        let open = self.heard.is_some_and(|heard| heard.window > 0);
        let least = if self.several { MIN_WAIT } else { DELAYED_ACK };
        let wait = (self.round_trip * 2).clamp(least, MAX_WAIT) * (1 << self.probes);
        let since = self.stalled.filter(|_| open && self.probes < MAX_PROBES)?;
        // A repetition under way gets its chance first.
        let since = self.repeated.map_or(since, |repeat| since.max(repeat.at));
        Some(since + wait)
    }

    /// Whether the socket should repeat its first unacknowledged segment now.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        let Some(heard) = self.heard else {
            return false;
        };
        if self.hole.is_some() && self.handle_hole(now, heard.acknowledged) {
            return true;
        }
        let silent = self.silence_ends().is_some_and(|at| at <= now);
        if silent {
            self.probes += 1;
            self.measured = None;
            self.note_repeat(now, heard.acknowledged);
        }
        silent
    }

    /// The acknowledgments to feed, in order. `addresses` are the peer's and ours, `ports` likewise.
    pub(super) fn duplicates(&self, addresses: &Addresses, ports: (u16, u16)) -> Vec<Vec<u8>> {
        let Some(heard) = self.heard else {
            return Vec::new();
        };
        // A changed window makes smoltcp start counting duplicates afresh, whatever it has counted so far.
        let other = heard.window ^ 1;
        let windows = [other, heard.window, heard.window, heard.window, heard.window];
        let acknowledgment = |window| {
            let heard = Heard { window, ..heard };
            build::ip(addresses, IpProto::TCP, &acknowledgment(heard, ports))
        };
        windows.into_iter().map(acknowledgment).collect()
    }
}

/// A bare ACK without a checksum, which our own device does not verify.
fn acknowledgment(heard: Heard, ports: (u16, u16)) -> [u8; TCP_HEADER_LEN] {
    let mut header = [0; TCP_HEADER_LEN];
    header[..2].copy_from_slice(&ports.0.to_be_bytes());
    header[2..4].copy_from_slice(&ports.1.to_be_bytes());
    header[4..8].copy_from_slice(&heard.next.to_be_bytes());
    header[8..12].copy_from_slice(&heard.acknowledged.to_be_bytes());
    header[12..14].copy_from_slice(&[0x50, tcp_flags::ACK]);
    header[14..16].copy_from_slice(&heard.window.to_be_bytes());
    header
}
