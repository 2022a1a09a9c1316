use std::net::Ipv4Addr;

use proptest::prelude::*;
use tailnet_wire::{
    key::NodePrivate,
    packet::{Addresses, IpProto, build},
};

use super::*;

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

struct End {
    key: NodePrivate,
    limiter: HandshakeLimiter,
    tunnel: Tunnel,
}

fn pair(now: Instant) -> (End, End) {
    let keys = [NodePrivate::from_random([1; 32]), NodePrivate::from_random([2; 32])];
    let end = |our: &NodePrivate, peer: &NodePrivate, index| {
        let limiter = HandshakeLimiter::new(our, 100);
        let tunnel = Tunnel::new(our, &peer.public(), index, &limiter, now);
        End {
            key: our.clone(),
            limiter,
            tunnel,
        }
    };
    (end(&keys[0], &keys[1], 0x11_2233), end(&keys[1], &keys[0], 0x44_5566))
}

fn packet() -> Vec<u8> {
    let addresses = Addresses::V4(Ipv4Addr::new(100, 64, 0, 1), Ipv4Addr::new(100, 64, 0, 2));
    build::ip(&addresses, IpProto::UDP, &[7; 1200])
}

/// Initiation, response, keepalive. Returns the initiation.
fn shake(now: Instant, a: &mut End, b: &mut End) -> Vec<u8> {
    let (mut out, mut back) = ([0; 2048], [0; 2048]);
    let n = a.tunnel.initiate(now, &mut out).unwrap();
    let initiation = out[..n].to_vec();
    let Decapsulated::Handshake(n) = b.tunnel.decapsulate(now, SOURCE, &initiation, &mut back) else {
        panic!("the initiation was not answered");
    };
    let Decapsulated::Handshake(n) = a.tunnel.decapsulate(now, SOURCE, &back[..n], &mut out) else {
        panic!("the response was not accepted");
    };
    assert_eq!(
        b.tunnel.decapsulate(now, SOURCE, &out[..n], &mut back),
        Decapsulated::Keepalive
    );
    initiation
}

#[test]
fn a_handshake_opens_both_directions() {
    let now = Instant::now();
    let (mut a, mut b) = pair(now);
    let (mut out, mut plain) = ([0; 2048], [0; 2048]);
    assert!(!a.tunnel.has_session());
    assert_eq!(a.tunnel.encapsulate(now, &packet(), &mut out), None);
    shake(now, &mut a, &mut b);
    assert!(a.tunnel.has_session() && b.tunnel.has_session());
    let n = a.tunnel.encapsulate(now, &packet(), &mut out).unwrap();
    assert_eq!(n, packet().len() + OVERHEAD);
    let Decapsulated::Packet(len) = b.tunnel.decapsulate(now, SOURCE, &out[..n], &mut plain) else {
        panic!("the packet was refused");
    };
    assert_eq!(plain[..len], packet());
    assert_eq!(
        b.tunnel.decapsulate(now, SOURCE, &out[..n], &mut plain),
        Decapsulated::Refused(Refusal::Replayed)
    );
    let n = b.tunnel.encapsulate(now, &packet(), &mut out).unwrap();
    assert!(matches!(
        a.tunnel.decapsulate(now, SOURCE, &out[..n], &mut plain),
        Decapsulated::Packet(_)
    ));
}

#[test]
fn messages_name_their_peer() {
    let now = Instant::now();
    let (mut a, mut b) = pair(now);
    let initiation = shake(now, &mut a, &mut b);
    assert_eq!(peek(&initiation), Some(Kind::Initiation));
    assert_eq!(b.limiter.initiator_of(&initiation), Some(a.key.public()));
    assert_eq!(a.limiter.initiator_of(&initiation), None, "it was not made for a");
    let mut out = [0; 2048];
    let n = a.tunnel.encapsulate(now, &packet(), &mut out).unwrap();
    assert_eq!(peek(&out[..n]).and_then(Kind::peer_index), Some(0x44_5566));
}

#[test]
fn above_the_limit_a_cookie_is_asked_for_and_accepted() {
    let now = Instant::now();
    let (mut a, b) = pair(now);
    let (mut out, mut cookie) = ([0; 2048], [0; COOKIE_REPLY_LEN]);
    let n = a.tunnel.initiate(now, &mut out).unwrap();
    for _ in 0..200 {
        assert_eq!(b.limiter.verify(SOURCE, &out[..n], &mut cookie), Verdict::Proceed);
    }
    assert_eq!(
        b.limiter.verify(SOURCE, &out[..n], &mut cookie),
        Verdict::Challenge(COOKIE_REPLY_LEN)
    );
    let mut scratch = [0; 2048];
    assert_eq!(
        a.tunnel.decapsulate(now, SOURCE, &cookie, &mut scratch),
        Decapsulated::Cookie
    );
    let later = now + FORCE_INTERVAL;
    let n = a.tunnel.force_handshake(later, &mut out).unwrap();
    assert_eq!(b.limiter.verify(SOURCE, &out[..n], &mut cookie), Verdict::Proceed);
    let elsewhere = relay_address(7, &a.key.public());
    assert!(matches!(
        b.limiter.verify(elsewhere, &out[..n], &mut cookie),
        Verdict::Challenge(_)
    ));
    let admitted = (0..100)
        .filter(|_| b.limiter.verify(SOURCE, &out[..n], &mut cookie) == Verdict::Proceed)
        .count();
    assert!(
        admitted < 20,
        "a cookie is no ticket for any number of handshakes: {admitted}"
    );
    assert_eq!(b.limiter.verify(SOURCE, &out[..n], &mut cookie), Verdict::Throttled);
    out[50] ^= 1;
    assert_eq!(b.limiter.verify(SOURCE, &out[..n], &mut cookie), Verdict::Refused);
}

