//! The addresses at which a peer may be reachable, and what is known of each.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use tailnet_wire::disco::TxId;

use super::{MAX_CANDIDATES, PING_INTERVAL, SESSION_ACTIVE, UPGRADE};

#[derive(Debug, Default)]
struct Candidate {
    from_netmap: bool,
    from_call: bool,
    /// When the peer was last heard from there: a ping of its own, or WireGuard data.
    heard: Option<Instant>,
    last_rx_ping: Option<TxId>,
    last_tx_ping: Option<Instant>,
    last_pong: Option<Instant>,
    /// When the peer began to send data from there while another address was the best.
    roamed: Option<Instant>,
}

impl Candidate {
    /// What netmap or peer announce stays until they withdraw it; the rest lives while it is heard.
    fn is_stale(&self, now: Instant) -> bool {
        let silent = |at| now.saturating_duration_since(at) > SESSION_ACTIVE;
        !self.from_netmap && !self.from_call && self.heard.is_none_or(silent)
    }
}

/// At most [`MAX_CANDIDATES`] addresses; what does not fit is not learned.
#[derive(Debug, Default)]
pub(super) struct Candidates(BTreeMap<SocketAddr, Candidate>);

impl Candidates {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the netmap's list; true when it brings an address that was not known.
    pub(super) fn set_netmap(&mut self, endpoints: &[SocketAddr]) -> bool {
        for candidate in self.0.values_mut() {
            candidate.from_netmap = false;
        }
        let mut new = false;
        for addr in endpoints.iter().filter(|addr| is_pingable(addr)) {
            new |= !self.0.contains_key(addr);
            if let Some(candidate) = self.entry(*addr) {
                candidate.from_netmap = true;
            }
        }
        self.drop_unsourced();
        new
    }

    /// Takes the list of a CallMeMaybe, which replaces the one before.
    pub(super) fn set_called(&mut self, endpoints: &[SocketAddr], now: Instant) {
        for (addr, candidate) in &mut self.0 {
            candidate.from_call = endpoints.contains(addr);
        }
        self.0.retain(|_, candidate| !candidate.is_stale(now));
        for addr in endpoints.iter().filter(|addr| is_pingable(addr)) {
            if let Some(candidate) = self.entry(*addr) {
                candidate.from_call = true;
            }
        }
    }

    pub(super) fn called(&self) -> Vec<SocketAddr> {
        let called = self.0.iter().filter(|(_, candidate)| candidate.from_call);
        called.map(|(addr, _)| *addr).collect()
    }

    /// The peer pinged from `addr`; true when this very ping was answered before.
    pub(super) fn note_ping(&mut self, addr: SocketAddr, tx_id: TxId, now: Instant) -> bool {
        self.make_room(addr, now);
        let Some(candidate) = self.entry(addr) else {
            return false;
        };
        candidate.heard = Some(now);
        candidate.last_rx_ping.replace(tx_id) == Some(tx_id)
    }

    /// Whether the peer has not been heard from `addr` for a while: when it pings from there now, its router has opened.
    pub(super) fn is_silent(&self, addr: SocketAddr, now: Instant) -> bool {
        let heard = self.0.get(&addr).and_then(|candidate| candidate.heard);
        heard.is_none_or(|at| now.saturating_duration_since(at) >= PING_INTERVAL)
    }

    /// WireGuard data came from `addr`, which is not the best address. True when that is news: it has to be pinged.
    pub(super) fn note_roamed(&mut self, addr: SocketAddr, now: Instant) -> bool {
        self.make_room(addr, now);
        let Some(candidate) = self.entry(addr) else {
            return false;
        };
        candidate.heard = Some(now);
        let compared_lately = |at| now.saturating_duration_since(at) < UPGRADE;
        if candidate.last_pong.is_some_and(compared_lately) {
            return false;
        }
        candidate.roamed.get_or_insert(now);
        true
    }

    /// `addr` answered our ping; says since when the peer has been sending from there instead.
    pub(super) fn note_pong(&mut self, addr: SocketAddr, now: Instant) -> Option<Instant> {
        let candidate = self.0.get_mut(&addr)?;
        candidate.last_pong = Some(now);
        candidate.roamed.take()
    }

    pub(super) fn note_pinged(&mut self, addr: SocketAddr, now: Instant) {
        if let Some(candidate) = self.0.get_mut(&addr) {
            candidate.last_tx_ping = Some(now);
        }
    }

    pub(super) fn note_failed(&mut self, addr: SocketAddr) {
        if let Some(candidate) = self.0.get_mut(&addr) {
            candidate.last_pong = None;
            candidate.roamed = None;
        }
    }

    /// Whether the last ping to `addr` is at least `interval` ago.
    pub(super) fn may_ping(&self, addr: SocketAddr, interval: Duration, now: Instant) -> bool {
        let last = self.0.get(&addr).and_then(|candidate| candidate.last_tx_ping);
        last.is_none_or(|at| now.saturating_duration_since(at) >= interval)
    }

    /// The addresses whose turn it is to be pinged. Forgets stale ones, except `keep`.
    pub(super) fn due(&mut self, now: Instant, keep: Option<SocketAddr>) -> Vec<SocketAddr> {
        self.0
            .retain(|addr, candidate| Some(*addr) == keep || !candidate.is_stale(now));
        let addrs = self.0.keys().copied();
        addrs.filter(|addr| self.may_ping(*addr, PING_INTERVAL, now)).collect()
    }

    fn drop_unsourced(&mut self) {
        self.0
            .retain(|_, candidate| candidate.from_netmap || candidate.from_call || candidate.heard.is_some());
    }

    fn make_room(&mut self, addr: SocketAddr, now: Instant) {
        if self.0.len() >= MAX_CANDIDATES && !self.0.contains_key(&addr) {
            self.0.retain(|_, candidate| !candidate.is_stale(now));
        }
    }

    fn entry(&mut self, addr: SocketAddr) -> Option<&mut Candidate> {
        if self.0.len() >= MAX_CANDIDATES && !self.0.contains_key(&addr) {
            return None;
        }
        Some(self.0.entry(addr).or_default())
    }
}

/// Whether an address that somebody announced may be pinged at all. IPv6 link-local ones lack their interface.
fn is_pingable(addr: &SocketAddr) -> bool {
    let ip = addr.ip();
    let never = match ip {
        IpAddr::V4(ip) => ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !never
}
