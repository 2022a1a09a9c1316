//! One run: takes the next thing that happens, lets everybody react until nothing is left to do, and goes on.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tailnet_wire::key::NodePrivate;

use crate::{
    app::{End, Header, Role, Secret},
    clock::{Clock, Time},
    control::{Control, Record},
    network::{HostId, Network, Quality},
    node::{Identity, Node, fork},
    scenario::{Change, Event, PORTS, Scenario},
};

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// What must not have happened; empty is a pass.
    pub faults: Vec<String>,
    /// Connections that both sides finished.
    pub completed: u64,
    /// Connections that ended otherwise.
    pub broken: u64,
    /// Steps of virtual time.
    pub steps: u64,
    /// A digest of everything that happened, in order.
    pub digest: u64,
}

/// From then on after the healing every new connection must succeed.
const RECOVERY: Duration = Duration::from_secs(40);
/// How long such a connection may take.
const PROBE: Duration = Duration::from_secs(20);
/// How long applications wait before they give up.
const PATIENCE: Duration = Duration::from_secs(45);
/// Turns at one instant before the run counts as spinning.
const MAX_TURNS: u32 = 2_000;
/// How often a node tells control where it is, beside at once when something changes.
const ENDPOINTS_EVERY: Duration = Duration::from_secs(23);

/// Runs one seed from beginning to end.
pub fn run(seed: u64) -> Outcome {
    let mut run = Run::new(seed);
    run.play();
    run.outcome
}

