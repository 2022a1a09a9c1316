//! The network between the nodes: UDP links that lose, delay, reorder, duplicate and damage, home routers that
//! translate addresses, and DERP relays.
//!
//! Datagrams go in with [`Network::send_udp`] and [`Network::send_derp`], and come out of [`Network::poll`] when their
//! time has come. Nothing here knows what the bytes mean. Every choice comes from the run's own random numbers.

mod nat;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use rand::{Rng as _, rngs::SmallRng, seq::IndexedRandom as _};
use tailnet_wire::key::NodePublic;

use self::nat::Nat;
pub use self::nat::NatKind;
use crate::clock::Time;

/// A host by number.
pub type HostId = usize;

/// How bad the links are. The same for all hosts; it changes during a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// The least time from host to host, one way.
    pub delay: Duration,
    /// Up to so much is added to each datagram by chance, which also reorders them.
    pub jitter: Duration,
    /// Chance that a datagram is lost, 0 to 1.
    pub loss: f64,
    /// Chance that a datagram comes twice.
    pub duplicate: f64,
    /// Chance that one bit of a datagram is flipped.
    pub damage: f64,
    /// Chance that an old datagram comes once more, long after.
    pub replay: f64,
}

impl Quality {
    /// A link without faults.
    pub const GOOD: Self = Self {
        delay: Duration::from_millis(10),
        jitter: Duration::ZERO,
        loss: 0.0,
        duplicate: 0.0,
        damage: 0.0,
        replay: 0.0,
    };
}

/// Where a datagram came from, as its receiver sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A UDP datagram from this address.
    Udp(SocketAddr),
    /// A frame from a relay, which vouches for the sender's key.
    Derp(u32, NodePublic),
    /// A relay says that it cannot deliver to this key.
    DerpGone(u32, NodePublic),
}

/// What arrives at a host.
#[derive(Debug)]
pub struct Arrival {
    /// Where.
    pub host: HostId,
    /// From where.
    pub origin: Origin,
    /// What.
    pub bytes: Vec<u8>,
}

/// How a host is attached.
#[derive(Debug)]
struct Host {
    /// Hosts with the same number share a local network.
    lan: u32,
    address: SocketAddr,
    nat: Option<Nat>,
    udp_blocked: bool,
    key: Option<NodePublic>,
}

#[derive(Debug)]
enum Parcel {
    /// From an address as the wide network sees it, to an address.
    Udp(SocketAddr, SocketAddr, Vec<u8>),
    Local(HostId, SocketAddr, Vec<u8>),
    Derp(u32, NodePublic, NodePublic, Vec<u8>),
    DerpGone(HostId, u32, NodePublic),
}

/// The network. See the [module](self).
#[derive(Debug)]
pub struct Network {
    rng: SmallRng,
    quality: Quality,
    hosts: Vec<Host>,
    parcels: BTreeMap<u64, Parcel>,
    due: BinaryHeap<Reverse<(Time, u64)>>,
    sent: u64,
    relays_down: BTreeMap<u32, bool>,
    /// A relay is a stream: its frames keep their order.
    relay_last: BTreeMap<(u32, NodePublic), Time>,
    /// Datagrams an eavesdropper has kept.
    recorded: Vec<Parcel>,
}

/// How many datagrams the eavesdropper keeps.
const RECORDED: usize = 64;
/// One way through a relay, for what the two TCP connections add.
const RELAY_DELAY: Duration = Duration::from_millis(15);
const PORT: u16 = 41641;

impl Network {
    /// A network without hosts.
    pub fn new(rng: SmallRng) -> Self {
        Self {
            rng,
            quality: Quality::GOOD,
            hosts: Vec::new(),
            parcels: BTreeMap::new(),
            due: BinaryHeap::new(),
            sent: 0,
            relays_down: BTreeMap::new(),
            relay_last: BTreeMap::new(),
            recorded: Vec::new(),
        }
    }

