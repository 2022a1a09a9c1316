//! When a peer is probed: heartbeats of a session, rounds over all candidates, calls over DERP.

use std::time::Instant;

use super::{GOOD_ENOUGH, HEARTBEAT, Outgoing, Path, PathEvent, ROUND_INTERVAL, UPGRADE, call::Request};

impl Path {
    /// Keeps the session alive, or lets it fall asleep.
    pub(super) fn beat(&mut self, now: Instant) {
        if !self.is_active(now) {
            self.heartbeat = None;
            return;
        }
        self.heartbeat = Some(now + HEARTBEAT);
        if self.disco.is_none() {
            return;
        }
        if let Some(best) = self.best {
            self.push_ping(best.addr, now);
        }
        if self.wants_better(now) {
            self.ping_all(now, true);
        }
    }

    pub(super) fn wants_better(&self, now: Instant) -> bool {
        let (Some(best), Some(last_round)) = (self.best, self.last_round) else {
            return true;
        };
        if !best.is_trusted(now) {
            return true;
        }
        best.latency.is_none_or(|latency| latency > GOOD_ENOUGH) && now.saturating_duration_since(last_round) >= UPGRADE
    }

    /// Pings every candidate that was not pinged lately, then asks the peer to do the same.
    pub(super) fn ping_all(&mut self, now: Instant, call: bool) {
        let too_soon = |at| now.saturating_duration_since(at) < ROUND_INTERVAL;
        if self.disco.is_none() || self.last_round.is_some_and(too_soon) {
            return;
        }
        self.last_round = Some(now);
        let keep = self.best.map(|best| best.addr);
        let due = self.candidates.due(now, keep);
        let any = !due.is_empty();
        for addr in due {
            self.push_ping(addr, now);
        }
        if call && (any || self.candidates.is_empty()) && self.relay.region(now).is_some() {
            match self.call.request(now) {
                Request::Send => self.send_call(now),
                Request::Refresh => self.event(PathEvent::StaleEndpoints),
                Request::TooSoon => {}
            }
        }
    }

    pub(super) fn send_call(&mut self, now: Instant) {
        if let (Some(region), true) = (self.relay.region(now), self.call.note_sent(now)) {
            self.push(Outgoing::CallMeMaybe(region));
        }
    }
}
