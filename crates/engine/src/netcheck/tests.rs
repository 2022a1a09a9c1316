use std::sync::Arc;

use rand::{SeedableRng, rngs::SmallRng};
use tailnet_wire::control::{DerpHomeParams, DerpMap, DerpNode, DerpRegion, endpoint_type};

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn target(region: u32, addr: &str) -> StunTarget {
    StunTarget {
        region,
        addr: addr.parse().unwrap(),
    }
}

fn map(regions: &[u32]) -> DerpMap {
    let region = |number: &u32| {
        let node = DerpNode {
            host_name: format!("derp{number}.example"),
            ipv4: format!("192.0.2.{number}"),
            ..DerpNode::default()
        };
        let entry = DerpRegion {
            region_id: *number,
            nodes: vec![node],
            ..DerpRegion::default()
        };
        (*number, Arc::new(entry))
    };
    DerpMap {
        regions: regions.iter().map(region).collect(),
        ..DerpMap::default()
    }
}

fn report(latencies: &[(u32, u64)]) -> Report {
    let mut report = Report::default();
    for (region, latency) in latencies {
        report.note(
            target(*region, "192.0.2.1:3478"),
            ms(*latency),
            "203.0.113.1:41641".parse().unwrap(),
        );
    }
    report
}

/// Runs a round in which each server answers after its time, or never, and says how long the round took.
fn run(targets: &[(StunTarget, Option<u64>, &str)]) -> (Report, Duration, usize) {
    let begin = Instant::now();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut check = Netcheck::default();
    check.start(&targets.iter().map(|(target, ..)| *target).collect::<Vec<_>>(), begin);
    let mut answers: Vec<(Instant, Vec<u8>)> = Vec::new();
    let mut sent = 0;
    let mut now = begin;
    loop {
        while let Some((to, request)) = check.poll_transmit(now, &mut rng) {
            sent += 1;
            let (_, delay, mapped) = targets.iter().find(|(target, ..)| target.addr == to).unwrap();
            if let Some(delay) = delay {
                let tx_id = stun::parse_request(&request).unwrap();
                answers.push((now + ms(*delay), stun::response(tx_id, mapped.parse().unwrap())));
            }
        }
        if let Some(report) = check.poll_report(now) {
            assert!(!check.is_running());
            return (report, now - begin, sent);
        }
        assert!(check.poll_timeout().unwrap() > now);
        now += ms(1);
        for (_, answer) in answers.extract_if(.., |(at, _)| *at <= now) {
            check.handle_datagram(&answer, now);
        }
    }
}

#[test]
fn a_round_ends_when_everybody_has_answered() {
    let (report, took, sent) = run(&[
        (target(1, "192.0.2.1:3478"), Some(20), "203.0.113.1:7"),
        (target(2, "192.0.2.2:3478"), Some(40), "203.0.113.1:7"),
        (target(2, "[2001:db8::2]:3478"), Some(30), "[2001:db8::9]:7"),
    ]);
    assert_eq!((took, sent), (ms(40), 3));
    assert_eq!(report.latencies(), [(1, ms(20)), (2, ms(30))].into());
    assert_eq!(report.mapping_varies(), Some(false));
    let info = report.net_info(Some(1), true);
    assert_eq!(
        (info.preferred_derp, info.working_udp, info.working_ipv6),
        (1, Some(true), Some(true))
    );
    assert_eq!(info.derp_latency.keys().collect::<Vec<_>>(), ["1-v4", "2-v4", "2-v6"]);
}

#[test]
fn silence_is_asked_three_times_and_ends_after_the_budget() {
    let (report, took, sent) = run(&[(target(1, "192.0.2.1:3478"), None, "")]);
    assert_eq!((took, sent), (BUDGET, 3));
    assert_eq!(report, Report::default());
    assert_eq!(report.net_info(None, false).working_udp, Some(false));
}

