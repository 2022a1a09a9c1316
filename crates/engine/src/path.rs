//! The paths to one peer: direct UDP addresses and DERP relays, and the choice among them.
//!
//! Go: `wgengine/magicsock/endpoint.go`. A [`Path`] belongs to one peer and does no I/O. What comes in: the peer's
//! netmap data ([`Path::handle_config`]), opened disco messages, the news that authenticated WireGuard data arrived from
//! somewhere, send errors, the relay's "peer gone", and the passing of time. What goes out: disco messages to seal and
//! send ([`Path::poll_transmit`]), where WireGuard datagrams go now ([`Path::route`]), and [`PathEvent`]s.
//!
//! The rules, each with a test of its own:
//! - Nobody probes an idle peer. [`Path::note_send`] starts discovery: every candidate address is pinged, and a
//!   CallMeMaybe over DERP asks the peer to ping us back through its own firewall.
//! - Only a pong to our own ping makes an address usable, and only for [`TRUST`]. While an address is known but not
//!   trusted, datagrams go to it and over DERP; when a ping to it times out as well, it is dropped.
//! - Any authenticated WireGuard datagram from a new source makes that source a candidate at once: peers roam.
//! - A new disco key means that the peer has restarted: its paths are forgotten, its tunnel is not.

mod call;
mod candidates;
mod discovery;
mod in_flight;
mod relay;
mod score;
mod types;

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use rand_core::RngCore;
use tailnet_wire::{
    derp::GoneReason,
    disco::{Message, TxId},
    key::{DiscoPublic, NodePublic},
};

pub use self::types::{Hop, PathConfig, PathEvent, Route};
use self::{
    call::{Budget, OwnCall},
    candidates::Candidates,
    in_flight::{InFlight, Purpose},
    relay::RelayRoute,
    score::Quality,
};

/// How long an address is trusted alone after a pong.
pub const TRUST: Duration = Duration::from_millis(6500);
/// How long after our last send a peer counts as active and is kept alive with pings.
pub const SESSION_ACTIVE: Duration = Duration::from_secs(45);
/// Time between pings to the best address while active.
pub const HEARTBEAT: Duration = Duration::from_secs(3);
/// How often a better path is looked for while a good one is in use.
pub const UPGRADE: Duration = Duration::from_secs(60);
/// How long a pong is waited for.
pub const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Least time between two discovery pings to one address.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);
/// A path as fast as this needs no better one.
pub const GOOD_ENOUGH: Duration = Duration::from_millis(5);
/// The most candidate addresses that are kept for one peer.
pub const MAX_CANDIDATES: usize = 100;

/// Least time between two rounds over all candidates, so that a flood of sends does not scan them each time.
const ROUND_INTERVAL: Duration = Duration::from_secs(1);
/// The most messages that wait to be sent; further ones are not queued, a later round asks again.
const MAX_OUTBOX: usize = 2 * MAX_CANDIDATES + 56;
/// The most events that wait to be polled; the oldest makes room.
const MAX_EVENTS: usize = 16;
/// The address by which Go names DERP regions: the port is the region.
const DERP_MAGIC_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 3, 3, 40));

#[derive(Debug)]
enum Outgoing {
    Ping(Hop, Purpose),
    Pong(Hop, TxId, SocketAddr),
    CallMeMaybe(u32),
}

#[derive(Debug, Clone, Copy)]
struct Best {
    addr: SocketAddr,
    /// Unknown while a roaming peer's new address has not answered yet.
    latency: Option<Duration>,
    /// `None` until the first pong.
    trusted_until: Option<Instant>,
    last_pong: Option<Instant>,
}

impl Best {
    fn is_trusted(&self, now: Instant) -> bool {
        self.trusted_until.is_some_and(|until| now <= until)
    }
}

/// The paths to one peer. See the [module](self).
#[derive(Debug)]
pub struct Path {
    ours: NodePublic,
    disco: Option<DiscoPublic>,
    /// What the netmap says, which may be older than what the peer says itself.
    told: Option<DiscoPublic>,
    candidates: Candidates,
    best: Option<Best>,
    in_flight: InFlight,
    relay: RelayRoute,
    call: OwnCall,
    budget: Budget,
    last_send: Option<Instant>,
    last_round: Option<Instant>,
    heartbeat: Option<Instant>,
    outbox: VecDeque<Outgoing>,
    events: VecDeque<PathEvent>,
    reported: Option<Hop>,
}

