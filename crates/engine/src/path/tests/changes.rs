//! A peer that moves, restarts or is heard elsewhere.

use super::*;

#[test]
fn a_roaming_peer_is_followed_to_its_new_address() {
    let mut bench = Bench::new(&[DIRECT]).answers_at(DIRECT, 10);
    bench.path.note_send(bench.now);
    bench.run(secs(1.0), true);
    bench.alive = vec![(addr(OTHER), Duration::from_millis(90))];
    bench.path.handle_wireguard(Hop::Udp(addr(OTHER)), bench.now);
    assert_eq!(bench.route(), (Some(addr(DIRECT)), None), "not before it answers");
    bench.run(secs(0.2), true);
    assert_eq!(bench.route(), (Some(addr(OTHER)), None), "although it is slower");
}

#[test]
fn data_from_a_second_address_does_not_move_a_living_path() {
    let mut bench = Bench::new(&[DIRECT]).answers_at(DIRECT, 10).answers_at(OTHER, 90);
    bench.path.note_send(bench.now);
    for _ in 0..50 {
        bench.run(secs(0.2), true);
        bench.path.handle_wireguard(Hop::Udp(addr(OTHER)), bench.now);
        assert_eq!(bench.route(), (Some(addr(DIRECT)), None));
    }
    assert!(bench.pings_to(OTHER) <= 2, "{}", bench.pings_to(OTHER));
}

#[test]
fn data_from_an_unknown_source_is_answered_there_and_over_derp_until_proven() {
    let mut bench = Bench::new(&[]).answers_at(OTHER, 10);
    bench.path.handle_wireguard(Hop::Udp(addr(OTHER)), bench.now);
    assert_eq!(bench.route(), (Some(addr(OTHER)), Some(HOME)));
    bench.run(secs(0.1), false);
    assert_eq!(bench.route(), (Some(addr(OTHER)), None));
    let mut silent = Bench::new(&[]);
    silent.path.handle_wireguard(Hop::Udp(addr(OTHER)), silent.now);
    silent.run(secs(5.1), false);
    assert_eq!(silent.route(), (None, Some(HOME)));
}

#[test]
fn a_peer_without_disco_is_answered_where_it_speaks_from() {
    let mut bench = Bench::new(&[]);
    let plain = PathConfig {
        disco: None,
        home_derp: None,
        ..config(&[])
    };
    bench.path.handle_config(plain, bench.now);
    bench.path.handle_wireguard(Hop::Udp(addr(OTHER)), bench.now);
    bench.path.note_send(bench.now);
    bench.run(secs(60.0), true);
    assert!(bench.sent.is_empty());
    assert_eq!(bench.route(), (Some(addr(OTHER)), None));
}

#[test]
fn a_new_disco_key_forgets_paths_and_starts_over() {
    let mut bench = Bench::new(&[DIRECT]).answers_at(DIRECT, 10);
    bench.path.note_send(bench.now);
    bench.run(secs(1.0), false);
    let mut restarted = config(&[OTHER]);
    restarted.disco = disco(2);
    bench.alive = vec![(addr(OTHER), Duration::from_millis(10))];
    bench.sent.clear();
    bench.path.handle_config(restarted, bench.now);
    assert_eq!(bench.route(), (None, Some(HOME)));
    bench.run(secs(0.1), false);
    assert_eq!(
        (bench.pings_to(DIRECT), bench.pings_to(OTHER), bench.calls()),
        (0, 1, 1)
    );
    assert_eq!(bench.route(), (Some(addr(OTHER)), None));
}

#[test]
fn a_netmap_that_only_drops_the_endpoint_in_use_does_not_cut_it() {
    let mut bench = Bench::new(&[DIRECT]).answers_at(DIRECT, 10);
    bench.path.note_send(bench.now);
    bench.run(secs(1.0), true);
    bench.path.handle_config(config(&[OTHER]), bench.now);
    bench.run(secs(30.0), true);
    assert_eq!(bench.route(), (Some(addr(DIRECT)), None));
}

#[test]
fn a_send_error_drops_the_address_at_once() {
    let mut bench = Bench::new(&[DIRECT]).answers_at(DIRECT, 10);
    bench.path.note_send(bench.now);
    bench.run(secs(1.0), false);
    bench.path.handle_send_error(addr(OTHER), bench.now);
    assert_eq!(bench.route(), (Some(addr(DIRECT)), None));
    bench.path.handle_send_error(addr(DIRECT), bench.now);
    assert_eq!(bench.route(), (None, Some(HOME)));
}

#[test]
fn the_region_where_a_peer_is_heard_serves_until_the_relay_says_gone() {
    let mut bench = Bench::new(&[]);
    bench.path.handle_wireguard(Hop::Derp(5), bench.now);
    assert_eq!(bench.route(), (None, Some(5)));
    bench.path.handle_peer_gone(HOME, GoneReason::NotHere, bench.now);
    assert_eq!(bench.route(), (None, Some(5)), "another region's word does not count");
    bench.path.handle_peer_gone(5, GoneReason::Disconnected, bench.now);
    assert_eq!(bench.route(), (None, Some(HOME)));
    bench.path.handle_wireguard(Hop::Derp(5), bench.now);
    bench.now += secs(31.0);
    assert_eq!(bench.route(), (None, Some(HOME)), "too long ago");
}
