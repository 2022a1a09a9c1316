use proptest::prelude::*;
use rand::{SeedableRng, rngs::SmallRng};

use super::*;

const HOME: u32 = 1;

/// One path under virtual time, with a peer that answers pings at `alive` addresses after `rtt`.
struct Bench {
    path: Path,
    now: Instant,
    rng: SmallRng,
    alive: Vec<(SocketAddr, Duration)>,
    sent: Vec<(Instant, Hop, Message)>,
    pongs: Vec<(Instant, Message, Hop)>,
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn secs(secs: f64) -> Duration {
    Duration::from_secs_f64(secs)
}

fn disco(byte: u8) -> Option<DiscoPublic> {
    Some(DiscoPublic::from_bytes([byte; 32]))
}

fn config(endpoints: &[&str]) -> PathConfig {
    PathConfig {
        disco: disco(1),
        endpoints: endpoints.iter().map(|text| addr(text)).collect(),
        home_derp: Some(HOME),
    }
}

impl Bench {
    fn new(endpoints: &[&str]) -> Self {
        let now = Instant::now();
        let mut path = Path::new(NodePublic::from_bytes([9; 32]), config(endpoints));
        path.handle_own_endpoints(Arc::from([addr("198.51.100.1:41641")]), now);
        Self {
            path,
            now,
            rng: SmallRng::seed_from_u64(7),
            alive: Vec::new(),
            sent: Vec::new(),
            pongs: Vec::new(),
        }
    }

    fn answers_at(mut self, at: &str, rtt_ms: u64) -> Self {
        self.alive.push((addr(at), Duration::from_millis(rtt_ms)));
        self
    }

    /// Drains what the path sends, and has living addresses answer.
    fn drain(&mut self) {
        while let Some((to, message)) = self.path.poll_transmit(self.now, &mut self.rng) {
            if let (Hop::Udp(at), Message::Ping { tx_id, .. }) = (to, &message) {
                let alive = self.alive.iter().find(|(alive, _)| *alive == at);
                if let Some((_, rtt)) = alive {
                    let pong = Message::Pong {
                        tx_id: *tx_id,
                        source: addr("198.51.100.1:41641"),
                    };
                    self.pongs.push((self.now + *rtt, pong, to));
                }
            }
            self.sent.push((self.now, to, message));
        }
    }

    /// Lets `span` pass: timers fire, pongs arrive. With `sending` the application sends every 200 ms.
    fn run(&mut self, span: Duration, sending: bool) {
        let begin = self.now;
        self.drain();
        while self.now < begin + span {
            self.now += Duration::from_millis(1);
            let pongs = std::mem::take(&mut self.pongs).into_iter();
            let (due, later): (Vec<_>, Vec<_>) = pongs.partition(|(at, ..)| *at <= self.now);
            self.pongs = later;
            for (_, pong, from) in due {
                self.path.handle_disco(&pong, from, self.now);
            }
            if sending && (self.now - begin).as_millis().is_multiple_of(200) {
                self.path.note_send(self.now);
            }
            if self.path.poll_timeout().is_some_and(|at| at <= self.now) {
                self.path.handle_timeout(self.now);
            }
            self.drain();
        }
    }

    fn route(&self) -> (Option<SocketAddr>, Option<u32>) {
        let route = self.path.route(self.now);
        (route.udp, route.derp)
    }

    fn pings_to(&self, to: &str) -> usize {
        let to = Hop::Udp(addr(to));
        let pings = self
            .sent
            .iter()
            .filter(|(_, hop, message)| *hop == to && matches!(message, Message::Ping { .. }));
        pings.count()
    }

    fn calls(&self) -> usize {
        let calls = self
            .sent
            .iter()
            .filter(|(_, _, message)| matches!(message, Message::CallMeMaybe { .. }));
        calls.count()
    }

