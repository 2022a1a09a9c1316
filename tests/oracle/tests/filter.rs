//! Holds the packet filter and the capability computation against Go's `wgengine/filter`.
//!
//! Policies, packets and questions come from a seeded generator that aims at edges. Every packet must be read alike and
//! judged alike. There is one place where we are stricter on purpose: an IPv4 header length below 20 bytes, and bytes
//! behind a packet's own length. On those we may drop what Go accepts, never the other way round.
//!
//! `FILTER_SEED=N` starts elsewhere, `FILTER_POLICIES=N` sets how many policies are made.

#![allow(clippy::expect_used, reason = "a test may stop where it stands")]

#[path = "filter/generate.rs"]
mod generate;

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    net::{IpAddr, SocketAddr},
    thread,
    time::Instant,
};

use countersign_oracle_tests::{Oracle, Unavailable};
use serde::Deserialize;
use tailnet_engine::filter::{Filter, UdpFlows, Verdict};
use tailnet_wire::{
    control::FilterRule,
    packet::{Fragment, IpProto, Packet},
};

use self::generate::{Datagram, Policy};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    error: String,
    packets: Option<Vec<GoPacket>>,
    flows: Option<Vec<bool>>,
    caps: Option<Vec<BTreeMap<String, Vec<String>>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoPacket {
    accept: bool,
    proto: u8,
    src: String,
    dst: String,
    flags: u8,
    echo: String,
}

/// What was compared, for the last line of the test.
#[derive(Debug, Default)]
struct Count {
    policies: u64,
    rules: u64,
    rules_with_bad_entries: u64,
    packets: u64,
    accepted: u64,
    malformed: u64,
    stricter: u64,
    flows: u64,
    flows_permitted: u64,
    caps: u64,
    caps_granted: u64,
}

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

#[test]
fn verdicts_and_capabilities_are_those_of_go() {
    let oracle = match Oracle::start("filter") {
        Ok(oracle) => oracle,
        Err(Unavailable::Declined) => {
            println!("COULD NOT RUN: COUNTERSIGN_NO_GO=1, the filter was not held against Go");
            return;
        }
        Err(Unavailable::Broken(why)) => panic!("the Go oracle for the packet filter is missing: {why}"),
    };
    let (first, policies) = (setting("FILTER_SEED", 1), setting("FILTER_POLICIES", 20_000));
    let seeds = first..first + policies;
    let started = Instant::now();

    let (questions, answers, mut child) = oracle.into_parts();
    let asked = seeds.clone();
    let writer = thread::spawn(move || {
        let mut out = BufWriter::new(questions);
        for seed in asked {
            serde_json::to_writer(&mut out, &Policy::generate(seed)).expect("a policy is JSON");
            out.write_all(b"\n").expect("the oracle reads its questions");
        }
        out.flush().expect("the oracle reads its questions");
    });

    let mut count = Count::default();
    let mut lines = BufReader::new(answers).lines();
    for seed in seeds {
        let line = lines
            .next()
            .expect("one answer per policy")
            .expect("the oracle answers");
        let answer: Answer = serde_json::from_str(&line).expect("the answer is JSON");
        compare(seed, &Policy::generate(seed), &answer, &mut count);
    }
    writer.join().expect("the writer ends");
    assert!(child.wait().expect("the oracle ends").success());

    println!("compared with Go in {:.1?}: {count:#?}", started.elapsed());
    if policies >= 20_000 {
        assert!(
            count.rules >= 100_000 && count.packets >= 100_000,
            "the run was too small"
        );
        assert!(
            count.accepted > count.packets / 5 && count.accepted < count.packets * 4 / 5,
            "the run was one-sided"
        );
    }
}

