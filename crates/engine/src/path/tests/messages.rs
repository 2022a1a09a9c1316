//! What the peer says by disco, and what it is answered.

use super::*;

#[test]
fn pings_are_answered_where_they_came_from_and_once() {
    let mut bench = Bench::new(&[]);
    let tx_id = TxId([4; 12]);
    let ping = Message::Ping {
        tx_id,
        node_key: None,
        padding: 0,
    };
    for from in [Hop::Udp(addr(OTHER)), Hop::Udp(addr(OTHER)), Hop::Derp(17)] {
        bench.path.handle_disco(&ping, from, bench.now);
    }
    bench.drain();
    let pong = |source| Message::Pong {
        tx_id,
        source: addr(source),
    };
    let sent: Vec<_> = bench
        .sent
        .iter()
        .map(|(_, hop, message)| (*hop, message.clone()))
        .collect();
    let expected = [
        (Hop::Udp(addr(OTHER)), pong(OTHER)),
        (Hop::Derp(17), pong("127.3.3.40:17")),
    ];
    assert_eq!(sent, expected);
}

#[test]
fn a_ping_through_the_peers_router_is_returned_at_once_while_a_path_is_looked_for() {
    let mut bench = Bench::new(&[DIRECT]);
    bench.run(secs(0.3), true);
    assert_eq!(bench.pings_to(DIRECT), 1);
    for n in 0..5 {
        let ping = Message::Ping {
            tx_id: TxId([n; 12]),
            node_key: None,
            padding: 0,
        };
        bench.path.handle_disco(&ping, Hop::Udp(addr(DIRECT)), bench.now);
    }
    bench.drain();
    assert_eq!(bench.pings_to(DIRECT), 2, "once, however often it pings");
}

#[test]
fn the_source_of_a_ping_becomes_a_candidate_for_45_seconds() {
    let mut bench = Bench::new(&[]).answers_at(OTHER, 5);
    let ping = Message::Ping {
        tx_id: TxId([4; 12]),
        node_key: None,
        padding: 0,
    };
    bench.path.handle_disco(&ping, Hop::Udp(addr(OTHER)), bench.now);
    bench.run(secs(1.0), false);
    assert_eq!((bench.route(), bench.pings_to(OTHER)), ((None, Some(HOME)), 0));
    bench.run(secs(50.0), false);
    bench.path.note_send(bench.now);
    bench.run(secs(1.0), false);
    assert_eq!(bench.pings_to(OTHER), 0, "forgotten");
    bench.path.handle_disco(&ping, Hop::Udp(addr(OTHER)), bench.now);
    bench.run(secs(7.0), true);
    assert_eq!(bench.route(), (Some(addr(OTHER)), None));
}

#[test]
fn call_me_maybe_is_answered_with_pings_over_derp_only() {
    let mut bench = Bench::new(&[]).answers_at(OTHER, 5);
    let call = Message::CallMeMaybe {
        endpoints: vec![addr(OTHER), addr("[fe80::1]:5"), addr("0.0.0.0:5"), addr("224.0.0.1:5")],
    };
    bench.path.handle_disco(&call, Hop::Udp(addr(DIRECT)), bench.now);
    bench.drain();
    assert!(bench.sent.is_empty());
    bench.path.handle_disco(&call, Hop::Derp(HOME), bench.now);
    bench.run(secs(0.1), false);
    assert_eq!(bench.sent.len(), 1);
    assert_eq!(bench.route(), (Some(addr(OTHER)), None));
}

#[test]
fn calls_cannot_make_us_an_amplifier() {
    let mut bench = Bench::new(&[]);
    for round in 0..100u8 {
        let endpoints = (0..100).map(|i| SocketAddr::from(([203, 0, round, i], 9))).collect();
        bench
            .path
            .handle_disco(&Message::CallMeMaybe { endpoints }, Hop::Derp(HOME), bench.now);
        bench.run(secs(0.1), false);
    }
    // 100 at once and 20 a second.
    assert!(bench.sent.len() <= 300, "{}", bench.sent.len());
    let mut bench = Bench::new(&[]);
    let call = Message::CallMeMaybe {
        endpoints: vec![addr(OTHER)],
    };
    for _ in 0..100 {
        bench.path.handle_disco(&call, Hop::Derp(HOME), bench.now);
        bench.run(secs(0.05), false);
    }
    assert!(bench.sent.len() <= 6, "{}", bench.sent.len());
}

#[test]
fn candidates_are_bounded_and_still_answered() {
    let mut bench = Bench::new(&[DIRECT]);
    for i in 0..1000u16 {
        let ping = Message::Ping {
            tx_id: TxId([4; 12]),
            node_key: None,
            padding: 0,
        };
        bench
            .path
            .handle_disco(&ping, Hop::Udp(SocketAddr::from(([203, 0, 113, 1], i + 1))), bench.now);
        bench.drain();
    }
    assert_eq!(bench.sent.len(), 1000);
    bench.sent.clear();
    bench.path.note_send(bench.now);
    bench.drain();
    assert_eq!(bench.sent.len(), MAX_CANDIDATES + 1, "pings and one call");
    assert_eq!(bench.pings_to(DIRECT), 1);
}

#[test]
fn an_asked_ping_reports_both_ways() {
    let mut bench = Bench::new(&[DIRECT]).answers_at(DIRECT, 30);
    bench.path.note_send(bench.now);
    bench.run(secs(1.0), false);
    bench.events();
    bench.path.ping(bench.now);
    bench.drain();
    let asked: Vec<_> = bench.sent.iter().rev().take(2).cloned().collect();
    bench.now += secs(0.03);
    for (_, hop, message) in asked {
        let Message::Ping { tx_id, .. } = message else {
            panic!("not a ping: {message:?}");
        };
        let source = addr("198.51.100.1:41641");
        bench
            .path
            .handle_disco(&Message::Pong { tx_id, source }, hop, bench.now);
    }
    let latency = Duration::from_millis(30);
    let pong = |hop| PathEvent::Pong { hop, latency };
    assert_eq!(bench.events(), [pong(Hop::Derp(HOME)), pong(Hop::Udp(addr(DIRECT)))]);
}

#[test]
fn a_pong_nobody_asked_for_or_on_another_way_proves_nothing() {
    let mut bench = Bench::new(&[DIRECT]);
    let source = addr("198.51.100.1:41641");
    let forged = Message::Pong {
        tx_id: TxId([0; 12]),
        source,
    };
    bench.path.handle_disco(&forged, Hop::Udp(addr(DIRECT)), bench.now);
    bench.path.note_send(bench.now);
    bench.drain();
    let Some((_, _, Message::Ping { tx_id, .. })) = bench.sent.first().cloned() else {
        panic!("no ping");
    };
    bench
        .path
        .handle_disco(&Message::Pong { tx_id, source }, Hop::Derp(HOME), bench.now);
    assert_eq!(bench.route(), (None, Some(HOME)));
}
