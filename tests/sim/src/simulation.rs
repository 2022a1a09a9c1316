//! The world of a run: takes the next thing that happens, lets everybody react until nothing is left to do, goes on.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tailnet_engine::path::Hop;
use tailnet_wire::key::{DiscoPrivate, NodePrivate};

use crate::{
    app::{Flow, Header, Secret},
    clock::{Clock, Time},
    control::{Control, INTRUDER, Record},
    intruder::{Intruder, Target},
    network::{Arrival, HostId, NatKind, Network, Origin, Quality},
    node::{Identity, Node, fork},
    scenario::{Change, Event, RELAYS},
};

/// What a world is made of.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The routers of the two hosts.
    pub nats: [Option<NatKind>; 2],
    /// Whether both are in one local network.
    pub same_lan: bool,
    /// The relay at which each listens.
    pub homes: [u32; 2],
    /// Whether a third member of the tailnet has gone bad.
    pub intruder: bool,
}

/// Two nodes, what is between them, and what has happened so far.
#[derive(Debug)]
pub struct Simulation {
    /// The time.
    pub clock: Clock,
    /// The two nodes.
    pub nodes: Vec<Node>,
    /// What must not have happened.
    pub faults: Vec<String>,
    /// Steps of time.
    pub steps: u64,
    /// A digest of everything that happened, in order.
    pub digest: u64,
    /// Connections of processes that were killed.
    pub buried: Vec<Flow>,
    /// The member gone bad.
    pub intruder: Option<Intruder>,
    rng: SmallRng,
    network: Network,
    control: Control,
    homes: [u32; 2],
    next_attack: Time,
    next_nonce: u64,
    trace: bool,
}

/// Turns at one instant before the world counts as spinning.
const MAX_TURNS: u32 = 2_000;
/// How often a node tells control where it is, beside at once when something changes.
const ENDPOINTS_EVERY: Duration = Duration::from_secs(23);

impl Simulation {
    /// A world at time zero. `SIM_TRACE` in the environment makes it tell everything that happens.
    pub fn new(mut rng: SmallRng, setup: &Setup) -> Self {
        let clock = Clock::new(Instant::now());
        let mut network = Network::new(fork(&mut rng));
        let nodes: Vec<Node> = (0..2)
            .map(|host| {
                let identity = identity(host, &mut rng);
                network.attach(identity.public, setup.nats[host]);
                Node::start(host, identity, Time::ZERO, fork(&mut rng))
            })
            .collect();
        if setup.same_lan {
            network.join_lan(1, 0);
        }
        let homes = setup.homes.map(|home| home.max(RELAYS[0]));
        let record = |host: usize| {
            let node = &nodes[host];
            Record::new(node.identity.public, node.disco(), homes[host], addresses(host))
        };
        let records = [record(0), record(1)];
        let intruder = setup.intruder.then(|| {
            let key = NodePrivate::from_random(rng.random());
            let host = network.attach(key.public(), None);
            Intruder::new(host, key, addresses(INTRUDER), fork(&mut rng))
        });
        let bad = intruder.as_ref().map(|intruder| {
            let disco = DiscoPrivate::from_random(rng.random()).public();
            Record::new(intruder.public, disco, RELAYS[0], addresses(INTRUDER))
        });
        let mut world = Self {
            control: Control::new(fork(&mut rng), clock.wall(), records, bad),
            clock,
            nodes,
            faults: Vec::new(),
            steps: 0,
            digest: 0,
            buried: Vec::new(),
            next_attack: if intruder.is_some() { Time::ZERO } else { Time::MAX },
            intruder,
            rng,
            network,
            homes,
            next_nonce: 1,
            trace: std::env::var_os("SIM_TRACE").is_some(),
        };
        world.introduce();
        (0..2).for_each(|host| world.control.begin_stream(Time::ZERO, host));
        world
    }

    /// Each node learns which bytes the other writes, under each key that it has.
    fn introduce(&mut self) {
        let known = self
            .nodes
            .iter()
            .map(|node| (node.identity.public, node.identity.secret));
        let known: Vec<_> = known.collect();
        for node in &mut self.nodes {
            known.iter().for_each(|(key, secret)| node.expect(*key, *secret));
        }
    }

    /// When something happens next.
    pub fn next_time(&self) -> Time {
        let nodes = self.nodes.iter().filter_map(|node| node.poll_timeout(&self.clock));
        let due = self.nodes.iter().filter_map(|node| node.endpoints_due);
        let others = [
            self.network.poll_timeout(),
            self.control.poll_timeout(),
            Some(self.next_attack),
        ];
        let next = others.into_iter().flatten().chain(nodes).chain(due).min();
        next.unwrap_or(Time::MAX).max(self.clock.now())
    }

