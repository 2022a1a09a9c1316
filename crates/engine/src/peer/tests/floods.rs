//! Peers that mean harm: what they cost stays inside the budget, and nothing they send panics.

use proptest::prelude::*;
use tailnet_wire::packet::{Addresses, IpProto, build, checksum};

use super::pair::*;
use crate::{netstack::Limits, peer::*};

/// A bare SYN from end 0 to end 1.
fn syn(from: u16, to: u16) -> Vec<u8> {
    let (std::net::IpAddr::V4(src), std::net::IpAddr::V4(dst)) = (ip(0, 4), ip(1, 4)) else {
        unreachable!();
    };
    let addresses = Addresses::V4(src, dst);
    let mut body = Vec::new();
    body.extend_from_slice(&from.to_be_bytes());
    body.extend_from_slice(&to.to_be_bytes());
    body.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = checksum::pseudo_header(&addresses, IpProto::TCP, body.len()).with(&body);
    body[16..18].copy_from_slice(&sum.finish().to_be_bytes());
    build::ip(&addresses, IpProto::TCP, &body)
}

#[test]
fn a_syn_flood_stays_inside_its_caps() {
    let mut pair = Pair::new(Link::PERFECT);
    pair.connect(4);
    for port in 1..=10_000 {
        pair.inject(0, &syn(port, PORT));
        if port % 500 == 0 {
            pair.turn();
        }
    }
    let end = &pair.ends[1];
    assert_eq!(end.peer.connections(), 1 + Limits::default().half_open);
    assert!(end.memory.used() <= 32 << 20);
    assert_eq!(
        end.peer.counters().tcp.half_open_refused as usize,
        10_000 - Limits::default().half_open
    );
    pair.run(Duration::from_secs(12));
    assert_eq!(pair.ends[1].peer.connections(), 1, "half-open connections are given up");
}

