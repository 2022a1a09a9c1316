//! Named stories, each with its deadline in virtual time.

#![allow(clippy::expect_used, reason = "a test may stop where it stands")]

use std::time::Duration;

use countersign_sim::{
    app::{End, Role},
    network::{NatKind, Quality},
    scenario::{Change, Event, PORTS},
    simulation::{Setup, Simulation},
};
use tailnet_engine::{path::Hop, peer::ConnError};

const PORT: u16 = PORTS[0];
const SECOND: Duration = Duration::from_secs(1);
const NO_PAUSE: Duration = Duration::ZERO;

fn world(setup: &Setup) -> Simulation {
    let mut world = Simulation::from((1, setup));
    world.advance(2 * SECOND);
    world
}

fn behind(one: Option<NatKind>, other: Option<NatKind>) -> Setup {
    Setup {
        nats: [one, other],
        ..Setup::default()
    }
}

/// Dials and waits until everything has come. Returns how long it took.
fn exchange(world: &mut Simulation, from: usize, limit: Duration) -> Duration {
    let number = world
        .dial(from, PORT, 2000, 2000, NO_PAUSE)
        .expect("the peer can be dialed");
    let took = world.wait(limit, |world| world.nodes[from].flows[number].end.is_some());
    let end = world.nodes[from].flows[number].end;
    assert_eq!(end, Some(End::Complete), "after {took:?}, faults: {:?}", world.faults);
    took.expect("it ended")
}

fn is_direct(world: &Simulation) -> bool {
    (0..2).all(|host| matches!(world.path(host), Some(Hop::Udp(_))))
}

/// Opens a connection that is idle for long. Returns its numbers at the dialing and at the accepting end.
fn idle_connection(world: &mut Simulation) -> (usize, usize) {
    let pause = Duration::from_secs(600);
    let dialed = world.dial(1, PORT, 2000, 2000, pause).expect("the peer can be dialed");
    let ready = |world: &Simulation| {
        world.nodes[0]
            .flows
            .last()
            .is_some_and(|flow| flow.role == Role::Accepted)
    };
    world.wait(5 * SECOND, ready).expect("the connection is accepted");
    let end = world.clock.now() + 2 * SECOND;
    world.advance(end);
    (dialed, world.nodes[0].flows.len() - 1)
}

fn done(world: &Simulation) {
    assert!(world.faults.is_empty(), "{:?}", world.faults);
}

#[test]
fn two_nodes_become_direct_wherever_routers_allow_it() {
    use NatKind::{FullCone, PortRestricted, Symmetric};
    let routers = [None, Some(FullCone), Some(PortRestricted), Some(Symmetric)];
    for one in routers {
        for other in routers {
            let mut world = world(&behind(one, other));
            let first = exchange(&mut world, 1, 2 * SECOND);
            let took = world.wait(5 * SECOND, is_direct);
            // Nobody can guess the port that a symmetric router opens towards a router that asks for it.
            let possible = !matches!((one, other), (Some(Symmetric), Some(Symmetric | PortRestricted)))
                && !matches!((one, other), (Some(PortRestricted), Some(Symmetric)));
            assert_eq!(took.is_some(), possible, "{one:?} and {other:?}: direct after {took:?}");
            exchange(&mut world, 0, SECOND);
            println!("{one:?} and {other:?}: first exchange {first:?}, direct after {took:?}");
            done(&world);
        }
    }
}

#[test]
fn neighbours_find_each_other_in_their_own_network() {
    let mut world = world(&Setup {
        nats: [Some(NatKind::Symmetric); 2],
        same_lan: true,
        ..Setup::default()
    });
    exchange(&mut world, 1, 2 * SECOND);
    world.wait(5 * SECOND, is_direct).expect("direct");
    done(&world);
}