    /// Lets everything happen up to `until`, or to the first fault.
    pub fn advance(&mut self, until: Time) {
        while self.faults.is_empty() && self.next_time() <= until {
            self.clock.advance(self.next_time());
            self.step();
        }
        self.clock.advance(until);
        self.react();
    }

    /// Lets time pass until `done`, at most for `limit`. Returns how long it took; `None` when it did not come to that.
    pub fn wait(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let began = self.clock.now();
        self.react();
        while !done(self) {
            let next = self.next_time();
            if next > began + limit || !self.faults.is_empty() {
                return None;
            }
            self.clock.advance(next);
            self.step();
        }
        Some(self.clock.now() - began)
    }

    fn step(&mut self) {
        self.steps += 1;
        let now = self.clock.now();
        for host in 0..2 {
            while let Some(news) = self.control.poll(now, host) {
                self.note(|| format!("news for {host}: {:?}", news.truth));
                self.nodes[host].handle_news(&self.clock, news);
            }
            if self.nodes[host].endpoints_due.is_some_and(|at| at <= now) {
                self.tell_endpoints(host);
            }
        }
        while let Some(arrival) = self.network.poll(now) {
            self.handle_arrival(&arrival);
        }
        self.nodes.iter_mut().for_each(|node| node.handle_timeout(&self.clock));
        if now >= self.next_attack {
            self.attack();
        }
        self.react();
    }

    fn handle_arrival(&mut self, arrival: &Arrival) {
        let (host, len, origin) = (arrival.host, arrival.bytes.len(), arrival.origin);
        self.note(|| format!("{host} gets {len} bytes from {origin:?}"));
        let Some(node) = self.nodes.get_mut(host) else {
            if let Some(intruder) = &mut self.intruder {
                intruder.handle_arrival(&self.clock, &mut self.network, arrival);
            }
            return;
        };
        let (reply, key, now) = (
            node.handle_arrival(&self.clock, arrival),
            node.identity.public,
            self.clock.now(),
        );
        match (reply, origin) {
            (Some(reply), Origin::Udp(to)) => self.network.send_udp(now, host, to, &reply),
            (Some(reply), Origin::Derp(region, to)) => self.network.send_derp(now, key, region, to, &reply),
            _ => {}
        }
    }

    /// Turns until nobody has anything left to do.
    fn react(&mut self) {
        for _ in 0..MAX_TURNS {
            let mut busy = false;
            for node in &mut self.nodes {
                busy |= node.turn(&self.clock, &mut self.network);
                let at = self.clock.now();
                self.faults
                    .extend(node.faults.drain(..).map(|fault| format!("at {at:?}: {fault}")));
            }
            let now = self.clock.now();
            let is_due = |node: &Node| node.poll_timeout(&self.clock).is_some_and(|at| at <= now);
            let due = self.nodes.iter().any(is_due);
            if due {
                self.nodes.iter_mut().for_each(|node| node.handle_timeout(&self.clock));
            }
            if !busy && !due {
                return;
            }
        }
        self.faults.push(format!(
            "at {:?}: a node spins, its timers and work never come to rest",
            self.clock.now()
        ));
    }

    fn attack(&mut self) {
        let now = self.clock.now();
        self.next_attack = now + Duration::from_millis(self.rng.random_range(100..2000));
        let host = self.rng.random_range(0..2);
        let target = self.target(host);
        let others = self.nodes[1 - host].identity.addresses.clone();
        if let Some(intruder) = &mut self.intruder {
            intruder.attack(&self.clock, &mut self.network, &target, &others, self.homes[host]);
        }
    }

    fn target(&mut self, host: HostId) -> Target {
        let node = &self.nodes[host];
        let open = node.flows.iter().filter(|flow| flow.end.is_none());
        Target {
            key: node.identity.public,
            disco: node.disco(),
            addresses: node.identity.addresses.clone(),
            endpoints: self.network.endpoints(self.clock.now(), host),
            connections: open.filter_map(|flow| flow.ends).collect(),
        }
    }

    /// Makes an event happen now.
    pub fn handle_event(&mut self, event: Event) {
        let now = self.clock.now();
        self.note(|| format!("{event:?}"));
        match event {
            Event::Quality(quality) => self.network.set_quality(quality),
            Event::BlockUdp(host, blocked) => {
                self.network.block_udp(host, blocked);
                self.refresh(host);
            }
            Event::Relay(region, down) => self.network.set_relay(region, down),
            Event::ResetNat(host) => {
                self.network.reset_nat(host);
                self.refresh(host);
            }
            Event::Move(host, nat) => {
                self.network.move_host(host, nat);
                self.refresh(host);
            }
            Event::Restart(host) => self.restart(host, None),
            Event::ControlDown(down) => {
                self.control.set_down(now, down);
                (0..2).for_each(|host| self.refresh(host));
            }
            Event::Control(Change::Rotate(host)) => {
                let key = NodePrivate::from_random(self.rng.random());
                self.restart(host, Some(key));
            }
            Event::Control(change) => self.control.apply(now, change),
            Event::Heal => self.heal(),
        }
    }

