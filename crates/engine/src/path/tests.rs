use rand::{SeedableRng, rngs::SmallRng};

use super::*;

mod any;
mod changes;
mod messages;

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
