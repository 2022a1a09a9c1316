//! UDP, pings, disco keys, restarts, and a peer at rest.

use std::net::SocketAddr;

use tailnet_wire::{key::DiscoPublic, packet::Addresses, tsmp::Message};

use super::pair::*;
use crate::peer::*;

fn udp(end: usize, port: u16) -> SocketAddr {
    SocketAddr::new(ip(end, 4), port)
}

#[test]
fn datagrams_reach_a_bound_port_and_answers_come_back() {
    let mut pair = Pair::new(Link::PERFECT);
    pair.ends[0]
        .peer
        .send_datagram(udp(0, 5353), udp(1, 53), b"question")
        .unwrap();
    pair.run(Duration::from_secs(1));
    let datagram = pair.ends[1].datagrams.pop().unwrap();
    assert_eq!((datagram.local, datagram.remote), (udp(1, 53), udp(0, 5353)));
    assert_eq!(datagram.payload, b"question");

    // End 0 allows nothing in, but this is an answer, and port 53 is bound.
    let now = pair.now;
    pair.ends[0].peer.handle_view(now, Some(view(0, &[])));
    pair.ends[0]
        .peer
        .send_datagram(udp(0, 53), udp(1, 53), b"question")
        .unwrap();
    pair.run(Duration::from_secs(1));
    pair.ends[1]
        .peer
        .send_datagram(udp(1, 53), udp(0, 53), b"answer")
        .unwrap();
    pair.ends[1]
        .peer
        .send_datagram(udp(1, 54), udp(0, 53), b"unasked")
        .unwrap();
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.ends[0].datagrams.len(), 1);
    assert_eq!(pair.ends[0].datagrams[0].payload, b"answer");
    assert_eq!(pair.ends[0].peer.counters().dropped.policy, 1);
}

#[test]
fn an_unbound_port_is_silent() {
    let mut pair = Pair::new(Link::PERFECT);
    pair.ends[0]
        .peer
        .send_datagram(udp(0, 5353), udp(1, 9), b"anyone?")
        .unwrap();
    pair.run(Duration::from_secs(1));
    assert!(pair.ends[1].datagrams.is_empty());
    assert_eq!(pair.ends[1].peer.counters().dropped.unbound, 1);
}

#[test]
fn datagrams_that_cannot_go_are_refused() {
    let mut pair = Pair::new(Link::PERFECT);
    let peer = &mut pair.ends[0].peer;
    assert_eq!(
        peer.send_datagram(udp(0, 1), udp(1, 2), &[0; 1253]),
        Err(SendError::TooLong(1252))
    );
    assert!(peer.send_datagram(udp(0, 1), udp(1, 2), &[0; 1252]).is_ok());
    let foreign = SocketAddr::from(([10, 0, 0, 1], 2));
    assert!(matches!(
        peer.send_datagram(udp(0, 1), foreign, b"x"),
        Err(SendError::Address(..))
    ));
}

#[test]
fn both_pings_are_answered() {
    let mut pair = Pair::new(Link::PERFECT);
    for version in [4, 6] {
        for kind in [PingKind::Icmp, PingKind::Tsmp] {
            let (local, remote) = (ip(0, version), ip(1, version));
            let id = pair.ends[0]
                .peer
                .ping(pair.now, &mut pair.rng, kind, local, remote)
                .unwrap();
            let is_pong = |event: &PeerEvent| matches!(event, PeerEvent::Pong { id: pong, .. } if *pong == id);
            pair.until(|pair| pair.ends[0].events.iter().any(is_pong));
        }
    }
}

