//! What comes in: telling disco and WireGuard apart, and finding the peer.

use tailnet_engine::{
    path::Hop,
    tunnel::{self, Kind, Verdict, relay_address},
};
use tailnet_wire::{derp::GoneReason, disco};

use super::Node;
use crate::{
    clock::Clock,
    network::{Arrival, Origin},
};

impl Node {
    /// A datagram or frame has come. Returns what is to be sent back at once: a cookie for one who knocks too often.
    pub fn handle_arrival(&mut self, clock: &Clock, arrival: &Arrival) -> Option<Vec<u8>> {
        let from = match arrival.origin {
            Origin::Udp(address) => Hop::Udp(address),
            Origin::Derp(region, _) => Hop::Derp(region),
            Origin::DerpGone(region, key) => {
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.peer
                        .path_mut()
                        .handle_peer_gone(region, GoneReason::Disconnected, clock.instant());
                }
                return None;
            }
        };
        if disco::looks_like_disco(&arrival.bytes) {
            self.handle_disco(clock, from, arrival);
            None
        } else {
            self.handle_wireguard(clock, from, arrival)
        }
    }

    fn handle_disco(&mut self, clock: &Clock, from: Hop, arrival: &Arrival) {
        let Some(sender) = disco::sender(&arrival.bytes) else {
            return;
        };
        for (key, slot) in &mut self.slots {
            // A relay vouches for the node key; it must be the one that this disco key belongs to.
            if matches!(arrival.origin, Origin::Derp(_, source) if source != *key) {
                continue;
            }
            if let Some(opened) = slot.disco.as_ref().filter(|disco| *disco.peer() == sender)
                && let Ok(message) = opened.open(&arrival.bytes)
            {
                slot.peer.handle_disco(clock.instant(), from, &message);
            }
        }
    }

    fn handle_wireguard(&mut self, clock: &Clock, from: Hop, arrival: &Arrival) -> Option<Vec<u8>> {
        let now = clock.instant();
        let key = match tunnel::peek(&arrival.bytes) {
            None => return None,
            Some(Kind::Initiation) => {
                let source = match arrival.origin {
                    Origin::Udp(address) => address.ip(),
                    Origin::Derp(region, key) | Origin::DerpGone(region, key) => relay_address(region, &key),
                };
                let mut reply = [0; tunnel::COOKIE_REPLY_LEN];
                match self.limiter.verify(source, &arrival.bytes, &mut reply) {
                    Verdict::Proceed => self.limiter.initiator_of(&arrival.bytes),
                    Verdict::Challenge(len) => return Some(reply[..len].to_vec()),
                    Verdict::Refused | Verdict::Throttled => return None,
                }
            }
            Some(kind) => {
                let index = kind.peer_index();
                let known = self.slots.iter().find(|(_, slot)| Some(slot.index) == index);
                match known {
                    Some((key, _)) => Some(*key),
                    None => {
                        self.handle_lost_session(clock, arrival);
                        return None;
                    }
                }
            }
        };
        if let Some(slot) = key.and_then(|key| self.slots.get_mut(&key)) {
            slot.peer.handle_datagram(now, from, &arrival.bytes);
        }
        None
    }

    /// Data for a session of the process before us: ask whoever sent it for a new one.
    fn handle_lost_session(&mut self, clock: &Clock, arrival: &Arrival) {
        let slot = self.slots.iter_mut().find(|(key, slot)| match arrival.origin {
            Origin::Udp(address) => slot.endpoints.contains(&address),
            Origin::Derp(_, source) | Origin::DerpGone(_, source) => source == **key,
        });
        if let Some((_, slot)) = slot {
            slot.peer.force_handshake(clock.instant());
        }
    }
}
