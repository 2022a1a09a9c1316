use proptest::prelude::*;

use super::*;

const A: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 64, 0, 1));
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 64, 0, 2));
const A6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 1));
const B6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 2));

fn pair(src: IpAddr, dst: IpAddr) -> Addresses {
    Addresses::new(src, dst).unwrap()
}

fn tcp(src: IpAddr, dst: IpAddr, flags: u8) -> Vec<u8> {
    let mut body = vec![
        0x30, 0x39, 0x01, 0xbb, 0, 0, 0, 7, 0, 0, 0, 9, 0x50, flags, 0, 0, 0, 0, 0, 0,
    ];
    body.extend_from_slice(b"abc");
    build::ip(&pair(src, dst), IpProto::TCP, &body)
}

/// Whether the transport checksum of `bytes` is right.
fn transport_is_sound(bytes: &[u8]) -> bool {
    let packet = Packet::parse(bytes).unwrap();
    let body = packet.transport(bytes);
    let sum = match packet.proto {
        IpProto::ICMPV4 => checksum::Sum::default(),
        proto => checksum::pseudo_header(&pair(packet.src.ip(), packet.dst.ip()), proto, body.len()),
    };
    sum.with(body).finish() == 0
}

#[test]
fn tcp_is_read_on_both_versions() {
    for (src, dst) in [(A, B), (A6, B6)] {
        let bytes = tcp(src, dst, tcp_flags::SYN);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.src, SocketAddr::new(src, 12345));
        assert_eq!(packet.dst, SocketAddr::new(dst, 443));
        assert_eq!((packet.proto, packet.fragment), (IpProto::TCP, Fragment::None));
        assert_eq!(packet.len, bytes.len());
        assert!(packet.is_tcp_syn());
        assert_eq!(&packet.transport(&bytes)[20..], b"abc");
    }
}

#[test]
fn only_a_syn_without_ack_opens_a_connection() {
    let syn = |flags| Packet::parse(&tcp(A, B, flags)).unwrap().is_tcp_syn();
    assert!(syn(tcp_flags::SYN | tcp_flags::FIN));
    assert!(syn(tcp_flags::SYN | tcp_flags::RST));
    assert!(!syn(tcp_flags::SYN | tcp_flags::ACK));
    assert!(!syn(tcp_flags::ACK));
}

#[test]
fn ipv4_header_checksum_matches_the_known_example() {
    // The worked example of the Wikipedia article on the IPv4 header checksum.
    let header: [u8; 20] = [
        0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7,
    ];
    assert_eq!(checksum::Sum::default().with(&header).finish(), 0xb861);
    let built = tcp(A, B, 0);
    assert_eq!(checksum::Sum::default().with(&built[..20]).finish(), 0);
}

#[test]
fn fragments_cannot_hide_a_transport_header() {
    let mut first = tcp(A, B, tcp_flags::SYN);
    first[6] = 0x20;
    assert_eq!(Packet::parse(&first).unwrap().fragment, Fragment::First);

    let mut short = first[..36].to_vec();
    short[3] = 36;
    assert_eq!(Packet::parse(&short), Err(Malformed::Transport));

    let mut later = tcp(A, B, tcp_flags::SYN);
    later[6..8].copy_from_slice(&10u16.to_be_bytes());
    let packet = Packet::parse(&later).unwrap();
    assert_eq!((packet.fragment, packet.dst.port()), (Fragment::Later, 0));
    later[6..8].copy_from_slice(&9u16.to_be_bytes());
    assert_eq!(Packet::parse(&later), Err(Malformed::Transport));

    let mut message = build::tsmp(&pair(A, B), &[0; 9]);
    message[6] = 0x20;
    assert_eq!(Packet::parse(&message), Err(Malformed::Transport));
}

#[test]
fn lengths_and_versions_are_checked() {
    let good = tcp(A, B, 0);
    assert_eq!(Packet::parse(&[]), Err(Malformed::TooShort));
    assert_eq!(Packet::parse(&good[..19]), Err(Malformed::TooShort));
    assert_eq!(Packet::parse(&good[..good.len() - 1]), Err(Malformed::Length));

    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        Packet::parse(&bytes)
    };
    assert_eq!(with(0, 0x75), Err(Malformed::Version));
    assert_eq!(with(0, 0x44), Err(Malformed::HeaderLength));
    assert_eq!(with(0, 0x4f), Err(Malformed::Length));
    assert_eq!(with(3, 19), Err(Malformed::Length));
    assert_eq!(with(3, 39), Err(Malformed::Transport));
    assert_eq!(with(9, 0), Err(Malformed::Protocol));
    assert_eq!(with(9, 255), Err(Malformed::Protocol));
}

