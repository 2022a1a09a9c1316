use proptest::prelude::*;
use tailnet_wire::{
    control::{NetPortRange, PortRange},
    packet::{Addresses, build},
};

use super::*;

const US: &str = "100.64.0.1";
const US6: &str = "fd7a:115c:a1e0::1";
const ALICE: &str = "100.64.0.2";
const ALICE6: &str = "fd7a:115c:a1e0::2";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn rule(srcs: &[&str], dsts: &[(&str, u16, u16)], protos: &[i64]) -> FilterRule {
    FilterRule {
        src_ips: srcs.iter().map(|src| (*src).into()).collect(),
        dst_ports: dsts
            .iter()
            .map(|(dst, first, last)| NetPortRange {
                ip: (*dst).into(),
                bits: None,
                ports: PortRange {
                    first: *first,
                    last: *last,
                },
            })
            .collect(),
        ip_proto: protos.to_vec(),
        ..FilterRule::default()
    }
}

fn filter(rules: &[FilterRule]) -> Filter {
    Filter::new(rules, &[ip(US), ip(US6)])
}

fn datagram(src: &str, dst: &str, proto: IpProto, ports: (u16, u16), flags: u8) -> Packet {
    let mut body = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    body.resize(20, 0);
    body[13] = flags;
    let bytes = build::ip(&Addresses::new(ip(src), ip(dst)).unwrap(), proto, &body);
    Packet::parse(&bytes).unwrap()
}

fn syn(src: &str, dst: &str, port: u16) -> Packet {
    datagram(src, dst, IpProto::TCP, (40000, port), 0x02)
}

fn judge(filter: &Filter, packet: &Packet) -> Verdict {
    filter.check_in(packet, &|_| false, &mut UdpFlows::new())
}

const NO_RULE: Verdict = Verdict::Drop(Reason::NoRule);

#[test]
fn a_syn_needs_source_destination_and_port() {
    let filter = filter(&[rule(&[ALICE, ALICE6], &[(US, 443, 443), (US6, 80, 90)], &[6])]);
    assert_eq!(judge(&filter, &syn(ALICE, US, 443)), Verdict::Accept);
    assert_eq!(judge(&filter, &syn(ALICE, US, 442)), NO_RULE);
    assert_eq!(judge(&filter, &syn("100.64.0.3", US, 443)), NO_RULE);
    assert_eq!(judge(&filter, &syn(ALICE6, US6, 90)), Verdict::Accept);
    assert_eq!(judge(&filter, &syn(ALICE6, US6, 91)), NO_RULE);
    assert_eq!(judge(&filter, &datagram(ALICE, US, IpProto::UDP, (1, 443), 0)), NO_RULE);
}

#[test]
fn segments_of_a_connection_pass_without_a_rule() {
    let filter = filter(&[]);
    assert_eq!(
        judge(&filter, &datagram(ALICE, US, IpProto::TCP, (1, 2), 0x12)),
        Verdict::Accept
    );
    assert_eq!(
        judge(&filter, &datagram(ALICE, US, IpProto::TCP, (1, 2), 0x10)),
        Verdict::Accept
    );
    let elsewhere = datagram(ALICE, "100.64.0.9", IpProto::TCP, (1, 2), 0x10);
    assert_eq!(judge(&filter, &elsewhere), Verdict::Drop(Reason::NotLocal));
}

#[test]
fn destinations_that_no_unicast_has_are_dropped_first() {
    let filter = Filter::new(
        &[rule(&["*"], &[("*", 0, 65535)], &[])],
        &[ip("224.0.0.1"), ip("fe80::1")],
    );
    assert_eq!(
        judge(&filter, &syn(ALICE, "224.0.0.1", 1)),
        Verdict::Drop(Reason::Multicast)
    );
    assert_eq!(
        judge(&filter, &syn(ALICE6, "ff02::1", 1)),
        Verdict::Drop(Reason::Multicast)
    );
    assert_eq!(
        judge(&filter, &syn(ALICE6, "fe80::1", 1)),
        Verdict::Drop(Reason::LinkLocal)
    );
    assert_eq!(
        judge(&filter, &syn(ALICE, "169.254.1.1", 1)),
        Verdict::Drop(Reason::LinkLocal)
    );
    assert_eq!(
        judge(&filter, &syn(ALICE, "169.254.169.254", 1)),
        Verdict::Drop(Reason::NotLocal)
    );
    assert_eq!(
        judge(&filter, &syn(ALICE6, "::ffff:224.0.0.1", 1)),
        Verdict::Drop(Reason::Multicast)
    );
}