#[test]
fn an_unknown_session_can_be_replaced_once_per_second() {
    let now = Instant::now();
    let (mut a, mut b) = pair(now);
    shake(now, &mut a, &mut b);
    let (mut out, mut plain) = ([0; 2048], [0; 2048]);
    // b restarts with the same key: a's packets arrive under a session that b no longer has.
    b.tunnel = Tunnel::new(&b.key, &a.key.public(), 0x44_5566, &b.limiter, now);
    let n = a.tunnel.encapsulate(now, &packet(), &mut out).unwrap();
    assert_eq!(
        b.tunnel.decapsulate(now, SOURCE, &out[..n], &mut plain),
        Decapsulated::Refused(Refusal::UnknownSession)
    );
    let n = b.tunnel.force_handshake(now, &mut plain).unwrap();
    assert_eq!(b.tunnel.force_handshake(now, &mut out), None);
    let Decapsulated::Handshake(n) = a.tunnel.decapsulate(now, SOURCE, &plain[..n], &mut out) else {
        panic!("a must accept the new handshake");
    };
    assert!(matches!(
        b.tunnel.decapsulate(now, SOURCE, &out[..n], &mut plain),
        Decapsulated::Handshake(_)
    ));
    assert!(b.tunnel.has_session());
}

#[test]
fn no_buffer_size_panics() {
    let now = Instant::now();
    let (mut a, mut b) = pair(now);
    shake(now, &mut a, &mut b);
    let mut sealed = vec![0; 70_000];
    for len in [0, 1, 100, 147, 148, 1231, 1232] {
        let _ = a.tunnel.encapsulate(now, &packet(), &mut sealed[..len]);
        let _ = a.tunnel.initiate(now, &mut sealed[..len]);
        let _ = a.tunnel.handle_timeout(now, &mut sealed[..len]);
    }
    let n = a.tunnel.encapsulate(now, &vec![0x45; 65_000], &mut sealed).unwrap();
    let mut out = [0; 1536];
    assert_eq!(
        b.tunnel.decapsulate(now, SOURCE, &sealed[..n], &mut out),
        Decapsulated::Refused(Refusal::Oversized)
    );
}

#[test]
fn a_counter_at_the_end_of_its_range_is_refused() {
    let now = Instant::now();
    let (mut a, mut b) = pair(now);
    shake(now, &mut a, &mut b);
    let (mut out, mut plain) = ([0; 2048], [0; 2048]);
    let n = a.tunnel.encapsulate(now, &packet(), &mut out).unwrap();
    out[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(
        b.tunnel.decapsulate(now, SOURCE, &out[..n], &mut plain),
        Decapsulated::Refused(Refusal::Replayed)
    );
}

#[test]
fn a_tunnel_at_rest_asks_for_no_timer() {
    let now = Instant::now();
    let (mut a, mut b) = pair(now);
    assert_eq!(a.tunnel.poll_timeout(), None);
    let mut out = [0; 2048];
    a.tunnel.initiate(now, &mut out).unwrap();
    assert_eq!(a.tunnel.poll_timeout(), Some(now + REKEY_TIMEOUT));
    a = pair(now).0;
    shake(now, &mut a, &mut b);
    assert_eq!(a.tunnel.poll_timeout(), Some(now + ACTIVE_TICK));
    let quiet = now + QUIET;
    a.tunnel.handle_timeout(quiet, &mut out);
    assert_eq!(a.tunnel.poll_timeout(), Some(now + REJECT_AFTER_TIME + ACTIVE_TICK));
    a.tunnel.handle_timeout(now + REJECT_AFTER_TIME + ACTIVE_TICK, &mut out);
    a.tunnel
        .handle_timeout(now + REJECT_AFTER_TIME * 3 + ACTIVE_TICK, &mut out);
    assert_eq!(a.tunnel.poll_timeout(), None);
}

proptest! {
    #[test]
    fn garbage_is_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..6u8) {
        let now = Instant::now();
        let (mut a, mut b) = pair(now);
        shake(now, &mut a, &mut b);
        let mut bytes = bytes;
        if let Some(head) = bytes.first_chunk_mut::<4>() {
            *head = [kind, 0, 0, 0];
        }
        let mut out = [0; 2048];
        let accepted = matches!(b.tunnel.decapsulate(now, SOURCE, &bytes, &mut out), Decapsulated::Packet(_));
        prop_assert!(!accepted);
    }

    #[test]
    fn flipped_bits_are_refused(at in 0..1232usize, bit in 0..8u8) {
        let now = Instant::now();
        let (mut a, mut b) = pair(now);
        shake(now, &mut a, &mut b);
        let (mut out, mut plain) = ([0; 2048], [0; 2048]);
        let n = a.tunnel.encapsulate(now, &packet(), &mut out).unwrap();
        out[at % n] ^= 1 << bit;
        let outcome = b.tunnel.decapsulate(now, SOURCE, &out[..n], &mut plain);
        prop_assert!(matches!(outcome, Decapsulated::Refused(_)));
    }
}