impl Path {
    /// The paths to a peer that the netmap describes by `config`. `ours` is our node key, a hint in our pings.
    pub fn new(ours: NodePublic, config: PathConfig) -> Self {
        let mut candidates = Candidates::default();
        candidates.set_netmap(&config.endpoints);
        let relay = RelayRoute::new(config.home_derp);
        Self {
            ours,
            disco: config.disco,
            told: config.disco,
            candidates,
            best: None,
            in_flight: InFlight::default(),
            call: OwnCall::default(),
            budget: Budget::default(),
            last_send: None,
            last_round: None,
            heartbeat: None,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            reported: config.home_derp.map(Hop::Derp),
            relay,
        }
    }

    /// The netmap now says this of the peer. A changed disco key forgets every path that was learned.
    pub fn handle_config(&mut self, config: PathConfig, now: Instant) {
        if self.told != config.disco {
            self.told = config.disco;
            self.set_disco(config.disco);
        }
        let new_endpoints = self.candidates.set_netmap(&config.endpoints);
        self.relay.set_home(config.home_derp);
        if new_endpoints {
            self.last_round = None;
            if self.is_active(now) && !self.is_trusted(now) {
                self.ping_all(now, true);
            }
        }
        self.report(now);
    }

    /// The peer itself has told us its disco key, through the tunnel: it has restarted, and control's word of that comes
    /// later. Counts until the netmap says something new.
    pub fn handle_announced(&mut self, disco: DiscoPublic, now: Instant) {
        self.set_disco(Some(disco));
        self.report(now);
    }

    /// Our own endpoints, as determined at `now`: what a CallMeMaybe tells the peer.
    pub fn handle_own_endpoints(&mut self, endpoints: Arc<[SocketAddr]>, now: Instant) {
        let due = self.call.set_endpoints(endpoints, now);
        if due {
            self.send_call(now);
        }
    }

    /// The application sends to the peer: starts or prolongs the session, and discovery where it is needed.
    pub fn note_send(&mut self, now: Instant) {
        self.last_send = Some(now);
        if self.heartbeat.is_none() {
            self.heartbeat = Some(now + HEARTBEAT);
        }
        if !self.is_trusted(now) {
            self.ping_all(now, true);
        }
    }

    /// A disco message that opened with this peer's disco key.
    pub fn handle_disco(&mut self, message: &Message, from: Hop, now: Instant) {
        if let Hop::Derp(region) = from {
            self.relay.note_received(region, now);
        }
        match message {
            Message::Ping { tx_id, .. } => self.handle_ping(*tx_id, from, now),
            Message::Pong { tx_id, .. } => self.handle_pong(*tx_id, from, now),
            // Over UDP anybody on the path could repeat it; the relay vouches for its sender.
            Message::CallMeMaybe { endpoints } if matches!(from, Hop::Derp(_)) => {
                self.handle_call_me_maybe(endpoints, now);
            }
            Message::CallMeMaybe { .. } => {}
        }
        self.report(now);
    }

    /// A WireGuard datagram from `from` decrypted: the peer is there.
    pub fn handle_wireguard(&mut self, from: Hop, now: Instant) {
        let addr = match from {
            Hop::Derp(region) => return self.relay.note_received(region, now),
            Hop::Udp(addr) => addr,
        };
        if self.disco.is_none() {
            // Nothing can be pinged: the peer is answered where it last spoke from, as plain WireGuard does.
            self.set_best(addr, None, Some(now + TRUST), None);
            return self.report(now);
        }
        match self.best {
            Some(best) if best.addr == addr => return,
            Some(best) if best.is_trusted(now) => {
                if !self.candidates.note_roamed(addr, now) {
                    return;
                }
                self.push(Outgoing::Ping(Hop::Udp(best.addr), Purpose::Discovery));
            }
            _ => {
                self.candidates.note_roamed(addr, now);
                self.set_best(addr, None, None, None);
            }
        }
        if self.candidates.may_ping(addr, PING_INTERVAL, now) {
            self.push_ping(addr, now);
        }
        self.report(now);
    }