/// A segment from end 0 to end 1 with a window scale on the SYN.
fn segment(from: u16, sequence: u32, acknowledge: u32, flags: u8, data: &[u8]) -> Vec<u8> {
    let (std::net::IpAddr::V4(src), std::net::IpAddr::V4(dst)) = (ip(0, 4), ip(1, 4)) else {
        unreachable!();
    };
    let addresses = Addresses::V4(src, dst);
    let options: &[u8] = if flags & 2 != 0 { &[3, 3, 7, 1] } else { &[] };
    let mut body = Vec::new();
    body.extend_from_slice(&from.to_be_bytes());
    body.extend_from_slice(&PORT.to_be_bytes());
    body.extend_from_slice(&sequence.to_be_bytes());
    body.extend_from_slice(&acknowledge.to_be_bytes());
    body.extend_from_slice(&[(5 + options.len() as u8 / 4) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    body.extend_from_slice(options);
    body.extend_from_slice(data);
    let sum = checksum::pseudo_header(&addresses, IpProto::TCP, body.len()).with(&body);
    body[16..18].copy_from_slice(&sum.finish().to_be_bytes());
    build::ip(&addresses, IpProto::TCP, &body)
}

#[test]
fn more_data_than_the_buffer_holds_before_our_first_ack() {
    let mut pair = Pair::new(Link::PERFECT);
    pair.connect(4);
    pair.inject(0, &segment(7777, 1000, 0, 2, &[]));
    let answer = pair.plain_segment(1);
    let sequence = u32::from_be_bytes(answer[24..28].try_into().unwrap());
    // One burst, all of it before the next egress pass.
    for n in 0..600u32 {
        let data = segment(7777, 1001 + n * 1200, sequence.wrapping_add(1), 0x10, &[1; 1200]);
        pair.inject(0, &data);
    }
    pair.run(Duration::from_secs(1));
    assert_eq!(
        pair.ends[1].peer.connections(),
        2,
        "it was taken, as far as there is room"
    );
}

#[test]
fn open_connections_stay_inside_the_budget_and_others_keep_a_share() {
    let limits = Limits {
        open: 5000,
        half_open: 5000,
        ..Limits::default()
    };
    let mut pair = Pair::with(Link::PERFECT, 8 << 20, limits);
    for _ in 0..1000 {
        let _ = pair.dial(SocketAddr::new(ip(1, 4), PORT));
        pair.run(Duration::from_micros(300));
    }
    pair.run(Duration::from_secs(1));
    for end in &pair.ends {
        assert!(
            end.memory.used() <= end.memory.limit() / 4 * 3,
            "one peer leaves a quarter to the others"
        );
        assert!(end.peer.connections() > 200);
    }
}

#[test]
fn a_full_budget_refuses_and_counts() {
    let mut pair = Pair::with(Link::PERFECT, 64 << 10, Limits::default());
    let mut dialed = 0;
    while pair.dial(SocketAddr::new(ip(1, 4), PORT)).is_ok() {
        dialed += 1;
    }
    assert!(dialed > 0);
    assert_eq!(pair.dial(SocketAddr::new(ip(1, 4), PORT)), Err(ConnectError::Memory));
    pair.run(Duration::from_millis(100));
    for port in 1..100 {
        pair.inject(0, &syn(port, PORT));
    }
    pair.run(Duration::from_millis(100));
    assert!(pair.ends[1].peer.counters().tcp.memory_refused > 0);
}

#[test]
fn segments_of_no_connection_are_reset_without_a_stack() {
    let mut pair = Pair::new(Link::PERFECT);
    let (dialed, accepted) = pair.connect(4);
    pair.ends[0].peer.release(dialed);
    pair.ends[1].peer.release(accepted);
    pair.run(Duration::from_secs(20));
    for port in 1..=2000 {
        pair.inject(0, &syn(port, 9));
    }
    pair.turn();
    let counters = pair.ends[1].peer.counters();
    assert_eq!(counters.tcp.unlistened, 2000);
    assert!(counters.dropped.queue_full > 0, "answers are bounded by a queue");
    assert_eq!(pair.ends[1].memory.used(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn inner_garbage_never_panics(
        packets in proptest::collection::vec(
            (any::<[bool; 4]>(), proptest::collection::vec(any::<u8>(), 0..80)), 0..50
        )
    ) {
        let mut pair = Pair::new(Link::PERFECT);
        pair.connect(4);
        for ([valid_ip, tcp, known, listening], mut body) in packets {
            if known && body.len() > 4 {
                body[2..4].copy_from_slice(&if listening { PORT } else { 9 }.to_be_bytes());
            }
            let (std::net::IpAddr::V4(src), std::net::IpAddr::V4(dst)) = (ip(0, 4), ip(1, 4)) else {
                unreachable!();
            };
            let proto = if tcp { IpProto::TCP } else { IpProto(body.first().copied().unwrap_or(1)) };
            let packet = if valid_ip { build::ip(&Addresses::V4(src, dst), proto, &body) } else { body };
            pair.inject(0, &packet);
        }
        pair.run(Duration::from_secs(5));
    }

    #[test]
    fn damaged_segments_of_a_live_connection_never_panic(
        flips in proptest::collection::vec((20..60usize, any::<u8>()), 1..40)
    ) {
        let mut pair = Pair::new(Link::PERFECT);
        let (dialed, accepted) = pair.connect(4);
        let _ = pair.write(0, dialed, &[1; 5000]);
        let _ = pair.write(1, accepted, &[2; 5000]);
        let segment = pair.plain_segment(0);
        for (at, value) in flips {
            let mut damaged = segment.clone();
            // Ports stay, so that the connection is found.
            let at = if at < 24 { at + 4 } else { at };
            if let Some(byte) = damaged.get_mut(at) {
                *byte = value;
            }
            pair.inject(0, &damaged);
        }
        pair.run(Duration::from_secs(2));
    }
}