    fn heal(&mut self) {
        self.network.set_quality(Quality::GOOD);
        self.control.heal(self.clock.now());
        for host in 0..2 {
            self.network.block_udp(host, false);
            self.refresh(host);
        }
        for region in RELAYS {
            self.network.set_relay(region, false);
        }
    }

    /// The node notices a change of its network after a moment.
    fn refresh(&mut self, host: HostId) {
        let later = self.clock.now() + Duration::from_millis(self.rng.random_range(100..3000));
        self.nodes[host].endpoints_due = Some(later);
    }

    fn tell_endpoints(&mut self, host: HostId) {
        let now = self.clock.now();
        let endpoints = self.network.endpoints(now, host);
        let (key, disco) = (self.nodes[host].identity.public, self.nodes[host].disco());
        self.control.update(now, host, |record| {
            record.endpoints = endpoints;
            (record.key, record.disco) = (key, disco);
        });
        self.nodes[host].endpoints_due = Some(now + ENDPOINTS_EVERY);
    }

    fn restart(&mut self, host: HostId, key: Option<NodePrivate>) {
        let now = self.clock.now();
        let mut identity = self.nodes[host].identity.clone();
        if let Some(key) = key {
            identity.public = key.public();
            identity.key = key;
            identity.secret = Secret(self.rng.random());
        }
        self.network.set_key(host, Some(identity.public));
        let mut process = Node::start(host, identity, now, fork(&mut self.rng));
        process.remember(self.nodes[host].recent(&self.clock));
        let before = std::mem::replace(&mut self.nodes[host], process);
        self.buried.extend(before.flows);
        self.introduce();
        self.tell_endpoints(host);
        self.control.begin_stream(now, host);
    }

    /// Lets a host dial the other. Returns the number of the connection among the host's flows.
    pub fn dial(&mut self, host: HostId, port: u16, up: u32, down: u32, pause: Duration) -> Option<usize> {
        let peer = self.nodes[1 - host].identity.public;
        let nonce = self.next_nonce;
        self.next_nonce += 1;
        let header = Header { nonce, up, down };
        let dialed = self.nodes[host].dial(&self.clock, peer, port, header, pause);
        self.note(|| format!("{host} dials port {port}: {dialed}"));
        dialed.then(|| self.nodes[host].flows.len() - 1)
    }

    /// Lets a host send a datagram or a ping to the other.
    pub fn ask(&mut self, host: HostId) {
        let peer = self.nodes[1 - host].identity.public;
        self.next_nonce += 1;
        self.nodes[host].ask(&self.clock, peer, self.next_nonce);
    }

    /// The way that packets of a host to the other take now.
    pub fn path(&self, host: HostId) -> Option<Hop> {
        self.nodes[host].path(&self.clock, self.nodes[1 - host].identity.public)
    }

    /// Datagrams and frames that were ever under way.
    pub fn datagrams(&self) -> u64 {
        self.network.sent()
    }

    /// The intruder tires.
    pub fn end_attacks(&mut self) {
        self.next_attack = Time::MAX;
    }

    /// Lets strangers, under keys that nobody knows, begin `count` handshakes with a host at once.
    pub fn flood(&mut self, host: HostId, count: usize) {
        let target = self.target(host);
        if let Some(intruder) = &mut self.intruder {
            for _ in 0..count {
                intruder.knock(&self.clock, &mut self.network, &target, self.homes[host]);
            }
        }
    }

    /// Adds to the digest and, when asked for by `SIM_TRACE`, prints.
    fn note(&mut self, text: impl FnOnce() -> String) {
        let line = format!("{:>12.6} {}", self.clock.now().as_secs_f64(), text());
        for byte in line.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.trace {
            println!("{line}");
        }
    }
}

fn identity(host: HostId, rng: &mut SmallRng) -> Identity {
    let key = NodePrivate::from_random(rng.random());
    Identity {
        public: key.public(),
        key,
        secret: Secret(rng.random()),
        addresses: addresses(host),
    }
}

fn addresses(host: HostId) -> Vec<IpAddr> {
    let last = host as u8 + 1;
    let v6 = [0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, u16::from(last)];
    vec![IpAddr::from([100, 64, 0, last]), IpAddr::from(v6)]
}

/// A world from a seed.
impl From<(u64, &Setup)> for Simulation {
    fn from((seed, setup): (u64, &Setup)) -> Self {
        Self::new(SmallRng::seed_from_u64(seed), setup)
    }
}
