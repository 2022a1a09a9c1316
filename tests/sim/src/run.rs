//! One seed from beginning to end: a drawn scenario, random traffic, the healing, and the last judgement.

use std::time::Duration;

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use crate::{
    app::{End, Flow, Role},
    clock::Time,
    network::HostId,
    node::fork,
    scenario::{PORTS, Scenario},
    simulation::Simulation,
};

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// What must not have happened; empty is a pass.
    pub faults: Vec<String>,
    /// Connections that both sides finished, each side counted.
    pub completed: u64,
    /// Connections that ended otherwise.
    pub broken: u64,
    /// Answers to datagrams and pings.
    pub answers: u64,
    /// Packets that an intruder got into a tunnel.
    pub attacks: u64,
    /// Steps of virtual time.
    pub steps: u64,
    /// A digest of everything that happened, in order.
    pub digest: u64,
}

/// From then on after the healing every new connection must succeed.
const RECOVERY: Duration = Duration::from_secs(40);
/// How long such a connection may take.
const PROBE: Duration = Duration::from_secs(5);
/// How long applications wait before they give up.
const PATIENCE: Duration = Duration::from_secs(30);
/// After so long at rest a node holds no connection and no memory for one.
const REST: Duration = Duration::from_secs(300);
/// The most connections that a host has under way.
const MOST_FLOWS: usize = 4;

/// Runs one seed.
pub fn run(seed: u64) -> Outcome {
    let mut rng = SmallRng::seed_from_u64(seed);
    let scenario = Scenario::draw(&mut rng);
    let mut traffic = fork(&mut rng);
    let mut world = Simulation::new(rng, &scenario.setup);
    let mut events = scenario.events.iter().copied().peekable();
    let mut next_dial = Time::from_millis(500);
    let recovered = scenario.heal_at + RECOVERY;

    while world.faults.is_empty() && world.clock.now() < recovered {
        let event_at = events.peek().map_or(recovered, |(at, _)| *at);
        world.advance(event_at.min(next_dial));
        let now = world.clock.now();
        while let Some((_, event)) = events.next_if(|(at, _)| *at <= now) {
            world.handle_event(event);
        }
        world.nodes.iter_mut().for_each(|node| node.give_up(now, PATIENCE));
        if now >= next_dial {
            dial_something(&mut world, &mut traffic);
            next_dial = now + Duration::from_millis(traffic.random_range(100..4000));
        }
    }
    judge(&mut world);
    outcome(world)
}

fn dial_something(world: &mut Simulation, rng: &mut SmallRng) {
    let host = rng.random_range(0..2);
    if rng.random_ratio(1, 3) {
        world.ask(host);
    }
    let under_way = |flow: &&Flow| flow.end.is_none() && flow.role == Role::Dialed;
    if world.nodes[host].flows.iter().filter(under_way).count() < MOST_FLOWS {
        let most = if rng.random_ratio(1, 12) { 150_000 } else { 4_000 };
        let (up, down) = (rng.random_range(0..most), rng.random_range(0..most));
        let pause = if rng.random_ratio(1, 3) {
            rng.random_range(0..20_000)
        } else {
            0
        };
        let port = PORTS[rng.random_range(0..PORTS.len())];
        world.dial(host, port, up, down, Duration::from_millis(pause));
    }
}

/// Everything is well again: each host must reach the other at once, and nothing old may hang.
fn judge(world: &mut Simulation) {
    if !world.faults.is_empty() {
        return;
    }
    let probes: Vec<(HostId, Option<usize>)> = (0..2)
        .map(|host| (host, world.dial(host, PORTS[0], 3000, 3000, Duration::ZERO)))
        .collect();
    let end = world.clock.now() + PROBE;
    world.advance(end);
    for (host, number) in probes {
        let flow = number.map(|number| &world.nodes[host].flows[number]);
        if flow.is_none_or(|flow| flow.end != Some(End::Complete)) {
            world.faults.push(format!(
                "after the healing host {host} could not finish a connection: {flow:?}"
            ));
            return;
        }
    }
    // Whatever is still under way has its pause before it, or its patience.
    let end = end + PATIENCE;
    world.advance(end);
    world.nodes.iter_mut().for_each(|node| node.give_up(end, PATIENCE));
    let hung = world
        .nodes
        .iter()
        .flat_map(|node| &node.flows)
        .find(|flow| flow.end.is_none());
    if let Some(flow) = hung.map(|flow| format!("a connection hangs for ever: {flow:?}")) {
        world.faults.push(flow);
        return;
    }
    world.end_attacks();
    // And nothing may be kept of what is over.
    world.advance(end + REST);
    for node in &world.nodes {
        let held = node.held();
        if held != (0, 0) {
            world.faults.push(format!(
                "after {REST:?} of rest host {} still holds {held:?}",
                node.host
            ));
        }
    }
}

fn outcome(world: Simulation) -> Outcome {
    let flows = || world.nodes.iter().flat_map(|node| &node.flows).chain(&world.buried);
    let completed = flows().filter(|flow| flow.end == Some(End::Complete)).count() as u64;
    Outcome {
        completed,
        broken: flows().count() as u64 - completed,
        answers: world.nodes.iter().map(|node| node.answers).sum(),
        attacks: world.intruder.as_ref().map_or(0, |intruder| intruder.sent),
        steps: world.steps,
        digest: world.digest,
        faults: world.faults,
    }
}