#[test]
fn icmp_asks_for_addresses_only() {
    let one_port = filter(&[rule(&[ALICE], &[(US, 443, 443)], &[6])]);
    let addresses = Addresses::new(ip(ALICE), ip(US)).unwrap();
    let request = build::echo_request(&addresses, 1, 1, b"");
    let parsed = Packet::parse(&request).unwrap();
    assert_eq!(judge(&one_port, &parsed), Verdict::Accept);
    assert_eq!(judge(&filter(&[]), &parsed), NO_RULE);

    let mut back = build::echo_reply(&parsed, &request).unwrap();
    back[12..16].copy_from_slice(&[100, 64, 0, 2]);
    back[16..20].copy_from_slice(&[100, 64, 0, 1]);
    assert_eq!(judge(&filter(&[]), &Packet::parse(&back).unwrap()), Verdict::Accept);
}

#[test]
fn a_node_capability_stands_for_its_nodes() {
    let filter = filter(&[rule(&["cap:example.com/admin"], &[(US, 22, 22)], &[])]);
    let mut flows = UdpFlows::new();
    let admin = |name: &str| name == "example.com/admin";
    assert_eq!(
        filter.check_in(&syn(ALICE, US, 22), &admin, &mut flows),
        Verdict::Accept
    );
    assert_eq!(filter.check_in(&syn(ALICE, US, 23), &admin, &mut flows), NO_RULE);
    assert_eq!(filter.check_in(&syn(ALICE, US, 22), &|_| false, &mut flows), NO_RULE);
    assert!(filter.permits(IpProto::TCP, ip(ALICE), SocketAddr::new(ip(US), 22), &admin));
}

#[test]
fn other_protocols_need_to_be_named_with_all_ports() {
    let gre = IpProto(47);
    let all = filter(&[rule(&[ALICE], &[(US, 0, 65535)], &[47])]);
    let some = filter(&[rule(&[ALICE], &[(US, 0, 65534)], &[47])]);
    let unnamed = filter(&[rule(&[ALICE], &[(US, 0, 65535)], &[])]);
    let packet = datagram(ALICE, US, gre, (0, 0), 0);
    assert_eq!(judge(&all, &packet), Verdict::Accept);
    assert_eq!(judge(&some, &packet), NO_RULE);
    assert_eq!(judge(&unnamed, &packet), NO_RULE);
    assert_eq!(
        judge(&filter(&[]), &datagram(ALICE, US, IpProto::TSMP, (0, 0), 0)),
        Verdict::Accept
    );
}

#[test]
fn answers_to_our_datagrams_come_in_until_512_others_went_out() {
    let filter = filter(&[]);
    let mut flows = UdpFlows::new();
    let answer = datagram(ALICE, US, IpProto::UDP, (53, 5000), 0);
    assert_eq!(filter.check_in(&answer, &|_| false, &mut flows), NO_RULE);
    filter.note_out(
        &datagram(US, ALICE, IpProto::UDP, (5000, 53), 0),
        &|_| false,
        &mut flows,
    );
    assert_eq!(filter.check_in(&answer, &|_| false, &mut flows), Verdict::Accept);

    for port in 0..511 {
        filter.note_out(
            &datagram(US, ALICE, IpProto::UDP, (port, 53), 0),
            &|_| false,
            &mut flows,
        );
    }
    assert_eq!(filter.check_in(&answer, &|_| false, &mut flows), Verdict::Accept);
    for port in 0..512 {
        filter.note_out(
            &datagram(US, ALICE, IpProto::UDP, (port, 54), 0),
            &|_| false,
            &mut flows,
        );
    }
    assert_eq!(flows.len(), 512);
    assert_eq!(filter.check_in(&answer, &|_| false, &mut flows), NO_RULE);
    flows.retain(|flow| flow.remote.port() != 54);
    assert!(flows.is_empty());
}