    fn events(&mut self) -> Vec<PathEvent> {
        std::iter::from_fn(|| self.path.poll_event()).collect()
    }
}

const DIRECT: &str = "192.0.2.1:41641";
const OTHER: &str = "192.0.2.2:41641";

#[test]
fn an_idle_peer_is_never_probed() {
    let mut bench = Bench::new(&[DIRECT]).answers_at(DIRECT, 20);
    bench.run(secs(600.0), false);
    assert!(bench.sent.is_empty());
    assert_eq!(bench.path.poll_timeout(), None);
    assert_eq!(bench.route(), (None, Some(HOME)));
}

#[test]
fn a_send_starts_on_derp_and_upgrades_to_direct() {
    let mut bench = Bench::new(&[DIRECT, OTHER]).answers_at(DIRECT, 20);
    bench.path.note_send(bench.now);
    assert_eq!(bench.route(), (None, Some(HOME)));
    bench.run(secs(0.1), false);
    assert_eq!(bench.route(), (Some(addr(DIRECT)), None));
    assert_eq!(
        (bench.pings_to(DIRECT), bench.pings_to(OTHER), bench.calls()),
        (1, 1, 1)
    );
    assert_eq!(bench.path.latency(), Some(Duration::from_millis(20)));
    assert_eq!(bench.events(), [PathEvent::Changed(Some(Hop::Udp(addr(DIRECT))))]);
}

#[test]
fn the_session_is_kept_alive_every_3_seconds_for_45_seconds() {
    let mut bench = Bench::new(&[DIRECT]).answers_at(DIRECT, 3);
    bench.path.note_send(bench.now);
    bench.run(secs(40.0), false);
    assert_eq!(bench.route(), (Some(addr(DIRECT)), None));
    assert!(
        (13..=15).contains(&bench.pings_to(DIRECT)),
        "{}",
        bench.pings_to(DIRECT)
    );
    bench.run(secs(60.0), false);
    let pings = bench.pings_to(DIRECT);
    assert!(pings <= 16, "{pings}");
    assert_eq!(bench.path.poll_timeout(), None);
    bench.run(secs(60.0), false);
    assert_eq!(bench.pings_to(DIRECT), pings);
}

#[test]
fn after_a_sleep_both_ways_are_used_until_the_pong() {
    let mut bench = Bench::new(&[DIRECT]).answers_at(DIRECT, 20);
    bench.path.note_send(bench.now);
    bench.run(secs(120.0), false);
    bench.path.note_send(bench.now);
    assert_eq!(bench.route(), (Some(addr(DIRECT)), Some(HOME)));
    bench.run(secs(0.1), false);
    assert_eq!(bench.route(), (Some(addr(DIRECT)), None));
}

#[test]
fn a_dead_path_falls_back_to_derp_and_returns() {
    let mut bench = Bench::new(&[DIRECT]).answers_at(DIRECT, 20);
    bench.path.note_send(bench.now);
    bench.run(secs(1.0), true);
    bench.events();
    let alive = std::mem::take(&mut bench.alive);
    bench.run(secs(6.6), true);
    assert_eq!(bench.route(), (Some(addr(DIRECT)), Some(HOME)), "untrusted: both ways");
    bench.run(secs(4.0), true);
    assert_eq!(bench.route(), (None, Some(HOME)), "dead: DERP only");
    assert_eq!(bench.events(), [PathEvent::Changed(Some(Hop::Derp(HOME)))]);
    bench.alive = alive;
    bench.run(secs(6.5), true);
    assert_eq!(bench.route(), (Some(addr(DIRECT)), None));
}

#[test]
fn trust_ends_by_itself_in_the_timer() {
    let mut bench = Bench::new(&[DIRECT]).answers_at(DIRECT, 20);
    bench.path.note_send(bench.now);
    bench.run(secs(1.0), false);
    bench.alive.clear();
    bench.events();
    bench.run(secs(7.0), false);
    assert_eq!(bench.events(), [PathEvent::Changed(Some(Hop::Derp(HOME)))]);
}

#[test]
fn an_address_is_pinged_every_5_seconds_at_most_while_none_answers() {
    let mut bench = Bench::new(&[DIRECT]);
    bench.path.note_send(bench.now);
    bench.run(secs(60.0), true);
    assert!(
        (10..=13).contains(&bench.pings_to(DIRECT)),
        "{}",
        bench.pings_to(DIRECT)
    );
    assert!((8..=13).contains(&bench.calls()), "{}", bench.calls());
}

#[test]
fn a_working_path_is_upgraded_every_minute() {
    let mut bench = Bench::new(&[DIRECT, OTHER]).answers_at(DIRECT, 50);
    bench.path.note_send(bench.now);
    bench.run(secs(50.0), true);
    assert_eq!(bench.pings_to(OTHER), 1);
    bench.alive.push((addr(OTHER), Duration::from_millis(20)));
    bench.run(secs(15.0), true);
    assert_eq!(bench.route(), (Some(addr(OTHER)), None));
}

#[test]
fn a_good_enough_path_looks_for_nothing_better() {
    let mut bench = Bench::new(&[DIRECT, OTHER]).answers_at(DIRECT, 0);
    bench.path.note_send(bench.now);
    bench.run(secs(180.0), true);
    assert_eq!(bench.pings_to(OTHER), 1);
}

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
fn a_stale_endpoint_list_is_renewed_before_the_call() {
    let mut bench = Bench::new(&[DIRECT]);
    bench.run(secs(60.0), false);
    bench.path.note_send(bench.now);
    bench.run(secs(1.0), false);
    assert_eq!(bench.events(), [PathEvent::StaleEndpoints]);
    assert_eq!((bench.pings_to(DIRECT), bench.calls()), (1, 0));
    let fresh: Arc<[SocketAddr]> = Arc::from([addr("198.51.100.9:7")]);
    bench.path.handle_own_endpoints(fresh.clone(), bench.now);
    bench.drain();
    let call = Message::CallMeMaybe {
        endpoints: fresh.to_vec(),
    };
    assert_eq!(
        bench.sent.last().map(|(_, hop, message)| (*hop, message.clone())),
        Some((Hop::Derp(HOME), call))
    );
    bench.run(secs(100.0), false);
    let before = bench.calls();
    bench.path.note_send(bench.now);
    bench.run(secs(2.9), false);
    assert_eq!(bench.calls(), before);
    bench.run(secs(0.2), false);
    assert_eq!(bench.calls(), before + 1, "without STUN the old list has to do");
}

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

#[test]
fn better_is_faster_nearer_and_not_a_trifle() {
    let quality = |at: &str, ms| Quality::new(addr(at), Some(Duration::from_micros(ms)));
    let better = |a: &Quality, b: &Quality| (a.is_better_than(b), b.is_better_than(a));
    assert_eq!(better(&quality(DIRECT, 10_000), &quality(OTHER, 20_000)), (true, false));
    assert_eq!(
        better(&quality(DIRECT, 10_000), &quality(OTHER, 10_050)),
        (false, false),
        "1 %"
    );
    assert_eq!(
        better(&quality("10.0.0.1:1", 11_000), &quality(OTHER, 10_000)),
        (true, false),
        "private"
    );
    assert_eq!(
        better(&quality("127.0.0.1:1", 15_000), &quality("10.0.0.1:1", 11_000)),
        (true, false),
        "loopback"
    );
    assert_eq!(
        better(&quality("169.254.0.1:1", 10_000), &quality("10.0.0.1:1", 10_000)),
        (true, false),
        "link-local"
    );
    assert_eq!(
        better(&quality("[2001:db8::1]:1", 10_500), &quality(OTHER, 10_000)),
        (true, false),
        "IPv6"
    );
    assert_eq!(better(&quality(DIRECT, 0), &quality(OTHER, 0)), (false, false));
}

/// What a peer, the network or the application may do to a path.
#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Send,
    Ask,
    Ping(Hop),
    /// A pong for the n-th message that was sent, if that was a ping.
    Pong(proptest::sample::Index, Hop),
    Call(Vec<SocketAddr>),
    Data(Hop),
    Refused(SocketAddr),
    Gone(u32),
    Netmap(Option<u8>, Vec<SocketAddr>, Option<u32>),
    Own,
}