    /// The socket refused to send to `to`: that address is not used again before it answers.
    pub fn handle_send_error(&mut self, to: SocketAddr, now: Instant) {
        self.candidates.note_failed(to);
        if self.best.is_some_and(|best| best.addr == to) {
            self.best = None;
        }
        self.report(now);
    }

    /// A relay says that it does not deliver to the peer any more.
    pub fn handle_peer_gone(&mut self, region: u32, _reason: GoneReason, now: Instant) {
        self.relay.note_gone(region);
        self.report(now);
    }

    /// Pings the peer on the path in use and over DERP, and looks for a better path; each pong comes back as
    /// [`PathEvent::Pong`].
    pub fn ping(&mut self, now: Instant) {
        if self.disco.is_none() {
            return;
        }
        if let Some(best) = self.best {
            self.push(Outgoing::Ping(Hop::Udp(best.addr), Purpose::Asked));
        }
        if let Some(region) = self.relay.region(now) {
            self.push(Outgoing::Ping(Hop::Derp(region), Purpose::Asked));
        }
        self.last_round = None;
        self.ping_all(now, true);
    }

    /// Where WireGuard datagrams to the peer go now.
    pub fn route(&self, now: Instant) -> Route {
        Route {
            udp: self.best.map(|best| best.addr),
            derp: if self.is_trusted(now) {
                None
            } else {
                self.relay.region(now)
            },
        }
    }

    /// The way that traffic takes, for status: direct when an address is trusted, else the DERP region.
    pub fn current(&self, now: Instant) -> Option<Hop> {
        match self.best {
            Some(best) if best.is_trusted(now) => Some(Hop::Udp(best.addr)),
            _ => self.relay.region(now).map(Hop::Derp),
        }
    }

    fn set_disco(&mut self, disco: Option<DiscoPublic>) {
        if self.disco != disco {
            self.forget_paths();
            self.disco = disco;
        }
    }

    /// The peer's disco key, to seal what [`poll_transmit`](Self::poll_transmit) gives.
    pub fn disco(&self) -> Option<DiscoPublic> {
        self.disco
    }

    /// The round trip of the last pong from the best address.
    pub fn latency(&self) -> Option<Duration> {
        self.best.and_then(|best| best.latency)
    }

    /// Whether we sent to the peer within [`SESSION_ACTIVE`].
    pub fn is_active(&self, now: Instant) -> bool {
        self.last_send
            .is_some_and(|at| now.saturating_duration_since(at) <= SESSION_ACTIVE)
    }