#[test]
fn a_dead_direct_path_falls_back_to_the_relay_and_comes_back() {
    let mut world = world(&behind(None, None));
    exchange(&mut world, 1, 2 * SECOND);
    world.wait(5 * SECOND, is_direct).expect("direct");
    world.handle_event(Event::BlockUdp(0, true));
    let blind = exchange(&mut world, 1, 12 * SECOND);
    let relayed = exchange(&mut world, 1, SECOND);
    assert!(matches!(world.path(1), Some(Hop::Derp(_))));

    world.handle_event(Event::BlockUdp(0, false));
    let began = world.clock.now();
    while !is_direct(&world) {
        assert!(world.clock.now() < began + 90 * SECOND, "still not direct");
        exchange(&mut world, 1, SECOND);
        let next = world.clock.now() + SECOND;
        world.advance(next);
    }
    println!(
        "blind for {blind:?}, then {relayed:?} per exchange; direct after {:?}",
        world.clock.now() - began
    );
    done(&world);
}

#[test]
fn a_peer_that_moves_to_another_network_keeps_its_connection() {
    let mut world = world(&behind(None, Some(NatKind::PortRestricted)));
    let pause = 10 * SECOND;
    let number = world
        .dial(1, PORT, 20_000, 20_000, pause)
        .expect("the peer can be dialed");
    let end = world.clock.now() + 5 * SECOND;
    world.advance(end);
    assert!(is_direct(&world));
    world.handle_event(Event::Move(1, Some(NatKind::PortRestricted)));
    world
        .wait(30 * SECOND, |world| world.nodes[1].flows[number].end.is_some())
        .expect("it goes on");
    assert_eq!(world.nodes[1].flows[number].end, Some(End::Complete));
    done(&world);
}

#[test]
fn a_restarted_node_answers_at_once() {
    for (one, other) in [
        (None, None),
        (Some(NatKind::PortRestricted), Some(NatKind::PortRestricted)),
    ] {
        let mut world = world(&behind(one, other));
        exchange(&mut world, 1, 2 * SECOND);
        world.wait(5 * SECOND, is_direct).expect("direct");
        world.handle_event(Event::Restart(0));
        // The client does not know. It asks a moment after the server has its netmap again.
        let (client, server) = (world.nodes[1].identity.public, 0);
        let ready = move |world: &Simulation| {
            world.nodes[server]
                .truth
                .permits(world.clock.now(), client, Role::Accepted, PORT)
        };
        let up = world.wait(2 * SECOND, ready).expect("the netmap comes");
        let moment = world.clock.now() + Duration::from_millis(100);
        world.advance(moment);
        let first = exchange(&mut world, 1, 5 * SECOND);
        println!("{one:?}: netmap after {up:?}, first exchange {first:?}");
        assert!(
            first < SECOND,
            "{one:?}: the first exchange after a restart took {first:?}"
        );
        done(&world);
    }
}

#[test]
fn what_is_withdrawn_ends_within_a_round_trip_at_both_ends() {
    let withdrawals: [(&str, Change); 4] = [
        (
            "a grant",
            Change::Access {
                from: 1,
                port: PORT,
                allowed: false,
            },
        ),
        ("a node", Change::Connected(false)),
        ("a key", Change::Expire(1, Duration::ZERO)),
        ("the inbound side", Change::Jail(1, true)),
    ];
    for (what, change) in withdrawals {
        let mut world = world(&behind(None, None));
        exchange(&mut world, 1, 2 * SECOND);
        let (dialed, accepted) = idle_connection(&mut world);
        assert!(
            world.nodes[0].flows[accepted].end.is_none(),
            "{what}: the connection is idle and open"
        );
        world.handle_event(Event::Control(change));
        world
            .wait(SECOND, move |world| world.nodes[0].flows[accepted].end.is_some())
            .expect("the server ends it");
        assert_eq!(
            world.nodes[0].flows[accepted].end,
            Some(End::Error(ConnError::Withdrawn)),
            "{what}"
        );
        let limit = Duration::from_millis(100);
        let took = world.wait(limit, move |world| world.nodes[1].flows[dialed].end.is_some());
        let end = world.nodes[1].flows[dialed].end;
        println!("{what}: the client knew after {took:?}: {end:?}");
        let known = [
            Some(End::Error(ConnError::Reset)),
            Some(End::Error(ConnError::Withdrawn)),
        ];
        assert!(known.contains(&end), "{what}: the client was left alone with {end:?}");
        done(&world);
    }
}