fn any_addr() -> impl Strategy<Value = SocketAddr> {
    (0..6u8, 1..40u16).prop_map(|(host, port)| SocketAddr::from(([192, 0, 2, host], port)))
}

fn any_hop() -> impl Strategy<Value = Hop> {
    prop_oneof![any_addr().prop_map(Hop::Udp), (1..4u32).prop_map(Hop::Derp)]
}

fn any_step() -> impl Strategy<Value = Step> {
    let addrs = || proptest::collection::vec(any_addr(), 0..30);
    prop_oneof![
        4 => (0..9_000u64).prop_map(Step::Pass),
        4 => Just(Step::Send),
        1 => Just(Step::Ask),
        2 => any_hop().prop_map(Step::Ping),
        6 => (any::<proptest::sample::Index>(), any_hop()).prop_map(|(index, hop)| Step::Pong(index, hop)),
        1 => addrs().prop_map(Step::Call),
        2 => any_hop().prop_map(Step::Data),
        1 => any_addr().prop_map(Step::Refused),
        1 => (1..4u32).prop_map(Step::Gone),
        1 => (proptest::option::of(1..3u8), addrs(), proptest::option::of(1..4u32))
            .prop_map(|(disco, addrs, home)| Step::Netmap(disco, addrs, home)),
        1 => Just(Step::Own),
    ]
}