    /// Attaches a host behind a router of this kind, or directly.
    pub fn attach(&mut self, key: NodePublic, nat: Option<NatKind>) -> HostId {
        let id = self.hosts.len();
        self.hosts.push(Host {
            lan: 0,
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PORT),
            nat: None,
            udp_blocked: false,
            key: Some(key),
        });
        self.move_host(id, nat);
        id
    }

    /// Puts a host into another network of its own: new addresses, a new router.
    pub fn move_host(&mut self, id: HostId, nat: Option<NatKind>) {
        let lan = self.rng.random_range(1..=0xffff);
        let [high, low] = (lan as u16).to_be_bytes();
        let public = IpAddr::V4(Ipv4Addr::new(203, id as u8, high, low));
        let host = &mut self.hosts[id];
        host.lan = lan;
        host.nat = nat.map(|kind| Nat::new(kind, public));
        let inside = IpAddr::V4(Ipv4Addr::new(10, id as u8, high, low));
        host.address = SocketAddr::new(if host.nat.is_some() { inside } else { public }, PORT);
    }

    /// Puts a host into the local network of another.
    pub fn join_lan(&mut self, id: HostId, other: HostId) {
        self.hosts[id].lan = self.hosts[other].lan;
    }

    /// The router of a host forgets all its mappings, as after a power cut.
    pub fn reset_nat(&mut self, id: HostId) {
        if let Some(nat) = &mut self.hosts[id].nat {
            nat.reset();
        }
    }

    /// Whether a host's UDP goes nowhere.
    pub fn block_udp(&mut self, id: HostId, blocked: bool) {
        self.hosts[id].udp_blocked = blocked;
    }

    /// Stops or starts a relay. What is inside it when it stops is lost.
    pub fn set_relay(&mut self, region: u32, down: bool) {
        self.relays_down.insert(region, down);
    }

    /// How bad the links are from now on.
    pub fn set_quality(&mut self, quality: Quality) {
        self.quality = quality;
    }

    /// The addresses at which a host believes to be reachable: its own, and what a STUN server would tell it now.
    pub fn endpoints(&mut self, now: Time, id: HostId) -> Vec<SocketAddr> {
        let host = &mut self.hosts[id];
        let stun_server = SocketAddr::from(([198, 51, 100, 1], 3478));
        let mut endpoints = vec![host.address];
        if let Some(nat) = &mut host.nat
            && !host.udp_blocked
        {
            endpoints.push(nat.outbound(now, stun_server));
        }
        endpoints
    }

    /// Sends a UDP datagram from a host's socket.
    pub fn send_udp(&mut self, now: Time, from: HostId, to: SocketAddr, bytes: &[u8]) {
        let Some(parcel) = self.route(now, from, to, bytes) else {
            return;
        };
        if self.rng.random_bool(self.quality.replay) {
            self.record(parcel.copy());
        }
        if self.rng.random_bool(self.quality.replay)
            && let Some(old) = self.recorded.choose(&mut self.rng).map(Parcel::copy)
        {
            let later = now + Duration::from_millis(self.rng.random_range(0..20_000));
            self.post(later, old);
        }
        if self.rng.random_bool(self.quality.loss) {
            return;
        }
        if self.rng.random_bool(self.quality.duplicate) {
            let arrival = self.arrival(now);
            self.post(arrival, parcel.copy());
        }
        let parcel = if self.rng.random_bool(self.quality.damage) {
            self.damage(parcel)
        } else {
            parcel
        };
        let arrival = self.arrival(now);
        self.post(arrival, parcel);
    }

    /// Hands a frame for `to` to a relay.
    pub fn send_derp(&mut self, now: Time, from: NodePublic, region: u32, to: NodePublic, bytes: &[u8]) {
        if self.relays_down.get(&region) == Some(&true) {
            return;
        }
        let last = self.relay_last.entry((region, from)).or_default();
        *last = (*last).max(now + RELAY_DELAY);
        let arrival = *last;
        self.post(arrival, Parcel::Derp(region, from, to, bytes.to_vec()));
    }

    /// How many datagrams and frames were ever under way.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// When the next parcel is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// What arrives at `now`, one by one.
    pub fn poll(&mut self, now: Time) -> Option<Arrival> {
        while let Some(Reverse((at, number))) = self.due.peek().copied() {
            if at > now {
                return None;
            }
            self.due.pop();
            if let Some(parcel) = self.parcels.remove(&number)
                && let Some(arrival) = self.deliver(now, parcel)
            {
                return Some(arrival);
            }
        }
        None
    }

    fn route(&mut self, now: Time, from: HostId, to: SocketAddr, bytes: &[u8]) -> Option<Parcel> {
        let sender = self.hosts.get_mut(from)?;
        if sender.udp_blocked {
            return None;
        }
        let (lan, inside) = (sender.lan, sender.address);
        let is_private = matches!(to.ip(), IpAddr::V4(ip) if ip.is_private());
        if is_private {
            let neighbour = self
                .hosts
                .iter()
                .position(|host| host.lan == lan && host.address == to)?;
            return Some(Parcel::Local(neighbour, inside, bytes.to_vec()));
        }
        let seen = sender.nat.as_mut().map_or(inside, |nat| nat.outbound(now, to));
        Some(Parcel::Udp(seen, to, bytes.to_vec()))
    }

    fn deliver(&mut self, now: Time, parcel: Parcel) -> Option<Arrival> {
        match parcel {
            Parcel::Local(host, from, bytes) => self.arrive(host, Origin::Udp(from), bytes),
            Parcel::Udp(from, to, bytes) => {
                let host = self.hosts.iter_mut().position(|host| match &mut host.nat {
                    Some(nat) => nat.inbound(now, from, to),
                    None => host.address == to,
                })?;
                self.arrive(host, Origin::Udp(from), bytes)
            }
            Parcel::Derp(region, from, to, bytes) => {
                if self.relays_down.get(&region) == Some(&true) {
                    return None;
                }
                let holder = |key: NodePublic| self.hosts.iter().position(|host| host.key == Some(key));
                match holder(to) {
                    Some(host) => self.arrive(host, Origin::Derp(region, from), bytes),
                    None => {
                        let back = holder(from)?;
                        self.post(now + RELAY_DELAY, Parcel::DerpGone(back, region, to));
                        None
                    }
                }
            }
            Parcel::DerpGone(host, region, key) => self.arrive(host, Origin::DerpGone(region, key), Vec::new()),
        }
    }

    fn arrive(&self, host: HostId, origin: Origin, bytes: Vec<u8>) -> Option<Arrival> {
        let blocked = self.hosts[host].udp_blocked && matches!(origin, Origin::Udp(_));
        (!blocked).then_some(Arrival { host, origin, bytes })
    }

    /// The key under which a host is known to the relays from now on; `None` while it is not connected to any.
    pub fn set_key(&mut self, id: HostId, key: Option<NodePublic>) {
        self.hosts[id].key = key;
    }

    fn arrival(&mut self, now: Time) -> Time {
        let jitter = self.quality.jitter.as_micros() as u64;
        now + self.quality.delay + Duration::from_micros(self.rng.random_range(0..=jitter))
    }

    fn post(&mut self, at: Time, parcel: Parcel) {
        self.sent += 1;
        self.parcels.insert(self.sent, parcel);
        self.due.push(Reverse((at, self.sent)));
    }

    fn record(&mut self, parcel: Parcel) {
        if self.recorded.len() < RECORDED {
            self.recorded.push(parcel);
        } else {
            let at = self.rng.random_range(0..RECORDED);
            self.recorded[at] = parcel;
        }
    }

    fn damage(&mut self, mut parcel: Parcel) -> Parcel {
        if let Parcel::Udp(_, _, bytes) | Parcel::Local(_, _, bytes) = &mut parcel
            && !bytes.is_empty()
        {
            let bit = self.rng.random_range(0..bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            if self.rng.random_ratio(1, 4) {
                bytes.truncate(bit / 8);
            }
        }
        parcel
    }
}

impl Parcel {
    fn copy(&self) -> Self {
        match self {
            Self::Udp(from, to, bytes) => Self::Udp(*from, *to, bytes.clone()),
            Self::Local(host, from, bytes) => Self::Local(*host, *from, bytes.clone()),
            Self::Derp(region, from, to, bytes) => Self::Derp(*region, *from, *to, bytes.clone()),
            Self::DerpGone(host, region, key) => Self::DerpGone(*host, *region, *key),
        }
    }
}