#[test]
fn slow_families_and_regions_are_not_waited_for() {
    let (report, took, _) = run(&[
        (target(1, "192.0.2.1:3478"), Some(10), "203.0.113.1:7"),
        (target(1, "[2001:db8::1]:3478"), None, ""),
    ]);
    assert_eq!(took, ms(60), "answer and grace");
    assert_eq!(report.net_info(Some(1), true).working_ipv6, Some(false));
    let (_, took, _) = run(&[
        (target(1, "192.0.2.1:3478"), Some(10), "203.0.113.1:7"),
        (target(2, "192.0.2.2:3478"), Some(40), "203.0.113.1:7"),
        (target(3, "192.0.2.3:3478"), Some(50), "203.0.113.1:7"),
        (target(4, "192.0.2.4:3478"), None, ""),
    ]);
    assert_eq!(took, ms(150), "three regions, and twice the slowest of them");
}

#[test]
fn what_cannot_be_sent_is_not_waited_for() {
    let now = Instant::now();
    let mut rng = SmallRng::seed_from_u64(1);
    let mut check = Netcheck::default();
    check.start(&[target(1, "[2001:db8::1]:3478"), target(1, "[2001:db8::2]:3478")], now);
    let mut to = now;
    while check.is_running() {
        while let Some((addr, _)) = check.poll_transmit(to, &mut rng) {
            check.handle_unreachable(addr);
        }
        let report = check.poll_report(to);
        to += ms(1);
        assert!(report.is_none_or(|report| !report.works()));
    }
    assert!(to - now < ms(250));
}

#[test]
fn strange_datagrams_change_nothing() {
    let now = Instant::now();
    let mut check = Netcheck::default();
    let stray = stun::response(TxId([1; 12]), "203.0.113.1:7".parse().unwrap());
    assert!(!check.handle_datagram(&stray, now));
    check.start(&[target(1, "192.0.2.1:3478")], now);
    assert!(!check.handle_datagram(&stray, now));
    assert!(!check.handle_datagram(b"\x00\x01", now));
}

#[test]
fn a_hard_nat_is_noticed_and_only_useful_addresses_are_announced() {
    let (report, ..) = run(&[
        (target(1, "192.0.2.1:3478"), Some(1), "203.0.113.1:1001"),
        (target(2, "192.0.2.2:3478"), Some(2), "203.0.113.1:1002"),
    ]);
    assert_eq!(report.mapping_varies(), Some(true));
    let list = own_endpoints(&report, &SeenAddresses::default(), &[], 41641);
    let expected = [
        ("203.0.113.1:1001", endpoint_type::STUN),
        ("203.0.113.1:41641", endpoint_type::STUN_LOCAL_PORT),
    ];
    assert_eq!(list, expected.map(|(addr, kind)| (addr.parse().unwrap(), kind)));
}

#[test]
fn interfaces_follow_and_loopback_is_the_last_resort() {
    let interface = |name: &str, ip: &str| Interface {
        name: name.into(),
        ip: ip.parse().unwrap(),
    };
    let lo = interface("lo", "127.0.0.1");
    let all = [
        lo.clone(),
        interface("eth0", "10.0.0.5"),
        interface("eth0", "fe80::1"),
        interface("eth0", "2001:db8::5"),
        interface("tailscale0", "100.64.0.7"),
        interface("tailscale0", "fd7a:115c:a1e0::7"),
        interface("wwan0", "100.64.0.8"),
    ];
    let none = (Report::default(), SeenAddresses::default());
    let list = own_endpoints(&none.0, &none.1, &all, 7);
    let expected = ["10.0.0.5:7", "[2001:db8::5]:7", "100.64.0.8:7"];
    assert_eq!(list, expected.map(|addr| (addr.parse().unwrap(), endpoint_type::LOCAL)));
    let alone = own_endpoints(&none.0, &none.1, &[lo], 7);
    assert_eq!(alone, [("127.0.0.1:7".parse().unwrap(), endpoint_type::LOCAL)]);
}

#[test]
fn addresses_seen_by_stun_stay_a_while_and_are_bounded() {
    let mut now = Instant::now();
    let mut seen = SeenAddresses::default();
    for port in 1..=100u16 {
        let mut report = Report::default();
        report.note(
            target(1, "192.0.2.1:3478"),
            ms(1),
            SocketAddr::from(([203, 0, 113, 1], port)),
        );
        seen.note(&report, now);
    }
    let list = own_endpoints(&Report::default(), &seen, &[], 7);
    let ports: Vec<_> = list.iter().map(|(addr, _)| addr.port()).collect();
    assert_eq!(ports, [100, 99, 98, 97, 96, 95]);
    now += Duration::from_secs(311);
    seen.note(&Report::default(), now);
    assert!(own_endpoints(&Report::default(), &seen, &[], 7).is_empty());
}