#[test]
fn a_node_with_a_new_key_is_somebody_else() {
    let mut world = world(&behind(None, None));
    let (_, accepted) = idle_connection(&mut world);
    world.handle_event(Event::Control(Change::Rotate(1)));
    world
        .wait(2 * SECOND, move |world| world.nodes[0].flows[accepted].end.is_some())
        .expect("the old key's connection ends");
    let end = world.clock.now() + 2 * SECOND;
    world.advance(end);
    exchange(&mut world, 1, 3 * SECOND);
    done(&world);
}

#[test]
fn a_bad_member_of_the_tailnet_touches_nobody() {
    let mut world = world(&Setup {
        intruder: true,
        ..behind(None, Some(NatKind::PortRestricted))
    });
    let idle = idle_connection(&mut world);
    for _ in 0..30 {
        exchange(&mut world, 1, 2 * SECOND);
        exchange(&mut world, 0, 2 * SECOND);
        let next = world.clock.now() + SECOND;
        world.advance(next);
    }
    assert!(world.nodes[1].flows[idle.0].end.is_none() && world.nodes[0].flows[idle.1].end.is_none());
    let intruder = world.intruder.as_ref().expect("there is one");
    let counters = world.nodes[0].counters(intruder.public).expect("a peer");
    println!("{} packets in tunnels: {:?}", intruder.sent, counters.dropped);
    assert!(counters.dropped.foreign_source > 10 && counters.dropped.policy > 10 && counters.dropped.replayed > 10);
    done(&world);
}

#[test]
fn a_flood_of_handshakes_does_not_lock_out_a_peer() {
    let mut world = world(&Setup {
        intruder: true,
        ..behind(None, None)
    });
    for _ in 0..40 {
        world.flood(0, 30);
        let next = world.clock.now() + Duration::from_millis(50);
        world.advance(next);
    }
    let number = world
        .dial(1, PORT, 2000, 2000, NO_PAUSE)
        .expect("the peer can be dialed");
    let began = world.clock.now();
    while world.nodes[1].flows[number].end.is_none() && world.clock.now() < began + 20 * SECOND {
        world.flood(0, 30);
        let next = world.clock.now() + Duration::from_millis(50);
        world.advance(next);
    }
    println!(
        "under the flood: {:?} after {:?}",
        world.nodes[1].flows[number].end,
        world.clock.now() - began
    );
    assert_eq!(world.nodes[1].flows[number].end, Some(End::Complete));
    done(&world);
}

#[test]
fn replays_and_damage_change_nothing() {
    let mut world = world(&behind(None, None));
    let echoes = Quality {
        replay: 1.0,
        duplicate: 1.0,
        ..Quality::GOOD
    };
    let noise = Quality {
        damage: 0.2,
        ..Quality::GOOD
    };
    for quality in [echoes, noise] {
        world.handle_event(Event::Quality(quality));
        (0..20).for_each(|_| {
            exchange(&mut world, 1, 30 * SECOND);
        });
    }
    let counters = world.nodes[0].counters(world.nodes[1].identity.public).expect("a peer");
    println!("{:?}", counters.dropped);
    assert!(counters.dropped.replayed > 100 && counters.dropped.not_authentic > 10);
    done(&world);
}

#[test]
fn a_pair_at_rest_is_silent_and_awakes_at_once() {
    let mut world = world(&behind(None, Some(NatKind::PortRestricted)));
    exchange(&mut world, 1, 2 * SECOND);
    let end = world.clock.now() + 60 * SECOND;
    world.advance(end);
    let before = world.datagrams();
    let end = world.clock.now() + 3600 * SECOND;
    world.advance(end);
    assert_eq!(world.datagrams() - before, 0, "datagrams in an hour of rest");
    let took = exchange(&mut world, 1, 2 * SECOND);
    assert!(took < SECOND, "the first exchange after an hour took {took:?}");
    done(&world);
}

#[test]
fn sessions_are_renewed_under_way() {
    let mut world = world(&behind(None, None));
    for _ in 0..60 {
        let took = exchange(&mut world, 1, SECOND);
        assert!(took < Duration::from_millis(500), "{took:?}");
        let next = world.clock.now() + 10 * SECOND;
        world.advance(next);
    }
    let counters = world.nodes[0].counters(world.nodes[1].identity.public).expect("a peer");
    println!("{} handshakes in ten minutes", counters.handshakes);
    assert!((4..12).contains(&counters.handshakes));
    done(&world);
}