    /// When [`Path::handle_timeout`] wants to be called; `None` for an idle peer.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let trust_ends = match (self.reported, self.best) {
            // Just past the end, when the path is no longer trusted.
            (Some(Hop::Udp(_)), Some(best)) => best.trusted_until.map(|until| until + Duration::from_millis(1)),
            _ => None,
        };
        let timers = [
            self.heartbeat,
            self.in_flight.next_timeout(),
            self.call.deadline(),
            trust_ends,
        ];
        timers.into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        for to in self.in_flight.expire(now) {
            // Trust is over and even this ping stayed unanswered: the path is dead.
            if self
                .best
                .is_some_and(|best| Hop::Udp(best.addr) == to && !best.is_trusted(now))
            {
                self.best = None;
            }
        }
        if self.call.is_overdue(now) {
            self.send_call(now);
        }
        if self.heartbeat.is_some_and(|at| now >= at) {
            self.beat(now);
        }
        self.report(now);
    }

    /// The next disco message to seal and send.
    pub fn poll_transmit(&mut self, now: Instant, rng: &mut dyn RngCore) -> Option<(Hop, Message)> {
        match self.outbox.pop_front()? {
            Outgoing::Pong(to, tx_id, source) => Some((to, Message::Pong { tx_id, source })),
            Outgoing::CallMeMaybe(region) => Some((Hop::Derp(region), self.call.message())),
            Outgoing::Ping(to, purpose) => {
                let mut tx_id = TxId([0; 12]);
                rng.fill_bytes(&mut tx_id.0);
                self.in_flight.insert(tx_id, to, purpose, now);
                let ping = Message::Ping {
                    tx_id,
                    node_key: Some(self.ours),
                    padding: 0,
                };
                Some((to, ping))
            }
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<PathEvent> {
        self.events.pop_front()
    }

    fn handle_ping(&mut self, tx_id: TxId, from: Hop, now: Instant) {
        let source = match from {
            Hop::Udp(addr) => addr,
            Hop::Derp(region) => SocketAddr::new(DERP_MAGIC_IP, u16::try_from(region).unwrap_or(0)),
        };
        let opened = matches!(from, Hop::Udp(_)) && self.candidates.is_silent(source, now);
        if matches!(from, Hop::Udp(_)) && self.candidates.note_ping(source, tx_id, now) {
            return;
        }
        self.push(Outgoing::Pong(from, tx_id, source));
        // Its router has just let something out towards us, so a ping gets in, which it may not have when we last tried.
        if opened && self.is_active(now) && !self.is_trusted(now) && self.budget.take(now) {
            self.push_ping(source, now);
        }
    }

    fn handle_pong(&mut self, tx_id: TxId, from: Hop, now: Instant) {
        let Some(ping) = self.in_flight.take(tx_id) else {
            return;
        };
        let latency = now.saturating_duration_since(ping.at);
        if ping.purpose == Purpose::Asked {
            self.event(PathEvent::Pong { hop: ping.to, latency });
        }
        // A pong that came back over DERP proves nothing about the UDP address that was pinged.
        if let (Hop::Udp(addr), Hop::Udp(_)) = (ping.to, from) {
            self.promote(addr, latency, now);
        }
    }

    /// `addr` answered: use it if there is nothing better.
    fn promote(&mut self, addr: SocketAddr, latency: Duration, now: Instant) {
        let roamed = self.candidates.note_pong(addr, now);
        let usable = match self.best {
            None => true,
            Some(best) if best.addr == addr || !best.is_trusted(now) => true,
            // The peer sends from here now and has not answered at the old address since.
            Some(best) if roamed.is_some_and(|at| best.last_pong.is_none_or(|pong| pong < at)) => true,
            Some(best) => Quality::new(addr, Some(latency)).is_better_than(&Quality::new(best.addr, best.latency)),
        };
        if usable {
            self.set_best(addr, Some(latency), Some(now + TRUST), Some(now));
        }
    }

    fn handle_call_me_maybe(&mut self, endpoints: &[SocketAddr], now: Instant) {
        if self.disco.is_none() {
            return;
        }
        self.candidates.set_called(endpoints, now);
        for addr in self.candidates.called() {
            // The peer has just opened its firewall, so the usual interval does not hold, but it must not make us
            // hammer an address, nor send more than the budget allows.
            if self.candidates.may_ping(addr, ROUND_INTERVAL, now) && self.budget.take(now) {
                self.push_ping(addr, now);
            }
        }
    }

    fn push_ping(&mut self, addr: SocketAddr, now: Instant) {
        self.candidates.note_pinged(addr, now);
        self.push(Outgoing::Ping(Hop::Udp(addr), Purpose::Discovery));
    }

    fn push(&mut self, outgoing: Outgoing) {
        if self.outbox.len() < MAX_OUTBOX {
            self.outbox.push_back(outgoing);
        }
    }

    fn event(&mut self, event: PathEvent) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn report(&mut self, now: Instant) {
        let current = self.current(now);
        if current != self.reported {
            self.reported = current;
            self.event(PathEvent::Changed(current));
        }
    }

    fn is_trusted(&self, now: Instant) -> bool {
        self.best.is_some_and(|best| best.is_trusted(now))
    }

    fn set_best(
        &mut self,
        addr: SocketAddr,
        latency: Option<Duration>,
        trusted_until: Option<Instant>,
        last_pong: Option<Instant>,
    ) {
        self.best = Some(Best {
            addr,
            latency,
            trusted_until,
            last_pong,
        });
    }

    fn forget_paths(&mut self) {
        self.best = None;
        self.candidates = Candidates::default();
        self.in_flight = InFlight::default();
        self.outbox.clear();
        self.last_round = None;
        self.call.forget_sent();
    }
}

#[cfg(test)]
mod tests;