struct Run {
    clock: Clock,
    rng: SmallRng,
    network: Network,
    control: Control,
    nodes: Vec<Node>,
    scenario: Scenario,
    next_event: usize,
    next_dial: Time,
    next_nonce: u64,
    probes: Vec<(HostId, u64)>,
    probed: bool,
    outcome: Outcome,
    trace: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let scenario = Scenario::draw(&mut rng);
        let clock = Clock::new(Instant::now());
        let mut network = Network::new(fork(&mut rng));
        let mut nodes = Vec::new();
        for host in 0..2 {
            let key = NodePrivate::from_random(rng.random());
            let identity = Identity {
                public: key.public(),
                key,
                secret: Secret(rng.random()),
                addresses: addresses(host),
            };
            network.attach(identity.public, scenario.nats[host]);
            nodes.push(Node::start(host, identity, Time::ZERO, fork(&mut rng)));
        }
        if scenario.same_lan {
            network.join_lan(1, 0);
        }
        let record = |host: usize| {
            let node: &Node = &nodes[host];
            Record::new(
                node.identity.public,
                node.disco(),
                scenario.homes[host],
                addresses(host),
            )
        };
        let records = [record(0), record(1)];
        let mut run = Self {
            control: Control::new(fork(&mut rng), clock.wall(), records),
            clock,
            rng,
            network,
            nodes,
            scenario,
            next_event: 0,
            next_dial: Time::from_millis(500),
            next_nonce: 1,
            probes: Vec::new(),
            probed: false,
            outcome: Outcome::default(),
            trace: std::env::var_os("SIM_TRACE").is_some(),
        };
        run.introduce();
        (0..2).for_each(|host| run.control.begin_stream(Time::ZERO, host));
        run
    }

    /// Each node learns which bytes the other writes, under each key that it has.
    fn introduce(&mut self) {
        let known: Vec<_> = self
            .nodes
            .iter()
            .map(|node| (node.identity.public, node.identity.secret))
            .collect();
        for node in &mut self.nodes {
            known.iter().for_each(|(key, secret)| node.expect(*key, *secret));
        }
    }

    fn play(&mut self) {
        let end = self.scenario.heal_at + RECOVERY + PROBE + Duration::from_secs(1);
        while self.outcome.faults.is_empty() {
            let next = self.next_time();
            if next > end {
                break;
            }
            self.clock.advance(next);
            self.outcome.steps += 1;
            self.happen();
            self.react();
        }
        self.check_probes();
        self.count();
    }

    fn next_time(&self) -> Time {
        let event = self.scenario.events.get(self.next_event).map(|(at, _)| *at);
        let nodes = self.nodes.iter().filter_map(|node| node.poll_timeout(&self.clock));
        let due = self.nodes.iter().filter_map(|node| node.endpoints_due);
        let others = [
            event,
            self.network.poll_timeout(),
            self.control.poll_timeout(),
            Some(self.next_dial),
        ];
        let next = others.into_iter().flatten().chain(nodes).chain(due).min();
        next.unwrap_or(self.clock.now()).max(self.clock.now())
    }

    /// Everything that happens now from outside.
    fn happen(&mut self) {
        let now = self.clock.now();
        while let Some((at, event)) = self.scenario.events.get(self.next_event).copied()
            && at <= now
        {
            self.next_event += 1;
            self.note(|| format!("{event:?}"));
            self.handle_event(event);
        }
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
            let (host, len, origin) = (arrival.host, arrival.bytes.len(), arrival.origin);
            self.note(|| format!("{host} gets {len} bytes from {origin:?}"));
            self.nodes[host].handle_arrival(&self.clock, &arrival);
        }
        for node in &mut self.nodes {
            node.handle_timeout(&self.clock);
            node.give_up(now, PATIENCE);
        }
        if now >= self.next_dial {
            self.dial_something();
        }
    }

    /// Turns until nobody has anything left to do.
    fn react(&mut self) {
        for _ in 0..MAX_TURNS {
            let mut busy = false;
            for node in &mut self.nodes {
                busy |= node.turn(&self.clock, &mut self.network);
                self.outcome.faults.append(&mut node.faults);
            }
            let now = self.clock.now();
            let due = self
                .nodes
                .iter()
                .any(|node| node.poll_timeout(&self.clock).is_some_and(|at| at <= now));
            if due {
                self.nodes.iter_mut().for_each(|node| node.handle_timeout(&self.clock));
            }
            if !busy && !due {
                return;
            }
        }
        self.fault("a node spins: its timers and work never come to rest".into());
    }

    fn handle_event(&mut self, event: Event) {
        let now = self.clock.now();
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
            Event::ControlDown(down) => self.set_control(down),
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
        for region in crate::scenario::RELAYS {
            self.network.set_relay(region, false);
        }
    }

    fn set_control(&mut self, down: bool) {
        self.control.set_down(self.clock.now(), down);
        (0..2).for_each(|host| self.refresh(host));
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
        let before = std::mem::replace(
            &mut self.nodes[host],
            Node::start(host, identity, now, fork(&mut self.rng)),
        );
        self.tally(&before);
        self.introduce();
        self.tell_endpoints(host);
        self.control.begin_stream(now, host);
    }

    fn dial_something(&mut self) {
        let now = self.clock.now();
        let probe_at = self.scenario.heal_at + RECOVERY;
        if now >= probe_at {
            if !self.probed {
                self.probed = true;
                (0..2).for_each(|host| self.dial(host, true));
            }
            self.next_dial = Time::MAX;
            return;
        }
        let host = self.rng.random_range(0..2);
        if self.nodes[host]
            .flows
            .iter()
            .filter(|flow| flow.end.is_none() && flow.role == Role::Dialed)
            .count()
            < 4
        {
            self.dial(host, false);
        }
        let wait = Duration::from_millis(self.rng.random_range(100..4000));
        self.next_dial = (now + wait).min(probe_at);
    }

    fn dial(&mut self, host: HostId, probe: bool) {
        let peer = self.nodes[1 - host].identity.public;
        let port = PORTS[self.rng.random_range(0..PORTS.len())];
        let most = if self.rng.random_ratio(1, 12) { 150_000 } else { 4_000 };
        let header = Header {
            nonce: self.next_nonce,
            up: self.rng.random_range(0..most),
            down: self.rng.random_range(0..most),
        };
        self.next_nonce += 1;
        let pause = if self.rng.random_ratio(1, 3) {
            self.rng.random_range(0..20_000)
        } else {
            0
        };
        let pause = if probe {
            Duration::ZERO
        } else {
            Duration::from_millis(pause)
        };
        let dialed = self.nodes[host].dial(&self.clock, peer, port, header, pause);
        self.note(|| format!("{host} dials port {port}: {dialed}"));
        match (probe, dialed) {
            (true, true) => self.probes.push((host, self.nodes[host].flows.len() as u64 - 1)),
            (true, false) => self.fault(format!("host {host} could not dial after the healing")),
            _ => {}
        }
    }

    fn check_probes(&mut self) {
        for (host, number) in std::mem::take(&mut self.probes) {
            let flow = &self.nodes[host].flows[number as usize];
            if flow.end != Some(End::Complete) {
                let text = format!("after the healing host {host} could not finish a connection: {flow:?}");
                self.fault(text);
            }
        }
        let hung = self
            .nodes
            .iter()
            .flat_map(|node| &node.flows)
            .find(|flow| flow.end.is_none());
        if let Some(flow) = hung.map(|flow| format!("a connection hangs for ever: {flow:?}")) {
            self.fault(flow);
        }
    }

    fn count(&mut self) {
        for node in std::mem::take(&mut self.nodes) {
            self.tally(&node);
        }
    }

    fn tally(&mut self, node: &Node) {
        for flow in &node.flows {
            match flow.end {
                Some(End::Complete) => self.outcome.completed += 1,
                _ => self.outcome.broken += 1,
            }
        }
    }

    fn fault(&mut self, text: String) {
        let at = self.clock.now();
        self.outcome.faults.push(format!("at {at:?}: {text}"));
    }

    /// Adds to the digest and, when asked for by `SIM_TRACE`, prints.
    fn note(&mut self, text: impl FnOnce() -> String) {
        let line = format!("{:>12.6} {}", self.clock.now().as_secs_f64(), text());
        for byte in line.bytes() {
            self.outcome.digest = (self.outcome.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.trace {
            println!("{line}");
        }
    }
}

fn addresses(host: HostId) -> Vec<IpAddr> {
    let last = host as u8 + 1;
    vec![
        IpAddr::from([100, 64, 0, last]),
        IpAddr::from([0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, u16::from(last)]),
    ]
}