#[test]
fn padding_behind_the_packet_is_not_read() {
    let mut padded = build::ip(&pair(A, B), IpProto::UDP, &[]);
    padded.extend_from_slice(&[1; 16]);
    assert_eq!(Packet::parse(&padded), Err(Malformed::Transport));

    let mut padded = tcp(A, B, 0);
    let len = padded.len();
    padded.extend_from_slice(&[1; 16]);
    let packet = Packet::parse(&padded).unwrap();
    assert_eq!((packet.len, packet.transport(&padded).len()), (len, len - 20));
}

#[test]
fn echo_is_answered_with_the_same_data() {
    for (src, dst) in [(A, B), (A6, B6)] {
        let request = build::echo_request(&pair(src, dst), 0x1234, 7, b"are you there");
        let parsed = Packet::parse(&request).unwrap();
        assert!(parsed.is_echo_request() && !parsed.is_echo_reply() && !parsed.is_icmp_error());
        assert!(transport_is_sound(&request));

        let reply = build::echo_reply(&parsed, &request).unwrap();
        let answer = Packet::parse(&reply).unwrap();
        assert!(answer.is_echo_reply() && transport_is_sound(&reply));
        assert_eq!((answer.src, answer.dst), (parsed.dst, parsed.src));
        assert_eq!(&answer.transport(&reply)[4..], &parsed.transport(&request)[4..]);
        assert_eq!(build::echo_reply(&answer, &reply), None);
    }
}

#[test]
fn an_icmp_stub_is_neither_echo_nor_error() {
    let stub = build::ip(&pair(A, B), IpProto::ICMPV4, &[0, 0, 0, 0]);
    let packet = Packet::parse(&stub).unwrap();
    assert!(!packet.is_echo_reply() && !packet.is_icmp_error());
    let other_version = build::ip(&pair(A6, B6), IpProto::ICMPV4, &[8, 0, 0, 0, 0, 0, 0, 0]);
    assert!(Packet::parse(&other_version).unwrap().is_echo_request());
}

#[test]
fn resets_answer_segments_as_rfc_9293_says() {
    for (src, dst) in [(A, B), (A6, B6)] {
        let numbers = |bytes: &[u8]| {
            let packet = Packet::parse(bytes).unwrap();
            let body = packet.transport(bytes);
            let word = |at: usize| u32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]]);
            (packet.tcp_flags, word(4), word(8), packet.src.port(), packet.dst.port())
        };
        let reset = |flags| {
            let bytes = tcp(src, dst, flags);
            build::tcp_reset_for(&Packet::parse(&bytes).unwrap(), &bytes)
        };

        let for_syn = reset(tcp_flags::SYN).unwrap();
        assert!(transport_is_sound(&for_syn));
        let rst_ack = tcp_flags::RST | tcp_flags::ACK;
        assert_eq!(numbers(&for_syn), (rst_ack, 0, 7 + 1 + 3, 443, 12345));
        assert_eq!(
            numbers(&reset(tcp_flags::ACK).unwrap()),
            (tcp_flags::RST, 9, 0, 443, 12345)
        );
        assert_eq!(reset(tcp_flags::RST | tcp_flags::ACK), None);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), v6: bool) {
        if let Some(first) = bytes.first_mut() {
            *first = (*first & 0x0f) | if v6 { 0x60 } else { 0x40 };
        }
        if let Ok(packet) = Packet::parse(&bytes) {
            prop_assert!(packet.header_len <= packet.len && packet.len <= bytes.len());
            let _ = build::echo_reply(&packet, &bytes);
            let _ = build::tcp_reset_for(&packet, &bytes);
            let _ = (packet.is_icmp_error(), packet.is_tcp_syn());
        }
    }

    #[test]
    fn any_cut_or_flip_of_a_real_packet_is_survived(cut in 0usize..64, at in 0usize..43, flip: u8, v6: bool) {
        let mut bytes = if v6 { tcp(A6, B6, tcp_flags::SYN) } else { tcp(A, B, tcp_flags::SYN) };
        bytes[at] ^= flip;
        bytes.truncate(bytes.len().saturating_sub(cut));
        if let Ok(packet) = Packet::parse(&bytes) {
            let _ = build::echo_reply(&packet, &bytes);
            let _ = build::tcp_reset_for(&packet, &bytes);
        }
    }

    #[test]
    fn what_is_built_can_be_read(body in proptest::collection::vec(any::<u8>(), 20..80), proto in 1u8..255, v6: bool) {
        let addresses = if v6 { pair(A6, B6) } else { pair(A, B) };
        let bytes = build::ip(&addresses, IpProto(proto), &body);
        let packet = Packet::parse(&bytes).unwrap();
        prop_assert_eq!(packet.proto, IpProto(proto));
        prop_assert_eq!(packet.transport(&bytes), &body[..]);
    }
}