#[test]
fn an_answer_of_ours_is_known_as_the_peers_flow() {
    let open = filter(&[rule(&[ALICE], &[(US, 53, 53)], &[17])]);
    let mut flows = UdpFlows::new();
    open.note_out(
        &datagram(US, ALICE, IpProto::UDP, (53, 5000), 0),
        &|_| false,
        &mut flows,
    );
    open.note_out(
        &datagram(US, ALICE, IpProto::UDP, (40000, 53), 0),
        &|_| false,
        &mut flows,
    );
    let mut seen = Vec::new();
    flows.retain(|flow| {
        seen.push((flow.ours.port(), flow.by_peer));
        !flow.by_peer
    });
    seen.sort_unstable();
    assert_eq!(seen, [(53, true), (40000, false)]);

    let closed = filter(&[]);
    let again = datagram(ALICE, US, IpProto::UDP, (5000, 53), 0);
    assert_eq!(closed.check_in(&again, &|_| false, &mut flows), NO_RULE);
    let answer = datagram(ALICE, US, IpProto::UDP, (53, 40000), 0);
    assert_eq!(closed.check_in(&answer, &|_| false, &mut flows), Verdict::Accept);
}

#[test]
fn a_bad_entry_is_left_out_and_a_legacy_rule_voids_all() {
    let bad = ["100.64.0.2/10", "100.64.0.9-100.64.0.8", "x", "", "fe80::1%", ALICE];
    let rules = [rule(&bad, &[("cap:x", 0, 9), (US, 443, 443)], &[6, 300, -1])];
    assert_eq!(judge(&filter(&rules), &syn(ALICE, US, 443)), Verdict::Accept);
    assert_eq!(judge(&filter(&rules), &syn("100.64.0.9", US, 443)), NO_RULE);

    let mut legacy = rule(&[ALICE], &[(US, 443, 443)], &[]);
    legacy.src_bits = vec![32];
    let rules = [rule(&[ALICE], &[(US, 443, 443)], &[]), legacy];
    assert_eq!(judge(&filter(&rules), &syn(ALICE, US, 443)), NO_RULE);
}

#[test]
fn jailed_peers_answer_but_never_open() {
    let jailed = Filter::jailed(&[ip(US)]);
    assert_eq!(judge(&jailed, &syn(ALICE, US, 443)), NO_RULE);
    assert_eq!(
        judge(&jailed, &datagram(ALICE, US, IpProto::TCP, (1, 2), 0x12)),
        Verdict::Accept
    );
    let nothing = judge(&Filter::deny_all(), &datagram(ALICE, US, IpProto::TCP, (1, 2), 0x12));
    assert_eq!(nothing, Verdict::Drop(Reason::NotLocal));
}

#[test]
fn entries_are_read_as_go_reads_them() {
    let range = |first, last| Some(Entry::Range(ip(first), ip(last)));
    assert_eq!(Entry::parse("10.0.0.0/8"), range("10.0.0.0", "10.255.255.255"));
    assert_eq!(Entry::parse("10.0.0.1-10.0.0.9"), range("10.0.0.1", "10.0.0.9"));
    assert_eq!(Entry::parse("fe80::1%eth0"), range("fe80::1", "fe80::1"));
    assert_eq!(Entry::parse("fe80::1%a-b-c"), range("fe80::1", "fe80::1"));
    assert_eq!(
        Entry::parse("::/0"),
        range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
    );
    for bad in [
        "10.0.0.0/08",
        "10.0.0.0/+8",
        "10.0.0.0/33",
        "fe80::%e/64",
        "1.2.3.4-::1",
        "1.2.3",
        "1.2.3.4%x",
        "/",
    ] {
        assert_eq!(Entry::parse(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn a_range_set_contains_what_its_ranges_contain(
        ranges in proptest::collection::vec((0u8..60, 0u8..60), 0..12),
        probe in 0u8..64,
    ) {
        let v4 = |last: u8| IpAddr::from([10, 0, 0, last]);
        let entries: Vec<Entry> =
            ranges.iter().map(|(a, b)| Entry::Range(v4(*a.min(b)), v4(*a.max(b)))).collect();
        let expected = ranges.iter().any(|(a, b)| (*a.min(b)..=*a.max(b)).contains(&probe));
        prop_assert_eq!(AddressSet::new(&entries).contains(v4(probe)), expected);
    }

    #[test]
    fn no_entry_text_panics(text in "[0-9a-f:./%*cap-]{0,24}") {
        let _ = Entry::parse(&text);
    }
}
