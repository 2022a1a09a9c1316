//! Whatever happens, in whatever order.

use proptest::prelude::*;

use super::*;

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
