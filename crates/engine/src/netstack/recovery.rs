//! Faster recovery from lost segments than smoltcp has by itself.
//!
//! smoltcp's retransmission timeout is one second at least, and its sender ignores SACK: a lost last segment costs a
//! second, and so does every further loss in one window. The stack owns the device, so it can speak to a socket in the
//! peer's name: three duplicate acknowledgments make smoltcp repeat the first unacknowledged segment at once. They are
//! fed
//! - when nothing of what was sent has been acknowledged for two round trips, at least 200 ms (the tail loss probe of
//!   RFC 8985, from below), and
//! - when an acknowledgment advances during recovery, but only up to the next hole (RFC 6582, with SACK as witness).
//!
//! What is fed says nothing that the peer has not said: its own last acknowledgment, window and sequence number.

use std::time::{Duration, Instant};

use tailnet_wire::packet::{Addresses, IpProto, Packet, build, tcp_flags};

/// The shortest wait for an acknowledgment: peers may delay theirs.
const MIN_WAIT: Duration = Duration::from_millis(200);
/// The longest; smoltcp's own timeout has long struck then.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// How many times in a row silence is probed; after that smoltcp's timeout takes over.
const MAX_PROBES: u32 = 3;
const DUPLICATES: u8 = 3;
const TCP_HEADER_LEN: usize = 20;

/// What the peer last said about what it has received from us.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    /// The next byte the peer will send.
    next: u32,
    acknowledged: u32,
    window: u16,
}

/// Loss recovery of one connection.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    heard: Option<Heard>,
    duplicates: u8,
    /// Where the highest block ends that the peer holds behind a hole.
    sacked: Option<u32>,
    recovering: bool,
    probes: u32,
    round_trip: Duration,
    /// Since when something of ours is unacknowledged without progress.
    stalled: Option<Instant>,
}

impl Recovery {
    /// The first measurement: how long the handshake took.
    pub(super) fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
    }

    /// Notes a segment of the peer. True when the socket should repeat its first unacknowledged segment now.
    #[inline]
    pub(super) fn handle_segment(&mut self, now: Instant, segment: &Packet, bytes: &[u8]) -> bool {
        let body = segment.transport(bytes);
        let Some(header) = body.first_chunk::<TCP_HEADER_LEN>() else {
            return false;
        };
        if segment.tcp_flags & (tcp_flags::ACK | tcp_flags::SYN | tcp_flags::RST) != tcp_flags::ACK {
            return false;
        }
        let header_len = usize::from(header[12] >> 4) * 4;
        let data = body.len().saturating_sub(header_len);
        let fin = u32::from(segment.tcp_flags & tcp_flags::FIN);
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let heard = Heard {
            next: word(4).wrapping_add(data as u32).wrapping_add(fin),
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
            next: later(before.next, heard.next),
            ..heard
        });
        if header_len > TCP_HEADER_LEN {
            self.note_sack(body.get(TCP_HEADER_LEN..header_len).unwrap_or_default());
        }
        if advance > 0 {
            return self.handle_progress(now, heard.acknowledged);
        }
        let duplicate = data == 0 && fin == 0 && heard.window == before.window;
        self.duplicates = if duplicate {
            self.duplicates.saturating_add(1)
        } else {
            0
        };
        self.recovering |= self.duplicates >= DUPLICATES;
        false
    }

    fn handle_progress(&mut self, now: Instant, acknowledged: u32) -> bool {
        self.duplicates = 0;
        self.probes = 0;
        self.stalled = self.stalled.map(|_| now);
        let hole = self
            .sacked
            .is_some_and(|end| (end.wrapping_sub(acknowledged) as i32) > 0);
        if !hole {
            self.sacked = None;
            self.recovering = false;
        }
        hole && self.recovering
    }

    /// Notes after an egress pass whether anything of ours is unacknowledged; returns when to look again.
    pub(super) fn handle_egress(&mut self, now: Instant, unacknowledged: bool) -> Option<Instant> {
        if !unacknowledged {
            self.stalled = None;
            return None;
        }
        self.stalled.get_or_insert(now);
        self.poll_timeout()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        // A closed window is not loss, and smoltcp probes it.
        let open = self.heard.is_some_and(|heard| heard.window > 0);
        let wait = (self.round_trip * 2).clamp(MIN_WAIT, MAX_WAIT) * (1 << self.probes);
        self.stalled
            .filter(|_| open && self.probes < MAX_PROBES)
            .map(|at| at + wait)
    }

    /// Whether silence has lasted so long that the socket should repeat its first unacknowledged segment.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        let due = self.poll_timeout().is_some_and(|at| at <= now);
        if due {
            self.probes += 1;
            self.recovering = true;
        }
        due
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

    /// Notes the SACK blocks among TCP options (RFC 2018).
    fn note_sack(&mut self, mut options: &[u8]) {
        while let Some((kind, rest)) = options.split_first() {
            match kind {
                0 => return,
                1 => options = rest,
                _ => {
                    let Some(len) = rest.first().map(|len| usize::from(*len)).filter(|len| *len >= 2) else {
                        return;
                    };
                    let Some(option) = options.get(2..len) else {
                        return;
                    };
                    if *kind == 5 {
                        let (blocks, _) = option.as_chunks::<8>();
                        for [_, _, _, _, end @ ..] in blocks {
                            let end = u32::from_be_bytes(*end);
                            self.sacked = Some(self.sacked.map_or(end, |sacked| later(sacked, end)));
                        }
                    }
                    options = options.get(len..).unwrap_or_default();
                }
            }
        }
    }
}

/// The later of two sequence numbers.
fn later(a: u32, b: u32) -> u32 {
    if (b.wrapping_sub(a) as i32) > 0 { b } else { a }
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