#[test]
fn a_disco_key_is_reported_and_counts_until_the_netmap_has_another() {
    let mut pair = Pair::new(Link::PERFECT);
    pair.connect(4);
    let key = DiscoPublic::from_bytes([9; 32]);
    let addresses = Addresses::new(ip(0, 4), ip(1, 4)).unwrap();
    pair.inject(
        0,
        &tailnet_wire::packet::build::tsmp(&addresses, &Message::DiscoKey(key).encode()),
    );
    pair.run(Duration::from_millis(10));
    let end = &mut pair.ends[1];
    assert!(end.events.contains(&PeerEvent::DiscoKey(key)));
    assert_eq!(end.peer.path().disco(), Some(key));
    // What the netmap said before is no news; the next restart is.
    let same = view(1, &allow_all());
    end.peer.handle_view(pair.now, Some(same.clone()));
    assert_eq!(end.peer.path().disco(), Some(key));
    let mut later = same;
    later.path.disco = Some(DiscoPublic::from_bytes([10; 32]));
    end.peer.handle_view(pair.now, Some(later.clone()));
    assert_eq!(end.peer.path().disco(), later.path.disco);
}

#[test]
fn after_a_restart_the_first_packet_brings_a_new_session() {
    let mut pair = Pair::new(Link::PERFECT);
    let (dialed, _) = pair.connect(4);
    pair.restart(1);
    let before = pair.now;
    assert_eq!(pair.write(0, dialed, b"are you there?"), std::task::Poll::Ready(Ok(14)));
    // The restarted end knows neither session nor connection: a new session comes at once, then a reset.
    pair.until(|pair| pair.read(0, dialed, &mut [0; 8]) == std::task::Poll::Ready(Err(ConnError::Reset)));
    assert!(pair.now - before < Duration::from_secs(2));
    pair.connect(4);
}

#[test]
fn a_peer_that_pings_in_vain_gets_a_handshake_from_us() {
    let mut pair = Pair::new(Link::PERFECT);
    let ping = tailnet_wire::disco::Message::Ping {
        tx_id: tailnet_wire::disco::TxId([9; 12]),
        node_key: None,
        padding: 0,
    };
    let before = pair.now;
    pair.ends[1].peer.handle_disco(before, crate::path::Hop::Derp(7), &ping);
    pair.until(|pair| pair.ends[0].peer.counters().handshakes == 1);
    assert!(pair.now - before < Duration::from_millis(200));
    // With a session, pings are just pings.
    pair.run(Duration::from_secs(1));
    let now = pair.now;
    pair.ends[1].peer.handle_disco(now, crate::path::Hop::Derp(7), &ping);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.ends[0].peer.counters().handshakes, 1);
}

#[test]
fn an_idle_peer_is_small_and_sets_no_timer() {
    let mut pair = Pair::new(Link::PERFECT);
    let (dialed, accepted) = pair.connect(4);
    pair.ends[0].peer.release(dialed);
    pair.ends[1].peer.release(accepted);
    pair.run(Duration::from_secs(20));
    for end in &pair.ends {
        assert_eq!(end.peer.connections(), 0);
        assert!(end.peer.has_no_netstack());
    }
    // Keys are wiped after nine minutes at the latest, then nothing is due.
    pair.run(Duration::from_secs(600));
    assert!(pair.ends.iter().all(|end| end.peer.poll_timeout().is_none()));
    assert!(size_of::<Peer>() < 4096);
}

#[test]
fn our_disco_key_is_announced_once_and_only_when_there_is_a_session() {
    let mut pair = Pair::new(Link::PERFECT);
    let key = DiscoPublic::from_bytes([8; 32]);
    pair.ends[1].peer.announce_disco(key);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.ends[1].peer.counters().handshakes, 0, "it starts no session");
    let announced = |pair: &Pair| {
        let events = pair.ends[0].events.iter();
        events.filter(|event| **event == PeerEvent::DiscoKey(key)).count()
    };
    for _ in 0..2 {
        pair.ends[0]
            .peer
            .send_datagram(udp(0, 5353), udp(1, 53), b"question")
            .unwrap();
        pair.run(Duration::from_secs(1));
        assert_eq!(announced(&pair), 1);
    }
}
