//! Who may do what, and what happens when that changes.

use std::task::Poll;

use tailnet_wire::control::FilterRule;

use super::pair::*;
use crate::peer::*;

fn only_port(port: u16) -> Vec<FilterRule> {
    let json = format!(r#"[{{"SrcIPs":["*"],"DstPorts":[{{"IP":"*","Ports":{{"First":{port},"Last":{port}}}}}]}}]"#);
    serde_json::from_str(&json).unwrap()
}

#[test]
fn withdrawn_access_resets_the_connection_and_wakes_its_reader() {
    let mut pair = Pair::new(Link::PERFECT);
    let (dialed, accepted) = pair.connect(4);
    assert_eq!(pair.write(0, dialed, b"hello"), Poll::Ready(Ok(5)));
    pair.until(|pair| pair.read(1, accepted, &mut [0; 8]) == Poll::Ready(Ok(5)));
    let (waker, woken) = counting_waker();
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(pair.ends[1].peer.poll_read(accepted, &mut cx, &mut [0; 8]).is_pending());

    let before = pair.now;
    pair.ends[1].peer.handle_view(before, Some(view(1, &only_port(80))));
    assert_eq!(woken.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert_eq!(
        pair.read(1, accepted, &mut [0; 8]),
        Poll::Ready(Err(ConnError::Withdrawn))
    );
    assert!(pair.ends[1].peer.wants_transmit());
    pair.until(|pair| pair.read(0, dialed, &mut [0; 8]) == Poll::Ready(Err(ConnError::Reset)));
    assert!(pair.now - before < Duration::from_millis(100));
    assert!(pair.ends[1].events.contains(&PeerEvent::Withdrawn { conn: accepted }));
    assert_eq!(pair.ends[1].peer.counters().tcp.withdrawn, 1);
}

#[test]
fn access_that_stays_is_left_alone() {
    let mut pair = Pair::new(Link::PERFECT);
    let (dialed, accepted) = pair.connect(4);
    let now = pair.now;
    pair.ends[1].peer.handle_view(now, Some(view(1, &only_port(PORT))));
    // What we dialed ourselves needs no rule of ours.
    pair.ends[0].peer.handle_view(now, Some(view(0, &[])));
    assert_eq!(pair.transfer(0, dialed, accepted, b"still there"), b"still there");
    assert_eq!(pair.transfer(1, accepted, dialed, b"both ways"), b"both ways");
}

#[test]
fn a_removed_peer_gets_its_resets_and_nothing_else() {
    let mut pair = Pair::new(Link::PERFECT);
    let (dialed, accepted) = pair.connect(6);
    let now = pair.now;
    pair.ends[1].peer.handle_view(now, None);
    assert!(!pair.ends[1].peer.is_finished());
    pair.turn();
    assert!(pair.ends[1].peer.is_finished());
    pair.until(|pair| pair.read(0, dialed, &mut [0; 8]) == Poll::Ready(Err(ConnError::Reset)));
    assert_eq!(
        pair.read(1, accepted, &mut [0; 8]),
        Poll::Ready(Err(ConnError::Withdrawn))
    );
    let _ = pair.dial(SocketAddr::new(ip(1, 4), PORT));
    pair.run(Duration::from_secs(5));
    assert!(pair.ends[1].peer.counters().dropped.withdrawn > 0);
    assert!(pair.accepted(1).is_none());
}

#[test]
fn a_stopping_node_resets_all() {
    let mut pair = Pair::new(Link::PERFECT);
    let (dialed, _) = pair.connect(4);
    pair.ends[1].peer.close_all();
    pair.until(|pair| pair.read(0, dialed, &mut [0; 8]) == Poll::Ready(Err(ConnError::Reset)));
    assert!(pair.ends[1].peer.is_finished());
}

#[test]
fn a_denied_syn_is_explained_and_the_dial_fails_at_once() {
    let mut pair = Pair::new(Link::PERFECT);
    let now = pair.now;
    pair.ends[1].peer.handle_view(now, Some(view(1, &only_port(80))));
    let conn = pair.dial(SocketAddr::new(ip(1, 4), PORT)).unwrap();
    pair.until(|pair| pair.poll_connected(0, conn).is_ready());
    assert_eq!(pair.poll_connected(0, conn), Poll::Ready(Err(ConnError::Refused)));
    assert!(pair.now - now < Duration::from_secs(1));
    assert_eq!(pair.ends[1].peer.counters().dropped.policy, 1);
}

#[test]
fn a_jailed_peer_opens_nothing_but_is_answered() {
    let mut pair = Pair::new(Link::PERFECT);
    let now = pair.now;
    // End 0 regards end 1 as jailed: end 1 may answer what end 0 opens.
    pair.ends[0].peer.handle_view(now, Some(view(0, &[])));
    let (dialed, accepted) = pair.connect(4);
    assert_eq!(pair.transfer(1, accepted, dialed, b"answer"), b"answer");
    // End 1 jails end 0.
    let now = pair.now;
    pair.ends[1].peer.handle_view(now, Some(view(1, &[])));
    let conn = pair.dial(SocketAddr::new(ip(1, 4), PORT)).unwrap();
    pair.until(|pair| pair.poll_connected(0, conn).is_ready());
    assert!(pair.accepted(1).is_none());
}

#[test]
fn only_the_peers_own_addresses_are_believed() {
    let mut pair = Pair::new(Link::PERFECT);
    pair.connect(4);
    let now = pair.now;
    let mut narrow = view(1, &allow_all());
    narrow.remote = vec![ip(0, 6)];
    pair.ends[1].peer.handle_view(now, Some(narrow));
    let _ = pair.dial(SocketAddr::new(ip(1, 4), PORT)).unwrap();
    pair.run(Duration::from_secs(2));
    assert!(pair.ends[1].peer.counters().dropped.foreign_source > 0);
    assert!(pair.accepted(1).is_none());

    let mut moved = view(1, &allow_all());
    moved.local = vec![ip(1, 6)];
    pair.ends[1].peer.handle_view(now, Some(moved));
    pair.run(Duration::from_secs(10));
    assert!(pair.ends[1].peer.counters().dropped.foreign_destination > 0);
}