impl Bench {
    fn step(&mut self, step: Step) {
        let (path, now) = (&mut self.path, self.now);
        match step {
            Step::Pass(ms) => self.now += Duration::from_millis(ms),
            Step::Send => path.note_send(now),
            Step::Ask => path.ping(now),
            Step::Ping(from) => {
                let tx_id = TxId([self.sent.len() as u8; 12]);
                let ping = Message::Ping {
                    tx_id,
                    node_key: None,
                    padding: 0,
                };
                path.handle_disco(&ping, from, now);
            }
            Step::Pong(index, from) if !self.sent.is_empty() => {
                if let (_, _, Message::Ping { tx_id, .. }) = index.get(&self.sent) {
                    let source = addr("198.51.100.1:1");
                    path.handle_disco(&Message::Pong { tx_id: *tx_id, source }, from, now);
                }
            }
            Step::Pong(..) => {}
            Step::Call(endpoints) => path.handle_disco(&Message::CallMeMaybe { endpoints }, Hop::Derp(1), now),
            Step::Data(from) => path.handle_wireguard(from, now),
            Step::Refused(to) => path.handle_send_error(to, now),
            Step::Gone(region) => path.handle_peer_gone(region, GoneReason::NotHere, now),
            Step::Netmap(key, endpoints, home_derp) => {
                let disco = key.and_then(disco);
                let config = PathConfig {
                    disco,
                    endpoints,
                    home_derp,
                };
                path.handle_config(config, now);
            }
            Step::Own => path.handle_own_endpoints(Arc::from([addr("198.51.100.1:2")]), now),
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_path_stays_bounded_and_never_spins(steps in proptest::collection::vec(any_step(), 0..120)) {
        let mut bench = Bench::new(&[DIRECT]);
        for step in steps {
            bench.step(step);
            bench.path.handle_timeout(bench.now);
            let before = bench.sent.len();
            bench.drain();
            prop_assert!(bench.sent.len() - before <= MAX_OUTBOX);
            bench.path.handle_timeout(bench.now);
            prop_assert!(bench.path.poll_timeout().is_none_or(|at| at > bench.now), "a timer that is due for ever");
            let route = bench.path.route(bench.now);
            match bench.path.current(bench.now) {
                Some(Hop::Udp(at)) => prop_assert_eq!(route, Route { udp: Some(at), derp: None }),
                Some(Hop::Derp(region)) => prop_assert_eq!(route.derp, Some(region)),
                None => prop_assert_eq!(route.derp, None),
            }
        }
        // Without traffic everything falls asleep.
        bench.now += SESSION_ACTIVE + HEARTBEAT + PING_TIMEOUT;
        for _ in 0..5 {
            bench.path.handle_timeout(bench.now);
            bench.drain();
            bench.now += PING_TIMEOUT + HEARTBEAT;
        }
        bench.path.handle_timeout(bench.now);
        prop_assert_eq!(bench.path.poll_timeout(), None);
    }
}