fn compare(seed: u64, policy: &Policy, answer: &Answer, count: &mut Count) {
    // Through JSON text, as a map message brings it.
    let text = serde_json::to_string(&policy.rules).expect("rules are JSON");
    let rules: Vec<FilterRule> = serde_json::from_str(&text).expect("rules are read");
    let filter = Filter::new(&rules, &policy.local);
    count.policies += 1;
    count.rules += rules.len() as u64;
    count.rules_with_bad_entries += u64::from(!answer.error.is_empty());

    let mut flows = UdpFlows::new();
    for (i, (ours, go)) in policy.packets.iter().zip(answer.packets.iter().flatten()).enumerate() {
        let at = format!("seed {seed}, packet {i}: {ours:?}, Go says {go:?}, rules {text}");
        compare_packet(policy, &filter, &mut flows, ours, go, &at, count);
    }
    for (flow, go) in policy.flows.iter().zip(answer.flows.iter().flatten()) {
        let node_cap = |name: &str| policy.has_cap(flow.src, name);
        let permitted = filter.permits(IpProto(flow.proto), flow.src, flow.dst, &node_cap);
        assert_eq!(permitted, *go, "seed {seed}: {flow:?}, Go says {go}, rules {text}");
        count.flows += 1;
        count.flows_permitted += u64::from(permitted);
    }
    for ((src, dst), go) in policy.caps.iter().zip(answer.caps.iter().flatten()) {
        let caps = filter.caps(*src, *dst);
        let values = |name: &str| {
            caps.values(name)
                .map(|value| value.get().to_owned())
                .collect::<Vec<_>>()
        };
        let ours: BTreeMap<String, Vec<String>> = caps.names().map(|name| (name.to_owned(), values(name))).collect();
        assert_eq!(ours, *go, "seed {seed}: capabilities of {src} at {dst}, rules {text}");
        count.caps += 1;
        count.caps_granted += u64::from(!ours.is_empty());
    }
    let answered = |n: usize, of: usize| assert_eq!(n, of, "seed {seed}: Go left a question without answer");
    answered(answer.packets.as_ref().map_or(0, Vec::len), policy.packets.len());
    answered(answer.flows.as_ref().map_or(0, Vec::len), policy.flows.len());
    answered(answer.caps.as_ref().map_or(0, Vec::len), policy.caps.len());
}

fn compare_packet(
    policy: &Policy,
    filter: &Filter,
    flows: &mut UdpFlows,
    datagram: &Datagram,
    go: &GoPacket,
    at: &str,
    count: &mut Count,
) {
    let parsed = Packet::parse(&datagram.bytes);
    let accepted = match &parsed {
        Err(_) => false,
        Ok(packet) if datagram.out => {
            let node_cap = |name: &str| policy.has_cap(packet.dst.ip(), name);
            filter.note_out(packet, &node_cap, flows) == Verdict::Accept
        }
        Ok(packet) => {
            let node_cap = |name: &str| policy.has_cap(packet.src.ip(), name);
            filter.check_in(packet, &node_cap, flows) == Verdict::Accept
        }
    };
    count.packets += 1;
    count.accepted += u64::from(accepted);
    count.malformed += u64::from(parsed.is_err());

    if datagram.stricter && !accepted {
        count.stricter += u64::from(go.accept);
        return;
    }
    assert_eq!(accepted, go.accept, "{at}");
    match parsed {
        _ if datagram.stricter => {}
        Ok(packet) => compare_reading(&packet, go, at),
        Err(error) => assert_eq!(go.proto, 0, "Go can read what we cannot ({error}): {at}"),
    }
}

/// Both readers must see the same addresses, ports and flags.
fn compare_reading(packet: &Packet, go: &GoPacket, at: &str) {
    if packet.fragment == Fragment::Later {
        assert_eq!(go.proto, 255, "{at}");
        return;
    }
    let address = |text: &str| text.parse::<SocketAddr>().expect("Go writes addresses");
    let proto = packet.proto;
    assert_eq!((proto, packet.tcp_flags), (IpProto(go.proto), go.flags), "{at}");
    assert_eq!((packet.src, packet.dst), (address(&go.src), address(&go.dst)), "{at}");
    let echo = match () {
        () if packet.is_echo_request() => "request",
        () if packet.is_echo_reply() => "reply",
        () if packet.is_icmp_error() => "error",
        () => "",
    };
    assert_eq!(echo, go.echo, "{at}");
}

#[test]
fn the_generator_is_a_function_of_its_seed() {
    let text = |seed| serde_json::to_string(&Policy::generate(seed)).expect("a policy is JSON");
    assert_eq!(text(7), text(7));
    assert_ne!(text(7), text(8));
    let local = Policy::generate(7).local;
    assert!(local.iter().any(IpAddr::is_ipv4) && local.iter().any(IpAddr::is_ipv6));
}