#[test]
fn home_is_the_nearest_and_moves_only_for_a_real_gain() {
    let map = map(&[1, 2]);
    let mut now = Instant::now();
    let mut home = HomeChoice::default();
    let mut choose = |latencies: &[(u32, u64)], alive| {
        now += Duration::from_secs(400);
        home.choose(&report(latencies), &map, alive, now)
    };
    assert_eq!(choose(&[(1, 30), (2, 50)], false), Some(1));
    assert_eq!(choose(&[(1, 30), (2, 25)], false), Some(1), "below 10 ms");
    assert_eq!(choose(&[(1, 100), (2, 80)], false), Some(1), "more than two thirds");
    assert_eq!(choose(&[(2, 80)], true), Some(1), "silent to STUN, but alive");
    assert_eq!(choose(&[(1, 100), (2, 20)], true), Some(2));
    assert_eq!(choose(&[(1, 100)], false), Some(1), "home is gone");
    assert_eq!(choose(&[], false), Some(1), "no answer at all");
}

#[test]
fn one_slow_answer_does_not_move_home() {
    let map = map(&[1, 2]);
    let now = Instant::now();
    let mut home = HomeChoice::default();
    home.choose(&report(&[(1, 10), (2, 30)]), &map, true, now);
    assert_eq!(
        home.choose(&report(&[(1, 200), (2, 30)]), &map, true, now + ms(20_000)),
        Some(1)
    );
}

#[test]
fn scores_and_refusals_of_control_count() {
    let mut scored = map(&[1, 2]);
    scored.home_params = Some(DerpHomeParams {
        region_score: [(2, 0.1)].into(),
    });
    let now = Instant::now();
    let latencies = report(&[(1, 30), (2, 50)]);
    assert_eq!(HomeChoice::default().choose(&latencies, &scored, false, now), Some(2));
    let mut avoided = map(&[1, 2]);
    if let Some(region) = avoided.regions.get_mut(&1) {
        Arc::make_mut(region).avoid = true;
    }
    assert_eq!(HomeChoice::default().choose(&latencies, &avoided, false, now), Some(2));
}

#[test]
fn without_answers_home_is_fixed_by_the_seed() {
    let map = map(&[3, 5, 9]);
    let now = Instant::now();
    for (seed, region) in [(0, 3), (1, 5), (2, 9), (4, 5)] {
        assert_eq!(
            HomeChoice::new(seed).choose(&Report::default(), &map, false, now),
            Some(region)
        );
    }
    assert_eq!(
        HomeChoice::new(1).choose(&Report::default(), &DerpMap::default(), false, now),
        None
    );
}

#[test]
fn servers_are_those_of_the_map_and_a_short_round_asks_the_near_ones() {
    let mut all = map(&[1, 2, 3, 4, 5]);
    let edit = |map: &mut DerpMap, number, change: fn(&mut DerpRegion)| {
        change(Arc::make_mut(map.regions.get_mut(&number).unwrap()));
    };
    let regions = |servers: Vec<StunServer>| servers.iter().map(|server| server.region).collect::<Vec<_>>();
    let known = [(1, ms(50)), (2, ms(10)), (3, ms(20)), (4, ms(30)), (5, ms(90))].into();
    assert_eq!(regions(stun_servers(&all, Some(5), Some(&known))), [2, 3, 4, 5]);
    assert_eq!(
        regions(stun_servers(&all, Some(5), Some(&BTreeMap::new()))),
        [1, 2, 3, 4, 5]
    );
    edit(&mut all, 2, |region| region.no_measure_no_home = true);
    edit(&mut all, 3, |region| region.nodes[0].stun_port = -1);
    edit(&mut all, 4, |region| region.avoid = true);
    edit(&mut all, 5, |region| region.nodes[0].ipv4 = String::new());
    let servers = stun_servers(&all, None, None);
    assert_eq!(regions(servers.clone()), [1, 5]);
    assert_eq!(servers[0].addrs, ["192.0.2.1:3478".parse().unwrap()]);
    assert_eq!(servers[1].name, Some(("derp5.example".into(), 3478)));
    assert!(servers[1].ipv4 && servers[1].ipv6);
}
