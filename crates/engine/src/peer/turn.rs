//! One turn of a peer: timers, what is sent, what is told. See the [module](super) for the order.

use std::time::Instant;

use rand_core::RngCore;
use tailnet_wire::disco;

use super::{
    Datagram, Hop, MAX_HANDSHAKES, Peer, PeerEvent, Transmits,
    transmit::{self, Sealer},
};
use crate::tunnel::MIN_BUFFER;

impl Peer {
    /// Runs whatever is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.tunnel.poll_timeout().is_some_and(|at| at <= now) {
            self.tick(now);
        }
        if self.path.poll_timeout().is_some_and(|at| at <= now) {
            self.path.handle_timeout(now);
        }
        if self.greet_at.is_some_and(|at| at <= now) {
            self.greet_at = None;
            if !self.tunnel.has_session() {
                self.force_handshake(now);
            }
        }
        self.pings.handle_timeout(now);
        if let Some(netstack) = &mut self.netstack {
            netstack.handle_timeout(now, &mut self.replies);
        }
    }

    /// When the next turn is due, if nothing happens before. Never for a peer at rest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let netstack = self.netstack.as_ref().and_then(|netstack| netstack.poll_timeout());
        let timers = [
            self.tunnel.poll_timeout(),
            self.path.poll_timeout(),
            netstack,
            self.pings.poll_timeout(),
            self.greet_at,
        ];
        timers.into_iter().flatten().min()
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) would send something that no timer announces.
    pub fn wants_transmit(&self) -> bool {
        let queued = !self.replies.is_empty() || !self.outbox.is_empty();
        let dirty = || self.netstack.as_ref().is_some_and(|netstack| netstack.wants_egress());
        let waiting = self.tunnel.has_session() || !self.tunnel.is_initiating();
        !self.handshakes.is_empty() || (waiting && self.may_send() && (queued || dirty()))
    }

    /// Packs datagrams into `out` until there is nothing to send or `out` is full.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Transmits) {
        if self.tunnel.tick_due(now) && !self.is_quiet() {
            self.tick(now);
        }
        if !self.tunnel.has_session() && self.has_demand() {
            let mut initiation = [0; MIN_BUFFER];
            if let Some(len) = self.tunnel.initiate(now, &mut initiation) {
                self.queue_handshake(None, &initiation[..len]);
            }
            self.path.note_send(now);
        }
        while !out.is_full()
            && let Some((hop, message)) = self.handshakes.pop_front()
        {
            let route = hop.map_or_else(|| self.path.route(now), transmit::only);
            self.counters.dropped.no_path += u64::from(route == Default::default());
            out.push_copy(route, &message);
        }
        if self.tunnel.has_session() {
            self.push_announcement();
            self.seal(now, out);
        } else {
            self.handle_silence(now);
        }
    }

    /// The next disco message to seal with the peer's disco key and send.
    pub fn poll_disco(&mut self, now: Instant, rng: &mut dyn RngCore) -> Option<(Hop, disco::Message)> {
        self.path.poll_transmit(now, rng)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<PeerEvent> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if let Some((conn, key)) = self.netstack.as_mut().and_then(|netstack| netstack.poll_accepted()) {
            return Some(PeerEvent::Accepted {
                conn,
                local: key.local,
                remote: key.remote,
            });
        }
        self.path.poll_event().map(PeerEvent::Path)
    }

    /// The next UDP datagram for one of our bound ports.
    pub fn poll_datagram(&mut self) -> Option<Datagram> {
        self.inbox.pop()
    }

    /// There is no session to send under.
    fn handle_silence(&mut self, now: Instant) {
        if self.view.is_none() || self.closing {
            // There is nobody left to tell.
            self.netstack = None;
            self.give_up_datagrams();
        } else if let Some(netstack) = &mut self.netstack {
            netstack.handle_silence(now);
        }
        self.drop_idle_netstack();
    }

    fn give_up_datagrams(&mut self) {
        self.replies.clear();
        self.outbox.clear();
    }

    fn seal(&mut self, now: Instant, out: &mut Transmits) {
        let route = self.path.route(now);
        let mut sealer = Sealer {
            now,
            route,
            tunnel: &mut self.tunnel,
            out,
            packets: 0,
            bytes: 0,
        };
        self.replies.drain(&mut sealer);
        if let Some(netstack) = &mut self.netstack {
            netstack.poll_egress(now, &mut sealer);
        }
        self.outbox.drain(&mut sealer);
        let (packets, bytes) = (sealer.packets, sealer.bytes);
        if packets > 0 {
            self.counters.tx_packets += packets;
            self.counters.tx_bytes += bytes;
            self.path.note_send(now);
            if route == Default::default() {
                self.counters.dropped.no_path += packets;
            }
        }
        self.drop_idle_netstack();
    }

    fn drop_idle_netstack(&mut self) {
        if let Some(netstack) = &self.netstack
            && netstack.is_idle()
        {
            self.counters.tcp.add(netstack.counters());
            self.netstack = None;
        }
    }

    /// Whether something waits for a session.
    fn has_demand(&self) -> bool {
        let netstack = || self.netstack.as_ref().is_some_and(|netstack| netstack.wants_egress());
        self.may_send() && (!self.outbox.is_empty() || !self.replies.is_empty() || netstack())
    }

    /// A withdrawn peer gets its resets, under a session it has, and no new session.
    fn may_send(&self) -> bool {
        self.tunnel.has_session() || (self.view.is_some() && !self.closing)
    }

    /// Whether the tunnel is at rest and nothing wants it, so that no tick is needed.
    fn is_quiet(&self) -> bool {
        self.handshakes.is_empty() && !self.has_demand()
    }

    pub(super) fn tick(&mut self, now: Instant) {
        let mut out = [0; MIN_BUFFER];
        if let Some(len) = self.tunnel.handle_timeout(now, &mut out) {
            self.queue_handshake(None, &out[..len]);
        }
        if self.tunnel.take_expired() {
            // As long as WireGuard tries: what waits for longer is of no use to anybody.
            self.give_up_datagrams();
        }
    }

    pub(super) fn queue_handshake(&mut self, hop: Option<Hop>, message: &[u8]) {
        if self.handshakes.len() < MAX_HANDSHAKES && self.view.is_some() {
            self.handshakes.push_back((hop, message.to_vec()));
        } else {
            self.counters.dropped.queue_full += 1;
        }
    }
}
