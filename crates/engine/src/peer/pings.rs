//! Pings of ours that wait for their pong.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tailnet_wire::packet::Packet;

use super::{PeerEvent, PingId, PingKind};

/// How long a pong is waited for.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How many pings may wait; the oldest is forgotten.
const CAPACITY: usize = 32;
const ECHO_HEADER_LEN: usize = 8;

#[derive(Debug)]
struct Ping {
    id: PingId,
    kind: PingKind,
    data: [u8; 8],
    sent: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Pings {
    waiting: VecDeque<Ping>,
    last: u64,
}

impl Pings {
    pub(super) fn start(&mut self, now: Instant, kind: PingKind, data: [u8; 8]) -> PingId {
        if self.waiting.len() == CAPACITY {
            self.waiting.pop_front();
        }
        self.last += 1;
        let id = PingId(self.last);
        self.waiting.push_back(Ping {
            id,
            kind,
            data,
            sent: now,
        });
        id
    }

    pub(super) fn handle_tsmp(&mut self, now: Instant, data: [u8; 8], peer_api_port: u16) -> Option<PeerEvent> {
        let ping = self.take(PingKind::Tsmp, &data)?;
        Some(PeerEvent::Pong {
            id: ping.id,
            latency: now.saturating_duration_since(ping.sent),
            peer_api_port: (peer_api_port != 0).then_some(peer_api_port),
        })
    }

    pub(super) fn handle_icmp(&mut self, now: Instant, packet: &Packet, bytes: &[u8]) -> Option<PeerEvent> {
        if !packet.is_echo_reply() {
            return None;
        }
        let data = packet.transport(bytes).get(ECHO_HEADER_LEN..)?.try_into().ok()?;
        let ping = self.take(PingKind::Icmp, &data)?;
        Some(PeerEvent::Pong {
            id: ping.id,
            latency: now.saturating_duration_since(ping.sent),
            peer_api_port: None,
        })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.front().map(|ping| ping.sent + TIMEOUT)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while self.poll_timeout().is_some_and(|at| at <= now) {
            self.waiting.pop_front();
        }
    }

    fn take(&mut self, kind: PingKind, data: &[u8; 8]) -> Option<Ping> {
        let index = self
            .waiting
            .iter()
            .position(|ping| ping.kind == kind && ping.data == *data)?;
        self.waiting.remove(index)
    }
}
