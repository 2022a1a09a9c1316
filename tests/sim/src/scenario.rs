//! What happens in one run: drawn from the seed, before anything runs.

use std::time::Duration;

use rand::{Rng as _, rngs::SmallRng, seq::IndexedRandom as _};

use crate::{
    clock::Time,
    network::{HostId, NatKind, Quality},
    simulation::Setup,
};

/// Something that changes from outside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// All links get this quality.
    Quality(Quality),
    /// A host's UDP is blocked, or no longer.
    BlockUdp(HostId, bool),
    /// A relay stops, or comes back.
    Relay(u32, bool),
    /// A host's router forgets its mappings.
    ResetNat(HostId),
    /// A host turns up in another network.
    Move(HostId, Option<NatKind>),
    /// A node's process is killed and started again.
    Restart(HostId),
    /// Control changes a policy, see [`Change`].
    Control(Change),
    /// Control cannot be reached, or can again: what it has to say waits.
    ControlDown(bool),
    /// Everything that was broken is mended.
    Heal,
}

/// What control may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A node may dial this port of the other, or no longer.
    Access {
        /// Who dials.
        from: HostId,
        /// The port.
        port: u16,
        /// Whether it may.
        allowed: bool,
    },
    /// The two nodes see each other, or no longer.
    Connected(bool),
    /// A node's key expires at this time from the beginning of the run.
    Expire(HostId, Time),
    /// A node's key no longer expires.
    Renew(HostId),
    /// A node gets a new key: its process starts anew with it.
    Rotate(HostId),
    /// The other node is not to be let in at all.
    Jail(HostId, bool),
}

/// The ports that the applications listen on.
pub const PORTS: [u16; 2] = [443, 8443];
/// The relays.
pub const RELAYS: [u32; 2] = [1, 2];
/// How long things are broken.
const TROUBLE: Duration = Duration::from_secs(60);

/// One run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The world it happens in.
    pub setup: Setup,
    /// What happens when, in order.
    pub events: Vec<(Time, Event)>,
    /// When everything is mended.
    pub heal_at: Time,
}

impl Scenario {
    /// Draws a scenario.
    pub fn draw(rng: &mut SmallRng) -> Self {
        let nats = [nat(rng), nat(rng)];
        let mut events = vec![(Time::ZERO, Event::Quality(quality(rng)))];
        for _ in 0..rng.random_range(0..14) {
            let at = Time::from_millis(rng.random_range(500..TROUBLE.as_millis() as u64));
            trouble(rng, at, &mut events);
        }
        // What would end later is ended by the healing.
        events.retain(|(at, _)| *at < TROUBLE);
        events.push((TROUBLE, Event::Heal));
        events.sort_by_key(|(at, _)| *at);
        let setup = Setup {
            nats,
            same_lan: rng.random_ratio(1, 8),
            homes: [RELAYS[0], *RELAYS.choose(rng).unwrap_or(&RELAYS[0])],
            intruder: rng.random_ratio(1, 4),
        };
        Self {
            setup,
            events,
            heal_at: TROUBLE,
        }
    }
}

fn nat(rng: &mut SmallRng) -> Option<NatKind> {
    match rng.random_range(0..10) {
        0..4 => None,
        4..7 => Some(NatKind::PortRestricted),
        7 | 8 => Some(NatKind::FullCone),
        _ => Some(NatKind::Symmetric),
    }
}

fn quality(rng: &mut SmallRng) -> Quality {
    let mut chance = |worst: f64| {
        if rng.random_ratio(1, 2) {
            0.0
        } else {
            rng.random_range(0.0..worst)
        }
    };
    Quality {
        loss: chance(0.25),
        duplicate: chance(0.1),
        damage: chance(0.05),
        replay: chance(0.1),
        delay: Duration::from_millis(rng.random_range(1..120)),
        jitter: Duration::from_millis(if rng.random() { 0 } else { rng.random_range(0..80) }),
    }
}

/// Adds one fault and, mostly, its end.
fn trouble(rng: &mut SmallRng, at: Time, events: &mut Vec<(Time, Event)>) {
    let host = rng.random_range(0..2);
    let end = at + Duration::from_millis(rng.random_range(100..25_000));
    let (begin, finish) = match rng.random_range(0..14) {
        0 => (Event::Quality(quality(rng)), None),
        1 => {
            let dead = Quality {
                loss: 1.0,
                ..Quality::GOOD
            };
            (Event::Quality(dead), Some(Event::Quality(quality(rng))))
        }
        2 => (Event::BlockUdp(host, true), Some(Event::BlockUdp(host, false))),
        3 => {
            let region = *RELAYS.choose(rng).unwrap_or(&1);
            (Event::Relay(region, true), Some(Event::Relay(region, false)))
        }
        4 => (Event::ResetNat(host), None),
        5 => (Event::Move(host, nat(rng)), None),
        6 => (Event::Restart(host), None),
        7 => (Event::ControlDown(true), Some(Event::ControlDown(false))),
        _ => {
            let (begin, finish) = change(rng, host, at);
            (Event::Control(begin), finish.map(Event::Control))
        }
    };
    events.push((at, begin));
    events.extend(finish.map(|event| (end, event)));
}

fn change(rng: &mut SmallRng, host: HostId, at: Time) -> (Change, Option<Change>) {
    match rng.random_range(0..8) {
        0..4 => {
            let port = *PORTS.choose(rng).unwrap_or(&443);
            let access = |allowed| Change::Access {
                from: host,
                port,
                allowed,
            };
            (access(false), Some(access(true)))
        }
        4 => (Change::Connected(false), Some(Change::Connected(true))),
        5 => (
            Change::Expire(host, at + Duration::from_secs(rng.random_range(0..10))),
            Some(Change::Renew(host)),
        ),
        6 => (Change::Rotate(host), None),
        _ => (Change::Jail(host, true), Some(Change::Jail(host, false))),
    }
}
